"""The loop of ``jepa-r run``: frame, goal and joint state to an action, on the generated chip."""

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from attrs import frozen

from jepa_r.chip import Chip
from jepa_r.config import ChipConfig, ConfigError
from jepa_r.emit import emit_verilog
from jepa_r_sim.cosim import build_files
from jepa_r_sim.golden.planner import DEFAULT_MOVE, FINE, LSB, Settings
from jepa_r_sim.loop import RandomPolicy, episode
from jepa_r_sim.model import encoder, integer
from jepa_r_sim.model.preprocess import centre_crop, open_photograph, patches_of
from jepa_r_sim.model.quality import LATENT_LSB, compare
from jepa_r_sim.model.shapes import ModelConfig
from jepa_r_sim.model.units import FEATURES, PLANNED, advance, from_units, to_units
from jepa_r_sim.model.weights import ModelFile, WeightsError
from jepa_r_sim.planning import ChipPlanner, Measured, Observation, Planned, differences
from jepa_r_sim.scene import Scene, distance, draw_task

from .compile import write_images
from .console import Stages
from .loop_picture import draw_loop
from .models import quantised_model
from .planning import REACHED

__all__ = ["StateError", "Task", "read_state", "read_task", "run_loop"]

Int16 = npt.NDArray[np.int16]
Pictures = npt.NDArray[np.uint8]


class StateError(ValueError):
    """A file that does not hold a joint state."""


def read_state(path: Path) -> Int16:
    """Read a pose: a JSON list of x, y, z (m), three Euler angles (rad) and the gripper (0..1).

    Raises
    ------
    StateError
        If the file cannot be read, or does not hold seven numbers that a pose can have.
    """
    try:
        values = json.loads(path.read_text())
    except OSError as error:
        raise StateError(f"state {path} cannot be read: {error.strerror}") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise StateError(f"state {path} is not JSON: {error}") from None
    numbers = isinstance(values, list) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values
    )
    if not numbers or len(values) != FEATURES:
        raise StateError(
            f"state {path} is not a list of seven numbers: x, y, z in metres, three angles in "
            "radians, and the gripper from 0 to 1"
        )
    reach = from_units(np.full(FEATURES, 32639))
    for name, value, most in zip(
        ("x", "y", "z", "angle 1", "angle 2", "angle 3", "gripper"), values, reach, strict=True
    ):
        low, high = (0.0, 1.0) if name == "gripper" else (-float(most), float(most))
        if not low <= value <= high:
            raise StateError(
                f"state {path}: {name} is {value}; it must be from {low:g} to {high:g}"
            )
    return to_units(values)


@frozen(kw_only=True, eq=False)
class Task:
    """What to plan for, and how the world goes on.

    Attributes
    ----------
    goal, first
        Pictures of what is wanted and of what is seen, uint8 ``[3, side, side]``.
    pose
        INT16 ``[7]``.
    render, target
        Picture from a pose, and the goal's pose: of the scene alone.
    """

    goal: Pictures
    first: Pictures
    pose: Int16
    render: Callable[[Int16], Pictures] | None = None
    target: Int16 | None = None


def read_task(
    model: ModelFile, *, image: Path | None, goal: Path | None, state: Path | None, seed: int
) -> Task:
    """The user's pictures, or a task in the scene.

    Raises
    ------
    ConfigError, ImageError, StateError, WeightsError
        If one of them cannot be used.
    """
    if model.encoder is None or model.predictor is None:
        raise WeightsError("planning needs encoder and predictor; the model has but one of them")
    config = model.encoder.config
    if (image is None) != (goal is None):
        raise ConfigError("--image and --goal go together: what is seen, and what is wanted")
    if image is None or goal is None:
        start, target = draw_task(seed)
        scene = Scene(seed=seed)
        pose = start if state is None else read_state(state)
        return Task(
            goal=scene.render(target), first=scene.render(pose), pose=pose, render=scene.render,
            target=target,
        )  # fmt: skip
    pose = np.zeros(FEATURES, np.int16) if state is None else read_state(state)
    first, last = (centre_crop(open_photograph(path), config.image) for path in (image, goal))
    return Task(goal=last, first=first, pose=pose)


def run_loop(
    *,
    config: ChipConfig,
    model: ModelFile,
    name: str,
    task: Task,
    settings: Settings,
    steps: int,
    rtl_steps: int,
    waves: bool,
    directory: Path,
    stages: Stages,
) -> dict[str, Any]:
    """Plan on the chip and in the golden model, and compare.

    Without pictures, a task in the scene: the golden model goes ``steps`` steps, the chip the first
    ``rtl_steps`` of them. With pictures, one plan.

    Returns
    -------
    dict
        As of :func:`jepa_r_flow.run.run`; of the loop besides ``action`` (of the first step: x, y,
        z in m, three angles, gripper), ``costs`` (of its iterations: ``best`` and ``mean`` of the
        elites, in standard deviations), ``steps``, and in the scene ``distances`` in metres.
    """
    assert model.encoder is not None
    shapes = model.encoder.config
    if task.render is None:
        steps = rtl_steps = 1
    quantised = quantised_model(name, model, stages)
    with stages.stage("compile"):
        planner = ChipPlanner(config, *quantised, settings)
        for prefix, part in (
            ("encoder_", planner.image.encoder),
            ("predictor_", planner.image.predictor),
        ):
            write_images(directory, part, prefix=prefix)
    wanted = patches_of(task.goal, shapes)
    poses, frames = [task.pose], [task.first]

    def world(action: Int16) -> Observation:
        assert task.render is not None
        poses.append(advance(poses[-1], action))
        frames.append(task.render(poses[-1]))
        return patches_of(frames[-1], shapes), poses[-1]

    with stages.stage("golden model"):
        planned = planner.golden(
            wanted, (patches_of(task.first, shapes), task.pose),
            world if task.render else None, steps=steps,
        )  # fmt: skip
        reference = encoder.encode(model.encoder, planned[0].patches).latent
    with stages.stage("generate Verilog"):
        emitted = emit_verilog(Chip(config=config), name="chip", into=directory / "verilog")
    with stages.stage("build simulator"):
        simulation = build_files(emitted.files, top="chip", waves=waves)
    with stages.stage(f"simulate {rtl_steps} plan(s)"):
        # Elsewhere first: if the simulation fails, its log must outlive the output.
        work = Path(tempfile.mkdtemp(prefix="jepa-r-run-"))
        loop = planner.run(
            wanted, [(plan.patches, plan.pose) for plan in planned[:rtl_steps]], workdir=work,
            simulation=simulation,
        )  # fmt: skip
        shutil.move(work, directory / "simulation")

    same_goal = (loop.goal == integer.encode(quantised[0], wanted).latent).all()
    result = _judge(planner, planned, loop.steps, rtl_steps, bool(same_goal), shapes)
    quality = compare(planned[0].latent, reference)
    result |= {"latent_l1_vs_float": quality.l1, "cosine_vs_float": quality.cosine}
    result["milliseconds"] = result["cycles_measured"] / (config.clock_mhz * 1e3)
    if task.target is not None:
        result["distances"] = [float(d) for d in distance(np.array(poses), task.target)]
    np.savez(
        directory / "plans.npz", poses=np.array(poses),
        actions=np.array([plan.plan.action for plan in planned]),
        elites=np.array([plan.plan.elites for plan in planned]),
        costs=np.array([plan.plan.elite_costs for plan in planned]),
    )  # fmt: skip
    _draw(directory / "picture.png", task, planner, planned, frames, poses, result)
    return result


def _judge(
    planner: ChipPlanner, planned: Sequence[Planned], measured: Sequence[Measured], wanted: int,
    same_goal: bool, shapes: ModelConfig,
) -> dict[str, Any]:  # fmt: skip
    """What is the same, what is not, and how long it took."""
    found = [differences(*pair) for pair in zip(planned, measured, strict=False)]
    sizes = [
        plan.latent.size + plan.predictions.size + 2 * plan.plan.elites.size + FEATURES
        for plan in planned[:wanted]
    ]
    # Numbers of plans that a fault has kept from being made are not equal to anything.
    missing = sum(sizes[len(measured) :])
    mismatches = sum(sum(numbers.values()) for numbers in found) + (not same_goal) + missing
    encoder, s = planner.image.encoder, planner.settings
    # The goal's picture takes as long as any; it is encoded once.
    predicted = encoder.cycles + wanted * (encoder.cycles + planner.plan_cycles)
    taken = sum(step.plan_cycles + step.encoder_cycles for step in measured)
    taken += measured[0].encoder_cycles if measured else 0
    rollouts = wanted * s.iterations * s.samples
    each = planner.image.predictor.macs // planner.image.predictor.config.tiles
    macs = (1 + wanted) * encoder.macs + rollouts * each
    room = (1 + wanted) * encoder.cycles * encoder.config.macs_per_cycle
    room += wanted * planner.plan_cycles * planner.image.predictor.config.macs_per_cycle
    stopped = [step.fault for step in measured if step.failed]
    done = len(measured) == wanted and not stopped
    first = planned[0].plan
    costs = first.elite_costs * (LATENT_LSB / (shapes.tokens * shapes.width))
    return {
        "match": bool(done and mismatches == 0),
        "mismatches": int(mismatches),
        "elements": sum(sizes),
        "different": {name: sum(n[name] for n in found) for name in (found[0] if found else {})},
        "fault": stopped[0] if stopped else "NONE",
        "cycles_predicted": predicted,
        "cycles_measured": taken,
        "macs": int(macs),
        "utilisation": macs / room,
        "action": [float(x) for x in from_units(measured[0].action if measured else first.action)],
        "costs": [{"best": float(c.min()), "mean": float(c.mean())} for c in costs],
        "settings": {name: getattr(s, name) for name in
                     ("samples", "iterations", "elites", "horizon", "seed")},
        "steps": wanted,
        "actions": [[float(x) for x in from_units(plan.plan.action)] for plan in planned],
    }  # fmt: skip


def _draw(
    path: Path, task: Task, planner: ChipPlanner, planned: Sequence[Planned],
    frames: Sequence[Pictures], poses: Sequence[Int16], result: dict[str, Any],
) -> None:  # fmt: skip
    first, s = planned[0].plan, planner.settings
    fine = LSB * 2.0**-FINE
    drawn = np.array([
        planner.elite_actions(first, iteration)[:, 0][:, PLANNED] * LSB
        for iteration in range(s.iterations)
    ])
    others = {}
    if task.render is not None and task.target is not None:
        chance = episode(
            Scene(seed=s.seed), RandomPolicy(seed=s.seed, settings=s), task.pose, task.target,
            steps=len(planned),
        )  # fmt: skip
        others["random actions"] = chance.distances
    where = (
        "One plan, on the chip and in the golden model."
        if task.target is None
        else f"The golden model goes all steps; the chip plans the first {result['steps']}, and "
        "both agree."
        if result["match"]
        else "CHIP AND GOLDEN MODEL DIFFER."
    )
    action = result["action"]
    draw_loop(
        path,
        frames=np.array(frames),
        goal_frame=task.goal,
        poses=from_units(np.array(poses)),
        goal=None if task.target is None else from_units(task.target),
        distances=None if task.target is None else np.array(result["distances"]),
        elites=drawn,
        means=first.means[:, 0] * fine,
        deviations=first.deviations[:, 0] * fine,
        costs=first.elite_costs * (LATENT_LSB / planned[0].latent.size),
        limit=DEFAULT_MOVE,
        reached=REACHED,
        others=others,
        title="Frame, goal and joint state to an action, on the generated hardware",
        caption=[
            f"{result['elements'] - result['mismatches']:,} of {result['elements']:,} numbers "
            "(latents, predictions, elites, costs, actions) are equal, RTL against golden model; "
            f"{result['cycles_measured']:,} cycles measured, {result['cycles_predicted']:,} "
            "predicted.",
            f"{where} First action: x {100 * action[0]:+.1f} cm, y {100 * action[1]:+.1f} cm, "
            f"z {100 * action[2]:+.1f} cm, gripper {action[6]:+.2f}. Plans take {s.samples} "
            f"samples, {s.iterations} iterations, {s.elites} elites.",
        ],
    )
