"""Mutation score of a proof: what share of small changes of a component it notices.

``mutate`` of yosys makes the changes: a cell's input is inverted, tied, or swapped. All are in one
compiled model, and a selector says which one is alive. For each one the solver is asked whether
every assertion still holds in the first cycles, and by induction: two short questions to a solver
that has already read the model, so that hundreds of mutants take less than a minute.

A mutant that is not noticed is either the same component, or shows a gap in the specification. If
the specification says of every output what it is in every cycle, it is the same component: outputs
are proved equal to the model's for the original and for the mutant.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from amaranth.hdl import Elaboratable
from attrs import frozen

from .formal import ProofError, lower, run_tool

__all__ = ["Mutant", "Score", "score"]

#: Selector: wider than any list of mutants.
_WIDTH = 12

# Without `opt` before the list: it would let component and model share cells, and a change of both
# shows nothing. Cells of the component have its name, `dut`, in theirs.
_LIST = """\
read_rtlil spec.il
hierarchy -top spec
proc
flatten
async2sync
formalff -clk2ff -ff2anyinit
chformal -lower
chformal -cover -remove
select -set dut spec/c:*dut.*
mutate -list {count} -seed {seed} -ctrl mutsel {width} 1 -o mutants.txt @dut
script mutants.txt
opt -fast
write_smt2 -wires spec.smt2
"""


@frozen(kw_only=True)
class Mutant:
    """A change, and what became of it.

    Attributes
    ----------
    change : :class:`str`
        Command of yosys that makes it.
    verdict : :class:`str`
        ``"violated"``: an assertion fails in a cycle that can be reached. ``"unproved"``: the
        induction fails. ``"unnoticed"``: the proof still goes through. ``"unknown"``: the solver
        did not say.
    """

    change: str
    verdict: str


@frozen(kw_only=True)
class Score:
    """Mutants of a component in its specification."""

    mutants: tuple[Mutant, ...]

    def count(self, verdict: str) -> int:
        """Mutants with a verdict."""
        return sum(mutant.verdict == verdict for mutant in self.mutants)

    @property
    def noticed(self) -> int:
        """Mutants that the proof does not let through."""
        return self.count("violated") + self.count("unproved")


def score(
    spec: Elaboratable,
    *,
    count: int,
    workdir: Path,
    seed: int = 1,
    depth: int = 1,
    timeout_seconds: int = 3600,
) -> Score:
    """Mutate the submodule ``dut`` of a specification, and ask its proof about each mutant.

    Parameters
    ----------
    spec
        Specification, as for :func:`~.formal.prove`, with the component as ``dut``.
    count
        Mutants, evenly spread over its cells.
    workdir
        Where model, questions and answers are left.
    seed
        Which ones.
    depth
        Cycles of the induction.
    timeout_seconds
        What base case and induction of all mutants may take, each.

    Raises
    ------
    ProofError
        If the proof does not go through without a mutation.
    """
    if not 1 <= count < 1 << _WIDTH:
        raise ValueError(f"count is {count}; it must be from 1 to {(1 << _WIDTH) - 1}")
    workdir.mkdir(parents=True, exist_ok=True)
    lower(spec, workdir=workdir, script=_LIST.format(count=count, seed=seed, width=_WIDTH))
    changes = (workdir / "mutants.txt").read_text().splitlines()
    model = (workdir / "spec.smt2").read_text()
    answers = {
        stage: _ask(model, lines, mutants=len(changes), stage=stage, workdir=workdir,
                    timeout_seconds=timeout_seconds)
        for stage, lines in {"base": _base(depth), "induction": _induction(depth)}.items()
    }  # fmt: skip
    verdicts = [_verdict(*pair) for pair in zip(answers["base"], answers["induction"], strict=True)]
    if verdicts[0] != "unnoticed":
        raise ProofError(f"without a mutation the proof is {verdicts[0]}; see {workdir}")
    return Score(
        mutants=tuple(
            Mutant(change=change, verdict=verdict)
            for change, verdict in zip(changes, verdicts[1:], strict=True)
        )
    )


def _verdict(base: str, induction: str) -> str:
    if base == "sat":
        return "violated"
    if induction == "sat":
        return "unproved"
    return "unnoticed" if (base, induction) == ("unsat", "unsat") else "unknown"


def _states(count: int) -> list[str]:
    """States s0, s1 ... that follow each other and keep the assumptions."""
    lines = []
    for n in range(count):
        lines += [
            f"(declare-fun s{n} () |spec_s|)",
            f"(assert (|spec_u| s{n}))",
            f"(assert (|spec_h| s{n}))",
        ]
        if n:
            lines.append(f"(assert (|spec_t| s{n - 1} s{n}))")
    return lines


def _base(depth: int) -> list[str]:
    """From the initial state an assertion fails within ``depth`` cycles."""
    fails = " ".join(f"(not (|spec_a| s{n}))" for n in range(depth))
    first = ["(assert (|spec_i| s0))", "(assert (|spec_is| s0))"]
    later = [f"(assert (not (|spec_is| s{n})))" for n in range(1, depth)]
    return [*_states(depth), *first, *later, f"(assert (or false {fails}))"]


def _induction(depth: int) -> list[str]:
    """After ``depth`` cycles in which all assertions hold, one fails."""
    hold = [f"(assert (|spec_a| s{n}))" for n in range(depth)]
    later = [f"(assert (not (|spec_is| s{n})))" for n in range(depth + 1)]
    return [*_states(depth + 1), *hold, *later, f"(assert (not (|spec_a| s{depth})))"]


def _ask(
    model: str,
    lines: Sequence[str],
    *,
    mutants: int,
    stage: str,
    workdir: Path,
    timeout_seconds: int,
) -> list[str]:
    """Answers of the solver for the original and for each mutant."""
    questions = [model, *lines]
    states = sum(line.startswith("(declare-fun s") for line in lines)
    for mutant in range(mutants + 1):
        chosen = [
            f"(assert (= (|spec_n mutsel| s{n}) #b{mutant:0{_WIDTH}b}))" for n in range(states)
        ]
        # The tactic works on bits; z3's own choice in a dialogue takes five times as long.
        questions += ["(push 1)", *chosen, "(check-sat-using qfufbv)", "(pop 1)"]
    (workdir / f"{stage}.smt2").write_text("\n".join(questions) + "\n")
    log = run_tool(
        ["z3", f"{stage}.smt2"],
        workdir=workdir,
        log=f"{stage}.log",
        timeout_seconds=timeout_seconds,
    )
    if errors := re.findall(r"^\(error .*", log, re.M):
        raise ProofError(f"z3: {errors[0]}; its log is {workdir / f'{stage}.log'}")
    answers = re.findall(r"^(sat|unsat|unknown)$", log, re.M)
    # What it did not come to, because it was ended, is not known.
    return answers + ["unknown"] * (mutants + 1 - len(answers))
