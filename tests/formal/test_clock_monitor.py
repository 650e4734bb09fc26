"""The clock monitor counts as its model does: every fault is found in its cycle, and only there.

The other clock is free: its level may change in any cycle, so all speeds, stops and glitches are
among the cases.
"""

import pytest
from amaranth import *
from amaranth.hdl import Assert, Assume, Cover

from jepa_r.safety.clock_monitor import ClockMonitor
from jepa_r_sim.formal import ProofError, mutant, prove

from .specs import Spec, follow_faults, follow_settings, past


class ClockSpec(Spec):
    """Model with distances that count from one, and windows that count down."""

    def specify(self, m, dut):
        settings, running = follow_settings(m, dut, dut.fields, lock=dut.start)
        level = past(m, dut.toggle)
        edge = running & (dut.toggle != level)

        distance, left, count = Signal(17, init=1), Signal(24), Signal(17)
        seen = Signal()
        inside = Signal(17)
        m.d.comb += inside.eq(count + edge)
        over = distance >= settings["stop"]
        ends = left <= 1
        with m.If(edge):
            m.d.sync += [distance.eq(1), seen.eq(1)]
        with m.Elif(running & ~over):
            m.d.sync += distance.eq(distance + 1)
        with m.If(~running):
            m.d.sync += left.eq(settings["window"])
            with m.If(dut.w_en[0]):
                m.d.sync += left.eq(dut.w_data)
        with m.Elif(ends):
            m.d.sync += [left.eq(settings["window"]), count.eq(0)]
        with m.Else():
            m.d.sync += left.eq(left - 1)
            # What is too much is a fault already, and is not counted.
            m.d.sync += count.eq(Mux(inside > settings["high"], count, inside))
        m.d.comb += [
            Assert(dut.running == running, "it runs from the start on"),
            Assert(dut.before == level, "link: level"),
            Assert(dut.since + 1 == distance, "link: distance"),
            Assert(dut.position + left == settings["window"], "link: window"),
            Assert(~settings["window"].any() | left.any(), "link: no window is over"),
            Assert(dut.edges == count, "link: edges"),
            Assert(dut.any_edge == seen, "link: first edge"),
            Assert(running | ~(seen | dut.since.any() | dut.position.any() | count.any()), "link"),
            Assert(count <= settings["high"], "link: what is too much is not counted"),
            Assert((distance <= settings["stop"]) | (distance == 1), "link: a stop is a fault"),
        ]
        follow_faults(
            m,
            dut,
            {
                "stopped": running & ~edge & over,
                "glitch": edge & seen & (distance < settings["gap"]),
                "slow": running & ends & (inside < settings["low"]),
                "fast": edge & (inside > settings["high"]),
                "misuse": running & (dut.start | dut.w_en.any()),
                "settings": 0,
            },
        )


class ClockCovers(ClockSpec):
    """Things that do happen."""

    def specify(self, m, dut):
        super().specify(m, dut)
        only = dut.first.as_value().as_unsigned()
        windows = Signal(2)
        with m.If(past(m, dut.position == 3) & (dut.position == 0) & (windows < 2)):
            m.d.sync += windows.eq(windows + 1)
        m.d.comb += [
            Assume(~ResetSignal()),
            Cover((windows == 2) & (only == 0) & (dut.low == 2) & (dut.high == 2), "two windows"),
            Cover((only == 1) & (dut.stop == 3), "stopped alone"),
            Cover(dut.first.glitch & (dut.gap == 2), "glitch"),
            Cover((only == 4) & (dut.low == 2), "slow alone"),
            Cover((only == 8) & (dut.high == 1), "fast alone"),
            Cover(only == 16, "misuse alone"),
        ]


@pytest.mark.slow
def test_it_finds_what_the_model_says_and_nothing_else(tmp_path):
    prove(ClockSpec(ClockMonitor()), depth=1, workdir=tmp_path)


@pytest.mark.slow
def test_everything_the_model_tells_apart_does_happen(tmp_path):
    prove(ClockCovers(ClockMonitor()), depth=16, workdir=tmp_path, mode="cover")


BUGS = [
    ("self.since + 1 >= self.stop", "self.since >= self.stop", "stopped|distance"),
    ("self.position + 1 >= self.window", "self.position >= self.window", "slow|window"),
    ("self.edges + edge < self.low", "self.edges < self.low", "slow"),
    ("self.edges >= self.high", "self.edges > self.high", "fast|edges"),
    ("edge & self.any_edge & (self.since", "edge & (self.since", "glitch"),
    ("self.since + 1 < self.gap", "self.since < self.gap", "glitch"),
    ("self.before.eq(self.toggle)", "self.before.eq(self.toggle & self.running)", "level"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("old", "new", "found"), BUGS)
def test_planted_bugs_are_found(tmp_path, old, new, found):
    with pytest.raises(ProofError, match=found):
        prove(ClockSpec(mutant(ClockMonitor, old, new)()), depth=1, workdir=tmp_path)
