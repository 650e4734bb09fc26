"""The integer predictor: against one that computes the whole sequence, number by number."""

import re
from math import isqrt

import numpy as np
import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa_r_sim.golden.exp2 import exp2
from jepa_r_sim.model.quantised import WideLinear
from jepa_r_sim.model.rollout import costs, rollout, wide
from jepa_r_sim.model.shapes import MODELS

from .rough import rough_predictor

NANO = MODELS["nano"]
# Two patches a side, and a head that the axes do not fill.
SMALL = evolve(
    NANO, image=32, predictor=evolve(NANO.predictor, width=66, heads=3, head_dim=22, mlp=50)
)


def inputs(config, candidates, steps, seed=0):
    random = np.random.default_rng(seed)
    latent = np.clip(np.rint(16 * random.standard_normal((config.tokens, config.width))), -128, 127)
    actions = random.integers(-12288, 12289, (candidates, steps, 7))
    states = random.integers(-32639, 32640, (candidates, steps, 7))
    return latent.astype(np.int8), actions.astype(np.int16), states.astype(np.int16)


def rounded(value, shift):
    """Half up, of Python's integers."""
    return (int(value) + ((1 << int(shift)) >> 1)) >> int(shift)


def fit(value, bits=16):
    return max(-(1 << (bits - 1)), min((1 << (bits - 1)) - 1, value))


def product(row, layer, bits=16):
    sums = layer.weight.astype(np.int64) @ np.array(row, np.int64)
    return [
        fit(fit(rounded((int(s) + int(a)) * int(m), h)), bits)
        for s, a, m, h in zip(sums, layer.add, layer.mul, layer.shift, strict=True)
    ]


def wide_product(units, layer):
    found = []
    for n in range(len(layer.weight)):
        low = high = 0
        for unit, weight in zip(units, layer.weight[n], strict=True):
            byte = (int(unit) + 128) % 256 - 128
            low += byte * int(weight)
            high += (int(unit) - byte) // 256 * int(weight)
        mul, shift = int(layer.mul[n]), int(layer.shift[n])
        first = fit(rounded((low + int(layer.add[n])) * mul, shift))
        found.append(fit(first + fit(rounded(high * mul, shift - 8))))
    return found


def normal(row, norm):
    p = norm.profile
    total, squares = sum(map(int, row)), sum(int(v) ** 2 for v in row)
    mean = rounded(total * p.inv_mul, p.inv_shift)
    variance = p.width * squares - total**2 + p.floor
    half = (variance.bit_length() - 31) // 2
    scaled = variance >> 2 * half if half >= 0 else variance << -2 * half
    mul = rounded(min(65535, isqrt((1 << 62) // scaled)) * p.width, p.width_log)
    found = []
    for v, gain, add in zip(row, norm.gain, norm.add, strict=True):
        y = fit(rounded((int(v) * 256 - mean) * mul, half + p.shift_base))
        found.append(fit(rounded(y * int(gain) + int(add), norm.shift2), norm.bits))
    return found


def turned(row, rope, step, n):
    size = rope.cos.shape[-1]
    found = []
    for d, v in enumerate(row):
        cos, sin = int(rope.cos[step, n, d % size]), int(rope.sin[step, n, d % size])
        found.append(fit(rounded(v * cos + row[d ^ 1] * sin, rope.shift), 8))
    return found


def mixed(query, keys, values, layer, head):
    """Context of one query in one head, before its second stage."""
    mul, shift = int(layer.logits.mul[head]), int(layer.logits.shift[head])
    logits = [
        fit(rounded(sum(a * b for a, b in zip(query, key, strict=True)) * mul, shift))
        for key in keys
    ]
    shares = [int(exp2(min(max(logits) - logit, 255))) for logit in logits]
    lead = 24 - sum(shares).bit_length()
    inverse = min(65535, (1 << 39) // (sum(shares) << lead))
    return [
        fit(rounded(sum(s * v for s, v in zip(shares, column, strict=True)) * inverse, 31 - lead))
        for column in zip(*values, strict=True)
    ]


def whole_sequence(q, patches, actions, states):
    """The last step's latent, of one candidate, from all steps at once under a mask."""
    size, tokens = q.config.predictor.head_dim, q.config.tokens
    rows, where = [], []
    for step in range(len(actions)):
        rows += [wide_product(actions[step], q.action), wide_product(states[step], q.state)]
        rows += [product(row, q.embed) for row in patches[step]]
        where += [(step, n) for n in range(tokens + 2)]
    for layer in q.layers:
        h = [normal(row, layer.norm1) for row in rows]
        query, key = (
            [turned(product(x, part), q.rope, *at) for x, at in zip(h, where, strict=True)]
            for part in (layer.query, layer.key)
        )
        sums = np.array(h, np.int64) @ layer.value.weight.astype(np.int64).T
        value = [[fit(rounded(s * layer.value.mul, layer.value.shift), 8) for s in x] for x in sums]
        for n, (step, _) in enumerate(where):
            seen = [m for m in range(len(rows)) if where[m][0] <= step]
            context = []
            for head in range(len(layer.logits.mul)):
                part = slice(head * size, (head + 1) * size)
                keys, values = ([x[m][part] for m in seen] for x in (key, value))
                context += mixed(query[n][part], keys, values, layer, head)
            c = layer.context
            context = [
                fit(rounded(y * int(g) + int(a), c.shift2), 8)
                for y, g, a in zip(context, c.mul, c.add, strict=True)
            ]
            x = [fit(a + b) for a, b in zip(product(context, layer.proj), rows[n], strict=True)]
            hidden = product(normal(x, layer.norm2), layer.fc1, 8)
            hidden = [int(layer.table[v % 256]) for v in hidden]
            rows[n] = [fit(a + b) for a, b in zip(product(hidden, layer.fc2), x, strict=True)]
    last = [product(normal(row, q.norm), q.proj) for row in rows[-tokens:]]
    return np.array([normal(row, q.latent) for row in last])


@pytest.mark.parametrize(("config", "steps"), [(NANO, 2), (SMALL, 3)], ids=["nano", "small"])
def test_rollout_is_that_of_the_whole_sequence_under_a_mask(config, steps):
    q = rough_predictor(config, 1)
    latent, actions, states = inputs(config, 2, steps)
    found = rollout(q, latent, actions, states)
    assert found.latents.dtype == np.int8
    assert not found.tensors
    for candidate in range(2):
        patches = [latent]
        for step in range(steps):
            now = slice(step + 1)
            wanted = whole_sequence(q, patches, actions[candidate, now], states[candidate, now])
            assert np.array_equal(found.latents[candidate, step], wanted)
            patches.append(wanted)


def test_candidates_do_not_meet():
    q = rough_predictor(NANO)
    latent, actions, states = inputs(NANO, 5, 3)
    together = rollout(q, latent, actions, states, trace=True)
    for n in range(5):
        alone = rollout(q, latent, actions[n : n + 1], states[n : n + 1], trace=True)
        for name, tensor in together.tensors.items():
            assert np.array_equal(alone[name][0], tensor[n]), name


def test_later_inputs_change_nothing_before_them():
    q = rough_predictor(NANO)
    latent, actions, states = inputs(NANO, 2, 3)
    before = rollout(q, latent, actions, states).latents
    for step in (1, 2):
        # Beyond the limit nothing is defined: halves of everything stay within it.
        later = [x.copy() for x in (actions, states)]
        for x in later:
            x[:, step:] //= 2
        for pair in ((later[0], states), (actions, later[1])):
            after = rollout(q, latent, *pair).latents
            assert np.array_equal(after[:, :step], before[:, :step])
            assert all((after[:, t] != before[:, t]).any() for t in range(step, 3))


def test_the_trace_names_everything_in_the_width_it_is_stored():
    q = rough_predictor(NANO)
    found = rollout(q, *inputs(NANO, 3, 2), trace=True)
    int8, int16, int64 = np.int8, np.int16, np.int64
    expected = {}
    for t in range(2):
        heads = (3, 2, 18, 18 * (t + 1))
        expected |= {
            f"step.{t}.embed": (int16, (3, 18, 32)), f"step.{t}.norm": (int8, (3, 18, 32)),
            f"step.{t}.norm.rows": (int64, (3, 18, 3)), f"step.{t}.proj": (int16, (3, 16, 48)),
            f"step.{t}.latent": (int8, (3, 16, 48)), f"step.{t}.latent.rows": (int64, (3, 16, 3)),
        }  # fmt: skip
        for n in range(2):
            at = f"step.{t}.layer.{n}"
            expected |= {
                f"{at}.norm1": (int8, (3, 18, 32)), f"{at}.norm1.rows": (int64, (3, 18, 3)),
                f"{at}.query": (int8, (3, 18, 32)), f"{at}.key": (int8, (3, 18, 32)),
                f"{at}.value": (int8, (3, 32, 18)), f"{at}.logits": (int16, heads),
                f"{at}.exponentials": (int8, heads), f"{at}.sums": (int64, (3, 2, 18, 3)),
                f"{at}.context": (int8, (3, 18, 32)), f"{at}.attention": (int16, (3, 18, 32)),
                f"{at}.norm2": (int8, (3, 18, 32)), f"{at}.norm2.rows": (int64, (3, 18, 3)),
                f"{at}.hidden": (int8, (3, 18, 128)), f"{at}.residual": (int16, (3, 18, 32)),
            }  # fmt: skip
    assert {name: (x.dtype, x.shape) for name, x in found.tensors.items()} == expected
    assert np.array_equal(found["step.1.latent"], found.latents[:, 1])
    assert np.array_equal(rollout(q, *inputs(NANO, 3, 2)).latents, found.latents)


def test_rows_and_keys_stand_in_the_order_of_the_sequence():
    """Which the result does not tell: attention does not care."""
    q = rough_predictor(NANO)
    latent, actions, states = inputs(NANO, 3, 2)
    found = rollout(q, latent, actions, states, trace=True)
    for row, features, layer in ((0, actions, q.action), (1, states, q.state)):
        assert np.array_equal(found["step.1.embed"][:, row], wide(features[:, 1], layer))
    layer, query = q.layers[1], found["step.1.layer.1.query"].astype(np.int64)
    for step in range(2):
        key = found[f"step.{step}.layer.1.key"].astype(np.int64)
        for head in range(2):
            part = slice(16 * head, 16 * head + 16)
            sums = query[..., part] @ key[..., part].swapaxes(-1, -2)
            mul, shift = int(layer.logits.mul[head]), int(layer.logits.shift[head])
            logits = found["step.1.layer.1.logits"][:, head, :, 18 * step : 18 * step + 18]
            assert np.array_equal(logits, (sums * mul + (1 << (shift - 1))) >> shift)


def test_every_candidate_may_start_from_its_own_latent():
    q = rough_predictor(NANO)
    latent, actions, states = inputs(NANO, 3, 2)
    starts = np.stack([latent, latent[::-1], -latent // 2])
    together = rollout(q, starts, actions, states).latents
    for n in range(3):
        now = slice(n, n + 1)
        alone = rollout(q, starts[n], actions[now], states[now]).latents
        assert np.array_equal(together[n], alone[0])


def test_tables_of_one_dimension_are_refused():
    rope = rough_predictor(NANO).rope
    message = r"^Rope\.cos is int16 \(16,\), not an array of int16 with 2 or 3 dimensions$"
    with pytest.raises(ValueError, match=message):
        evolve(rope, cos=rope.cos[0, 0])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-32639, 32639), min_size=7, max_size=7), st.integers(0, 9))
def test_a_wide_product_is_that_of_sixteen_bits(values, seed):
    layer = rough_predictor(NANO, seed).state
    found = wide(np.array(values, np.int16), layer)
    sums = layer.weight.astype(np.int64) @ np.array(values) + layer.add
    exact = sums * layer.mul.astype(float) * 2.0 ** -layer.shift.astype(float)
    assert (np.abs(found - exact) <= 1).all()


def test_a_wide_product_saturates():
    layer = WideLinear(
        weight=np.full((2, 7), 127, np.int8), add=np.zeros(2, np.int32),
        mul=np.full(2, 1 << 14, np.int16), shift=np.array([14, 22], np.uint8),
    )  # fmt: skip
    assert wide(np.full(7, 32639, np.int16), layer).tolist() == [32767, 32767]
    assert wide(np.full(7, -32639, np.int16), layer).tolist() == [-32768, -32768]
    assert wide(np.full(7, 100, np.int16), layer).tolist() == [32767, 347]


def test_a_wide_product_of_little_shift_is_refused():
    good = {"weight": np.ones((1, 7), np.int8), "add": np.zeros(1, np.int32),
            "mul": np.ones(1, np.int16), "shift": np.full(1, 8, np.uint8)}  # fmt: skip
    WideLinear(**good)
    for shift in (7, 63):
        with pytest.raises(ValueError, match=rf"^WideLinear\.shift {shift} is not in 8\.\.62$"):
            WideLinear(**good | {"shift": np.full(1, shift, np.uint8)})
    with pytest.raises(ValueError, match=r"^WideLinear\.mul has 2 values, weight has 1 rows$"):
        WideLinear(**good | {"mul": np.ones(2, np.int16)})


def test_costs_are_sums_of_distances():
    latents = np.zeros((2, 3, 4), np.int8)
    latents[1], latents[0, 0, 0] = 127, 3
    assert costs(latents, np.full((3, 4), -128, np.int8)).tolist() == [12 * 128 + 3, 12 * 255]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latent": np.zeros((16, 48))}, "latent are float64, not int8"),
        ({"actions": np.zeros((1, 1, 7), np.int32)}, "actions are int32, not int16"),
        ({"latent": np.zeros((16, 32), np.int8)},
         "latent has shape (16, 32), the predictor reads (16, 48)"),
        ({"actions": np.zeros((1, 7), np.int16), "states": np.zeros((1, 7), np.int16)},
         "actions have shape (1, 7), not (candidates, steps, 7)"),
        ({"actions": np.full((1, 1, 7), -32768, np.int16)}, "units reach 32768, at most 32639"),
    ],
)  # fmt: skip
def test_other_inputs_are_refused(change, message):
    given = {"latent": np.zeros((16, 48), np.int8), "actions": np.zeros((1, 1, 7), np.int16),
             "states": np.zeros((1, 1, 7), np.int16)} | change  # fmt: skip
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        rollout(rough_predictor(NANO), *given.values())
