"""Blocks of a transformer as operations: what encoder and predictor have in common."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from attrs import frozen

from jepa_r.cluster.isa import Destination, Engine
from jepa_r.config import ClusterConfig, ConfigError
from jepa_r.vector.layouts import Mode, Second, Stat

from ..golden.rows import NormProfile
from ..model.quantised import Linear, Norm, QuantisedLayer, Rope
from ..model.shapes import ModelConfig, PredictorConfig
from .builder import Blocking, Builder, Finish, ceil
from .image import Image, column_words

__all__ = ["BlockProgram", "Stream", "Widths"]

#: Products that a padded key must lose against: far below what INT16 logits can hold.
_MASKED = -(1 << 30)


@frozen
class Widths(Blocking):
    """Channels of a model, padded for a cluster: heads one by one, other widths at their end.

    Attributes
    ----------
    config, model
        What runs where.
    """

    config: ClusterConfig
    model: ModelConfig | PredictorConfig

    @property
    def head(self) -> int:
        """Channels of a head."""
        return ceil(self.model.head_dim, self.config.tile.lanes)

    @property
    def inner(self) -> int:
        """Channels of queries, keys, values and context."""
        return self.model.heads * self.head

    @property
    def width(self) -> int:
        """Channels of the residual stream."""
        return ceil(self.model.width, self.config.tile.lanes)

    @property
    def hidden(self) -> int:
        """Channels inside the MLP."""
        return ceil(self.model.mlp, self.config.tile.lanes)


@frozen
class Stream:
    """A matrix of INT16 in X, row after row.

    Attributes
    ----------
    place
        First word.
    segments
        Words of a row.
    """

    place: int
    segments: int

    def walk(self, prefix: str, row: int, segment: int = 0) -> dict[str, int]:
        """Fields that walk it from a row and a segment on."""
        return {
            f"{prefix}_addr": self.place + row * self.segments + segment,
            f"{prefix}_row": self.segments,
        }


class BlockProgram(Builder, ABC):
    """Builder of transformer blocks over the rows of a tile.

    A subclass sets the attributes below before it adds a block, and gives keys, values and
    attention their places.

    Attributes
    ----------
    widths
        Channels.
    rows
        Rows of the residual stream on a tile.
    """

    widths: Widths
    rows: int
    #: Stream of the residual, INT8 rows, queries, context and hidden channels in ACT, first entry
    #: of the rows' moments, first word of the rotation tables, and a head's attention twice:
    #: logits, exponentials, row maxima and sums.
    _x: Stream
    _h: int
    _q: int
    _ctx: int
    _g: int
    _moments: int
    _rope: int
    _logits: list[Stream]
    _p: list[int]
    _maxima: list[int]
    _sums: list[int]

    def __init__(
        self, config: ClusterConfig, image: Image, *, eps: float,
        layers: tuple[QuantisedLayer, ...] | None, rope: Rope | None, elastic: bool,
    ):  # fmt: skip
        super().__init__(config, image, elastic=elastic)
        self._eps = eps
        self._layers = layers
        self._rotation = rope

    # What differs.

    def _parts(self, first: int, count: int) -> Iterator[tuple[int, int, int]]:
        """Parts of a block of rows with one table of positions: row in the block, position, count.

        The default is that all rows have one.
        """
        yield 0, first, count

    @abstractmethod
    def _key_place(self, layer: int) -> int:
        """Where keys ``[rows, inner]`` of a layer go."""

    @abstractmethod
    def _value_place(self, layer: int, row: int) -> int:
        """Where values ``[inner, rows]`` of the rows that ``row`` belongs to go."""

    @abstractmethod
    def _attention(self, n: int, context: int, shift2: int) -> None:
        """Attention of a layer: from queries, keys and values to the context."""

    # Blocks.

    def _layer(self, n: int, name: str, last: NormProfile | None) -> None:
        """A block; ``last`` is the profile of the norm behind it, if that is not a block's."""
        w, model = self.widths, self.widths.model
        scalars = self._layers[n] if self._layers else None
        rotation = self._rotation.shift if self._rotation else 21

        def layer() -> QuantisedLayer:
            assert self._layers is not None
            return self._layers[n]

        self._stage = f"{name}: norm1"
        self._norm_to_act(lambda: layer().norm1, scalars.norm1.shift2 if scalars else 20)
        # Keys and values first: they are exchanged while the queries are made.
        self._stage = f"{name}: key"
        self._rotated(self._key_place(n), lambda: layer().key, rotation)
        self._stage = f"{name}: value"
        self._value(n, layer)
        self._stage = f"{name}: query"
        self._rotated(self._q, lambda: layer().query, rotation)
        self._stage = f"{name}: attention"
        context = self._load_columns(
            w.inner,
            lambda: tuple(
                self._per_head(a)
                for a in (layer().context.add, layer().context.mul,
                          np.zeros(len(layer().context.mul), np.uint8))
            ),
        )  # fmt: skip
        self._attention(n, context, scalars.context.shift2 if scalars else 23)
        self._stage = f"{name}: projection"
        params = self._load_linear(w.width, lambda: layer().proj)
        self._multiply(
            a=self._ctx, rows=self.rows, depth=w.inner, channels=w.width,
            weight=lambda: self._per_head(layer().proj.weight.T).T,
            finish=self._to_stream(self._x, params, add=True, profile=self._block_profile(n)),
        )  # fmt: skip
        self._stage = f"{name}: norm2"
        self._norm_to_act(lambda: layer().norm2, scalars.norm2.shift2 if scalars else 20)
        self._stage = f"{name}: fc1"
        self._read(Destination.TABLE, 0, 64, lambda: layer().table.view(np.uint8).reshape(64, 4))
        hidden = self._load_linear(w.hidden, lambda: layer().fc1)

        def activate(half: int, row: int, rows: int, column: int, columns: int) -> None:
            self._add(
                Engine.VECTOR, mode=Mode.REQUANT, table=1, param_addr=hidden + w.segments(column),
                **self._from_acc(half, 0, rows, columns),
                **self._to_act(self._g, row, column, stride=self.rows),
            )  # fmt: skip

        self._multiply(
            a=self._h, rows=self.rows, depth=model.width, channels=w.hidden,
            weight=lambda: layer().fc1.weight, finish=activate,
        )  # fmt: skip
        self._stage = f"{name}: fc2"
        params = self._load_linear(w.width, lambda: layer().fc2)
        after = self._block_profile(n) if last is None else self._profile(last)
        self._multiply(
            a=self._g, rows=self.rows, depth=model.mlp, channels=w.width,
            weight=lambda: layer().fc2.weight,
            finish=self._to_stream(self._x, params, add=True, profile=after),
        )  # fmt: skip

    def _block_profile(self, layer: int = 0) -> int:
        """Profile of the norms in blocks: the same for all, since they read one stream."""
        if self._layers is None:
            width = self.widths.model.width
            return self._profile(NormProfile.of(width, eps=self._eps, lsb=2.0**-10))
        return self._profile(self._layers[layer].norm2.profile)

    def _to_stream(
        self, stream: Stream, params: int, *, add: bool, profile: int, first: int = 0,
    ) -> Finish:  # fmt: skip
        """Requantise to INT16 in rows from ``first`` on, and learn the rows' moments.

        With ``add``, what is there is added.
        """

        def finish(half: int, row: int, rows: int, column: int, columns: int) -> None:
            segment = self.segments(column)
            extra = {"second": Second.RESIDUAL, "other": 1} if add else {}
            if add:
                extra |= stream.walk("other", first + row, segment)
            self._add(
                Engine.VECTOR, mode=Mode.REQUANT, wide=1, result=2, param_addr=params + segment,
                stat=Stat.MOMENTS, stat_row=self._moments + first + row, profile=profile,
                stat_first=int(column == 0),
                stat_last=int(segment + self.segments(columns) == stream.segments),
                **self._from_acc(half, 0, rows, columns),
                **stream.walk("dst", first + row, segment), **extra,
            )  # fmt: skip

        return finish

    def _norm_to_act(self, norm: Callable[[], Norm], shift2: int) -> None:
        """Second pass of a LayerNorm of all rows, to INT8."""
        self._norm(
            norm, stream=self._x, rows=self.rows, shift2=shift2,
            target=self._to_act(self._h, 0, 0, stride=self.rows),
        )  # fmt: skip

    def _norm(
        self, norm: Callable[[], Norm], *, stream: Stream, rows: int, shift2: int,
        target: dict[str, Any], first: int = 0, **more: Any,
    ) -> None:  # fmt: skip
        """Second pass of a LayerNorm of rows from ``first`` on."""

        def arrays() -> tuple[npt.ArrayLike, ...]:
            made = norm()
            return made.add, made.gain, np.zeros(len(made.gain), np.uint8)

        params = self._load_columns(stream.segments * self.config.tile.lanes, arrays)
        self._add(
            Engine.VECTOR, source=1, rows=rows, segments=stream.segments, param_addr=params,
            param_step=1, row_addr=self._moments + first, mode=Mode.NORM, pre=1,
            second=Second.COLUMN, shift2=shift2, **stream.walk("src", first), **target, **more,
        )  # fmt: skip

    def _per_head(self, matrix: npt.NDArray) -> npt.NDArray:
        """Pad axis 0, of heads times channels, to whole segments a head."""
        model = self.widths.model
        split = matrix.reshape(model.heads, model.head_dim, *matrix.shape[1:])
        out = np.zeros((model.heads, self.widths.head, *matrix.shape[1:]), matrix.dtype)
        out[:, : model.head_dim] = split
        return out.reshape(-1, *matrix.shape[1:])

    def _rotated(self, target: int, linear: Callable[[], Linear], shift: int) -> None:
        w, lanes = self.widths, self.config.tile.lanes
        period = w.segments(w.head)
        params = self._load_columns(
            w.inner,
            lambda: tuple(self._per_head(a) for a in (linear().add, linear().mul, linear().shift)),
        )

        def finish(half: int, row: int, rows: int, column: int, columns: int) -> None:
            for at, position, count in self._parts(row, rows):
                self._add(
                    Engine.VECTOR, mode=Mode.REQUANT, second=Second.ROTATE, shift2=shift,
                    param_addr=params + w.segments(column),
                    rope_addr=self._rope + position * period, rope_row=period,
                    rope_seg=column // lanes % period, rope_period=period,
                    **self._from_acc(half, at, count, columns),
                    **self._to_act(target, row + at, column, stride=self.rows),
                )  # fmt: skip

        self._multiply(
            a=self._h, rows=self.rows, depth=w.model.width, channels=w.inner,
            weight=lambda: self._per_head(linear().weight), finish=finish,
        )  # fmt: skip

    def _value(self, n: int, layer: Callable[[], QuantisedLayer]) -> None:
        """Vᵀ = W_v · hᵀ: the weights are A for all tiles, each tile's rows are B."""
        w, tile, model = self.widths, self.config.tile, self.widths.model
        blocks = w.blocks(model.width)
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

        def weight() -> npt.NDArray[np.int8]:
            return self._per_head(layer().value.weight)

        for channel in range(0, w.inner, step):
            channels = min(step, w.inner - channel)
            place = self._load_weight(weight, channel, channels, 0, blocks)
            # Rows of several cameras fill the array's columns together.
            for first in range(0, self.rows, tile.columns):
                columns = min(tile.columns, self.rows - first)
                half = self._array(
                    a_shared=1, a_addr=place, a_stride=channels,
                    b_addr=self._h + first, b_stride=self.rows,
                    rows=channels, columns=columns, passes=blocks,
                    k_last=model.width - (blocks - 1) * tile.rows,
                )  # fmt: skip
                for at, position, count in self._parts(first, columns):
                    source = self._from_acc(half, 0, channels, count)
                    source |= {"param_step": 0, "src_seg": w.segments(at)}
                    self._add(
                        Engine.VECTOR, mode=Mode.REQUANT, param_addr=params, **source,
                        **self._to_act(
                            self._value_place(n, first + at), channel, position, stride=w.inner
                        ),
                    )  # fmt: skip

    def _load_logits(self, n: int, real: npt.NDArray[np.bool_]) -> int:
        """Parameters of each head's logits; ``real`` says which (padded) keys there are."""
        keys = len(real)

        def make() -> npt.NDArray[np.uint8]:
            assert self._layers is not None
            logits = self._layers[n].logits
            add = np.where(real, 0, _MASKED)
            return np.concatenate([
                column_words(
                    add, np.full(keys, mul), np.full(keys, shift), self.config.tile.lanes
                )
                for mul, shift in zip(logits.mul, logits.shift, strict=True)
            ])  # fmt: skip

        return self._load_params(self.widths.model.heads * self.segments(keys), make)

    def _scores(
        self, head: int, *, row: int, rows: int, keys: int, segment: int, params: int,
        first: bool, last: bool, **b: int,
    ) -> None:  # fmt: skip
        """Logits of a head: ``rows`` queries from ``row`` on, with ``keys`` keys.

        ``b`` has the fields ``b_addr`` (of the K-block 0), ``b_stride`` and ``b_shared``. Logits go
        to the head's stream from ``segment`` on, with the parameters at ``params``; ``first`` and
        ``last`` say whether no keys came before, or will come.
        """
        w, tile, turn = self.widths, self.config.tile, head % 2
        begin = head * w.head
        block, end = begin // tile.rows, (begin + w.head - 1) // tile.rows
        stream = self._logits[turn]
        b_addr = b.pop("b_addr") + block * b["b_stride"]
        for at, part in self._row_blocks(rows):
            for key in range(0, keys, tile.columns):
                count = min(tile.columns, keys - key)
                half = self._array(
                    a_addr=self._q + block * self.rows + row + at, a_stride=self.rows,
                    b_addr=b_addr + key,
                    rows=part, columns=count, passes=end - block + 1,
                    k_first=begin - block * tile.rows,
                    k_last=begin + w.head - end * tile.rows, **b,
                )  # fmt: skip
                self._add(
                    Engine.VECTOR, mode=Mode.REQUANT, wide=1, result=2,
                    param_addr=params + w.segments(key),
                    stat=Stat.MAX, stat_row=self._maxima[turn] + at,
                    stat_first=int(first and key == 0), stat_last=int(last and key + count == keys),
                    **self._from_acc(half, 0, part, count),
                    **stream.walk("dst", at, segment + w.segments(key)),
                )  # fmt: skip

    def _exponentials(
        self, head: int, *, rows: int, segment: int, segments: int, place: int, first: bool,
        last: bool,
    ) -> None:  # fmt: skip
        """Exponentials of some of a head's logits, to ``place`` in ACT."""
        turn = head % 2
        self._add(
            Engine.VECTOR, source=1, rows=rows, segments=segments, mode=Mode.EXP,
            row_addr=self._maxima[turn], stat=Stat.SUM, stat_first=int(first), stat_last=int(last),
            stat_row=self._sums[turn], **self._logits[turn].walk("src", 0, segment),
            **self._to_act(place, 0, 0, stride=rows),
        )  # fmt: skip

    def _weighted(
        self, head: int, *, row: int, rows: int, params: int, shift2: int,
        parts: Sequence[tuple[int, int, int, int]],
    ) -> None:  # fmt: skip
        """Context of a head: exponentials times values, divided by their sum.

        Each of ``parts`` is keys, place of the exponentials, place of the values, and whether these
        are in the shared memory.
        """
        w, tile, turn = self.widths, self.config.tile, head % 2
        for at, count in self._row_blocks(rows):
            for first in range(0, w.head, tile.columns):
                columns = min(tile.columns, w.head - first)
                channel = head * w.head + first
                half = None
                for keys, exponentials, values, shared in parts:
                    blocks = w.blocks(keys)
                    half = self._array(
                        half=half, acc_add=int(half is not None),
                        a_addr=exponentials + at, a_stride=rows,
                        b_shared=shared, b_stride=w.inner, b_addr=values + channel,
                        rows=count, columns=columns, passes=blocks,
                        k_last=keys - (blocks - 1) * tile.rows,
                    )  # fmt: skip
                assert half is not None
                self._add(
                    Engine.VECTOR, mode=Mode.NORM, row_addr=self._sums[turn] + at,
                    second=Second.COLUMN, shift2=shift2, param_addr=params + w.segments(channel),
                    **self._from_acc(half, 0, count, columns),
                    **self._to_act(self._ctx, row + at, channel, stride=self.rows),
                )  # fmt: skip
