"""cocotb bench of :class:`jepa_r.control.action_out.ActionOut`.

Parameters: ``periods`` (pairs of a cycle and the period from it on; the first from cycle 0),
``seed``, ``cycles``, and ``readiness``: pairs of a cycle and the probability from it on that a word
is taken. Everything that a packet says changes in every cycle. Reports ``inputs`` (by cycle),
``packets`` (words, cycles in which they were taken), ``offers`` (cycle in which each packet's first
word was offered), ``overruns`` and ``clamped`` (cycles).
"""

import random

import cocotb
from cocotb.triggers import FallingEdge, ReadOnly

from jepa_r_sim.cosim import parameters, report
from jepa_r_sim.drivers.cocotb_stream import start

#: Widths of what a packet tells.
INPUTS = {"time": 64, "age": 32, "plan": 16, "planned": 1, "stale": 1, "action": 112}


def at(table, cycle):
    """Last value of a table of cycles and values that holds in a cycle."""
    return [value for begin, value in table if begin <= cycle][-1]


@cocotb.test()
async def packets(dut):
    """Receive everything; the caller judges."""
    given = parameters()
    rng = random.Random(given["seed"])
    inputs, offers, overruns, clamped = [], [], [], []
    packets, words, waiting = [], [], None
    dut.period.value = at(given["periods"], 0)
    dut.o__tready.value = 0
    await start(dut)
    for cycle in range(given["cycles"]):
        values = {name: rng.getrandbits(width) for name, width in INPUTS.items()}
        inputs.append(values)
        for name, value in values.items():
            getattr(dut, name).value = value
        dut.period.value = at(given["periods"], cycle)
        ready = rng.random() < at(given["readiness"], cycle)
        dut.o__tready.value = ready
        await ReadOnly()
        valid = bool(dut.o__tvalid.value)
        assert valid or waiting is None, f"cycle {cycle}: a word was withdrawn"
        if valid:
            word = (int(dut.o__tdata.value), bool(dut.o__tlast.value))
            assert waiting in (None, word), f"cycle {cycle}: a word changed while it waited"
            if waiting is None and not words:
                offers.append(cycle)
            waiting = None if ready else word
            if ready:
                words.append((word[0], cycle))
                if word[1]:
                    packets.append(words)
                    words = []
        if dut.overrun.value:
            overruns.append(cycle)
        if dut.clamped.value:
            clamped.append(cycle)
        await FallingEdge(dut.clk)
    report(inputs=inputs, packets=packets, offers=offers, overruns=overruns, clamped=clamped)
