"""All lanes of a tile, and what they learn about rows."""

from amaranth import *
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from ..fabric.delay import delay
from ..platform import Macro
from .lane import Lane
from .layouts import (
    ROW_BITS,
    ColumnParams,
    Mode,
    NormProfileLayout,
    RopeEntry,
    RowParams,
    Second,
    VectorStep,
)
from .rows import PROFILES, RowUnit

__all__ = ["VectorUnit"]


class VectorUnit(Macro):
    """The vector lanes of one tile: a segment of a row a cycle, without back-pressure.

    All operands of a step arrive in its cycle. Its results come exactly :attr:`latency` cycles
    later, whatever it does; the parameters of a row exactly :attr:`row_latency` cycles after the
    row's last step. The golden models are :mod:`jepa_r_sim.golden.lane` and
    :mod:`jepa_r_sim.golden.rows`; the lanes' stages are listed at
    :class:`~jepa_r.vector.lane.Lane`. Control travels beside the lanes, once.

    Parameters
    ----------
    lanes : :class:`int`, even, positive
        Elements of a segment. Lanes ``i`` and ``i ^ 1`` are a pair of ``Second.ROTATE``.
    rows : :class:`int`, at least 2
        Depth of the running memory: rows whose statistics can be spread over operations.

    Members
    -------
    step : ``In(VectorStep())``
        Control.
    src : ``In(data.ArrayLayout(signed(32), lanes))``
        Source: accumulators, or smaller numbers with their sign.
    other : ``In(data.ArrayLayout(signed(16), lanes))``
        Residual stream, or what ``Stat.L1`` compares with.
    column : ``In(data.ArrayLayout(ColumnParams(), lanes))``
        Parameters of the columns.
    row : ``In(RowParams())``
        Parameters of the row.
    rope : ``In(data.ArrayLayout(RopeEntry(), lanes))``
        Rotations.
    profiles : ``In(data.ArrayLayout(NormProfileLayout(), 4))``
        Constants of LayerNorms; they stay while anything is under way.
    t_en, t_addr, t_data : ``In(1)``, ``In(6)``, ``In(32)``
        Write word ``t_addr`` of the table of every lane: byte ``i`` is entry ``4 * t_addr + i``.
        Steps from the next cycle on see it; those up to :attr:`latency` cycles before may.
    z_valid, z : ``Out(1)``, ``Out(data.ArrayLayout(signed(16), lanes))``
        Results; INT8 with their sign.
    row_en, row_addr, row_data : ``Out(1)``, ``Out(16)``, ``Out(RowParams())``
        A finished row: its maximum in ``offset``; or reciprocal sum in ``mul`` and ``shift``; or
        mean and reciprocal standard deviation in all three. The rest is 0.
    distance : ``Out(48)``
        Sum of ``abs(z - other)`` over the steps with ``Stat.L1``, complete
        :attr:`distance_latency` cycles after the last.
    distance_clear : ``In(1)``
        Set the sum to 0.

    Raises
    ------
    :exc:`ValueError`
        If ``lanes`` is not even and positive, or ``rows`` less than 2.
    """

    #: Cycles from a step to its results.
    latency = Lane.latency

    def __init__(self, *, lanes, rows):
        if lanes < 2 or lanes % 2:
            raise ValueError(f"lanes {lanes} is not an even number of 2 or more")
        if rows < 2:
            raise ValueError(f"rows {rows} is not 2 or more")
        self._lanes = lanes
        self._rows = rows
        super().__init__(
            {
                "step": In(VectorStep()),
                "src": In(data.ArrayLayout(signed(32), lanes)),
                "other": In(data.ArrayLayout(signed(16), lanes)),
                "column": In(data.ArrayLayout(ColumnParams(), lanes)),
                "row": In(RowParams()),
                "rope": In(data.ArrayLayout(RopeEntry(), lanes)),
                "profiles": In(data.ArrayLayout(NormProfileLayout(), PROFILES)),
                "t_en": In(1),
                "t_addr": In(6),
                "t_data": In(32),
                "z_valid": Out(1),
                "z": Out(data.ArrayLayout(signed(16), lanes)),
                "row_en": Out(1),
                "row_addr": Out(ROW_BITS),
                "row_data": Out(RowParams()),
                "distance": Out(48),
                "distance_clear": In(1),
            },
            macro_name=f"vector_unit_{lanes}x{rows}",
        )

    @staticmethod
    def row_latency_of(lanes):
        """Cycles from a row's last step to ``row_en``, for so many lanes."""
        return Lane.latency + RowUnit.latency_of(lanes)

    @staticmethod
    def distance_latency_of(lanes):
        """Cycles from a step to a ``distance`` that has it, for so many lanes."""
        return Lane.latency + RowUnit.distance_latency_of(lanes)

    @property
    def lanes(self):
        return self._lanes

    @property
    def rows(self):
        return self._rows

    @property
    def row_latency(self):
        return self.row_latency_of(self._lanes)

    @property
    def distance_latency(self):
        return self.distance_latency_of(self._lanes)

    def build(self, platform):
        m = Module()
        step = self.step

        # What depends on the mode alone is decided at the entrance.
        requantise, pre, exponential = Signal(), Signal(), Signal()
        shift2, look_up = Signal(6), Signal()
        m.d.comb += [
            requantise.eq(step.mode == Mode.REQUANT),
            pre.eq(step.pre & (step.mode == Mode.NORM)),
            exponential.eq(step.mode == Mode.EXP),
            look_up.eq(step.table & ~step.wide),
        ]
        with m.Switch(step.second):
            with m.Case(Second.ROTATE, Second.COLUMN):
                m.d.comb += shift2.eq(step.shift2)

        exponential = delay(m, exponential, Lane.Y_STAGE - 2, name="exponential")
        add_second = delay(m, step.second, Lane.PRODUCT_STAGE - 1, name="second")
        shift2 = delay(m, shift2, Lane.SUM_STAGE - 1, name="shift2")
        narrow = delay(m, ~step.wide, Lane.NARROW_STAGE - 1, name="narrow")
        look_up = delay(m, look_up, Lane.TABLE_STAGE - 1, name="look_up")

        lanes = []
        for n in range(self._lanes):
            m.submodules[f"lane_{n}"] = lane = Lane()
            m.d.comb += [
                lane.src.eq(self.src[n]),
                lane.other.eq(self.other[n]),
                lane.column.eq(self.column[n]),
                lane.rope.eq(self.rope[n]),
                lane.row.eq(self.row),
                lane.requantise.eq(requantise),
                lane.pre.eq(pre),
                lane.second.eq(step.second),
                lane.exponential.eq(exponential),
                lane.add_second.eq(add_second),
                lane.shift2.eq(shift2),
                lane.narrow.eq(narrow),
                lane.look_up.eq(look_up),
                lane.t_en.eq(self.t_en),
                lane.t_addr.eq(self.t_addr),
                lane.t_data.eq(self.t_data),
                self.z[n].eq(lane.z),
            ]
            lanes.append(lane)
        for n, lane in enumerate(lanes):
            m.d.comb += lane.partner_in.eq(lanes[n ^ 1].y_out)

        valid = delay(m, step.valid, self.latency, reset_less=False, name="valid")
        m.d.comb += self.z_valid.eq(valid)

        m.submodules.row_unit = rows = RowUnit(lanes=self._lanes, rows=self._rows)
        m.d.comb += [
            rows.valid.eq(self.z_valid),
            rows.z.eq(self.z),
            rows.profiles.eq(self.profiles),
            rows.distance_clear.eq(self.distance_clear),
            self.row_en.eq(rows.row_en),
            self.row_addr.eq(rows.row_addr),
            self.row_data.eq(rows.row_data),
            self.distance.eq(rows.distance),
        ]
        m.d.comb += [rows.other[n].eq(lane.other_out) for n, lane in enumerate(lanes)]
        for member, field in {
            "stat": step.stat,
            "first_seg": step.first_seg,
            "last_seg": step.last_seg,
            "stat_first": step.stat_first,
            "stat_last": step.stat_last,
            "row": step.stat_row,
            "profile": step.profile,
        }.items():
            m.d.comb += getattr(rows, member).eq(delay(m, field, self.latency, name=member))
        return m
