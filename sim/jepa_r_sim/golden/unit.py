"""Golden model of :class:`jepa_r.vector.unit.VectorUnit`: steps composed from lanes and rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from attrs import Factory, define, field, frozen

from . import lane, rows
from .rounding import saturate

__all__ = ["FinishedRow", "Step", "VectorUnit"]


@frozen(kw_only=True)
class Step:
    """One step and its operands, which are sequences of one number a lane.

    The fields are those of ``jepa_r.vector.layouts.VectorStep`` without ``valid``, then the
    operands by the names of the unit's members.
    """

    mode: int = 0
    pre: int = 0
    second: int = 0
    shift2: int = 0
    wide: int = 0
    table: int = 0
    stat: int = 0
    first_seg: int = 1
    last_seg: int = 1
    stat_first: int = 1
    stat_last: int = 1
    stat_row: int = 0
    profile: int = 0

    src: Sequence[int]
    other: Sequence[int]
    add: Sequence[int]
    mul: Sequence[int]
    shift: Sequence[int]
    cos: Sequence[int]
    sin: Sequence[int]
    offset: int = 0
    row_mul: int = 0
    row_shift: int = 0


@frozen
class FinishedRow:
    """Parameters that a row's last step left."""

    row: int
    offset: int
    mul: int
    shift: int


@define
class VectorUnit:
    """Everything a unit remembers: its table, rows that are under way, the distance.

    Rows are kept as their elements, not as sums: parameters are computed from the whole row.
    """

    profiles: Sequence[rows.NormProfile]
    table: npt.ArrayLike = Factory(lambda: np.zeros(256, np.int64))
    distance: int = 0
    _open: list[Any] = field(factory=list, init=False)
    _running: dict[int, list[Any]] = field(factory=dict, init=False)

    def step(self, step: Step) -> tuple[lane.Int, FinishedRow | None]:
        """Results of a step, and the row that it finished, if it did."""
        z = self._lanes(step)[0]
        if step.stat == 4:
            self.distance += int(np.abs(z - np.asarray(step.other, np.int64)).sum())
        if step.stat in (0, 4):
            return z, None

        if step.first_seg:
            self._open = []
        self._open.append(z)
        if not step.last_seg:
            return z, None
        earlier = [] if step.stat_first else self._running[step.stat_row]
        whole = earlier + self._open
        if not step.stat_last:
            self._running[step.stat_row] = whole
            return z, None
        return z, self._finish(step, np.concatenate(whole)[None])

    def _lanes(self, step: Step) -> lane.Int:
        src, bits = np.array([step.src], np.int64), 16 if step.wide else 8
        add, mul = np.array(step.add, np.int64), np.array(step.mul, np.int64)
        y: lane.Int
        if step.mode == 0:
            y = lane.requantise(src, add, mul, np.array(step.shift))
        elif step.mode == 1:
            y = lane.normalise(
                src, [step.offset], [step.row_mul], [step.row_shift], pre=8 * step.pre
            )
        else:
            y = lane.exponential(src, [step.offset])

        z: lane.Int
        if step.second == 0:
            z = saturate(y, bits)
        elif step.second == 1:
            z = lane.residual(y, np.array(step.other, np.int64), bits=bits)
        elif step.second == 2:
            cos, sin = np.array(step.cos, np.int64), np.array(step.sin, np.int64)
            z = lane.rotate(y, cos, sin, step.shift2, bits=bits)
        else:
            z = lane.scale(y, mul, add, step.shift2, bits=bits)
        return lane.lookup(z, self.table) if step.table and not step.wide else z

    def _finish(self, step: Step, z: lane.Int) -> FinishedRow:
        if step.stat == 1:
            return FinishedRow(step.stat_row, int(rows.maximum(z)[0]), 0, 0)
        scale = rows.moments(z, self.profiles[step.profile]) if step.stat == 2 else rows.total(z)
        return FinishedRow(
            step.stat_row, int(scale.offset[0]), int(scale.mul[0]), int(scale.shift[0])
        )
