import pytest
from attrs import evolve

from jepa_r.config import PRESETS, ConfigError
from jepa_r_sim.compiler import compile_encoder, compile_predictor
from jepa_r_sim.compiler.chip import compile_chip
from jepa_r_sim.compiler.encoder import EncoderLayout
from jepa_r_sim.model.shapes import MODELS, ModelConfig

NANO, VITG = MODELS["nano"], MODELS["vitg-ac"]
CLUSTER = PRESETS["nano"].encoder


def cluster(preset="nano", **changes):
    """Encoder of a preset; ``tile__rows`` is a field of a group."""
    made = PRESETS[preset].encoder
    groups = {}
    for name, value in changes.items():
        group, _, field = name.rpartition("__")
        groups.setdefault(group, {})[field] = value
    plain = groups.pop("", {})
    return evolve(made, **plain, **{g: evolve(getattr(made, g), **f) for g, f in groups.items()})


def refusal(config, model=NANO, cameras=1):
    with pytest.raises(ConfigError) as caught:
        compile_encoder(config, model, cameras=cameras)
    return str(caught.value)


@pytest.mark.parametrize(
    ("tiles", "rows", "lanes", "image", "tokens"),
    [
        (2, 8, 8, 64, 8),  # 16 tokens, 8 a tile
        (1, 8, 8, 64, 16),
        (8, 128, 32, 256, 32),  # 256 tokens, one segment of a word each
        (2, 128, 32, 256, 128),
        (4, 8, 4, 64, 4),
        (3, 8, 4, 64, 8),  # 16 / 3, up to whole segments
        (2, 24, 4, 80, 24),  # 25 tokens: 13 a tile, 16 in segments, which does not divide a word
        (2, 24, 4, 64, 8),  # 8 tokens divide it
        (16, 8, 4, 64, 4),  # one token a tile, and padding
        (1, 12, 2, 80, 26),  # alone, there is nobody to share words with
        (2, 8, 8, 80, 16),  # 13 tokens a tile, more than a word: whole words
        (3, 12, 4, 112, 24),  # 17 tokens a tile
    ],
)
def test_tokens_of_a_tile(tiles, rows, lanes, image, tokens):
    config = cluster(tiles=tiles, tile__rows=rows, tile__columns=lanes, tile__lanes=lanes)
    lay = EncoderLayout(config, evolve(NANO, image=image), 3)
    assert lay.tokens == tokens
    assert lay.tokens % lanes == 0
    assert tiles * tokens >= lay.model.tokens
    # Values of several tiles share words of keys only in whole parts.
    assert tiles == 1 or tokens % rows == 0 or rows % tokens == 0
    assert (lay.rows, lay.keys) == (3 * tokens, tiles * tokens)


def test_heads_are_padded_one_by_one_and_widths_at_their_end():
    model = ModelConfig(image=64, patch=16, width=60, heads=3, head_dim=20, depth=1, mlp=209)
    lay = EncoderLayout(CLUSTER, model, 1)
    assert (lay.head, lay.inner, lay.width, lay.hidden) == (24, 72, 64, 216)
    assert (lay.blocks(60), lay.blocks(64), lay.blocks(65)) == (8, 8, 9)
    assert lay.segments(72) == 9
    whole = EncoderLayout(PRESETS["jepa-r"].encoder, VITG, 6)
    assert (whole.head, whole.inner, whole.width, whole.hidden) == (64, 1408, 1408, 6144)
    assert whole.rows == 192


@pytest.mark.parametrize(
    ("config", "model", "cameras", "sentence"),
    [
        (cluster(), NANO, 0, "cameras is 0; it must be at least 1"),
        (
            cluster(), evolve(NANO, absolute_positions=True), 1,
            "the model has a class token or absolute positions; the compiler takes encoders with "
            "rotary positions alone",
        ),
        (
            cluster(), evolve(NANO, rotary=False), 1,
            "the model has a class token or absolute positions; the compiler takes encoders with "
            "rotary positions alone",
        ),
        (
            cluster(tile__act_words=300), NANO, 1,
            "tile.act_words is 300; this model needs at least 768 words in each of 2 banks",
        ),
        (
            cluster(tile__act_words=768), NANO, 1,
            "tile.act_words is 768; this model needs at least 769 words in each of 2 banks",
        ),
        (
            cluster(tile__x_words=79), NANO, 1,
            "tile.x_words is 79; this model needs at least 80 words in each of 1 banks",
        ),
        (
            cluster(tile__acc_rows=32, tile__row_entries=39), NANO, 1,
            "tile.row_entries is 39; this model needs at least 40 words in each of 1 banks",
        ),
        (
            cluster(tile__rope_words=15), NANO, 1,
            "tile.rope_words is 15; this model needs at least 16 words in each of 1 banks",
        ),
        (
            cluster(shared__bank_words=191), NANO, 1,
            "shared.bank_words is 191; this model needs at least 192 words in each of 1 banks",
        ),
        (
            cluster(shared__param_words=26), NANO, 1,
            "shared.param_words is 26; one stage of this model needs 27",
        ),
        (
            cluster(program_words=100), NANO, 1,
            "program_words is 100; this program needs {words}",
        ),
        (
            cluster(), VITG, 6,
            "768 rows of 176 segments are more than the 65535 words that one transfer moves: use "
            "fewer cameras or more lanes",
        ),
    ],
)  # fmt: skip
def test_models_that_do_not_fit_are_refused(config, model, cameras, sentence):
    words = len(compile_encoder(cluster(), NANO).program.words)
    assert refusal(config, model, cameras) == sentence.format(words=words)


@pytest.mark.parametrize(
    "changes",
    [
        {"tile__x_words": 80}, {"tile__row_entries": 40},
        {"tile__rope_words": 16}, {"shared__bank_words": 192}, {"shared__param_words": 27},
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_what_a_refusal_asks_for_is_enough(changes):
    assert compile_encoder(cluster(**changes), NANO).cycles > 0


@pytest.mark.parametrize("preset", PRESETS)
def test_the_nano_model_runs_on_every_preset(preset):
    made = compile_encoder(PRESETS[preset].encoder, NANO)
    assert len(made.program.words) <= made.config.program_words
    assert sum(stage.cycles for stage in made.stages) == made.cycles
    assert made.utilisation < 1


def test_more_cameras_cost_less_than_their_share():
    one = compile_encoder(PRESETS["jepa-r"].encoder, evolve(VITG, depth=2))
    six = compile_encoder(PRESETS["jepa-r"].encoder, evolve(VITG, depth=2), cameras=6)
    assert one.cycles < six.cycles < 6 * one.cycles
    assert six.utilisation > 2 * one.utilisation


# Predictors.


def tile(**changes):
    made = PRESETS["nano"].predictor
    return evolve(made, tile=evolve(made.tile, **changes))


@pytest.mark.parametrize(
    ("config", "model", "horizon", "sentence"),
    [
        (tile(), evolve(NANO, predictor=None), 1, "the model has no predictor"),
        (tile(), NANO, 0, "horizon is 0; this model predicts 1 to 3 steps"),
        (tile(), NANO, 4, "horizon is 4; this model predicts 1 to 3 steps"),
        (
            tile(), evolve(NANO, class_token=True, absolute_positions=True), 1,
            "the model has a class token; predictors read patches alone",
        ),
        (
            tile(acc_rows=16), evolve(NANO, image=80), 1,
            "tile.acc_rows is 16; 27 rows of a step cannot be split into even blocks: it must be "
            "at least 28",
        ),
        (
            tile(act_words=2048), NANO, 3,
            "tile.act_words is 2048; this model needs at least 2049 words in each of 2 banks",
        ),
        (
            tile(act_banks=1, act_words=4096), NANO, 1,
            "tile.act_banks is 1 and tile.act_words 4096; both operands of a product would lie in "
            "one bank: more banks or words are needed",
        ),
        (
            tile(x_words=400), NANO, 1,
            "tile.x_words is 400; this model needs at least 426 words in each of 1 banks",
        ),
        (
            tile(row_entries=89), NANO, 1,
            "tile.row_entries is 89; this model needs at least 90 words in each of 1 banks",
        ),
    ],
)  # fmt: skip
def test_predictors_that_do_not_fit_are_refused(config, model, horizon, sentence):
    with pytest.raises(ConfigError) as caught:
        compile_predictor(config, model, horizon=horizon)
    assert str(caught.value) == sentence


def test_stages_of_a_rollout_add_up():
    for horizon in (1, 2, 3):
        made = compile_predictor(PRESETS["nano"].predictor, NANO, horizon=horizon)
        assert sum(stage.cycles for stage in made.stages) == made.cycles
        assert 0.7 < made.utilisation < 1


@pytest.mark.parametrize(
    ("chip", "horizon", "sentence"),
    [
        (PRESETS["ecp5"], 1, "ecp5 has no predictor; a chip needs one to plan"),
        (
            evolve(PRESETS["nano"], planner=evolve(PRESETS["nano"].planner, steps=2)), 3,
            "horizon is 3; planner.steps allows at most 2",
        ),
        (
            evolve(PRESETS["nano"], latent_words=95), 1,
            "latent_words is 95; a latent of this model needs 96",
        ),
    ],
)  # fmt: skip
def test_chips_that_a_model_does_not_fit_are_refused(chip, horizon, sentence):
    with pytest.raises(ConfigError) as caught:
        compile_chip(chip, NANO, NANO, horizon=horizon)
    assert str(caught.value) == sentence


def test_channels_that_the_encoder_does_not_write_are_not_compared():
    """Latents of 14 channels fill words of two lanes, and not those of four."""
    chip = PRESETS["nano"]
    encoder = evolve(chip.encoder, tile=evolve(chip.encoder.tile, lanes=2, x_words=2048,
                                               rope_words=256))  # fmt: skip
    model = evolve(NANO, width=14, heads=1, head_dim=14, mlp=21)
    assert compile_chip(chip, model, model).encoder.encoder.layout.width == 16
    with pytest.raises(ConfigError) as caught:
        compile_chip(evolve(chip, encoder=encoder), model, model)
    assert str(caught.value) == (
        "encoder.tile.lanes is 2; it leaves 14 channels of a latent, and predictor.tile.lanes, 4, "
        "compares 16"
    )


def test_parts_of_a_chips_memory_follow_one_another():
    made = compile_chip(PRESETS["nano"], NANO, NANO, horizon=2, trace=True)
    places = made.addresses
    assert list(places.values()) == [places[name] for name in (
        "ENCODER_PROGRAM", "PREDICTOR_PROGRAM", "FRAME", "GOAL_FRAME", "TRACE_BASE",
    )]  # fmt: skip
    in_order = [
        places["FRAME"], made.encoder.encoder.output_address, made.encoder.encoder.image.base,
        places["ENCODER_PROGRAM"], made.predictor.predictor.image.base,
        places["PREDICTOR_PROGRAM"], places["GOAL_FRAME"], places["TRACE_BASE"],
    ]  # fmt: skip
    assert in_order == sorted(set(in_order))
    assert all(place % 4096 == 0 for place in places.values())
    assert places["PREDICTOR_PROGRAM"] >= made.encoder.memory_bytes
