"""cocotb bench of :class:`jepa_r.cluster.boot.Boot`: a reader that takes its time.

Parameters: ``runs``, each with the ``header`` that lies in memory (a number), the ``address`` of
the image, ``pause`` (probability that the reader is not ready) and ``transfers``, of which no more
become complete. Reports for each run: ``asked`` (transfers, fields by name), ``events`` (``begin``,
or name of the fault, in order) and ``active`` (at the end).
"""

import random

import cocotb
from cocotb.triggers import FallingEdge, ReadOnly

from jepa_r.cluster.boot import Header
from jepa_r.cluster.isa import Destination, Fault
from jepa_r.dma.reader import ReadDescriptor
from jepa_r_sim.cosim import parameters, report
from jepa_r_sim.drivers.cocotb_stream import start

#: Cycles of a run, and the most from a transfer's request to its end.
CYCLES, LONGEST = 120, 20


async def boot(dut, *, header, address, pause, transfers):
    """Boot once after a reset."""
    rng = random.Random(header)
    layout = ReadDescriptor()
    ports = (dut.start, dut.load, dut.elastic, dut.o__ready, dut.header_en, dut.header,
             dut.completed)  # fmt: skip
    for port in ports:
        port.value = 0
    dut.rst.value = 1
    await FallingEdge(dut.clk)
    dut.rst.value = 0
    asked, events, due, complete = [], [], None, 0
    for cycle in range(CYCLES):
        # The address counts with the start, the header with its enable.
        dut.start.value = cycle == 2
        dut.address.value = address if cycle == 2 else rng.getrandbits(32)
        dut.o__ready.value = rng.random() >= pause
        arrives = due == cycle and complete < transfers
        words_come = due == cycle + 1 and asked[-1]["dest"] == Destination.HEADER.value
        dut.header_en.value = words_come
        dut.header.value = header if words_come else rng.getrandbits(Header.size)
        dut.completed.value = arrives
        complete += arrives
        await ReadOnly()
        assert bool(dut.active.value) == (cycle > 2 and "begin" not in events), f"cycle {cycle}"
        if dut.o__valid.value and dut.o__ready.value:
            word = dut.o__payload.value.to_unsigned()
            asked.append({
                name: word >> slot.offset & (1 << slot.width) - 1 for name, slot in layout
            })
            due = cycle + rng.randint(3, LONGEST)
        if dut.begin.value:
            assert complete == 2, "nothing begins before everything is there"
            events.append("begin")
        if fault := int(dut.fault.value):
            events.append(Fault(fault).name)
        await FallingEdge(dut.clk)
    return {"asked": asked, "events": events, "active": bool(dut.active.value)}


@cocotb.test()
async def images(dut):
    """Boot everything that is asked for; the caller judges."""
    dut.start.value = 0
    await start(dut)
    report(runs=[await boot(dut, **run) for run in parameters()["runs"]])
