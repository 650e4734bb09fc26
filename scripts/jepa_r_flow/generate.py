"""``jepa-r generate``: the Verilog of a chip, or of a part of it."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import asdict

from jepa_r.config import ConfigError, load
from jepa_r.emit import emit_verilog
from jepa_r.tops import TOPS

from .console import Stages
from .output import replaced, write_result

__all__ = ["generate"]


def generate(
    *, preset: str, top: str, overrides: Sequence[str] = (), output: Path, stages: Stages
) -> dict[str, Any]:
    """Write Verilog, a file list and the configuration.

    Returns
    -------
    dict
        ``files`` (names, the top first), ``modules`` (name to number of instances), ``bytes`` of
        Verilog, ``seconds``, ``config_hash``, ``top``, ``directory``.

    Raises
    ------
    ConfigError
        If the configuration is not allowed, or there is no such top.
    OutputError
        If the output cannot be written.
    """
    config = load(preset, overrides)
    if top not in TOPS:
        raise ConfigError(f"--top is {top!r}; it must be one of {', '.join(sorted(TOPS))}")
    with replaced(output) as directory:
        begin = time.perf_counter()
        with stages.stage("generate"):
            emitted = emit_verilog(TOPS[top](config), name=top, into=directory)
        seconds = time.perf_counter() - begin
        files = [path.name for path in emitted.files]
        (directory / f"{top}.f").write_text("".join(f"{name}\n" for name in files))
        (directory / "config.json").write_text(json.dumps(asdict(config), indent=2) + "\n")
        result = {
            "top": top,
            "files": files,
            "modules": emitted.instances,
            "bytes": sum(path.stat().st_size for path in emitted.files),
            "seconds": round(seconds, 3),
            "config_hash": config.hash,
            "directory": str(output),
        }
        write_result(directory, "generate", result)
    return result
