"""The closed loop: episodes are what policies did, and planning beats chance by far."""

import hashlib
import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from jepa_r_flow import planning
from jepa_r_sim.golden.planner import Settings
from jepa_r_sim.loop import Decision, IntegerPolicy, RandomPolicy, StraightPolicy, episode
from jepa_r_sim.model import integer
from jepa_r_sim.model.encoder import encode
from jepa_r_sim.model.preprocess import patches_of
from jepa_r_sim.model.quality import compare
from jepa_r_sim.model.shapes import MODELS
from jepa_r_sim.model.trained import FILE, calibration, load_trained, quantised_trained
from jepa_r_sim.model.units import advance, to_units
from jepa_r_sim.scene import Scene, distance, draw_task

SCRIPT = Path(__file__).parents[2] / "scripts" / "train_nano.py"


class Recorder:
    """Goes right, a centimetre a step, and keeps what it was shown."""

    def __init__(self):
        self.seen = []

    def begin(self, goal_frame, goal):
        self.goal_frame = goal_frame

    def act(self, frame, pose):
        self.seen.append((frame, pose))
        return Decision(action=to_units([0.01, 0, 0, 0, 0, 0, 0]))


def test_an_episode_is_what_the_policy_saw_and_did():
    (start, goal), scene, policy = draw_task(0), Scene(seed=0), Recorder()
    found = episode(scene, policy, start, goal, steps=3)
    assert np.array_equal(policy.goal_frame, scene.render(goal))
    assert np.array_equal(found.poses[0], start)
    for step in range(3):
        frame, pose = policy.seen[step]
        assert np.array_equal(pose, found.poses[step])
        assert np.array_equal(frame, scene.render(found.poses[step]))
        assert np.array_equal(found.poses[step + 1], advance(pose, found.actions[step]))
    assert found.frames.shape == (4, 3, 64, 64)
    assert found.distances == pytest.approx([distance(pose, goal) for pose in found.poses])


def test_tasks_start_away_from_their_goals():
    tasks = [draw_task(seed) for seed in range(40)]
    assert min(distance(*task) for task in tasks) >= 0.15
    assert len({tuple(goal) for _, goal in tasks}) == 40


def test_the_straight_way_gets_there_and_no_faster_than_allowed():
    start, goal = draw_task(3)
    found = episode(Scene(seed=3), StraightPolicy(), start, goal, steps=9)
    assert np.array_equal(found.poses[-1], goal)
    assert (np.abs(found.actions) <= [1229] * 3 + [0] * 3 + [12288]).all()


def test_random_actions_fill_the_box_and_nothing_else():
    policy = RandomPolicy(seed=0)
    actions = np.array([policy.act(None, None).action for _ in range(2000)]).astype(int)
    assert (np.abs(actions).max(0) <= [1229] * 3 + [0] * 3 + [12288]).all()
    assert (np.abs(actions[:, [0, 1, 2, 6]]).max(0) > [1210, 1210, 1210, 12000]).all()
    assert np.abs(actions.mean(0)[:3]).max() < 60


def test_the_weights_are_those_of_the_script():
    with safe_open(FILE, framework="numpy") as file:
        metadata = file.metadata()
        total = hashlib.sha256()
        for name in sorted(file.keys()):
            tensor = file.get_tensor(name)
            assert tensor.dtype == np.float16
            total.update(name.encode() + tensor.tobytes())
    assert metadata["jepa_r.digest"] == total.hexdigest()
    # The script itself needs PyTorch; its settings are a literal.
    text = re.search(r"^SETTINGS = (\{.*?^\})", SCRIPT.read_text(), re.M | re.S).group(1)
    settings = json.loads(re.sub(r",\s*\}", "}", text))
    assert json.loads(metadata["jepa_r.training"]) == settings


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="extra `train`")
def test_the_script_trains_the_model_that_the_project_runs():
    import torch

    spec = importlib.util.spec_from_file_location("train_nano", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    encoder, predictor = load_trained()
    net = script.Net(MODELS["nano"], 0)
    for name, tensor in (encoder.tensors | predictor.tensors).items():
        folded = tensor.sum(2).reshape(len(tensor), -1) if tensor.ndim == 5 else tensor
        net.tensors[name] = torch.from_numpy(folded.copy())
    frame = Scene(seed=0).render(draw_task(0)[0])
    with torch.no_grad():
        found = net.encode(script.patches_of(frame[None], MODELS["nano"]))[0].numpy()
    assert np.abs(found - encode(encoder, patches_of(frame, MODELS["nano"])).latent).max() < 1e-4


def test_trained_latents_survive_their_quantisation():
    encoder, _ = load_trained()
    quantised, _ = quantised_trained()
    for frame in calibration(8, seed=1).frames:
        quality = compare(integer.encode(quantised, frame).latent, encode(encoder, frame).latent)
        assert quality.l1 < 0.06
        assert quality.cosine > 0.995


def test_the_same_seed_plans_the_same_and_reports_its_elites():
    start, goal = draw_task(1)
    settings = Settings.of(samples=24, iterations=3, elites=4, seed=9)
    runs = [
        episode(Scene(seed=1), IntegerPolicy(*quantised_trained(), settings=settings), start, goal,
                steps=2)
        for _ in range(2)
    ]  # fmt: skip
    assert np.array_equal(runs[0].poses, runs[1].poses)
    for one, other in zip(*(run.decisions for run in runs), strict=True):
        assert one.elites.shape == (3, 4, 4)
        assert np.array_equal(one.elites, other.elites)
        assert (np.diff(one.costs, axis=1) >= 0).all(), "best first"
        assert (np.abs(one.elites[..., :3]) <= 1229 / 16384).all()


def test_planning_gets_close_where_chance_does_not():
    last = {
        name: np.mean([planning.run_task(name, index).distances[-1] for index in range(3)])
        for name in ("int8", "random")
    }
    assert last["int8"] < 0.06
    assert last["random"] > 4 * last["int8"]
