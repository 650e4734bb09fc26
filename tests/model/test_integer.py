"""The integer encoder: each of its pieces against float arithmetic, within derived bounds."""

import re

import numpy as np
import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa_r_sim.golden.rows import NormProfile
from jepa_r_sim.model import integer
from jepa_r_sim.model.encoder import layer_norm, rotary_tables, rotate
from jepa_r_sim.model.preprocess import photograph_patches
from jepa_r_sim.model.quantised import Norm
from jepa_r_sim.model.quantiser import quantise
from jepa_r_sim.model.shapes import MODELS
from jepa_r_sim.model.weights import random_weights

NANO = MODELS["nano"]


@pytest.fixture(scope="module")
def quantised():
    return quantise(random_weights(NANO, 0))


@pytest.fixture(scope="module")
def trace(quantised):
    return integer.encode(quantised, photograph_patches(NANO))


def test_the_trace_names_everything_in_the_width_it_is_stored(trace):
    int8, int16, heads = np.int8, np.int16, (3, 16, 16)
    expected = {"patch": (int16, (16, 48))}
    for n in range(2):
        expected |= {
            f"layer.{n}.norm1": (int8, (16, 48)), f"layer.{n}.query": (int8, (16, 48)),
            f"layer.{n}.key": (int8, (16, 48)), f"layer.{n}.value": (int8, (48, 16)),
            f"layer.{n}.logits": (int16, heads), f"layer.{n}.exponentials": (int8, heads),
            f"layer.{n}.context": (int8, (16, 48)), f"layer.{n}.attention": (int16, (16, 48)),
            f"layer.{n}.norm2": (int8, (16, 48)), f"layer.{n}.hidden": (int8, (16, 209)),
            f"layer.{n}.residual": (int16, (16, 48)),
        }  # fmt: skip
    expected |= {"norm": (int16, (16, 48)), "latent": (int8, (16, 48))}
    rows = {name for name in trace.tensors if name.endswith((".rows", ".sums"))}
    found = {n: (t.dtype, t.shape) for n, t in trace.tensors.items() if n not in rows}
    assert found == expected
    assert len(rows) == 2 * 3 + 2
    assert trace.latent is trace["latent"]


def test_the_result_depends_on_nothing_but_the_patches(quantised, trace):
    again = integer.encode(quantised, photograph_patches(NANO))
    assert all(np.array_equal(again[name], trace[name]) for name in trace.tensors)


def test_other_patches_are_refused(quantised):
    message = "patches are int8 (16, 700), the model reads int8 (16, 768)"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        integer.encode(quantised, np.zeros((16, 700), np.int8))
    message = "patches are uint8 (16, 768), the model reads int8 (16, 768)"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        integer.encode(quantised, np.zeros((16, 768), np.uint8))


def identity(width, *, lsb, bits=8, eps=1e-6):
    profile = NormProfile.of(width, eps=eps, lsb=lsb)
    shift2 = 12 + profile.fraction - (4 if bits == 8 else 10)
    gain, add = np.full(width, 1 << 12, np.int16), np.zeros(width, np.int32)
    return Norm(profile=profile, gain=gain, add=add, shift2=shift2, bits=bits)


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(2, 1500),
    spread=st.floats(3, 9000),
    mean=st.floats(-8000, 8000),
    seed=st.integers(0, 1000),
)
def test_norm_is_a_layer_norm(width, spread, mean, seed):
    random = np.random.default_rng(seed)
    x = np.clip(np.rint(mean + spread * random.standard_normal((2, width))), -32768, 32767)
    lsb = 1e-3
    norm = identity(width, lsb=lsb)
    found = integer.norm(x.astype(np.int16), norm, "n", {}).astype(np.float64)
    wanted = np.clip(16 * layer_norm(x * lsb, 1e-6), -128, 127)
    # The mean is off by at most 1/256 (its own rounding and that of 256 / width); the reciprocal
    # root and the width's share in it by 2**-15 each, the normalised value by half a unit.
    deviation = np.sqrt(x.var(1, keepdims=True) + 1e-6 / lsb**2)
    mean_error = 1 / 256 + np.abs(x.mean(1, keepdims=True)) * 2.0**-16
    bound = 0.5 + 16 * (mean_error / deviation + 2.0 ** -(norm.profile.fraction + 1))
    bound = bound + np.abs(wanted) * 2.0**-13 + 1e-9
    assert (np.abs(found - wanted) <= bound).all()


def test_a_constant_row_has_a_defined_result():
    for value in (-32768, -1, 0, 1, 32767):
        x = np.full((1, 48), value, np.int16)
        z = integer.norm(x, identity(48, lsb=1e-3), "n", {}).astype(int)
        # The floor is one unit of the stream here, and 256 / 48 is held to 2**-17.
        assert np.abs(z).max() <= 0.5 + 16 * abs(value) * 2.0**-17
        assert (z == z[0, 0]).all()


def test_a_hot_channel_saturates_and_does_not_wrap():
    x = np.zeros((1, 200), np.int16)
    x[0, 7], x[0, 8] = 32767, -32768
    z = integer.norm(x, identity(200, lsb=1e-3), "n", {})
    assert (z[0, 7], z[0, 8]) == (127, -128)


def test_query_and_key_are_rotated(quantised, trace):
    layer = quantised.layers[0]
    cos, sin = rotary_tables(NANO)
    for name in ("query", "key"):
        y = integer.linear(trace["layer.0.norm1"], getattr(layer, name)).astype(np.float64)
        assert np.abs(y).max() < 32767, "INT16 before the rotation must not saturate"
        y = y.reshape(16, 3, 16).transpose(1, 0, 2) / 2.0 ** (quantised.rope.shift - 14)
        wanted = np.clip(rotate(y, cos, sin), -128, 127).transpose(1, 0, 2).reshape(16, 48)
        # Half a unit of the result, and of the 14 bits of either table entry.
        assert np.abs(trace[f"layer.0.{name}"] - wanted).max() <= 0.5 + 2 * 512 * 2.0**-15


def test_dims_beyond_the_axes_pass_through(quantised):
    assert (quantised.rope.cos[:, 12:] == 1 << 14).all()
    assert not quantised.rope.sin[:, 12:].any()
    assert (quantised.rope.cos[:, :4] == 1 << 14).all(), "time is 0"


def test_context_is_a_softmax_average(quantised, trace):
    layer = quantised.layers[1]
    value = trace["layer.1.value"].astype(np.float64)
    logits = trace["layer.1.logits"].astype(np.float64)
    shares = 2.0 ** ((logits - logits.max(-1, keepdims=True)) / 16)
    shares /= shares.sum(-1, keepdims=True)
    for head in range(3):
        part = slice(16 * head, 16 * head + 16)
        exact = shares[head] @ value[part].T
        gain = layer.context.mul[part] * 2.0 ** (8 - layer.context.shift2)
        offset = layer.context.add[part] * 2.0**-layer.context.shift2
        wanted = np.clip(exact * gain + offset, -128, 127)
        # Every exponential is off by half of 1/127 of the largest; 16 of them, the sum at least 1.
        share_error = 0.5 / 127 * 16 * 2 * 127
        found = trace["layer.1.context"][:, part].astype(np.float64)
        assert (np.abs(found - wanted) <= 0.5 + np.abs(gain) * (share_error + 0.01)).all()
        assert np.abs(found - wanted).mean() < 1.5


def test_rows_of_exponentials_have_one_at_their_maximum(trace):
    for n in range(2):
        assert (trace[f"layer.{n}.exponentials"].max(-1) == 127).all()
        assert trace[f"layer.{n}.exponentials"].min() >= 0


def test_the_residual_stream_has_room(trace):
    for name in ("patch", "layer.0.attention", "layer.0.residual", "layer.1.residual", "norm"):
        assert 1000 < np.abs(trace[name].astype(np.int32)).max() < 30000


def test_black_white_and_noise_stay_finite(quantised):
    random = np.random.default_rng(0)
    for patches in (
        np.full((16, 768), -128, np.int8),
        np.full((16, 768), 127, np.int8),
        random.integers(-128, 128, (16, 768)).astype(np.int8),
    ):
        latent = integer.encode(quantised, patches).latent.astype(np.float64) / 16
        assert np.abs(latent.mean(1)).max() < 0.05
        assert (np.abs(latent.std(1) - 1) < 0.1).all()


def test_a_class_token_needs_no_hardware_of_its_own():
    config = evolve(NANO, class_token=True, absolute_positions=True, rotary=False)
    weights = random_weights(config, 1)
    q = quantise(weights)
    x = integer.embed(q, photograph_patches(config)).astype(np.float64) * q.residual_lsb
    wanted = (
        weights["encoder.embeddings.cls_token"]
        + weights["encoder.embeddings.position_embeddings"][0]
    )
    assert np.abs(x[0] - wanted).max() <= q.residual_lsb
