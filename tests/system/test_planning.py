"""Closed loops on the verilated chip with the trained model, held to the integer golden model."""

import numpy as np
import pytest

from jepa_r.config import PRESETS
from jepa_r_sim.chip import build_chip
from jepa_r_sim.golden.planner import Settings
from jepa_r_sim.model import integer
from jepa_r_sim.model.preprocess import patches_of
from jepa_r_sim.model.shapes import MODELS
from jepa_r_sim.model.trained import quantised_trained
from jepa_r_sim.model.units import advance
from jepa_r_sim.planning import ChipPlanner, differences
from jepa_r_sim.scene import Scene, distance, draw_task

CONFIG, MODEL = PRESETS["nano"], MODELS["nano"]
SAME = dict.fromkeys(("latent", "predictions", "elites", "costs", "action"), 0)


class World:
    """A scene that moves as it is told to."""

    def __init__(self, seed):
        self.scene = Scene(seed=seed)
        self.pose, self.target = draw_task(seed)
        self.goal = self.see(self.target)

    def see(self, pose):
        return patches_of(self.scene.render(pose), MODEL)

    @property
    def now(self):
        return self.see(self.pose), self.pose

    def move(self, action):
        self.pose = advance(self.pose, action)
        return self.now


def planner_of(**settings):
    return ChipPlanner(CONFIG, *quantised_trained(), Settings.of(**settings))


@pytest.fixture(scope="module")
def simulation():
    return build_chip(CONFIG)


@pytest.fixture
def check(simulation, tmp_path):
    def run(planner, world, *, steps, seeds=None, **options):
        """Plan step by step, and compare everything; returns what was planned."""
        planned = planner.golden(world.goal, world.now, world.move, steps=steps, seeds=seeds)
        seen = [(plan.patches, plan.pose) for plan in planned]
        loop = planner.run(
            world.goal, seen, workdir=tmp_path, simulation=simulation, seeds=seeds, **options
        )
        assert (loop.goal == integer.encode(planner.encoder, world.goal).latent).all()
        assert not any(step.failed for step in loop.steps)
        found = [differences(*pair) for pair in zip(planned, loop.steps, strict=True)]
        assert found == [SAME] * steps
        cycles = {(step.plan_cycles, step.encoder_cycles) for step in loop.steps}
        assert cycles == {(planner.plan_cycles, planner.image.encoder.cycles)}
        # What goes out is the last plan's.
        packet = loop.packet
        assert (packet.valid, packet.stale) == (True, False)
        assert packet.plan == planner.settings.plan + steps - 1
        assert packet.action == tuple(planned[-1].plan.action)
        return planned

    return run


@pytest.mark.parametrize("count", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_seeds_give_the_golden_models_plans_in_the_predicted_cycles(check, count):
    planner = planner_of(samples=4, elites=2, iterations=2)
    seeds = [*range(count - 2), 0xFFFFFFFF, 0]
    planned = check(planner, World(1), steps=count, seeds=seeds)
    assert len({tuple(plan.plan.action) for plan in planned}) == count


@pytest.mark.slow
def test_the_loop_closes_in_on_the_goal_as_the_golden_model_does(check):
    planner = planner_of(samples=16, elites=4, iterations=2, seed=7)
    world = World(2)
    before = distance(world.pose, world.target)
    check(planner, world, steps=3)
    assert distance(world.pose, world.target) < 0.75 * before


@pytest.mark.parametrize("horizon", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_warm_plans_of_several_steps(check, horizon):
    # Six candidates: two tiles have nothing to do in the second batch.
    planner = planner_of(samples=6, elites=3, iterations=1, horizon=horizon, warm=1, plan=5)
    check(planner, World(3), steps=2)


def test_the_same_seed_gives_the_same_action(check):
    planner = planner_of(samples=4, elites=1, iterations=1, seed=11)
    plans = [check(planner, World(5), steps=1, seed=power_up)[0].plan for power_up in (1, 2)]
    assert (plans[0].action == plans[1].action).all()
    assert np.abs(plans[0].action).max() > 0
