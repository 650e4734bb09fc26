"""Transfers from the memories of tiles to the shared memory or to memory outside."""

from amaranth import *
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from ..platform import Macro
from .axi import WINDOWS, AxiWrite, Fault, Window
from .bursts import BurstPlanner, beats_of, check_bus
from .writer import BeatWriter

__all__ = ["MoveDescriptor", "MoveSource", "Mover"]


class MoveSource(enum.Enum, shape=1):
    """Memory of a tile that is read: words of R bytes or of 2 L bytes."""

    ACT = 0
    X = 1


class MoveDescriptor(data.StructLayout):
    """A transfer from a tile.

    Members
    -------
    source : :class:`MoveSource`
        Memory that is read.
    tile : ``unsigned(4)``
        Tile that is read.
    src_addr : ``unsigned(20)``
        First word.
    words : ``unsigned(16)``
        Words in each row.
    rows : ``unsigned(16)``
        Rows.
    src_stride : ``unsigned(20)``
        Words from the start of one row to the next in the tile.
    to_shared : ``unsigned(1)``
        To the shared memory, else to memory outside.
    address : ``unsigned(32)``
        Word of the shared memory, or byte of the memory outside (a multiple of the bus width).
    stride : ``unsigned(32)``
        From the start of one row to the next there: words, or bytes (a multiple of the bus width).
    segments : ``unsigned(8)``
        To the shared memory: segments of L bytes of each word, the lowest ones; 0 for all.
    dst_seg : ``unsigned(8)``
        To the shared memory: the segment that takes segment 0; the others follow it round the word.
        Less than the segments of a word.
    """

    def __init__(self):
        super().__init__({
            "source": MoveSource,
            "tile": 4,
            "src_addr": 20,
            "words": 16,
            "rows": 16,
            "src_stride": 20,
            "to_shared": 1,
            "address": 32,
            "stride": 32,
            "segments": 8,
            "dst_seg": 8,
        })


class Mover(Macro):
    """Move words of one tile's memories, one transfer after another.

    To the shared memory a word goes every cycle, and :meth:`shared_cycles` is exact. To memory
    outside, words are packed as :class:`~.DmaReader` unpacks them, padding is zero, and a transfer
    is complete when its last burst was answered; :class:`jepa_r.dma.bound.WriteBound` says when
    that is at the latest.

    Parameters
    ----------
    row_bytes : :class:`int`
        Bytes R of a word of ACT and of the shared memory.
    lanes : :class:`int`, divides ``row_bytes``
        Lanes L: bytes of a segment; words of X have 2 L bytes.
    data_bytes : :class:`int`, a power of two in 4..128
        Bytes D of a beat.
    burst_beats : :class:`int`
        Longest burst.
    outstanding : :class:`int`
        Bursts under way at once.
    read_latency : :class:`int`, positive
        Cycles from ``r_en`` to ``r_data``.
    queue : :class:`int`
        Transfers accepted and not begun; ``i`` is not ready while there are so many.
    address_bits : :class:`int`
        Width of addresses on the bus. Windows must lie within.

    Members
    -------
    i : ``In(stream.Signature(MoveDescriptor()))``
        Transfers. They are done strictly in order.
    windows : ``In(data.ArrayLayout(Window(), WINDOWS))``
        Addresses that may be written; steady while transfers are under way.
    stop : ``In(1)``
        Something else went wrong: from here on as after a fault, which is not told.
    r_en, r_source, r_tile, r_addr : ``Out(1)``, ``Out(MoveSource)``, ``Out(4)``, ``Out(20)``
        Read a word of a tile.
    r_data : ``In(8 * max(row_bytes, 2 * lanes))``
        The word, in the low bits, ``read_latency`` cycles later.
    sw_en, sw_addr, sw_data : ``Out(row_bytes // lanes)``, ``Out(20)``, ``Out(8 * row_bytes)``
        Write segments of a word of the shared memory.
    sw_out : ``Out(1)``
        With ``sw_en``: the transfer's address has bits above the 20 of ``sw_addr``. The word is not
        the shared memory's, but one of the memory behind it.
    axi : ``Out(AxiWrite(data_bytes=data_bytes))``
        Memory.
    completed : ``Out(1)``
        Pulse: all words of the next transfer are written. A read of the shared memory that starts
        in this cycle sees them.
    fault : ``Out(1)``
        Pulse: transfers have stopped. Nothing completes any more until reset.
    fault_code : ``Out(Fault)``
        Why, with ``fault`` and after it.

    Raises
    ------
    :exc:`ValueError`
        If the bus cannot be (:func:`jepa_r.dma.bursts.check_bus`), ``lanes`` does not divide
        ``row_bytes``, or ``read_latency`` or ``queue`` is not positive.
    """

    #: Cycles from a transfer on ``i`` to its begin, if none is under way.
    BEGIN = 2

    #: Cycles from its begin until its first burst may be asked for.
    REQUEST = BurstPlanner.FIRST + 2

    #: Cycles from its begin until its first beat may leave, above those of reading and packing.
    PACK = 3

    #: Cycles from the last answer to ``completed``.
    COMPLETE = 2

    def __init__(
        self, *, row_bytes, lanes, data_bytes, burst_beats=16, outstanding=8, read_latency=3,
        queue=2, address_bits=32,
    ):  # fmt: skip
        check_bus(
            data_bytes=data_bytes,
            burst_beats=burst_beats,
            outstanding=outstanding,
            address_bits=address_bits,
        )
        if lanes < 1 or row_bytes % lanes:
            raise ValueError(f"lanes is {lanes}; it must divide row_bytes, which is {row_bytes}")
        if read_latency < 1:
            raise ValueError(f"read_latency is {read_latency}; it must be at least 1")
        if queue < 1:
            raise ValueError(f"queue is {queue}; it must hold at least one transfer")
        self._sizes = {MoveSource.ACT: row_bytes, MoveSource.X: 2 * lanes}
        self._lanes = lanes
        self._data_bytes = data_bytes
        self._burst_beats = burst_beats
        self._outstanding = outstanding
        self._read_latency = read_latency
        self._queue = queue
        super().__init__(
            {
                "i": In(stream.Signature(MoveDescriptor())),
                "windows": In(data.ArrayLayout(Window(), WINDOWS)),
                "stop": In(1),
                "r_en": Out(1),
                "r_source": Out(MoveSource),
                "r_tile": Out(4),
                "r_addr": Out(20),
                "r_data": In(8 * max(row_bytes, 2 * lanes)),
                "sw_en": Out(row_bytes // lanes),
                "sw_addr": Out(20),
                "sw_out": Out(1),
                "sw_data": Out(8 * row_bytes),
                "axi": Out(AxiWrite(data_bytes=data_bytes, address_bits=address_bits)),
                "completed": Out(1),
                "fault": Out(1),
                "fault_code": Out(Fault),
            },
            macro_name=f"mover_{row_bytes}x{lanes}_{data_bytes}x{burst_beats}_{outstanding}_{read_latency}_{queue}",
        )

    @property
    def read_latency(self):
        return self._read_latency

    def word_bytes(self, source):
        """Bytes of a word of a :class:`MoveSource`."""
        return self._sizes[MoveSource(source)]

    def shared_cycles(self, *, words, rows):
        """Cycles from a transfer on ``i`` to ``completed``, if none is under way."""
        return self.BEGIN + words * rows + self._read_latency + 2

    def build(self, platform):
        m = Module()

        m.submodules.queue = queue = SyncFIFOBuffered(
            width=MoveDescriptor().size, depth=self._queue
        )
        m.d.comb += [
            queue.w_data.eq(self.i.payload),
            queue.w_en.eq(self.i.valid),
            self.i.ready.eq(queue.w_rdy),
        ]
        waiting = MoveDescriptor()(queue.r_data)
        move = Signal(MoveDescriptor(), reset_less=True)
        begin = Signal()
        done = Signal()
        read = Signal()
        faulted = Signal()
        wrong = Signal(Fault)

        row = Signal(20, reset_less=True)
        target_row = Signal(20, reset_less=True)
        target = Signal(20, reset_less=True)
        left = Signal(16, reset_less=True)
        rows = Signal(16, reset_less=True)
        reading = Signal()
        last_word = Signal()
        m.d.comb += [
            last_word.eq((left == 1) & (rows == 1)),
            self.r_en.eq(read),
            self.r_source.eq(move.source),
            self.r_tile.eq(move.tile),
        ]
        with m.If(begin):
            m.d.sync += [
                move.eq(waiting),
                self.r_addr.eq(waiting.src_addr),
                row.eq(waiting.src_addr),
                target.eq(waiting.address),
                target_row.eq(waiting.address),
                left.eq(waiting.words),
                rows.eq(waiting.rows),
                reading.eq(1),
            ]
        with m.Elif(read):
            m.d.sync += [
                left.eq(left - 1),
                self.r_addr.eq(self.r_addr + 1),
                target.eq(target + 1),
                reading.eq(~last_word),
            ]
            with m.If(left == 1):
                m.d.sync += [
                    left.eq(move.words),
                    rows.eq(rows - 1),
                    row.eq(row + move.src_stride),
                    self.r_addr.eq(row + move.src_stride),
                    target_row.eq(target_row + move.stride),
                    target.eq(target_row + move.stride),
                ]

        # What travels beside a read until its data come.
        coming = Signal(data.StructLayout({"valid": 1, "last": 1, "target": 20}))
        arrived = coming
        m.d.comb += [coming.valid.eq(read), coming.last.eq(last_word), coming.target.eq(target)]
        for n in range(self._read_latency):
            step = Signal.like(coming, name=f"coming_{n}")
            m.d.sync += step.eq(arrived)
            arrived = step

        shared_done = Signal()
        written = Signal()
        m.d.comb += written.eq(arrived.valid & move.to_shared)
        m.d.sync += [
            self.sw_en.eq(Mux(written & ~faulted, self._segments_of(m, move), 0)),
            self.sw_addr.eq(arrived.target),
            self.sw_out.eq(move.address[len(self.sw_addr) :].any()),
            self.sw_data.eq(self._rotated(m, move)),
            shared_done.eq(written & arrived.last),
        ]

        beats = {
            source: beats_of(move.words, word_bytes=size, data_bytes=self._data_bytes)
            for source, size in self._sizes.items()
        }
        m.submodules.writer = writer = BeatWriter(
            data_bytes=self._data_bytes,
            burst_beats=self._burst_beats,
            outstanding=self._outstanding,
            address_bits=len(self.axi.awaddr),
            sizes={source.value: size for source, size in self._sizes.items()},
            read_latency=self._read_latency,
            beats_width=max(len(value) for value in beats.values()),
        )
        wiring.connect(m, wiring.flipped(self.axi), writer.axi)
        started = Signal()
        m.d.sync += started.eq(begin)
        m.d.comb += [
            writer.windows.eq(self.windows),
            writer.stop.eq(faulted),
            writer.kind.eq(move.source),
            writer.words.eq(move.words),
            writer.begin.eq(started),
            writer.ask.eq(read & ~move.to_shared),
            writer.word_en.eq(arrived.valid & ~move.to_shared),
            writer.word.eq(self.r_data),
            writer.block.payload.address.eq(move.address),
            writer.block.payload.stride.eq(move.stride),
            writer.block.payload.rows.eq(move.rows),
            writer.block.payload.beats.eq(
                Mux(move.source == MoveSource.X, beats[MoveSource.X], beats[MoveSource.ACT])
            ),
        ]

        with m.FSM():
            with m.State("IDLE"):
                with m.If(queue.r_rdy & ~faulted):
                    m.d.comb += [begin.eq(1), queue.r_en.eq(1)]
                    m.next = "MEMORY"
                    with m.If(waiting.to_shared):
                        m.next = "SHARED"
                    parts = len(self.sw_en)
                    with m.If(
                        (waiting.words == 0) | (waiting.rows == 0)
                        | (waiting.to_shared
                           & ((waiting.segments > parts) | (waiting.dst_seg >= parts)))
                    ):  # fmt: skip
                        m.d.comb += wrong.eq(Fault.WINDOW)
                        m.next = "STOPPED"
            with m.State("SHARED"):
                m.d.comb += [read.eq(reading), done.eq(shared_done)]
                with m.If(done):
                    m.next = "IDLE"
            with m.State("MEMORY"):
                m.d.comb += [writer.block.valid.eq(~started), read.eq(reading & writer.room)]
                with m.If(writer.block.valid & writer.block.ready):
                    m.next = "ANSWERS"
            with m.State("ANSWERS"):
                m.d.comb += [read.eq(reading & writer.room), done.eq(writer.done)]
                with m.If(done):
                    m.next = "IDLE"

            with m.State("STOPPED"):
                pass

        with m.If(writer.refused):
            m.d.comb += wrong.eq(Fault.BUS)
        with m.Elif(writer.outside):
            m.d.comb += wrong.eq(Fault.WINDOW)
        m.d.sync += [self.fault.eq(0), self.completed.eq(done & ~faulted & (wrong == Fault.NONE))]
        with m.If((wrong != Fault.NONE) & ~faulted):
            m.d.sync += [faulted.eq(1), self.fault.eq(1), self.fault_code.eq(wrong)]
        with m.If(self.stop):
            m.d.sync += faulted.eq(1)

        return m

    def _segments_of(self, m, move):
        """Segments of the shared word that a transfer writes."""
        count = len(self.sw_en)
        lowest = Signal(count)
        m.d.comb += lowest.eq((1 << move.segments[: count.bit_length()]) - 1)
        with m.If(move.segments == 0):
            m.d.comb += lowest.eq(~0)
        return _rotate(m, lowest, move.dst_seg, count, name="enables")

    def _rotated(self, m, move):
        """The word that was read, at its place in the shared word."""
        word = Signal(len(self.sw_data))
        m.d.comb += word.eq(self.r_data)
        return _rotate(m, word, move.dst_seg, len(self.sw_en), name="rotated")


def _rotate(m, value, places, count, *, name):
    """Rotate a word of ``count`` parts towards its high end."""
    rotated = Signal(len(value), name=name)
    with m.Switch(places):
        for n in range(count):
            with m.Case(n):
                m.d.comb += rotated.eq(value.rotate_left(n * len(value) // count))
    return rotated
