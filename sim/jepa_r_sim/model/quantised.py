"""A quantised model: every number that the hardware reads, in the width it reads it."""

import numpy as np
import numpy.typing as npt
from attrs import Attribute, field, frozen

from ..golden.rows import NormProfile
from .shapes import ModelConfig

__all__ = [
    "Column",
    "Linear",
    "Logits",
    "Norm",
    "QuantisedEncoder",
    "QuantisedLayer",
    "QuantisedPredictor",
    "Rope",
    "Value",
    "WideLinear",
    "multiplier",
]

Int8 = npt.NDArray[np.int8]
Int16 = npt.NDArray[np.int16]
Int32 = npt.NDArray[np.int32]
UInt8 = npt.NDArray[np.uint8]


def _array(dtype: npt.DTypeLike, *dims: int):
    def check(instance: object, attribute: "Attribute[object]", value: object) -> None:
        if not isinstance(value, np.ndarray) or value.dtype != dtype or value.ndim not in dims:
            kind = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else f"{value!r}"
            raise ValueError(
                f"{type(instance).__name__}.{attribute.name} is {kind}, not an array of "
                f"{np.dtype(dtype)} with {' or '.join(map(str, dims))} dimensions"
            )

    return check


def multiplier(ratio: npt.ArrayLike) -> tuple[Int16, UInt8]:
    """INT16 ``mul`` and ``shift`` with ``ratio ~ mul * 2**-shift``, and ``mul`` in 16384..32767.

    Ratios below ``2**-48`` become 0.

    Raises
    ------
    ValueError
        If a ratio is negative, not finite or above 32767.
    """
    ratio = np.asarray(ratio, np.float64)
    if not (np.isfinite(ratio).all() and (ratio >= 0).all() and (ratio < 32767.5).all()):
        raise ValueError(f"ratio {ratio.max()} is not in 0..32767")
    dead = ratio < 2.0**-48
    mantissa, exponent = np.frexp(np.where(dead, 1.0, ratio))
    mul = np.rint(mantissa * 32768)
    over = mul == 32768
    mul, shift = np.where(over, 16384, mul), np.where(over, 14 - exponent, 15 - exponent)
    mul, shift = np.where(dead, 0, mul), np.where(dead, 0, shift)
    return mul.astype(np.int16), shift.astype(np.uint8)


@frozen(eq=False, kw_only=True)
class Linear:
    """``sat16(round((x @ weight.T + add) * mul, shift))``, parameters for each output channel.

    Attributes
    ----------
    weight
        INT8 ``[N, K]``.
    add
        INT32 ``[N]``: bias and zero point, in units of the accumulator.
    mul, shift
        INT16 ``[N]``, 16384..32767 or 0; UINT8 ``[N]``, 0..62.
    """

    weight: Int8 = field(validator=_array(np.int8, 2))
    add: Int32 = field(validator=_array(np.int32, 1))
    mul: Int16 = field(validator=_array(np.int16, 1))
    shift: UInt8 = field(validator=_array(np.uint8, 1))

    def __attrs_post_init__(self) -> None:
        _check_lengths(self)


@frozen(eq=False, kw_only=True)
class WideLinear:
    """A :class:`Linear` whose input is INT16, in two bytes: ``x = 256 * high + low``.

    ``sat16(low_part + high_part)`` of ``low_part = sat16(round((low @ weight.T + add) * mul,
    shift))`` and ``high_part = sat16(round(high @ weight.T * mul, shift - 8))``: the second product
    is the first stage that the first one is added to.

    Attributes
    ----------
    weight, add, mul
        As of :class:`Linear`; a unit of the accumulator is one of the low byte.
    shift
        UINT8 ``[N]``, 8..62.

    Raises
    ------
    ValueError
        If an array is of another type or length, or a shift is out of range.
    """

    weight: Int8 = field(validator=_array(np.int8, 2))
    add: Int32 = field(validator=_array(np.int32, 1))
    mul: Int16 = field(validator=_array(np.int16, 1))
    shift: UInt8 = field(validator=_array(np.uint8, 1))

    def __attrs_post_init__(self) -> None:
        _check_lengths(self)
        for shift in (int(self.shift.min()), int(self.shift.max())):
            if not 8 <= shift <= 62:
                raise ValueError(f"WideLinear.shift {shift} is not in 8..62")


def _check_lengths(layer: Linear | WideLinear) -> None:
    rows = layer.weight.shape[0]
    for name in ("add", "mul", "shift"):
        if len(getattr(layer, name)) != rows:
            raise ValueError(
                f"{type(layer).__name__}.{name} has {len(getattr(layer, name))} values, "
                f"weight has {rows} rows"
            )


@frozen(eq=False, kw_only=True)
class Value:
    """``sat8(round(weight @ x.T * mul, shift))``: Vᵀ, with one multiplier for all channels.

    Its rows are channels, so that a lane sees all of them; each channel's scale is in ``weight``.
    """

    weight: Int8 = field(validator=_array(np.int8, 2))
    mul: int
    shift: int


@frozen(eq=False, kw_only=True)
class Logits:
    """From ``q @ k.T`` to INT16 in sixteenths of an octave; a value for each head."""

    mul: Int16 = field(validator=_array(np.int16, 1))
    shift: UInt8 = field(validator=_array(np.uint8, 1))


@frozen(eq=False, kw_only=True)
class Column:
    """``sat8(round(y * mul + add, shift2))``: second stage of the context, for each channel."""

    mul: Int16 = field(validator=_array(np.int16, 1))
    add: Int32 = field(validator=_array(np.int32, 1))
    shift2: int


@frozen(eq=False, kw_only=True)
class Norm:
    """A LayerNorm: row statistics, ``lane.normalise`` with ``pre`` 8, then ``lane.scale``.

    Attributes
    ----------
    profile
        Constants of the row unit.
    gain, add
        INT16 ``[W]`` and INT32 ``[W]`` of the second stage.
    shift2
        Shift of the second stage.
    bits
        8, or 16 for the last affine norm, whose result another norm reads.
    """

    profile: NormProfile
    gain: Int16 = field(validator=_array(np.int16, 1))
    add: Int32 = field(validator=_array(np.int32, 1))
    shift2: int
    bits: int = 8


@frozen(eq=False, kw_only=True)
class Rope:
    """Rotation of queries and keys from INT16 to INT8.

    Attributes
    ----------
    cos, sin
        INT16 ``[tokens, head_dim]``, the same for every head; ``sin`` carries its sign. A dim that
        passes through has the unit and 0. A predictor's are ``[steps, tokens + 2, head_dim]``.
    shift
        Of ``lane.rotate``: the INT16 source has ``2**(shift - 14)`` times the resolution of the
        INT8 result.
    """

    cos: Int16 = field(validator=_array(np.int16, 2, 3))
    sin: Int16 = field(validator=_array(np.int16, 2, 3))
    shift: int


@frozen(eq=False, kw_only=True)
class QuantisedLayer:
    """One block, in the order in which its parts run.

    Attributes
    ----------
    norm1, norm2
        To INT8.
    query, key
        To INT16, which ``Rope`` then brings to INT8 ``[tokens, W]``.
    value
        To INT8 ``[W, tokens]``; its bias is in ``proj``, since rows of a softmax add up to one.
    logits
        For each head.
    context
        Second stage after division by the row's sum of exponentials, to INT8.
    proj, fc2
        To INT16 in units of the residual stream, which is then added.
    fc1
        To INT8 (``saturate(..., 8)``), the index of ``table``.
    table
        GELU: INT8 ``[256]``, entry ``z & 255``.
    """

    norm1: Norm
    query: Linear
    key: Linear
    value: Value
    logits: Logits
    context: Column
    proj: Linear
    norm2: Norm
    fc1: Linear
    table: Int8 = field(validator=_array(np.int8, 1))
    fc2: Linear


@frozen(eq=False, kw_only=True)
class QuantisedEncoder:
    """All that the hardware reads of a model.

    Attributes
    ----------
    config
        Shapes.
    patch
        From pixels (INT8, ``u8 - 128``) to the residual stream (INT16).
    positions
        INT16 ``[tokens, W]`` added to it, or None. Row 0 holds the class token if there is one.
    rope
        Tables shared by all layers.
    layers
        The blocks.
    norm
        Last affine norm, INT16.
    latent
        Affine-free norm of its rows, INT8 in sixteenths.
    residual_lsb, norm_lsb
        What one unit of the residual stream, and of ``norm``'s result, is worth.
    """

    config: ModelConfig
    patch: Linear
    positions: Int16 | None
    rope: Rope
    layers: tuple[QuantisedLayer, ...]
    norm: Norm
    latent: Norm
    residual_lsb: float
    norm_lsb: float


@frozen(eq=False, kw_only=True)
class QuantisedPredictor:
    """All that the hardware reads of a predictor.

    Attributes
    ----------
    config
        Shapes.
    action, state
        From the features (INT16, units of :data:`jepa_r_sim.model.units.LSB`) to a row of the
        residual stream each.
    embed
        From a latent (INT8, sixteenths) to the rows of its patches.
    rope
        Tables of every step, shared by all layers.
    layers
        The blocks.
    norm
        Last affine norm, INT8.
    proj
        From its patch rows to INT16 in units of ``output_lsb``.
    latent
        Affine-free norm of that, INT8 in sixteenths: the predicted latent.
    residual_lsb, output_lsb
        What one unit of the residual stream, and of ``proj``'s result, is worth.
    """

    config: ModelConfig
    action: WideLinear
    state: WideLinear
    embed: Linear
    rope: Rope
    layers: tuple[QuantisedLayer, ...]
    norm: Norm
    proj: Linear
    latent: Norm
    residual_lsb: float
    output_lsb: float
