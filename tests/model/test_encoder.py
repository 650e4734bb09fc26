"""The float encoder: its functions against independent ones."""

import math

import numpy as np
import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from jepa_r_sim.model.encoder import (
    encode,
    erf,
    gelu,
    layer_norm,
    normalised_patches,
    rotary_tables,
    rotate,
)
from jepa_r_sim.model.preprocess import photograph_patches
from jepa_r_sim.model.shapes import MODELS
from jepa_r_sim.model.weights import CLASS_TOKEN, PATCH, POSITIONS, random_weights

NANO = MODELS["nano"]


@given(st.floats(allow_nan=False, allow_infinity=True))
def test_erf_is_exact(x):
    assert erf(np.array([x]))[0] == pytest.approx(math.erf(x), rel=1e-15, abs=1e-300)


def test_erf_is_exact_where_the_formulas_meet():
    x = np.concatenate([np.linspace(at - 1e-3, at + 1e-3, 2001) for at in (0.46875, 4, 6)])
    assert np.allclose(erf(x), [math.erf(v) for v in x], rtol=1e-15, atol=0)


def test_gelu_keeps_the_precision_of_its_argument():
    x = np.linspace(-6, 6, 99)
    assert np.allclose(gelu(x), [v * 0.5 * math.erfc(-v / math.sqrt(2)) for v in x], atol=1e-15)
    assert gelu(x.astype(np.float32)).dtype == np.float32


def turned(x, config, time, row, column):
    """Rotary positions as the paper's code spells them out, dim by dim."""
    a = 2 * math.floor(math.floor(len(x) / 3) / 2)
    y = list(x)
    for axis, position in enumerate((time, row, column)):
        for pair in range(a // 2):
            even, odd = axis * a + 2 * pair, axis * a + 2 * pair + 1

            def angle(d, axis=axis, position=position):
                return position * 10000.0 ** (-((d - axis * a) % (a // 2)) / (a / 2))

            y[even] = x[even] * math.cos(angle(even)) - x[odd] * math.sin(angle(even))
            y[odd] = x[odd] * math.cos(angle(odd)) + x[even] * math.sin(angle(odd))
    return y


@pytest.mark.parametrize("head_dim", [6, 16, 22, 64])
def test_rotation_is_the_one_the_weights_were_trained_with(head_dim):
    config = evolve(NANO, head_dim=head_dim, width=3 * head_dim)
    x = np.random.default_rng(head_dim).standard_normal((config.tokens, head_dim))
    for time in (0, 3):
        y = rotate(x, *rotary_tables(config, time))
        for token in range(config.tokens):
            wanted = turned(x[token], config, time, token // 4, token % 4)
            assert np.allclose(y[token], wanted, atol=1e-14)


def test_rotation_is_not_the_textbook_one():
    cos, _ = rotary_tables(MODELS["vitg-ac"])
    # Token 1 is in column 1: the members of its first pair of column dims have different angles.
    assert cos[1, 40] == pytest.approx(math.cos(1.0))
    assert cos[1, 41] == pytest.approx(math.cos(10000**-0.1))
    assert (cos[:, 60:] == 1).all()


def test_layer_norm_of_a_constant_row_is_zero():
    assert not layer_norm(np.full((1, 8), 3.0), 1e-6).any()


def test_pixels_are_normalised_by_colour():
    config = evolve(NANO, image=16)
    patches = np.full((1, 768), 127, np.int8)
    normal = normalised_patches(patches, config)
    assert np.allclose(
        normal[0, [0, 256, 512]], [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    )


def test_a_class_token_replaces_its_patch():
    config = evolve(NANO, class_token=True, absolute_positions=True)
    weights = random_weights(config, 2)
    seen = {}
    encode(weights, photograph_patches(config), observe=seen.__setitem__)
    assert np.allclose(seen["patch"][0], weights[CLASS_TOKEN] + weights[POSITIONS][0])
    kernel, bias = weights.affine(PATCH)
    first = normalised_patches(photograph_patches(config), config)[1]
    assert np.allclose(seen["patch"][1], kernel @ first + bias + weights[POSITIONS][1])


def test_latents_have_mean_zero_and_variance_one():
    weights = random_weights(NANO, 0)
    latent = encode(weights, photograph_patches(NANO)).latent
    assert np.allclose(latent.mean(1), 0, atol=1e-12)
    assert np.allclose(latent.var(1), 1, atol=1e-4)


def test_random_weights_use_the_arithmetic():
    for seed in range(4):
        weights = random_weights(NANO, seed)
        seen = {}
        encode(weights, photograph_patches(NANO), observe=seen.__setitem__)
        for layer in range(NANO.depth):
            logits = seen[f"layer.{layer}.logits"]
            shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
            assert 0.15 < shares.max(-1).mean() < 0.9
            hidden = seen[f"layer.{layer}.unactivated"]
            assert 0.2 < (hidden < 0).mean() < 0.8
        assert seen["layer.1.residual"].std() > 1.2 * seen["patch"].std()
