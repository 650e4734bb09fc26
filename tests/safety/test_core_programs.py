# amaranth: UnusedElaboratable=no
"""Random programs on the compiled core, instruction by instruction against the golden model."""

from collections import Counter

import pytest

from jepa_r.safety.core import Core
from jepa_r_sim.golden.riscv import Cause
from jepa_r_sim.riscv.compare import DivergenceError, compare
from jepa_r_sim.riscv.programs import random_program
from jepa_r_sim.riscv.trace import TracedCore, Window

from .bugs import BUGS, broken

#: Bugs that are looked for in every run of the tests; the rest takes minutes of compilation.
ORDINARY = ("slt compares as sltu",)
SYNCHRONOUS = [cause for cause in Cause if cause not in (Cause.TIMER, Cause.EXTERNAL)]


def run(core, seeds, workdir, *, instructions):
    """Compare so many instructions of programs; what came about in all of them."""
    traps, interrupts, compared = Counter(), 0, 0
    for seed in seeds:
        program = random_program(seed)
        trace = core.run(
            program.windows, workdir=workdir, limit=instructions, cycles=50 * instructions,
            levels=program.levels,
        )  # fmt: skip
        done = compare(trace, program.windows, program.levels)
        assert done.instructions == instructions
        assert trace.store_gap >= Core.STORE_TO_LOAD
        traps += done.traps
        interrupts += done.interrupts
        compared += done.instructions
    return compared, traps, interrupts


@pytest.fixture(scope="module")
def core():
    return TracedCore()


def test_every_instruction_of_random_programs_is_the_models(core, tmp_path):
    compared, traps, interrupts = run(core, range(4), tmp_path, instructions=3000)
    assert compared == 12_000
    assert all(traps[cause] for cause in SYNCHRONOUS)
    assert interrupts > 20


@pytest.mark.slow
def test_half_a_million_instructions_are_the_models(core, tmp_path):
    compared, traps, interrupts = run(core, range(100, 200), tmp_path, instructions=5000)
    assert compared == 500_000
    assert min(traps[cause] for cause in SYNCHRONOUS) > 100
    assert interrupts > 1000


def test_programs_are_the_same_for_the_same_seed():
    assert random_program(3) == random_program(3)
    assert random_program(3) != random_program(4)


@pytest.mark.parametrize(
    "bug", [pytest.param(bug, marks=[] if bug in ORDINARY else pytest.mark.slow) for bug in BUGS]
)
def test_a_planted_bug_is_found(bug, tmp_path):
    core = TracedCore(broken(bug)(rvfi=True))
    # It diverges, or makes no progress.
    with pytest.raises(AssertionError):
        run(core, range(30), tmp_path, instructions=3000)


@pytest.mark.parametrize("field", ["rd_wdata", "pc_wdata", "mem_wdata", "order", "cycle"])
def test_a_wrong_trace_is_refused(core, tmp_path, field):
    program = random_program(0)
    trace = core.run(program.windows, workdir=tmp_path, limit=1000, levels=program.levels)
    fields = trace.rvfi | {"cycle": trace.cycle}
    # The last store, which has all of the fields.
    stores = [n for n, mask in enumerate(trace.rvfi["mem_wmask"]) if mask == 15]
    fields[field][stores[-1]] ^= 1
    with pytest.raises(DivergenceError, match=rf"^instruction {stores[-1]}, "):
        compare(trace, program.windows, program.levels)


def test_an_interrupt_that_is_not_taken_is_seen(core, tmp_path):
    program = random_program(0)
    trace = core.run(program.windows, workdir=tmp_path, limit=3000, levels=program.levels)
    with pytest.raises(DivergenceError):
        compare(trace, program.windows)


def test_a_run_ends_with_the_store_that_stops_it(core, tmp_path):
    # lui x1, 5; sw x1, 0x400(x0)
    code = (0x000050B7).to_bytes(4, "little") + (0x40102023).to_bytes(4, "little")
    memory = Window(base=0, size=0x1000, contents=code)
    trace = core.run([memory], workdir=tmp_path, stop=0x400, cycles=1000)
    assert (trace.stopped, len(trace.cycle)) == (0x5000, 1)
    assert trace.store_gap is None
