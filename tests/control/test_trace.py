import random

from jepa_r.control.trace import TracePointer
from jepa_r_sim.drivers.stream import simulate


def test_rollouts_of_a_plan_write_one_behind_the_other():
    """A plan begins at the base, whatever ends in that cycle; addresses wrap as the bus does."""
    dut, rng = TracePointer(), random.Random(1)
    seen, expected = [], []

    async def testbench(ctx):
        address = 0
        for _ in range(2000):
            begin, following = rng.random() < 0.1, rng.random() < 0.4
            base, step = rng.getrandbits(32), rng.getrandbits(rng.choice([4, 16, 32]))
            for name, value in (("begin", begin), ("base", base), ("next", following),
                                ("step", step)):  # fmt: skip
                ctx.set(getattr(dut, name), value)
            expected.append(address)
            seen.append(ctx.get(dut.address))
            address = base if begin else (address + step * following) & 0xFFFFFFFF
            await ctx.tick()

    simulate(dut, testbench, max_cycles=2010)
    assert seen == expected
