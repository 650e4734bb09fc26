"""``jepa-r synth``: area and timing of a chip, or of a part of it, mapped to cells."""

import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jepa_r.config import ChipConfig, ConfigError, load
from jepa_r.emit import emit_verilog
from jepa_r.tops import TOPS
from jepa_r_sim.yosys import SynthesisError

from .console import Stages
from .handoff import clock_ports, write_handoff
from .output import replaced, write_result
from .synthesis.ecp5 import place_and_route, write_lpf
from .synthesis.flow import Memories, Synthesised, synthesise
from .synthesis.liberty import PDKS, LibertyError, find_pdk, read_liberty
from .synthesis.netlist import clocks_of, read_hierarchy
from .synthesis.treemap import draw_treemap

__all__ = ["synth", "synth_ecp5"]

#: What is assumed of SRAM macros, as parts of the clock period: access and setup.
ACCESS, SETUP = 0.35, 0.1


def synth(
    *,
    preset: str,
    top: str | None = None,
    overrides: Sequence[str] = (),
    liberty: Sequence[Path] = (),
    timing_liberty: Sequence[Path] = (),
    dont_use: Sequence[str] = (),
    pdk: str | None = None,
    pdk_dir: Path | None = None,
    corner: str | None = None,
    clock_mhz: float | None = None,
    output: Path | None = None,
    stages: Stages,
) -> dict[str, Any]:
    """Map a top to the cells of Liberty files, a module once, and time it with OpenSTA.

    Memories are left out: their modules stay empty, are timed with :data:`ACCESS` and
    :data:`SETUP`, and add no area.

    Parameters
    ----------
    preset, overrides, top
        What is mapped, as for ``generate``.
    liberty, timing_liberty
        Files to map to, and to time with if they are others (another corner).
    dont_use
        Patterns of cells to leave alone.
    pdk, pdk_dir, corner
        Instead of files: the name of a known process and where its files are.
    clock_mhz
        Clock to map for, if the top has only one; by default the configuration's.
    output
        Directory for netlists, result and picture.
    stages
        Where progress is shown.

    Returns
    -------
    dict
        ``modules`` (name to ``area_um2``, ``sequential_um2``, ``total_um2`` (with all below it),
        ``fmax_mhz``, ``cells``, ``instances``, ``recipe``), ``fits`` (all modules meet the clock,
        and the top its constraints), ``worst_path`` (``module``, ``ps``, ``steps``), ``slack_ps``
        (of the top under its SDC), ``area_um2`` and ``sequential_um2`` (modules times instances),
        ``memories`` (name to ``instances``, ``bits``), ``memory_bits``, ``assumptions``,
        ``clock_mhz`` and ``fmax_mhz`` (of the clock with the least left), ``clocks`` (each clock's
        ``mhz`` and ``fmax_mhz``), ``top``.

    Raises
    ------
    ConfigError, LibertyError, OutputError
        If input is bad.
    MissingToolError
        If yosys or OpenSTA is not installed.
    SynthesisError
        If one of them fails.
    """
    config = load(preset, overrides)
    top = _top(config, top)
    if top == "robot":
        raise ConfigError(
            "--top robot joins chip and island, whose paths to each other are not timed; "
            "synthesise --top chip and --top island"
        )
    files, timing, patterns = _libraries(liberty, timing_liberty, dont_use, pdk, pdk_dir, corner)
    component = TOPS[top](config)
    clocks = clock_ports(config, component)
    if clock_mhz is not None:
        clocks = {_only_clock(top, clocks, "--clock-mhz is for tops with one"): clock_mhz}
    work = Path(tempfile.mkdtemp(prefix="jepa-r-"))
    try:
        with stages.stage("read libraries"):
            library = read_liberty(files, dont_use=patterns, into=work / "liberty")
            others = (
                library.files
                if timing == files
                else read_liberty(timing, dont_use=patterns, into=work / "corner").files
            )
        with stages.stage("generate"):
            emitted = emit_verilog(component, name=top, into=work / "verilog")
            write_handoff(config, top, component, emitted, work / "verilog")
            units = read_hierarchy(emitted.files)
            clocked = clocks_of(units, top, list(clocks), directory=work / "clocks")
        sdc = work / "verilog" / f"{top}.sdc"
        domains = None
        if len(clocks) > 1:
            domains = {port.removesuffix("_clk"): 1e6 / mhz for port, mhz in clocks.items()}
            sdc = _flat(sdc)
        with stages.stage("map and time") as progress:
            done = synthesise(
                units,
                liberty=library,
                corner=others,
                # What no clock reaches is timed like the fastest.
                periods_ps={
                    name: 1e6 / max((clocks[port] for port in ports), default=max(clocks.values()))
                    for name, ports in clocked.items()
                },
                memories=Memories(names=frozenset(emitted.memories), access=ACCESS, setup=SETUP),
                constraints={top: sdc} if clock_mhz is None else {},
                clocks_ps=domains,
                progress=progress,
            )
        result = {
            "top": top,
            "target": [path.name for path in files],
            "timing": [path.name for path in timing],
            **_summary(done, emitted.instances, clocks, clocked),
            "memories": {
                name: {
                    "instances": emitted.instances[name],
                    "bits": shape.words * shape.bits,
                }
                for name, shape in emitted.memories.items()
            },
            "memory_bits": sum(
                shape.words * shape.bits * emitted.instances[name]
                for name, shape in emitted.memories.items()
            ),
            "assumptions": (
                f"memories are SRAM macros: no area, {ACCESS:.0%} of a cycle from the clock to "
                f"their data, {SETUP:.0%} before it for their inputs; no wires; reset distributed "
                "like the clock"
            ),
            "config_hash": config.hash,
        }
        if output is not None:
            with replaced(output) as directory:
                (directory / "netlist").mkdir()
                for name, unit in done.items():
                    if unit.mapped is not None:
                        shutil.copy(unit.mapped.netlist, directory / "netlist" / f"{name}.v")
                with stages.stage("draw"):
                    draw_treemap(result, directory / "area.png")
                write_result(directory, "synth", result)
            result["directory"] = str(output)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return result


def synth_ecp5(
    *,
    preset: str,
    top: str | None = None,
    overrides: Sequence[str] = (),
    device: str = "LFE5U-85F",
    seed: int = 1,
    clock_mhz: float | None = None,
    output: Path | None = None,
    stages: Stages,
) -> dict[str, Any]:
    """Place and route a top for an ECP5, inside a scan wrapper that stands for its pins.

    Parameters
    ----------
    preset, overrides, top, clock_mhz, stages
        As of :func:`synth`.
    device, seed
        FPGA, and seed of the placer.
    output
        Directory for netlist, constraints, nextpnr's report and the bitstream's text.

    Returns
    -------
    dict
        What :meth:`~.synthesis.ecp5.Ecp5Result.figures` gives, with ``modules`` and ``worst_path``
        as :func:`synth` has them; ``meets`` says whether the clock is met.

    Raises
    ------
    ConfigError, OutputError
        If input is bad.
    MissingToolError
        If nextpnr or yosys is not installed.
    SynthesisError
        If the device is unknown, or the design does not fit.
    """
    config = load(preset, overrides)
    top = _top(config, top)
    component = TOPS[top](config)
    clocks = clock_ports(config, component)
    port = _only_clock(top, clocks, "--target ecp5 is for tops with one")
    mhz = clocks[port] if clock_mhz is None else clock_mhz
    work = Path(tempfile.mkdtemp(prefix="jepa-r-"))
    try:
        with stages.stage("generate"):
            emitted = emit_verilog(component, name=top, into=work / "verilog")
            lpf = write_lpf(
                work / f"{top}.lpf",
                top=top,
                preset=config.name,
                config_hash=config.hash,
                clocks={port: mhz},
            )
        with stages.stage("synthesise, place and route"):
            found = place_and_route(
                emitted.files,
                top,
                device=device,
                directory=work / "ecp5",
                lpf=lpf,
                freq=mhz,
                seed=seed,
            )
        if found.reason is not None:
            raise SynthesisError(found.reason)
        slowest = min(found.fmax_mhz.values())
        result = {
            "top": top,
            "target": ["ecp5"],
            "clock_mhz": mhz,
            **found.figures(),
            "meets": slowest >= mhz,
            "modules": {
                top: {
                    "fmax_mhz": round(slowest, 1),
                    "cells": found.lut4 + 2 * found.ccu2c + found.ff + found.mult18 + found.bram,
                    "instances": 1,
                }
            },
            "worst_path": {
                "module": top,
                "ps": round(1e6 / slowest, 1),
                "steps": [str(step) for step in found.worst_path],
            },
            "config_hash": config.hash,
        }
        if output is not None:
            with replaced(output) as directory:
                shutil.copytree(work / "ecp5", directory, dirs_exist_ok=True)
                write_result(directory, "synth", result)
            result["directory"] = str(output)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return result


def _top(config: ChipConfig, top: str | None) -> str:
    if top is None:
        return "cluster" if config.predictor is None else "chip"
    if top not in TOPS:
        raise ConfigError(f"--top is {top!r}; it must be one of {', '.join(sorted(TOPS))}")
    return top


def _only_clock(top: str, clocks: Mapping[str, float], what: str) -> str:
    """Name of the top's clock, if it has no other."""
    if len(clocks) > 1:
        raise ConfigError(f"{what} clock; {top} has {', '.join(clocks)}")
    return next(iter(clocks))


def _flat(sdc: Path) -> Path:
    """Constraints of the flattened top, which joins names in plain submodules by underscores."""

    def pins(found: re.Match[str]) -> str:
        names = (pin.rsplit("/", 1) for pin in found[1].split())
        return " ".join(path.replace("/", "_") + "/" + pin for path, pin in names)

    flat = sdc.with_suffix(".flat.sdc")
    flat.write_text(re.sub(r"(?<=\[get_pins \{)(.*?)(?=\}\])", pins, sdc.read_text()))
    return flat


def _libraries(
    liberty: Sequence[Path],
    timing: Sequence[Path],
    dont_use: Sequence[str],
    pdk: str | None,
    pdk_dir: Path | None,
    corner: str | None,
) -> tuple[list[Path], list[Path], list[str]]:
    """Files to map to and to time with, and cells to leave alone."""
    if pdk is None:
        if not liberty:
            known = ", ".join(PDKS)
            raise LibertyError(
                "no target: give --target ecp5, --liberty FILE, or --pdk NAME --pdk-dir DIR "
                f"(processes: {known})"
            )
        if pdk_dir is not None or corner is not None:
            raise LibertyError("--pdk-dir and --corner go with --pdk")
        return list(liberty), list(timing or liberty), list(dont_use)
    if liberty or timing:
        raise LibertyError("--pdk names the Liberty files: give no --liberty or --timing-liberty")
    if pdk_dir is None:
        raise LibertyError(f"--pdk {pdk} needs --pdk-dir, the directory with its files")
    files, timed = find_pdk(pdk, pdk_dir, corner)
    return files, timed, [*PDKS[pdk].dont_use, *dont_use]


def _summary(
    done: Mapping[str, Synthesised],
    instances: Mapping[str, int],
    clocks: Mapping[str, float],
    clocked: Mapping[str, frozenset[str]],
) -> dict[str, Any]:
    """What is reported of the modules, and of all of them together."""
    modules = {}
    worst: Synthesised | None = None
    slack = None
    for name, unit in sorted(done.items()):
        if unit.mapped is None:
            continue
        delay = unit.timing.worst_ps
        modules[name] = {
            "area_um2": round(unit.mapped.area_um2, 3),
            "sequential_um2": round(unit.mapped.sequential_um2, 3),
            "fmax_mhz": round(1e6 / delay, 1) if delay > 0 else None,
            "cells": sum(unit.mapped.cells.values()),
            "instances": instances[name],
            "recipe": unit.recipe.name if unit.recipe else None,
        }
        if worst is None or unit.timing.tightness > worst.timing.tightness:
            worst = unit
        if unit.timing.slack_ps is not None:
            slack = unit.timing.slack_ps
    assert worst is not None
    # Those below come first, so that each finds its children's sums.
    for name, unit in done.items():
        if unit.mapped is not None:
            below = (
                modules[child]["total_um2"] * count
                for child, count in unit.unit.children.items()
                if child in modules
            )
            modules[name]["total_um2"] = round(modules[name]["area_um2"] + sum(below), 3)
    return {
        "modules": modules,
        "fits": worst.timing.tightness <= 1 and (slack is None or slack >= 0),
        "clock_mhz": round(1e6 / worst.timing.period_ps, 3),
        "fmax_mhz": round(1e6 / worst.timing.worst_ps, 1),
        "clocks": {
            port: {"mhz": mhz, "fmax_mhz": _fmax(done.values(), port, clocked)}
            for port, mhz in clocks.items()
        },
        "worst_path": {
            "module": worst.unit.name,
            "ps": worst.timing.worst_ps,
            "steps": [
                {"pin": step.pin, "cell": step.cell, "ps": step.arrival_ps}
                for step in worst.timing.path
            ],
        },
        "slack_ps": slack,
        "area_um2": round(sum(m["area_um2"] * m["instances"] for m in modules.values()), 1),
        "sequential_um2": round(
            sum(m["sequential_um2"] * m["instances"] for m in modules.values()), 1
        ),
    }


def _fmax(
    done: Iterable[Synthesised], port: str, clocked: Mapping[str, frozenset[str]]
) -> float | None:
    """MHz that all modules on a clock, and the top's paths that it ends, allow."""
    worst = 0.0
    for unit in done:
        if port in clocked[unit.unit.name]:
            each = unit.timing.clocks.get(port.removesuffix("_clk"), unit.timing.worst_ps)
            worst = max(worst, each)
    return round(1e6 / worst, 1) if worst else None
