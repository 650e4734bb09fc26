"""cocotb bench of :class:`jepa_r.memory.sram.Sram`.

Parameters: ``width``, ``depth``, ``segments``, ``ecc`` of the memory, and ``seed``.
"""

import random
from collections import deque

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

from jepa_r.memory.sram import Sram
from jepa_r_sim.cosim import parameters, report

CYCLES = 4000

#: What a read returns that starts together with a write of its row.
ANYTHING = object()


@cocotb.test()
async def random_accesses(dut):
    """Both ports at random, also on one row; injected errors are corrected or told."""
    given = parameters()
    width, depth, segments, ecc = (given[name] for name in ("width", "depth", "segments", "ecc"))
    rng = random.Random(given["seed"])
    part = width // segments
    rows = [None] * depth
    spoilt = [[0] * segments for _ in range(depth)]

    dut.rst.value = 1
    for port in (dut.r_en, dut.r_addr, dut.w_en, dut.w_addr, dut.w_data, dut.inject):
        port.value = 0
    Clock(dut.clk, 10, unit="ns").start()
    for _ in range(2):
        await FallingEdge(dut.clk)
    dut.rst.value = 0
    memory = Sram(width=width, depth=depth, segments=segments, ecc=ecc)
    for _ in range(memory.clear_cycles):
        await FallingEdge(dut.clk)

    coming = deque([None] * Sram.READ_LATENCY)
    told = {"corrected": 0, "uncorrectable": 0, "scrubbed": 0}
    for cycle in range(CYCLES):
        # Without code, rows have no contents until they are written.
        filling = cycle < depth
        busy = filling or rng.random() < 0.7
        row = cycle if filling else rng.randrange(depth)
        reading = not filling and busy and rng.random() < 0.7
        target = rng.choice([row, rng.randrange(depth)])
        enables = (1 << segments) - 1 if filling else rng.getrandbits(segments) * busy
        word = rng.getrandbits(width)
        inject = rng.choice([0, 0, 0, 1, 2, 3]) if ecc and not filling else 0
        dut.r_en.value = reading
        dut.r_addr.value = target
        dut.w_en.value = enables
        dut.w_addr.value = row
        dut.w_data.value = word
        dut.inject.value = inject
        if reading and enables and target == row:
            coming.append(ANYTHING)
        else:
            coming.append((rows[target], list(spoilt[target])) if reading else None)
        for n in range(segments):
            if enables >> n & 1:
                mask = (1 << part) - 1 << part * n
                rows[row] = (rows[row] or 0) & ~mask | word & mask
                spoilt[row][n] = inject.bit_count()
        await FallingEdge(dut.clk)
        coming.popleft()
        for name in told:
            told[name] += bool(getattr(dut, name).value)
        if coming[0] is ANYTHING:
            continue
        if coming[0] is None:
            assert not dut.corrected.value
            assert not dut.uncorrectable.value
            continue
        expected, errors = coming[0]
        data = int(dut.r_data.value)
        assert bool(dut.uncorrectable.value) == (2 in errors), f"cycle {cycle}: {errors}"
        # Scrubbing may have been faster than the read.
        assert 1 in errors or not dut.corrected.value, f"cycle {cycle}: {errors}"
        for n in range(segments):
            if errors[n] < 2:
                assert data >> part * n & (1 << part) - 1 == expected >> part * n & (1 << part) - 1
    report(**told)
