"""``jepa-r run``: the generated hardware at work, and whether it is right.

With a predictor it plans: frame, goal and joint state to an action. A chip or a model that only
encodes makes a latent of a photograph.
"""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jepa_r.config import ChipConfig, ConfigError, load
from jepa_r.emit import emit_verilog
from jepa_r.tops import TOPS
from jepa_r_sim.compiler import compile_encoder
from jepa_r_sim.cosim import build_files, require_tools
from jepa_r_sim.golden.planner import Settings
from jepa_r_sim.model import encoder, integer
from jepa_r_sim.model.preprocess import centre_crop, open_photograph, patches_of
from jepa_r_sim.model.quality import compare
from jepa_r_sim.scene import SIDE
from jepa_r_sim.system import run_encoder

from .compile import write_images
from .console import Stages
from .loop import read_task, run_loop
from .models import load_encoder, load_model, load_shapes, quantised
from .output import replaced, write_result
from .picture import draw
from .wcet import check_plan

__all__ = ["encode", "plan", "run"]


#: Multipliers of the largest chip that is simulated: two tiles of 128 x 128.
MOST_MULTIPLIERS = 1 << 15


def run(*, encode_only: bool = False, image: Path | None = None, **options: Any) -> dict[str, Any]:
    """Plan with what can plan, and encode with what cannot; see :func:`plan` and :func:`encode`.

    A photograph without a goal is only encoded.

    Raises
    ------
    ConfigError
        If a goal or a state is given for what is only encoded, or the chip is far too large to be
        simulated; and as of both.
    """
    config = load(options["preset"], options.get("overrides", ()))
    reasons = {
        "--encode plans nothing": encode_only,
        f"{config.name} has no predictor": config.predictor is None,
        "without --goal, --image is only encoded": image is not None
        and options.get("goal") is None,
        f"model {options['model']} has no predictor": not _predicts(options["model"]),
    }
    reason = next((reason for reason, holds in reasons.items() if holds), None)
    if reason is not None:
        for name in ("goal", "state"):
            if options.get(name) is not None:
                raise ConfigError(f"--{name} is {options[name]}; it is of use to plans: {reason}")
        _check_size(config, config.encoder.macs_per_cycle)
        known = ("preset", "model", "overrides", "seed", "waves", "output", "stages")
        return encode(image=image, **{k: v for k, v in options.items() if k in known})
    assert config.predictor is not None
    _check_size(config, config.encoder.macs_per_cycle + config.predictor.macs_per_cycle)
    return plan(image=image, **options)


def _check_size(config: ChipConfig, multipliers: int) -> None:
    """Refuse what would compile for hours before its first cycle."""
    if multipliers > MOST_MULTIPLIERS:
        raise ConfigError(
            f"{config.name} has {multipliers:,} multipliers; run simulates at most "
            f"{MOST_MULTIPLIERS:,}: use wcet for its cycles, or a smaller chip"
        )


def _predicts(model: str) -> bool:
    return not model.endswith(".safetensors") or load_model(model).predictor is not None


def plan(
    *,
    preset: str,
    model: str,
    overrides: Sequence[str] = (),
    image: Path | None = None,
    goal: Path | None = None,
    state: Path | None = None,
    seed: int = 1,
    samples: int = 16,
    iterations: int = 4,
    elites: int = 4,
    horizon: int = 1,
    steps: int = 8,
    rtl_steps: int = 3,
    waves: bool = False,
    output: Path,
    stages: Stages,
) -> dict[str, Any]:
    """Plan on the RTL of the whole chip and compare everything with the golden model.

    Leaves ``verilog/``, programs and weights, ``plans.npz``, ``picture.png``, and what the
    simulation wrote in ``simulation/``.

    Returns
    -------
    dict
        As of :func:`encode`, and what :func:`jepa_r_flow.loop.run_loop` adds.

    Raises
    ------
    ConfigError, ImageError, OutputError, StateError, WeightsError
        If an input is not allowed; nothing has been written then.
    MissingToolError
        If the system lacks a tool that the simulator is built with.
    SimulationError
        If the simulation itself failed; its log stays where the message says.
    """
    config = load(preset, overrides)
    check_plan(config, horizon=horizon, samples=samples, elites=elites)
    side = load_shapes(model).image
    if image is None and goal is None and side != SIDE:
        raise ConfigError(
            f"model {model} reads pictures of {side} pixels; the scene has {SIDE}: give --image "
            "and --goal"
        )
    settings = Settings.of(
        samples=samples, iterations=iterations, elites=elites, horizon=horizon, seed=seed
    )
    weights = load_model(model, seed=seed)
    task = read_task(weights, image=image, goal=goal, state=state, seed=seed)
    require_tools()
    with replaced(output) as directory:
        result = {
            "preset": config.name,
            "model": model,
            **run_loop(
                config=config, name=model, model=weights, task=task,
                settings=settings, steps=max(steps, rtl_steps), rtl_steps=rtl_steps, waves=waves,
                directory=directory, stages=stages,
            ),
            "config_hash": config.hash,
            "directory": str(output),
        }  # fmt: skip
        write_result(directory, "run", result)
    return result


def encode(
    *,
    preset: str,
    model: str,
    overrides: Sequence[str] = (),
    image: Path | None = None,
    seed: int = 1,
    waves: bool = False,
    output: Path,
    stages: Stages,
) -> dict[str, Any]:
    """Encode a photograph on the RTL and compare the latent with the golden model's.

    Leaves ``verilog/``, ``program.bin``, ``weights.bin``, both latents as NumPy files,
    ``picture.png``, and what the simulation wrote in ``simulation/``.

    Returns
    -------
    dict
        ``match``, ``mismatches``, ``elements``, ``fault``, ``cycles_predicted``,
        ``cycles_measured``, ``macs``, ``utilisation``, ``latent_l1_vs_float``,
        ``cosine_vs_float``, ``config_hash``, ``directory``.

    Raises
    ------
    ConfigError, ImageError, OutputError, WeightsError
        If an input is not allowed; nothing has been written then.
    MissingToolError
        If the system lacks a tool that the simulator is built with.
    SimulationError
        If the simulation itself failed; its log stays where the message says.
    """
    config = load(preset, overrides)
    pixels_of = open_photograph(image)
    weights = load_encoder(model, seed=seed)
    require_tools()
    with replaced(output) as directory:
        pixels = centre_crop(pixels_of, weights.config.image)
        patches = patches_of(pixels, weights.config)
        numbers = quantised(model, weights, stages)
        with stages.stage("golden model"):
            golden = integer.encode(numbers, patches).latent
            reference = encoder.encode(weights, patches).latent
        with stages.stage("compile"):
            compiled = compile_encoder(
                config.encoder, numbers, latent_store=config.predictor is not None
            )
            write_images(directory, compiled)
        with stages.stage("generate Verilog"):
            top = TOPS["cluster"](config)
            emitted = emit_verilog(top, name="cluster", into=directory / "verilog")
        with stages.stage("build simulator"):
            simulation = build_files(emitted.files, top="cluster", waves=waves)
        with stages.stage("simulate"):
            # Elsewhere first: if the simulation fails, its log must outlive the output.
            work = Path(tempfile.mkdtemp(prefix="jepa-r-run-"))
            (found,) = run_encoder(
                compiled, [patches], workdir=work, simulation=simulation, seed=seed
            )
            shutil.move(work, directory / "simulation")

        latent = found.latents[0]
        mismatches = int((latent != golden).sum())
        quality = compare(latent, reference)
        capacity = found.cycles * config.encoder.macs_per_cycle
        result = {
            "preset": config.name,
            "model": model,
            "match": mismatches == 0 and found.done,
            "mismatches": mismatches,
            "elements": latent.size,
            "fault": found.fault,
            "cycles_predicted": compiled.cycles,
            "cycles_measured": found.cycles,
            "macs": compiled.macs,
            "utilisation": compiled.macs / capacity if capacity else 0.0,
            "milliseconds": found.cycles / (config.clock_mhz * 1e3),
            "latent_l1_vs_float": quality.l1,
            "cosine_vs_float": quality.cosine,
            "config_hash": config.hash,
            "directory": str(output),
        }
        np.save(directory / "latent_rtl.npy", latent)
        np.save(directory / "latent_golden.npy", golden)
        patch_rows = slice(int(weights.config.class_token), None)
        draw(
            directory / "picture.png",
            photograph=pixels.transpose(1, 2, 0),
            grid=weights.config.grid,
            rtl=latent[patch_rows],
            golden=golden[patch_rows],
            title=f"A photograph through the generated hardware: {model} on {config.name}",
            caption=_caption(result),
        )
        write_result(directory, "run", result)
    return result


def _caption(result: dict[str, Any]) -> list[str]:
    """Two lines below the picture."""
    equal = result["elements"] - result["mismatches"]
    return [
        f"{equal:,} of {result['elements']:,} elements of the latent are equal, RTL against golden "
        f"model; {result['cycles_measured']:,} cycles measured, "
        f"{result['cycles_predicted']:,} predicted ({result['milliseconds']:.3f} ms).",
        f"Integer against float: mean difference {result['latent_l1_vs_float']:.3f} standard "
        f"deviations, cosine {result['cosine_vs_float']:.4f}; "
        f"the arrays are {result['utilisation']:.1%} busy.",
    ]
