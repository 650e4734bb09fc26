# amaranth: UnusedElaboratable=no
"""Everything at the sizes that presets name: tiles, and a whole block of ViT-g on a cluster.

    TEST_WORKERS=0 ./scripts/test --slow -s tests/system/test_scale.py

takes about half an hour on two cores, and says how far the block is.
"""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from attrs import evolve

from jepa_r.config import PRESETS
from jepa_r.emit import emit_verilog
from jepa_r.tops import TOPS
from jepa_r_sim import scale
from jepa_r_sim.compiler import compile_encoder
from jepa_r_sim.cosim import verilator_environment
from jepa_r_sim.model.shapes import MODELS
from jepa_r_sim.system import Run

pytestmark = pytest.mark.slow

VITG = MODELS["vitg-ac"]

#: Modules that are only in large arrays.
INSIDE = re.compile(r"array_\d|cell_")

#: Lines of a module that say what it looks like from outside.
INTERFACE = re.compile(r"module |endmodule|\s*(input|output) ")

WAIVERS = Path(__file__).parents[2] / "constraints" / "verilator_waivers.vlt"

#: Tiles of all presets by what they are for.
TILES = {
    f"{name} {part}": cluster.tile
    for name, chip in PRESETS.items()
    for part, cluster in (("encoder", chip.encoder), ("predictor", chip.predictor))
    if cluster is not None
}

#: What both operands of every product are.
VALUES = {"random": None, "least": (-128, -128), "most": (127, 127), "mixed": (127, -128)}


@cache
def player(tile):
    return scale.build_tile(tile)


def operands(shape, values, *, columns):
    """A product with all of K, all tokens, and one block of columns."""
    m, k, n = shape
    rng = np.random.default_rng(k)
    a = rng.integers(-128, 128, (m, k), dtype=np.int8)
    b = rng.integers(-128, 128, (min(n, columns), k), dtype=np.int8)
    if values is not None:
        a[:], b[:] = values
    return a, b


@pytest.mark.parametrize("name", TILES)
@pytest.mark.parametrize("kind", VALUES)
def test_products_of_vitg_on_the_tiles_of_all_presets(name, kind, tmp_path):
    """Every kind of product in a block, bit for bit, in the cycles that the formula says."""
    tile = TILES[name]
    for what, shape in scale.shapes_of(VITG).items():
        a, b = operands(shape, VALUES[kind], columns=tile.columns)
        run = scale.run_chain(player(tile), tile, scale.slices(a, b, tile), workdir=tmp_path / what)
        assert run.exact, (what, run)
        assert run.numbers == len(a) * len(b)


@pytest.mark.parametrize("top", TOPS)
@pytest.mark.parametrize("name", PRESETS)
def test_every_top_of_every_preset_passes_lint(name, top, tmp_path):
    chip = PRESETS[name]
    if chip.predictor is None and top in ("chip", "planner", "predictor", "robot"):
        pytest.skip(f"{name} only encodes")
    files = emit_verilog(TOPS[top](chip), name=top, into=tmp_path).files
    command = ["verilator", "--lint-only", "-Wall", str(WAIVERS), "--top-module", top]
    if top not in ("tile", "vector"):
        # Lint copies what is instantiated: 10 GB for all cells of the largest chip. The cells of a
        # large tile are looked at in the tile.
        boxes = [path for path in files if "_of_" in path.stem]
        for path in boxes:
            lines = path.read_text().splitlines()
            path.write_text("\n".join(filter(INTERFACE.match, lines)) + "\n")
        waiver = tmp_path / "boxes.vlt"
        rules = [f'lint_off -file "*/{path.name}"\n' for path in boxes]
        waiver.write_text("".join(["`verilator_config\n", *rules]))
        command.append(str(waiver))
        # Blocks that the boxes no longer hold are tops of their own.
        if boxes:
            files = [path for path in files if path in boxes or not INSIDE.match(path.stem)]
    process = subprocess.run(
        [*command, *map(str, files)], env=verilator_environment(), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr[-3000:]


class Blocks:
    """Encoders of one block on the 64 x 64 tiles of the largest preset."""

    def __init__(self, encoder_of):
        self._encoder_of = encoder_of
        self._simulation = None

    def __call__(self, **shapes):
        encoder = self._encoder_of(
            PRESETS["jepa-r"].predictor, evolve(VITG, depth=1, predictor=None, **shapes)
        )
        if self._simulation is not None:
            encoder.simulation = self._simulation
        self._simulation = encoder.simulation
        return encoder


@pytest.fixture(scope="module")
def block_of(encoder_of):
    return Blocks(encoder_of)


def tell(done, total):
    sys.stderr.write(f"\r{done:,} of {total:,} cycles ")
    sys.stderr.flush()


SMALL = {"image": 64, "width": 256, "heads": 4, "mlp": 500}


def test_a_small_block_is_exact_with_every_memory(block_of, memories, tmp_path):
    encoder, runs = block_of(**SMALL), memories(1)
    encoder.assert_exact(encoder.run(tmp_path, list(runs.values())), runs)


def test_a_wrong_bit_of_a_weight_is_seen(block_of, tmp_path):
    """In each kind of weight, so that no part of the block goes unseen.

    The memory's contents are those of a model with that bit, so that their checksums are right.
    """
    encoder = block_of(**SMALL)
    (layer,) = encoder.quantised.layers
    image = np.frombuffer(encoder.compiled.memory(encoder.frames), np.uint8)
    runs = []
    for name in ("query", "key", "value", "proj", "fc1", "fc2"):
        part = getattr(layer, name)
        weight = part.weight.copy()
        weight[7, 5] ^= 64
        wrong = evolve(layer, **{name: evolve(part, weight=weight)})
        compiled = compile_encoder(encoder.config, evolve(encoder.quantised, layers=(wrong,)))
        other = np.frombuffer(compiled.memory(encoder.frames), np.uint8)
        (places,) = np.nonzero(image != other)
        assert 1 < len(places) <= 1 + 4
        runs.append(Run(patches={int(at): other[at].tobytes() for at in places}))
    for result in encoder.run(tmp_path, runs):
        assert (result.done, result.fault) == (True, "NONE")
        assert result.cycles == encoder.compiled.cycles
        assert not encoder.is_right(result)


def test_a_whole_block_of_vitg_is_exact(block_of, tmp_path):
    """256 tokens of 1408 channels, 22 heads, MLP of 6144, with patches and latents around it."""
    encoder = block_of()
    assert encoder.compiled.macs > 6.5e9
    (result,) = encoder.run(tmp_path, [Run()], progress=tell)
    encoder.assert_exact([result], ["worst"])
