"""``jepa-r wcet``: how long a model takes, exactly, and what bounds each part."""

from collections.abc import Sequence
from typing import Any

from jepa_r.config import load
from jepa_r_sim.compiler import compile_encoder

from .console import Stages
from .models import load_shapes

__all__ = ["wcet"]


def wcet(
    *, preset: str, model: str, overrides: Sequence[str] = (), cameras: int = 1, stages: Stages
) -> dict[str, Any]:
    """Schedule a model and read the length off.

    The schedule needs shapes alone; it is the one that ``compile`` would write.

    Returns
    -------
    dict
        ``cycles``, ``milliseconds``, ``stages`` (``name``, ``cycles``, ``bound``),
        ``utilisation``, ``macs``, ``memory_bytes``.

    Raises
    ------
    ConfigError
        If the configuration is not allowed, or the model does not fit the cluster.
    WeightsError
        If there is no such model, or its file is not one.
    """
    config = load(preset, overrides)
    shapes = load_shapes(model)
    with stages.stage("schedule"):
        compiled = compile_encoder(config.encoder, shapes, cameras=cameras)
    return {
        "preset": config.name,
        "model": model,
        "cameras": cameras,
        "cycles": compiled.cycles,
        "milliseconds": compiled.cycles / (config.clock_mhz * 1e3),
        "stages": [
            {"name": stage.name, "cycles": stage.cycles, "bound": stage.bound}
            for stage in compiled.stages
        ],
        "utilisation": compiled.utilisation,
        "macs": compiled.macs,
        "memory_bytes": compiled.memory_bytes,
    }
