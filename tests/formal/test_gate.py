"""A closed gate passes nothing, and only the full sequence opens it."""

import pytest
from amaranth import *
from amaranth.hdl import Assert, Assume, Cover

from jepa_r.safety.gate import OPEN_KEY, Gate, GateState
from jepa_r_sim.formal import ProofError, mutant, prove

from .specs import Spec, first_is_fast, past


def conditions(dut):
    """Channel B and alerts say "open"; channel A does; channel A says "closed"."""
    others = (
        dut.seen_a & dut.seen_b & (dut.alert_p == 0) & (dut.alert_n == (1 << len(dut.alert_n)) - 1)
    )
    rails = Cat(dut.enable_p, dut.enable_n)
    return others, rails == 0b01, rails == 0b10


class GateSpec(Spec):
    """The sequence as steps done, and what passes as a function of it."""

    def specify(self, m, dut):
        others, opened, closed = conditions(dut)
        # Steps done: none, channel A was seen closed, all.
        steps = Signal(2)
        with m.If(~others | (steps == 3)):
            m.d.sync += steps.eq(0)
        with m.Elif(steps == 0):
            m.d.sync += steps.eq(closed)
        with m.Elif(steps == 1):
            with m.If(dut.open):
                m.d.sync += steps.eq(Mux(opened & (dut.key == OPEN_KEY), 2, 0))
            with m.Elif(~opened & ~closed):
                m.d.sync += steps.eq(0)
        with m.Elif(~opened):
            m.d.sync += steps.eq(0)
        states = [GateState.CLOSED, GateState.READY, GateState.OPEN]
        m.d.comb += [
            Assert((dut.state == state.value) == (steps == n), f"link: {state.name}")
            for n, state in enumerate(states)
        ]

        may_pass, clocked = Signal(), Signal()
        m.d.comb += [
            clocked.eq((steps == 2) & others & opened),
            may_pass.eq(clocked & dut.energise_a & dut.energise_b),
        ]
        torques, taken = Signal(len(dut.torque.as_value())), Signal()
        m.d.sync += taken.eq(dut.i_valid & clocked)
        with m.If(~clocked):
            m.d.sync += torques.eq(0)
        with m.Elif(dut.i_valid):
            m.d.sync += torques.eq(dut.torque)
        released = dut.released.as_value()
        was_reset = past(m, ResetSignal(), init=1)
        m.d.comb += [
            Assert(dut.is_open == may_pass, "open exactly after the whole sequence"),
            Assert(may_pass | (released == 0), "closed means zeros"),
            Assert(may_pass | ~dut.o_valid, "closed means nothing new"),
            Assert(~may_pass | (released == torques), "open means the last torques"),
            Assert(~may_pass | (dut.o_valid == taken), "open means new when new"),
            Assert(dut.held.as_value() == torques, "link: held"),
            Assert(dut.fresh == taken, "link: fresh"),
            Assert(~was_reset | (released == 0), "a reset closes it"),
            Assert(past(m, clocked) | (released == 0), "what opens begins with zeros"),
            Assert(
                was_reset | ((past(m, dut.alive) ^ dut.alive) == taken), "alive when torques pass"
            ),
        ]


class NoState(Spec):
    """A state that is none passes nothing, whatever the other registers hold."""

    def specify(self, m, dut):
        none = Cat(dut.state != state.value for state in GateState).all()
        closed = (dut.released.as_value() == 0) & ~dut.o_valid & ~dut.is_open
        m.d.comb += Assert(~none | closed, "no state passes nothing")


class AnyState(Spec):
    """It is gone in the next cycle."""

    def specify(self, m, dut):
        none = Cat(dut.state != state.value for state in GateState).all()
        m.d.comb += [
            Assert(
                ~past(m, none) | (dut.state == GateState.CLOSED.value), "no state leads to CLOSED"
            ),
        ]


class GateCovers(GateSpec):
    """A torque passes, and after an alert another one."""

    def specify(self, m, dut):
        super().specify(m, dut)
        alerted = Signal()
        with m.If(past(m, dut.is_open) & dut.alert_p.any()):
            m.d.sync += alerted.eq(1)
        passes = dut.o_valid & (dut.released[1] == -7)
        m.d.comb += [
            Assume(~ResetSignal()),
            Cover(passes & ~alerted, "a torque passes"),
            Cover(passes & alerted, "a torque passes after an alert"),
        ]


def test_closed_means_that_nothing_passes_and_only_the_sequence_opens(tmp_path):
    prove(GateSpec(Gate(alerts=3)), depth=1, workdir=tmp_path)


def test_from_any_state_that_is_none_it_closes(tmp_path):
    prove(NoState(Gate(alerts=3)), depth=1, workdir=tmp_path / "now", mode="settle")
    prove(AnyState(Gate(alerts=3)), depth=2, workdir=tmp_path / "next", mode="settle")


@pytest.mark.slow
def test_torques_do_pass(tmp_path):
    prove(GateCovers(Gate(joints=2, alerts=1)), depth=12, workdir=tmp_path, mode="cover")


BUGS = [
    (GateSpec, "OPEN.value) & enabled & quiet", "OPEN.value) & enabled", "open|link: held"),
    (GateSpec, "self.seen_a & self.seen_b &", "self.seen_a &", "READY|open"),
    (GateSpec, "ready & self.energise_a & self.energise_b", "ready & self.energise_a", "open"),
    (GateSpec, "& self.alert_n.all()", "", "READY|open"),
    (GateSpec, "self.enable_p & ~self.enable_n", "self.enable_p", "open|CLOSED"),
    (GateSpec, "with m.If(disabled & quiet):", "with m.If(quiet):", "READY"),
    (GateSpec, "(self.key == OPEN_KEY) & ", "", "OPEN"),
    (GateSpec, "& self.is_open.replicate(len(self.held.as_value()))", "", "zeros"),
    (GateSpec, "with m.If(~ready):", "with m.If(0):", "held|zeros"),
    (AnyState, "m.Default():\n                m.d.sync += self.state.eq(GateState.CLOSED)",
     "m.Default():\n                pass", "CLOSED"),
    (NoState, "(self.state == GateState.OPEN.value)", "self.state[9]", "nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "old", "new", "found"), first_is_fast(BUGS))
def test_planted_bugs_are_found(tmp_path, spec, old, new, found):
    mode = {
        GateSpec: {"depth": 1},
        NoState: {"depth": 1, "mode": "settle"},
        AnyState: {"depth": 2, "mode": "settle"},
    }[spec]
    with pytest.raises(ProofError, match=found):
        prove(spec(mutant(Gate, old, new)(joints=2, alerts=1)), workdir=tmp_path, **mode)
