"""The encoder in floating point, as published: what the integer path is measured against."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from attrs import frozen

from .shapes import ModelConfig, rotary_dims
from .weights import CLASS_TOKEN, PATCH, POSITIONS, EncoderWeights, Weights

__all__ = [
    "MEAN",
    "STD",
    "Encoding",
    "Kept",
    "Layers",
    "Observe",
    "axial_tables",
    "encode",
    "erf",
    "gelu",
    "layer_norm",
    "normalised_patches",
    "patch_positions",
    "rotary_tables",
    "rotate",
    "under",
]

Float = npt.NDArray[np.floating]
#: Takes the name and the value of an intermediate.
Observe = Callable[[str, Float], None]
#: Keys and values of tokens seen earlier, ``[..., heads, tokens, head_dim]``.
Kept = tuple[Float, Float]

#: Mean and standard deviation of the colours (of values 0..1) that the models were trained with.
MEAN = np.array([0.485, 0.456, 0.406])
STD = np.array([0.229, 0.224, 0.225])

# Rational approximations of the error function in three ranges: W. J. Cody, "Rational Chebyshev
# approximations for the error function", Math. Comp. 23 (1969); relative error below 1e-16.
_A = (1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2,
      3.77485237685302021e2, 3.20937758913846947e3)  # fmt: skip
_B = (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3,
      2.84423683343917062e3)  # fmt: skip
_C = (2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0,
      6.61191906371416295e1, 2.98635138197400131e2, 8.81952221241769090e2,
      1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3)  # fmt: skip
_D = (1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2,
      1.62138957456669019e3, 3.29079923573345963e3, 4.36261909014324716e3,
      3.43936767414372164e3, 1.23033935480374942e3)  # fmt: skip
_P = (1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1,
      1.25781726111229246e-1, 1.60837851487422766e-2, 6.58749161529837803e-4)  # fmt: skip
_Q = (1.0, 2.56852019228982242e0, 1.87295284992346725e0, 5.27905102951428412e-1,
      6.05183413124413191e-2, 2.33520497626869185e-3)  # fmt: skip


def erf(x: npt.ArrayLike) -> Float:
    """Error function of every element, within a few units of the last place of FP64."""
    x = np.asarray(x)
    size = np.minimum(np.abs(x.astype(np.float64)), 6.0)
    square = size * size
    near = size * np.polyval(_A, square) / np.polyval(_B, square)
    tail = np.exp(-square)
    middle = 1 - tail * np.polyval(_C, size) / np.polyval(_D, size)
    inverse = 1 / np.maximum(square, 1)
    series = inverse * np.polyval(_P, inverse) / np.polyval(_Q, inverse)
    far = 1 - tail * (1 / np.sqrt(np.pi) - series) / np.maximum(size, 1)
    value = np.where(size <= 0.46875, near, np.where(size <= 4, middle, far))
    return np.copysign(value, x).astype(x.dtype if x.dtype.kind == "f" else np.float64)


def gelu(x: npt.ArrayLike) -> Float:
    """``x * Phi(x)``, exactly (no tanh)."""
    x = np.asarray(x)
    return 0.5 * x * (1 + erf(x / np.sqrt(2).astype(x.dtype)))


def layer_norm(x: Float, eps: float) -> Float:
    """Every row with mean 0 and (biased) variance 1."""
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred * centred).mean(-1, keepdims=True) + eps)


def axial_tables(positions: npt.ArrayLike, head_dim: int) -> tuple[Float, Float]:
    """Cosines and signed sines ``[rows, head_dim]`` of rotary positions, FP64.

    ``positions`` is ``[rows, 3]``: time, row, column. With ``a`` dims for each of them, dim ``d``
    of an axis turns by the position times ``10000**(-(d mod a/2) / (a/2))``. So the members of a
    pair ``(2j, 2j + 1)`` have angles of their own: the released weights were trained with tables
    that are tiled, not interleaved. The sine of an even dim is negative, so that ``rotate`` adds.
    Dims past ``3a`` pass through.
    """
    positions = np.asarray(positions)
    dims = rotary_dims(head_dim)
    cos = np.ones((len(positions), head_dim))
    sin = np.zeros_like(cos)
    frequency = 10000.0 ** (-np.tile(np.arange(dims // 2), 2) / (dims // 2))
    for axis, position in enumerate(positions.T):
        angle = position[:, None] * frequency
        columns = slice(axis * dims, (axis + 1) * dims)
        cos[:, columns] = np.cos(angle)
        sin[:, columns] = np.sin(angle) * np.where(np.arange(dims) % 2, 1, -1)
    return cos, sin


def patch_positions(config: ModelConfig, time: int) -> npt.NDArray[np.int64]:
    """Time, row and column of every token ``[tokens, 3]``; a class token is at the origin."""
    index = np.arange(config.grid**2)
    positions = np.zeros((config.tokens, 3), np.int64)
    positions[int(config.class_token) :] = np.stack(
        [np.full_like(index, time), index // config.grid, index % config.grid], -1
    )
    return positions


def rotary_tables(config: ModelConfig, time: int = 0) -> tuple[Float, Float]:
    """:func:`axial_tables` of an encoder's tokens, ``[tokens, head_dim]``."""
    if not config.rotary:
        cos = np.ones((config.tokens, config.head_dim))
        return cos, np.zeros_like(cos)
    return axial_tables(patch_positions(config, time), config.head_dim)


def rotate(x: Float, cos: Float, sin: Float) -> Float:
    """``y[d] = x[d] * cos[d] + x[d ^ 1] * sin[d]`` over the last axis."""
    partner = x.reshape(*x.shape[:-1], -1, 2)[..., ::-1].reshape(x.shape)
    return x * cos + partner * sin


def normalised_patches(patches: npt.ArrayLike, config: ModelConfig) -> Float:
    """What the patch kernel was trained to see of INT8 ``[tokens, features]``, FP64."""
    levels = (np.asarray(patches, np.float64) + 128) / 255
    colours = levels.reshape(-1, config.channels, config.patch**2)
    mean, std = MEAN[: config.channels, None], STD[: config.channels, None]
    return ((colours - mean) / std).reshape(levels.shape)


@frozen(eq=False)
class Encoding:
    """What the encoder makes of one frame.

    Attributes
    ----------
    hidden
        Rows after the last affine norm, ``[tokens, width]``.
    latent
        The same after the affine-free norm: what the predictor reads and the planner compares.
    """

    hidden: Float
    latent: Float


def under(name: str, observe: Observe) -> Observe:
    """The same, for intermediates whose names stand below another."""
    return lambda part, value: observe(f"{name}.{part}", value)


@frozen(eq=False)
class Layers:
    """Layers of a model, by their names in its weights, in one type of float.

    Rows are ``[..., rows, width]``: all leading axes are computed at once.
    """

    weights: Weights
    dtype: npt.DTypeLike

    def _affine(self, name: str) -> tuple[Float, Float]:
        weight, bias = self.weights.affine(name)
        return weight.astype(self.dtype), bias.astype(self.dtype)

    def linear(self, name: str, x: Float) -> Float:
        """Product with the weight's transpose, and the bias."""
        weight, bias = self._affine(name)
        return x @ weight.T + bias

    def norm(self, name: str, x: Float) -> Float:
        """LayerNorm with gain and offset."""
        gain, offset = self._affine(name)
        return layer_norm(x, self.weights.config.eps) * gain + offset

    def block(
        self,
        source: str,
        x: Float,
        tables: tuple[Float, Float],
        *,
        earlier: Kept | None = None,
        observe: Observe,
    ) -> tuple[Float, Kept]:
        """Rows of the residual stream after a block, and all keys and values that they saw.

        Parameters
        ----------
        source
            The block's name in the weights.
        x
            Rows before it.
        tables
            Of the rows' rotary positions; their width is that of a head.
        earlier
            What was returned for the rows before these, which these see too.
        observe
            Takes every intermediate under its bare name.
        """
        cos, sin = tables
        head_dim = cos.shape[-1]

        def heads(x: Float) -> Float:
            return x.reshape(*x.shape[:-1], -1, head_dim).swapaxes(-2, -3)

        h = self.norm(f"{source}.norm1", x)
        observe("norm1", h)
        query, key = (
            heads(self.linear(f"{source}.attention.{part}", h)) for part in ("query", "key")
        )
        observe("unrotated", np.stack([query, key], -4))
        query, key = rotate(query, cos, sin), rotate(key, cos, sin)
        value = heads(self.linear(f"{source}.attention.value", h))
        for part, array in {"query": query, "key": key, "value": value}.items():
            observe(part, array)
        if earlier is not None:
            key, value = (
                np.concatenate(pair, -2) for pair in zip(earlier, (key, value), strict=True)
            )
        logits = query @ key.swapaxes(-1, -2) / np.sqrt(head_dim).astype(x.dtype)
        shares = np.exp(logits - logits.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        context = (shares @ value).swapaxes(-2, -3).reshape(x.shape)
        observe("logits", logits)
        observe("context", context)
        x = x + self.linear(f"{source}.attention.proj", context)
        observe("attention", x)
        h = self.norm(f"{source}.norm2", x)
        observe("norm2", h)
        hidden = self.linear(f"{source}.mlp.fc1", h)
        observe("unactivated", hidden)
        hidden = gelu(hidden)
        observe("hidden", hidden)
        x = x + self.linear(f"{source}.mlp.fc2", hidden)
        observe("residual", x)
        return x, (key, value)


def encode(
    weights: EncoderWeights,
    patches: npt.ArrayLike,
    *,
    dtype: npt.DTypeLike = np.float64,
    observe: Observe = lambda name, value: None,
) -> Encoding:
    """Encode one frame.

    Parameters
    ----------
    weights
        The model.
    patches
        INT8 ``[tokens, features]``.
    dtype
        Of the arithmetic: FP64 or FP32.
    observe
        Called with the name and the value of every intermediate, named as in the integer path.
    """
    config = weights.config
    layers = Layers(weights, np.dtype(dtype))
    cos, sin = (table.astype(dtype) for table in rotary_tables(config))
    x = layers.linear(PATCH, normalised_patches(patches, config).astype(dtype))
    if config.class_token:
        x[0] = weights[CLASS_TOKEN]
    if config.absolute_positions:
        x = x + weights[POSITIONS].astype(dtype)
    observe("patch", x)
    for index in range(config.depth):
        x, _ = layers.block(
            f"encoder.layer.{index}",
            x,
            (cos, sin),
            observe=under(f"layer.{index}", observe),
        )
    x = layers.norm("encoder.layernorm", x)
    return Encoding(x, layer_norm(x, config.latent_eps))
