"""From floating-point weights to a quantised model, by calibration on photographs and rollouts.

Everything static: scales, clipping and smoothing are searched once, over the rows that calibration
frames leave at the input of every matrix product, for the least squared error behind the product.
What a channel needs beyond one scale is folded where the hardware has a value for each channel:

- LayerNorm's gain and offset take a smoothing factor and a centre for each channel, which the next
  weights and biases undo;
- query and key take a factor for each pair of dims (both members, since the rotator mixes them) and
  a scale for each head, which the logits' multiplier undoes;
- a channel of V has the scale of its weights, which are chosen coarser where V would not fit;
- GELU's table has a zero point on either side, undone in the biases around it.

Once a half of a block is quantised, the mean error it leaves in the residual stream is taken out of
its last bias. A predictor's steps are calibrated side by side, each from the latent that the float
model gave the step before it.

The same weights and frames give the same integers on every machine: the order in which a matrix
product adds is the processor's, so what the float model shows is computed in FP64 and kept in FP32,
and all searches are FP64. In FP32 throughout, two processors chose other scales, and now and then
one left twice the error of the other.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from attrs import evolve, frozen
from PIL import Image, ImageEnhance

from ..golden.lane import residual
from ..golden.rows import NormProfile
from . import integer
from . import rollout as rolled
from .encoder import MEAN, STD, encode, gelu, rotary_tables
from .predictor import predict, step_tables
from .preprocess import open_photograph, patches_of
from .quality import LATENT_LSB
from .quantised import (
    Column,
    Linear,
    Logits,
    Norm,
    QuantisedEncoder,
    QuantisedLayer,
    QuantisedPredictor,
    Rope,
    Value,
    WideLinear,
    multiplier,
)
from .shapes import FEATURES, INPUTS, ModelConfig
from .units import LSB, from_units, poses, to_units
from .weights import CLASS_TOKEN, PATCH, POSITIONS, EncoderWeights, PredictorWeights, Weights

__all__ = [
    "QuantisedEncoder",
    "QuantisedPredictor",
    "calibration_actions",
    "calibration_patches",
    "quantise",
    "quantise_predictor",
]

Float = npt.NDArray[np.floating]

#: Fractional bits of the rotator's tables.
ROTARY_BITS = 14
#: Bits that query and key carry below the INT8 they are rotated to.
ROTARY_GUARD = 6
#: How much of INT16 the largest calibrated value of the residual stream takes.
HEADROOM = 1.5
#: Most rows over which one product's settings are searched.
SEARCH_ROWS = 1024
#: The multiplier of a constant second stage: a power of two leaves the value alone.
UNIT = 1 << 12
#: How far beyond the calibrated extremes the scales of query and key may reach.
HEAD_RATIOS = (1.2, 1.0, 0.85, 0.7, 0.55)
#: What actions are drawn for: deviation and largest magnitude of x, y, z (m) and of the gripper.
ACTION_BOX = ((0.075, 0.075), (1.0, 0.75))


def calibration_patches(
    config: ModelConfig,
    *,
    pictures: Sequence[Image.Image] | None = None,
    frames: int | None = None,
    seed: int = 0,
) -> list[npt.NDArray[np.int8]]:
    """Frames to calibrate on: squares of many sizes and places, mirrored, in other exposures.

    Parameters
    ----------
    config
        The model.
    pictures
        What they are cut from, in turn; by default the photograph of the demo.
    frames
        How many. A small model has few rows in a frame, and so needs more of them: by default
        about a thousand rows, in 16 to 64 frames.
    seed
        Another seed gives other frames.
    """
    frames = min(max(1024 // config.tokens, 16), 64) if frames is None else frames
    random = np.random.default_rng(seed)
    pictures = [open_photograph()] if pictures is None else pictures
    found = []
    for index in range(frames):
        picture = pictures[index % len(pictures)]
        side = int(min(picture.size) * random.uniform(0.4, 1.0))
        left, top = (int(random.integers(0, extent - side + 1)) for extent in picture.size)
        frame = picture.resize((config.image,) * 2, box=(left, top, left + side, top + side))
        for change in (ImageEnhance.Brightness, ImageEnhance.Color, ImageEnhance.Contrast):
            frame = change(frame).enhance(random.uniform(0.6, 1.4))
        pixels = np.asarray(frame, np.uint8).transpose(2, 0, 1)
        found.append(patches_of(pixels[:, :, :: random.choice([-1, 1])], config))
    return found


def calibration_actions(
    config: ModelConfig, *, candidates: int | None = None, seed: int = 0
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int16]]:
    """Actions that the planner begins with, from poses all over, and the states they lead through.

    Parameters
    ----------
    config
        The model.
    candidates
        How many; by default about two thousand rows, 8 to 64 of them.
    seed
        Another seed gives others.

    Returns
    -------
    actions, states
        INT16 ``[candidates, steps, 7]``.
    """
    steps = config.action_predictor.steps
    if candidates is None:
        candidates = min(max(2048 // (config.step_rows * steps), 8), 64)
    random = np.random.default_rng(seed)
    actions = np.zeros((candidates, steps, FEATURES))
    for part, (deviation, most) in zip((slice(0, 3), slice(6, 7)), ACTION_BOX, strict=True):
        drawn = deviation * random.standard_normal(actions[..., part].shape)
        actions[..., part] = np.clip(drawn, -most, most)
    pose = random.uniform(-1, 1, (candidates, FEATURES)) * [0.7, 0.7, 0.7, np.pi, np.pi, np.pi, 0]
    pose[:, 6] = random.uniform(0, 1, candidates)
    units = to_units(actions)
    return units, poses(to_units(pose), units)


@frozen(eq=False)
class _Site:
    """How the INT8 input of a product is made: ``(x - centre) / (smooth * lsb)``."""

    centre: Float
    smooth: Float
    lsb: float

    def quantised(self, x: Float) -> Float:
        return np.clip(np.rint((x - self.centre) / (self.smooth * self.lsb)), -128, 127)


@frozen(eq=False)
class _Rounded:
    """INT8 weights of a product with the scale of each output channel."""

    weight: npt.NDArray[np.int8]
    lsb: Float


def _round_weight(weight: Float, energy: Float) -> _Rounded:
    """Clip each output channel where its error, weighted by the inputs' energy, is least."""
    top = np.maximum(np.abs(weight).max(1), 1e-12)
    best, scale = np.full(len(weight), np.inf), top / 127
    for ratio in (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6):
        lsb = ratio * top / 127
        error = weight - lsb[:, None] * np.clip(np.rint(weight / lsb[:, None]), -127, 127)
        loss = (error * error) @ energy
        scale = np.where(loss < best, lsb, scale)
        best = np.minimum(loss, best)
    return _Rounded(_int8(weight / scale[:, None]), scale)


def _int8(x: Float) -> npt.NDArray[np.int8]:
    return np.clip(np.rint(x), -127, 127).astype(np.int8)


def _halves(frames: Float) -> tuple[Float, Float]:
    """Frames to fit to, and others to judge by: what fits its own frames best clips the next."""
    return (frames[::2], frames[1::2]) if len(frames) > 1 else (frames, frames)


def _rows(frames: Float) -> Float:
    """At most ``SEARCH_ROWS`` rows of all frames."""
    rows = frames.reshape(-1, frames.shape[-1])
    return rows[:: -(-len(rows) // SEARCH_ROWS)]


def _search_site(frames: Float, weight: Float) -> tuple[_Site, _Rounded]:
    """Centre, smoothing and clipping of a product's input that leave the least error behind it.

    ``frames`` is ``[frames, tokens, K]``. Ranges come from one half of the frames, the error from
    the other; then the settings that won are applied to the ranges of all.
    """
    fit, judge = _halves(frames)
    x = _rows(judge)
    pull = np.maximum(np.abs(weight).max(0), 1e-6)

    def ranges(frames: Float) -> tuple[Float, Float]:
        low, high = frames.min((0, 1)), frames.max((0, 1))
        return (low + high) / 2, np.maximum((high - low) / 2, 1e-6)

    def site(frames: Float, alpha: float, ratio: float) -> _Site:
        centre, reach = ranges(frames)
        smooth = reach**alpha / pull ** (1 - alpha) if alpha else np.ones_like(reach)
        smooth = smooth / np.exp(np.log(smooth).mean())
        return _Site(centre, smooth, float(ratio * (reach / smooth).max() / 127))

    wanted = (x - ranges(fit)[0]) @ weight.T
    # Products whose results are large would otherwise hide the others.
    importance = 1 / np.maximum(wanted.var(0), 1e-12)
    losses = {}
    for alpha in (0.0, 0.35, 0.5, 0.65, 0.8, 1.0):
        scaled = weight * site(fit, alpha, 1.0).smooth
        lsb = np.maximum(np.abs(scaled).max(1, keepdims=True), 1e-12) / 127
        product = (np.rint(scaled / lsb) * lsb).T
        for ratio in (1.4, 1.2, 1.0, 0.85, 0.7, 0.55):
            trial = site(fit, alpha, ratio)
            error = (trial.quantised(x) * trial.lsb) @ product - wanted
            losses[alpha, ratio] = float(((error * error).mean(0) * importance).mean())
    best = site(frames, *min(losses, key=losses.__getitem__))
    z = best.quantised(_rows(frames))
    return best, _round_weight(weight * best.smooth, (z * z).mean(0))


def _linear(
    rounded: _Rounded, bias: Float, *, source: float, result: npt.ArrayLike, zero: int = 0
) -> Linear:
    """Hardware form of a product whose input counts ``source`` from ``zero``."""
    unit = source * rounded.lsb
    add = np.rint(bias / unit) - zero * rounded.weight.astype(np.int64).sum(1)
    if np.abs(add).max() >= 2**30:
        raise ValueError(f"bias of {np.abs(add).max()} accumulator units; at most {2**30} fit")
    mul, shift = multiplier(unit / np.asarray(result))
    return Linear(weight=rounded.weight, add=add.astype(np.int32), mul=mul, shift=shift)


def _column(
    gain: Float, offset: Float, fraction: int
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int32], int]:
    """INT16 and INT32 of ``y * 2**-fraction * gain + offset``, and the shift behind them."""
    per_unit = np.abs(gain) * 2.0**-fraction
    room = min(32767 / max(per_unit.max(), 1e-12), 2.0**30 / max(np.abs(offset).max(), 1e-12))
    shift = int(np.clip(np.floor(np.log2(room)), 0, 40))
    mul = np.clip(np.rint(gain * 2.0 ** (shift - fraction)), -32768, 32767)
    add = np.clip(np.rint(offset * 2.0**shift), -(2**30), 2**30)
    return mul.astype(np.int16), add.astype(np.int32), shift


def _norm(profile: NormProfile, gain: Float, offset: Float, *, bits: int = 8) -> Norm:
    mul, add, shift = _column(gain, offset, profile.fraction)
    return Norm(profile=profile, gain=mul, add=add, shift2=shift, bits=bits)


def _search_heads(query: Float, key: Float, unrotated: Float) -> tuple[Float, Float, Float]:
    """Factors for each pair of dims, and scales for each head of query and of key.

    ``query``, ``key`` are rotated, ``[frames, heads, tokens, head_dim]``; ``unrotated`` is both
    before the rotation. A query is multiplied by the factors ``[width]``, a key divided by them.
    """

    def factors(query: Float, key: Float) -> Float:
        power = np.stack([(x * x).mean((0, 2)) for x in (query, key)])
        power = power.reshape(2, query.shape[1], -1, 2).sum(-1)
        return ((np.maximum(power[1], 1e-9) / np.maximum(power[0], 1e-9)) ** 0.25).repeat(2, 1)

    def reaches(query: Float, key: Float) -> Float:
        factor = factors(query, key)[:, None]
        return np.stack([np.abs(x).max((0, 2, 3)) for x in (query * factor, key / factor)])

    def rounded(x: Float, lsb: Float) -> Float:
        lsb = lsb[:, None, None]
        return np.clip(np.rint(x / lsb), -128, 127) * lsb

    fit, judge = zip(_halves(query), _halves(key), strict=True)
    reach, factor = reaches(*fit), factors(*fit)[:, None]
    q, k = (x[:: -(-len(x) // 4)] for x in judge)
    q, k = q * factor, k / factor
    wanted = q @ k.transpose(0, 1, 3, 2)
    best, ratio = np.full(len(factor), np.inf), np.ones_like(reach)
    for pair in [(a, b) for a in HEAD_RATIOS for b in HEAD_RATIOS]:
        trial = np.array(pair)[:, None] * reach / 127
        error = rounded(q, trial[0]) @ rounded(k, trial[1]).transpose(0, 1, 3, 2) - wanted
        # What is common to a row of logits the softmax drops.
        loss = ((error - error.mean(-1, keepdims=True)) ** 2).mean((0, 2, 3))
        ratio = np.where(loss < best, np.array(pair)[:, None], ratio)
        best = np.minimum(loss, best)
    factor = factors(query, key)
    before = np.stack([unrotated[:, 0] * factor[:, None], unrotated[:, 1] / factor[:, None]])
    # INT16 before the rotation holds 2**(15 - guard) units of the INT8 after it.
    floor = 1.25 * np.abs(before).max((1, 3, 4)) / 2.0 ** (15 - ROTARY_GUARD)
    scales = np.maximum(np.maximum(ratio * reaches(query, key) / 127, floor), 1e-9)
    return factor.reshape(-1), scales[0], scales[1]


def _search_value(
    site: _Site, frames: Float, weight: Float, importance: Float
) -> tuple[Value, Float]:
    """Weights of V with scales such that one multiplier brings every channel into INT8."""
    scaled = weight * site.smooth

    def inputs(frames: Float) -> tuple[Float, Float]:
        z = site.quantised(_rows(frames))
        return z, (z * site.lsb) @ scaled.T

    def value(reach: Float, octave: float, ratio: float) -> tuple[Value, Float]:
        finest = np.maximum(np.abs(scaled).max(1), 1e-9) / 127
        reach = np.maximum(reach, 1e-9) / 127
        mul, shift = multiplier(site.lsb / (np.median(reach / finest) * 2.0**octave))
        common = site.lsb * 2.0 ** int(shift) / int(mul)
        lsb = np.maximum(finest, ratio * reach / common)
        weights = _int8(scaled / lsb[:, None])
        return Value(weight=weights, mul=int(mul), shift=int(shift)), common * lsb

    fit, judge = (inputs(half) for half in _halves(frames))
    z, wanted = judge
    losses = {}
    for octave in np.arange(-4, 4.01, 0.5):
        for ratio in (1.4, 1.2, 1.0, 0.85, 0.7):
            trial, scale = value(np.abs(fit[1]).max(0), octave, ratio)
            sums = z @ trial.weight.astype(z.dtype).T
            result = np.clip(np.rint(sums * (trial.mul * 2.0**-trial.shift)), -128, 127)
            error = result * scale - wanted
            losses[octave, ratio] = float(((error * error).mean(0) * importance).sum())
    best = min(losses, key=losses.__getitem__)
    return value(np.abs(inputs(frames)[1]).max(0), *best)


@frozen(eq=False)
class _Activation:
    """GELU from INT8 to INT8, either side with a zero point."""

    source: float
    source_zero: int
    result: float
    result_zero: int

    @property
    def table(self) -> npt.NDArray[np.int8]:
        index = np.arange(256).astype(np.uint8).view(np.int8).astype(np.float64)
        y = gelu((index - self.source_zero) * self.source)
        return self._to_int8(y)

    def _to_int8(self, y: Float) -> npt.NDArray[np.int8]:
        return np.clip(np.rint(y / self.result) + self.result_zero, -128, 127).astype(np.int8)

    def quantised(self, x: Float) -> Float:
        z = np.clip(np.rint(x / self.source) + self.source_zero, -128, 127).astype(np.int64)
        return self.table[z & 255].astype(x.dtype)


def _search_activation(frames: Float, weight: Float) -> tuple[_Activation, _Rounded]:
    """Range of GELU's table on either side that leaves the least error behind ``fc2``."""
    x = _rows(frames)
    exact = gelu(x)
    wanted = exact @ weight.T
    energy = np.maximum((exact * exact).mean(0), 1e-12)
    rounded = _round_weight(weight, energy)
    product = rounded.weight * rounded.lsb[:, None]
    top = max(float(frames.max()), 0.5)
    best: tuple[float, _Activation] | None = None
    for high in top * np.array([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]):
        for low in (-2.5, -3.0, -3.5, -4.5):
            source = (high - low) / 255
            source_zero = round(-128 - low / source)
            result = (float(gelu(np.float64(high))) + 0.17) / 255
            shape = _Activation(source, source_zero, result, round(-128 + 0.17 / result))
            error = (shape.quantised(x) - shape.result_zero) * result @ product.T - wanted
            loss = float((error * error).mean())
            if best is None or loss < best[0]:
                best = loss, shape
    assert best is not None
    return best[1], rounded


class _Calibration:
    """What a float model shows on the calibration frames.

    A frame of a predictor is a step of a candidate; names lose the step's.
    """

    BLOCK = ("norm1", "unrotated", "query", "key", "context", "norm2", "unactivated")
    KEPT = (*BLOCK, "norm", "proj")

    def __init__(self) -> None:
        self.reach = 0.0
        self._kept: dict[str, list[Float]] = {}
        self._previous: Float = np.zeros(1)

    def see(self, name: str, value: Float) -> None:
        """Keep an intermediate ``[frames, ...]``."""
        if name.startswith("step."):
            name = name.split(".", 2)[2]
        kind = name.rpartition(".")[2]
        value = value.astype(np.float32)
        if kind in self.KEPT:
            self._kept.setdefault(name, []).append(value)
        if kind in {"patch", "embed", "attention", "residual"}:
            self._kept.setdefault(name, []).append(value)
            # The stream itself, and what is added to it, are both INT16 in the same units.
            steps = [np.abs(value)]
            if kind not in {"patch", "embed"}:
                steps.append(np.abs(value - self._previous))
            self.reach = max(self.reach, *(float(step.max()) for step in steps))
            self._previous = value

    def frames(self, name: str) -> Float:
        """All frames of an intermediate."""
        return np.concatenate(self._kept[name], dtype=np.float64)

    def rows(self, name: str) -> Float:
        """Rows of all frames, one after the other."""
        return _flat(self._kept[name])


def _flat(frames: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return np.concatenate([x.reshape(-1, x.shape[-1]) for x in frames])


def _patch(weights: EncoderWeights, lsb: float) -> tuple[Linear, npt.NDArray[np.int16] | None]:
    """Patch embedding with the colours' normalisation folded in, and the table of positions."""
    config = weights.config
    weight, bias = weights.affine(PATCH)
    area = config.patch**2
    mean = np.repeat(MEAN[: config.channels], area)
    std = np.repeat(STD[: config.channels], area)
    bias = bias + weight @ ((128 / 255 - mean) / std)
    rounded = _round_weight(weight / (255 * std), np.ones(weight.shape[1]))
    # A bias far beyond the weights would not fit INT32 in units of the accumulator.
    patch = _linear(rounded, bias, source=1.0, result=lsb)
    if not config.absolute_positions:
        return patch, None
    table = weights[POSITIONS].astype(np.float64) / lsb
    if config.class_token:
        # The class token's patch is zeros: of the embedding only the bias is left, and undone here.
        nothing = np.zeros((1, weight.shape[1]), np.int8)
        table[0] += weights[CLASS_TOKEN] / lsb - integer.linear(nothing, patch)[0]
    if np.abs(table).max() > 32767:
        raise ValueError(f"a position of {np.abs(table).max()} units does not fit INT16")
    return patch, np.rint(table).astype(np.int16)


def _rope(cos: Float, sin: Float) -> Rope:
    tables = [np.rint(table * 2**ROTARY_BITS).astype(np.int16) for table in (cos, sin)]
    return Rope(cos=tables[0], sin=tables[1], shift=ROTARY_BITS + ROTARY_GUARD)


def _latent_norm(config: ModelConfig, lsb: float) -> Norm:
    """Affine-free norm of rows in units of ``lsb``, to sixteenths."""
    profile = NormProfile.of(config.width, eps=config.latent_eps, lsb=lsb)
    return Norm(
        profile=profile,
        gain=np.full(config.width, UNIT, np.int16),
        add=np.zeros(config.width, np.int32),
        # Sixteenths: four of the fractional bits stay.
        shift2=UNIT.bit_length() - 1 + profile.fraction - 4,
    )


def _corrected(
    linear: Linear, wanted: Float, x: Sequence[npt.NDArray[np.integer]], lsb: float
) -> Linear:
    """The same product with the mean error of what it leads to taken out of its bias."""
    error = wanted / lsb - _flat(x).astype(np.float64)
    units = 2.0 ** linear.shift.astype(np.float64) / np.maximum(linear.mul.astype(np.float64), 1)
    add = np.clip(linear.add + np.rint(error.mean(0) * units * (linear.mul > 0)), -(2**30), 2**30)
    return Linear(
        weight=linear.weight, add=add.astype(np.int32), mul=linear.mul, shift=linear.shift
    )


@frozen(eq=False)
class _Stream:
    """A residual stream to quantise the blocks of."""

    weights: Weights
    part: str
    seen: _Calibration
    profile: NormProfile
    lsb: float
    rotary: bool = True


def _quantise_attention(stream: _Stream, layer: int) -> dict[str, Any]:
    weights, seen, name = stream.weights, stream.seen, f"layer.{layer}"
    source = f"{stream.part}.{name}"
    gain, offset = weights.affine(f"{source}.norm1")
    parts = ("query", "key", "value", "proj")
    weight, bias = zip(
        *(weights.affine(f"{source}.attention.{part}") for part in parts), strict=True
    )
    h = seen.frames(f"{name}.norm1")
    site, rounded = _search_site(h, np.concatenate(weight[:3]))
    norm1 = _norm(stream.profile, gain / (site.smooth * site.lsb),
                  (offset - site.centre) / (site.smooth * site.lsb))  # fmt: skip
    query, key, unrotated = (
        seen.frames(f"{name}.{part}") for part in ("query", "key", "unrotated")
    )
    bias_q, bias_k = (b + w @ site.centre for w, b in zip(weight[:2], bias[:2], strict=True))
    if not stream.rotary:
        # What all keys have in common adds the same to every logit of a row: the softmax drops it.
        centre = (key.min((0, 2)) + key.max((0, 2))) / 2
        key = key - centre[:, None]
        unrotated = np.stack([unrotated[:, 0], key], 1)
        bias_k = bias_k - centre.reshape(-1)
    factor, scale_q, scale_k = _search_heads(query, key, unrotated)
    guard = 2.0**ROTARY_GUARD
    width, head_dim = len(gain), key.shape[-1]
    linears = {}
    for index, (part, b, f, s) in enumerate((
        ("query", bias_q, 1 / factor, scale_q),
        ("key", bias_k, factor, scale_k),
    )):
        rows = slice(index * width, (index + 1) * width)
        linears[part] = _linear(
            _Rounded(rounded.weight[rows], rounded.lsb[rows]), b, source=site.lsb,
            result=f * np.repeat(s, head_dim) / guard,
        )  # fmt: skip
    mul, shift = multiplier(scale_q * scale_k / np.sqrt(head_dim) * 16 / np.log(2))
    value, scale_v = _search_value(site, h, weight[2], (weight[3] ** 2).sum(0))
    bias_v = bias[2] + weight[2] @ site.centre
    context = seen.frames(f"{name}.context") - bias_v
    site_c, rounded_c = _search_site(context, weight[3])
    unit = site_c.smooth * site_c.lsb
    column = _column(scale_v / unit, -site_c.centre / unit, 8)
    bias_o = bias[3] + weight[3] @ (bias_v + site_c.centre)
    return {
        "norm1": norm1,
        **linears,
        "value": value,
        "logits": Logits(mul=mul, shift=shift),
        "context": Column(mul=column[0], add=column[1], shift2=column[2]),
        "proj": _linear(rounded_c, bias_o, source=site_c.lsb, result=stream.lsb),
    }


def _quantise_mlp(stream: _Stream, layer: int) -> dict[str, Any]:
    weights, seen, name = stream.weights, stream.seen, f"layer.{layer}"
    source = f"{stream.part}.{name}"
    gain, offset = weights.affine(f"{source}.norm2")
    weight1, bias1 = weights.affine(f"{source}.mlp.fc1")
    weight2, bias2 = weights.affine(f"{source}.mlp.fc2")
    h, x = seen.frames(f"{name}.norm2"), seen.frames(f"{name}.unactivated")
    site, rounded1 = _search_site(h, weight1)
    norm2 = _norm(stream.profile, gain / (site.smooth * site.lsb),
                  (offset - site.centre) / (site.smooth * site.lsb))  # fmt: skip
    shape, rounded2 = _search_activation(x, weight2)
    return {
        "norm2": norm2,
        "fc1": _linear(
            rounded1, bias1 + weight1 @ site.centre + shape.source_zero * shape.source,
            source=site.lsb, result=shape.source,
        ),
        "table": shape.table,
        "fc2": _linear(
            rounded2, bias2, source=shape.result, result=stream.lsb, zero=shape.result_zero
        ),
    }  # fmt: skip


#: Rows of the residual stream, and what half a block leaves of them.
Streams = list[npt.NDArray[np.int16]]
Ran = list[tuple[npt.NDArray[np.int16], integer.Tensors]]


def _quantise_layers(
    stream: _Stream,
    depth: int,
    streams: Streams,
    attend: Callable[[QuantisedLayer, Streams], Ran],
    progress: Callable[[int, int], None],
) -> tuple[tuple[QuantisedLayer, ...], Streams]:
    """All blocks, and what they make of the integer streams that enter them."""

    def mlps(layer: QuantisedLayer, streams: Streams) -> Ran:
        return [integer.mlp(layer, x) for x in streams]

    layers = []
    for index in range(depth):
        progress(index, depth)
        fields = _quantise_attention(stream, index) | _quantise_mlp(stream, index)
        for half, last, source, run in (
            ("attention", "proj", "context", attend),
            ("residual", "fc2", "hidden", mlps),
        ):
            ran = run(QuantisedLayer(**fields), streams)
            wanted = stream.seen.rows(f"layer.{index}.{half}")
            fields[last] = _corrected(fields[last], wanted, [x for x, _ in ran], stream.lsb)
            streams = [
                residual(integer.linear(tensors[source], fields[last]), x).astype(np.int16)
                for x, (_, tensors) in zip(streams, ran, strict=True)
            ]
        layers.append(QuantisedLayer(**fields))
    progress(depth, depth)
    return tuple(layers), streams


def quantise(
    weights: EncoderWeights,
    frames: Sequence[npt.NDArray[np.int8]] | None = None,
    *,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> QuantisedEncoder:
    """Quantise an encoder.

    Parameters
    ----------
    weights
        The model.
    frames
        INT8 patches of the calibration frames; by default :func:`calibration_patches`.
    progress
        Called with the number of layers done and their number.

    Raises
    ------
    ValueError
        If there are no frames, or weights so uneven that a bias does not fit its register.
    """
    config = weights.config
    frames = calibration_patches(config) if frames is None else frames
    if not frames:
        raise ValueError("frames is empty: calibration needs at least one")
    seen = _Calibration()
    final_reach = 0.0
    for frame in frames:
        result = encode(weights, frame, observe=lambda name, x: seen.see(name, x[None]))
        final_reach = max(final_reach, float(np.float32(np.abs(result.hidden).max())))
    lsb = seen.reach * HEADROOM / 32767
    profile = NormProfile.of(config.width, eps=config.eps, lsb=lsb)
    patch, positions = _patch(weights, lsb)
    gain, offset = weights.affine("encoder.layernorm")
    norm_lsb = final_reach * HEADROOM / 32767
    q = QuantisedEncoder(
        config=config,
        patch=patch,
        positions=positions,
        rope=_rope(*rotary_tables(config)),
        layers=(),
        norm=_norm(profile, gain / norm_lsb, offset / norm_lsb, bits=16),
        latent=_latent_norm(config, norm_lsb),
        residual_lsb=lsb,
        norm_lsb=norm_lsb,
    )
    stream = _Stream(weights, "encoder", seen, profile, lsb, config.rotary)
    layers, _ = _quantise_layers(
        stream,
        config.depth,
        [integer.embed(q, frame) for frame in frames],
        lambda layer, streams: [integer.attention(q, layer, x) for x in streams],
        progress,
    )
    return evolve(q, layers=layers)


def _wide(weights: PredictorWeights, name: str, lsb: float) -> WideLinear:
    """Layer of features in fixed point."""
    weight, bias = weights.affine(name)
    layer = _linear(_round_weight(weight * LSB, np.ones(FEATURES)), bias, source=1.0, result=lsb)
    # A row of zeros has no shift; any does.
    shift = np.where(layer.mul == 0, 8, layer.shift).astype(np.uint8)
    return WideLinear(weight=layer.weight, add=layer.add, mul=layer.mul, shift=shift)


def quantise_predictor(
    weights: PredictorWeights,
    latents: npt.NDArray[np.int8],
    actions: npt.NDArray[np.int16] | None = None,
    states: npt.NDArray[np.int16] | None = None,
    *,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> QuantisedPredictor:
    """Quantise a predictor.

    Parameters
    ----------
    weights
        The model.
    latents
        INT8 ``[N, tokens, width]`` in sixteenths, from which the calibration rollouts start in
        turn: what the encoder makes of frames.
    actions, states
        INT16 ``[B, steps, 7]`` of the rollouts; by default :func:`calibration_actions`. Every step
        that will be run must be among them, or what it saturates is not known.
    progress
        Called with the number of layers done and their number.

    Raises
    ------
    ValueError
        If there are no latents or no rollouts, only one of actions and states is given, shapes do
        not fit, or weights are so uneven that a bias does not fit its register.
    """
    config = weights.config
    predictor = config.action_predictor
    if (actions is None) != (states is None):
        raise ValueError("actions and states must be given together, or neither")
    if actions is None or states is None:
        actions, states = calibration_actions(config)
    if not (len(latents) and len(actions)):
        raise ValueError(
            f"{len(latents)} latents and {len(actions)} rollouts: calibration needs one of each"
        )
    starts = np.asarray(latents)[np.arange(len(actions)) % len(latents)]

    seen = _Calibration()
    exact = predict(
        weights,
        starts * LATENT_LSB,
        from_units(actions),
        from_units(states),
        observe=seen.see,
    )
    lsb = seen.reach * HEADROOM / 32767
    profile = NormProfile.of(predictor.width, eps=config.eps, lsb=lsb)
    output_lsb = float(np.abs(seen.frames("proj")).max()) * HEADROOM / 32767
    gain, offset = weights.affine("predictor.norm")
    weight, bias = weights.affine("predictor.proj")
    h = seen.frames("norm")[:, INPUTS:]
    site, rounded = _search_site(h, weight)
    embed_weight, embed_bias = weights.affine("predictor.embed")
    energy = np.square(starts.astype(np.float64)).mean((0, 1))
    tables = (step_tables(config, step) for step in range(predictor.steps))
    q = QuantisedPredictor(
        config=config,
        action=_wide(weights, "predictor.action", lsb),
        state=_wide(weights, "predictor.state", lsb),
        embed=_linear(
            _round_weight(embed_weight, energy), embed_bias, source=LATENT_LSB, result=lsb
        ),
        rope=_rope(*(np.stack(table) for table in zip(*tables, strict=True))),
        layers=(),
        norm=_norm(profile, gain / (site.smooth * site.lsb),
                   (offset - site.centre) / (site.smooth * site.lsb)),
        proj=_linear(rounded, bias + weight @ site.centre, source=site.lsb, result=output_lsb),
        latent=_latent_norm(config, output_lsb),
        residual_lsb=lsb,
        output_lsb=output_lsb,
    )  # fmt: skip
    grid = np.clip(np.rint(exact / LATENT_LSB), -128, 127).astype(np.int8)
    steps = range(actions.shape[1])
    streams = [
        rolled.embed(q, grid[:, step - 1] if step else starts, actions[:, step], states[:, step])
        for step in steps
    ]

    def attend(layer: QuantisedLayer, streams: Streams) -> Ran:
        ran, kept = [], None
        for step in steps:
            x, kept, tensors = rolled.attention(q, layer, streams[step], step, kept)
            ran.append((x, tensors))
        return ran

    stream = _Stream(weights, "predictor", seen, profile, lsb)
    layers, streams = _quantise_layers(stream, predictor.depth, streams, attend, progress)
    outputs = [rolled.finish(q, x)[1]["proj"] for x in streams]
    proj = _corrected(q.proj, seen.rows("proj"), outputs, output_lsb)
    return evolve(q, layers=layers, proj=proj)
