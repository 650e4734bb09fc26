# amaranth: UnusedElaboratable=no
"""Bits are inverted in one store, on purpose, in the self test alone; what is found is counted."""

import random

import pytest

from jepa_r.safety.memory_test import MemoryTest
from jepa_r_sim.formal import mutant

from .cycles import play

MEMORIES, FOUND = ("code", "data"), ("corrected", "uncorrectable")
COUNTS = [f"{memory}_{found}" for memory in MEMORIES for found in FOUND]
OUTPUTS = ["mask", "expected", "sweeps", *(f"{name}_all" for name in COUNTS)]
TEST = {"selftest": 1}


def run(cycles, *, sweep_cycles=8, cls=MemoryTest):
    return play(cls(sweep_cycles=sweep_cycles), cycles, OUTPUTS)


def asked(first, second=0, *, count):
    """The word of an injection, in the self test."""
    return TEST | {"inject": 1, "word": first | second << 8 | count << 16}


def masks(cycles):
    return [got["mask"] for got in run(cycles)]


@pytest.mark.parametrize("bit", [0, 1, 31, 32, 38])
def test_one_bit_is_inverted_until_the_next_store(bit):
    cycles = [asked(bit, 5, count=1), TEST, TEST | {"store": 1}, TEST]
    assert masks(cycles) == [0, 1 << bit, 1 << bit, 0, 0]
    assert not any(got["expected"] for got in run(cycles))


@pytest.mark.parametrize(("first", "second"), [(0, 38), (38, 37), (7, 6)])
def test_two_bits_are_inverted_and_what_follows_is_expected(first, second):
    seen = run([asked(first, second, count=2), TEST | {"store": 1}, TEST, TEST])
    assert [got["mask"] for got in seen] == [0, 1 << first | 1 << second, 0, 0, 0]
    # The word is read when the store is long over.
    assert [got["expected"] for got in seen] == [0, 1, 1, 1, 1]


@pytest.mark.parametrize("count", [0, 3])
def test_any_other_number_of_bits_inverts_nothing_and_takes_back(count):
    cycles = [asked(3, 4, count=2), asked(3, 4, count=count), TEST | {"store": 1}, TEST]
    seen = run(cycles)
    assert [got["mask"] for got in seen][2:] == [0, 0, 0]
    assert [got["expected"] for got in seen] == [0, 1, 0, 0, 0]


def test_the_last_injection_counts_also_in_the_cycle_of_a_store():
    cycles = [asked(3, count=1), asked(4, count=1) | {"store": 1}, TEST | {"store": 1}, TEST]
    assert masks(cycles) == [0, 1 << 3, 1 << 4, 0, 0]


def test_outside_of_the_self_test_nothing_is_inverted_or_expected():
    """Nor is it later, when the self test begins again."""
    outside = asked(3, 4, count=2) | {"selftest": 0}
    for cycles in (
        [outside, TEST, TEST],
        [asked(3, 4, count=2), {}, TEST, TEST],
        [asked(3, 4, count=2), {"store": 1}, TEST],
    ):
        seen = run(cycles)
        assert [got["mask"] for got in seen] == [0] * len(seen)
        assert not any(got["expected"] for got in seen[2:])


def test_a_bit_that_a_code_word_does_not_have_inverts_nothing():
    assert masks([asked(39, count=1), TEST]) == [0, 0, 0]


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("found", FOUND)
def test_what_a_load_finds_is_counted_for_its_memory(memory, found):
    cycles = [{f"of_{memory}": 1}, {found: 1}, {found: 1}, {f"of_{memory}": 1, found: 1}, {}, {}]
    # The second and third are of no load's answer: the answer comes a cycle after the load.
    counts = [got[f"{memory}_{found}_all"] for got in run(cycles)]
    assert counts == [0, 0, 1, 1, 1, 1, 1]
    for other in set(COUNTS) - {f"{memory}_{found}"}:
        assert not any(got[f"{other}_all"] for got in run(cycles))


def test_counts_of_loads_and_of_scrubbers_add_up_to_65535_at_most():
    found = [{"of_data": 1}, *[{"of_data": 1, "corrected": 1}] * 3]
    cycles = [*found, {}, *({"data_corrected": n} for n in (0, 10, 65532, 65533, 65535))]
    counts = [got["data_corrected_all"] for got in run(cycles)][5:10]
    assert counts == [3, 13, 65535, 65535, 65535]


@pytest.mark.parametrize("sweep_cycles", [2, 3, 8])
def test_sweeps_are_counted_as_they_end(sweep_cycles):
    cycles = 5 * sweep_cycles + 1
    seen = run([{}] * cycles, sweep_cycles=sweep_cycles)
    assert [got["sweeps"] for got in seen] == [n // sweep_cycles for n in range(cycles + 1)]


def following(state, given):
    """What the next cycle begins with: armed bits, whether two were asked for, counts."""
    mask, two, loaded, counts = state
    get = given.get
    if get("inject"):
        number = given["word"] >> 16 & 3
        bits = {1 << (given["word"] & 63), 1 << (given["word"] >> 8 & 63)}
        first = 1 << (given["word"] & 63)
        mask = {1: first, 2: sum(bits)}.get(number, 0)
        two = number == 2
    elif get("store"):
        mask = 0
    if not get("selftest"):
        mask, two = 0, False
    counts = dict(counts)
    for memory in loaded:
        for found in FOUND:
            if get(found):
                counts[f"{memory}_{found}"] += 1
    return mask, two, [name for name in MEMORIES if get(f"of_{name}")], counts


def compare(cls, seed):
    """A thousand random cycles are as the rules above say."""
    rng, state = random.Random(seed), (0, False, [], dict.fromkeys(COUNTS, 0))
    cycles, expected = [], []
    for _ in range(1000):
        first, second = rng.sample(range(64), 2)
        given = {
            "selftest": rng.random() < 0.95, "inject": rng.random() < 0.3,
            "word": first | second << 8 | rng.randrange(4) << 16, "store": rng.random() < 0.3,
            **{name: rng.randrange(2) for name in ("of_code", "of_data", *FOUND)},
            **{name: rng.choice([0, 1, 200]) for name in COUNTS},
        }  # fmt: skip
        cycles.append(given)
        mask, two, _, counts = state
        expected.append(
            {"mask": (mask if given["selftest"] else 0) & (1 << 39) - 1, "expected": two}
            | {f"{name}_all": counts[name] + given[name] for name in COUNTS}
            | {"sweeps": len(expected) // 8}
        )
        state = following(state, given)
    for n, (got, want) in enumerate(zip(run(cycles, cls=cls), expected, strict=False)):
        assert got == want, f"cycle {n}"


@pytest.mark.parametrize("seed", range(2))
def test_random_cycles_are_as_the_rules_say(seed):
    compare(MemoryTest, seed)


BUGS = {
    "outside of the self test, too": ("armed & self.selftest", "armed"),
    "armed through the end of the self test": ("[armed.eq(0), twice.eq(0)]", "twice.eq(0)"),
    "three bits are two": ("== 1) | (self.word[16:18] == 2)", "== 1) | self.word[17]"),
    "armed for ever": ("with m.Elif(self.store):", "with m.Elif(0):"),
    "a load of either memory": ("came[n] & getattr", "came.any() & getattr"),
    "the answer of this cycle's load": ("m.d.sync += came.eq", "m.d.comb += came.eq"),
    "a sweep too long": ("with m.If(left == 0):", "with m.If(left == self._sweep_cycles - 2):"),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug):
    with pytest.raises(AssertionError, match=r"^cycle \d+\n"):
        compare(mutant(MemoryTest, *BUGS[bug]), 0)


def test_a_sweep_of_one_cycle_is_refused():
    with pytest.raises(ValueError, match=r"^sweep_cycles is 1; it must be at least 2$"):
        MemoryTest(sweep_cycles=1)
