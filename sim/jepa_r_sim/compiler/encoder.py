"""From an encoder to the operations of a cluster: blocking, padding, places in memory.

Tokens are split evenly: tile j holds tokens j T to j T + T - 1 of every camera, so that row r of
a tile is token r % T of camera r // T. Heads are padded to whole segments of the lanes, other
widths at their end; padding has zero parameters, so that it is zero in the residual stream and
cannot be seen elsewhere. Keys and values of all tiles are exchanged through the last bank of the
shared memory, one camera after another.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from attrs import frozen

from jepa_r.cluster.isa import ARGUMENTS, LATENT_STORE, Destination, Engine
from jepa_r.config import ClusterConfig, ConfigError
from jepa_r.vector.layouts import Stat

from ..golden.rows import NormProfile
from ..model.quantised import QuantisedEncoder
from ..model.shapes import ModelConfig
from .block import BlockProgram, Stream, Widths
from .builder import ceil
from .image import Image

__all__ = ["EncoderLayout", "EncoderProgram"]


@frozen
class EncoderLayout(Widths):
    """Sizes and places of one encoder on one cluster.

    Attributes
    ----------
    config, model, cameras
        What runs where, and for how many images at once.
    """

    model: ModelConfig
    cameras: int

    @property
    def tokens(self) -> int:
        """Rows T of one camera on one tile, padded so that its values fill words of keys."""
        tile = self.config.tile
        rows = ceil(-(-self.model.tokens // self.config.tiles), tile.lanes)
        if self.config.tiles == 1:
            return rows
        if rows < tile.rows:
            return next(n for n in range(rows, tile.rows + 1, tile.lanes) if tile.rows % n == 0)
        return ceil(rows, tile.rows)

    @property
    def rows(self) -> int:
        """Rows of all cameras on one tile."""
        return self.cameras * self.tokens

    @property
    def keys(self) -> int:
        """Keys of one camera, padding included."""
        return self.config.tiles * self.tokens


class EncoderProgram(BlockProgram):
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
    base
        First address of what it uses in memory.
    latent_store
        Whether latents also go to the latent store, at the address in the second argument.
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
    input_address, output_address
        Where there is room for them. The program reads its input at the address in the first
        argument: any may be given.

    Raises
    ------
    ConfigError
        If the model does not fit the cluster.
    """

    def __init__(
        self, config: ClusterConfig, model: ModelConfig, quantised: QuantisedEncoder | None,
        cameras: int, *, base: int = 0, latent_store: bool = False, elastic: bool = False,
    ):  # fmt: skip
        if cameras < 1:
            raise ConfigError(f"cameras is {cameras}; it must be at least 1")
        if model.class_token or model.absolute_positions or not model.rotary:
            raise ConfigError(
                "the model has a class token or absolute positions; the compiler takes encoders "
                "with rotary positions alone"
            )
        self.model, self.q = model, quantised
        self.layout = self.widths = lay = EncoderLayout(config, model, cameras)
        self.rows = lay.rows
        tile, data_bytes = config.tile, config.memory.data_bytes
        share = max(1, data_bytes // tile.rows)

        def beats(words: int) -> int:
            return -(-words // share) * -(-tile.rows // data_bytes)

        self.input_words = lay.blocks(model.patch_features) * lay.rows
        self.output_words = lay.blocks(lay.width) * lay.rows
        self.input_bytes = ceil(beats(self.input_words) * data_bytes, 4096)
        self.output_bytes = ceil(beats(self.output_words) * data_bytes, 4096)
        self.input_address = base
        self.output_address = base + config.tiles * self.input_bytes
        super().__init__(
            config, Image(self.output_address + config.tiles * self.output_bytes, data_bytes),
            eps=model.eps, layers=quantised.layers if quantised else None,
            rope=quantised.rope if quantised else None, elastic=elastic,
        )  # fmt: skip
        self._allocate()
        self._build(latent_store)

    @property
    def _numbers(self) -> QuantisedEncoder:
        """What is needed only when data are made."""
        assert self.q is not None
        return self.q

    # Places.

    def _allocate(self) -> None:
        lay, tile, shared = self.layout, self.config.tile, self.config.shared
        ops = self.scheduler.operations
        self._check_passes()
        act = self._act_memory()
        rows, last = lay.rows, tile.act_banks - 1
        value_blocks = lay.blocks(lay.tokens)
        self._h = act.take(lay.blocks(lay.width) * rows)
        self._q = act.take(lay.blocks(lay.inner) * rows)
        self._k = act.take(lay.blocks(lay.inner) * rows, last)
        self._v = act.take(lay.inner * value_blocks * lay.cameras, last)
        self._p = [act.take(lay.blocks(lay.keys) * lay.tokens) for _ in range(2)]
        self._ctx = act.take(lay.blocks(lay.inner) * rows)
        # Pixels are used up before the first hidden layer is made.
        self._g = act.take(max(lay.blocks(lay.hidden) * rows, self.input_words))

        x = self._one_bank("tile.x_words", tile.x_words)
        width, keys = lay.segments(lay.width), lay.segments(lay.keys)
        self._x = Stream(x.take(rows * width), width)
        self._logits = [Stream(x.take(lay.tokens * keys), keys) for _ in range(2)]
        entries = self._one_bank("tile.row_entries", tile.row_entries)
        self._moments = entries.take(rows)
        self._maxima = [entries.take(lay.tokens) for _ in range(2)]
        self._sums = [entries.take(lay.tokens) for _ in range(2)]
        rope = self._one_bank("tile.rope_words", tile.rope_words)
        self._rope = rope.take(lay.tokens * lay.segments(lay.head))

        bank = (shared.banks - 1) << ops.shared_bits
        exchanged = self._one_bank("shared.bank_words", shared.bank_words)
        # Twice where there is room, so that one camera's are exchanged while another's are used.
        one = lay.blocks(lay.inner) * lay.keys + lay.inner * lay.blocks(lay.keys)
        copies = 2 if lay.cameras > 1 and 2 * one <= shared.bank_words else 1
        self._keys, self._values = [], []
        for _ in range(copies):
            self._keys.append(bank + exchanged.take(lay.blocks(lay.inner) * lay.keys))
            self._values.append(bank + exchanged.take(lay.inner * lay.blocks(lay.keys)))

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

    def _parts(self, first: int, count: int) -> Iterator[tuple[int, int, int]]:
        """Parts of a block of rows that belong to one camera: row in the block, token, count."""
        tokens, at = self.layout.tokens, first
        while at < first + count:
            part = min(tokens - at % tokens, first + count - at)
            yield at - first, at % tokens, part
            at += part

    def _key_place(self, layer: int) -> int:
        return self._k

    def _value_place(self, layer: int, row: int) -> int:
        return self._value_base(row // self.layout.tokens)

    def _value_base(self, camera: int) -> int:
        return self._v + camera * self.layout.inner * self.layout.blocks(self.layout.tokens)

    # The model.

    def _build(self, latent_store: bool) -> None:
        model, q, lay = self.model, self.q, self.layout
        self._stage = "patches"
        self._load_frame()
        self._load_rope()
        params = self._load_linear(lay.width, lambda: self._numbers.patch)
        self._multiply(
            a=self._g, rows=lay.rows, depth=model.patch_features, channels=lay.width,
            weight=lambda: self._numbers.patch.weight,
            finish=self._to_stream(self._x, params, add=False, profile=self._block_profile()),
        )  # fmt: skip
        for layer in range(model.depth):
            # Every layer finds the rings as the one before did, so that their schedules are alike.
            self._restart_rings()
            before = len(self.scheduler.placed)
            final = q.norm.profile if q and layer + 1 == model.depth else None
            self._layer(layer, f"layer {layer}", final)
            self.layer_operations = len(self.scheduler.placed) - before
        self._stage = "norm"
        latent = (
            q.latent.profile
            if q
            else NormProfile.of(model.width, eps=model.latent_eps, lsb=2.0**-10)
        )
        self._norm(
            lambda: self._numbers.norm, stream=self._x, rows=lay.rows,
            shift2=q.norm.shift2 if q else 15,
            target={"result": 2, **self._x.walk("dst", 0)}, wide=1, stat=Stat.MOMENTS,
            stat_first=1, stat_last=1, stat_row=self._moments, profile=self._profile(latent),
        )  # fmt: skip
        self._norm_to_act(lambda: self._numbers.latent, q.latent.shift2 if q else 5)
        self._stage = "store"
        for tile in range(self.config.tiles):
            self._add(
                Engine.MOVE, tile=tile, src_addr=self._h, words=self.output_words, rows=1,
                address=self.output_address + tile * self.output_bytes,
            )  # fmt: skip
        if latent_store:
            self._store_latents()

    def _store_latents(self) -> None:
        """Move latents to the latent store: word (camera, K-block, token) one after another."""
        lay, blocks = self.layout, self.layout.blocks(self.layout.width)
        for camera in range(lay.cameras):
            for tile in range(self.config.tiles):
                first = tile * lay.tokens
                real = min(lay.tokens, self.model.tokens - first)
                if real <= 0:
                    continue
                self._add(
                    Engine.MOVE, tile=tile, src_addr=self._h + camera * lay.tokens, words=real,
                    rows=blocks, src_stride=lay.rows, to_shared=1, address_ptr=ARGUMENTS[1],
                    address=LATENT_STORE + camera * blocks * self.model.tokens + first,
                    stride=self.model.tokens,
                )  # fmt: skip

    def _load_frame(self) -> None:
        for tile in range(self.config.tiles):
            self._add(
                Engine.READ, address=tile * self.input_bytes, address_ptr=ARGUMENTS[0],
                words=self.input_words, rows=1, dest=Destination.ACT, dest_addr=self._g,
                tiles=1 << tile,
            )  # fmt: skip

    def _load_rope(self) -> None:
        lay, lanes = self.layout, self.config.tile.lanes
        for tile in range(self.config.tiles):

            def make(tile: int = tile) -> npt.NDArray[np.uint8]:
                rope = self._numbers.rope
                table = np.zeros((lay.tokens, lay.head, 2), "<i2")
                first = tile * lay.tokens
                real = max(0, min(lay.tokens, len(rope.cos) - first))
                size = rope.cos.shape[1]
                table[:real, :size, 0] = rope.cos[first : first + real]
                table[:real, :size, 1] = rope.sin[first : first + real]
                return np.frombuffer(table.tobytes(), np.uint8).reshape(-1, 4 * lanes)

            count = lay.tokens * lay.segments(lay.head)
            self._read(Destination.ROPE, self._rope, count, make, tiles=1 << tile)

    def _exchange(self, camera: int, keys: int, values: int) -> None:
        """Keys and values of one camera, from all tiles to the shared memory."""
        lay, tile = self.layout, self.config.tile
        parts = tile.rows // tile.lanes
        for n in range(self.config.tiles):
            self._add(
                Engine.MOVE, tile=n, src_addr=self._k + camera * lay.tokens, words=lay.tokens,
                rows=lay.blocks(lay.inner), src_stride=lay.rows, to_shared=1,
                address=keys + n * lay.tokens, stride=lay.keys,
            )  # fmt: skip
        for n in range(self.config.tiles):
            first = n * lay.tokens
            segments = lay.segments(lay.tokens)
            self._add(
                Engine.MOVE, tile=n, src_addr=self._value_base(camera), words=lay.inner,
                rows=lay.blocks(lay.tokens), src_stride=lay.inner, to_shared=1,
                address=values + first // tile.rows * lay.inner, stride=lay.inner,
                segments=0 if segments >= parts else segments,
                dst_seg=first % tile.rows // tile.lanes,
            )  # fmt: skip

    def _attention(self, n: int, context: int, shift2: int) -> None:
        lay = self.layout
        logits = self._load_logits(n, np.arange(lay.keys) < self.model.tokens)
        for camera in range(lay.cameras):
            keys = self._keys[camera % len(self._keys)]
            values = self._values[camera % len(self._values)]
            row = camera * lay.tokens
            self._exchange(camera, keys, values)

            def scores(head: int, row: int = row, keys: int = keys) -> None:
                self._scores(
                    head, row=row, rows=lay.tokens, keys=lay.keys, segment=0,
                    params=logits + head * lay.segments(lay.keys), first=True, last=True,
                    b_addr=keys, b_stride=lay.keys, b_shared=1,
                )  # fmt: skip

            # The next head's scores run while the lanes work on this one's.
            scores(0)
            for head in range(self.model.heads):
                if head + 1 < self.model.heads:
                    scores(head + 1)
                place = self._p[head % 2]
                self._exponentials(
                    head, rows=lay.tokens, segment=0, segments=lay.segments(lay.keys),
                    place=place, first=True, last=True,
                )  # fmt: skip
                self._weighted(
                    head, row=row, rows=lay.tokens, params=context, shift2=shift2,
                    parts=[(lay.keys, place, values, 1)],
                )  # fmt: skip
