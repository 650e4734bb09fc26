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
from .handoff import write_handoff
from .output import replaced, write_result
from .registers import write_registers

__all__ = ["generate"]


def generate(
    *,
    preset: str,
    top: str | None = None,
    overrides: Sequence[str] = (),
    output: Path,
    stages: Stages,
) -> dict[str, Any]:
    """Write Verilog and what the tools behind it need; of a top with registers, those too.

    Without ``top``, it is the chip, or the cluster of a preset that only encodes.

    Returns
    -------
    dict
        ``files`` (names, the top first), ``modules`` (name to number of instances), ``bytes`` of
        Verilog, ``seconds``, ``config_hash``, ``top``, ``directory``, ``handoff`` (names of SDC,
        LPF, FuseSoC core, LibreLane configuration and SRAM map); ``registers`` (names of the
        header, the page and the description), if it has any.

    Raises
    ------
    ConfigError
        If the configuration is not allowed, or there is no such top.
    OutputError
        If the output cannot be written.
    """
    config = load(preset, overrides)
    if top is None:
        top = "cluster" if config.predictor is None else "chip"
    if top not in TOPS:
        raise ConfigError(f"--top is {top!r}; it must be one of {', '.join(sorted(TOPS))}")
    with replaced(output) as directory:
        begin = time.perf_counter()
        with stages.stage("generate"):
            component = TOPS[top](config)
            emitted = emit_verilog(component, name=top, into=directory)
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
            "handoff": write_handoff(config, top, component, emitted, directory),
        }
        if "lite" in component.signature.members:
            result["registers"] = write_registers(config, directory)
        write_result(directory, "generate", result)
    return result
