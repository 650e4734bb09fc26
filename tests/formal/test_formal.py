"""The prover: what holds passes, and what does not is named."""

import pytest
from amaranth import *
from amaranth.asserts import AnyConst
from amaranth.hdl import Assert, Assume, Cover
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from jepa_r_sim.formal import ProofError, free_inputs, mutant, prove


class Saturating(wiring.Component):
    """Counter of 8 bits that stays at 100."""

    up: In(1)
    count: Out(8)

    def elaborate(self, platform):
        m = Module()
        with m.If(self.up & (self.count < 100)):
            m.d.sync += self.count.eq(self.count + 1)
        return m


class Falling(Saturating):
    """Counter that goes back to 7 from 100 and above."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        with m.If(self.count >= 100):
            m.d.sync += self.count.eq(7)
        return m


class Spec(Elaboratable):
    """Statements about a counter, each a function of it."""

    def __init__(self, *statements, dut=Saturating):
        self._statements = statements
        self._dut = dut

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = self._dut()
        free_inputs(m, dut)
        m.d.comb += [statement(dut) for statement in self._statements]
        return m


def bounded(dut):
    return Assert(dut.count <= 100, "count: stays at 100")


@pytest.mark.parametrize("solver", ["z3", pytest.param("boolector", marks=pytest.mark.slow)])
def test_what_holds_is_proved(tmp_path, solver):
    proof = prove(Spec(bounded), depth=1, workdir=tmp_path, solver=solver)
    assert (proof.mode, proof.depth) == ("prove", 1)
    assert proof.properties == ("count: stays at 100",)
    assert proof.seconds > 0


@pytest.mark.parametrize("solver", ["z3", pytest.param("boolector", marks=pytest.mark.slow)])
def test_a_counterexample_is_named(tmp_path, solver):
    wrong = Spec(bounded, lambda dut: Assert(dut.count != 3, "never 3"))
    with pytest.raises(ProofError, match=r"^'never 3' \(test_formal\.py:\d+\) fails in cycle 3; "):
        prove(wrong, depth=5, workdir=tmp_path, solver=solver)
    with pytest.raises(ProofError) as caught:
        prove(wrong, depth=5, workdir=tmp_path, solver=solver, mode="bmc")
    assert caught.value.properties == ("never 3",)
    assert caught.value.trace.stat().st_size


def test_what_holds_but_needs_an_invariant_is_not_called_proved(tmp_path):
    """Steps of two never lead to 51, but induction begins at 49."""
    by_two = mutant(Saturating, "self.count " + "+ 1", "self.count + 2")
    spec = Spec(lambda dut: Assert(dut.count != 51, "never 51"), dut=by_two)
    with pytest.raises(ProofError, match=r"'never 51' .* fails after 2 cycles .*induction\.vcd"):
        prove(spec, depth=2, workdir=tmp_path)


def test_bounded_proofs_look_no_further(tmp_path):
    late = Spec(lambda dut: Assert(dut.count != 5, "never 5"))
    assert prove(late, depth=5, workdir=tmp_path, mode="bmc").mode == "bmc"
    with pytest.raises(ProofError, match="never 5"):
        prove(late, depth=6, workdir=tmp_path, mode="bmc")


def test_from_any_state_only_the_last_cycle_counts(tmp_path):
    """An up counter that is above 100 stays there; one that falls back is below after a cycle."""
    with pytest.raises(ProofError, match="stays at 100"):
        prove(Spec(bounded), depth=2, workdir=tmp_path, mode="settle")
    proof = prove(Spec(bounded, dut=Falling), depth=2, workdir=tmp_path, mode="settle")
    assert proof.mode == "settle"


def test_every_cover_must_be_reached(tmp_path):
    near, far = ((lambda dut, n=n: Cover(dut.count == n, f"count is {n}")) for n in (4, 101))
    assert prove(Spec(near), depth=5, workdir=tmp_path, mode="cover").properties == ("count is 4",)
    with pytest.raises(ProofError, match=r"^not reached: count is 101; ") as caught:
        prove(Spec(near, far), depth=5, workdir=tmp_path, mode="cover")
    assert caught.value.properties == ("count is 101",)


def test_assumptions_that_contradict_each_other_prove_nothing(tmp_path):
    empty = Spec(bounded, lambda dut: Assume(dut.up), lambda dut: Assume(~dut.up))
    with pytest.raises(ProofError, match=r"^the assumptions contradict each other; "):
        prove(empty, depth=2, workdir=tmp_path)


def test_a_specification_without_properties_proves_nothing(tmp_path):
    with pytest.raises(ProofError, match=r"^the specification has nothing to assert$"):
        prove(Spec(lambda dut: Cover(dut.up)), depth=2, workdir=tmp_path)
    with pytest.raises(ProofError, match=r"^the specification has nothing to cover$"):
        prove(Spec(bounded), depth=2, workdir=tmp_path, mode="cover")


class Product(Elaboratable):
    """A claim that no solver settles in a second."""

    def elaborate(self, platform):
        m = Module()
        a, b = Signal(48), Signal(48)
        m.d.comb += [a.eq(AnyConst(48)), b.eq(AnyConst(48))]
        m.d.comb += Assert((a * b)[:64] != 0x123456789ABCDEF1, "product")
        return m


def test_no_answer_is_no_proof(tmp_path):
    with pytest.raises(ProofError, match=r"^the solver gave no answer; the log is .*base\.log$"):
        prove(Product(), depth=1, workdir=tmp_path, timeout_seconds=1)


def test_mutants_differ_in_one_place(tmp_path):
    # In two pieces, so that it is in this file once.
    wrong = mutant(Saturating, "self.count " + "< 100", "self.count < 101")
    with pytest.raises(ProofError, match="stays at 100"):
        prove(Spec(bounded, dut=wrong), depth=1, workdir=tmp_path)
    with pytest.raises(ValueError, match=r"has 'Saturating' \d+ times; it must be there once$"):
        mutant(Saturating, "Saturating", "Other")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 0}, "depth is 0; it must be at least 1"),
        ({"mode": "live"}, "mode is 'live'; it must be one of prove, bmc, settle, cover"),
        ({"solver": "yices"}, "solver is 'yices'; it must be one of z3, boolector"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        prove(Spec(bounded), **({"depth": 1, "workdir": tmp_path} | change))
