"""``jepa-r compile``: a model as the images that a cluster, or a chip that plans, runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jepa_r.config import ConfigError, load
from jepa_r_sim.compiler import CompiledProgram, compile_encoder
from jepa_r_sim.compiler.chip import compile_chip
from jepa_r_sim.model.weights import ModelFile

from .console import Stages
from .models import load_encoder, load_model, quantised, quantised_model
from .output import replaced, write_result

__all__ = ["compile_model", "write_images"]


def compile_model(
    *,
    preset: str,
    model: str,
    overrides: Sequence[str] = (),
    seed: int = 1,
    cameras: int = 1,
    horizon: int = 1,
    output: Path,
    stages: Stages,
) -> dict[str, Any]:
    """Quantise and compile; write ``program.bin`` and ``weights.bin``.

    If chip and model have a predictor, also ``predictor_program.bin`` and
    ``predictor_weights.bin``; the encoder's program then fills the latent store. A chip plans with
    one camera: for more, the encoder is compiled alone.

    Returns
    -------
    dict
        ``bundles``, ``program_bytes``, ``weight_bytes``, ``cycles``, ``program_address``,
        ``weight_address``, ``config_hash`` of the encoder, ``directory``; with a predictor, also
        ``predictor`` (the same of it, and ``horizon``) and ``addresses`` (what the registers of
        these names take).

    Raises
    ------
    ConfigError
        If the configuration is not allowed, the model does not fit, or there is nothing that a
        horizon could be of.
    OutputError
        If the output cannot be written.
    WeightsError
        If there is no such model, or its file is not one.
    """
    config = load(preset, overrides)
    found = ModelFile(None, None)
    if config.predictor is not None and cameras == 1:
        found = load_model(model, seed=seed)
    # Also says so if the file has none.
    encoder = found.encoder or load_encoder(model, seed=seed)
    plans = found.predictor is not None
    if horizon > 1 and not plans:
        raise ConfigError(
            f"horizon is {horizon}; only a chip and a model with predictors, and one camera, plan"
        )
    with replaced(output) as directory:
        result: dict[str, Any] = {"preset": config.name, "model": model}
        if plans:
            numbers = quantised_model(model, found, stages)
            with stages.stage("compile"):
                image = compile_chip(config, *numbers, horizon=horizon)
            predictor = image.predictor
            write_images(directory, image.encoder)
            write_images(directory, predictor, prefix="predictor_")
            result |= _about(image.encoder)
            result["predictor"] = {"horizon": horizon, **_about(predictor)}
            result["addresses"] = dict(image.addresses)
        else:
            alone = quantised(model, encoder, stages)
            with stages.stage("compile"):
                compiled = compile_encoder(config.encoder, alone, cameras=cameras)
            write_images(directory, compiled)
            result |= _about(compiled)
        result["directory"] = str(output)
        write_result(directory, "compile", result)
    return result


def write_images(directory: Path, compiled: CompiledProgram, *, prefix: str = "") -> None:
    """Write ``program.bin`` and ``weights.bin``, their names after a prefix."""
    (directory / f"{prefix}program.bin").write_bytes(compiled.program_image)
    (directory / f"{prefix}weights.bin").write_bytes(compiled.weight_image)


def _about(compiled: CompiledProgram) -> dict[str, Any]:
    return {
        "bundles": compiled.bundles,
        "program_bytes": len(compiled.program_image),
        "weight_bytes": len(compiled.weight_image),
        "cycles": compiled.cycles,
        "program_address": compiled.program_address,
        "weight_address": compiled.builder.image.base,
        "config_hash": f"{compiled.config.hash:08x}",
    }
