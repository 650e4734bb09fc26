"""cocotb bench of :class:`jepa_r.latent.store.LatentStore`.

Parameters: ``words`` and ``row_bytes`` of the store, ``ecc`` and ``seed``.
"""

import random
from collections import deque

import cocotb
from cocotb.triggers import FallingEdge

from jepa_r.latent.store import SLOTS, LatentStore
from jepa_r_sim.cosim import parameters, report
from jepa_r_sim.drivers.cocotb_stream import start

CYCLES = 2000


@cocotb.test()
async def random_accesses(dut):
    """Words stay where they were written, and nothing is written outside the slot being made."""
    given = parameters()
    words, bits = given["words"], 8 * given["row_bytes"]
    rng = random.Random(given["seed"])
    for port in (dut.slot, dut.w_en, dut.w_addr, dut.w_data, dut.r_en, dut.r_addr, dut.inject):
        port.value = 0
    await start(dut)
    await FallingEdge(dut.clk)
    waited = 0
    while not dut.ready.value:
        await FallingEdge(dut.clk)
        waited += 1
    assert (waited > 0) == given["ecc"]

    rows = [None] * (SLOTS * words)
    coming = deque([None] * LatentStore.READ_LATENCY)
    refused = False
    compared = 0
    for cycle in range(CYCLES):
        slot, target = rng.randrange(SLOTS), rng.randrange(SLOTS * words)
        writing, reading = rng.random() < 0.6, rng.random() < 0.6
        address, word = slot * words + rng.randrange(words), rng.getrandbits(bits)
        if cycle > CYCLES // 2 and rng.random() < 0.1:
            # Anywhere: in the next slot, behind all of them.
            address = rng.choice([rng.randrange(SLOTS * words), rng.randrange(1 << 20)])
        inside = slot * words <= address < (slot + 1) * words
        # What a read returns of a word that is written in its cycle is not defined.
        reading &= not (writing and inside and address == target)
        dut.slot.value = slot
        dut.w_en.value = writing
        dut.w_addr.value = address
        dut.w_data.value = word
        dut.inject.value = rng.choice([0, 0, 1, 2]) if given["ecc"] else 0
        dut.r_en.value = reading
        dut.r_addr.value = target
        coming.append(rows[target] if reading else None)
        if writing and inside:
            rows[address] = word
        await FallingEdge(dut.clk)
        refused |= writing and not inside
        assert bool(dut.outside.value) == refused, f"cycle {cycle}"
        coming.popleft()
        if coming[0] is not None:
            compared += 1
            assert int(dut.r_data.value) == coming[0], f"cycle {cycle}"
    assert not dut.broken.value
    report(compared=compared, refused=refused, corrected=int(dut.corrected.value))
