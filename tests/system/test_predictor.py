"""Rollouts on the verilated predictor's cluster against the integer model."""

from functools import cached_property

import numpy as np
import pytest
from attrs import evolve

from jepa_r.config import PRESETS
from jepa_r_sim.compiler import compile_encoder, compile_predictor
from jepa_r_sim.model import integer
from jepa_r_sim.model.preprocess import photograph_patches
from jepa_r_sim.model.quantiser import quantise_predictor
from jepa_r_sim.model.rollout import costs, rollout
from jepa_r_sim.model.shapes import MODELS, ModelConfig, PredictorConfig
from jepa_r_sim.model.weights import random_predictor_weights
from jepa_r_sim.system import Run, build_cluster, run_image, run_predictor

CONFIG = PRESETS["nano"].predictor
MODEL = MODELS["nano"]
TILES = CONFIG.tiles


class Predictor:
    """A random predictor, and the hardware that all its programs run on."""

    def __init__(self, config, model, seed):
        self.config, self.model = config, model
        self.random = np.random.default_rng(seed)
        latents = np.stack([self.latent() for _ in range(8)])
        self.quantised = quantise_predictor(random_predictor_weights(model, seed), latents)

    def latent(self):
        """Latent of nothing: rows of zero mean and unit variance, in sixteenths."""
        x = self.random.standard_normal((self.model.tokens, self.model.width))
        x = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
        return np.clip(np.rint(16 * x), -128, 127).astype(np.int8)

    def candidates(self, count, horizon):
        """Actions and states, the largest of both among them."""
        actions = self.random.integers(-1229, 1230, (count, horizon, 7)).astype(np.int16)
        states = self.random.integers(-16384, 16385, (count, horizon, 7)).astype(np.int16)
        actions[0], states[0] = 32639, -32639
        actions[-1, :, ::2], states[-1, :, 1::2] = -128, 127
        return actions, states

    def compiled(self, horizon, **options):
        return compile_predictor(self.config, self.quantised, horizon=horizon, **options)

    @cached_property
    def simulation(self):
        return build_cluster(self.compiled(1))

    def check(self, workdir, horizon, count, *, mode=(("worst",),), late=False, seed=1, **options):
        """Roll candidates out and compare everything; return how long each run waited.

        Only runs with a ``late`` memory may wait.
        """
        compiled = self.compiled(horizon, trace=True, **options)
        start, goal = self.latent(), self.latent()
        actions, states = self.candidates(count, horizon)
        golden = rollout(self.quantised, start, actions, states).latents
        found = run_predictor(
            compiled, start, goal, actions, states, workdir=workdir, mode=mode,
            elastic=options.get("elastic", False), simulation=self.simulation, seed=seed,
        )  # fmt: skip
        assert late or not any(r.slipped for r in found)
        assert [(r.done, r.fault, r.cycles - r.slipped) for r in found] == [
            (True, "NONE", compiled.cycles)
        ] * -(-count // self.config.tiles)
        latents = np.concatenate([r.latents for r in found])[:count]
        assert (latents == golden).all(), (latents != golden).sum((2, 3))
        distances = [d for r in found for d in r.distances][:count]
        assert distances == costs(golden[:, -1], goal).tolist()
        return [r.slipped for r in found]


@pytest.fixture(scope="module")
def predictor():
    return Predictor(CONFIG, MODEL, 1)


@pytest.mark.parametrize(("horizon", "count"), [(1, 9), (2, 6), (3, 4)])
def test_rollouts_are_exact_in_latents_costs_and_cycles(predictor, tmp_path, horizon, count):
    predictor.check(tmp_path, horizon, count)


@pytest.mark.parametrize("mode", [[("fast",)], [("random", 1)], [("random", 2)]], ids=str)
def test_memory_within_its_contract_does_not_matter(predictor, tmp_path, mode):
    predictor.check(tmp_path, 2, 5, mode=mode, seed=3)


# Other clusters and predictors: nothing fits anything.


def cluster(rows, columns, lanes):
    """Two tiles whose accumulators take 12 rows, with room for small predictors."""
    tile = evolve(
        CONFIG.tile, rows=rows, columns=columns, lanes=lanes, acc_rows=12, act_words=2048,
        x_words=2048,
    )  # fmt: skip
    return evolve(CONFIG, tiles=2, tile=tile)


def model(grid, width, heads, head_dim, mlp, depth):
    """Latents of ``width`` channels, and a predictor of other sizes."""
    return ModelConfig(
        image=4 * grid, patch=4, width=width, heads=1, head_dim=width, depth=1, mlp=8,
        predictor=PredictorConfig(
            width=heads * head_dim, heads=heads, head_dim=head_dim, depth=depth, mlp=mlp, steps=2
        ),
    )  # fmt: skip


#: An odd number of rows; heads that begin within words and end within segments.
ODD = model(3, 22, 3, 10, 37, 2)
#: Rows in two blocks; heads that are narrower than words.
SPLIT = model(4, 14, 2, 6, 21, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape",
    [
        # Words of two segments, padded heads.
        pytest.param((8, 4, 4), id="2 tiles of 8x4, 4 lanes"),
        # Words of three segments, seven features in two of them.
        pytest.param((6, 4, 2), id="2 tiles of 6x4, 2 lanes"),
    ],
)
def test_other_shapes_are_exact_as_well(tmp_path, shape):
    odd, split = (Predictor(cluster(*shape), shapes, seed=4) for shapes in (ODD, SPLIT))
    split.simulation = odd.simulation
    for horizon in (1, 2):
        odd.check(tmp_path / f"odd_{horizon}", horizon, 3)
        split.check(tmp_path / f"split_{horizon}", horizon, 3, mode=[("random", 1)])


def test_elastic_rollouts_wait_for_a_broken_contract_alone(predictor, tmp_path):
    assert predictor.compiled(2, elastic=True).cycles < 1.05 * predictor.compiled(2).cycles
    predictor.check(tmp_path / "in_time", 2, 5, elastic=True)
    # After the program's own bursts, of which there are fewer.
    late = [("worst",), ("broken", {"burst": 400, "by": 5000})]
    waited = predictor.check(tmp_path / "late", 2, 5, mode=late, late=True, elastic=True)
    assert any(waited)


def test_as_many_rollouts_as_tiles_take_as_long_as_one():
    one = compile_predictor(evolve(CONFIG, tiles=1), MODEL, horizon=2).cycles
    assert predictor_cycles(CONFIG) <= 1.02 * one
    # What costs is weights, and they are multicast.
    full = PRESETS["jepa-r"].predictor
    one = compile_predictor(evolve(full, tiles=1), MODELS["vitg-ac"]).cycles
    assert compile_predictor(full, MODELS["vitg-ac"]).cycles <= 1.02 * one


def predictor_cycles(config):
    return compile_predictor(config, MODEL, horizon=2).cycles


def test_what_is_not_done_in_order_is_refused(predictor, tmp_path):
    compiled = predictor.compiled(1)
    memory = bytearray(compiled.memory_bytes)
    compiled.place(memory)

    def run(*runs):
        return [
            values["fault"]
            for values, _output in run_image(
                CONFIG, bytes(memory), program=compiled.program_address, cycles=compiled.cycles,
                output=(0, 16), simulation=predictor.simulation, workdir=tmp_path, runs=runs,
            )
        ]  # fmt: skip

    last = CONFIG.tile.act_banks * 4096
    assert run(
        Run(load=True), Run(again=True),
        # Beyond the memory, and to a tile that there is not.
        Run(load=True, feed=[(1, last, 0)]), Run(load=True, feed=[(1 << TILES, 0, 0)]),
        Run(load=True, elastic=True), Run(),
    ) == ["NONE", "NONE", "ADDRESS", "ADDRESS", "IMAGE_ELASTIC", "NONE"]  # fmt: skip


def test_latents_also_go_to_the_latent_store(nano, tmp_path):
    compiled = compile_encoder(nano.config, nano.quantised, latent_store=True, base=8192)
    assert compiled.cycles < nano.compiled.cycles + 200
    slot, patches = 1000, photograph_patches(MODEL)
    image = bytes(compiled.memory([patches]))
    ((values, output),) = run_image(
        nano.config, image, program=compiled.program_address, cycles=compiled.cycles,
        output=(0, len(image)), simulation=nano.simulation, workdir=tmp_path,
        runs=[Run(arguments=(8192, slot))],
    )  # fmt: skip
    assert (values["fault"], values["cycles"]) == ("NONE", compiled.cycles)
    golden = integer.encode(nano.quantised, patches).latent
    assert (compiled.latents(output) == golden).all()
    rows = nano.config.tile.rows
    words = {
        slot + block * MODEL.tokens + token: int.from_bytes(
            golden[token, block * rows : (block + 1) * rows].tobytes(), "little"
        )
        for block in range(MODEL.width // rows)
        for token in range(MODEL.tokens)
    }
    assert values["stored"] == words
