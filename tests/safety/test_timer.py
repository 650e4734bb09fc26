# amaranth: UnusedElaboratable=no
"""Periods of the processor, cycle by cycle."""

import random

import pytest
from amaranth.sim import Simulator

from jepa_r.safety.timer import PeriodTimer


@pytest.mark.parametrize("period", [2, 7])
def test_a_period_begins_exactly_every_so_many_cycles_and_interrupts_once(period):
    dut, rng = PeriodTimer(period=period), random.Random(period)
    seen = {"begin": 0, "overrun": 0, "quiet": 0}

    async def testbench(ctx):
        interrupt = False
        for cycle in range(400):
            begin = cycle > 0 and cycle % period == 0
            done = rng.random() < 0.15
            ctx.set(dut.done, done)
            assert ctx.get(dut.begin) == begin
            assert ctx.get(dut.tick) == cycle // period
            assert ctx.get(dut.phase) == cycle % period
            assert ctx.get(dut.interrupt) == interrupt
            assert ctx.get(dut.overrun) == (begin and interrupt)
            seen["begin"] += begin
            seen["overrun"] += begin and interrupt
            seen["quiet"] += not interrupt
            interrupt = begin or (interrupt and not done)
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    assert min(seen.values()) > 10


def test_sizes_are_checked():
    with pytest.raises(ValueError, match=r"^period is 1; it must be at least 2$"):
        PeriodTimer(period=1)
