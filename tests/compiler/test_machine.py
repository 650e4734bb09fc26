import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa_r_sim.compiler.machine import Access, Bank, Machine, Window

WORDS = 6
MEMORIES = ("a", "b")


def access(memory, words, first, last, *, write):
    make = lambda values: np.array(values, np.int64)
    return Access(memory, make(words), make(first), make(last), write=write)


def machine():
    return Machine({name: Bank.of(WORDS) for name in MEMORIES})


class Brute:
    """Which accesses there were in each cycle; asks each cycle whether an operation may start."""

    def __init__(self):
        self.done = []
        self.ports = {}
        #: Words whose contents came from memory.
        self.loaded = set()

    def allowed(self, accesses, windows, start, transfer):
        for new in accesses:
            for word, first in zip(new.words, new.first, strict=True):
                place = new.memory, word
                for other, end, write, came in self.done:
                    if other != place:
                        continue
                    if write and not new.write:
                        # What came from memory must be there when the operation starts.
                        if end >= start + (min(first, 1) if place in self.loaded else first):
                            return False
                    elif write:
                        if end >= start + first and not (came and transfer):
                            return False
                    elif new.write and end >= start + first:
                        return False
        for window in windows:
            for cycle in range(start + window.begin, start + window.end):
                if self.ports.get((window.port, cycle), {window.owner}) - {window.owner}:
                    return False
        return True

    def commit(self, accesses, windows, start, transfer):
        # Reads see what was there before.
        for new in sorted(accesses, key=lambda new: new.write):
            for word, last in zip(new.words, new.last, strict=True):
                place = new.memory, word
                self.done.append((place, start + last, new.write, transfer and new.write))
                if new.write:
                    (self.loaded.add if transfer else self.loaded.discard)(place)
        for window in windows:
            for cycle in range(start + window.begin, start + window.end):
                self.ports.setdefault((window.port, cycle), set()).add(window.owner)


def random_operation(rng, transfer, lengths):
    accesses = []
    for _ in range(1 if transfer else rng.randint(0, 3)):
        count = rng.randint(1, 3)
        words = rng.sample(range(WORDS), count)
        first = [1] * count if transfer else [rng.randint(1, 5) for _ in words]
        last = [f + rng.randint(0, 4) for f in first]
        write = transfer or rng.random() < 0.5
        accesses.append(access(rng.choice(MEMORIES), words, first, last, write=write))
    owner = "reader" if transfer else rng.choice(["lanes", "array"])
    windows = []
    for port in rng.sample(["p", "q", "r"], rng.randint(0, 2)):
        begin = rng.randint(0, 4)
        windows.append(Window(port, owner, begin, begin + lengths[owner]))
    return accesses, windows


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1 << 30))
def test_operations_start_in_the_first_cycle_that_harms_nothing(seed):
    rng = random.Random(seed)
    made, brute = machine(), Brute()
    lengths = {owner: rng.randint(1, 4) for owner in ("reader", "lanes", "array")}
    earliest = {}
    transfers = 0
    for _ in range(25):
        transfer = rng.random() < 0.3
        accesses, windows = random_operation(rng, transfer, lengths)
        owner = "reader" if transfer else windows[0].owner if windows else None
        start = max(earliest.get(owner, 0), rng.randint(0, 10))
        found = made.earliest(accesses, windows, start, transfer=transfer)
        expected = next(
            s for s in range(start, start + 1000) if brute.allowed(accesses, windows, s, transfer)
        )
        assert found == expected
        made.commit(accesses, windows, found, transfers if transfer else -1)
        transfers += transfer
        brute.commit(accesses, windows, found, transfer)
        earliest[owner] = found + 8


def test_the_transfer_that_is_needed_is_the_last_one_of_its_words():
    made = machine()
    for number, words in enumerate(([0, 1], [1, 2], [3])):
        made.commit([access("a", words, [1] * len(words), [9] * len(words), write=True)], [],
                    10 * number, number)  # fmt: skip
    read = lambda words: [access("a", words, [50] * len(words), [50] * len(words), write=False)]
    assert made.commit(read([0]), [], 100) == 0
    assert made.commit(read([0, 1]), [], 100) == 1
    assert made.commit(read([1, 2, 3]), [], 100) == 2
    assert made.commit(read([4]), [], 100) == -1
    # A result over it asks for nothing any more.
    made.commit([access("a", [3], [1], [1], write=True)], [], 200)
    assert made.commit(read([3]), [], 300) == -1


def test_nobody_waits_for_himself():
    made = machine()
    made.commit([], [Window("p", "lanes", 1, 9)], 0)
    assert made.earliest([], [Window("p", "lanes", 1, 5)], 0) == 0
    assert made.earliest([], [Window("p", "array", 1, 5)], 0) == 8
    assert made.earliest([], [Window("q", "array", 1, 5)], 0) == 0
    made.commit([], [Window("p", "array", 1, 5)], 8)
    # Between two that are taken, there must be room.
    made.commit([], [Window("p", "lanes", 0, 4)], 20)
    assert made.earliest([], [Window("p", "mover", 0, 7)], 0) == 13
    assert made.earliest([], [Window("p", "mover", 0, 8)], 0) == 24


def test_what_is_over_may_be_forgotten():
    made = machine()
    for start in (0, 20, 40):
        made.commit([], [Window("p", "lanes", 0, 10)], start)
    made.forget(25)
    assert made.earliest([], [Window("p", "array", 0, 5)], 25) == 30
    assert made.earliest([], [Window("p", "array", 0, 15)], 25) == 50
    assert made._taken == {"p": {"lanes": [(20, 30, 20), (40, 50, 40)]}}


@pytest.mark.parametrize("late", [1, 4])
def test_what_came_from_memory_is_there_at_the_start(late):
    made = machine()
    made.commit([access("a", [0], [1], [30], write=True)], [], 0, transfer=0)
    made.commit([access("a", [1], [1], [30], write=True)], [], 0)
    assert made.earliest([access("a", [0], [late], [late], write=False)], [], 0) == 30
    assert made.earliest([access("a", [1], [late], [late], write=False)], [], 0) == 31 - late
