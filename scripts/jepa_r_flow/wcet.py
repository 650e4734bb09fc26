"""``jepa-r wcet``: how long a model takes, exactly, and what bounds each part."""

from collections.abc import Sequence
from typing import Any

from jepa_r.config import ChipConfig, ConfigError, load
from jepa_r_sim.compiler import CompiledProgram, compile_encoder
from jepa_r_sim.compiler.chip import compile_chip
from jepa_r_sim.model.shapes import ModelConfig

from .console import Stages
from .models import load_shapes

__all__ = ["check_plan", "wcet"]


def wcet(
    *,
    preset: str,
    model: str,
    overrides: Sequence[str] = (),
    cameras: int = 1,
    horizon: int = 1,
    samples: int = 800,
    iterations: int = 10,
    elites: int = 10,
    stages: Stages,
) -> dict[str, Any]:
    """Schedule a model and read the length off.

    The schedule needs shapes alone; it is the one that ``compile`` would write.

    Returns
    -------
    dict
        Of the encoder: ``cycles``, ``milliseconds``, ``stages`` (``name``, ``cycles``, ``bound``),
        ``utilisation``, ``macs``, ``memory_bytes``. If chip and model can plan, also ``rollout``
        (the same of as many predictions at once as there are tiles, ``candidates``, of ``horizon``
        steps) and ``plan`` (``samples``, ``iterations``, ``elites``, ``rollouts``, ``cycles``,
        ``milliseconds``).

    Raises
    ------
    ConfigError
        If the configuration is not allowed, the model does not fit the cluster, or a horizon is
        given for what does not plan.
    WeightsError
        If there is no such model, or its file is not one.
    """
    config = load(preset, overrides)
    shapes = load_shapes(model)
    result = {"preset": config.name, "model": model, "cameras": cameras}
    plans = config.predictor is not None and shapes.predictor is not None
    if horizon > 1 and not plans:
        raise ConfigError(f"horizon is {horizon}; only a chip and a model with predictors plan")
    if plans:
        check_plan(config, horizon=horizon, samples=samples, elites=elites)
    with stages.stage("schedule"):
        if not plans:
            compiled = compile_encoder(config.encoder, shapes, cameras=cameras)
            return result | _length(compiled, config)
        return result | _loop(config, shapes, cameras, horizon, samples, iterations, elites)


def check_plan(config: ChipConfig, *, horizon: int, samples: int, elites: int) -> None:
    """Refuse a plan that the chip's planner cannot make.

    Raises
    ------
    ConfigError
        If it has too many steps, or keeps more elites than there are or can be.
    """
    if horizon > config.planner.steps:
        raise ConfigError(
            f"horizon is {horizon}; planner.steps allows at most {config.planner.steps}"
        )
    most = min(samples, config.planner.elites)
    if elites > most:
        raise ConfigError(
            f"elites is {elites}; with {samples} samples on {config.name} it is at most {most}"
        )


def _loop(
    config: ChipConfig, shapes: ModelConfig, cameras: int, horizon: int, samples: int,
    iterations: int, elites: int,
) -> dict[str, Any]:  # fmt: skip
    """Lengths of everything that a chip does on its way to an action."""
    assert config.predictor is not None
    image = compile_chip(config, shapes, shapes, horizon=horizon)
    several = cameras > 1
    encoder = compile_encoder(config.encoder, shapes, cameras=cameras) if several else image.encoder
    plan = image.plan_cycles(samples=samples, elites=elites, iterations=iterations)
    tiles = config.predictor.tiles
    return _length(encoder, config) | {
        "rollout": {"candidates": tiles, "horizon": horizon} | _length(image.predictor, config),
        "plan": {
            "samples": samples,
            "iterations": iterations,
            "elites": elites,
            "rollouts": iterations * -(-samples // tiles),
            "cycles": plan,
            "milliseconds": _milliseconds(plan, config),
        },
    }


def _length(compiled: CompiledProgram, config: ChipConfig) -> dict[str, Any]:
    return {
        "cycles": compiled.cycles,
        "milliseconds": _milliseconds(compiled.cycles, config),
        "stages": [
            {"name": stage.name, "cycles": stage.cycles, "bound": stage.bound}
            for stage in compiled.stages
        ],
        "utilisation": compiled.utilisation,
        "macs": compiled.macs,
        "memory_bytes": compiled.memory_bytes,
    }


def _milliseconds(cycles: int, config: ChipConfig) -> float:
    return cycles / (config.clock_mhz * 1e3)
