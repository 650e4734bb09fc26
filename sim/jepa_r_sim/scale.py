"""Tiles of any size on chains of products, in the fastest simulation there is of them.

Products of one shape follow each other in the two halves of the accumulators, so that each is read
while the next one is computed, and the array never waits.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from attrs import frozen

from jepa_r.config import ClusterConfig, TileConfig
from jepa_r.tile.array import block_size
from jepa_r.tile.tile import Tile

from .drivers.tile import passes_of, schedule
from .golden.tile import matmul
from .model.shapes import ModelConfig
from .player import Player

__all__ = [
    "ChainRun",
    "Operands",
    "blocks_of",
    "build_tile",
    "cluster_blocks_of",
    "run_chain",
    "shapes_of",
    "slices",
]

Operands = tuple[npt.NDArray[np.int8], npt.NDArray[np.int8]]

#: Cells from which on blocks of the array, and tiles, are compiled once for all instances. Smaller
#: designs fit into the caches as they are, and are faster in one piece.
_LARGE = 32 * 32

#: The last row is tried for in so many cycles before the one in which it must be there, and behind.
_PROBES = 4


@frozen(kw_only=True)
class ChainRun:
    """What came of a chain of products.

    Attributes
    ----------
    cycles, cycles_predicted
        First row of B to the last row of sums: first cycle in which that can be read, and
        :meth:`jepa_r.tile.tile.Tile.chain_cycles`.
    numbers, equal
        Sums, and those that are as in the golden model.
    faults
        Cycles in which the tile raised a fault, where no read provoked it.
    macs
        Multiplications of the products.
    simulated_cycles, seconds
        Cycles of the whole run, and processor time that they took.
    """

    cycles: int | None
    cycles_predicted: int
    numbers: int
    equal: int
    faults: int
    macs: int
    simulated_cycles: int
    seconds: float

    @property
    def exact(self) -> bool:
        """Whether every sum is right, in its cycle."""
        right = self.equal == self.numbers and not self.faults
        return right and self.cycles == self.cycles_predicted


def blocks_of(tile: TileConfig) -> list[str]:
    """Modules of a tile that are compiled once, as patterns for :func:`jepa_r_sim.cosim.build`."""
    rows, columns = block_size(tile.rows), block_size(tile.columns)
    if tile.rows * tile.columns < _LARGE or (rows, columns) == (tile.rows, tile.columns):
        return []
    return [rf"array_{rows}x{columns}_\d+"]


def cluster_blocks_of(config: ClusterConfig) -> list[str]:
    """Modules of a cluster that are compiled once: as :func:`blocks_of`, and the tiles' slices."""
    blocks = blocks_of(config.tile)
    return [*blocks, r"(\w+_)?slice_\d+x\d+"] if blocks else []


def build_tile(tile: TileConfig) -> Player:
    """Compiled tile."""
    built = Tile(rows=tile.rows, columns=tile.columns, acc_rows=tile.acc_rows)
    return Player(built, name=built.macro_name, blocks=blocks_of(tile))


def shapes_of(model: ModelConfig) -> dict[str, tuple[int, int, int]]:
    """M, K and N of each kind of product in a block of an encoder."""
    tokens, width, head, mlp = model.tokens, model.width, model.head_dim, model.mlp
    return {
        "query, key, value, projection": (tokens, width, width),
        "scores": (tokens, head, tokens),
        "context": (tokens, tokens, head),
        "fc1": (tokens, width, mlp),
        "fc2": (tokens, mlp, width),
    }


def slices(a: npt.NDArray[np.int8], b: npt.NDArray[np.int8], tile: TileConfig) -> list[Operands]:
    """Cut a product into those of equal shape that a tile takes: all of K, blocks of M and of N.

    Raises
    ------
    ValueError
        If N is more than the tile's columns and not a multiple of them.
    """
    least = -(-len(a) // tile.acc_rows)
    parts = next(n for n in range(least, len(a) + 1) if len(a) % n == 0)
    columns = min(len(b), tile.columns)
    if len(b) % columns:
        raise ValueError(f"{len(b)} columns are not equal blocks of {columns}")
    return [
        (rows, b[n : n + columns]) for n in range(0, len(b), columns) for rows in np.split(a, parts)
    ]


def run_chain(
    player: Player, tile: TileConfig, products: Sequence[Operands], *, workdir: Path
) -> ChainRun:
    """Run products of one shape, each of at most a tile's columns and rows of accumulators.

    Parameters
    ----------
    player
        From :func:`build_tile`.
    tile
        What it was built of.
    products
        INT8 A ``[M, K]`` and B ``[N, K]`` of each.
    workdir
        Where inputs and outputs are kept.
    """
    rows, columns = tile.rows, tile.columns
    (m, k), n = products[0][0].shape, len(products[0][1])
    chains = [
        passes_of(a, b, rows=rows, columns=columns, half=index % 2)
        for index, (a, b) in enumerate(products)
    ]
    passes = sum(map(len, chains))
    predicted = Tile.chain_cycles(m, n, passes, rows=rows, columns=columns)
    latency = Tile.first_latency(rows, columns)
    stimulus = schedule(
        [each for chain in chains for each in chain],
        rows=rows, columns=columns, acc_rows=tile.acc_rows,
    )  # fmt: skip

    begins = [
        stimulus.starts[last] + m + latency for last in np.cumsum([len(c) for c in chains]) - 1
    ]
    probes = np.arange(predicted - _PROBES, predicted + _PROBES + 1)
    # The last two, which nothing overwrites, are read behind those.
    begins[-2:] = [int(probes[-1]) + 1 + m * index for index in range(len(begins[-2:]))]
    cycles = begins[-1] + m + Tile.READ_LATENCY + _PROBES
    ports = {
        name: _padded(getattr(stimulus, name), cycles)
        for name in ("a", "b", "a_valid", "b_valid", "swap", "b_rows", "acc_half", "acc_row",
                     "acc_add")
    }  # fmt: skip
    ports |= {name: np.zeros(cycles, np.int64) for name in ("r_en", "r_half", "r_row")}
    reads = [*_spans(begins, m), (probes, (len(chains) - 1) % 2, np.full(len(probes), m - 1))]
    for at, half, row in reads:
        ports["r_en"][at], ports["r_half"][at], ports["r_row"][at] = 1, half, row

    played = player.play(ports, workdir=workdir)
    words = np.ascontiguousarray(played.outputs["r_data"]).view("<i4")[:, :n]
    equal, last = 0, None
    for (a, b), (at, _half, _row) in zip(products, reads, strict=False):
        last = matmul(a, b)
        equal += int((words[at + Tile.READ_LATENCY] == last).sum())
    assert last is not None
    there = (words[probes + Tile.READ_LATENCY] == last[-1]).all(axis=1)
    # Until the row is there, reading it may be a fault, which is seen a little later.
    fault = played.outputs["fault"][:, 0].astype(bool)
    fault[probes[0] : probes[-1]] = False
    return ChainRun(
        cycles=int(probes[np.argmax(there)]) if there.any() else None,
        cycles_predicted=predicted,
        numbers=len(products) * m * n,
        equal=equal,
        faults=int(fault.sum()),
        macs=len(products) * m * k * n,
        simulated_cycles=cycles,
        seconds=played.seconds,
    )


def _padded(values: npt.NDArray, cycles: int) -> npt.NDArray:
    """Values of a port, and zeros after them."""
    rest = np.zeros((cycles - len(values), *values.shape[1:]), values.dtype)
    return np.concatenate([values, rest])


def _spans(begins: Sequence[int], rows: int) -> Iterator[tuple[npt.NDArray, int, npt.NDArray]]:
    """Cycles, half and rows of the reads of each product."""
    for index, begin in enumerate(begins):
        yield begin + np.arange(rows), index % 2, np.arange(rows)
