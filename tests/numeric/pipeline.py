"""Driver of pipelines that take something each cycle and answer a fixed number of cycles later."""

from amaranth.sim import Simulator

__all__ = ["feed"]


def feed(dut, inputs, outputs, *, late=None):
    """Put one input in each cycle; what comes out ``dut.latency`` cycles after each.

    Parameters
    ----------
    dut
        Component with a ``latency``.
    inputs
        For each cycle, the value of every input by name.
    outputs
        Names of the outputs.
    late
        Inputs that go in some cycles after the others, and how many.
    """
    late = late or {}
    results = []

    async def testbench(ctx):
        for cycle in range(len(inputs) + dut.latency):
            for name in inputs[0]:
                index = cycle - late.get(name, 0)
                if 0 <= index < len(inputs):
                    ctx.set(getattr(dut, name), inputs[index][name])
            if cycle >= dut.latency:
                results.append({name: ctx.get(getattr(dut, name)) for name in outputs})
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(testbench)
    sim.run()
    return results
