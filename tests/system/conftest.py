"""Encoders on the verilated cluster, prepared once."""

from functools import cached_property

import numpy as np
import pytest

from jepa_r.config import PRESETS
from jepa_r_sim.compiler import compile_encoder
from jepa_r_sim.model import integer
from jepa_r_sim.model.preprocess import photograph_patches
from jepa_r_sim.model.quantiser import quantise
from jepa_r_sim.model.shapes import MODELS
from jepa_r_sim.model.weights import random_weights
from jepa_r_sim.system import Run, build_cluster, run_encoder


class Encoder:
    """A random model on a cluster, with its input and what must come out."""

    def __init__(self, config, model, *, cameras=1, seed=1, frames=None):
        self.config = config
        self.quantised = quantise(random_weights(model, seed))
        rng = np.random.default_rng(seed)
        shape = (model.tokens, model.patch_features)
        self.frames = frames or [
            rng.integers(-128, 128, shape, dtype=np.int8) for _ in range(cameras)
        ]
        self.golden = np.stack([integer.encode(self.quantised, f).latent for f in self.frames])
        self.compiled = compile_encoder(config, self.quantised, cameras=len(self.frames))

    @cached_property
    def simulation(self):
        return build_cluster(self.compiled)

    def run(self, workdir, runs, *, compiled=None, seed=1, progress=None):
        """Results of ``runs`` from one simulation."""
        return run_encoder(
            compiled or self.compiled, self.frames, workdir=workdir, runs=runs,
            simulation=self.simulation, seed=seed, progress=progress,
        )  # fmt: skip

    def is_right(self, result):
        """Whether a run came to its end with every element right."""
        return result.done and result.fault == "NONE" and (result.latents == self.golden).all()

    def is_exact(self, result):
        """Whether a run was right and took as long as was predicted."""
        return (
            self.is_right(result) and result.cycles == self.compiled.cycles and result.slipped == 0
        )

    def assert_exact(self, results, names):
        wrong = {
            name: (r.fault, r.cycles, int((r.latents != self.golden).sum()))
            for name, r in zip(names, results, strict=True)
            if not self.is_exact(r)
        }
        assert not wrong, f"{self.compiled.cycles} cycles predicted; {wrong}"


@pytest.fixture(scope="session")
def encoder_of():
    """The class, for tests of other clusters and models."""
    return Encoder


@pytest.fixture(scope="session")
def nano():
    """The photograph of the demo on the smallest preset."""
    model = MODELS["nano"]
    return Encoder(PRESETS["nano"].encoder, model, frames=[photograph_patches(model)])


@pytest.fixture(scope="session")
def memories():
    """Memories that keep the contract: as late as it allows, at once, and anything between."""

    def make(seeds):
        return {
            "worst": Run(),
            "fast": Run(mode=[("fast",)]),
            **{f"random {n}": Run(mode=[("random", n)]) for n in range(seeds)},
        }

    return make
