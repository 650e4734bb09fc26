"""Area and speed that the README quotes: the cell, an 8 x 8 array beside others, the presets."""

import shutil
import subprocess
import tempfile
from collections.abc import Collection, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jepa_r.config import PRESETS
from jepa_r.emit import emit_verilog
from jepa_r.platform import Macro
from jepa_r.tile.array import SystolicArray
from jepa_r.tile.cell import Cell
from jepa_r.tile.steering import Steering
from jepa_r.tops import TOPS

from .console import Stages
from .figures import surroundings
from .synth import synth
from .synthesis import ecp5
from .synthesis.flow import Memories, Synthesised, synthesise
from .synthesis.liberty import PDKS, find_pdk, read_liberty
from .synthesis.netlist import read_hierarchy

__all__ = ["PARTS", "measure_synthesis", "render_synthesis"]

#: Width of a sum, and the clocks (MHz) the cell is mapped for: fast, then small.
POINTS: dict[str, tuple[int, tuple[int, ...]]] = {
    "asap7": (23, (2000, 1800)),
    "sg13g2": (20, (320, 262)),
}

#: What can be measured alone.
PARTS = ("cells", "array", "ecp5", "jepa-r")

#: Clock that the placer is asked for an array on an FPGA, and its seeds; the best is quoted.
_ARRAY_MHZ, _ARRAY_SEEDS = 200, (1, 2, 3)

#: 8 x 8 INT8 arrays of other open generators, measured once with the same tools and commands.
OTHERS = (
    {
        "array": "the leanest known: 20-bit sums, no accumulators",
        "lut4": 18.0,
        "ecp5_mhz": 69.1,
        "um2": 9980,
        "mhz": 165,
        "slow_mhz": 105,
    },
    {"array": "another in Amaranth", "lut4": 105, "ecp5_mhz": 67.5},
)


def measure_synthesis(
    stages: Stages, *, pdk_dir: Path, parts: Collection[str] = PARTS
) -> dict[str, Any]:
    """Map and place what the README quotes, or some parts of it; all of it takes about an hour."""
    found: dict[str, Any] = {**surroundings()}
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        if "cells" in parts:
            found["cells"] = {}
            for pdk, (width, clocks) in POINTS.items():
                with stages.stage(f"cell and array, {pdk}"):
                    found["cells"][pdk] = {
                        "width": width,
                        "points": [_cell(pdk, pdk_dir, width, mhz, home / pdk) for mhz in clocks],
                    }
        if "array" in parts:
            with stages.stage("array, ecp5"):
                array = SystolicArray(8, 8, width=20)
                emitted = emit_verilog(array, name="array", into=home / "array")
                found["array"] = ecp5.measure(
                    emitted.files,
                    "array",
                    directory=home / "array_ecp5",
                    freq=_ARRAY_MHZ,
                    seeds=_ARRAY_SEEDS,
                )
        if "ecp5" in parts:
            with stages.stage("preset ecp5"):
                config = PRESETS["ecp5"]
                top = TOPS["cluster"](config)
                emitted = emit_verilog(top, name="cluster", into=home / "cluster")
                found["ecp5"] = ecp5.measure(
                    emitted.files,
                    "cluster",
                    directory=home / "cluster_ecp5",
                    freq=config.clock_mhz,
                    seeds=(1,),
                )
        if "jepa-r" in parts:
            found["jepa-r"] = _chip(
                synth(preset="jepa-r", pdk="asap7", pdk_dir=pdk_dir, stages=stages)
            )
    return {**found, "tools": {"pyosys": version("pyosys"), "OpenSTA": _sta_version()}}


def _sta_version() -> str:
    """Version of OpenSTA."""
    if shutil.which("sta") is None:
        return "none"
    done = subprocess.run(["sta", "-version"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _cell(pdk: str, pdk_dir: Path, width: int, mhz: float, home: Path) -> dict[str, Any]:
    """The cell, and what a cell of an 8 x 8 array takes with its share of the steering."""
    parts: dict[str, Macro] = {
        "cell": Cell(width=width),
        "array": SystolicArray(8, 8, width=width),
        "steering": Steering(8),
    }
    corners = [None, *PDKS[pdk].corners]
    result: dict[str, Any] = {"asked_mhz": mhz}
    for corner in corners:
        files, timing = find_pdk(pdk, pdk_dir, corner)
        dont_use = PDKS[pdk].dont_use
        library = read_liberty(files, dont_use=dont_use, into=home / f"{mhz}" / "lib")
        others = read_liberty(timing, dont_use=dont_use, into=home / f"{mhz}" / f"lib_{corner}")
        done: dict[str, Synthesised] = {}
        for name, part in parts.items():
            into = home / f"{mhz}" / name
            units = read_hierarchy(emit_verilog(part, name=part.macro_name, into=into).files)
            done[name] = synthesise(
                units,
                liberty=library,
                corner=others.files,
                periods_ps=dict.fromkeys(units, 1e6 / mhz),
                memories=Memories(names=frozenset(), access=0, setup=0),
                constraints={},
            )[part.macro_name]
        cell = done["cell"]
        speed = round(1e6 / cell.timing.worst_ps, 1)
        if corner is not None:
            result[f"{corner}_mhz"] = speed
            continue
        areas = {name: part.mapped.area_um2 for name, part in done.items() if part.mapped}
        result |= {
            "ps": cell.timing.worst_ps,
            "mhz": speed,
            "um2": round(areas["cell"], 2),
            "um2_in_array": round(areas["cell"] + (areas["array"] + areas["steering"]) / 64, 2),
            "array_mhz": round(1e6 / max(part.timing.worst_ps for part in done.values()), 1),
            "recipe": cell.recipe.name if cell.recipe else None,
        }
    return result


def _chip(result: Mapping[str, Any]) -> dict[str, Any]:
    """What is worth keeping of the chip's synthesis."""
    modules = result["modules"]
    tile = next(name for name in modules if name.startswith("tile_128x128"))
    return {
        "modules": {
            name: {key: module[key] for key in ("area_um2", "fmax_mhz", "instances", "recipe")}
            for name, module in modules.items()
        },
        "tile_um2": modules[tile]["total_um2"],
        "worst_path": {
            "module": result["worst_path"]["module"],
            "ps": result["worst_path"]["ps"],
            "from": result["worst_path"]["steps"][0]["pin"],
            "to": result["worst_path"]["steps"][-1]["pin"],
        },
        **{
            key: result[key]
            for key in (
                "fits", "fmax_mhz", "slack_ps", "area_um2", "sequential_um2", "memory_bits",
                "clock_mhz", "assumptions",
            )
        },
    }  # fmt: skip


def render_synthesis(figures: Mapping[str, Any]) -> str:
    """Markdown of the README's figures of area and speed, as far as they have been measured."""
    parts = [_render_arrays(figures)] if {"cells", "array"} <= set(figures) else []
    rows = _rows(figures)
    if rows:
        lines = [f"| {name} | {value} |" for name, value in rows]
        parts.append("\n".join(["| | |", "|---|---|", *lines]))
    if "jepa-r" in figures:
        parts.append(f"Assumed: {figures['jepa-r']['assumptions']}.")
    tools = dict(figures["tools"])
    for part in ("array", "ecp5"):
        if part in figures:
            tools["nextpnr"] = figures[part]["tools"]["nextpnr"]
    parts.append(
        "Arrays of others have one multiplier a cell, too; their figures were measured once with\n"
        "these tools and commands. JEPA-R's include the steering of columns in SG13G2; on the\n"
        "ECP5 a multiplier and its registers are one MULT18X18D.\n"
        f"From `python scripts/bench_synthesis.py --pdk-dir DIR` ({figures['machine']}; "
        f"{', '.join(f'{name} {number}' for name, number in tools.items())}),\n"
        "which rewrites `scripts/synthesis.json` and these tables."
    )
    return "\n\n".join(parts)


def _render_arrays(figures: Mapping[str, Any]) -> str:
    """Table of arrays."""
    array, points = figures["array"], figures["cells"]["sg13g2"]["points"]
    rows = []
    for other in OTHERS:
        um2 = f"{other['um2']:,}" if "um2" in other else ""
        mhz = f"{other['mhz']} / {other['slow_mhz']}" if "mhz" in other else ""
        rows.append((other["array"], f"{other['lut4']:g}", f"{other['ecp5_mhz']:g}", um2, mhz))
    for name, point in (("JEPA-R, small", points[-1]), ("JEPA-R, fast", points[0])):
        rows.append((
            name,
            f"{array['lut4'] / 64:.1f} and {array['ccu2c'] / 64:.1f} CCU2C",
            f"{max(array['fmax_mhz'].values()):.1f}",
            f"{point['um2_in_array']:,.0f}",
            f"{point['mhz']:.0f} / {point['slow_mhz']:.0f}",
        ))
    return "\n".join([
        "| 8 x 8 INT8 array, 20-bit sums | ECP5: LUT4 a cell | MHz | SG13G2: µm² a cell "
        "| MHz, typical / slow |",
        "|---|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ])


def _rows(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and value of the other figures."""
    rows = []
    if "cells" in figures:
        points = figures["cells"]["asap7"]["points"]
        cells = {(point["ps"], point["um2"]): point["mhz"] for point in points}
        rows += [
            (
                "cell with 23-bit sums, ASAP7",
                f"{ps:.0f} ps ({mhz / 1000:.2f} GHz), {um2:.1f} µm²",
            )
            for (ps, um2), mhz in cells.items()
        ]
    if "ecp5" in figures:
        board = figures["ecp5"]
        mult, mhz = board["utilisation"]["MULT18X18D"], max(board["fmax_mhz"].values())
        rows.append((
            f"`ecp5` preset in an {board['device']} after place and route",
            f"{mhz:.1f} MHz, {board['freq_mhz']:g} asked; "
            f"{mult['used']} of {mult['available']} multipliers, "
            f"{board['lut4']:,} LUT4, {board['dp16kd']} block memories",
        ))
    if "jepa-r" in figures:
        chip = figures["jepa-r"]
        rows += [
            (
                "`jepa-r` preset, ASAP7: modules times instances",
                f"{chip['area_um2'] / 1e6:.2f} mm² of cells, "
                f"{chip['memory_bits'] / 8 / 2**20:.1f} MiB of SRAM apart",
            ),
            ("one of its 128 x 128 tiles", f"{chip['tile_um2'] / 1e6:.3f} mm²"),
            (
                f"slowest of its {len(chip['modules'])} modules",
                f"{chip['worst_path']['ps']:.0f} ps ({chip['fmax_mhz'] / 1000:.2f} GHz) in "
                f"`{chip['worst_path']['module']}`",
            ),
        ]
    return rows
