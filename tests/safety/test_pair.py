"""The pair on real programs; and F7: bits that flip where both cores are told the same."""

import random

import pytest

from jepa_r.safety.lockstep import Lockstep
from jepa_r.safety.replica import Replica
from jepa_r_sim.formal import mutant

from .pair import Pair

DATA, STOP = 0x1_0000, 0x1_1FFC

#: Two cores take most of a minute to compile.
pytestmark = pytest.mark.slow

#: No read has this number: nothing is falsified.
NEVER = 1 << 40


def r(f7, f3, rd, rs1, rs2):
    return f7 << 25 | rs2 << 20 | rs1 << 15 | f3 << 12 | rd << 7 | 0x33


def i(value, f3, rd, rs1, opcode=0x13):
    return (value & 0xFFF) << 20 | rs1 << 15 | f3 << 12 | rd << 7 | opcode


def s(value, f3, rs2, rs1):
    return (value >> 5 & 0x7F) << 25 | rs2 << 20 | rs1 << 15 | f3 << 12 | (value & 31) << 7 | 0x23


def bne(value, rs1, rs2):
    field = (value >> 12 & 1) << 31 | (value >> 5 & 0x3F) << 25
    return field | rs2 << 20 | rs1 << 15 | 1 << 12 | (value >> 1 & 15) << 8 | \
        (value >> 11 & 1) << 7 | 0x63  # fmt: skip


def lui(value, rd):
    return value << 12 | rd << 7 | 0x37


#: x1: data; x2: counter; x3: a sum of products, stored and loaded again as word, half and byte.
LOOP = [
    lui(DATA >> 12, 1),
    i(12, 0, 2, 0),
    i(0x123, 0, 3, 0),
    r(1, 0, 4, 3, 2),  # loop: mul x4, x3, x2
    r(0, 0, 3, 3, 4),
    s(0, 2, 3, 1),
    i(0, 2, 5, 1, 0x03),
    s(6, 1, 5, 1),
    s(9, 0, 2, 1),
    i(4, 2, 6, 1, 0x03),
    r(1, 5, 7, 5, 2),  # divu
    r(0, 4, 3, 3, 7),
    r(0, 0, 3, 3, 6),
    i(12, 0, 1, 1),
    i(-1, 0, 2, 2),
    bne(-48, 2, 0),
    lui((STOP + 0x1000) >> 12, 8),
    i(1, 6, 3, 3),  # ori: the word that ends the run is not 0
    s(-4, 2, 3, 8),
]
FOREVER = [0x6F]
HANDLER = [lui((STOP + 0x1000) >> 12, 8), i(0x7FF, 0, 9, 0), s(-4, 2, 9, 8), 0x6F]


def program():
    """The loop, and a handler that stops with 0x7FF; mtvec is set first."""
    code = [0] * 64
    code[0] = i(4 * 48, 0, 9, 0)
    code[1] = 0x305 << 20 | 9 << 15 | 1 << 12 | 0x73  # csrrw x0, mtvec, x9
    code[2 : 2 + len(LOOP)] = LOOP
    code[2 + len(LOOP)] = FOREVER[0]
    code[48 : 48 + len(HANDLER)] = HANDLER
    return code


def result():
    """What the loop's last store must be, by arithmetic."""
    x3 = 0x123
    for x2 in range(12, 0, -1):
        x3 = (x3 + x3 * x2) & 0xFFFF_FFFF
        half = x3 & 0xFFFF
        x3 = ((x3 ^ x3 // x2) + (half << 16)) & 0xFFFF_FFFF
    return x3 | 1


@pytest.fixture(scope="module")
def pair():
    return Pair()


@pytest.fixture(scope="module")
def right(pair, tmp_path_factory):
    """The program without a flip."""
    return pair.run(
        program(), [(NEVER, 0, 0)], workdir=tmp_path_factory.mktemp("right"), stop=STOP
    )[0]  # fmt: skip


def test_a_program_runs_on_the_pair_without_an_alert(right):
    assert right.stopped == result()
    assert (right.alert, right.corrected, right.uncorrectable, right.traps) == (0, 0, 0, 0)
    assert right.writes == 3 * 12 + 1


def flips(pair, right, workdir, *, singles, doubles, places):
    """Runs with one read falsified: with one wrong bit, with two, from another address."""
    rng = random.Random(7)
    # What is read last has no time to show; what is read before the vector is set has no handler.
    reads = right.reads - 2
    bits = [(rng.randrange(reads), 1 << rng.randrange(39), 0) for _ in range(singles)]
    plan = [
        *((rng.randrange(2, reads), sum(1 << n for n in rng.sample(range(39), 2)), 0)
          for _ in range(doubles)),
        *((rng.randrange(2, reads), 0, 4 << rng.randrange(15)) for _ in range(places)),
    ]  # fmt: skip
    runs = pair.run(program(), bits + plan, workdir=workdir, stop=STOP)
    return runs[:singles], runs[singles:]


def check_flips(right, corrected, flagged):
    for run in corrected:
        assert (run.corrected, run.uncorrectable, run.alert) == (1, 0, 0)
        assert (run.stopped, run.hash, run.cycles) == (right.stopped, right.hash, right.cycles)
    for run in flagged:
        # The core has a bus error: it goes to its handler, and both cores do.
        assert (run.uncorrectable, run.corrected, run.alert) == (1, 0, 0)
        assert (run.stopped, run.traps) == (0x7FF, 1)


def test_every_bit_that_flips_before_the_split_is_corrected_or_flagged(pair, right, tmp_path):
    """F7: bits of words and addresses, at random reads of a program."""
    counts = {"singles": 2000, "doubles": 500, "places": 500}
    check_flips(right, *flips(pair, right, tmp_path, **counts))


#: What the replica says, what it says with the bug, and what fails then.
BUGS = {
    "a word that is wrong is no bus error": (
        "core.bus_error.eq(error | self.uncorrectable)",
        "core.bus_error.eq(error)",
        r"\(\d+, 0\) == \(2047, 1\)",
    ),
    "the code is not bound to the address": (
        "decoder.address.eq(core.bus_addr)",
        "decoder.address.eq(0), encoder.address.eq(0)",
        r"== \(1, 0, 0\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug, right, monkeypatch, tmp_path):
    old, new, message = BUGS[bug]
    monkeypatch.setitem(Lockstep.__init__.__globals__, "Replica", mutant(Replica, old, new))
    counts = {"singles": 20, "doubles": 10, "places": 10}
    with pytest.raises(AssertionError, match=message):
        check_flips(right, *flips(Pair(), right, tmp_path, **counts))


def test_all_programs_of_riscv_tests_pass_on_the_pair(pair, tmp_path):
    programs = pytest.importorskip("tests.safety.test_riscv_tests")
    for source in programs.PROGRAMS:
        workdir = tmp_path / source.stem
        workdir.mkdir()
        code = programs.image(source, workdir)
        code += bytes(-len(code) % 4)
        words = [int.from_bytes(code[n : n + 4], "little") for n in range(0, len(code), 4)]
        (run,) = pair.run(
            words, [(NEVER, 0, 0)], workdir=workdir, stop=programs.TOHOST, cycles=200_000
        )
        assert (run.stopped, run.alert) == (1, 0), source
        assert run.uncorrectable == 0
