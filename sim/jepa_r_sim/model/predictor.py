"""The action-conditioned predictor in floating point, as published.

Every step adds an action, a state and the patches of a latent to the sequence; a token sees all
tokens of its own and of earlier steps. The latent that a step predicts is the next one's patches.
"""

import numpy as np
import numpy.typing as npt

from .encoder import (
    Float,
    Kept,
    Layers,
    Observe,
    axial_tables,
    layer_norm,
    patch_positions,
    under,
)
from .shapes import FEATURES, INPUTS, ModelConfig
from .weights import PredictorWeights

__all__ = ["check_inputs", "predict", "step_tables"]


def step_tables(config: ModelConfig, step: int) -> tuple[Float, Float]:
    """Cosines and signed sines ``[step_rows, head_dim]`` of the rotary positions of a step, FP64.

    Action and state are at row 0 and column 0, and so is a class token.
    """
    positions = np.concatenate(
        [np.zeros((INPUTS, 3), np.int64), patch_positions(config, step)], dtype=np.int64
    )
    positions[:, 0] = step
    return axial_tables(positions, config.action_predictor.head_dim)


def check_inputs(
    config: ModelConfig, latent: tuple[int, ...], actions: tuple[int, ...], states: tuple[int, ...]
) -> None:
    """Refuse shapes that no rollout has.

    Raises
    ------
    ValueError
        If the latent is not ``[tokens, width]``, or one for each candidate, an action or a state
        has not seven features, there is not one state for each action, or the steps are none or
        too many.
    """
    wanted = (config.tokens, config.width)
    if latent not in (wanted, actions[:-2] + wanted):
        raise ValueError(f"latent has shape {latent}, the predictor reads {wanted}")
    if len(actions) < 2 or actions[-1] != FEATURES:
        raise ValueError(f"actions have shape {actions}, not (..., steps, {FEATURES})")
    if states != actions:
        raise ValueError(f"states have shape {states}, actions {actions}: one for each is needed")
    most = config.action_predictor.steps
    if not 1 <= actions[-2] <= most:
        raise ValueError(f"{actions[-2]} steps are not allowed: from 1 to {most}")


def predict(
    weights: PredictorWeights,
    latent: npt.ArrayLike,
    actions: npt.ArrayLike,
    states: npt.ArrayLike,
    *,
    dtype: npt.DTypeLike = np.float64,
    observe: Observe = lambda name, value: None,
) -> Float:
    """Latents that sequences of actions lead to.

    Keys and values of a step are kept for those after it, which changes nothing: what a token sees
    is complete when its own step is.

    Parameters
    ----------
    weights
        The predictor.
    latent
        Start, ``[tokens, width]``, in standard deviations; or one for each candidate.
    actions, states
        ``[..., steps, 7]`` in m, rad and 0..1; the state of a step is the pose before its action.
    dtype
        Of the arithmetic: FP64 or FP32.
    observe
        Called with the name and the value of every intermediate, named as in the integer path:
        ``step.<t>.`` before the names of a block's, and ``step.<t>.{embed,norm,proj,latent}``.

    Returns
    -------
    latents
        ``[..., steps, tokens, width]``.

    Raises
    ------
    ValueError
        As :func:`check_inputs`.
    """
    config, dtype = weights.config, np.dtype(dtype)
    latent, actions, states = (np.asarray(a, dtype) for a in (latent, actions, states))
    check_inputs(config, latent.shape, actions.shape, states.shape)
    layers = Layers(weights, dtype)
    kept: list[Kept | None] = [None] * config.action_predictor.depth
    patches = np.broadcast_to(latent, (*actions.shape[:-2], *latent.shape[-2:]))
    latents = []
    for step in range(actions.shape[-2]):
        name = f"step.{step}"
        cos, sin = (table.astype(dtype) for table in step_tables(config, step))
        x = np.concatenate(
            [
                layers.linear("predictor.action", actions[..., step, None, :]),
                layers.linear("predictor.state", states[..., step, None, :]),
                layers.linear("predictor.embed", patches),
            ],
            -2,
        )
        observe(f"{name}.embed", x)
        for index, earlier in enumerate(kept):
            x, kept[index] = layers.block(
                f"predictor.layer.{index}",
                x,
                (cos, sin),
                earlier=earlier,
                observe=under(f"{name}.layer.{index}", observe),
            )
        x = layers.norm("predictor.norm", x)
        observe(f"{name}.norm", x)
        x = layers.linear("predictor.proj", x[..., INPUTS:, :])
        observe(f"{name}.proj", x)
        patches = layer_norm(x, config.latent_eps)
        observe(f"{name}.latent", patches)
        latents.append(patches)
    return np.stack(latents, -3)
