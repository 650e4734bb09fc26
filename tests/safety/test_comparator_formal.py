"""Proofs on the comparator's self test: no stuck bit passes it, and it ends in time."""

import pytest
from amaranth import *
from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Assert, Assume, Cover
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from jepa_r.safety.comparator import Comparator, Rail
from jepa_r_sim.formal import ProofError, free_inputs, mutant, prove

WIDTH = 3


class StuckRail(wiring.Component):
    """A rail of which one bit of what goes in and out may be stuck.

    ``place`` says which: beyond the last bit, none.
    """

    def __init__(self, **parameters):
        self.rail = Rail(**parameters)
        self.comparing = self.rail.comparing
        super().__init__(dict(self.rail.signature.members))
        names = ("main", "checker", "ignore", "clear", "differs", "alert", "open")
        self.names = [(name, len(getattr(self, name))) for name in names]
        self.bits = sum(width for _name, width in self.names)
        self.place = Signal(range(self.bits + 1))
        self.value = Signal()

    def elaborate(self, platform):
        m = Module()
        m.submodules.rail = rail = self.rail
        m.d.comb += [
            self.place.eq(AnyConst(self.place.shape())),
            self.value.eq(AnyConst(1)),
            Assume(self.place <= self.bits),
            rail.fault.eq(self.fault),
        ]
        at = 0
        for name, width in self.names:
            goes_in = self.signature.members[name].flow == In
            source, target = (self, rail) if goes_in else (rail, self)
            bits = getattr(source, name)
            for n in range(width):
                stuck = self.place == at + n
                m.d.comb += getattr(target, name)[n].eq(Mux(stuck, self.value, bits[n]))
            at += width
        return m

    def is_in(self, names):
        """Whether the stuck bit is one of these signals."""
        at, places = 0, []
        for name, width in self.names:
            places += range(at, at + width) if name in names else ()
            at += width
        return self.place.matches(*places)


class Examined(Elaboratable):
    """A comparator of equal values that is tested at once, with a stuck bit or without.

    The stuck bit is one of those of ``names``, or none at all.
    """

    def __init__(self, cls, names):
        self.comparator, self.names = cls(width=WIDTH, skew=1), names

    def elaborate(self, platform):
        m = Module()
        m.submodules.comparator = comparator = self.comparator
        live = AnySeq(WIDTH)
        m.d.comb += [
            comparator.main.eq(live),
            comparator.checker.eq(live),
            comparator.test_allowed.eq(1),
            comparator.test_start.eq(1),
            comparator.test_key.eq(comparator.KEY),
            comparator.idle.eq(1),
            Assume(~ResetSignal()),
        ]
        rails = (comparator.rail_p, comparator.rail_n)
        sound = [rail.place == rail.bits for rail in rails]
        m.d.comb += Assume(sound[0] | sound[1])
        if self.names:
            m.d.comb += Assert(~comparator.test_good, "no test with a stuck bit is good")
            for rail, whole in zip(rails, sound, strict=True):
                m.d.comb += Assume(whole | rail.is_in(self.names))
            m.d.comb += Assume(~(sound[0] & sound[1]))
        else:
            since = Signal(range(DEPTH + 1))
            m.d.sync += since.eq(since + 1)
            m.d.comb += [
                Assume(sound[0] & sound[1]),
                Assert(
                    (since != comparator.test_cycles) | comparator.test_done & comparator.test_good,
                    "a test is good, and over when it is to be",
                ),
                Assert(
                    (since >= comparator.test_cycles) | ~comparator.test_done,
                    "a test is not over before",
                ),
                Cover(comparator.test_good, "a good test"),
            ]
        return m


def stuck(monkeypatch, cls=Comparator):
    monkeypatch.setitem(cls.__init__.__globals__, "Rail", StuckRail)
    return cls


DEPTH = Comparator(width=WIDTH, skew=1).test_cycles + 3

#: All of a rail that may be stuck, by what the test finds it.
VALUES = ("main", "checker")
SEEN = ("differs",)
ALERT = ("ignore", "clear", "alert")
RELEASE = ("open",)
EVERYTHING = (*VALUES, *SEEN, *ALERT, *RELEASE)


@pytest.mark.slow
def test_no_self_test_with_a_stuck_bit_is_good(monkeypatch, tmp_path):
    """Whatever the processors do meanwhile."""
    prove(Examined(stuck(monkeypatch), EVERYTHING), depth=DEPTH, mode="bmc", workdir=tmp_path)


@pytest.mark.slow
def test_a_self_test_without_one_is_good(monkeypatch, tmp_path):
    spec = Examined(stuck(monkeypatch), ())
    prove(spec, depth=DEPTH, mode="bmc", workdir=tmp_path / "good")
    spec = Examined(stuck(monkeypatch), ())
    prove(spec, depth=DEPTH, mode="cover", workdir=tmp_path / "cover")


#: Two paths of a rail that say different things are a fault, tested or not: what a test does not
#: look at is found all the same, unless that is taken away, too.
TOGETHER = ("| failed | parted)", "| failed)")

#: What may be stuck unseen with a bug; what the comparator says, and what it says with the bug.
BUGS = {
    "falsified whatever the value": (VALUES, "side ^ live", "side"),
    "one way only": (VALUES, "with m.If(side == Side.MAIN):", "with m.If(C(0)):"),
    "the last bit left out": (VALUES, "bit == self._width - 1", "bit == self._width - 2"),
    "alerts not looked at": (ALERT, "| (alerts != shown)", "", *TOGETHER),
    "the release's path not looked at": (RELEASE, "| (shut != shown)", "", *TOGETHER),
    "the alert not kept": (
        ALERT,
        "m.d.comb += [shown.eq(tested), self.test_forced.eq(1)]\n"
        "                m.d.sync += step.eq(_Step.STAY)",
        "m.d.comb += [shown.eq(tested), self.test_forced.eq(1), clear.eq(tested)]\n"
        "                m.d.sync += [second.eq(1), step.eq(Mux(second, _Step.END, _Step.QUIET))]",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_lets_pass_what_it_should_and_nothing_else(bug, monkeypatch, tmp_path):
    names, *changes = BUGS[bug]
    cls = stuck(monkeypatch, mutant(Comparator, *changes))
    with pytest.raises(ProofError, match="fails in cycle"):
        prove(Examined(cls, names), depth=DEPTH, mode="bmc", workdir=tmp_path / "own")
    others = tuple(name for name in EVERYTHING if name not in names)
    prove(Examined(cls, others), depth=DEPTH, mode="bmc", workdir=tmp_path / "others")


class Timed(Elaboratable):
    """A self test ends in time, whatever the processors, the release and whoever starts it do."""

    def __init__(self, cls=Comparator, *, width=WIDTH):
        self.comparator = cls(width=width, skew=2)

    def elaborate(self, platform):
        m = Module()
        m.submodules.comparator = comparator = self.comparator
        free_inputs(m, comparator)
        testing, deadline = comparator.testing, comparator.deadline_cycles
        # A start in cycle 0 is a test that runs from cycle 1 on.
        since = Signal(range(2 * deadline), init=1)
        m.d.sync += since.eq(Mux(testing, since + 1, 1))
        m.d.comb += [
            Assert(~testing | (since < deadline), "a test ends in time"),
            Assert(~testing | (since + comparator.left == deadline - 1), "what is left is right"),
            Assert(~testing | ~comparator.test_done, "a test that runs is not done"),
            Assert(~comparator.test_good | comparator.test_done, "a good test is done"),
            Cover(since == deadline - 1, "a test that takes all its time"),
        ]
        return m


@pytest.mark.parametrize("width", [102, pytest.param(1, marks=pytest.mark.slow)])
def test_a_self_test_ends_before_its_deadline(width, tmp_path):
    prove(Timed(width=width), depth=2, workdir=tmp_path)


def hurried(monkeypatch, cls=Comparator):
    """One that does not wait for long."""
    monkeypatch.setattr(cls, "WAIT_CYCLES", 3)
    return cls


@pytest.mark.slow
def test_a_self_test_can_take_all_its_time(monkeypatch, tmp_path):
    spec = Timed(hurried(monkeypatch), width=1)
    prove(spec, depth=spec.comparator.deadline_cycles + 2, mode="cover", workdir=tmp_path)


LATE = {
    "no deadline": ("                | (left == 0)\n", ""),
    "a start during a test": ("& ~testing\n", "\n"),
    "a deadline that is a cycle late": ("self.deadline_cycles - 2", "self.deadline_cycles - 1"),
}


@pytest.mark.slow
@pytest.mark.parametrize("bug", LATE)
def test_a_test_that_takes_too_long_is_found(bug, monkeypatch, tmp_path):
    spec = Timed(hurried(monkeypatch, mutant(Comparator, *LATE[bug])), width=1)
    with pytest.raises(ProofError, match="fails in cycle") as error:
        prove(spec, depth=spec.comparator.deadline_cycles + 2, mode="bmc", workdir=tmp_path)
    assert set(error.value.properties) <= {"a test ends in time", "what is left is right"}
