"""The mutation score: what a specification says nothing about goes unnoticed, and nothing else."""

import pytest
from amaranth import *
from amaranth.hdl import Assert
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from jepa_r.safety.watchdog import Watchdog
from jepa_r_sim.formal import ProofError
from jepa_r_sim.mutation import score

from .specs import Spec
from .test_watchdog import WatchdogSpec


class Pair(wiring.Component):
    """Two functions of two numbers."""

    a: In(4)
    b: In(4)
    both: Out(4)
    either: Out(4)

    def elaborate(self, platform):
        m = Module()
        m.d.comb += [self.both.eq(self.a & self.b), self.either.eq(self.a | self.b)]
        return m


class Half(Spec):
    """Says what the first function is."""

    def specify(self, m, dut):
        m.d.comb += [
            Assert(both == (a & b), "both")
            for both, a, b in zip(dut.both, dut.a, dut.b, strict=True)
        ]


class Whole(Half):
    """Says what both are."""

    def specify(self, m, dut):
        super().specify(m, dut)
        m.d.comb += Assert(~dut.either == (~dut.a & ~dut.b), "either")


class Wrong(Half):
    """Says what is not so."""

    def specify(self, m, dut):
        m.d.comb += Assert(dut.both == dut.either, "wrong")


def test_what_is_said_is_noticed_and_nothing_else(tmp_path):
    whole = score(Whole(Pair()), count=12, workdir=tmp_path / "whole")
    half = score(Half(Pair()), count=12, workdir=tmp_path / "half")
    assert whole.noticed == len(whole.mutants) == 12
    # Cells are numbered: the second one makes `either`, of which only `Whole` speaks.
    unnoticed = [one.verdict == "unnoticed" for one in half.mutants]
    assert unnoticed == ["dut.$2 " in one.change for one in half.mutants]
    assert 0 < half.noticed < 12


def test_what_does_not_hold_has_no_score(tmp_path):
    with pytest.raises(ProofError, match=r"^without a mutation the proof is violated; see "):
        score(Wrong(Pair()), count=3, workdir=tmp_path)


@pytest.mark.parametrize("count", [0, 4096])
def test_counts_that_cannot_be_are_refused(tmp_path, count):
    with pytest.raises(ValueError, match=rf"^count is {count}; it must be from 1 to 4095$"):
        score(Half(Pair()), count=count, workdir=tmp_path)


@pytest.mark.slow
def test_the_proof_of_the_watchdog_lets_no_real_mutant_through(tmp_path):
    """Two of the sixty are no change: a carry that is cut off, and an OR of a bit and its twin.

    Every output of the watchdog is asserted in every cycle, so what goes unnoticed is equal.
    """
    result = score(WatchdogSpec(Watchdog()), count=60, workdir=tmp_path)
    assert (result.noticed, result.count("unknown")) == (58, 0)
    places = [
        ("-mode inv", "-port Y -portbit 24", "watchdog.py"),
        ("-mode cnot1", "-port A -portbit 0 -ctrlbit 1", "faults.py"),
    ]
    unnoticed = [one.change for one in result.mutants if one.verdict == "unnoticed"]
    for place in places:
        assert any(all(part in change for part in place) for change in unnoticed)
