"""cocotb bench of units that take operands in every cycle and answer after a fixed number of them.

Parameters: ``latency``; ``operands`` and ``results``, the values of some ports by name for each
cycle, where ``null`` is any result; ``late``, the operands that go in some cycles after the others,
and how many.
"""

import cocotb
from cocotb.triggers import FallingEdge, Timer

from jepa_r_sim.cosim import parameters, report
from jepa_r_sim.drivers.cocotb_stream import start

#: Nanoseconds for what is combinational, or a whole cycle of a unit without a clock.
SETTLE = 1


@cocotb.test()
async def answers(dut):
    """Each cycle's result is there ``latency`` cycles later, whatever comes before and after."""
    given = parameters()
    operands, results, late = given["operands"], given["results"], given.get("late", {})
    clocked = hasattr(dut, "clk")
    for name in operands:
        getattr(dut, name).value = 0
    if clocked:
        await start(dut)
    ports = {name: getattr(dut, name) for name in (*operands, *results)}
    count = len(next(iter(operands.values())))
    compared = 0
    for cycle in range(count + given["latency"]):
        for name, values in operands.items():
            index = cycle - late.get(name, 0)
            if 0 <= index < count:
                ports[name].value = values[index]
        await Timer(SETTLE, "ns")
        index = cycle - given["latency"]
        for name, values in results.items() if index >= 0 else ():
            expected, port = values[index], ports[name]
            if expected is not None:
                result = int(port.value)
                assert result == expected & ((1 << len(port)) - 1), (
                    f"{name} of operands {index} is {result:#x}, not {expected:#x}"
                )
                compared += 1
        if clocked:
            await FallingEdge(dut.clk)
    report(compared=compared)
