"""The check that every address lies inside its memory."""

from amaranth import *
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..dma.mover import MoveSource
from ..platform import Macro
from ..vector.layouts import Mode, Second, Stat, VectorStep
from .isa import ADDRESS, Destination, Other, Result, Source
from .streams import ArrayEdge, ArrayReads, VectorReads, VectorWrites

__all__ = ["AddressCheck"]

#: Words of the lanes' table.
_TABLE_WORDS = 64


class AddressCheck(Macro):
    """Tell of every access that lies outside its memory, or goes to a tile that does not exist.

    A memory takes the low bits of an address and would answer with another word; all addresses of a
    cluster are broadcast, so one check holds for all tiles. Addresses of operands that an operation
    does not use are not looked at.

    Parameters
    ----------
    config : :class:`jepa_r.config.ClusterConfig`
        Sizes.
    name : :class:`str`
        Name of the cluster on a chip that has two, which the Verilog module carries.

    Members
    -------
    array_reads, array_edge, vector_reads, step, writes
        As :class:`~jepa_r.cluster.streams.ArrayStream` and
        :class:`~jepa_r.cluster.streams.VectorStream` give them.
    load_en, load_dest, load_addr, load_tiles : ``In(1)``, ``In(Destination)``, ``In(20)``, ``In(16)``
        Words from memory.
    booting : ``In(1)``
        These may go to the program memory.
    move_en, move_source, move_tile, move_addr : ``In(1)``, ``In(MoveSource)``, ``In(4)``, ``In(20)``
        Reads of the mover.
    shared_en, shared_addr : ``In(1)``, ``In(20)``
        Its writes to the shared memory.
    outside : ``Out(1)``
        Pulse, :attr:`LATENCY` cycles later.
    """  # noqa: E501 (a member's shape does not break)

    #: Cycles from an address to ``outside``.
    LATENCY = 2

    def __init__(self, *, config, name=""):
        self._config = config
        super().__init__(
            {
                "array_reads": In(ArrayReads),
                "array_edge": In(ArrayEdge),
                "vector_reads": In(VectorReads),
                "step": In(VectorStep()),
                "writes": In(VectorWrites),
                "load_en": In(1),
                "load_dest": In(Destination),
                "load_addr": In(ADDRESS),
                "load_tiles": In(16),
                "booting": In(1),
                "move_en": In(1),
                "move_source": In(MoveSource),
                "move_tile": In(4),
                "move_addr": In(ADDRESS),
                "shared_en": In(1),
                "shared_addr": In(ADDRESS),
                "outside": Out(1),
            },
            macro_name="_".join(filter(None, (name, "addresses"))),
        )

    def build(self, platform):
        m = Module()
        config, tile = self._config, self._config.tile
        parts = tile.rows // tile.lanes

        def act(address):
            return _beyond(address, tile.act_words, tile.act_banks)

        def shared(address):
            return _beyond(address, config.shared.bank_words, config.shared.banks)

        def x(address):
            return _beyond(address, tile.x_words)

        reads, edge = self.array_reads, self.array_edge
        wrong = [
            reads.a_en & Mux(reads.a_shared, shared(reads.a_addr), act(reads.a_addr)),
            reads.b_en & Mux(reads.b_shared, shared(reads.b_addr), act(reads.b_addr)),
            edge.a_valid & (edge.acc_row >= tile.acc_rows),
        ]

        vector, step, writes = self.vector_reads, self.step, self.writes
        scaled = (step.mode == Mode.NORM) | (step.mode == Mode.EXP)
        columns = (step.mode == Mode.REQUANT) | (step.second == Second.COLUMN)
        gathered = (step.stat == Stat.MAX) | (step.stat == Stat.MOMENTS) | (step.stat == Stat.SUM)
        wrong += [
            vector.en & used
            for used in (
                (vector.source == Source.ACC)
                & ((vector.src_addr >= tile.acc_rows)
                   | (vector.src_seg >= tile.columns // tile.lanes)),
                (vector.source == Source.X) & x(vector.src_addr),
                (vector.source == Source.ACT) & (act(vector.src_addr) | (vector.src_seg >= parts)),
                (vector.other == Other.X) & x(vector.other_addr),
                (vector.other == Other.ACT)
                & (act(vector.other_addr) | (vector.other_seg >= parts)),
                columns & _beyond(vector.param_addr, config.shared.param_words),
                (step.second == Second.ROTATE) & _beyond(vector.rope_addr, tile.rope_words),
                scaled & (vector.row_addr >= tile.row_entries),
                gathered & (step.stat_row >= tile.row_entries),
            )
        ]  # fmt: skip
        wrong += [
            (writes.result == Result.ACT) & (act(writes.addr) | (writes.seg >= parts)),
            (writes.result == Result.X) & x(writes.addr),
        ]

        own = Signal()
        outside_of = {
            Destination.SHARED: shared(self.load_addr),
            Destination.PARAM: _beyond(self.load_addr, config.shared.param_words),
            Destination.ACT: act(self.load_addr),
            Destination.ROPE: _beyond(self.load_addr, tile.rope_words),
            Destination.TABLE: _beyond(self.load_addr, _TABLE_WORDS),
            Destination.X: x(self.load_addr),
            Destination.PROGRAM: ~self.booting
            | _beyond(self.load_addr, config.program_words),
            Destination.HEADER: ~self.booting | (self.load_addr != 0),
        }  # fmt: skip
        beyond = Signal()
        with m.Switch(self.load_dest):
            for destination, outside in outside_of.items():
                with m.Case(destination):
                    m.d.comb += beyond.eq(outside)
        for destination in (Destination.ACT, Destination.ROPE, Destination.TABLE, Destination.X):
            with m.If(self.load_dest == destination):
                m.d.comb += own.eq(1)
        wrong += [
            self.load_en & beyond,
            self.load_en & own & (self.load_tiles >> config.tiles).any(),
            self.move_en
            & (Mux(self.move_source == MoveSource.X, x(self.move_addr), act(self.move_addr))
               | (self.move_tile >= config.tiles)),
            self.shared_en & shared(self.shared_addr),
        ]  # fmt: skip

        found = Signal(len(wrong))
        m.d.sync += [found.eq(Cat(wrong)), self.outside.eq(found.any())]
        return m


def _beyond(address, words, banks=1):
    """Whether an address lies outside ``banks`` of ``words``, which begin at powers of two."""
    log = ceil_log2(words)
    beyond = address >= banks << log
    return beyond if words == 1 << log else beyond | (address[:log] >= words)
