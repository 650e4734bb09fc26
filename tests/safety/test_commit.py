"""Torques count once, in order, and only with the inverse of their number."""

import pytest

from jepa_r.safety.commit import TorqueCommit
from jepa_r_sim.formal import mutant

from .cycles import play

OUTPUTS = ["valid", "wrong"]


def word(number, *, inverse=None):
    """A commit's word."""
    return number | ((~number if inverse is None else inverse) & 0xFFFF) << 16


def commits(*words):
    return [{"commit": 1, "word": each} for each in words]


def run(cycles, cls=TorqueCommit):
    """Whether torques are taken, and whether a commit was ever wrong, in each cycle."""
    return [(got["valid"], got["wrong"]) for got in play(cls(), [*cycles, {}], OUTPUTS)][:-1]


def test_numbers_count_up_from_one_and_each_counts_once():
    assert run(commits(*map(word, range(1, 6)))) == [*[(1, 0)] * 5, (0, 0)]


def test_commits_may_be_apart():
    cycles = [{}, *commits(word(1)), {}, {}, *commits(word(2))]
    assert [taken for taken, _ in run(cycles)] == [0, 1, 0, 0, 1, 0]


def test_a_word_without_a_commit_is_nothing():
    assert run([{"word": word(1)}, {"word": word(7)}, *commits(word(1))])[-2:] == [(1, 0), (0, 0)]


@pytest.mark.parametrize(
    "wrong",
    [
        word(0), word(1), word(3), word(2 + (1 << 15)), word(2, inverse=2), word(2, inverse=0),
        *(word(2) ^ 1 << bit for bit in range(32)),
    ],
)  # fmt: skip
def test_a_wrong_one_is_not_taken_and_stays_known_and_the_next_is_still_due(wrong):
    seen = run(commits(word(1), wrong, word(2), word(3)))
    assert seen == [(1, 0), (0, 0), (1, 1), (1, 1), (0, 1)]


@pytest.mark.slow
def test_the_number_begins_again_after_65535():
    words = [word(number & 0xFFFF) for number in range(1, (1 << 16) + 2)]
    assert {*run(commits(*words))[:-1]} == {(1, 0)}


BUGS = {
    "any inverse is good": ("self.word == Cat(due, ~due)", "self.word[:16] == due"),
    "a wrong one is counted": ("with m.If(self.valid):", "with m.If(self.commit):"),
    "a wrong one is forgotten": ("self.wrong.eq(1)", "self.wrong.eq(0)"),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug):
    seen = run(commits(word(1), word(2, inverse=0), word(2)), mutant(TorqueCommit, *BUGS[bug]))
    assert seen != [(1, 0), (0, 0), (1, 1), (0, 1)]
