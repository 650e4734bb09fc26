"""Shapes: published figures, and refusals."""

import re

import pytest
from attrs import evolve

from jepa_r_sim.model.shapes import MODELS, ModelConfig, PredictorConfig, rotary_dims

NANO = MODELS["nano"]


def test_vitg_has_the_published_size():
    config = MODELS["vitg-ac"]
    assert config.parameters == 1_012_173_952
    assert (config.tokens, config.patch_features, config.rotary_dims) == (256, 768, 20)
    # The published work counts both frames of the kernel; a still frame saves one of them.
    both_frames = config.macs + config.tokens * config.patch_features * config.width
    assert round(both_frames / 1e9, 1) == 266.3


def test_nano_has_no_round_numbers():
    assert (NANO.tokens, NANO.patch_features, NANO.rotary_dims) == (16, 768, 4)
    assert (NANO.width, NANO.mlp, NANO.heads * NANO.head_dim) == (48, 209, 48)
    assert NANO.head_dim - 3 * NANO.rotary_dims == 4
    assert NANO.macs == 16 * 768 * 48 + 2 * (16 * 48 * (4 * 48 + 2 * 209) + 2 * 16 * 16 * 48)


@pytest.mark.parametrize(("head_dim", "dims"), [(64, 20), (16, 4), (6, 2), (22, 6), (80, 26)])
def test_rotary_dims(head_dim, dims):
    assert rotary_dims(head_dim) == dims


def test_a_model_without_rotary_positions_rotates_nothing():
    assert evolve(NANO, rotary=False).rotary_dims == 0


def test_a_class_token_is_one_more_row():
    config = evolve(NANO, class_token=True, absolute_positions=True)
    assert config.tokens == 17
    assert config.parameters - NANO.parameters == 17 * 48 + 48


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": 60}, "image 60 is not a multiple of patch 16"),
        ({"heads": 0}, "heads 0 is not allowed: an integer from 1 to 1024"),
        ({"depth": 2.0}, "depth 2.0 is not allowed: an integer from 1 to 1024"),
        ({"width": 9000}, "width 9000 is not allowed: an integer from 1 to 8191"),
        ({"width": 50}, "width 50 is not heads * head_dim = 3 * 16 = 48"),
        (
            {"head_dim": 15},
            "head_dim 15 cannot be split by the rotator: "
            "an even number, at least 6 (two dims for each of three axes)",
        ),
        (
            {"head_dim": 4},
            "head_dim 4 cannot be split by the rotator: "
            "an even number, at least 6 (two dims for each of three axes)",
        ),
        (
            {"head_dim": 3, "rotary": False},
            "head_dim 3 cannot be split by the rotator: an even number",
        ),
        ({"eps": 0.0}, "eps 0.0 is not between 0 and 1"),
        (
            {"class_token": True},
            "class_token True needs absolute_positions True: "
            "the token enters through the table of positions",
        ),
    ],
)
def test_what_cannot_be_is_refused(change, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        evolve(NANO, **change)


def test_a_predictor_is_checked_too():
    with pytest.raises(ValueError, match=r"^width 33 is not heads \* head_dim = 2 \* 16 = 32$"):
        PredictorConfig(width=33, heads=2, head_dim=16, depth=2, mlp=128, steps=3)
    with pytest.raises(ValueError, match=r"^steps 65 is not allowed: an integer from 1 to 64$"):
        evolve(NANO.predictor, steps=65)


def test_the_predictor_has_the_published_size():
    config = MODELS["vitg-ac"]
    assert config.predictor_parameters == 305_220_992
    assert config.action_predictor.block_parameters == 12_596_224
    assert config.step_rows == 258


@pytest.mark.parametrize(
    ("step", "kept", "anew"),
    [(1, 81.9, 81.9), (2, 85.2, 166.7), (4, 91.7, 346.2), (8, 104.8, 744.4), (16, 131.0, 1697.8)],
)
def test_the_predictor_does_the_published_work(step, kept, anew):
    config = MODELS["vitg-ac"]
    assert round(config.predictor_macs(step) / 1e9, 1) == kept
    assert round(config.predictor_macs(step, kept=False) / 1e9, 1) == anew


def test_a_first_step_has_nothing_to_keep():
    assert NANO.predictor_macs(1) == NANO.predictor_macs(1, kept=False)
    with pytest.raises(ValueError, match=r"^step 0 is not allowed: at least 1$"):
        NANO.predictor_macs(0)


def test_a_model_without_a_predictor_says_so():
    alone = evolve(NANO, predictor=None)
    message = r"^predictor None is not allowed here: the model must have one$"
    with pytest.raises(ValueError, match=message):
        _ = alone.predictor_parameters
    with pytest.raises(ValueError, match=message):
        alone.predictor_macs(1)


def test_a_config_is_frozen():
    with pytest.raises(AttributeError):
        ModelConfig(image=16, patch=16, width=6, heads=1, head_dim=6, depth=1, mlp=1).depth = 2
