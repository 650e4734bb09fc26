import itertools
import random

import pytest

from jepa_r.memory.secded import SecdedDecoder, SecdedEncoder, check_bits
from jepa_r_sim.golden.secded import decode, encode

from .pipeline import answers

WIDTHS = [1, 33]


def words_of(width):
    """Every bit alone, all and none, and random words."""
    rng = random.Random(width)
    single = [1 << n for n in range(width)]
    return [0, (1 << width) - 1, *single, *(rng.getrandbits(width) for _ in range(200))]


@pytest.mark.parametrize("width", WIDTHS)
def test_encoder(width, tmp_path):
    words = words_of(width)
    answers(
        tmp_path, SecdedEncoder(width=width), f"secded_encoder_{width}", latency=0,
        operands={"data": words}, results={"code": [encode(word, width) for word in words]},
    )  # fmt: skip


@pytest.mark.parametrize("width", WIDTHS)
def test_decoder(width, tmp_path):
    rng = random.Random(width)
    length = width + check_bits(width)
    codes, data, corrected, uncorrectable = [], [], [], []

    def add(code, word, one, more):
        for values, value in (
            (codes, code), (data, word), (corrected, one), (uncorrectable, more)
        ):  # fmt: skip
            values.append(value)

    for word in words_of(width):
        add(encode(word, width), word, 0, 0)
        first, second = rng.sample(range(length), 2)
        add(encode(word, width) ^ 1 << first, word, 1, 0)
        # Where more than one bit is wrong, only the flag is promised.
        add(encode(word, width) ^ 1 << first ^ 1 << second, None, 0, 1)
        add(anything := rng.getrandbits(length), *decode(anything, width))
    word = rng.getrandbits(width)
    for n in range(length):
        add(encode(word, width) ^ 1 << n, word, 1, 0)
    pairs = list(itertools.combinations(range(length), 2))
    for first, second in rng.sample(pairs, min(len(pairs), 500)):
        add(encode(word, width) ^ 1 << first ^ 1 << second, None, 0, 1)
    answers(
        tmp_path, SecdedDecoder(width=width), f"secded_decoder_{width}",
        latency=SecdedDecoder.latency,
        operands={"code": codes},
        results={"data": data, "corrected": corrected, "uncorrectable": uncorrectable},
    )  # fmt: skip
