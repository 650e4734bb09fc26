"""cocotb bench of the counter in ``test_cosim.py``."""

import cocotb
from cocotb.triggers import FallingEdge

from jepa_r_sim.cosim import parameters, report
from jepa_r_sim.drivers.cocotb_stream import start


@cocotb.test()
async def counts(dut):
    """The counter adds its step in every cycle."""
    given = parameters()
    dut.step.value = given["step"]
    await start(dut)
    for _ in range(given["cycles"]):
        await FallingEdge(dut.clk)
    total = dut.total.value.to_unsigned()
    report(total=total)
    assert total == given["expected"], f"total is {total}, not {given['expected']}"


@cocotb.test()
async def sees_only_ports(dut):
    """Nothing but the ports of the top is visible, unless asked for."""
    assert hasattr(dut, "hidden") == parameters().get("visible", False)
