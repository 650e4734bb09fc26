import random

from jepa_r.planner.gaussian import Gaussian
from jepa_r_sim.golden.gaussian import gaussian

from .pipeline import answers


def test_both_ends_of_every_line(tmp_path):
    rng = random.Random(1)
    words = [0, 1, 2, 3, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1]
    for octave in range(31):
        for part in range(33):
            edge = (1 << octave) + (part << octave >> 5)
            words += [(edge + n) % 2**32 for n in (-1, 0, 1)]
            words.append((edge + rng.randrange(1 + (1 << octave >> 5))) % 2**32 | 2**31)
    words += [rng.getrandbits(32) for _ in range(5000)]
    rng.shuffle(words)
    answers(
        tmp_path, Gaussian(), "gaussian", latency=Gaussian.latency,
        operands={"word": words}, results={"normal": gaussian(words)},
    )  # fmt: skip
