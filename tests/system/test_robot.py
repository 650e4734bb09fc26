"""The robot: the island starts, lets the accelerator go, and holds the arm without it."""

import sys

import numpy as np
import pytest
from attrs import evolve

from jepa_r.config import PRESETS, SafetyConfig
from jepa_r_sim.chip import Script
from jepa_r_sim.firmware import IMAGE
from jepa_r_sim.golden import planner as golden
from jepa_r_sim.island import PS_PER_US, image_words
from jepa_r_sim.model import integer
from jepa_r_sim.model.quantiser import quantise, quantise_predictor
from jepa_r_sim.model.shapes import MODELS
from jepa_r_sim.model.weights import random_predictor_weights, random_weights
from jepa_r_sim.planning import ChipPlanner
from jepa_r_sim.robot import RobotModel, build_robot

from ..safety.island import World, microseconds_until, started

CONFIG, MODEL = evolve(PRESETS["nano"], safety=SafetyConfig(rearm_min_cycles=320)), MODELS["nano"]
SETTINGS = golden.Settings(samples=5, elites=2, iterations=1, horizon=1, seed=5, plan=7)
POSE = (100, -200, 300, 4000, -5000, 6000, 8000)

#: Cycles of the accelerator from action to action.
PERIOD = 50_000


@pytest.fixture(scope="module")
def simulation():
    return build_robot(CONFIG)


@pytest.fixture(scope="module")
def planner():
    """A random model, what the accelerator sees first, and the goal."""
    rng = np.random.default_rng(1)
    shape = (MODEL.tokens, MODEL.patch_features)
    frames = rng.integers(-128, 128, (2, *shape), dtype=np.int8)
    encoder = quantise(random_weights(MODEL, 1))
    latents = np.stack([integer.encode(encoder, frame).latent for frame in frames])
    predictor = quantise_predictor(random_predictor_weights(MODEL, 1), latents)
    return ChipPlanner(CONFIG, encoder, predictor, SETTINGS), frames


@pytest.fixture(scope="module")
def memory(planner, tmp_path_factory):
    """File with what the accelerator's memory holds."""
    chip, (frame, goal) = planner
    contents = chip.image.memory(batches=chip.batches)
    for at, picture in ((chip.image.frame_address, frame), (chip.image.goal_address, goal)):
        raw = chip.image.frame(picture)
        contents[at : at + len(raw)] = raw
    path = tmp_path_factory.mktemp("memory") / "memory.bin"
    path.write_bytes(contents)
    return path


def setting_up(chip):
    """What the host writes first."""
    places = chip.image.addresses
    script = Script().configure(
        encoder=places["ENCODER_PROGRAM"], predictor=places["PREDICTOR_PROGRAM"],
        frame=places["FRAME"], goal=places["GOAL_FRAME"], trace=places["TRACE_BASE"],
        windows=((0, chip.image.trace_address + chip.batches * chip.image.predictor.trace_bytes),),
    )  # fmt: skip
    script.settings(SETTINGS).write("CONTROL_PERIOD", PERIOD).write("PLAN_DEADLINE", 0)
    return script.write("MAX_AGE", 1 << 30)


def log(text):
    """Say a measured latency; ``pytest -s`` shows it."""
    sys.stdout.write(text + "\n")


@pytest.mark.slow
def test_the_arm_moves_with_a_released_accelerator_and_is_held_without_it(
    simulation, planner, memory
):
    chip, (frame, goal) = planner
    (planned,) = chip.golden(goal, (frame, np.array(POSE, np.int16)))
    with RobotModel.of(simulation, CONFIG) as model:
        model.memory(memory)
        world = World(model)
        started(model)
        assert model.shown["ai_load"] == 1
        assert model.shown["ai_rst"] == 0

        # The host is there at once, and the images are good; that alone does not let it run.
        model.follow(setting_up(chip))
        assert model.shown["verdict"] == 0
        model.follow(Script().command("load"))
        assert model.until("verdict", 1, within_us=500)
        model.follow(Script().command("goal", "observe", "plan"))
        model.run(1000)
        refused = model.read("COMMANDS_REFUSED")["value"]
        assert refused
        status = model.read("STATUS")
        assert status["loaded"]
        assert not status["observed"] | status["goal_set"] | status["planned"]
        assert model.state() == "SELFTEST"
        assert model.shown["ai_release"] == 0
        assert model.actions == []

        # The firmware releases it, and it plans what the golden model plans.
        for _ in range(30):
            world.period()
            if model.shown["ai_release"]:
                break
        assert model.shown["ai_release"]
        assert model.state() == "LOCKED"
        released = model.time_ps
        model.follow(Script().state(POSE).command("goal", "observe", "plan"))
        for _ in range(4):
            world.period()
        assert model.read("STATUS")["planned"]
        assert not any(model.read("FAULT").values())
        assert model.read("COMMANDS_REFUSED")["value"] == refused
        time, action = model.actions[-1]
        assert time > released
        assert action.valid
        assert action.action == tuple(planned.plan.action)

        # The arm moves, until the accelerator's clock stops.
        world.arm()
        begin, count = model.time_ps, len(model.actions)
        model.clock("ai", 0)
        world.period()
        assert model.state() == "FALLBACK"
        taken = microseconds_until(model, "state", 0xFF, begin)
        log(f"accelerator's clock stopped in RUN: FALLBACK after {taken:.3f} us")
        # 17 cycles between edges at most, and 8 cycles behind them.
        assert taken <= 25 / CONFIG.safety.clock_mhz
        assert "AI_CLOCK" in model.alerts()
        assert len(model.actions) == count
        assert any(time > begin for time, _ in model.torques)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["encoder", "predictor"])
def test_a_wrong_bit_in_a_program_image_ends_the_start(
    simulation, planner, memory, tmp_path, where
):
    chip, _ = planner
    contents = bytearray(memory.read_bytes())
    contents[chip.image.addresses[f"{where.upper()}_PROGRAM"] + 100] ^= 1 << 3
    wrong = tmp_path / "wrong.bin"
    wrong.write_bytes(contents)
    with RobotModel.of(simulation, CONFIG) as model:
        model.memory(wrong)
        started(model)
        model.follow(setting_up(chip).command("load"))
        assert model.until("verdict", 2, within_us=500)
        assert model.read("FAULT")[where]
        assert model.until("state", 0x3C3C, within_us=30_000)
        model.run(1)
        assert "REQUEST" in model.alerts()
        assert model.shown["ai_release"] == 0
        assert model.actions == []


@pytest.mark.slow
def test_the_accelerator_is_reset_with_the_island_and_without_its_own_clock(
    simulation, planner, memory
):
    chip, _ = planner
    with RobotModel.of(simulation, CONFIG) as model:
        model.memory(memory)
        started(model)
        model.follow(setting_up(chip).command("load"))
        assert model.until("verdict", 1, within_us=500)
        model.clock("ai", 0)
        model.pin("safe_rst", 1)
        assert model.shown["ai_rst"] == 1
        model.run(1)
        model.pin("safe_rst", 0)
        model.run(500)
        assert model.shown["ai_rst"] == 1
        assert model.shown["ai_load"] == 0
        model.clock("ai", round(PS_PER_US / CONFIG.clock_mhz))
        model.run(5)
        assert model.shown["verdict"] == 0
        # The image was not sent again, so there is no session, and nothing for the host.
        assert model.shown["ai_rst"] == 1
        model.packet("image", image_words(IMAGE.read_bytes()))
        assert model.until("ai_rst", 0, within_us=500)
        model.run(1)
        assert model.shown["verdict"] == 0
        assert not model.read("STATUS")["loaded"]
