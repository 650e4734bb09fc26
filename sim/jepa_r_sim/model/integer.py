"""The encoder in integers: by definition what the chip computes, bit for bit."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from attrs import field, frozen

from ..golden import lane, rows
from ..golden.rounding import saturate
from ..golden.tile import matmul
from .quantised import Linear, Norm, QuantisedEncoder, QuantisedLayer, Rope

__all__ = ["Trace", "attention", "embed", "encode", "finish", "linear", "mlp", "norm"]

Int = npt.NDArray[np.int64]


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


Tensors = dict[str, npt.NDArray[Any]]


def _table(scale: rows.RowScale) -> Int:
    return np.stack([scale.offset, scale.mul, scale.shift], -1)


def norm(x: npt.ArrayLike, layer: Norm, name: str, tensors: Tensors) -> npt.NDArray[Any]:
    """LayerNorm of INT16 rows; leaves its result and its row parameters in ``tensors``."""
    scale = rows.moments(x, layer.profile)
    y = lane.normalise(x, scale.offset, scale.mul, scale.shift, pre=8)
    z = lane.scale(y, layer.gain.astype(np.int64), layer.add, layer.shift2, bits=layer.bits)
    tensors[f"{name}.rows"] = _table(scale)
    tensors[name] = z.astype(np.int8 if layer.bits == 8 else np.int16)
    return tensors[name]


def linear(x: npt.NDArray[np.int8], layer: Linear) -> Int:
    """Product, bias and requantisation to the range of INT16."""
    return lane.requantise(
        matmul(x, layer.weight), layer.add, layer.mul.astype(np.int64), layer.shift
    )


def _rotated(x: npt.NDArray[np.int8], layer: Linear, rope: Rope) -> npt.NDArray[np.int8]:
    y = linear(x, layer)
    heads = y.shape[1] // rope.cos.shape[1]
    cos, sin = (np.tile(t.astype(np.int64), heads) for t in (rope.cos, rope.sin))
    return lane.rotate(y, cos, sin, rope.shift).astype(np.int8)


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
    h = norm(x, layer.norm1, "norm1", tensors)
    query = tensors["query"] = _rotated(h, layer.query, q.rope)
    key = tensors["key"] = _rotated(h, layer.key, q.rope)
    products = matmul(layer.value.weight, h)
    value = saturate(lane.requantise(products, 0, layer.value.mul, layer.value.shift), 8)
    tensors["value"] = value.astype(np.int8)
    size = q.config.head_dim
    logits, exponentials, sums, context = [], [], [], []
    for head in range(q.config.heads):
        part = slice(head * size, (head + 1) * size)
        scores = matmul(np.ascontiguousarray(query[:, part]), np.ascontiguousarray(key[:, part]))
        mul, shift = int(layer.logits.mul[head]), int(layer.logits.shift[head])
        logits.append(lane.requantise(scores, 0, mul, shift))
        exponentials.append(lane.exponential(logits[-1], rows.maximum(logits[-1])).astype(np.int8))
        scale = rows.total(exponentials[-1])
        sums.append(_table(scale))
        weighted = matmul(exponentials[-1], tensors["value"][part])
        context.append(lane.normalise(weighted, scale.offset, scale.mul, scale.shift, pre=0))
    tensors["logits"] = np.stack(logits).astype(np.int16)
    tensors["exponentials"] = np.stack(exponentials)
    tensors["sums"] = np.stack(sums)
    column = layer.context
    tensors["context"] = lane.scale(
        np.concatenate(context, 1), column.mul.astype(np.int64), column.add, column.shift2, bits=8
    ).astype(np.int8)
    x = lane.residual(linear(tensors["context"], layer.proj), x).astype(np.int16)
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
