"""From an encoder to the operations of a cluster: blocking, padding, places in memory.

Tokens are split evenly: tile j holds tokens j T to j T + T - 1 of every camera, so that row r of
a tile is token r % T of camera r // T. Every matrix ``[rows, K]`` in a tile is stored in K-blocks
of R bytes. Heads are padded to whole segments of the lanes, other widths at their end; padding has
zero parameters, so that it is zero in the residual stream and cannot be seen elsewhere. Keys and
values of all tiles are exchanged through the last bank of the shared memory, one camera after
another.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from attrs import define, frozen

from jepa_r.cluster.isa import LAYOUTS, Destination, Engine
from jepa_r.config import ClusterConfig, ConfigError
from jepa_r.vector.layouts import Mode, Second, Stat

from ..golden.rows import NormProfile
from ..model.quantised import Linear, QuantisedEncoder
from ..model.shapes import ModelConfig
from .image import Image, column_words
from .operations import Operation
from .schedule import Scheduler

__all__ = ["EncoderLayout", "EncoderProgram"]

#: Products that a padded key must lose against: far below what INT16 logits can hold.
_MASKED = -(1 << 30)

Matrix = npt.NDArray[np.int8]


def _ceil(value: int, step: int) -> int:
    return -(-value // step) * step


@frozen
class EncoderLayout:
    """Sizes and places of one encoder on one cluster.

    Attributes
    ----------
    config, model, cameras
        What runs where, and for how many images at once.
    """

    config: ClusterConfig
    model: ModelConfig
    cameras: int

    @property
    def tokens(self) -> int:
        """Rows T of one camera on one tile, padded so that its values fill words of keys."""
        tile = self.config.tile
        rows = _ceil(-(-self.model.tokens // self.config.tiles), tile.lanes)
        if self.config.tiles == 1:
            return rows
        if rows < tile.rows:
            return next(n for n in range(rows, tile.rows + 1, tile.lanes) if tile.rows % n == 0)
        return _ceil(rows, tile.rows)

    @property
    def rows(self) -> int:
        """Rows of all cameras on one tile."""
        return self.cameras * self.tokens

    @property
    def keys(self) -> int:
        """Keys of one camera, padding included."""
        return self.config.tiles * self.tokens

    @property
    def head(self) -> int:
        """Channels of a head, padded."""
        return _ceil(self.model.head_dim, self.config.tile.lanes)

    @property
    def inner(self) -> int:
        """Channels of queries, keys, values and context."""
        return self.model.heads * self.head

    @property
    def width(self) -> int:
        """Channels of the residual stream, padded."""
        return _ceil(self.model.width, self.config.tile.lanes)

    @property
    def hidden(self) -> int:
        """Channels inside the MLP, padded."""
        return _ceil(self.model.mlp, self.config.tile.lanes)

    def blocks(self, channels: int) -> int:
        """K-blocks of a number of channels."""
        return -(-channels // self.config.tile.rows)

    def segments(self, channels: int) -> int:
        """Segments of a (padded) number of channels."""
        return channels // self.config.tile.lanes


@define
class _Allocator:
    """Places in a memory of banks; a buffer does not straddle two."""

    field: str
    bank_words: int
    shift: int
    free: list[int]
    #: Words that every bank would have to have for what was asked so far.
    asked: int = 0

    def take(self, words: int, prefer: int) -> int:
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


class EncoderProgram:
    """Operations of an encoder, scheduled.

    Parameters
    ----------
    config
        Cluster that runs it.
    model
        Shapes.
    quantised
        Numbers; without them the program can be timed but not run.
    cameras
        Images encoded together.
    elastic
        Whether the program must stay right in elastic runs.

    Attributes
    ----------
    layout
        Sizes and places.
    image
        Constant data.
    scheduler
        Operations with their cycles.
    profiles
        Constants of LayerNorms, set at the start.
    layer_operations
        Operations of one layer.
    input_bytes, output_bytes
        Sizes of one tile's part of the input and of the output.

    Raises
    ------
    ConfigError
        If the model does not fit the cluster.
    """

    def __init__(
        self, config: ClusterConfig, model: ModelConfig, quantised: QuantisedEncoder | None,
        cameras: int, *, elastic: bool = False,
    ):  # fmt: skip
        if cameras < 1:
            raise ConfigError(f"cameras is {cameras}; it must be at least 1")
        if model.class_token or model.absolute_positions or not model.rotary:
            raise ConfigError(
                "the model has a class token or absolute positions; the compiler takes encoders "
                "with rotary positions alone"
            )
        self.config, self.model, self.q = config, model, quantised
        self.layout = EncoderLayout(config, model, cameras)
        self.scheduler = Scheduler(config, elastic=elastic)
        self.profiles: list[NormProfile] = []
        self._stage = ""
        self._half = 0
        tile, data_bytes = config.tile, config.memory.data_bytes
        share = max(1, data_bytes // tile.rows)

        def beats(words: int) -> int:
            return -(-words // share) * -(-tile.rows // data_bytes)

        lay = self.layout
        self.input_words = lay.blocks(model.patch_features) * lay.rows
        self.output_words = lay.blocks(lay.width) * lay.rows
        self.input_bytes = _ceil(beats(self.input_words) * data_bytes, 4096)
        self.output_bytes = _ceil(beats(self.output_words) * data_bytes, 4096)
        self.output_address = config.tiles * self.input_bytes
        self.image = Image(self.output_address + config.tiles * self.output_bytes, data_bytes)
        self._allocate()
        self._build()

    # Places.

    def _allocate(self) -> None:
        lay, tile, shared = self.layout, self.config.tile, self.config.shared
        ops = self.scheduler.operations
        self._check_passes()
        act = _Allocator("tile.act_words", tile.act_words, ops.act_bits, [0] * tile.act_banks)
        rows, last = lay.rows, tile.act_banks - 1
        value_blocks = lay.blocks(lay.tokens)
        self._h = act.take(lay.blocks(lay.width) * rows, 0)
        self._q = act.take(lay.blocks(lay.inner) * rows, 0)
        self._k = act.take(lay.blocks(lay.inner) * rows, last)
        self._v = act.take(lay.inner * value_blocks * lay.cameras, last)
        self._p = [act.take(lay.blocks(lay.keys) * lay.tokens, 0) for _ in range(2)]
        self._ctx = act.take(lay.blocks(lay.inner) * rows, 0)
        # Pixels are used up before the first hidden layer is made.
        self._g = act.take(max(lay.blocks(lay.hidden) * rows, self.input_words), 0)
        self._out = self._h

        x = _Allocator("tile.x_words", tile.x_words, 30, [0])
        self._x = x.take(rows * lay.segments(lay.width), 0)
        self._logits = [x.take(lay.tokens * lay.segments(lay.keys), 0) for _ in range(2)]
        entries = _Allocator("tile.row_entries", tile.row_entries, 30, [0])
        self._moments = entries.take(rows, 0)
        self._maxima = [entries.take(lay.tokens, 0) for _ in range(2)]
        self._sums = [entries.take(lay.tokens, 0) for _ in range(2)]
        rope = _Allocator("tile.rope_words", tile.rope_words, 30, [0])
        self._rope = rope.take(lay.tokens * lay.segments(lay.head), 0)

        bank = (shared.banks - 1) << ops.shared_bits
        keys = _Allocator("shared.bank_words", shared.bank_words, 30, [0])
        # Twice where there is room, so that one camera's are exchanged while another's are used.
        one = lay.blocks(lay.inner) * lay.keys + lay.inner * lay.blocks(lay.keys)
        copies = 2 if lay.cameras > 1 and 2 * one <= shared.bank_words else 1
        self._keys, self._values = [], []
        for _ in range(copies):
            self._keys.append(bank + keys.take(lay.blocks(lay.inner) * lay.keys, 0))
            self._values.append(bank + keys.take(lay.inner * lay.blocks(lay.keys), 0))
        self._ring = 0
        self._params = 0

    def _check_passes(self) -> None:
        """Fields of words that sizes must fit."""
        lay, tile = self.layout, self.config.tile
        if lay.tokens % 2 and lay.tokens > tile.acc_rows:
            raise ConfigError(f"{lay.tokens} tokens a tile cannot be split into even blocks")
        if lay.rows * lay.segments(lay.width) > 0xFFFF:
            raise ConfigError(
                f"{lay.rows} rows of {lay.segments(lay.width)} segments are more than the 65535 "
                "words that one transfer moves: use fewer cameras or more lanes"
            )

    def _ring_place(self, words: int) -> int:
        """Next place for weights in the shared memory's ring."""
        shared, bits = self.config.shared, self.scheduler.operations.shared_bits
        bank, offset = self._ring >> bits, self._ring & ((1 << bits) - 1)
        if offset + words > shared.bank_words:
            bank, offset = (bank + 1) % (shared.banks - 1), 0
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
        count, lanes = self.layout.segments(channels), self.config.tile.lanes

        def make() -> npt.NDArray[np.uint8]:
            add, mul, shift = (np.asarray(a) for a in arrays())
            padded = [np.zeros(channels, a.dtype) for a in (add, mul, shift)]
            for target, source in zip(padded, (add, mul, shift), strict=True):
                target[: len(source)] = source
            return column_words(*padded, lanes)

        return self._load_params(count, make)

    def _load_linear(self, channels: int, layer: Callable[[], Linear]) -> int:
        return self._load_columns(channels, lambda: (layer().add, layer().mul, layer().shift))

    def _array(self, **fields: int) -> int:
        """Start a chain in the half of the accumulators whose turn it is; returns the half."""
        half = self._half
        self._half ^= 1
        self._add(
            Engine.TILE,
            interval=self.scheduler.timing.interval(fields["rows"], fields["columns"]),
            acc_half=half, acc_row=0, **fields,
        )  # fmt: skip
        return half

    def _row_blocks(self, rows: int) -> Iterator[tuple[int, int]]:
        """Blocks of rows that the accumulators hold, as first and count."""
        step = self.config.tile.acc_rows
        for first in range(0, rows, step):
            yield first, min(step, rows - first)

    def _cameras_of(self, first: int, count: int) -> Iterator[tuple[int, int, int]]:
        """Parts of a block of rows that belong to one camera: row in the block, token, count."""
        tokens, at = self.layout.tokens, first
        while at < first + count:
            part = min(tokens - at % tokens, first + count - at)
            yield at - first, at % tokens, part
            at += part

    def _multiply(
        self,
        *,
        a: int,
        depth: int,
        channels: int,
        weight: Callable[[], Matrix],
        finish: Callable[[int, int, int, int, int], None],
    ) -> None:
        """Rows times weights ``[channels, depth]``, column block by column block.

        ``finish(half, first row, rows, first column, columns)`` adds the lanes' operations.
        """
        lay, tile = self.layout, self.config.tile
        blocks = lay.blocks(depth)
        limit = self.config.shared.bank_words
        # Weights of a column block stay for all row blocks if a bank holds them.
        deep = max(1, limit // tile.columns)
        whole = blocks <= deep
        row_blocks = list(self._row_blocks(lay.rows))

        def load(first: int, columns: int, block: int, count: int) -> int:
            place = self._ring_place(count * columns)
            self._read(
                Destination.SHARED, place, count * columns,
                lambda: _blocked(weight(), first, columns, block, count, tile.rows),
            )  # fmt: skip
            return place

        for outer in [row_blocks] if whole else [[block] for block in row_blocks]:
            for first in range(0, channels, tile.columns):
                columns = min(tile.columns, channels - first)
                for start in range(0, blocks, deep):
                    count = min(deep, blocks - start)
                    place = load(first, columns, start, count)
                    last = start + count == blocks
                    for row, rows in outer:
                        if start:
                            self._half ^= 1  # go on in the half that holds the sums
                        half = self._array(
                            a_addr=a + start * lay.rows + row, a_stride=lay.rows,
                            b_shared=1, b_addr=place, b_stride=columns,
                            rows=rows, columns=columns, passes=count,
                            k_last=depth - (blocks - 1) * tile.rows if last else tile.rows,
                            acc_add=int(start > 0),
                        )  # fmt: skip
                        if last:
                            finish(half, row, rows, first, columns)

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
            "rows": rows, "segments": self.layout.segments(columns), "param_step": 1,
        }  # fmt: skip

    def _stream(self, prefix: str, row: int, column: int) -> dict[str, int]:
        """Fields that walk the residual stream."""
        segments = self.layout.segments(self.layout.width)
        return {
            f"{prefix}_addr": self._x + row * segments + self.layout.segments(column),
            f"{prefix}_row": segments,
        }

    def _to_stream(
        self, channels: int, params: int, *, add: bool, profile: int
    ) -> Callable[[int, int, int, int, int], None]:
        """Requantise to INT16, add the residual stream, and learn the rows' moments."""

        def finish(half: int, row: int, rows: int, column: int, columns: int) -> None:
            extra = {"second": Second.RESIDUAL, "other": 1} if add else {}
            if add:
                extra |= self._stream("other", row, column)
            self._add(
                Engine.VECTOR, mode=Mode.REQUANT, wide=1, result=2,
                param_addr=params + self.layout.segments(column),
                stat=Stat.MOMENTS, stat_row=self._moments + row, profile=profile,
                stat_first=int(column == 0), stat_last=int(column + columns == channels),
                **self._from_acc(half, 0, rows, columns), **self._stream("dst", row, column),
                **extra,
            )  # fmt: skip

        return finish

    # The model.

    def _profile(self, profile: NormProfile) -> int:
        if profile not in self.profiles:
            self.profiles.append(profile)
        if len(self.profiles) > 4:
            raise ConfigError("the model has more than four different norms")
        return self.profiles.index(profile)

    def _norm_profile(self, which: str, layer: int = 0) -> int:
        q, model = self.q, self.model
        if q is None:
            eps = model.latent_eps if which == "latent" else model.eps
            return self._profile(NormProfile.of(model.width, eps=eps, lsb=2.0**-10))
        norms = {"norm1": q.layers[layer].norm1, "norm2": q.layers[layer].norm2,
                 "norm": q.norm, "latent": q.latent}  # fmt: skip
        return self._profile(norms[which].profile)

    def _build(self) -> None:
        model, q = self.model, self.q
        self._stage = "patches"
        self._load_frame()
        self._load_rope()
        params = self._load_linear(self.layout.width, lambda: self.q.patch)
        self._multiply(
            a=self._g, depth=model.patch_features, channels=self.layout.width,
            weight=lambda: self.q.patch.weight,
            finish=self._to_stream(
                self.layout.width, params, add=False, profile=self._norm_profile("norm1")
            ),
        )  # fmt: skip
        for layer in range(model.depth):
            # Every layer finds the rings as the one before did, so that their schedules are alike.
            self._ring = self._params = 0
            self.image.align(4096)
            before = len(self.scheduler.placed)
            self._layer(layer)
            self.layer_operations = len(self.scheduler.placed) - before
        self._stage = "norm"
        self._norm(
            lambda: q.norm, wide=True, shift2=q.norm.shift2 if q else 15,
            profile=self._norm_profile("latent"),
        )  # fmt: skip
        self._norm(lambda: q.latent, wide=False, shift2=q.latent.shift2 if q else 5, profile=None)
        self._stage = "store"
        for tile in range(self.config.tiles):
            self._add(
                Engine.MOVE, tile=tile, src_addr=self._out, words=self.output_words, rows=1,
                address=self.output_address + tile * self.output_bytes,
            )  # fmt: skip

    def _load_frame(self) -> None:
        for tile in range(self.config.tiles):
            self._add(
                Engine.READ, address=tile * self.input_bytes, words=self.input_words, rows=1,
                dest=Destination.ACT, dest_addr=self._g, tiles=1 << tile,
            )  # fmt: skip

    def _load_rope(self) -> None:
        lay, lanes = self.layout, self.config.tile.lanes
        for tile in range(self.config.tiles):

            def make(tile: int = tile) -> npt.NDArray[np.uint8]:
                rope = self.q.rope
                table = np.zeros((lay.tokens, lay.head, 2), "<i2")
                first = tile * lay.tokens
                real = max(0, min(lay.tokens, len(rope.cos) - first))
                size = rope.cos.shape[1]
                table[:real, :size, 0] = rope.cos[first : first + real]
                table[:real, :size, 1] = rope.sin[first : first + real]
                return np.frombuffer(table.tobytes(), np.uint8).reshape(-1, 4 * lanes)

            count = lay.tokens * lay.segments(lay.head)
            self._read(Destination.ROPE, self._rope, count, make, tiles=1 << tile)

    def _layer(self, n: int) -> None:
        lay, model, q = self.layout, self.model, self.q
        scalars = q.layers[n] if q else None

        def layer():
            return q.layers[n]

        self._stage = f"layer {n}: norm1"
        self._norm(
            lambda: layer().norm1, wide=False, profile=None,
            shift2=scalars.norm1.shift2 if scalars else 20,
        )  # fmt: skip
        # Keys and values first: they are exchanged while the queries are made.
        self._stage = f"layer {n}: key"
        self._rotated(self._k, lambda: layer().key, q.rope.shift if q else 21)
        self._stage = f"layer {n}: value"
        self._value(layer)
        self._stage = f"layer {n}: query"
        self._rotated(self._q, lambda: layer().query, q.rope.shift if q else 21)
        self._stage = f"layer {n}: attention"
        self._attention(layer, scalars.context.shift2 if scalars else 23)
        self._stage = f"layer {n}: projection"
        params = self._load_linear(lay.width, lambda: layer().proj)
        self._multiply(
            a=self._ctx, depth=lay.inner, channels=lay.width,
            weight=lambda: self._per_head(layer().proj.weight.T).T,
            finish=self._to_stream(
                lay.width, params, add=True, profile=self._norm_profile("norm2", n)
            ),
        )  # fmt: skip
        self._stage = f"layer {n}: norm2"
        self._norm(
            lambda: layer().norm2, wide=False, profile=None,
            shift2=scalars.norm2.shift2 if scalars else 20,
        )  # fmt: skip
        self._stage = f"layer {n}: fc1"
        self._read(Destination.TABLE, 0, 64, lambda: layer().table.view(np.uint8).reshape(64, 4))
        hidden = self._load_linear(lay.hidden, lambda: layer().fc1)

        def activate(half: int, row: int, rows: int, column: int, columns: int) -> None:
            self._add(
                Engine.VECTOR, mode=Mode.REQUANT, table=1,
                param_addr=hidden + lay.segments(column),
                **self._from_acc(half, 0, rows, columns),
                **self._to_act(self._g, row, column, stride=lay.rows),
            )  # fmt: skip

        self._multiply(
            a=self._h, depth=model.width, channels=lay.hidden,
            weight=lambda: layer().fc1.weight, finish=activate,
        )  # fmt: skip
        self._stage = f"layer {n}: fc2"
        params = self._load_linear(lay.width, lambda: layer().fc2)
        last = n + 1 == model.depth
        self._multiply(
            a=self._g, depth=model.mlp, channels=lay.width, weight=lambda: layer().fc2.weight,
            finish=self._to_stream(
                lay.width, params, add=True,
                profile=self._norm_profile("norm") if last else self._norm_profile("norm1", n + 1),
            ),
        )  # fmt: skip

    def _norm(self, norm: Callable, *, wide: bool, shift2: int, profile: int | None) -> None:
        """Second pass of a LayerNorm; ``profile`` to learn the result's own moments on the way."""
        lay = self.layout

        def arrays() -> tuple[npt.ArrayLike, ...]:
            made = norm()
            return made.add, made.gain, np.zeros(len(made.gain), np.uint8)

        params = self._load_columns(lay.width, arrays)
        stat = (
            {}
            if profile is None
            else {
                "stat": Stat.MOMENTS, "stat_first": 1, "stat_last": 1,
                "stat_row": self._moments, "profile": profile,
            }
        )  # fmt: skip
        target = (
            {"result": 2, **self._stream("dst", 0, 0)}
            if wide
            else self._to_act(self._h, 0, 0, stride=lay.rows)
        )
        self._add(
            Engine.VECTOR, source=1, rows=lay.rows, segments=lay.segments(lay.width),
            param_addr=params, param_step=1, row_addr=self._moments, mode=Mode.NORM, pre=1,
            second=Second.COLUMN, shift2=shift2, wide=int(wide),
            **self._stream("src", 0, 0), **target, **stat,
        )  # fmt: skip

    def _per_head(self, matrix: npt.NDArray) -> npt.NDArray:
        """Pad axis 0, of heads times channels, to whole segments a head."""
        size, padded = self.model.head_dim, self.layout.head
        split = matrix.reshape(self.model.heads, size, *matrix.shape[1:])
        out = np.zeros((self.model.heads, padded, *matrix.shape[1:]), matrix.dtype)
        out[:, :size] = split
        return out.reshape(-1, *matrix.shape[1:])

    def _rotated(self, target: int, linear: Callable[[], Linear], shift: int) -> None:
        lay, lanes = self.layout, self.config.tile.lanes
        period = lay.segments(lay.head)
        params = self._load_columns(
            lay.inner,
            lambda: tuple(self._per_head(a) for a in (linear().add, linear().mul, linear().shift)),
        )

        def finish(half: int, row: int, rows: int, column: int, columns: int) -> None:
            for at, token, count in self._cameras_of(row, rows):
                self._add(
                    Engine.VECTOR, mode=Mode.REQUANT, second=Second.ROTATE, shift2=shift,
                    param_addr=params + lay.segments(column),
                    rope_addr=self._rope + token * period, rope_row=period,
                    rope_seg=column // lanes % period, rope_period=period,
                    **self._from_acc(half, at, count, columns),
                    **self._to_act(target, row + at, column, stride=lay.rows),
                )  # fmt: skip

        self._multiply(
            a=self._h, depth=self.model.width, channels=lay.inner,
            weight=lambda: self._per_head(linear().weight), finish=finish,
        )  # fmt: skip

    def _value(self, layer: Callable) -> None:
        """Vᵀ = W_v · hᵀ: the weights are A for all tiles, each tile's tokens are B."""
        lay, tile, model = self.layout, self.config.tile, self.model
        blocks = lay.blocks(model.width)
        room = self.config.shared.bank_words // blocks
        step = min(tile.acc_rows, room - room % 2)
        if step < 2:
            raise ConfigError(
                f"shared.bank_words is {self.config.shared.bank_words}; value weights need at "
                f"least {2 * blocks} words in a bank"
            )
        lanes = tile.lanes
        params = self._load_params(
            1,
            lambda: column_words(
                np.zeros(lanes, np.int32), np.full(lanes, layer().value.mul),
                np.full(lanes, layer().value.shift), lanes,
            ),
        )  # fmt: skip
        for channel in range(0, lay.inner, step):
            rows = min(step, lay.inner - channel)
            place = self._ring_place(blocks * rows)
            self._read(
                Destination.SHARED, place, blocks * rows,
                lambda channel=channel, rows=rows: _blocked(
                    self._per_head(layer().value.weight), channel, rows, 0, blocks, tile.rows
                ),
            )  # fmt: skip
            # Tokens of several cameras fill the array's columns together.
            for first in range(0, lay.rows, tile.columns):
                columns = min(tile.columns, lay.rows - first)
                half = self._array(
                    a_shared=1, a_addr=place, a_stride=rows,
                    b_addr=self._h + first, b_stride=lay.rows,
                    rows=rows, columns=columns, passes=blocks,
                    k_last=model.width - (blocks - 1) * tile.rows,
                )  # fmt: skip
                for at, token, count in self._cameras_of(first, columns):
                    source = self._from_acc(half, 0, rows, count)
                    source |= {"param_step": 0, "src_seg": lay.segments(at)}
                    base = self._value_base((first + at) // lay.tokens)
                    self._add(
                        Engine.VECTOR, mode=Mode.REQUANT, param_addr=params, **source,
                        **self._to_act(base, channel, token, stride=lay.inner),
                    )  # fmt: skip

    def _value_base(self, camera: int) -> int:
        return self._v + camera * self.layout.inner * self.layout.blocks(self.layout.tokens)

    @staticmethod
    def _exchanged(places: list[int], camera: int) -> int:
        """Where one camera's keys or values lie in the shared memory."""
        return places[camera % len(places)]

    def _exchange(self, camera: int) -> None:
        """Keys and values of one camera, from all tiles to the shared memory."""
        lay, tile = self.layout, self.config.tile
        parts = tile.rows // tile.lanes
        for n in range(self.config.tiles):
            self._add(
                Engine.MOVE, tile=n, src_addr=self._k + camera * lay.tokens, words=lay.tokens,
                rows=lay.blocks(lay.inner), src_stride=lay.rows, to_shared=1,
                address=self._exchanged(self._keys, camera) + n * lay.tokens, stride=lay.keys,
            )  # fmt: skip
        for n in range(self.config.tiles):
            first = n * lay.tokens
            segments = lay.segments(lay.tokens)
            self._add(
                Engine.MOVE, tile=n, src_addr=self._value_base(camera), words=lay.inner,
                rows=lay.blocks(lay.tokens), src_stride=lay.inner, to_shared=1,
                address=self._exchanged(self._values, camera) + first // tile.rows * lay.inner,
                stride=lay.inner,
                segments=0 if segments >= parts else segments,
                dst_seg=first % tile.rows // tile.lanes,
            )  # fmt: skip

    def _attention(self, layer: Callable, shift2: int) -> None:
        lay, model = self.layout, self.model
        keys = lay.keys

        def logit_params() -> npt.NDArray[np.uint8]:
            logits = layer().logits
            token = np.arange(keys)
            add = np.where(token < model.tokens, 0, _MASKED)
            return np.concatenate([
                column_words(
                    add, np.full(keys, logits.mul[h]), np.full(keys, logits.shift[h]),
                    self.config.tile.lanes,
                )
                for h in range(model.heads)
            ])  # fmt: skip

        logits = self._load_params(model.heads * lay.segments(keys), logit_params)
        context = self._load_columns(
            lay.inner,
            lambda: tuple(
                self._per_head(a)
                for a in (layer().context.add, layer().context.mul,
                          np.zeros(len(layer().context.mul), np.uint8))
            ),
        )  # fmt: skip
        for camera in range(lay.cameras):
            self._exchange(camera)
            # The next head's scores run while the lanes work on this one's.
            self._scores(camera, 0, logits)
            for head in range(model.heads):
                if head + 1 < model.heads:
                    self._scores(camera, head + 1, logits)
                self._exponentials(head)
                self._context(camera, head, context, shift2)

    def _scores(self, camera: int, head: int, params: int) -> None:
        lay, tile = self.layout, self.config.tile
        first = head * lay.head
        block, last = first // tile.rows, (first + lay.head - 1) // tile.rows
        segments = lay.segments(lay.keys)
        for row, rows in self._row_blocks(lay.tokens):
            for key in range(0, lay.keys, tile.columns):
                count = min(tile.columns, lay.keys - key)
                half = self._array(
                    a_addr=self._q + block * lay.rows + camera * lay.tokens + row,
                    a_stride=lay.rows, b_shared=1,
                    b_addr=self._exchanged(self._keys, camera) + block * lay.keys + key,
                    b_stride=lay.keys,
                    rows=rows, columns=count, passes=last - block + 1,
                    k_first=first - block * tile.rows,
                    k_last=first + lay.head - last * tile.rows,
                )  # fmt: skip
                self._add(
                    Engine.VECTOR, mode=Mode.REQUANT, wide=1,
                    param_addr=params + head * segments + lay.segments(key),
                    stat=Stat.MAX, stat_row=self._maxima[head % 2] + row,
                    stat_first=int(key == 0), stat_last=int(key + count == lay.keys),
                    result=2, dst_row=segments,
                    dst_addr=self._logits[head % 2] + row * segments + lay.segments(key),
                    **self._from_acc(half, 0, rows, count),
                )  # fmt: skip

    def _exponentials(self, head: int) -> None:
        lay = self.layout
        segments = lay.segments(lay.keys)
        self._add(
            Engine.VECTOR, source=1, src_addr=self._logits[head % 2], src_row=segments,
            rows=lay.tokens, segments=segments, mode=Mode.EXP, row_addr=self._maxima[head % 2],
            stat=Stat.SUM, stat_first=1, stat_last=1, stat_row=self._sums[head % 2],
            **self._to_act(self._p[head % 2], 0, 0, stride=lay.tokens),
        )  # fmt: skip

    def _context(self, camera: int, head: int, params: int, shift2: int) -> None:
        lay, tile = self.layout, self.config.tile
        blocks = lay.blocks(lay.keys)
        for row, rows in self._row_blocks(lay.tokens):
            for at in range(0, lay.head, tile.columns):
                columns = min(tile.columns, lay.head - at)
                channel = head * lay.head + at
                half = self._array(
                    a_addr=self._p[head % 2] + row, a_stride=lay.tokens,
                    b_shared=1, b_stride=lay.inner,
                    b_addr=self._exchanged(self._values, camera) + channel,
                    rows=rows, columns=columns, passes=blocks,
                    k_last=lay.keys - (blocks - 1) * tile.rows,
                )  # fmt: skip
                self._add(
                    Engine.VECTOR, mode=Mode.NORM, row_addr=self._sums[head % 2] + row,
                    second=Second.COLUMN, shift2=shift2,
                    param_addr=params + lay.segments(channel),
                    **self._from_acc(half, 0, rows, columns),
                    **self._to_act(
                        self._ctx, camera * lay.tokens + row, channel, stride=lay.rows
                    ),
                )  # fmt: skip


def _blocked(
    weight: Matrix, first: int, count: int, block: int, blocks: int, rows: int
) -> npt.NDArray[np.uint8]:
    """Words (block, row) of ``count`` rows of a matrix from ``first`` on, zero beyond its edges."""
    out = np.zeros((count, blocks * rows), np.int8)
    part = weight[first : first + count, block * rows : (block + blocks) * rows]
    out[: part.shape[0], : part.shape[1]] = part
    words = out.reshape(count, blocks, rows).transpose(1, 0, 2).reshape(-1, rows)
    return np.ascontiguousarray(words).view(np.uint8)
