"""A predictor of random integers, for what must hold whatever the numbers are."""

import numpy as np
from attrs import evolve

from jepa_r_sim.golden.rows import NormProfile
from jepa_r_sim.model.predictor import step_tables
from jepa_r_sim.model.quantised import (
    Column,
    Linear,
    Logits,
    Norm,
    QuantisedLayer,
    QuantisedPredictor,
    Rope,
    Value,
    WideLinear,
    multiplier,
)


def rough_predictor(config, seed=0):
    """Parameters that fill the ranges of everything, and are not of any float model."""
    random = np.random.default_rng(seed)
    shape = config.predictor
    size = shape.width

    def linear(rows, columns, reach, kind=Linear, per=60.0):
        weight = np.clip(np.rint(50 * random.standard_normal((rows, columns))), -127, 127)
        unit = 50 * per * np.sqrt(columns)
        mul, shift = multiplier(reach / unit * random.uniform(0.7, 1.4, rows))
        add = np.rint(0.3 * unit * random.standard_normal(rows)).astype(np.int32)
        return kind(weight=weight.astype(np.int8), add=add, mul=mul, shift=shift)

    def norm(width, bits=8, spread=0.2):
        profile = NormProfile.of(width, eps=1e-6, lsb=1e-3)
        gain = np.rint(4096 * np.exp(spread * random.standard_normal(width))).astype(np.int16)
        shift2 = 12 + profile.fraction - 5
        add = np.rint(2.0**shift2 * 4 * random.standard_normal(width)).astype(np.int32)
        return Norm(profile=profile, gain=gain, add=add, shift2=shift2, bits=bits)

    def layer():
        mul, shift = multiplier(np.full(shape.heads, 60 / (50 * 50 * 4)))
        value = linear(size, size, 50)
        return QuantisedLayer(
            norm1=norm(size), query=linear(size, size, 40 * 64), key=linear(size, size, 40 * 64),
            value=Value(weight=value.weight, mul=int(value.mul[0]), shift=int(value.shift[0])),
            logits=Logits(mul=mul, shift=shift),
            context=Column(mul=np.full(size, 1 << 12, np.int16),
                           add=random.integers(-9999, 9999, size).astype(np.int32), shift2=19),
            proj=linear(size, size, 2000), norm2=norm(size), fc1=linear(shape.mlp, size, 50),
            table=random.integers(-128, 128, 256).astype(np.int8),
            fc2=linear(size, shape.mlp, 2000),
        )  # fmt: skip

    cos, sin = (
        np.rint(2**14 * np.stack(tables)).astype(np.int16)
        for tables in zip(*(step_tables(config, t) for t in range(shape.steps)), strict=True)
    )
    return QuantisedPredictor(
        config=config, action=linear(size, 7, 3000, WideLinear, 9000.0),
        state=linear(size, 7, 3000, WideLinear, 9000.0),
        embed=linear(size, config.width, 3000, per=16.0),
        rope=Rope(cos=cos, sin=sin, shift=20), layers=tuple(layer() for _ in range(shape.depth)),
        norm=norm(size), proj=linear(config.width, size, 3000),
        latent=evolve(norm(config.width, spread=0.0), add=np.zeros(config.width, np.int32)),
        residual_lsb=1e-3, output_lsb=1e-3,
    )  # fmt: skip
