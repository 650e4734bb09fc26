"""The quantiser: what it folds, and how near the integer path stays to the float one."""

import re

import numpy as np
import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from jepa_r_sim.golden.lane import lookup
from jepa_r_sim.model import integer
from jepa_r_sim.model.encoder import MEAN, STD, encode, gelu
from jepa_r_sim.model.preprocess import photograph_patches
from jepa_r_sim.model.quality import compare
from jepa_r_sim.model.quantised import Linear, multiplier
from jepa_r_sim.model.quantiser import calibration_patches, quantise
from jepa_r_sim.model.shapes import MODELS
from jepa_r_sim.model.weights import PATCH, random_weights

NANO = MODELS["nano"]


@pytest.fixture(scope="module")
def weights():
    return random_weights(NANO, 0)


@pytest.fixture(scope="module")
def quantised(weights):
    return quantise(weights)


@given(st.floats(2.0**-47, 32767))
def test_a_multiplier_is_within_half_of_its_last_place(ratio):
    mul, shift = multiplier(ratio)
    assert 16384 <= mul <= 32767
    assert 0 <= shift <= 62
    assert float(mul) * 2.0 ** -float(shift) == pytest.approx(ratio, rel=2.0**-15)


def test_a_multiplier_too_small_to_matter_is_zero():
    mul, shift = multiplier(np.array([0.0, 2.0**-60, 1.0]))
    assert mul.tolist() == [0, 0, 16384]
    assert shift.tolist() == [0, 0, 14]


@pytest.mark.parametrize("ratio", [-1.0, float("nan"), 40000.0])
def test_a_multiplier_that_cannot_be_is_refused(ratio):
    with pytest.raises(ValueError, match=rf"^ratio {re.escape(str(ratio))} is not in 0\.\.32767$"):
        multiplier(ratio)


def test_parameters_are_in_their_ranges(quantised):
    layers = quantised.layers
    linears = [quantised.patch]
    for layer in layers:
        linears += [layer.query, layer.key, layer.proj, layer.fc1, layer.fc2]
        assert layer.value.weight.dtype == np.int8
        assert 16384 <= layer.value.mul <= 32767
        assert 0 <= layer.value.shift <= 62
        assert layer.table.shape == (256,)
        assert layer.table.dtype == np.int8
        assert layer.logits.mul.shape == layer.logits.shift.shape == (3,)
        for stage in (layer.norm1, layer.norm2, layer.context):
            assert 0 <= stage.shift2 < 64
    for linear in linears:
        assert ((linear.mul >= 16384) & (linear.mul <= 32767)).all()
        assert (linear.shift <= 62).all()
        # The accumulator's sum and the bias together stay in INT32.
        largest = 128 * np.abs(linear.weight.astype(np.int64)).sum(1) + np.abs(linear.add)
        assert (largest < 2**31).all()
        assert linear.weight.min() >= -127


def test_the_patch_kernel_reads_raw_pixels(weights, quantised):
    kernel, bias = weights.affine(PATCH)
    patches = photograph_patches(NANO)
    levels = (patches.astype(np.float64) + 128).reshape(16, 3, 256) / 255
    normal = (levels - MEAN[:, None]) / STD[:, None]
    wanted = normal.reshape(16, 768) @ kernel.T + bias
    found = integer.embed(quantised, patches) * quantised.residual_lsb
    # An INT8 weight is off by half of 1/127 of its row's largest at most, mostly by chance.
    assert np.abs(found - wanted).mean() < 0.01 * wanted.std()


def test_the_table_is_gelu(weights, quantised):
    """What the table makes of every index, undone by the scales, is GELU of what it stands for."""
    seen = {}
    patches = photograph_patches(NANO)
    encode(weights, patches, observe=seen.__setitem__)
    trace = integer.encode(quantised, patches)
    for n, layer in enumerate(quantised.layers):
        index = np.arange(-128, 128)
        table = lookup(index, layer.table)
        turn = int(table.argmin())
        assert (np.diff(table[turn:]) >= 0).all()
        assert (np.diff(table[: turn + 1]) <= 0).all()
        # A straight line through hidden values brings them back to the float ones.
        found, wanted = (
            trace[f"layer.{n}.hidden"].reshape(-1),
            seen[f"layer.{n}.hidden"].reshape(-1),
        )
        slope, offset = np.polyfit(found, wanted, 1)
        assert np.abs(slope * found + offset - wanted).mean() < 0.04 * wanted.std()
        # The value of zero is the zero point, which fc2's bias takes out.
        zero = table[np.abs(slope * table + offset).argmin()]
        assert zero == round(-offset / slope)
    assert gelu(np.zeros(1))[0] == 0


def test_biases_of_value_pass_through_the_softmax(weights):
    """A bias of V moves the latent of integers as it does that of floats."""
    shifted = dict(weights.tensors)
    name = "encoder.layer.1.attention.value.bias"
    shifted[name] = shifted[name] + 3 * np.random.default_rng(0).standard_normal(48).astype(
        np.float32
    )
    other = evolve(weights, tensors=shifted)
    patches = photograph_patches(NANO)
    q = quantise(other)
    assert compare(integer.encode(q, patches).latent, encode(other, patches).latent).l1 < 0.04


def test_little_saturates_on_other_frames(quantised):
    for patches in calibration_patches(NANO, frames=6, seed=1000):
        trace = integer.encode(quantised, patches)
        for n in range(2):
            for name in ("norm1", "query", "key", "value", "context", "norm2"):
                values = trace[f"layer.{n}.{name}"].astype(int)
                assert (np.abs(values) >= 127).mean() < 0.02, name
                assert np.abs(values).max() > 40, f"{name} leaves range unused"


@pytest.mark.parametrize("seed", range(4))
def test_latents_stay_near_float_on_other_frames(seed):
    weights = random_weights(NANO, seed)
    q = quantise(weights)
    frames = [photograph_patches(NANO), *calibration_patches(NANO, frames=5, seed=77)]
    results = [
        compare(integer.encode(q, frame).latent, encode(weights, frame).latent) for frame in frames
    ]
    assert np.mean([r.l1 for r in results]) < 0.04
    assert np.mean([r.cosine for r in results]) > 0.998


def test_hot_channels_are_smoothed():
    """A hundredfold gain of one channel of LayerNorm, undone in the weights, costs little."""
    weights = random_weights(NANO, 0)
    tensors = dict(weights.tensors)
    for part in ("weight", "bias"):
        name = f"encoder.layer.0.norm2.{part}"
        tensors[name] = tensors[name].copy()
        tensors[name][5] *= 100
    tensors["encoder.layer.0.mlp.fc1.weight"] = tensors["encoder.layer.0.mlp.fc1.weight"].copy()
    tensors["encoder.layer.0.mlp.fc1.weight"][:, 5] /= 100
    hot = evolve(weights, tensors=tensors)
    patches = photograph_patches(NANO)
    reference = encode(weights, patches).latent
    assert np.allclose(encode(hot, patches).latent, reference, atol=1e-3)
    plain = compare(integer.encode(quantise(weights), patches).latent, reference).l1
    assert compare(integer.encode(quantise(hot), patches).latent, reference).l1 < 1.3 * plain


def test_calibration_is_reproducible():
    first, second = (calibration_patches(NANO, frames=3, seed=4) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert len(calibration_patches(NANO)) == 64


def test_calibration_needs_frames(weights):
    with pytest.raises(ValueError, match=r"^frames is empty: calibration needs at least one$"):
        quantise(weights, [])


def test_one_frame_is_enough_to_run(weights):
    frame = photograph_patches(NANO)
    q = quantise(weights, [frame])
    assert compare(integer.encode(q, frame).latent, encode(weights, frame).latent).l1 < 0.05


def test_progress_is_told(weights):
    told = []
    quantise(weights, [photograph_patches(NANO)], progress=lambda *done: told.append(done))
    assert told == [(0, 2), (1, 2), (2, 2)]


def test_parameters_of_another_type_are_refused():
    good = {"weight": np.ones((2, 3), np.int8), "add": np.zeros(2, np.int32),
            "mul": np.ones(2, np.int16), "shift": np.zeros(2, np.uint8)}  # fmt: skip
    Linear(**good)
    message = "Linear.add is int64 (2,), not an array of int32 with 1 dimensions"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Linear(**good | {"add": np.zeros(2, np.int64)})
    message = "Linear.mul has 3 values, weight has 2 rows"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Linear(**good | {"mul": np.ones(3, np.int16)})


def test_quality_of_equal_latents():
    latent = np.array([[16, -16, 32, -32]], np.int8)
    quality = compare(latent, latent / 16)
    assert (quality.l1, quality.cosine) == (0.0, pytest.approx(1.0))
    assert compare(latent, latent / 16 + 0.25).l1 == pytest.approx(0.25)
