"""Runs a safety block for a list of cycles, in Amaranth's simulator."""

from amaranth.hdl import Value
from amaranth.lib import data

from jepa_r_sim.drivers.stream import simulate


def bits(value):
    """Names of the bits of a view that are set."""
    return {name for name, _field in value.shape() if value[name]}


def _is_record(value):
    return isinstance(value, data.Const) and isinstance(value.shape(), data.StructLayout)


def play(dut, cycles, outputs):
    """Outputs in each cycle, by name, and those after the last.

    ``cycles`` has the inputs of each cycle; those that are not named are 0.
    """
    seen = []
    names = sorted(set().union(*cycles))

    async def testbench(ctx):
        def sample():
            values = {name: ctx.get(getattr(dut, name)) for name in outputs}
            return {
                name: bits(value) if _is_record(value) else value for name, value in values.items()
            }

        for inputs in cycles:
            for name in names:
                port = getattr(dut, name)
                if name in inputs:
                    ctx.set(port, inputs[name])
                else:
                    ctx.set(Value.cast(port), 0)
            seen.append(sample())
            await ctx.tick()
        seen.append(sample())

    simulate(dut, testbench, max_cycles=len(cycles) + 10)
    return seen


def compare(dut, cycles, outputs, expected):
    """The outputs in each cycle, and those after the last, are as expected."""
    for n, (got, want) in enumerate(zip(play(dut, cycles, outputs), expected, strict=True)):
        assert got == want, f"cycle {n}\n{got} is not {want}"
