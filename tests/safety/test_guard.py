import random

import pytest

from jepa_r.safety.guard import WindowGuard
from jepa_r_sim.golden import guard as golden

from .cycles import play

BASE, LIMIT = 0x8000_0100, 0x8000_2FFF


def set_up(base=BASE, limit=LIMIT):
    return [{"w_en": 1, "w_data": base}, {"w_en": 2, "w_data": limit}, {"lock": 1}]


def answers(bursts, *, base=BASE, limit=LIMIT):
    """What the guard says of each burst."""
    cycles = set_up(base, limit)
    seen = play(WindowGuard(), [*cycles, *bursts], ["allowed"])
    return [got["allowed"] for got in seen[len(cycles) : -1]]


def burst(address, length=0, size=2, kind=1):
    return {"address": address, "length": length, "size": size, "burst": kind}


@pytest.mark.parametrize(
    ("request_", "allowed"),
    [
        (burst(BASE), True),
        (burst(BASE - 1, size=0), False),
        (burst(BASE - 4), False),
        (burst(LIMIT - 3), True),
        (burst(LIMIT, size=0), True),
        (burst(LIMIT + 1, size=0), False),
        (burst(LIMIT - 3, length=1), False),
        (burst(BASE, length=255, size=2), True),
        # A first beat in the middle of a word ends with the word.
        (burst(LIMIT - 1), True),
        (burst(0x8000_1FFC, length=0), True),
        (burst(0x8000_1FFC, length=1), False),
        (burst(0x8000_1000, length=31, size=7), True),
        (burst(0x8000_1000, length=32, size=7), False),
        (burst(0x8000_1080, length=31, size=7), False),
        (burst(BASE, kind=0), False),
        (burst(BASE, kind=2), False),
        (burst(BASE, kind=3), False),
    ],
)
def test_windows_have_sharp_edges(request_, allowed):
    assert answers([request_]) == [allowed]


def test_no_burst_goes_round_the_end_of_the_addresses():
    whole = {"base": 0, "limit": 2**32 - 1}
    assert answers([burst(2**32 - 4)], **whole) == [1]
    assert answers([burst(2**32 - 4, length=1)], **whole) == [0]
    assert answers([burst(0), burst(2**32 - 1, size=0)], **whole) == [1, 1]


def test_a_window_that_ends_before_it_begins_has_no_byte():
    assert answers([burst(0x1000), burst(0xFFC)], base=0x1000, limit=0xFFF) == [0, 0]


def test_nothing_is_allowed_before_the_lock():
    cycles = [*set_up(0, 2**32 - 1)[:2], burst(0), burst(0) | {"lock": 1}, burst(0)]
    assert [got["allowed"] for got in play(WindowGuard(), cycles, ["allowed"])[2:-1]] == [0, 0, 1]


def test_a_refused_burst_and_a_write_after_the_lock_are_faults():
    outputs = ["faults", "alert_p", "alert_n"]
    quiet = play(WindowGuard(), [*set_up(), burst(0)], outputs)[-1]
    assert quiet == {"faults": set(), "alert_p": 0, "alert_n": 1}
    loud = play(WindowGuard(), [*set_up(), burst(0) | {"request": 1}], outputs)[-1]
    assert loud == {"faults": {"outside"}, "alert_p": 1, "alert_n": 0}
    seen = play(WindowGuard(), [*set_up(), {"w_en": 2, "w_data": 5}], ["faults", "limit"])[-1]
    assert seen == {"faults": {"misuse"}, "limit": LIMIT}


@pytest.mark.parametrize("seed", range(3))
def test_each_answer_is_that_of_the_golden_function(seed):
    rng = random.Random(seed)
    base = rng.randrange(2**32 - 2**14)
    window = {"base": base, "limit": base + rng.randrange(2**14)}
    bursts = []
    for _ in range(400):
        edge = rng.choice([*window.values(), (base // 4096 + 1) * 4096])
        size = rng.randrange(8)
        length = rng.choice([0, 1, 3, 15, rng.randrange(256)])
        near = edge + rng.randrange(-((length + 2) << size), 9)
        bursts.append(
            burst(near % 2**32, length, size, rng.choices([1, 0, 2, 3], [40, 1, 1, 1])[0])
        )
    assert answers(bursts, **window) == [golden.allowed(**window, **one) for one in bursts]
    assert 0 < sum(answers(bursts, **window)) < len(bursts)
