"""Other clusters and models: odd sizes, padding, blocks of rows and of K, several cameras."""

import pytest
from attrs import evolve

from jepa_r.config import PRESETS
from jepa_r_sim.compiler import compile_encoder
from jepa_r_sim.model.shapes import ModelConfig
from jepa_r_sim.system import Run

NANO = PRESETS["nano"].encoder
slow = pytest.mark.slow


def cluster(tiles, rows, columns, lanes, acc_rows=32, *, shared=1024, memory=None, **fields):
    """A cluster with room for small models."""
    tile = evolve(
        NANO.tile, rows=rows, columns=columns, lanes=lanes, acc_rows=acc_rows, act_words=1024,
        x_words=1024, rope_words=256, row_entries=128,
    )  # fmt: skip
    return evolve(
        NANO, tiles=tiles, tile=tile, program_words=2048,
        shared=evolve(NANO.shared, bank_words=shared, param_words=512),
        memory=evolve(NANO.memory, **(memory or {})), **fields,
    )  # fmt: skip


def model(grid, heads, head_dim, mlp, *, patch=4, depth=1):
    return ModelConfig(
        image=grid * patch, patch=patch, width=heads * head_dim, heads=heads, head_dim=head_dim,
        depth=depth, mlp=mlp,
    )  # fmt: skip


#: Cluster, model, cameras.
CASES = {
    # Rows in blocks of 4, K of the MLP in three parts, an odd one out everywhere.
    "1 tile of 4x4": (cluster(1, 4, 4, 2, 4, shared=112, ecc=False), model(3, 3, 6, 301), 1),
    # Heads of 10 in 12 of words of 8; 9 tokens on tiles of 8; two frames.
    "2 tiles of 8x12": (cluster(2, 8, 12, 4), model(3, 3, 10, 37, depth=2), 2),
}
SLOW_CASES = {
    "2 tiles of 4x12": (cluster(2, 4, 12, 4, 6), model(3, 2, 6, 45, depth=2), 1),
    "1 tile of 10x6": (cluster(1, 10, 6, 2, 8), model(3, 2, 14, 33), 3),
    "3 tiles of 6x10": (cluster(3, 6, 10, 2, queue=2), model(4, 3, 6, 31), 1),
    "1 tile of 16x16": (cluster(1, 16, 16, 4), model(4, 3, 10, 75, depth=3), 1),
    "nano without codes": (evolve(NANO, ecc=False), model(4, 3, 16, 209, patch=16, depth=2), 1),
    "narrow bus": (
        cluster(2, 8, 8, 8, memory={"data_bytes": 4, "bytes_per_cycle": 3}), model(3, 2, 8, 20), 2,
    ),
    "wide bus": (
        cluster(2, 8, 8, 4, memory={"data_bytes": 64, "bytes_per_cycle": 64, "latency": 100}),
        model(3, 2, 8, 20), 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", [*CASES, *(pytest.param(name, marks=slow) for name in SLOW_CASES)])
def test_latents_and_cycles(encoder_of, memories, tmp_path, name):
    config, shapes, cameras = (CASES | SLOW_CASES)[name]
    encoder = encoder_of(config, shapes, cameras=cameras)
    runs = memories(3)
    encoder.assert_exact(encoder.run(tmp_path, list(runs.values())), runs)
    for other in range(1, cameras):
        assert (encoder.golden[other] != encoder.golden[0]).any()


def test_padded_keys_are_masked(encoder_of, tmp_path, monkeypatch):
    """Without the mask the padding is seen, so the cases above would fail."""
    config, shapes, cameras = CASES["2 tiles of 8x12"]
    encoder = encoder_of(config, shapes, cameras=cameras)
    simulation = encoder.simulation
    monkeypatch.setattr("jepa_r_sim.compiler.block._MASKED", 0)
    unmasked = compile_encoder(config, encoder.quantised, cameras=cameras)
    assert simulation is encoder.simulation
    (result,) = encoder.run(tmp_path, [Run()], compiled=unmasked)
    assert result.done
    assert (result.latents != encoder.golden).any()
