"""What programs are built of: places in memory, transfers, matrix products.

Every matrix ``[rows, K]`` in a tile is stored in K-blocks of R bytes: word (k-block, row) lies at
``base + k-block * rows + row``.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from attrs import define

from jepa_r.cluster.isa import LAYOUTS, Destination, Engine
from jepa_r.config import ClusterConfig, ConfigError

from ..golden.rows import NormProfile
from ..model.quantised import Linear
from .image import Image, column_words
from .operations import Operation
from .schedule import Scheduler

__all__ = ["Allocator", "Blocking", "Builder", "Finish", "Matrix", "blocked", "ceil"]

Matrix = npt.NDArray[np.int8]

#: What a product's sums are made into: half of the accumulators, first row, rows, first column,
#: columns.
Finish = Callable[[int, int, int, int, int], None]


def ceil(value: int, step: int) -> int:
    """Next multiple of ``step``."""
    return -(-value // step) * step


@define
class Allocator:
    """Places in a memory of banks; a buffer does not straddle two."""

    field: str
    bank_words: int
    shift: int
    free: list[int]
    #: Words that every bank would have to have for what was asked so far.
    asked: int = 0

    def take(self, words: int, prefer: int = 0) -> int:
        """Address of ``words`` words, in bank ``prefer`` or one of those behind it."""
        self.asked += words
        banks = len(self.free)
        for bank in sorted(range(banks), key=lambda b: (b - prefer) % banks):
            if self.free[bank] + words <= self.bank_words:
                place = (bank << self.shift) + self.free[bank]
                self.free[bank] += words
                return place
        need = max(words, -(-self.asked // banks), self.bank_words + 1)
        raise ConfigError(
            f"{self.field} is {self.bank_words}; this model needs at least {need} words in each of "
            f"{banks} banks"
        )


class Blocking:
    """How channels fill the words of a cluster."""

    config: ClusterConfig

    def blocks(self, channels: int) -> int:
        """K-blocks of a number of channels."""
        return -(-channels // self.config.tile.rows)

    def segments(self, channels: int) -> int:
        """Segments of a number of channels, the last one not always full."""
        return -(-channels // self.config.tile.lanes)


class Builder(Blocking):
    """Operations of one cluster, scheduled as they are added.

    Parameters
    ----------
    config
        The cluster.
    image
        Constant data.
    elastic
        Whether the program must stay right in elastic runs.

    Attributes
    ----------
    scheduler
        Operations with their cycles.
    profiles
        Constants of LayerNorms, set at the start.
    """

    def __init__(self, config: ClusterConfig, image: Image, *, elastic: bool):
        self.config = config
        self.image = image
        self.scheduler = Scheduler(config, elastic=elastic)
        self.profiles: list[NormProfile] = []
        self._stage = ""
        self._half = 0
        self._ring = 0
        self._params = 0

    # Memories.

    def _act_memory(self) -> Allocator:
        tile = self.config.tile
        bits = self.scheduler.operations.act_bits
        return Allocator("tile.act_words", tile.act_words, bits, [0] * tile.act_banks)

    def _one_bank(self, name: str, words: int) -> Allocator:
        return Allocator(name, words, 30, [0])

    def _ring_place(self, words: int) -> int:
        """Next place for weights in the shared memory's ring."""
        shared, bits = self.config.shared, self.scheduler.operations.shared_bits
        bank, offset = self._ring >> bits, self._ring & ((1 << bits) - 1)
        if offset + words > shared.bank_words:
            bank, offset = bank + 1, 0
        # The last bank is no part of the ring; a full bank may have led there, too.
        if bank >= shared.banks - 1:
            bank, offset = 0, 0
        self._ring = (bank << bits) + offset + words
        return (bank << bits) + offset

    def _param_place(self, words: int) -> int:
        limit = self.config.shared.param_words
        if words > limit:
            raise ConfigError(
                f"shared.param_words is {limit}; one stage of this model needs {words}"
            )
        if self._params + words > limit:
            self._params = 0
        place, self._params = self._params, self._params + words
        return place

    def _restart_rings(self) -> None:
        """Begin as the layer before did, so that the schedules of layers are alike."""
        self._ring = self._params = 0
        self.image.align(4096)

    # Operations.

    def _add(self, engine: Engine, **fields: Any) -> None:
        zero = {name: 0 for name in LAYOUTS[engine].members if name not in ("engine", "wait")}
        unknown = fields.keys() - zero.keys()
        assert not unknown, unknown
        values = {key: int(getattr(value, "value", value)) for key, value in fields.items()}
        self.scheduler.add(Operation(engine, zero | values, self._stage))

    def _read(
        self, dest: Destination, place: int, count: int, words: Callable[[], npt.NDArray[np.uint8]],
        tiles: int | None = None,
    ) -> None:  # fmt: skip
        size = self.scheduler.operations.sizes[dest.value]
        self._add(
            Engine.READ, address=self.image.add(count, size, words), words=count, rows=1,
            dest=dest, dest_addr=place, crc=1,
            tiles=(1 << self.config.tiles) - 1 if tiles is None else tiles,
        )  # fmt: skip

    def _load_params(self, count: int, make: Callable[[], npt.NDArray[np.uint8]]) -> int:
        place = self._param_place(count)
        self._read(Destination.PARAM, place, count, make)
        return place

    def _load_columns(self, channels: int, arrays: Callable[[], tuple[npt.ArrayLike, ...]]) -> int:
        """Parameters of (padded) columns; ``arrays`` gives add, mul and shift of the real ones."""
        count, lanes = self.segments(channels), self.config.tile.lanes

        def make() -> npt.NDArray[np.uint8]:
            add, mul, shift = (np.asarray(a) for a in arrays())
            padded = [np.zeros(channels, a.dtype) for a in (add, mul, shift)]
            for target, source in zip(padded, (add, mul, shift), strict=True):
                target[: len(source)] = source
            return column_words(padded[0], padded[1], padded[2], lanes)

        return self._load_params(count, make)

    def _load_linear(self, channels: int, layer: Callable[[], Linear]) -> int:
        return self._load_columns(channels, lambda: (layer().add, layer().mul, layer().shift))

    def _array(self, *, half: int | None = None, **fields: int) -> int:
        """Start a chain in the half of the accumulators whose turn it is, or in a given one.

        Returns the half.
        """
        if half is None:
            half = self._half
            self._half ^= 1
        bits = self.scheduler.operations.act_bits
        local = not fields.get("a_shared") and not fields.get("b_shared")
        if local and fields["a_addr"] >> bits == fields["b_addr"] >> bits:
            raise ConfigError(
                f"tile.act_banks is {self.config.tile.act_banks} and tile.act_words "
                f"{self.config.tile.act_words}; both operands of a product would lie in one bank: "
                "more banks or words are needed"
            )
        self._add(
            Engine.TILE,
            interval=self.scheduler.timing.interval(fields["rows"], fields["columns"]),
            acc_half=half, **fields,
        )  # fmt: skip
        return half

    def _row_blocks(self, rows: int) -> Iterator[tuple[int, int]]:
        """Blocks of rows that the accumulators hold, as first and count."""
        step = self.config.tile.acc_rows
        for first in range(0, rows, step):
            yield first, min(step, rows - first)

    def _load_weight(
        self, weight: Callable[[], Matrix], first: int, count: int, block: int, blocks: int
    ) -> int:
        """Put K-blocks of some rows of a matrix into the ring; returns their place."""
        place = self._ring_place(blocks * count)
        self._read(
            Destination.SHARED, place, blocks * count,
            lambda: blocked(weight(), first, count, block, blocks, self.config.tile.rows),
        )  # fmt: skip
        return place

    def _multiply(
        self,
        *,
        a: int,
        rows: int,
        depth: int,
        channels: int,
        weight: Callable[[], Matrix],
        finish: Finish,
    ) -> None:
        """``rows`` rows at ``a`` times weights ``[channels, depth]``, column block by column block.

        ``finish(half, first row, rows, first column, columns)`` adds the lanes' operations.
        """
        tile = self.config.tile
        blocks = self.blocks(depth)
        # Weights of a column block stay for all row blocks if a bank holds them.
        deep = max(1, self.config.shared.bank_words // tile.columns)
        row_blocks = list(self._row_blocks(rows))
        for outer in [row_blocks] if blocks <= deep else [[block] for block in row_blocks]:
            for first in range(0, channels, tile.columns):
                columns = min(tile.columns, channels - first)
                for start in range(0, blocks, deep):
                    count = min(deep, blocks - start)
                    place = self._load_weight(weight, first, columns, start, count)
                    last = start + count == blocks
                    for row, part in outer:
                        if start:
                            self._half ^= 1  # go on in the half that holds the sums
                        half = self._array(
                            a_addr=a + start * rows + row, a_stride=rows,
                            b_shared=1, b_addr=place, b_stride=columns,
                            rows=part, columns=columns, passes=count,
                            k_last=depth - (blocks - 1) * tile.rows if last else tile.rows,
                            acc_add=int(start > 0),
                        )  # fmt: skip
                        if last:
                            finish(half, row, part, first, columns)

    def _to_act(self, base: int, row: int, column: int, *, stride: int) -> dict[str, int]:
        """Result fields for a matrix in K-blocks of ``stride`` rows."""
        tile = self.config.tile
        return {
            "result": 1,
            "dst_addr": base + column // tile.rows * stride + row,
            "dst_seg": column % tile.rows // tile.lanes,
            "dst_row": 1,
            "dst_step": stride,
        }

    def _from_acc(self, half: int, row: int, rows: int, columns: int) -> dict[str, int]:
        return {
            "source": 0, "src_half": half, "src_addr": row, "src_row": 1,
            "rows": rows, "segments": self.segments(columns), "param_step": 1,
        }  # fmt: skip

    def _profile(self, profile: NormProfile) -> int:
        if profile not in self.profiles:
            self.profiles.append(profile)
        if len(self.profiles) > 4:
            raise ConfigError("the model has more than four different norms")
        return self.profiles.index(profile)


def blocked(
    weight: Matrix, first: int, count: int, block: int, blocks: int, rows: int
) -> npt.NDArray[np.uint8]:
    """Words (block, row) of ``count`` rows of a matrix from ``first`` on, zero beyond its edges."""
    out = np.zeros((count, blocks * rows), np.int8)
    part = weight[first : first + count, block * rows : (block + blocks) * rows]
    out[: part.shape[0], : part.shape[1]] = part
    words = out.reshape(count, blocks, rows).transpose(1, 0, 2).reshape(-1, rows)
    return np.ascontiguousarray(words).view(np.uint8)
