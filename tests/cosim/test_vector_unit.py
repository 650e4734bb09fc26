import numpy as np
import pytest

from jepa_r.vector.unit import VectorUnit
from jepa_r_sim.cosim import build

BENCH = "jepa_r_sim.benches.vector_unit"
ROWS = 16


@pytest.mark.parametrize("lanes", [2, 4, 8])
def test_vector_unit_is_its_golden_model_in_every_cycle(lanes, tmp_path):
    simulation = build(VectorUnit(lanes=lanes, rows=ROWS), name=f"vector_unit_{lanes}x{ROWS}")
    results = simulation.run(
        BENCH,
        testcase="operations",
        parameters={"lanes": lanes, "rows": ROWS, "seed": lanes, "operations": 40},
        workdir=tmp_path,
    )
    assert results.passed == ("operations",)


def test_moments_of_every_width(tmp_path):
    lanes = 8
    simulation = build(VectorUnit(lanes=lanes, rows=ROWS), name=f"vector_unit_{lanes}x{ROWS}")
    rng = np.random.default_rng(7)
    powers = [2**n + d for n in range(2, 13) for d in (-1, 0, 1)]
    widths = [2, *sorted({*powers, 8191, *rng.integers(2, 600, 30).tolist()})]
    results = simulation.run(
        BENCH,
        testcase="moments_of_every_width",
        parameters={"lanes": lanes, "rows": ROWS, "seed": 1, "widths": widths},
        workdir=tmp_path,
    )
    assert results.passed == ("moments_of_every_width",)
