import random

import numpy as np
import pytest

from jepa_r.numeric.exp2 import Exp2
from jepa_r.numeric.multiplier import PipelinedMultiplier
from jepa_r.numeric.reciprocal import Reciprocal
from jepa_r.numeric.rounding import RoundShift
from jepa_r.numeric.rsqrt import Rsqrt
from jepa_r_sim.golden.exp2 import exp2
from jepa_r_sim.golden.reciprocal import reciprocal
from jepa_r_sim.golden.rounding import round_shift, saturate
from jepa_r_sim.golden.rsqrt import rsqrt

from .pipeline import answers, of_all_sizes

COUNT = 2000


def powers(bits):
    """Zero, the powers of two and their neighbours, and the largest number."""
    return sorted({2**n + d for n in range(bits) for d in (-1, 0, 1)} | {2**bits - 1})


def positive(rng, bits):
    """Powers of two and their neighbours, and numbers of every length."""
    some = [rng.getrandbits(bits) >> rng.randrange(bits) for _ in range(COUNT)]
    values = powers(bits) + some
    rng.shuffle(values)
    return values


@pytest.mark.parametrize(("a_width", "b_width"), [(33, 17), (29, 29), (9, 9)])
def test_multiplier(a_width, b_width, tmp_path):
    dut = PipelinedMultiplier(a_width=a_width, b_width=b_width)
    rng = random.Random(a_width)
    a, b = of_all_sizes(rng, COUNT, a_width), of_all_sizes(rng, COUNT, b_width)
    answers(
        tmp_path, dut, dut.macro_name, latency=dut.latency,
        operands={"a": a, "b": b},
        results={"product": [x * y for x, y in zip(a, b, strict=True)]},
    )  # fmt: skip


@pytest.mark.parametrize(
    "widths",
    [
        {"width": 50, "shift_width": 6, "out_width": 16},
        {"width": 33, "shift_width": 6, "out_width": 16, "narrow_width": 8},
    ],
    ids=lambda widths: "-".join(map(str, widths.values())),
)
def test_round_shift(widths, tmp_path):
    dut = RoundShift(**widths)
    rng = random.Random(widths["width"])
    value = of_all_sizes(rng, COUNT, widths["width"])
    shift = [rng.randrange(1 << widths["shift_width"]) for _ in value]
    operands, more, bits = {"value": value, "shift": shift}, {}, widths["out_width"]
    # A shift of 63 leaves nothing of any value, as one of 62 does.
    rounded = round_shift(value, np.minimum(shift, 62))
    expected = saturate(rounded, bits)
    if "narrow_width" in widths:
        operands["narrow"] = [rng.getrandbits(1) for _ in value]
        more["late"] = {"narrow": dut.narrow_stage}
        narrow = saturate(rounded, widths["narrow_width"])
        expected = np.where(operands["narrow"], narrow, expected)
    answers(
        tmp_path, dut, dut.macro_name, latency=dut.latency,
        operands=operands, results={"result": expected}, **more,
    )  # fmt: skip


def test_exp2(tmp_path):
    distance = [*range(256), *random.Random(1).choices(range(256), k=COUNT)]
    answers(
        tmp_path, Exp2(), "exp2", latency=Exp2.latency,
        operands={"distance": distance}, results={"result": exp2(distance)},
    )  # fmt: skip


def test_reciprocal(tmp_path):
    total = positive(random.Random(2), Reciprocal.SUM_BITS)
    mantissa, lead = reciprocal(total)
    answers(
        tmp_path, Reciprocal(), "reciprocal", latency=Reciprocal.latency,
        operands={"total": total}, results={"mantissa": mantissa, "lead": lead},
    )  # fmt: skip


def test_rsqrt(tmp_path):
    variance = positive(random.Random(3), Rsqrt.VARIANCE_BITS)
    mantissa, half = rsqrt(np.array(variance, dtype=object))
    answers(
        tmp_path, Rsqrt(), "rsqrt", latency=Rsqrt.latency,
        operands={"variance": variance}, results={"mantissa": mantissa, "half": half},
    )  # fmt: skip
