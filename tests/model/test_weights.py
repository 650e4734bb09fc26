"""Weights: files that come back, and files that are refused."""

import numpy as np
import pytest
from attrs import evolve
from safetensors.numpy import save_file

from jepa_r_sim.model.shapes import MODELS
from jepa_r_sim.model.weights import (
    EncoderWeights,
    PredictorWeights,
    WeightsError,
    load_model_file,
    load_weights,
    predictor_shapes,
    random_predictor_weights,
    random_weights,
    save_model,
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


def test_tensors_of_the_predictor_add_up_but_for_the_unused_layer():
    for config in MODELS.values():
        count = sum(int(np.prod(shape)) for shape in predictor_shapes(config).values())
        assert count + 7 * config.predictor.width == config.predictor_parameters


@pytest.mark.parametrize("parts", [("encoder",), ("predictor",), ("encoder", "predictor")])
def test_a_file_brings_back_either_part_or_both(tmp_path, weights, parts):
    both = {"encoder": weights, "predictor": random_predictor_weights(NANO, 3)}
    save_model(tmp_path / "model.safetensors", **{part: both[part] for part in parts})
    loaded = load_model_file(tmp_path / "model.safetensors")
    for part, saved in both.items():
        found = getattr(loaded, part)
        if part not in parts:
            assert found is None
            continue
        assert found.config == NANO
        assert found.tensors.keys() == saved.tensors.keys()
        assert all(np.array_equal(found[name], saved[name]) for name in saved.tensors)


def test_the_encoder_of_a_file_with_both_is_found(tmp_path, weights):
    path = tmp_path / "model.safetensors"
    save_model(path, encoder=weights, predictor=random_predictor_weights(NANO, 3))
    assert load_weights(path).tensors.keys() == weights.tensors.keys()


def test_a_predictor_without_actions_is_none(tmp_path, weights):
    path = tmp_path / "model.safetensors"
    masked = {"predictor.layer.0.norm1.weight": np.zeros(3, np.float32)}
    save_file(dict(weights.tensors) | masked, path)
    loaded = load_model_file(path, NANO)
    assert loaded.predictor is None
    assert loaded.encoder.tensors.keys() == weights.tensors.keys()
    save_file(masked, path)
    with pytest.raises(WeightsError, match="holds neither an encoder nor a predictor that reads"):
        load_model_file(path, NANO)


def test_what_cannot_be_saved_is_refused(tmp_path, weights):
    path = tmp_path / "model.safetensors"
    with pytest.raises(ValueError, match=r"^encoder None and predictor None: a file needs one"):
        save_model(path)
    other = random_predictor_weights(evolve(NANO, mlp=208), 0)
    with pytest.raises(ValueError, match=r"^encoder and predictor are of different models"):
        save_model(path, encoder=weights, predictor=other)
    assert not path.exists()


def test_a_file_of_another_predictor(tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(path, predictor=random_predictor_weights(NANO, 0))
    other = evolve(NANO, predictor=evolve(NANO.predictor, mlp=64))
    with pytest.raises(WeightsError, match=r"does not fit the model: tensor predictor\.layer\."):
        load_model_file(path, other)
    with pytest.raises(WeightsError, match="does not fit the model: predictor None"):
        load_model_file(path, evolve(NANO, predictor=None))
    with pytest.raises(WeightsError, match=r"does not fit the model: tensor encoder\."):
        load_weights(path)


def test_tensors_of_a_predictor_are_checked():
    tensors = dict(random_predictor_weights(NANO, 0).tensors)
    tensors["predictor.state.weight"] = np.zeros((32, 6), np.float32)
    message = r"^tensor predictor\.state\.weight has shape \(32, 6\), this model's is \(32, 7\)$"
    with pytest.raises(WeightsError, match=message):
        PredictorWeights(NANO, tensors)


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
