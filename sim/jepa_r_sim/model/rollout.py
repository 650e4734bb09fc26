"""The predictor in integers: by definition what the chip computes, bit for bit.

Candidates are computed side by side; what each of them computes does not depend on the others.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from attrs import field, frozen

from ..golden import lane
from ..golden.tile import matmul
from . import integer
from .integer import Tensors
from .predictor import check_inputs
from .quantised import QuantisedLayer, QuantisedPredictor, WideLinear
from .shapes import INPUTS
from .units import split

__all__ = ["Kept", "Rollout", "attention", "costs", "embed", "finish", "rollout", "wide"]

Int8 = npt.NDArray[np.int8]
Int16 = npt.NDArray[np.int16]


@frozen(eq=False)
class Rollout:
    """What a batch of candidates leads to.

    Attributes
    ----------
    latents
        INT8 ``[B, H, tokens, width]``, sixteenths.
    tensors
        Everything that a step leaves in a memory of the chip, if it was asked for, by name in the
        order of computation: ``step.<t>.embed`` (INT16 ``[B, tokens + 2, P]``), the names of
        :class:`jepa_r_sim.model.integer.Trace` for each layer after ``step.<t>.``, all with a
        leading axis of candidates, ``step.<t>.norm`` (INT8), ``proj`` (INT16 ``[B, tokens,
        width]``) and ``latent``, with their ``rows``. ``key`` and ``value`` are the step's own;
        ``logits`` and ``exponentials`` are over the keys of all steps so far, ``[B, heads, tokens +
        2, (t + 1) * (tokens + 2)]``.
    """

    latents: Int8
    tensors: Mapping[str, npt.NDArray[Any]] = field(factory=dict, repr=False)

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self.tensors[name]


@frozen(eq=False)
class Kept:
    """Keys ``[B, rows, P]`` and values ``[B, P, rows]`` that a layer keeps of the steps so far."""

    keys: Int8
    values: Int8

    def __add__(self, other: "Kept") -> "Kept":
        return Kept(
            np.concatenate([self.keys, other.keys], -2),
            np.concatenate([self.values, other.values], -1),
        )


def wide(features: Int16, layer: WideLinear) -> Int16:
    """Rows of the residual stream of INT16 features ``[..., 7]``: the low byte's and the high's."""
    high, low = (matmul(byte.reshape(-1, byte.shape[-1]), layer.weight) for byte in split(features))
    mul, shift = layer.mul.astype(np.int64), layer.shift.astype(np.int64)
    y = lane.residual(
        lane.requantise(low, layer.add, mul, shift), lane.requantise(high, 0, mul, shift - 8)
    )
    return y.astype(np.int16).reshape(*features.shape[:-1], -1)


def embed(q: QuantisedPredictor, patches: Int8, action: Int16, state: Int16) -> Int16:
    """First rows of a step's residual stream: action and state ``[B, 7]``, patches of a latent."""
    rows = integer.linear(patches, q.embed).astype(np.int16)
    rows = np.broadcast_to(rows, (len(action), *rows.shape[-2:]))
    inputs = np.stack([wide(action, q.action), wide(state, q.state)], 1)
    return np.concatenate([inputs, rows], 1)


def attention(
    q: QuantisedPredictor, layer: QuantisedLayer, x: Int16, step: int, earlier: Kept | None
) -> tuple[Int16, Kept, Tensors]:
    """First half of a block for rows ``[B, tokens + 2, P]`` of a step, and what it keeps."""
    tensors: Tensors = {}
    rotation = (q.rope.cos[step], q.rope.sin[step], q.rope.shift)
    query, key, value = integer.project(layer, x, rotation, tensors)
    kept = Kept(key, value) if earlier is None else earlier + Kept(key, value)
    context = integer.attend(layer, query, kept.keys, kept.values, tensors)
    x = lane.residual(integer.linear(context, layer.proj), x).astype(np.int16)
    tensors["attention"] = x
    return x, kept, tensors


def finish(q: QuantisedPredictor, x: Int16) -> tuple[Int8, Tensors]:
    """What follows the last block: the predicted latent ``[B, tokens, width]``."""
    tensors: Tensors = {}
    h = integer.norm(x, q.norm, "norm", tensors)[..., INPUTS:, :]
    tensors["proj"] = integer.linear(h, q.proj).astype(np.int16)
    return integer.norm(tensors["proj"], q.latent, "latent", tensors), tensors


def rollout(
    q: QuantisedPredictor, latent: Int8, actions: Int16, states: Int16, *, trace: bool = False
) -> Rollout:
    """Roll candidates out.

    Parameters
    ----------
    q
        The predictor.
    latent
        Start, INT8 ``[tokens, width]`` in sixteenths; or one for each candidate, ``[B, tokens,
        width]``.
    actions, states
        INT16 ``[B, H, 7]`` in units of :data:`jepa_r_sim.model.units.LSB`; the state of a step is
        the pose before its action.
    trace
        Whether to keep all tensors.

    Raises
    ------
    ValueError
        If a type or shape is another one, there are no or too many steps, or a feature is beyond
        its range.
    """
    for name, array, dtype in (
        ("latent", latent, np.int8),
        ("actions", actions, np.int16),
        ("states", states, np.int16),
    ):
        if array.dtype != dtype:
            raise ValueError(f"{name} are {array.dtype}, not {np.dtype(dtype)}")
    check_inputs(q.config, latent.shape, actions.shape, states.shape)
    if actions.ndim != 3:
        raise ValueError(f"actions have shape {actions.shape}, not (candidates, steps, 7)")
    kept: list[Kept | None] = [None] * len(q.layers)
    tensors: Tensors = {}
    latents: list[Int8] = []
    for step in range(actions.shape[1]):
        patches = latents[-1] if latents else latent
        x = embed(q, patches, actions[:, step], states[:, step])
        named: Tensors = {"embed": x}
        for index, layer in enumerate(q.layers):
            x, kept[index], first = attention(q, layer, x, step, kept[index])
            x, second = integer.mlp(layer, x)
            named |= {f"layer.{index}.{name}": t for name, t in (first | second).items()}
        predicted, last = finish(q, x)
        latents.append(predicted)
        if trace:
            tensors |= {f"step.{step}.{name}": t for name, t in (named | last).items()}
    return Rollout(np.stack(latents, 1), tensors)


def costs(latents: Int8, goal: Int8) -> npt.NDArray[np.int64]:
    """L1 distance ``[B]`` of INT8 latents ``[B, tokens, width]`` to the goal's, in sixteenths."""
    distance = np.abs(latents.astype(np.int16) - goal.astype(np.int16))
    return distance.sum((-1, -2), dtype=np.int64)
