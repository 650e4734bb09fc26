"""cocotb bench of :class:`jepa_r.control.state_in.StateIn`.

Parameters: ``packets`` (lists of words, the last with ``tlast``), ``seed`` and ``pauses``
(probabilities, of which each packet gets one, that no word is offered). Reports, from reset on:
``ends`` (cycle in which each packet's last word was taken), ``events`` (cycle, ``updated`` or
``dropped``, whether there is a gap) and ``changes`` (cycle, and what ``sequence``, ``pose``,
``timestamp`` and ``known`` are from it on).
"""

import random

import cocotb
from cocotb.triggers import FallingEdge, ReadOnly

from jepa_r_sim.cosim import parameters, report
from jepa_r_sim.drivers.cocotb_stream import start

#: Cycles after the last word.
AFTER = 20

#: Most cycles that a word may wait: the check of the packet before.
PATIENCE = 3


@cocotb.test()
async def packets(dut):
    """Send everything; the caller judges."""
    given = parameters()
    rng = random.Random(given["seed"])
    dut.i__tvalid.value = 0
    await start(dut)
    todo = [
        (word, n == len(packet) - 1, pause)
        for packet in given["packets"]
        for pause in [rng.choice(given["pauses"])]
        for n, word in enumerate(packet)
    ]
    ends, events, changes, waited, offered = [], [], [], 0, False
    cycle = rest = 0
    while rest < AFTER:
        rest = 0 if todo else rest + 1
        offered = bool(todo) and (offered or rng.random() >= todo[0][2])
        word, last, _pause = todo[0] if offered else (rng.getrandbits(32), rng.getrandbits(1), 0)
        dut.i__tvalid.value = offered
        dut.i__tdata.value = word
        dut.i__tlast.value = last
        await ReadOnly()
        ready = bool(dut.i__tready.value)
        waited = 0 if ready else waited + 1
        assert waited <= PATIENCE, f"cycle {cycle}: not ready for too long"
        for name in ("updated", "dropped"):
            if getattr(dut, name).value:
                events.append([cycle, name, bool(dut.gap.value)])
        assert not dut.gap.value or dut.updated.value, f"cycle {cycle}: gap without a packet"
        shown = [int(port.value) for port in (dut.sequence, dut.pose, dut.timestamp, dut.known)]
        if not changes or changes[-1][1:] != shown:
            changes.append([cycle, *shown])
        if offered and ready:
            if last:
                ends.append(cycle)
            todo.pop(0)
            offered = False
        await FallingEdge(dut.clk)
        cycle += 1
    report(ends=ends, events=events, changes=changes)
