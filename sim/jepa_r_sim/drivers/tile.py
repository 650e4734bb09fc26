"""Passes of a tile as what its ports see, cycle by cycle, for either simulator."""

from collections.abc import Callable, Sequence

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray

from jepa_r.tile.tile import Tile

__all__ = ["Pass", "Stimulus", "passes_of", "schedule", "tokens_then_rows"]


@frozen
class Pass:
    """One pass: ``a`` [M, K] against ``b`` [N, K], with K at most the tile's rows.

    Attributes
    ----------
    a, b : array of INT8
        Operands.
    row : :class:`int`
        Accumulator row of token 0.
    half : :class:`int`
        Accumulator half.
    add : :class:`bool`
        Whether the sums are added to what is there.
    """

    a: NDArray[np.int8]
    b: NDArray[np.int8]
    row: int = 0
    half: int = 0
    add: bool = False


@frozen
class Stimulus:
    """Values of a tile's input ports, an element (or row) a cycle.

    Attributes
    ----------
    a, b : array of INT8, [cycles, rows]
        Operands; garbage where not valid.
    a_valid, b_valid, swap, b_rows, acc_half, acc_row, acc_add : array, [cycles]
        Control; garbage where nothing says it matters.
    starts : :class:`list` of :class:`int`
        Cycle of each pass's swap.
    """

    a: NDArray[np.int8]
    b: NDArray[np.int8]
    a_valid: NDArray[np.int64]
    b_valid: NDArray[np.int64]
    swap: NDArray[np.int64]
    b_rows: NDArray[np.int64]
    acc_half: NDArray[np.int64]
    acc_row: NDArray[np.int64]
    acc_add: NDArray[np.int64]
    starts: list[int] = field(factory=list)

    def __len__(self) -> int:
        return len(self.a)


def passes_of(
    a: NDArray[np.int8],
    b: NDArray[np.int8],
    *,
    rows: int,
    columns: int,
    row: int = 0,
    half: int = 0,
) -> list[Pass]:
    """Block a GEMM of any shape: for each block of columns a chain of passes along K.

    Sums of column block ``j`` go to rows ``row + j * (M rounded up to even)`` and on.
    """
    pitch = len(a) + len(a) % 2
    return [
        Pass(
            a[:, k : k + rows],
            b[n : n + columns, k : k + rows],
            row=row + n // columns * pitch,
            half=half,
            add=k > 0,
        )
        for n in range(0, len(b), columns)
        for k in range(0, a.shape[1], rows)
    ]


def tokens_then_rows(passes: Sequence[Pass], *, pause: Callable[[], bool] = lambda: False):
    """Cycles of every row of A and of B, as early as the contract allows.

    Parameters
    ----------
    passes : sequence of :class:`Pass`
        In order.
    pause
        Asked before every row, again and again while it says yes: a cycle without one.

    Returns
    -------
    a, b : :class:`list` of :class:`list` of :class:`int`
        Cycles of the rows, for each pass.
    """

    def rows_from(cycle: int, count: int) -> list[int]:
        cycles = []
        for _ in range(count):
            while pause():
                cycle += 1
            cycles.append(cycle)
            cycle += 1
        return cycles

    a: list[list[int]] = []
    b: list[list[int]] = []
    for n, each in enumerate(passes):
        swap = a[-1][0] if n else 0
        b.append(rows_from(swap, len(each.b)))
        free = b[-1][-1] + 1
        if n:
            tokens = len(passes[n - 1].a)
            free = max(free, a[-1][-1] + 1 + tokens % 2, swap + Tile.interval(tokens, 0))
        a.append(rows_from(free, len(each.a)))
    return a, b


def schedule(
    passes: Sequence[Pass],
    *,
    rows: int,
    columns: int,
    acc_rows: int,
    pause: Callable[[], bool] = lambda: False,
    early: int = 0,
    seed: int = 0,
) -> Stimulus:
    """Lay passes out on the ports of a tile.

    Parameters
    ----------
    passes : sequence of :class:`Pass`
        In order.
    rows, columns, acc_rows : :class:`int`
        The tile's.
    pause
        As for :func:`tokens_then_rows`.
    early : :class:`int`
        Cycles by which the swap of every pass but the first comes too early: wrong on purpose.
    seed : :class:`int`
        Of the garbage on what is not valid.
    """
    rng = np.random.default_rng(seed)
    a_cycles, b_cycles = tokens_then_rows(passes, pause=pause)
    cycles = a_cycles[-1][-1] + 1
    ports = {
        "a": rng.integers(-128, 128, (cycles, rows), dtype=np.int8),
        "b": rng.integers(-128, 128, (cycles, rows), dtype=np.int8),
        "a_valid": np.zeros(cycles, np.int64),
        "b_valid": np.zeros(cycles, np.int64),
        "swap": np.zeros(cycles, np.int64),
        "b_rows": rng.integers(0, columns + 1, cycles),
        "acc_half": rng.integers(0, 2, cycles),
        "acc_row": rng.integers(0, acc_rows, cycles),
        "acc_add": rng.integers(0, 2, cycles),
    }
    starts = []
    for n, (each, a_at, b_at) in enumerate(zip(passes, a_cycles, b_cycles, strict=True)):
        k = each.a.shape[1]
        # Zeros on one operand are enough: the other is padded with garbage.
        ports["a"][a_at, :k] = each.a
        ports["b"][b_at] = 0
        ports["b"][b_at, :k] = each.b
        ports["a_valid"][a_at] = 1
        ports["b_valid"][b_at] = 1
        start = a_at[0] - (early if n else 0)
        starts.append(start)
        ports["swap"][start] = 1
        ports["b_rows"][start] = len(each.b)
        ports["acc_half"][a_at] = each.half
        ports["acc_row"][a_at] = each.row + np.arange(len(a_at))
        ports["acc_add"][a_at] = each.add
    return Stimulus(**ports, starts=starts)
