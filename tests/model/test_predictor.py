"""The float predictor: against one that spells every token, angle and mask out."""

import math
import re

import numpy as np
import pytest
from attrs import evolve

from jepa_r_sim.model.predictor import predict, step_tables
from jepa_r_sim.model.shapes import MODELS
from jepa_r_sim.model.weights import random_predictor_weights

NANO = MODELS["nano"]
# Two patches a side, and a head that the axes do not fill.
SMALL = evolve(
    NANO, image=32, predictor=evolve(NANO.predictor, width=66, heads=3, head_dim=22, mlp=50)
)


def inputs(config, steps, seed=0, lead=()):
    random = np.random.default_rng(seed)
    latent = random.standard_normal((config.tokens, config.width))
    actions = random.uniform(-0.1, 0.1, (*lead, steps, 7))
    states = random.uniform(-1, 1, (*lead, steps, 7))
    return latent, actions, states


def turned(x, time, row, column):
    """One head of one token, dim by dim, as the published code has it."""
    dims = 2 * math.floor(math.floor(len(x) / 3) / 2)
    y = [float(v) for v in x]
    for axis, position in enumerate((time, row, column)):
        for i in range(dims):
            d = axis * dims + i
            angle = position * 10000.0 ** (-(i % (dims // 2)) / (dims / 2))
            partner = -x[d + 1] if i % 2 == 0 else x[d - 1]
            y[d] = x[d] * math.cos(angle) + partner * math.sin(angle)
    return y


def normal(x, eps):
    mean = sum(x) / len(x)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in x) / len(x) + eps)
    return np.array([(v - mean) / deviation for v in x])


def whole_sequence(weights, patches, actions, states):
    """The last step's latent from all steps at once, under a mask, nothing kept."""
    config, shape, t = weights.config, weights.config.predictor, weights.tensors
    size, grid = shape.head_dim, config.grid

    def linear(name, x):
        return t[f"{name}.weight"].astype(float) @ x + t[f"{name}.bias"]

    def norm(name, x):
        return normal(x, config.eps) * t[f"{name}.weight"] + t[f"{name}.bias"]

    rows, where = [], []
    for step in range(len(actions)):
        rows.append(linear("predictor.action", actions[step]))
        rows.append(linear("predictor.state", states[step]))
        where += [(step, 0, 0), (step, 0, 0)]
        for token in range(config.tokens):
            rows.append(linear("predictor.embed", patches[step][token]))
            where.append((step, token // grid, token % grid))
    total = len(rows)
    sees = [[where[m][0] <= where[n][0] for m in range(total)] for n in range(total)]
    for layer in range(shape.depth):
        name = f"predictor.layer.{layer}"
        h = [norm(f"{name}.norm1", x) for x in rows]
        q, k, v = (
            [linear(f"{name}.attention.{part}", x) for x in h] for part in ("query", "key", "value")
        )
        mixed = np.zeros((total, shape.width))
        for head in range(shape.heads):
            part = slice(head * size, (head + 1) * size)
            queries = np.array([turned(q[n][part], *where[n]) for n in range(total)])
            keys = np.array([turned(k[n][part], *where[n]) for n in range(total)])
            for n in range(total):
                shares = [
                    math.exp(queries[n] @ keys[m] / math.sqrt(size)) if sees[n][m] else 0.0
                    for m in range(total)
                ]
                for m in range(total):
                    mixed[n, part] += shares[m] / sum(shares) * v[m][part]
        rows = [x + linear(f"{name}.attention.proj", c) for x, c in zip(rows, mixed, strict=True)]
        for n in range(total):
            hidden = linear(f"{name}.mlp.fc1", norm(f"{name}.norm2", rows[n]))
            hidden = np.array([0.5 * x * (1 + math.erf(x / math.sqrt(2))) for x in hidden])
            rows[n] = rows[n] + linear(f"{name}.mlp.fc2", hidden)
    outputs = [linear("predictor.proj", norm("predictor.norm", x)) for x in rows]
    return np.array([normal(x, config.latent_eps) for x in outputs[-config.tokens :]])


@pytest.mark.parametrize(("config", "most"), [(NANO, 2), (SMALL, 3)], ids=["nano", "small"])
def test_prediction_is_that_of_the_whole_sequence_under_a_mask(config, most):
    weights = random_predictor_weights(config, 1)
    latent, actions, states = inputs(config, most)
    found = predict(weights, latent, actions, states)
    patches = [latent]
    for steps in range(1, most + 1):
        wanted = whole_sequence(weights, patches, actions[:steps], states[:steps])
        assert np.abs(found[steps - 1] - wanted).max() < 1e-12
        patches.append(wanted)


@pytest.mark.parametrize("head_dim", [6, 16, 22, 64])
def test_every_token_turns_by_its_own_position(head_dim):
    shape = evolve(NANO.predictor, width=2 * head_dim, head_dim=head_dim)
    config = evolve(NANO, predictor=shape)
    x = np.random.default_rng(head_dim).standard_normal((18, head_dim))
    for step in (0, 1, 5):
        cos, sin = step_tables(config, step)
        y = x * cos + x.reshape(18, -1, 2)[..., ::-1].reshape(18, head_dim) * sin
        for n in range(18):
            row, column = divmod(max(n - 2, 0), 4)
            assert np.allclose(y[n], turned(x[n], step, row, column), atol=1e-14)


def test_action_and_state_turn_in_time_alone():
    for step in (0, 2):
        cos, sin = step_tables(NANO, step)
        # Exactly as the patch at row 0 and column 0.
        for table in (cos, sin):
            assert np.array_equal(table[0], table[2])
            assert np.array_equal(table[1], table[2])
        assert (cos[:2, 4:] == 1).all()
        assert not sin[:2, 4:].any()
        assert sin[:2, :4].any() == (step > 0)


def test_a_class_token_is_at_the_origin():
    config = evolve(NANO, class_token=True, absolute_positions=True)
    cos, _ = step_tables(config, 1)
    assert cos.shape == (19, 16)
    assert np.array_equal(cos[2], cos[0])
    assert np.array_equal(cos[3:], step_tables(NANO, 1)[0][2:])


def test_later_inputs_change_nothing_before_them():
    weights = random_predictor_weights(NANO, 1)
    latent, actions, states = inputs(NANO, 3)
    before = predict(weights, latent, actions, states)
    for step in (1, 2):
        later = np.arange(3)[:, None] >= step
        for changed in ((actions + later, states), (actions, states + later)):
            after = predict(weights, latent, *changed)
            assert np.array_equal(after[:step], before[:step])
            assert all(np.abs(after[t] - before[t]).max() > 1e-3 for t in range(step, 3))


def test_a_shorter_rollout_is_the_beginning_of_a_longer_one():
    weights = random_predictor_weights(NANO, 1)
    latent, actions, states = inputs(NANO, 3)
    whole = predict(weights, latent, actions, states)
    for steps in (1, 2):
        assert np.array_equal(
            predict(weights, latent, actions[:steps], states[:steps]), whole[:steps]
        )


def test_candidates_do_not_meet():
    weights = random_predictor_weights(NANO, 1)
    latent, actions, states = inputs(NANO, 2, lead=(2, 3))
    together = predict(weights, latent, actions, states)
    assert together.shape == (2, 3, 2, 16, 48)
    for index in np.ndindex(2, 3):
        alone = predict(weights, latent, actions[index], states[index])
        assert np.abs(together[index] - alone).max() < 1e-12


def test_latents_are_normalised():
    latents = predict(random_predictor_weights(NANO, 2), *inputs(NANO, 3))
    assert np.allclose(latents.mean(-1), 0, atol=1e-12)
    assert np.allclose(latents.var(-1), 1, atol=1e-4)


def test_single_precision_is_near():
    weights = random_predictor_weights(NANO, 2)
    exact = predict(weights, *inputs(NANO, 3))
    single = predict(weights, *inputs(NANO, 3), dtype=np.float32)
    assert single.dtype == np.float32
    assert np.abs(single - exact).max() < 1e-3


def test_every_intermediate_is_shown():
    seen = {}
    weights = random_predictor_weights(NANO, 2)
    latents = predict(weights, *inputs(NANO, 2, lead=(4,)), observe=seen.__setitem__)
    parts = ["norm1", "unrotated", "query", "key", "value", "logits", "context", "attention"]
    parts += ["norm2", "unactivated", "hidden", "residual"]
    wanted = {f"step.{t}.layer.{n}.{part}" for t in range(2) for n in range(2) for part in parts}
    wanted |= {f"step.{t}.{part}" for t in range(2) for part in ("embed", "norm", "proj", "latent")}
    assert seen.keys() == wanted
    assert np.array_equal(seen["step.1.latent"], latents[:, 1])
    # Rows in the order of the sequence, which attention alone does not tell.
    _, actions, states = inputs(NANO, 2, lead=(4,))
    for row, name, given in ((0, "action", actions), (1, "state", states)):
        weight, bias = weights.affine(f"predictor.{name}")
        assert np.allclose(seen["step.1.embed"][:, row], given[:, 1] @ weight.T + bias)
    assert seen["step.0.layer.1.logits"].shape == (4, 2, 18, 18)
    assert seen["step.1.layer.1.logits"].shape == (4, 2, 18, 36)
    assert seen["step.1.layer.1.key"].shape == (4, 2, 18, 16)


def test_keys_stand_in_the_order_of_the_steps():
    seen = {}
    weights = random_predictor_weights(NANO, 2)
    predict(weights, *inputs(NANO, 2), observe=seen.__setitem__)
    query, key = seen["step.1.layer.0.query"], seen["step.0.layer.0.key"]
    logits = query @ key.swapaxes(-1, -2) / 4
    assert np.allclose(seen["step.1.layer.0.logits"][..., :18], logits)


def test_random_weights_use_the_arithmetic():
    for seed in range(4):
        weights = random_predictor_weights(NANO, seed)
        seen = {}
        predict(weights, *inputs(NANO, 3), observe=seen.__setitem__)
        for step in range(3):
            for layer in range(2):
                logits = seen[f"step.{step}.layer.{layer}.logits"]
                shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
                assert 0.1 < shares.max(-1).mean() < 0.9
                hidden = seen[f"step.{step}.layer.{layer}.unactivated"]
                assert 0.2 < (hidden < 0).mean() < 0.8


def test_actions_of_centimetres_move_the_latent():
    for seed in range(4):
        weights = random_predictor_weights(NANO, seed)
        latent, _, states = inputs(NANO, 1)
        actions = np.zeros((7, 1, 7))
        actions[np.arange(1, 7), 0, [0, 1, 2, 0, 1, 2]] = [0.05] * 3 + [-0.05] * 3
        moved = predict(weights, latent, actions, np.broadcast_to(states, actions.shape))
        effect = np.abs(moved[1:] - moved[0]).mean((1, 2, 3))
        assert effect.min() > 0.06
        assert effect.mean() > 0.12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latent": (16, 32)}, "latent has shape (16, 32), the predictor reads (16, 48)"),
        ({"actions": (2, 6)}, "actions have shape (2, 6), not (..., steps, 7)"),
        ({"actions": (7,)}, "actions have shape (7,), not (..., steps, 7)"),
        (
            {"states": (1, 7)},
            "states have shape (1, 7), actions (2, 7): one for each is needed",
        ),
        ({"actions": (4, 7), "states": (4, 7)}, "4 steps are not allowed: from 1 to 3"),
        ({"actions": (0, 7), "states": (0, 7)}, "0 steps are not allowed: from 1 to 3"),
    ],
)
def test_other_shapes_are_refused(change, message):
    shapes = {"latent": (16, 48), "actions": (2, 7), "states": (2, 7)} | change
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        predict(random_predictor_weights(NANO, 0), *(np.zeros(s) for s in shapes.values()))
