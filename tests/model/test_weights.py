"""Weights: files that come back, and files that are refused."""

import numpy as np
import pytest
from attrs import evolve
from safetensors.numpy import save_file

from jepa_r_sim.model.shapes import MODELS
from jepa_r_sim.model.weights import (
    EncoderWeights,
    WeightsError,
    load_weights,
    random_weights,
    save_weights,
    tensor_shapes,
)

NANO = MODELS["nano"]
GAIN = "encoder.layer.1.norm2.weight"


@pytest.fixture(scope="module")
def weights():
    return random_weights(NANO, 0)


@pytest.mark.parametrize(
    "config", [NANO, evolve(NANO, class_token=True, absolute_positions=True, rotary=False)]
)
def test_a_file_brings_back_model_and_weights(tmp_path, config):
    weights = random_weights(config, 5)
    save_weights(weights, tmp_path / "model.safetensors")
    loaded = load_weights(tmp_path / "model.safetensors")
    assert loaded.config == config
    assert loaded.tensors.keys() == weights.tensors.keys()
    assert all(np.array_equal(loaded[name], weights[name]) for name in weights.tensors)


def test_a_seed_gives_the_same_weights_and_another_seed_others(weights):
    assert np.array_equal(random_weights(NANO, 0)[GAIN], weights[GAIN])
    assert not np.array_equal(random_weights(NANO, 1)[GAIN], weights[GAIN])


def test_tensors_add_up_to_the_parameters():
    for config in MODELS.values():
        count = sum(int(np.prod(shape)) for shape in tensor_shapes(config).values())
        assert count == config.parameters


def test_a_predictor_in_the_file_is_left_out(tmp_path, weights):
    tensors = dict(weights.tensors) | {"predictor.mask": np.zeros(3, np.float32)}
    save_file(tensors, tmp_path / "model.safetensors")
    assert "predictor.mask" not in load_weights(tmp_path / "model.safetensors", NANO).tensors


def test_half_precision_becomes_single(tmp_path, weights):
    halves = {name: tensor.astype(np.float16) for name, tensor in weights.tensors.items()}
    save_file(halves, tmp_path / "model.safetensors")
    loaded = load_weights(tmp_path / "model.safetensors", NANO)
    assert loaded[GAIN].dtype == np.float32
    assert np.array_equal(loaded[GAIN], halves[GAIN].astype(np.float32))


def test_a_file_that_is_not_a_model(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"GIF89a, really")
    with pytest.raises(WeightsError, match=r"model\.safetensors is not a safetensors file"):
        load_weights(path)
    path.write_bytes(b"")
    with pytest.raises(WeightsError, match=r"model\.safetensors is not a safetensors file"):
        load_weights(path)


def test_a_file_that_ends_early(tmp_path, weights):
    path = tmp_path / "model.safetensors"
    save_weights(weights, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="is not a safetensors file"):
        load_weights(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(WeightsError, match=r"none\.safetensors cannot be read: No such file"):
        load_weights(tmp_path / "none.safetensors")
    with pytest.raises(WeightsError, match=r"cannot be read|is not a safetensors file"):
        load_weights(tmp_path)


def test_a_file_that_does_not_say_its_model(tmp_path, weights):
    save_file(dict(weights.tensors), tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"does not say which model it is of: name one$"):
        load_weights(tmp_path / "model.safetensors")


def test_a_file_that_describes_an_impossible_model(tmp_path, weights):
    path = tmp_path / "model.safetensors"
    save_weights(weights, path)
    path.write_bytes(path.read_bytes().replace(rb"\"depth\": 2", rb"\"depth\": 0"))
    with pytest.raises(WeightsError, match="describes a model that cannot be: depth 0"):
        load_weights(path)


def test_a_file_of_another_model(tmp_path, weights):
    save_weights(weights, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"does not fit the model: tensor .* \(16 are\)$"):
        load_weights(tmp_path / "model.safetensors", evolve(NANO, depth=3))
    with pytest.raises(WeightsError, match=r"has shape \(209, 48\), this model's is \(208, 48\)$"):
        load_weights(tmp_path / "model.safetensors", evolve(NANO, mlp=208))


def test_tensors_are_checked(weights):
    tensors = dict(weights.tensors)
    with pytest.raises(
        WeightsError, match=r"^tensor extra is not one of this model's \(1 are not\)$"
    ):
        EncoderWeights(NANO, tensors | {"extra": np.zeros(1, np.float32)})
    broken = np.array(tensors[GAIN])
    broken[3] = np.nan
    with pytest.raises(WeightsError, match=f"^tensor {GAIN} holds values that are not finite$"):
        EncoderWeights(NANO, tensors | {GAIN: broken})
