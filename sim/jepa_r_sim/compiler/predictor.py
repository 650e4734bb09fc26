"""From a predictor to the operations of a cluster: one candidate of the planner on each tile.

Every tile rolls its own candidate out, so that weights are multicast and all else is local: keys,
values and latents never leave a tile, and as many candidates as there are tiles cost what one does.
A step's rows are its action, its state and the patches. Keys and values of earlier steps stay in
the tile's memory; those of the last step are used up within their layer.

The program finds the start latent, the goal's latent, and the actions and states of all steps in
the tile, where the image's header says. It leaves the distance of the last prediction from the goal
in the lanes' accumulator.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from attrs import frozen

from jepa_r.cluster.isa import ARGUMENTS, Destination, Engine
from jepa_r.config import ClusterConfig, ConfigError
from jepa_r.vector.layouts import Mode, Second, Stat

from ..golden.rows import NormProfile
from ..model.quantised import QuantisedPredictor, WideLinear
from ..model.shapes import ModelConfig, PredictorConfig
from .block import BlockProgram, Stream, Widths
from .builder import ceil
from .image import Image

__all__ = ["FEATURES", "PredictorLayout", "PredictorProgram"]

#: Numbers of an action, and of a state.
FEATURES = 7

#: Rows of a step that are no patches: action and state.
_TOKENS = 2


@frozen
class PredictorLayout(Widths):
    """Sizes and places of a predictor on one cluster.

    Attributes
    ----------
    config, model
        What runs where.
    tokens
        Patches of a latent.
    latent_width
        Channels of a latent.
    horizon
        Steps of a rollout.
    """

    model: PredictorConfig
    tokens: int
    latent_width: int
    horizon: int

    @property
    def rows(self) -> int:
        """Rows of a step."""
        return _TOKENS + self.tokens

    @property
    def output(self) -> int:
        """Channels of a latent, padded."""
        return ceil(self.latent_width, self.config.tile.lanes)

    @property
    def latent_words(self) -> int:
        """Words of a latent."""
        return self.blocks(self.output) * self.tokens

    @property
    def key_segments(self) -> int:
        """Segments of a step's logits."""
        return self.segments(self.rows)

    @property
    def input_words(self) -> int:
        """Words of the actions and states of one candidate."""
        return self.horizon * 2 * self.blocks(FEATURES) * 2


class PredictorProgram(BlockProgram):
    """Operations of a rollout, scheduled.

    Parameters
    ----------
    config
        Cluster that runs it.
    model
        Shapes; with a predictor.
    quantised
        Numbers; without them the program can be timed but not run.
    horizon
        Steps.
    base
        First address of what it uses in memory.
    trace
        Whether predicted latents of all steps also go to memory, at the address in the first
        argument: latent after latent of each tile, step by step.
    elastic
        Whether the program must stay right in elastic runs.

    Attributes
    ----------
    layout, trace
        Sizes and places; as given.
    layer_operations
        Operations of a layer of each step.
    latent, goal, inputs
        Words of ACT where the start latent, the goal's and actions and states are expected.
    trace_bytes
        Bytes of one tile's latent in memory.

    Raises
    ------
    ConfigError
        If the model does not fit the cluster.
    """

    def __init__(
        self, config: ClusterConfig, model: ModelConfig, quantised: QuantisedPredictor | None,
        horizon: int, *, base: int = 0, trace: bool = False, elastic: bool = False,
    ):  # fmt: skip
        if model.predictor is None:
            raise ConfigError("the model has no predictor")
        if not 1 <= horizon <= model.predictor.steps:
            raise ConfigError(
                f"horizon is {horizon}; this model predicts 1 to {model.predictor.steps} steps"
            )
        if model.class_token:
            raise ConfigError("the model has a class token; predictors read patches alone")
        self.model, self.q, self.trace = model, quantised, trace
        self.layout = self.widths = lay = PredictorLayout(
            config, model.predictor, model.tokens, model.width, horizon
        )
        self.rows = lay.rows
        tile = config.tile
        if lay.rows % 2 and lay.rows > tile.acc_rows:
            raise ConfigError(
                f"tile.acc_rows is {tile.acc_rows}; {lay.rows} rows of a step cannot be split into "
                f"even blocks: it must be at least {lay.rows + 1}"
            )
        share = max(1, config.memory.data_bytes // tile.rows)
        beats = -(-lay.latent_words // share) * -(-tile.rows // config.memory.data_bytes)
        self.trace_bytes = ceil(beats * config.memory.data_bytes, 4096)
        super().__init__(
            config, Image(base, config.memory.data_bytes), eps=model.eps,
            layers=quantised.layers if quantised else None,
            rope=quantised.rope if quantised else None, elastic=elastic,
        )  # fmt: skip
        self._allocate()
        self.layer_operations: list[int] = []
        for step in range(horizon):
            self._predict(step)

    @property
    def _numbers(self) -> QuantisedPredictor:
        """What is needed only when data are made."""
        assert self.q is not None
        return self.q

    # Places.

    def _allocate(self) -> None:
        lay, tile, depth = self.layout, self.config.tile, self.layout.model.depth
        rows, last = lay.rows, tile.act_banks - 1
        act = self._act_memory()
        # The array reads queries beside keys, and exponentials beside values: in other banks.
        key_words, value_words = lay.blocks(lay.inner) * rows, lay.inner * lay.blocks(rows)
        kept = [(n, step) for step in range(lay.horizon - 1) for n in range(depth)]
        places = {at: (act.take(key_words, last), act.take(value_words, last)) for at in kept}
        final = act.take(key_words, last), act.take(value_words, last)
        places |= {(n, lay.horizon - 1): final for n in range(depth)}
        self._kept = places
        self._q = act.take(lay.blocks(lay.inner) * rows)
        step_words = lay.blocks(rows) * rows
        self._p = [act.take(lay.horizon * step_words) for _ in range(2)]
        self.latent = act.take(lay.latent_words)
        self.goal = act.take(lay.latent_words)
        self.inputs = act.take(lay.input_words)
        self._predicted = act.take(lay.latent_words)
        self._h = act.take(lay.blocks(lay.width) * rows)
        self._ctx = act.take(lay.blocks(lay.inner) * rows)
        self._g = act.take(lay.blocks(lay.hidden) * rows)

        x = self._one_bank("tile.x_words", tile.x_words)
        width, out = lay.segments(lay.width), lay.segments(lay.output)
        keys = lay.horizon * lay.key_segments
        self._x = Stream(x.take(rows * width), width)
        self._out = Stream(x.take(lay.tokens * out), out)
        self._logits = [Stream(x.take(rows * keys), keys) for _ in range(2)]
        entries = self._one_bank("tile.row_entries", tile.row_entries)
        self._moments = entries.take(rows)
        self._maxima = [entries.take(rows) for _ in range(2)]
        self._sums = [entries.take(rows) for _ in range(2)]
        table = rows * lay.segments(lay.head)
        rope = self._one_bank("tile.rope_words", tile.rope_words)
        # Twice where there is room, so that the next step's comes in time.
        copies = 2 if lay.horizon > 1 and 2 * table <= tile.rope_words else 1
        self._ropes = [rope.take(table) for _ in range(copies)]

    def _key_place(self, layer: int) -> int:
        return self._kept[layer, self._step][0]

    def _value_place(self, layer: int, row: int) -> int:
        return self._kept[layer, self._step][1]

    # The model.

    def _predict(self, step: int) -> None:
        lay, q, name = self.layout, self.q, f"step {step}"
        self._step = step
        self._stage = f"{name}: inputs"
        # Every step finds the rings as the one before did.
        self._restart_rings()
        self._load_rope(step)
        self._input(step, 0, lambda: self._numbers.action)
        self._input(step, 1, lambda: self._numbers.state)
        params = self._load_linear(lay.width, lambda: self._numbers.embed)
        self._multiply(
            a=self._predicted if step else self.latent, rows=lay.tokens, depth=lay.latent_width,
            channels=lay.width, weight=lambda: self._numbers.embed.weight,
            finish=self._to_stream(
                self._x, params, add=False, profile=self._block_profile(), first=_TOKENS
            ),
        )  # fmt: skip
        for layer in range(lay.model.depth):
            self._restart_rings()
            before = len(self.scheduler.placed)
            final = q.norm.profile if q and layer + 1 == lay.model.depth else None
            self._layer(layer, f"{name}, layer {layer}", final)
            if layer + 1 == lay.model.depth:
                self.layer_operations.append(len(self.scheduler.placed) - before)
        self._stage = f"{name}: latent"
        self._restart_rings()
        self._norm(
            lambda: self._numbers.norm, stream=self._x, rows=lay.tokens, first=_TOKENS,
            shift2=q.norm.shift2 if q else 20,
            target=self._to_act(self._h, 0, 0, stride=lay.tokens),
        )  # fmt: skip
        params = self._load_linear(lay.output, lambda: self._numbers.proj)
        profile = (
            q.latent.profile
            if q
            else NormProfile.of(lay.latent_width, eps=self.model.latent_eps, lsb=2.0**-10)
        )
        self._multiply(
            a=self._h, rows=lay.tokens, depth=lay.model.width, channels=lay.output,
            weight=lambda: self._numbers.proj.weight,
            finish=self._to_stream(self._out, params, add=False, profile=self._profile(profile)),
        )  # fmt: skip
        last = step + 1 == lay.horizon
        distance: dict[str, Any] = {}
        if last:
            distance = {"stat": Stat.L1, "clear": 1, "other": 2, "other_addr": self.goal,
                        "other_row": 1}  # fmt: skip
        self._norm(
            lambda: self._numbers.latent, stream=self._out, rows=lay.tokens,
            shift2=q.latent.shift2 if q else 5,
            target=self._to_act(self._predicted, 0, 0, stride=lay.tokens), **distance,
        )  # fmt: skip
        if self.trace:
            self._store(step)

    def _store(self, step: int) -> None:
        for tile in range(self.config.tiles):
            self._add(
                Engine.MOVE, tile=tile, src_addr=self._predicted, words=self.layout.latent_words,
                rows=1, address_ptr=ARGUMENTS[0],
                address=(step * self.config.tiles + tile) * self.trace_bytes,
            )  # fmt: skip

    def _load_rope(self, step: int) -> None:
        lay, lanes = self.layout, self.config.tile.lanes
        self._rope = self._ropes[step % len(self._ropes)]

        def make() -> npt.NDArray[np.uint8]:
            rope = self._numbers.rope
            table = np.zeros((lay.rows, lay.head, 2), "<i2")
            size = rope.cos.shape[-1]
            table[:, :size, 0], table[:, :size, 1] = rope.cos[step], rope.sin[step]
            return np.frombuffer(table.tobytes(), np.uint8).reshape(-1, 4 * lanes)

        self._read(Destination.ROPE, self._rope, lay.rows * lay.segments(lay.head), make)

    def _input(self, step: int, row: int, layer: Callable[[], WideLinear]) -> None:
        """An action or a state to its row of the stream: high bytes, and low bytes added.

        Both bytes pass through the array as two rows. All column blocks are multiplied before the
        lanes begin, since for two rows the way through array and lanes is long.
        """
        lay, tile = self.layout, self.config.tile
        blocks, width = lay.blocks(FEATURES), lay.segments(lay.width)
        place = self.inputs + (step * 2 + row) * blocks * 2
        none = np.zeros(0, np.int32)
        high = self._load_columns(
            lay.width, lambda: (none, layer().mul, layer().shift - np.uint8(8))
        )
        low = self._load_columns(lay.width, lambda: (layer().add, layer().mul, layer().shift))
        group = tile.acc_rows // 2 * tile.columns
        for first in range(0, lay.width, group):
            columns = range(first, min(first + group, lay.width), tile.columns)
            half, self._half = self._half, self._half ^ 1
            for n, column in enumerate(columns):
                count = min(tile.columns, lay.width - column)
                weights = self._load_weight(lambda: layer().weight, column, count, 0, blocks)
                self._array(
                    half=half, acc_row=2 * n, a_addr=place, a_stride=2,
                    b_shared=1, b_addr=weights, b_stride=count,
                    rows=2, columns=count, passes=blocks,
                    k_last=FEATURES - (blocks - 1) * tile.rows,
                )  # fmt: skip
            for part, params in enumerate((high, low)):
                for n, column in enumerate(columns):
                    count = min(tile.columns, lay.width - column)
                    segment = lay.segments(column)
                    learn = (
                        {
                            "second": Second.RESIDUAL, **self._x.walk("other", row, segment),
                            "other": 1, "stat": Stat.MOMENTS, "stat_row": self._moments + row,
                            "profile": self._block_profile(), "stat_first": int(column == 0),
                            "stat_last": int(segment + lay.segments(count) == width),
                        }
                        if part
                        else {}
                    )  # fmt: skip
                    self._add(
                        Engine.VECTOR, mode=Mode.REQUANT, wide=1, result=2,
                        param_addr=params + segment, **self._from_acc(half, 2 * n + part, 1, count),
                        **self._x.walk("dst", row, segment), **learn,
                    )  # fmt: skip

    def _attention(self, n: int, context: int, shift2: int) -> None:
        lay, steps = self.layout, self._step + 1
        segments = lay.key_segments
        keys = np.arange(segments * self.config.tile.lanes) < lay.rows
        logits = self._load_logits(n, np.tile(keys, steps))
        step_words = lay.blocks(lay.rows) * lay.rows

        def scores(head: int) -> None:
            for step in range(steps):
                self._scores(
                    head, row=0, rows=lay.rows, keys=lay.rows, segment=step * segments,
                    params=logits + (head * steps + step) * segments,
                    first=step == 0, last=step + 1 == steps,
                    b_addr=self._kept[n, step][0], b_stride=lay.rows,
                )  # fmt: skip

        # The next head's scores run while the lanes work on this one's.
        scores(0)
        for head in range(lay.model.heads):
            if head + 1 < lay.model.heads:
                scores(head + 1)
            places = [self._p[head % 2] + step * step_words for step in range(steps)]
            for step in range(steps):
                self._exponentials(
                    head, rows=lay.rows, segment=step * segments, segments=segments,
                    place=places[step], first=step == 0, last=step + 1 == steps,
                )  # fmt: skip
            self._weighted(
                head, row=0, rows=lay.rows, params=context, shift2=shift2,
                parts=[
                    (lay.rows, places[step], self._kept[n, step][1], 0) for step in range(steps)
                ],
            )  # fmt: skip
