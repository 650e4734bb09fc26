import numpy as np
import pytest

from jepa_r_sim.golden.threefry import threefry

#: Known answers of the authors' own library, Random123: key, counter, words.
ANSWERS = [
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
]


@pytest.mark.parametrize(("key", "counter", "words"), ANSWERS)
def test_known_answers(key, counter, words):
    assert tuple(int(word) for word in threefry(key, counter)) == words


def test_counters_broadcast():
    first, second = threefry((1, 2), (np.arange(3)[:, None], np.arange(4)))
    assert first.shape == second.shape == (3, 4)
    for n in range(3):
        for k in range(4):
            assert threefry((1, 2), (n, k)) == (first[n, k], second[n, k])
