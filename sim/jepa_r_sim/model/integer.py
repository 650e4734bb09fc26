"""The encoder in integers: by definition what the chip computes, bit for bit."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from attrs import field, frozen

from ..golden import lane, rows
from ..golden.rounding import saturate
from ..golden.tile import matmul
from .quantised import Linear, Norm, QuantisedEncoder, QuantisedLayer

__all__ = [
    "Rotation",
    "Tensors",
    "Trace",
    "attend",
    "attention",
    "embed",
    "encode",
    "finish",
    "linear",
    "mlp",
    "norm",
    "project",
]

Int = npt.NDArray[np.int64]
#: Cosines and sines INT16 ``[rows, head_dim]``, and the shift behind them.
Rotation = tuple[npt.NDArray[np.int16], npt.NDArray[np.int16], int]
Tensors = dict[str, npt.NDArray[Any]]


@frozen(eq=False)
class Trace:
    """Everything that an encoded frame leaves in a memory of the chip.

    Attributes
    ----------
    latent
        INT8 ``[tokens, width]``, sixteenths.
    tensors
        By name, in the order of computation: ``patch`` (INT16); for each layer ``layer.<n>.``
        ``norm1``, ``query``, ``key`` (INT8 ``[tokens, width]``, rotated), ``value`` (INT8 ``[width,
        tokens]``), ``logits`` (INT16 ``[heads, tokens, tokens]``), ``exponentials`` (INT8, the
        same), ``context`` (INT8), ``attention`` (INT16, the stream with the projection added),
        ``norm2``, ``hidden`` (INT8), ``residual`` (INT16); ``norm`` (INT16), ``latent``. What the
        row unit learnt is INT64 ``[rows, 3]`` of offset, mul and shift: ``layer.<n>.norm1.rows``,
        ``layer.<n>.norm2.rows``, ``norm.rows``, ``latent.rows``, and ``layer.<n>.sums`` (``[heads,
        tokens, 3]``).
    """

    latent: npt.NDArray[np.int8]
    tensors: Mapping[str, npt.NDArray[Any]] = field(repr=False)

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self.tensors[name]


def _table(scale: rows.RowScale, lead: tuple[int, ...]) -> Int:
    return np.stack([scale.offset, scale.mul, scale.shift], -1).reshape(*lead, 3)


def norm(x: npt.ArrayLike, layer: Norm, name: str, tensors: Tensors) -> npt.NDArray[Any]:
    """LayerNorm of INT16 rows ``[..., W]``; leaves result and row parameters in ``tensors``."""
    x = np.asarray(x)
    flat = x.reshape(-1, x.shape[-1])
    scale = rows.moments(flat, layer.profile)
    y = lane.normalise(flat, scale.offset, scale.mul, scale.shift, pre=8)
    z = lane.scale(y, layer.gain.astype(np.int64), layer.add, layer.shift2, bits=layer.bits)
    tensors[f"{name}.rows"] = _table(scale, x.shape[:-1])
    tensors[name] = z.astype(np.int8 if layer.bits == 8 else np.int16).reshape(x.shape)
    return tensors[name]


def linear(x: npt.NDArray[np.int8], layer: Linear) -> Int:
    """Product of rows ``[..., K]``, bias and requantisation to the range of INT16."""
    products = matmul(x.reshape(-1, x.shape[-1]), layer.weight)
    y = lane.requantise(products, layer.add, layer.mul.astype(np.int64), layer.shift)
    return y.reshape(*x.shape[:-1], -1)


def _rotated(x: npt.NDArray[np.int8], layer: Linear, tables: Rotation) -> npt.NDArray[np.int8]:
    y = linear(x, layer)
    heads = y.shape[-1] // tables[0].shape[-1]
    cos, sin = (np.tile(t.astype(np.int64), heads) for t in tables[:2])
    return lane.rotate(y, cos, sin, tables[2]).astype(np.int8)


def project(
    layer: QuantisedLayer, x: npt.NDArray[np.int16], tables: Rotation, tensors: Tensors
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8], npt.NDArray[np.int8]]:
    """Query and key ``[..., rows, W]`` and value ``[..., W, rows]`` of the residual stream.

    ``tables`` is cos and sin ``[rows, head_dim]`` and the shift of the rows' rotation.
    """
    h = norm(x, layer.norm1, "norm1", tensors)
    query = tensors["query"] = _rotated(h, layer.query, tables)
    key = tensors["key"] = _rotated(h, layer.key, tables)
    products = matmul(layer.value.weight, h)
    value = saturate(lane.requantise(products, 0, layer.value.mul, layer.value.shift), 8)
    tensors["value"] = value.astype(np.int8)
    return query, key, tensors["value"]


def attend(
    layer: QuantisedLayer,
    query: npt.NDArray[np.int8],
    key: npt.NDArray[np.int8],
    value: npt.NDArray[np.int8],
    tensors: Tensors,
) -> npt.NDArray[np.int8]:
    """Context INT8 ``[..., rows, W]`` of queries over all of the keys.

    Parameters
    ----------
    layer
        The block.
    query, key, value
        INT8 ``[..., rows, W]``, ``[..., keys, W]`` and ``[..., W, keys]``.
    tensors
        Takes ``logits``, ``exponentials``, ``sums`` and ``context``.
    """
    heads = len(layer.logits.mul)

    def split(x: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
        return x.reshape(*x.shape[:-1], heads, -1).swapaxes(-2, -3)

    mul, shift = (p.astype(np.int64)[:, None, None] for p in (layer.logits.mul, layer.logits.shift))
    logits = lane.requantise(matmul(split(query), split(key)), 0, mul, shift)
    flat = logits.reshape(-1, logits.shape[-1])
    exponentials = lane.exponential(flat, rows.maximum(flat)).astype(np.int8)
    scale = rows.total(exponentials)
    exponentials = exponentials.reshape(logits.shape)
    channels = value.reshape(*value.shape[:-2], heads, -1, value.shape[-1])
    weighted = matmul(exponentials, channels)
    means = lane.normalise(
        weighted.reshape(len(flat), -1), scale.offset, scale.mul, scale.shift, pre=0
    )
    means = means.reshape(weighted.shape).swapaxes(-2, -3).reshape(query.shape)
    column = layer.context
    tensors["logits"] = logits.astype(np.int16)
    tensors["exponentials"] = exponentials
    tensors["sums"] = _table(scale, logits.shape[:-1])
    tensors["context"] = lane.scale(
        means, column.mul.astype(np.int64), column.add, column.shift2, bits=8
    ).astype(np.int8)
    return tensors["context"]


def embed(q: QuantisedEncoder, patches: npt.NDArray[np.int8]) -> npt.NDArray[np.int16]:
    """Patches to the first rows of the residual stream."""
    x = linear(patches, q.patch)
    if q.positions is not None:
        x = lane.residual(x, q.positions)
    return x.astype(np.int16)


def attention(
    q: QuantisedEncoder, layer: QuantisedLayer, x: npt.NDArray[np.int16]
) -> tuple[npt.NDArray[np.int16], Tensors]:
    """First half of a block: the residual stream with the attention's projection added."""
    tensors: Tensors = {}
    rotation = (q.rope.cos, q.rope.sin, q.rope.shift)
    context = attend(layer, *project(layer, x, rotation, tensors), tensors)
    x = lane.residual(linear(context, layer.proj), x).astype(np.int16)
    tensors["attention"] = x
    return x, tensors


def mlp(layer: QuantisedLayer, x: npt.NDArray[np.int16]) -> tuple[npt.NDArray[np.int16], Tensors]:
    """Second half of a block: the residual stream with the MLP's result added."""
    tensors: Tensors = {}
    h = norm(x, layer.norm2, "norm2", tensors)
    hidden = lane.lookup(saturate(linear(h, layer.fc1), 8), layer.table).astype(np.int8)
    tensors["hidden"] = hidden
    x = lane.residual(linear(hidden, layer.fc2), x).astype(np.int16)
    tensors["residual"] = x
    return x, tensors


def finish(q: QuantisedEncoder, x: npt.NDArray[np.int16]) -> tuple[npt.NDArray[np.int8], Tensors]:
    """Both norms after the last block: the latent."""
    tensors: Tensors = {}
    z = norm(x, q.norm, "norm", tensors)
    return norm(z, q.latent, "latent", tensors), tensors


def encode(q: QuantisedEncoder, patches: npt.ArrayLike) -> Trace:
    """Encode INT8 patches ``[tokens, features]`` of one frame.

    Raises
    ------
    ValueError
        If the patches are not INT8 of the model's shape.
    """
    patches = np.asarray(patches)
    shape = (q.config.tokens, q.config.patch_features)
    if patches.dtype != np.int8 or patches.shape != shape:
        raise ValueError(
            f"patches are {patches.dtype} {patches.shape}, the model reads int8 {shape}"
        )
    tensors: Tensors = {}
    x = tensors["patch"] = embed(q, patches)
    for index, layer in enumerate(q.layers):
        x, first = attention(q, layer, x)
        x, second = mlp(layer, x)
        named = first | second
        tensors |= {f"layer.{index}.{name}": value for name, value in named.items()}
    latent, named = finish(q, x)
    return Trace(latent, tensors | named)
