import pytest
from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from jepa_r.fabric.delay import delay, deskew, skew

LANES = 4


class Delays(wiring.Component):
    i: In(data.ArrayLayout(signed(8), LANES))
    late: Out(data.ArrayLayout(signed(8), LANES))
    skewed: Out(data.ArrayLayout(signed(8), LANES))
    straight: Out(data.ArrayLayout(signed(8), LANES))

    def __init__(self, cycles):
        self._cycles = cycles
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        lanes = skew(m, list(self.i), name="skew")
        m.d.comb += [
            self.late.eq(delay(m, self.i, self._cycles, name="late")),
            self.skewed.as_value().eq(Cat(lanes)),
            self.straight.as_value().eq(Cat(deskew(m, lanes, name="deskew"))),
        ]
        return m


def run(cycles, vectors):
    dut, seen = Delays(cycles), []

    async def testbench(ctx):
        for vector in vectors:
            ctx.set(dut.i, vector)
            seen.append([list(ctx.get(port)) for port in (dut.late, dut.skewed, dut.straight)])
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return seen


VECTORS = [[10 * t + n - 100 for n in range(LANES)] for t in range(20)]


@pytest.mark.parametrize("cycles", [0, 1, 3])
def test_delay_keeps_shape_and_counts_cycles(cycles):
    seen = run(cycles, VECTORS)
    for t in range(cycles, len(VECTORS)):
        assert seen[t][0] == VECTORS[t - cycles]


def test_lane_n_is_n_cycles_late_and_deskew_brings_all_together():
    seen = run(0, VECTORS)
    for t in range(LANES, len(VECTORS)):
        assert seen[t][1] == [VECTORS[t - n][n] for n in range(LANES)]
        assert seen[t][2] == VECTORS[t - LANES + 1]


def test_negative_delay_is_refused():
    with pytest.raises(ValueError, match=r"^delay of -1 cycles is not 0 or more$"):
        delay(Module(), Signal(), -1, name="x")
