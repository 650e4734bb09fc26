"""Address generators: what a cluster's tiles read and write, cycle by cycle.

There is one set for all tiles, since they work in lockstep; the slices get the same addresses and
differ only in their memories' contents.
"""

from amaranth import *
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from ..fabric.delay import delay
from ..memory.sram import Sram
from ..platform import Macro
from ..vector.layouts import VectorStep
from .isa import ADDRESS, LAYOUTS, Engine, Other, Result, Source

__all__ = [
    "EDGE", "ISSUE", "ArrayEdge", "ArrayReads", "ArrayStream", "VectorReads", "VectorStream",
    "VectorWrites",
]  # fmt: skip

#: Cycles from an address to the operand at the array or the lanes: the memory, and a register
#: behind the multiplexer of banks and sources.
EDGE = Sram.READ_LATENCY + 1

#: Cycles from an operation's start to its first address: a register behind the counters sends the
#: addresses to all slices at once.
ISSUE = 2

#: What the array reads in a cycle.
ArrayReads = data.StructLayout({
    "a_en": 1,
    "a_shared": 1,
    "a_addr": ADDRESS,
    "b_en": 1,
    "b_shared": 1,
    "b_addr": ADDRESS,
})

#: What goes with the operands, :data:`EDGE` cycles later.
ArrayEdge = data.StructLayout({
    "a_valid": 1,
    "swap": 1,
    "b_rows": 9,
    "acc_half": 1,
    "acc_row": 13,
    "acc_add": 1,
    "b_valid": 1,
})

#: What the lanes read in a cycle. ``seg`` selects L elements of a word.
VectorReads = data.StructLayout({
    "en": 1,
    "source": Source,
    "src_half": 1,
    "src_addr": ADDRESS,
    "src_seg": 8,
    "other": Other,
    "other_addr": ADDRESS,
    "other_seg": 8,
    "param_addr": 18,
    "rope_addr": ADDRESS,
    "row_addr": 12,
})

#: Where a step's result goes.
VectorWrites = data.StructLayout({"result": Result, "addr": ADDRESS, "seg": 8})

#: Last of what an operation counts, from zero: comparing with it takes no addition.
_LAST = data.StructLayout({"rows": 13, "columns": 13, "passes": 13, "interval": 13})


class ArrayStream(Macro):
    """Reads the operands of a chain of passes.

    B's rows of the first pass are read from :data:`ISSUE` cycles after ``start``; A follows N
    cycles later, and the next pass's B is read while A streams. The next operation may start as
    soon as its B may enter the array, while the last A of this one is still read.

    Parameters
    ----------
    rows : :class:`int`
        Rows R of the array.

    Members
    -------
    start : ``In(1)``
        Begin; ``operation`` is valid in this cycle only.
    operation : ``In(LAYOUTS[Engine.TILE])``
        What to do.
    reads : ``Out(ArrayReads)``
        Addresses.
    a_mask : ``Out(rows)``
        Bytes of A's word that count, with the data as they leave the memory.
    edge : ``Out(ArrayEdge)``
        Control that goes with the operands into the array.
    collision : ``Out(1)``
        A cycle later: an operation was started while rows of this one's B or A are still to be
        read. A start between its last row of B and its last swap is not seen here: the tile then
        finds a wrong number of rows at a swap.
    """

    def __init__(self, *, rows):
        self._rows = rows
        super().__init__(
            {
                "start": In(1),
                "operation": In(LAYOUTS[Engine.TILE]),
                "reads": Out(ArrayReads),
                "a_mask": Out(rows),
                "edge": Out(ArrayEdge),
                "collision": Out(1),
            },
            macro_name=f"array_stream_{rows}",
        )

    def build(self, platform):
        m = Module()
        op = self.operation

        # The B side. `b_op` is handed to the A side when the first pass's B has been read.
        b_op = Signal(LAYOUTS[Engine.TILE], reset_less=True)
        b_last = Signal(_LAST, reset_less=True)
        b_active = Signal()
        b_first = Signal()
        b_count = Signal(13, reset_less=True)
        b_pass = Signal(13, reset_less=True)
        b_base = Signal(ADDRESS, reset_less=True)
        b_window = Signal(13)
        b_end, b_over, b_reading, b_only = Signal(), Signal(), Signal(), Signal()
        early = Signal()
        m.d.comb += [
            b_window.eq(Mux(b_first, b_last.columns, b_last.interval)),
            b_reading.eq(b_active & (b_count < b_op.columns)),
            b_end.eq(b_active & (b_count == b_window)),
            b_only.eq(b_pass == b_last.passes),
            # The last pass's B ends with its last row, the others with the window.
            b_over.eq(b_active & b_only & (b_count == b_last.columns)),
            early.eq(self.start & b_active & ~b_over),
        ]
        m.d.sync += self.collision.eq(early)
        with m.If(b_active):
            m.d.sync += b_count.eq(b_count + 1)
            with m.If(b_over):
                m.d.sync += b_active.eq(0)
            with m.Elif(b_end):
                m.d.sync += [
                    b_count.eq(0), b_pass.eq(b_pass + 1), b_first.eq(0),
                    b_base.eq(b_base + b_op.b_stride),
                ]  # fmt: skip
        with m.If(self.start):
            m.d.sync += [
                b_op.eq(op), b_active.eq(1), b_first.eq(1), b_count.eq(0), b_pass.eq(0),
                b_base.eq(op.b_addr), *(b_last[name].eq(op[name] - 1) for name in _LAST.members),
            ]  # fmt: skip

        # The A side, a window of `interval` cycles for each pass.
        a_op = Signal(LAYOUTS[Engine.TILE], reset_less=True)
        a_last = Signal(_LAST, reset_less=True)
        a_active = Signal()
        a_count = Signal(13, reset_less=True)
        a_pass = Signal(13, reset_less=True)
        a_base = Signal(ADDRESS, reset_less=True)
        a_reading, a_only, a_over, hand_over = (
            Signal(name=name) for name in ("a_reading", "a_only", "a_over", "hand_over")
        )
        m.d.comb += [
            hand_over.eq(b_active & b_first & (b_count == b_last.columns)),
            a_reading.eq(a_active & (a_count < a_op.rows)),
            a_only.eq(a_pass == a_last.passes),
            a_over.eq(a_only & (a_count == a_last.rows)),
        ]
        with m.If(a_active):
            m.d.sync += a_count.eq(a_count + 1)
            with m.If(a_over):
                m.d.sync += a_active.eq(0)
            with m.Elif(a_count == a_last.interval):
                m.d.sync += [
                    a_count.eq(0), a_pass.eq(a_pass + 1), a_base.eq(a_base + a_op.a_stride),
                ]  # fmt: skip
        with m.If(hand_over):
            m.d.sync += [
                a_op.eq(b_op), a_last.eq(b_last), a_active.eq(1), a_count.eq(0), a_pass.eq(0),
                a_base.eq(b_op.a_addr),
            ]  # fmt: skip
            with m.If(a_active & ~a_over):
                m.d.comb += early.eq(1)

        m.d.sync += [
            self.reads.a_en.eq(a_reading),
            self.reads.a_shared.eq(a_op.a_shared),
            self.reads.a_addr.eq(a_base + a_count),
            self.reads.b_en.eq(b_reading),
            self.reads.b_shared.eq(b_op.b_shared),
            self.reads.b_addr.eq(b_base + b_count),
        ]

        edge = Signal(ArrayEdge)
        m.d.comb += [
            edge.a_valid.eq(a_reading),
            edge.swap.eq(a_reading & (a_count == 0)),
            edge.b_rows.eq(a_op.columns),
            edge.acc_half.eq(a_op.acc_half),
            edge.acc_row.eq(a_op.acc_row + a_count),
            edge.acc_add.eq(a_op.acc_add | (a_pass != 0)),
            edge.b_valid.eq(b_reading),
        ]
        m.d.comb += self.edge.eq(delay(m, edge, EDGE + 1, reset_less=False, name="edge"))

        # A thermometer of each bound, registered before the two are joined.
        low, high = Signal(9), Signal(9)
        m.d.comb += [
            low.eq(Mux(a_pass == 0, a_op.k_first, 0)),
            high.eq(Mux(a_only, a_op.k_last, self._rows)),
        ]
        low, high = (delay(m, x, EDGE - 1, name=f"bound_{n}") for n, x in enumerate((low, high)))
        mask = Signal(self._rows)
        m.d.comb += mask.eq(Cat((low <= k) & (high > k) for k in range(self._rows)))
        m.d.sync += self.a_mask.eq(mask)
        return m


class VectorStream(Macro):
    """Walks the rows and segments of a vector operation, a step a cycle.

    The first step is read :data:`ISSUE` cycles after ``start``; an operation of S steps takes S
    cycles, and the next may start S cycles after it.

    Parameters
    ----------
    segments : :class:`int`
        Segments of L bytes in a word of R bytes.

    Members
    -------
    start : ``In(1)``
        Begin; ``operation`` is valid in this cycle only.
    operation : ``In(LAYOUTS[Engine.VECTOR])``
        What to do.
    reads : ``Out(VectorReads)``
        Addresses.
    step : ``Out(VectorStep())``
        Settings of the lanes, in the same cycle as ``reads``.
    writes : ``Out(VectorWrites)``
        Where the result will go, in the same cycle.
    clear : ``Out(1)``
        The distance starts from zero.
    collision : ``Out(1)``
        A cycle later: an operation was started too early, and is lost.
    """

    def __init__(self, *, segments):
        self._segments = segments
        super().__init__(
            {
                "start": In(1),
                "operation": In(LAYOUTS[Engine.VECTOR]),
                "reads": Out(VectorReads),
                "step": Out(VectorStep()),
                "writes": Out(VectorWrites),
                "clear": Out(1),
                "collision": Out(1),
            },
            macro_name=f"vector_stream_{segments}",
        )

    def build(self, platform):
        m = Module()
        op = Signal(LAYOUTS[Engine.VECTOR], reset_less=True)
        active = Signal()
        row, segment = Signal(13), Signal(13)
        # Last ones, as above.
        last = Signal(
            data.StructLayout({"segments": 13, "rows": 13, "rope_period": 8}), reset_less=True
        )
        row_end, end = Signal(), Signal()
        m.d.comb += [
            row_end.eq(segment == last.segments),
            end.eq(row_end & (row == last.rows)),
        ]
        m.d.sync += self.collision.eq(self.start & active & ~end)
        with m.If(active):
            m.d.sync += segment.eq(segment + 1)
            with m.If(row_end):
                m.d.sync += [segment.eq(0), row.eq(row + 1)]
            with m.If(end):
                m.d.sync += active.eq(0)
        with m.If(self.start):
            m.d.sync += [op.eq(self.operation), active.eq(1), row.eq(0), segment.eq(0)]
            for name in last.shape().members:
                m.d.sync += last[name].eq(self.operation[name] - 1)

        def walk(name, *, base, row_step, segment=None, word_step=None, linear, still=None):
            """Counters of one operand, as (word, segment in the word).

            ``linear``: a word for each segment; ``still``: the word stays and the segment counts.
            """
            start = Signal(ADDRESS, reset_less=True, name=f"{name}_row")
            word = Signal(ADDRESS, reset_less=True, name=f"{name}_word")
            seg = Signal(8, reset_less=True, name=f"{name}_segment")
            first = 0 if segment is None else op[segment]
            still = C(0) if still is None else still
            wrap = Signal(name=f"{name}_wrap")
            m.d.comb += wrap.eq(~still & (seg == self._segments - 1))
            with m.If(row_end):
                m.d.sync += [start.eq(start + op[row_step]), word.eq(start + op[row_step]),
                             seg.eq(first)]  # fmt: skip
            with m.Elif(linear):
                m.d.sync += word.eq(word + 1)
            with m.Elif(wrap):
                m.d.sync += [seg.eq(0)]
                if word_step is not None:
                    m.d.sync += word.eq(word + op[word_step])
            with m.Else():
                m.d.sync += seg.eq(seg + 1)
            with m.If(self.start):
                given = self.operation
                m.d.sync += [start.eq(given[base]), word.eq(given[base]),
                             seg.eq(0 if segment is None else given[segment])]  # fmt: skip
            return word, seg

        src_word, src_seg = walk(
            "src", base="src_addr", row_step="src_row", segment="src_seg", word_step="src_step",
            linear=op.source == Source.X, still=op.source == Source.ACC,
        )  # fmt: skip
        dst_word, dst_seg = walk(
            "dst", base="dst_addr", row_step="dst_row", segment="dst_seg", word_step="dst_step",
            linear=op.result == Result.X,
        )  # fmt: skip
        other_word, other_seg = walk(
            "other", base="other_addr", row_step="other_row", segment="dst_seg",
            word_step="dst_step", linear=op.other == Other.X,
        )  # fmt: skip

        param = Signal(18, reset_less=True)
        m.d.sync += param.eq(Mux(row_end, op.param_addr, param + op.param_step))
        rope_base = Signal(ADDRESS, reset_less=True)
        rope_seg = Signal(8, reset_less=True)
        with m.If(row_end):
            m.d.sync += [rope_base.eq(rope_base + op.rope_row), rope_seg.eq(op.rope_seg)]
        with m.Elif(rope_seg == last.rope_period):
            m.d.sync += rope_seg.eq(0)
        with m.Else():
            m.d.sync += rope_seg.eq(rope_seg + 1)
        with m.If(self.start):
            m.d.sync += [
                param.eq(self.operation.param_addr),
                rope_base.eq(self.operation.rope_addr),
                rope_seg.eq(self.operation.rope_seg),
            ]

        m.d.sync += [
            self.reads.en.eq(active),
            self.reads.source.eq(op.source),
            self.reads.src_half.eq(op.src_half),
            self.reads.src_addr.eq(src_word),
            self.reads.src_seg.eq(src_seg),
            self.reads.other.eq(op.other),
            self.reads.other_addr.eq(other_word),
            self.reads.other_seg.eq(other_seg),
            self.reads.param_addr.eq(param),
            self.reads.rope_addr.eq(rope_base + rope_seg),
            self.reads.row_addr.eq(op.row_addr + row),
            self.writes.result.eq(Mux(active, op.result, Result.NONE)),
            self.writes.addr.eq(dst_word),
            self.writes.seg.eq(dst_seg),
            self.clear.eq(active & op.clear & (row == 0) & (segment == 0)),
            self.step.valid.eq(active),
            self.step.first_seg.eq(segment == 0),
            self.step.last_seg.eq(row_end),
            self.step.stat_row.eq(op.stat_row + row),
        ]
        m.d.sync += [
            Value.cast(self.step[field]).eq(Value.cast(op[field]))
            for field in ("mode", "pre", "second", "shift2", "wide", "table", "stat", "stat_first",
                          "stat_last", "profile")
        ]  # fmt: skip
        return m
