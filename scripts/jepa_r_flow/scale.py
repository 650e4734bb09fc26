"""How fast full-size hardware simulates, and that it is right: measured, and rendered as text."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from attrs import evolve

from jepa_r.config import PRESETS, TileConfig
from jepa_r_sim import scale
from jepa_r_sim.compiler import compile_encoder
from jepa_r_sim.model import integer
from jepa_r_sim.model.quantiser import quantise
from jepa_r_sim.model.shapes import MODELS
from jepa_r_sim.model.weights import random_weights
from jepa_r_sim.system import build_cluster, run_encoder

from .console import Stages
from .figures import processor_seconds, surroundings

__all__ = ["measure_scale", "render_scale"]

#: Edges of the tiles, and multiplications in a chain on each: seconds of simulation.
_EDGES = {8: 2**27, 16: 2**27, 32: 2**27, 64: 2**28, 128: 2**29}

_MODEL = MODELS["vitg-ac"]


def measure_scale(stages: Stages) -> dict[str, Any]:
    """Build and run tiles of all sizes, and a block of ViT-g; takes half an hour."""
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        tiles = [_tile(edge, macs, home, stages) for edge, macs in _EDGES.items()]
        block = _block(home, stages)
    return {**surroundings(), "tiles": tiles, "block": block}


def _tile(edge: int, macs: int, home: Path, stages: Stages) -> dict[str, Any]:
    """Products of the blocks' first linear layer on one tile."""
    tokens, depth, _ = scale.shapes_of(_MODEL)["fc1"]
    tile = TileConfig(
        rows=edge, columns=edge, lanes=2, acc_rows=tokens, row_entries=tokens, act_words=tokens,
        x_words=2, rope_words=2,
    )  # fmt: skip
    rng = np.random.default_rng(edge)
    shape = (-(-macs // (tokens * depth * edge)) * edge, depth)
    a = rng.integers(-128, 128, (tokens, depth), dtype=np.int8)
    b = rng.integers(-128, 128, shape, dtype=np.int8)
    with stages.stage(f"build a tile of {edge} x {edge}"):
        began = processor_seconds()
        player = scale.build_tile(tile)
        build_seconds = processor_seconds() - began
    with stages.stage(f"products on a tile of {edge} x {edge}"):
        run = scale.run_chain(player, tile, scale.slices(a, b, tile), workdir=home / str(edge))
    return {
        "size": [edge, edge],
        "build_seconds": round(build_seconds, 1),
        "cycles_predicted": run.cycles_predicted,
        "cycles_measured": run.cycles,
        "elements": run.numbers,
        "mismatches": run.numbers - run.equal,
        "seconds": round(run.seconds, 2),
        "cycles_per_second": round(run.simulated_cycles / run.seconds),
        "macs_per_second": round(run.macs / run.seconds),
    }


def _block(home: Path, stages: Stages) -> dict[str, Any]:
    """One block of the encoder, with patches and latents around it, on 64 x 64 tiles."""
    config = PRESETS["jepa-r"].predictor
    assert config is not None
    model = evolve(_MODEL, depth=1, predictor=None)
    with stages.stage("quantise a block of ViT-g"):
        quantised = quantise(random_weights(model, 1))
        patches = np.random.default_rng(1).integers(
            -128, 128, (model.tokens, model.patch_features), dtype=np.int8
        )
        golden = integer.encode(quantised, patches).latent
        compiled = compile_encoder(config, quantised)
    with stages.stage(f"build {config.tiles} tiles of {config.tile.rows} x {config.tile.columns}"):
        began = processor_seconds()
        simulation = build_cluster(compiled)
        build_seconds = processor_seconds() - began
    with stages.stage("block of ViT-g on the RTL") as progress:
        began = processor_seconds()
        (result,) = run_encoder(
            compiled, [patches], workdir=home / "block", simulation=simulation, progress=progress
        )
        seconds = processor_seconds() - began
    return {
        "tiles": config.tiles,
        "size": [config.tile.rows, config.tile.columns],
        "tokens": model.tokens,
        "width": model.width,
        "macs": compiled.macs,
        "fault": result.fault,
        "cycles_predicted": compiled.cycles,
        "cycles_measured": result.cycles,
        "utilisation": compiled.utilisation,
        "elements": golden.size,
        "mismatches": int((result.latents[0] != golden).sum()),
        "build_seconds": round(build_seconds, 1),
        "seconds": round(seconds, 1),
        "macs_per_second": round(compiled.macs / seconds),
    }


def render_scale(figures: dict[str, Any]) -> str:
    """Markdown of the figures."""
    lines = [
        "| verilated tile | build | cycles/s | MACs/s | sums equal to the golden model | cycles "
        "predicted / measured |",
        "|---|---|---|---|---|---|",
    ]
    for tile in figures["tiles"]:
        right = tile["elements"] - tile["mismatches"]
        lines.append(
            f"| {tile['size'][0]} x {tile['size'][1]} | {tile['build_seconds']:.0f} s | "
            f"{tile['cycles_per_second']:,} | {tile['macs_per_second'] / 1e6:,.0f} M | "
            f"{right:,} of {tile['elements']:,} | {tile['cycles_predicted']:,} / "
            f"{tile['cycles_measured']:,} |"
        )
    block = figures["block"]
    right = block["elements"] - block["mismatches"]
    tools = ", ".join(f"{name} {number}" for name, number in figures["versions"].items())
    return "\n".join([
        *lines,
        "",
        f"A block of ViT-g ({block['tokens']} tokens x {block['width']}, "
        f"{block['macs'] / 1e9:.2f} GMAC with patches) on a cluster of {block['tiles']} tiles of "
        f"{block['size'][0]} x {block['size'][1]}: {right:,} of {block['elements']:,} numbers "
        f"equal, {block['cycles_predicted']:,} cycles predicted, {block['cycles_measured']:,} "
        f"measured, {block['utilisation']:.1%} busy; built in {block['build_seconds']:.0f} s, "
        f"simulated in {block['seconds']:.0f} s: {block['macs_per_second'] / 1e6:.0f} M MACs/s.",
        "",
        f"From `python scripts/bench_scale.py` ({figures['machine']}; {tools}). Seconds are "
        "processor time of all processes together; the simulation itself is one thread.",
    ])
