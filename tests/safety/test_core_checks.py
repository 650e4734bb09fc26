# amaranth: UnusedElaboratable=no
"""The instruction checks on the core, and on cores with a planted bug.

All of them: ``./scripts/test --slow tests/safety/test_core_checks.py``.
"""

import pytest

from jepa_r.safety.core import Core
from jepa_r_sim.formal import ProofError, prove
from jepa_r_sim.riscv.checks import (
    GROUPS,
    AlternativeMulDiv,
    AnyRegisters,
    BusChecks,
    InstructionChecks,
    RegisterCheck,
    SequenceChecks,
)

from .bugs import broken


def simpler(cls, *, registers=AnyRegisters):
    """A core with the simpler parts, whatever bug its others have."""
    parts = {"muldiv": AlternativeMulDiv, "register_file": registers}
    return type("Simpler", (cls,), parts)(reset_vector=0x9ABCDEF0, rvfi=True)


def bounded(spec, workdir, *, depth=None):
    depth = spec.DEPTH if depth is None else depth
    return prove(
        spec, depth=depth, workdir=workdir, mode="bmc", solver="boolector", timeout_seconds=3600
    )


def test_there_is_a_check_for_every_instruction():
    names = [name for names in GROUPS.values() for name in names]
    assert len(names) == len(set(names)) == 57


def test_the_first_instruction_adds_compares_or_branches_as_it_must(tmp_path):
    """As many cycles as an instruction from reset on takes, with any operands."""
    names = ["add", "slt", "beq", "lui"]
    proof = bounded(InstructionChecks(names), tmp_path, depth=8)
    assert set(proof.properties) == set(names)


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_every_instruction_of_the_group_does_what_it_must(group, tmp_path):
    proof = bounded(InstructionChecks(GROUPS[group]), tmp_path)
    assert set(proof.properties) == set(GROUPS[group])


@pytest.mark.slow
@pytest.mark.parametrize("check", [SequenceChecks, BusChecks, RegisterCheck])
def test_instructions_follow_each_other_as_they_must(check, tmp_path):
    bounded(check(), tmp_path)


@pytest.mark.parametrize(
    ("bug", "name"),
    [
        ("slt compares as sltu", "slt"),
        pytest.param("beq is taken as blt", "beq", marks=pytest.mark.slow),
        pytest.param("misaligned jumps are taken", "beq", marks=pytest.mark.slow),
        pytest.param("misaligned words are loaded", "lw", marks=pytest.mark.slow),
        pytest.param("a refused store retires", "sw", marks=pytest.mark.slow),
        pytest.param("a byte is merged as a half word", "sb", marks=pytest.mark.slow),
    ],
)
def test_a_planted_bug_breaks_the_check_of_its_instruction(bug, name, tmp_path):
    spec = InstructionChecks([name], simpler(broken(bug)))
    with pytest.raises(ProofError) as caught:
        bounded(spec, tmp_path)
    assert caught.value.properties == (name,)


@pytest.mark.slow
def test_a_register_that_should_be_zero_is_found(tmp_path):
    cls = broken("x0 can be written")
    with pytest.raises(ProofError):
        bounded(RegisterCheck(simpler(cls, registers=cls.register_file)), tmp_path)


def test_the_core_itself_has_its_own_parts():
    assert Core.register_file.__name__ == "RegisterFile"
    assert Core.muldiv.__name__ == "MulDiv"
