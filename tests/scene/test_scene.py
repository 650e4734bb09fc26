"""The scene: poses move as the planner assumes, and everything a planner needs is in the frame."""

import numpy as np
import pytest

from jepa_r_sim.model.preprocess import patches_of
from jepa_r_sim.model.shapes import MODELS
from jepa_r_sim.model.units import from_units, to_units
from jepa_r_sim.scene import BOX, Scene, distance, draw_poses

HOME = [0.0, 0.0, 0.2, 0.0, 0.0, 0.0, 0.5]


def changed(pose, feature, by):
    moved = np.array(pose)
    moved[feature] += by
    return to_units(moved)


def test_distance_is_in_metres_and_leaves_the_gripper_out():
    goal = to_units([0.3, 0.4, 0.2, 0, 0, 0, 1.0])
    assert distance(to_units([0, 0, 0.2, 0, 0, 0, 0]), goal) == pytest.approx(0.5, abs=1e-4)


def test_poses_are_in_the_box():
    poses = from_units(draw_poses(np.random.default_rng(0), 500))
    assert (poses[:, :3] >= BOX[0] - 1e-4).all()
    assert (poses[:, :3] <= BOX[1] + 1e-4).all()
    assert np.ptp(poses[:, :3], axis=0) == pytest.approx(BOX[1] - BOX[0], rel=0.05)
    assert not poses[:, 3:6].any()


def test_a_frame_is_what_the_encoder_reads_and_the_same_each_time():
    frame = Scene(seed=3).render(to_units(HOME))
    assert patches_of(frame, MODELS["nano"]).shape == (16, 768)
    assert np.array_equal(frame, Scene(seed=3).render(to_units(HOME)))
    assert not np.array_equal(frame, Scene(seed=4).render(to_units(HOME)))


@pytest.mark.parametrize(("feature", "by"), [(0, 0.02), (1, 0.02), (2, 0.02), (6, 0.2)])
def test_every_planned_feature_shows_far_above_the_noise(feature, by):
    scene = Scene(seed=1)
    here, there = (
        scene.render(p).astype(float) for p in (to_units(HOME), changed(HOME, feature, by))
    )
    again = scene.render(changed(HOME, 3, 0.01)).astype(float)
    noise = np.sqrt(((here - again) ** 2).mean())
    assert np.sqrt(((here - there) ** 2).mean()) > 1.5 * noise


def test_height_and_depth_can_be_told_apart():
    # At the same place in the picture, higher or farther away: the shadow tells.
    scene = Scene(seed=1)
    lifted = scene.render(to_units([0, 0, 0.3, 0, 0, 0, 0.5])).astype(float)
    farther = scene.render(to_units([0, 0.15, 0.204, 0, 0, 0, 0.5])).astype(float)
    below = (farther - lifted)[:, 31:46, 28:36].mean((0, 2))
    assert below.max() > 15, "the shadow of the lifted one is nearer"
    assert below.min() < -15, "that of the other is farther away"


def test_the_gripper_is_in_the_picture_in_all_corners_of_the_box():
    scene = Scene(seed=2)
    for corner in np.stack(np.meshgrid(*BOX.T), -1).reshape(-1, 3):
        frame = scene.render(to_units([*corner, 0, 0, 0, 1.0])).astype(int)
        # The palm is the one thing that is much redder than blue and green.
        red = (frame[0] - np.maximum(frame[1], frame[2])) > 60
        rows, columns = np.nonzero(red)
        assert len(rows) >= 12
        assert rows.min() > 0
        assert columns.min() > 0
        assert columns.max() < 63
