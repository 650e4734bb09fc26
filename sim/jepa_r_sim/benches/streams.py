"""cocotb bench of the address streams, :mod:`jepa_r.cluster.streams`: starts operations.

Parameters: ``operations``, the word on the port in each cycle; ``starts``, the cycles in which one
begins; ``outputs``, names of ports. Reports ``seen``, the outputs' values in every cycle.
"""

import cocotb
from cocotb.triggers import FallingEdge, ReadOnly

from jepa_r_sim.cosim import parameters, report
from jepa_r_sim.drivers.cocotb_stream import start


@cocotb.test()
async def walks(dut):
    """Start what is asked for, and note everything; the caller judges."""
    given = parameters()
    starts, ports = set(given["starts"]), [getattr(dut, name) for name in given["outputs"]]
    dut.start.value = 0
    await start(dut)
    seen = []
    for cycle, word in enumerate(given["operations"]):
        dut.start.value = cycle in starts
        dut.operation.value = word
        await ReadOnly()
        seen.append([int(port.value) for port in ports])
        await FallingEdge(dut.clk)
    report(seen=seen)
