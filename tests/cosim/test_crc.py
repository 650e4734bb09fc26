import random
import zlib

import pytest

from jepa_r.fabric.crc import Crc32

from .pipeline import answers


@pytest.mark.parametrize("data_bytes", [4, 128])
def test_sums_are_those_of_zlib_and_stay(data_bytes, tmp_path):
    rng = random.Random(data_bytes)
    some = [rng.randbytes(data_bytes) for _ in range(20)]
    beats = [bytes(data_bytes), b"\xff" * data_bytes, *some]
    taken, first, data, sums = [], [], [], []
    total = 0
    for cycle in range(2000):
        beat = rng.choice(beats)
        taken.append(cycle == 0 or rng.random() < 0.7)
        # A beat that is not taken may look like the first of a sum.
        first.append(cycle == 0 or rng.random() < 0.15)
        data.append(int.from_bytes(beat, "little"))
        if taken[-1]:
            total = zlib.crc32(beat, 0 if first[-1] else total)
        sums.append(total)
    answers(
        tmp_path, Crc32(data_bytes=data_bytes), f"crc_{data_bytes}", latency=Crc32.LATENCY,
        operands={"en": taken, "first": first, "data": data}, results={"crc": sums},
    )  # fmt: skip
