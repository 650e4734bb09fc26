"""The quantised predictor: how near it stays to the float one, in what a planner sees."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from attrs import evolve

from jepa_r_sim.model import integer
from jepa_r_sim.model.predictor import predict
from jepa_r_sim.model.quality import planner_quality
from jepa_r_sim.model.quantiser import (
    calibration_actions,
    calibration_patches,
    quantise,
    quantise_predictor,
)
from jepa_r_sim.model.rollout import embed, rollout
from jepa_r_sim.model.shapes import MODELS
from jepa_r_sim.model.units import from_units, poses, to_units
from jepa_r_sim.model.weights import random_predictor_weights, random_weights

NANO = MODELS["nano"]
SEEDS = range(3)


def latents_of(encoder, frames):
    return np.stack([integer.encode(encoder, frame).latent for frame in frames])


@pytest.fixture(scope="module")
def latents():
    """Of the calibration, then others."""
    encoder = quantise(random_weights(NANO, 0), calibration_patches(NANO, frames=16))
    return tuple(
        latents_of(encoder, calibration_patches(NANO, frames=frames, seed=seed))
        for frames, seed in ((12, 0), (3, 9))
    )


@pytest.fixture(scope="module")
def models(latents):
    weights = [random_predictor_weights(NANO, seed) for seed in SEEDS]
    return [(w, quantise_predictor(w, latents[0])) for w in weights]


def candidates(count, seed=5):
    """As a planner has them: many actions, one pose."""
    actions, states = calibration_actions(NANO, candidates=count, seed=seed)
    return actions, poses(states[0, 0], actions)


def test_calibration_is_what_a_planner_begins_with():
    actions, states = calibration_actions(NANO, candidates=500)
    assert actions.shape == states.shape == (500, 3, 7)
    assert not actions[..., 3:6].any()
    assert np.abs(actions[..., :3]).max() == 1229
    assert np.abs(actions[..., 6]).max() == 12288
    # A third of a normal distribution lies beyond its deviation, and is clipped to it.
    assert 0.28 < (np.abs(actions[..., :3]) == 1229).mean() < 0.36
    assert np.array_equal(states, poses(states[:, 0], actions))
    assert states[..., 6].min() >= 0
    assert np.abs(states[:, 0, 3:6]).max() > to_units(np.full(7, 3.0))[3]
    again = calibration_actions(NANO, candidates=500)
    assert np.array_equal(again[0], actions)
    assert not np.array_equal(calibration_actions(NANO, candidates=500, seed=1)[0], actions)
    assert len(calibration_actions(NANO)[0]) == 37


#: Prints a digest of everything that is integer in both quantised parts, and of their units.
DIGEST = """
import hashlib
import numpy as np
from attrs import asdict
from jepa_r_sim.model import integer
from jepa_r_sim.model.quantiser import calibration_patches, quantise, quantise_predictor
from jepa_r_sim.model.shapes import MODELS
from jepa_r_sim.model.weights import random_predictor_weights, random_weights

def leaves(value):
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return [value]
    return [leaf for each in value for leaf in leaves(each)]

nano = MODELS["nano"]
frames = calibration_patches(nano, frames=2)
encoder = quantise(random_weights(nano, 0), frames)
latents = np.stack([integer.encode(encoder, frame).latent for frame in frames])
predictor = quantise_predictor(random_predictor_weights(nano, 0), latents)
digest = hashlib.sha256()
for leaf in leaves([asdict(encoder), asdict(predictor)]):
    digest.update(leaf.tobytes() if isinstance(leaf, np.ndarray) else repr(leaf).encode())
print(digest.hexdigest())
"""


def test_the_same_integers_on_every_machine():
    """Other kernels of BLAS and NumPy add in another order; all of them run on any AMD64."""
    kinds = ({}, {"OPENBLAS_CORETYPE": "Nehalem", "NPY_DISABLE_CPU_FEATURES": "X86_V3"})
    found = [
        subprocess.run(
            [sys.executable, "-c", DIGEST],
            env=os.environ | kind,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for kind in kinds
    ]
    assert found[0]
    assert found == found[:1] * len(kinds)


def test_parameters_are_in_their_ranges(models):
    for _, q in models:
        linears = [q.action, q.state, q.embed, q.proj]
        for layer in q.layers:
            linears += [layer.query, layer.key, layer.proj, layer.fc1, layer.fc2]
            assert layer.logits.mul.shape == (2,)
        for linear in linears:
            assert ((linear.mul >= 16384) & (linear.mul <= 32767)).all()
            assert (linear.shift <= 62).all()
            largest = 128 * np.abs(linear.weight.astype(np.int64)).sum(1) + np.abs(linear.add)
            assert (largest < 2**31).all()
        assert q.rope.cos.shape == q.rope.sin.shape == (3, 18, 16)
        assert (q.norm.bits, q.latent.bits) == (8, 8)
        assert (q.latent.gain == q.latent.gain[0]).all()
        assert not q.latent.add.any()


def test_rows_enter_the_stream_as_the_float_ones_do(models, latents):
    actions, states = candidates(20)
    for weights, q in models:
        seen = {}
        latent = latents[1][0]
        predict(
            weights, latent / 16, from_units(actions[:, :1]), from_units(states[:, :1]),
            observe=seen.__setitem__,
        )  # fmt: skip
        found = embed(q, latent, actions[:, 0], states[:, 0]) * q.residual_lsb
        wanted = seen["step.0.embed"]
        # Weights of INT8, with few of them in a row of action and state.
        for rows in (slice(0, 1), slice(1, 2), slice(2, 18)):
            error = np.abs(found[:, rows] - wanted[:, rows]).mean()
            assert error < 0.02 * wanted[:, rows].std()


def test_the_residual_stream_has_room(models, latents):
    for _, q in models:
        found = rollout(q, latents[1][0], *candidates(20), trace=True)
        for name, tensor in found.tensors.items():
            if name.endswith(("embed", "attention", "residual", "proj")):
                assert np.abs(tensor.astype(int)).max() < 30000, name
        assert max(np.abs(found[f"step.{t}.layer.1.residual"]).max() for t in range(3)) > 8000


def test_little_saturates_on_other_rollouts(models, latents):
    for _, q in models:
        found = rollout(q, latents[1][1], *candidates(20, seed=8), trace=True)
        for t in range(3):
            for n in range(2):
                for part in ("norm1", "query", "key", "value", "context", "norm2"):
                    values = np.abs(found[f"step.{t}.layer.{n}.{part}"].astype(int))
                    assert (values >= 127).mean() < 0.03, (t, n, part)
            values = np.abs(found[f"step.{t}.norm"][:, 2:].astype(int))
            assert (values >= 127).mean() < 0.02
            assert values.max() > 40


def test_a_planner_sees_nearly_what_it_would_of_floats(models, latents):
    """Forty candidates, ten elites, goals in reach and out of it; frames of no calibration."""
    found = {}
    for n, (weights, q) in enumerate(models):
        start, other = latents[1][n], latents[1][n - 1]
        actions, states = candidates(40)
        reached = rollout(q, start, actions[20:21], states[20:21]).latents[0]
        for steps in (1, 3):
            for kind, goal in (("near", reached[steps - 1]), ("far", other)):
                quality = planner_quality(
                    q, weights, start, goal, actions[:, :steps], states[:, :steps]
                )
                assert len(quality.l1) == len(quality.effect) == steps
                assert quality.l1[0] < 0.05
                assert quality.l1[-1] < 0.09
                assert quality.l1[-1] < 0.4 * quality.effect[-1]
                found.setdefault(kind, []).append((quality.rank, quality.elites))
    assert np.min(found["near"], 0)[0] > 0.96
    assert np.min(found["near"], 0)[1] >= 0.8
    # All candidates are about as far from a goal out of reach: their order means less.
    assert np.mean(found["far"], 0)[0] > 0.93
    assert np.mean(found["far"], 0)[1] >= 0.85


def test_actions_of_centimetres_are_seen_through_int8(models, latents):
    for weights, q in models:
        _, states = candidates(7)
        actions = np.zeros((7, 1, 7))
        actions[np.arange(1, 7), 0, [0, 1, 2, 0, 1, 2]] = [0.05] * 3 + [-0.05] * 3
        actions, states = to_units(actions), np.repeat(states[:1, :1], 7, 0)
        found = rollout(q, latents[1][2], actions, states).latents[:, 0] / 16
        effect = np.abs(found[1:] - found[0]).mean((1, 2))
        quality = planner_quality(q, weights, latents[1][2], latents[1][0], actions, states,
                                  elites=3)  # fmt: skip
        assert effect.min() > 2 * quality.l1[0]


def test_quality_of_a_wrong_predictor_is_bad(models, latents):
    actions, states = candidates(40)
    (weights, q), (_, other) = models[:2]
    start, goal = latents[1][:2]
    assert planner_quality(other, weights, start, goal, actions, states).l1[0] > 0.5
    # Actions that are not seen leave the costs without order.
    deaf = evolve(q, action=evolve(q.action, weight=np.zeros_like(q.action.weight)))
    quality = planner_quality(deaf, weights, start, goal, actions[:, :1], states[:, :1])
    assert quality.rank < 0.6
    assert quality.elites < 0.8
    for elites in (0, 41):
        message = rf"^elites {elites} is not allowed: from 1 to 40 candidates$"
        with pytest.raises(ValueError, match=message):
            planner_quality(q, weights, start, goal, actions, states, elites=elites)


def test_quality_is_counted_as_it_says(models, latents):
    """Against sorted lists, on a predictor whose latents are shifted by a known amount."""
    weights, q = models[0]
    actions, states = candidates(6)
    actions, states = actions[:, :1], states[:, :1]
    start, goal = latents[1][:2]
    exact = predict(weights, start / 16, from_units(actions), from_units(states))[:, 0]
    found = rollout(q, start, actions, states).latents[:, 0]
    quality = planner_quality(q, weights, start, goal, actions, states, elites=2)
    assert quality.l1[0] == pytest.approx(np.mean(np.abs(found / 16 - exact)))
    assert quality.effect[0] == pytest.approx(np.mean(np.abs(exact - exact.mean(0))))
    a = [int(np.abs(z.astype(int) - goal).sum()) for z in found]
    b = [float(np.abs(z - goal / 16).sum()) for z in exact]
    squares = sum((sorted(a).index(x) - sorted(b).index(y)) ** 2 for x, y in zip(a, b, strict=True))
    assert quality.rank == pytest.approx(1 - 6 * squares / (6 * 35))
    best = {n for n in range(6) if a[n] in sorted(a)[:2]} & {
        n for n in range(6) if b[n] in sorted(b)[:2]
    }
    assert quality.elites == len(best) / 2


def test_progress_is_told(latents):
    told = []
    quantise_predictor(
        random_predictor_weights(NANO, 0), latents[0][:1], *calibration_actions(NANO, candidates=4),
        progress=lambda *done: told.append(done),
    )  # fmt: skip
    assert told == [(0, 2), (1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("latents", "given", "message"),
    [
        ((0, 16, 48), [2, 2], "0 latents and 2 rollouts: calibration needs one of each"),
        ((2, 16, 48), [0, 0], "2 latents and 0 rollouts: calibration needs one of each"),
        ((2, 16, 48), [2], "actions and states must be given together, or neither"),
        ((2, 16, 32), [2, 2], "latent has shape (2, 16, 32), the predictor reads (16, 48)"),
    ],
)
def test_calibration_that_cannot_be_is_refused(latents, given, message):
    inputs = [np.zeros((count, 2, 7), np.int16) for count in given]
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        quantise_predictor(random_predictor_weights(NANO, 0), np.zeros(latents, np.int8), *inputs)
