"""The scheduler: a start cycle for every operation.

Operations come in the order in which they would run one after another. Each is placed at the first
cycle in which its engine is free, its operands are there, what it overwrites has been used, and its
ports are free; engines work in order, and overlap as far as that allows. So the schedule computes
what the plain order would, whatever the overlap.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from attrs import frozen

from jepa_r.cluster.isa import NO_CHECK, Engine
from jepa_r.config import ClusterConfig
from jepa_r.dma.mover import MoveSource

from .operations import Footprint, Operation, Operations

__all__ = ["Scheduler", "Stage"]


@frozen
class Stage:
    """A part of the model on the time axis.

    Attributes
    ----------
    name
        Which part.
    cycles
        From the end of the stage before it to its own end; they add up to the whole.
    array, vector, memory
        Cycles in which each engine works for it.
    bound
        The engine that works longest: ``compute``, ``vector`` or ``memory``.
    """

    name: str
    cycles: int
    array: int
    vector: int
    memory: int

    @property
    def bound(self) -> str:
        """Which of the three takes longest."""
        work = {"compute": self.array, "vector": self.vector, "memory": self.memory}
        return max(work, key=lambda name: work[name])


class Scheduler:
    """Places operations on one cluster.

    Parameters
    ----------
    config
        The cluster.
    elastic
        Whether the schedule must stay right when starts move apart.

    Attributes
    ----------
    elastic
        As given.
    placed
        Operations with their start cycles, in the order given.
    end
        First cycle in which all effects of all of them are visible.
    """

    def __init__(self, config: ClusterConfig, *, elastic: bool = False):
        self.config = config
        self.elastic = elastic
        self.operations = Operations(config)
        self.timing = self.operations.timing
        self.placed: list[Operation] = []
        self.end = self.timing.first_start
        self._machine = self.operations.machine(ordered=elastic)
        self._free = dict.fromkeys(Engine, self.timing.first_start)
        self._array: dict[str, int] | None = None
        self._array_start = 0
        self._read_bound = self.timing.read_bound()
        self._write_bound = self.timing.write_bound()
        self._transfers: list[int] = []
        self._moves: list[int] = []
        self._stages: dict[str, Counter[str]] = {}
        self._stage_ends: dict[str, int] = {}

    def add(self, op: Operation) -> Operation:
        """Give an operation its start cycle."""
        place = {
            Engine.TILE: self._place_tile,
            Engine.VECTOR: self._place_vector,
            Engine.READ: self._place_read,
            Engine.MOVE: self._place_move,
        }
        footprint = place[op.engine](op)
        self.placed.append(op)
        self.end = max(self.end, op.start + footprint.length)
        self._stage_ends[op.stage] = self.end
        if len(self.placed) % 256 == 0:
            self._machine.forget(min(self._free[e] for e in (Engine.TILE, Engine.VECTOR)))
        return op

    def _place(
        self, op: Operation, footprint: Footprint, start: int, work: str, cycles: int
    ) -> None:
        op.start = self._machine.earliest(
            footprint.accesses, footprint.windows, start, transfer=op.engine is Engine.READ
        )
        transfer = len(self._transfers) if op.engine is Engine.READ else -1
        op.needs = self._machine.commit(footprint.accesses, footprint.windows, op.start, transfer)
        self._stages.setdefault(op.stage, Counter())[work] += cycles

    def _place_tile(self, op: Operation) -> Footprint:
        f, start = op.fields, self._free[Engine.TILE]
        if self._array is not None:
            last = self._array
            start = self._array_start + max(
                self.timing.array_next(last["rows"], last["columns"], last["passes"], f["columns"]),
                self.timing.short_pace,
            )
        footprint = self.operations.footprint(op)
        busy = f["passes"] * f["interval"]
        self._place(op, footprint, start, "array", busy)
        self._array, self._array_start = f, op.start
        self._free[Engine.TILE] = op.start + 1
        return footprint

    def _place_vector(self, op: Operation) -> Footprint:
        footprint = self.operations.footprint(op)
        self._place(op, footprint, self._free[Engine.VECTOR], "vector", footprint.occupied)
        self._free[Engine.VECTOR] = op.start + max(footprint.occupied, self.timing.short_pace)
        return footprint

    def _place_read(self, op: Operation) -> Footprint:
        f, contract = op.fields, self.config.memory
        start = self._free[Engine.READ]
        if len(self._transfers) >= self.config.queue:
            start = max(start, self._transfers[-self.config.queue] + 1)
        shape: dict[str, Any] = {
            key: f[key] for key in ("address", "words", "rows", "stride", "dest")
        }
        while True:
            # The bound depends on the start, and the ports on the bound.
            bound = self._read_bound.copy()
            complete = bound.transfer(issue=start, crc=bool(f["crc"]), **shape)
            footprint = self.operations.read_footprint(f, complete + self.timing.load_delay - start)
            found = self._machine.earliest(
                footprint.accesses, footprint.windows, start, transfer=True
            )
            if found == start:
                break
            start = found
        self._read_bound = bound
        nbytes = self.operations.transfer_bytes(f)
        self._place(op, footprint, start, "memory", -(-nbytes // contract.bytes_per_cycle))
        self._transfers.append(start + footprint.length)
        self._free[Engine.READ] = start + self.timing.pace
        return footprint

    def _place_move(self, op: Operation) -> Footprint:
        f = op.fields
        shape: dict[str, Any] = {
            key: f[key] for key in ("words", "rows", "to_shared", "address", "stride")
        }
        shape["source"] = MoveSource.X if f["from_x"] else MoveSource.ACT
        # One after another: none waits in the mover's queue.
        start = max([self._free[Engine.MOVE], *self._moves[-1:]])
        bound = self._write_bound.copy().transfer(issue=start, **shape) - start
        footprint = self.operations.move_footprint(f, bound + self.timing.load_delay)
        work = "move" if f["to_shared"] else "memory"
        self._place(op, footprint, start, work, footprint.occupied)
        self._write_bound.transfer(issue=op.start, **shape)
        self._moves.append(op.start + footprint.length)
        self._free[Engine.MOVE] = op.start + self.timing.pace
        return footprint

    def in_order(self) -> list[Operation]:
        """Operations by start cycle, with ``in_flight`` filled in.

        An operation that needs transfer k allows as many under way as were started after it.
        """
        ordered = sorted(self.placed, key=lambda op: (op.start, op.engine.value))
        issued, at = 0, 0
        reads = [op.start for op in ordered if op.engine is Engine.READ]
        for op in ordered:
            while at < len(reads) and reads[at] < op.start:
                at += 1
                issued += 1
            if op.needs < 0 or op.engine is Engine.READ:
                op.fields["in_flight"] = NO_CHECK
            else:
                op.fields["in_flight"] = min(issued - op.needs - 1, NO_CHECK - 1)
        return ordered

    def stages(self) -> Sequence[Stage]:
        """Report of all stages, in the order of their ends."""
        report, last = [], 0
        for name, end in sorted(self._stage_ends.items(), key=lambda item: item[1]):
            work = self._stages[name]
            report.append(Stage(name, end - last, work["array"], work["vector"], work["memory"]))
            last = end
        return report
