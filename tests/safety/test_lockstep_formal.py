"""Proofs on the pair: any core, faults of any shape in one core at a time."""

import pytest
from amaranth import *
from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Assert, Assume, Cover
from amaranth.lib import wiring

from jepa_r.fabric.delay import delay
from jepa_r.safety import comparator, lockstep, release
from jepa_r.safety.comparator import Comparator
from jepa_r.safety.lockstep import Lockstep
from jepa_r.safety.release import Release
from jepa_r.safety.replica import Replica
from jepa_r_sim.formal import ProofError, free_inputs, mutant, prove

from .light_code import light
from .stand_in import StandIn


class FreeReplica(wiring.Component):
    """A processor of any behaviour."""

    def __init__(self, *, core):
        super().__init__(dict(Replica(core=core).signature.members))

    def elaborate(self, platform):
        m = Module()
        for _path, member, port in self.signature.flatten(self):
            if member.flow == wiring.Out:
                m.d.comb += port.eq(AnySeq(len(port)))
        return m


def pair(monkeypatch, cls=Lockstep, **parts):
    """Class of pairs with other parts."""
    for name, part in parts.items():
        monkeypatch.setitem(cls.__init__.__globals__, name, part)
    return cls


class AnyCore(Elaboratable):
    """Promises on a pair of processors of any behaviour, of which one may do anything else.

    ``right`` is what both would do; either main or the checker does it always, the checker ``skew``
    cycles later. With ``tests`` self tests may run; without, there is no alert but of a divergence.
    """

    def __init__(self, cls, skew, *, tests=False):
        self.pair = cls(core=StandIn, skew=skew)
        self.tests = tests

    def elaborate(self, platform):
        m = Module()
        m.submodules.pair = pair = self.pair
        skew = pair.skew
        inputs = free_inputs(m, pair, besides={"inject"})
        m.d.comb += pair.inject.eq(0)
        if not self.tests:
            m.d.comb += Assume(~inputs["test_allowed"])
        names = [name for name, _width in pair.compared]
        main = Cat(getattr(pair.main, name) for name in names)
        checker = Cat(getattr(pair.checker, name) for name in names)
        right = Signal(len(main))
        m.d.comb += right.eq(AnySeq(len(main)))
        right_late = delay(m, right, skew, name="right_late")
        faulty = AnyConst(1)
        # Cycles since reset, as far as they matter.
        begun = Signal(skew)
        m.d.sync += begun.eq(Cat(1, begun))
        m.d.comb += [
            Assume(faulty | (main == right)),
            Assume(~faulty | ~begun[-1] | (checker == right_late)),
        ]

        # Main's first wrong output, in this cycle or before; with the checker's.
        wrong_now, wrong = Signal(), Signal()
        m.d.comb += wrong_now.eq(main != right)
        late = delay(m, wrong_now, skew, reset_less=False, name="wrong_late")
        diverged = Signal()
        m.d.comb += diverged.eq(late | begun[-1] & (checker != right_late))
        m.d.sync += wrong.eq(wrong | diverged)
        m.d.comb += Assert(pair.comparator.rail_p.comparing == begun, "comparison begins")
        m.d.comb += Assert(pair.comparator.rail_n.comparing == begun, "comparison begins, inverted")

        alert = Cat(pair.alert_p, ~pair.alert_n)
        shut = Cat(~pair.comparator.open_p, pair.comparator.open_n)
        m.d.comb += [
            Assert(~wrong | (alert == 3), "a divergence is an alert on both rails, and it stays"),
            Assert(~wrong | (shut == 3), "a divergence shuts the release, and it stays shut"),
        ]
        if not self.tests:
            m.d.comb += [
                Assert(wrong | (alert == 0), "there is no alert without a divergence"),
                Assert(wrong | (shut == 0), "the release is open without a divergence"),
            ]
        # The same again as a bound on time: cycles from main's first wrong output.
        since = Signal(range(skew + 2))
        with m.If(wrong_now | since.any()):
            m.d.sync += since.eq(Mux(since == skew + 1, since, since + 1))
        m.d.comb += Assert((since < skew + 1) | (alert != 0), "an alert comes within skew + 1")

        # What leaves is what the right processor would have stored, and main's when it was right.
        of = {name: right[at : at + width] for name, at, width in self.places()}
        place = of["bus_addr"]
        store = Signal()
        m.d.comb += store.eq(of["bus_en"] & of["bus_write"] & ~place[18:].any())
        hold = pair.hold_cycles
        stored = delay(m, store, 1, reset_less=False, name="stored")
        stored = delay(m, stored & ~pair.r_error, hold - 1, reset_less=False, name="to_leave")
        content = delay(m, Cat(place[2:18], of["bus_wcode"]), hold, name="content")
        leaves = Signal()
        m.d.comb += [
            leaves.eq(pair.w_en & ~pair.w_en_n),
            Assert(pair.w_en == ~pair.w_en_n, "both rails of the release agree"),
            Assert(~leaves | stored, "nothing leaves that was not to be stored"),
            Assert(
                ~leaves | (Cat(pair.w_addr[2:18], pair.w_code) == content), "nothing wrong leaves"
            ),
            Assert(~pair.w_addr[:2].any() & ~pair.w_addr[18:].any(), "addresses are in the map"),
        ]
        before = Signal()
        m.d.sync += before.eq(wrong)
        if not self.tests:
            m.d.comb += Assert(leaves == (stored & ~before), "all leaves that may")
        m.d.comb += [
            Cover(leaves, "a store leaves"),
            Cover(wrong & (since == skew + 1), "main diverges"),
        ]
        return m

    def places(self):
        at = 0
        for name, width in self.pair.compared:
            yield name, at, width
            at += width


class SameCore(Elaboratable):
    """Two equal cores do the same, whatever they are told, and whenever they are reset."""

    def __init__(self, cls, skew):
        self.pair = cls(core=StandIn, skew=skew)

    def elaborate(self, platform):
        m = Module()
        m.submodules.pair = pair = self.pair
        inputs = free_inputs(m, pair, besides={"inject"})
        m.d.comb += [pair.inject.eq(0), Assume(~inputs["test_allowed"])]
        for replica in (pair.main, pair.checker):
            m.d.comb += replica.core.fault.eq(0)
        begun = Signal(pair.skew)
        m.d.sync += begun.eq(Cat(1, begun))
        state = Signal(len(pair.main.core.state))
        m.d.comb += state.eq(pair.main.core.state)
        main = delay(m, state, pair.skew, name="main_late")
        m.d.comb += [
            Assert(pair.comparator.rail_p.comparing == begun, "comparison begins"),
            Assert(pair.comparator.rail_n.comparing == begun, "comparison begins, inverted"),
            Assert(~begun[-1] | (pair.checker.core.state == main), "the checker follows main"),
            Assert(pair.alert_p == 0, "no alert"),
            Assert(pair.alert_n == 1, "no alert, inverted"),
            Cover(pair.w_en & (pair.w_addr == 0x1_0004), "the second store leaves"),
        ]
        return m


ALL = [2, pytest.param(1, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)]


@pytest.mark.parametrize("skew", ALL)
def test_a_divergence_is_an_alert_in_time_and_nothing_wrong_leaves(skew, monkeypatch, tmp_path):
    spec = AnyCore(pair(monkeypatch, Replica=FreeReplica), skew)
    prove(spec, depth=skew + 4, workdir=tmp_path)


@pytest.mark.slow
def test_a_main_that_diverges_and_a_store_that_leaves_are_possible(monkeypatch, tmp_path):
    spec = AnyCore(pair(monkeypatch, Replica=FreeReplica), 2)
    prove(spec, depth=8, mode="cover", workdir=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("skew", [1, 2, 3])
def test_no_divergence_hides_behind_a_self_test(skew, monkeypatch, tmp_path):
    spec = AnyCore(pair(monkeypatch, Replica=FreeReplica), skew, tests=True)
    prove(spec, depth=skew + 4, workdir=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("skew", [1, 2, 3])
def test_equal_cores_stay_equal_whatever_they_are_told(skew, monkeypatch, tmp_path):
    light(monkeypatch, Replica)
    prove(SameCore(Lockstep, skew), depth=skew + 4, workdir=tmp_path)


@pytest.mark.slow
def test_equal_cores_store_something(monkeypatch, tmp_path):
    light(monkeypatch, Replica)
    prove(SameCore(Lockstep, 2), depth=24, mode="cover", workdir=tmp_path)


BUGS = {
    "narrow compare": (
        comparator, "Comparator",
        "(self.main ^ self.checker).any()", "(self.main ^ self.checker)[1:].any()",
    ),
    "narrow compare, inverted": (
        comparator, "Comparator", "(self.main ^ ~self.checker)[: self._width].all()",
        "(self.main ^ ~self.checker)[: self._width - 1].all()",
    ),
    "alert that does not stay": (
        comparator, "Comparator", "self.alert & ~self.clear | taken", "taken",
    ),
    "no gate": (release, "Release", "there[-2] & is_open", "there[-2]"),
    "hold too short": (lockstep, "Lockstep", "return self._skew + 2", "return self._skew + 1"),
    "address above the code": (
        lockstep, "Lockstep", "release.en.eq(_stores(main))", "release.en.eq(self.q_write)",
    ),
    "refusal of another store": (release, "Release", "there[0] & ~self.refused", "there[0]"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug, monkeypatch, tmp_path):
    module, name, old, new = BUGS[bug]
    cls = mutant(getattr(module, name), old, new)
    if name == "Lockstep":
        patched = pair(monkeypatch, cls, Replica=FreeReplica)
    else:
        patched = pair(monkeypatch, Replica=FreeReplica, **{name: cls})
    with pytest.raises(ProofError, match="fails in cycle"):
        prove(AnyCore(patched, 2), depth=8, mode="bmc", workdir=tmp_path)


SPLITS = {
    "input that is not delayed": (
        "getattr(main, name), self._skew, name",
        'getattr(main, name), 0 if name == "irq_timer" else self._skew, name',
    ),
    "code word that is late": (
        "getattr(main, name), self._skew, name",
        'getattr(main, name), self._skew + (name == "bus_rcode"), name',
    ),
    "reset that is not delayed": ("checker.reset.eq(late[-1])", "checker.reset.eq(0)"),
}


@pytest.mark.slow
@pytest.mark.parametrize("bug", SPLITS)
def test_an_input_the_cores_have_apart_is_found(bug, monkeypatch, tmp_path):
    light(monkeypatch, Replica)
    with pytest.raises(ProofError, match="fails in cycle"):
        prove(SameCore(mutant(Lockstep, *SPLITS[bug]), 2), depth=20, mode="bmc", workdir=tmp_path)


def test_parts_are_those_that_are_proved():
    assert Lockstep.__init__.__globals__["Comparator"] is Comparator
    assert Lockstep.__init__.__globals__["Release"] is Release
    assert Lockstep.__init__.__globals__["Replica"] is Replica
