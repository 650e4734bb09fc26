from amaranth import *
from amaranth.sim import Simulator

from jepa_r.fabric.taps import taps


def test_tap_n_is_the_value_n_cycles_ago():
    m, value, seen = Module(), Signal(8), []
    stages = taps(m, value, 3, name="value")
    assert len(stages) == 4

    async def testbench(ctx):
        for cycle in range(10, 20):
            ctx.set(value, cycle)
            seen.append([ctx.get(stage) for stage in stages])
            await ctx.tick()

    sim = Simulator(m)
    sim.add_clock(1e-6)
    sim.add_testbench(testbench)
    sim.run()
    assert seen[3:] == [[cycle - n for n in range(4)] for cycle in range(13, 20)]
