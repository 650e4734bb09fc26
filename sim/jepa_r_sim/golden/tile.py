"""Reference for :class:`jepa_r.tile.tile.Tile`: an exact product of INT8 matrices."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["matmul"]

# 1024 products of at most 2^14 stay within 2^24, up to which float32 holds every integer: so do all
# partial sums, whatever order the library adds them in.
EXACT_K = 1024


def matmul(a: NDArray[np.int8], b: NDArray[np.int8]) -> NDArray[np.int32]:
    """Multiply ``a`` by the transpose of ``b``, exactly and at the speed of the float library.

    Parameters
    ----------
    a : array of INT8, [..., M, K]
        Rows of tokens; of many products at once, which leading axes count.
    b : array of INT8, [..., N, K]
        Rows of weights; leading axes broadcast with those of ``a``.

    Returns
    -------
    array of INT32, [..., M, N]
        ``sum_k a[m, k] * b[n, k]``, modulo 2^32.

    Raises
    ------
    ValueError
        If an operand is not of INT8 matrices, or their rows differ in length.
    """
    for name, operand in (("a", a), ("b", b)):
        if operand.dtype != np.int8 or operand.ndim < 2:
            raise ValueError(f"{name} is {operand.dtype} {list(operand.shape)}, not int8 [rows, K]")
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(f"rows of a have {a.shape[-1]} elements, rows of b {b.shape[-1]}")
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    total = np.zeros((*lead, a.shape[-2], b.shape[-2]), dtype=np.int32)
    for k in range(0, a.shape[-1], EXACT_K):
        block = slice(k, k + EXACT_K)
        rows, columns = (x[..., block].astype(np.float32) for x in (a, b))
        product = rows @ columns.swapaxes(-1, -2)
        total += product.astype(
            np.int32
        )  # each exact, and their sum modulo 2^32 like the hardware's
    return total
