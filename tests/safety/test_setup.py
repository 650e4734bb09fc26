# amaranth: UnusedElaboratable=no
"""Each setting of a block is written once, in order, and then the block is started."""

import pytest

from jepa_r.safety.setup import Setup
from jepa_r_sim.formal import mutant

from .cycles import play

OUTPUTS = ["w_en", "w_data", "start"]


def run(begins, values, *, cycles=None, cls=Setup):
    """What the block gets in each cycle, if ``begin`` is set in those of ``begins``."""
    count = len(values)
    given = [
        {"begin": n in begins, "values": values}
        for n in range(cycles or max(begins, default=0) + count + 4)
    ]
    seen = play(cls(count=count), given, OUTPUTS)
    return [tuple(got[name] for name in OUTPUTS) for got in seen]


def once(values, begin, cycles):
    """What it should get: the settings from the cycle after ``begin`` on."""
    count = len(values)
    expected = [(0, 0, 0)] * cycles
    for n, value in enumerate(values):
        expected[begin + 1 + n] = (1 << n, value, 0)
    # The bit of the start is no write.
    expected[begin + 1 + count] = (0, 0, 1)
    return expected


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("begin", [0, 3])
def test_all_are_written_in_order_and_then_it_starts(count, begin):
    values = [0x1000_0000 * (n + 1) + n for n in range(count)]
    seen = run({begin}, values)
    assert seen == once(values, begin, len(seen))
    assert [n for n, (_, _, start) in enumerate(seen) if start] == [begin + count + 1]


@pytest.mark.parametrize("again", [1, 2, 4, 5, 9])
def test_only_the_first_begin_counts(again):
    """Held, repeated in the middle, in the cycle of the start, or long after it."""
    values = [7, 8, 9]
    seen = run({0, again}, values, cycles=16)
    assert seen == once(values, 0, len(seen))
    assert run(set(range(12)), values, cycles=16) == seen


def test_nothing_is_written_before():
    assert {*run(set(), [7, 8], cycles=10)} == {(0, 0, 0)}


BUGS = {
    "every begin counts": ("self.begin & ~begun", "self.begin"),
    "the first setting is left out": ("Cat(self.begin & ~begun, left)",
                                      "Cat(0, self.begin & ~begun, left[1:])"),
    "it starts with the last write": ("self.start.eq(left[-1])", "self.start.eq(left[-2])"),
    "values in another order": ("self.values[n]", "self.values[-1 - n]"),
}  # fmt: skip


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug):
    values = [7, 8, 9]
    seen = run({0, 2}, values, cls=mutant(Setup, *BUGS[bug]))
    assert seen != once(values, 0, len(seen))


def test_a_block_without_settings_is_refused():
    with pytest.raises(ValueError, match=r"^count is 0; there is at least one setting$"):
        Setup(count=0)
