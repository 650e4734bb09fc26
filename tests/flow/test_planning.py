"""The table of planning results, and the picture of a loop."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jepa_r_flow import planning
from jepa_r_flow.loop_picture import draw_loop
from jepa_r_flow.planning import POLICIES, _summary, _wilson, render_planning

FIGURES = Path(__file__).parents[2] / "scripts" / "planning.json"


def test_the_summary_counts_ends_not_visits():
    # The second episode comes within reach and leaves again.
    found = _summary([([0.4, 0.2, 0.01], 0.1), ([0.4, 0.02, 0.3], 0.3)])
    assert found["success"] == 0.5
    assert found["touched"] == 1.0
    assert found["last_distance"] == pytest.approx(0.155)
    assert found["opening_error"] == pytest.approx(0.2)


def test_intervals_stay_within_zero_and_one():
    assert _wilson(60, 60) == pytest.approx((0.940, 1.0), abs=1e-3)
    assert _wilson(0, 60) == pytest.approx((0.0, 0.060), abs=1e-3)
    assert _wilson(30, 60) == pytest.approx((0.377, 0.623), abs=1e-3)


def test_the_table_has_a_row_for_each_policy():
    figures = json.loads(FIGURES.read_text())
    text = render_planning(figures)
    assert all(f"| {title} |" in text for title in POLICIES.values())
    assert set(figures["policies"]) == POLICIES.keys()


def test_the_figures_are_of_the_settings_that_the_code_has():
    figures = json.loads(FIGURES.read_text())
    assert (figures["steps"], figures["reached"]) == (planning.STEPS, planning.REACHED)
    sizes = (planning.SAMPLES, planning.ITERATIONS, planning.ELITES)
    assert (figures["samples"], figures["iterations"], figures["elites"]) == sizes


def loop(**changes):
    random = np.random.default_rng(0)
    arguments = {
        "frames": random.integers(0, 256, (5, 3, 64, 64)).astype(np.uint8),
        "goal_frame": np.zeros((3, 64, 64), np.uint8),
        "poses": np.zeros((5, 7)),
        "goal": np.full(7, 0.1),
        "distances": np.linspace(0.3, 0.1, 5),
        "elites": random.uniform(-0.07, 0.07, (4, 6, 4)),
        "means": np.zeros((4, 4)),
        "deviations": np.full((4, 4), 0.02),
        "costs": random.uniform(0.5, 0.9, (4, 6)),
        "limit": 0.075,
        "title": "a loop",
    }
    return arguments | changes


def test_the_picture_is_drawn_and_the_same_each_time(tmp_path):
    for name in ("one", "other"):
        draw_loop(tmp_path / f"{name}.png", **loop(reached=0.03, others={"random": [0.3, 0.4]}))
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()
    picture = np.asarray(Image.open(tmp_path / "one.png").convert("L"))
    assert picture.shape[1] == 1540
    assert (picture < 200).mean() > 0.05


def test_the_picture_refuses_what_does_not_belong_together(tmp_path):
    with pytest.raises(ValueError, match=r"^5 frames, 5 poses and 4 distances: each"):
        draw_loop(tmp_path / "x.png", **loop(distances=np.zeros(4)))
    with pytest.raises(ValueError, match=r"have \[3, 4\] rows: all need one"):
        draw_loop(tmp_path / "x.png", **loop(means=np.zeros((3, 4))))
    none = {name: np.zeros((0, 4)) for name in ("elites", "means", "deviations", "costs")}
    with pytest.raises(ValueError, match=r"have \[0\] rows"):
        draw_loop(tmp_path / "x.png", **loop(**none))
