"""``jepa-r compile``: a model as the images that a cluster runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jepa_r.config import load
from jepa_r_sim.compiler import compile_encoder

from .console import Stages
from .models import load_encoder, quantised
from .output import replaced, write_result

__all__ = ["compile_model"]


def compile_model(
    *,
    preset: str,
    model: str,
    overrides: Sequence[str] = (),
    seed: int = 1,
    cameras: int = 1,
    output: Path,
    stages: Stages,
) -> dict[str, Any]:
    """Quantise and compile; write ``program.bin`` and ``weights.bin``.

    Returns
    -------
    dict
        ``bundles``, ``program_bytes``, ``weight_bytes``, ``cycles``, ``program_address``,
        ``weight_address``, ``config_hash``, ``directory``.

    Raises
    ------
    ConfigError
        If the configuration is not allowed, or the model does not fit the cluster.
    OutputError
        If the output cannot be written.
    WeightsError
        If there is no such model, or its file is not one.
    """
    config = load(preset, overrides)
    weights = load_encoder(model, seed=seed)
    with replaced(output) as directory:
        encoder = quantised(model, weights, stages)
        with stages.stage("compile"):
            compiled = compile_encoder(config.encoder, encoder, cameras=cameras)
            (directory / "program.bin").write_bytes(compiled.program_image)
            (directory / "weights.bin").write_bytes(compiled.weight_image)
        result = {
            "preset": config.name,
            "model": model,
            "bundles": compiled.bundles,
            "program_bytes": len(compiled.program_image),
            "weight_bytes": len(compiled.weight_image),
            "cycles": compiled.cycles,
            "program_address": compiled.program_address,
            "weight_address": compiled.encoder.image.base,
            "config_hash": f"{config.encoder.hash:08x}",
            "directory": str(output),
        }
        write_result(directory, "compile", result)
    return result
