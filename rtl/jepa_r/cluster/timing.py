"""When each operation touches what, relative to its start cycle: the cluster's timing contract.

These are formulas of the hardware in this room, stated once; the compiler places operations with
them, ``jepa-r wcet`` adds them up, and the benches hold the hardware to them cycle by cycle. A time
is the cycle in which a memory sees the address (reads) or the data (writes).
"""

from attrs import frozen

from ..config import ClusterConfig
from ..dma.bound import ReadBound, WriteBound
from ..tile.tile import Tile
from ..vector.unit import VectorUnit
from .cluster import make_mover, word_bytes
from .sequencer import Sequencer
from .slice import Slice
from .streams import EDGE, ISSUE

__all__ = ["ClusterTiming"]


@frozen
class ClusterTiming:
    """Constants of one cluster.

    Attributes
    ----------
    config
        The cluster.
    """

    config: ClusterConfig

    @staticmethod
    def interval(rows: int, columns: int) -> int:
        """Cycles from one pass to the next: an odd one leaves a cycle to the single-port banks."""
        return Tile.interval(rows, columns)

    @property
    def issue(self) -> int:
        """Address of the first element read: of B for the array, of a step for the lanes."""
        return ISSUE

    def a_read(self, columns: int) -> int:
        """First address of A: B's rows of the first pass go ahead of it."""
        return ISSUE + columns

    @property
    def accumulate(self) -> int:
        """From A's address to the write of its row in the accumulators."""
        return EDGE + self.config.tile.rows + self.config.tile.columns + 1

    def array_next(self, rows: int, columns: int, passes: int, next_columns: int) -> int:
        """Earliest start of the next array operation after one of this shape.

        Its B may enter with the last swap of this one, and its A must not come before this one's
        last row (nor, after an odd number of rows, in the cycle behind it).
        """
        last_swap = columns + (passes - 1) * self.interval(rows, columns)
        return last_swap + max(0, rows + rows % 2 - next_columns)

    @property
    def vector_write(self) -> int:
        """From the addresses of a step to the write of its result."""
        return Slice.write_latency

    @property
    def row_write(self) -> int:
        """From the addresses of a row's last step to the write of its scale."""
        return EDGE + VectorUnit.row_latency_of(self.config.tile.lanes)

    def read_bound(self) -> ReadBound:
        """Latest completions of transfers from memory, none of which has begun."""
        return ReadBound(words=word_bytes(self.config), contract=self.config.memory)

    def write_bound(self) -> WriteBound:
        """Latest completions of moves, none of which has begun."""
        return WriteBound(mover=make_mover(self.config), contract=self.config.memory)

    @property
    def load_delay(self) -> int:
        """From a completion to the cycle in which the sequencer may count on it.

        One register on the way of the words, and the counter of what is under way.
        """
        return 2

    @property
    def first_start(self) -> int:
        """Earliest start of the first operation: profiles come first, and a few words run ahead."""
        return Sequencer.FIRST_CYCLES + Sequencer.QUEUE_CYCLES + 12 * Sequencer.WORD_CYCLES

    @property
    def pace(self) -> int:
        """Cycles between two transfers or moves, so that they do not outrun the sequencer."""
        return Sequencer.WORD_CYCLES + 1

    @property
    def short_pace(self) -> int:
        """Cycles between two operations of the array, or of the lanes, at the least.

        Both work at once, and the sequencer has to keep up with both.
        """
        return 2 * Sequencer.WORD_CYCLES
