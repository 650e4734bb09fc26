"""Transfers from memory to the chip."""

from amaranth import *
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from ..fabric.crc import Crc32
from ..fabric.ring import after
from ..platform import Macro
from .axi import WINDOWS, AxiRead, Fault, Response, Window
from .bursts import BurstPlanner, beats_of, check_bus

__all__ = ["DmaReader", "ReadDescriptor"]


class ReadDescriptor(data.StructLayout):
    """A transfer from memory to the chip.

    Members
    -------
    address : ``unsigned(32)``
        Of the first byte; a multiple of the bus width.
    words : ``unsigned(16)``
        Destination words in each row of memory.
    rows : ``unsigned(16)``
        Rows.
    stride : ``unsigned(32)``
        Bytes from the start of one row to the next; a multiple of the bus width.
    dest : ``unsigned(3)``
        Where to.
    dest_addr : ``unsigned(20)``
        Of the first word; addresses run on over all rows.
    tiles : ``unsigned(16)``
        Mask of the tiles that take the words.
    crc : ``unsigned(1)``
        Behind the last row is one more beat, whose first four bytes are the CRC-32 of all others.
    """

    def __init__(self):
        super().__init__({
            "address": 32,
            "words": 16,
            "rows": 16,
            "stride": 32,
            "dest": 3,
            "dest_addr": 20,
            "tiles": 16,
            "crc": 1,
        })


class DmaReader(Macro):
    """Read strided blocks of memory and write them to the memories of a cluster.

    Packing: a row of memory begins on a beat. Words that are no wider than a beat share one, as
    many as fit, from its low bytes up, and the rest of it is padding; such a beat takes as many
    cycles as it has words. A wider word takes several beats, with padding at its end.

    Words are written as they arrive, in order; those of a damaged block have been written before
    its sum is known, but it is never completed. The bursts of the next transfer are asked for while
    data of this one still arrive. :class:`jepa_r.dma.bound.ReadBound` says when a transfer is
    complete at the latest.

    Parameters
    ----------
    data_bytes : :class:`int`, a power of two in 4..128
        Bytes D of a beat.
    words : :class:`dict` from :class:`int` to :class:`int`
        Bytes of a word of each destination, 0..7; numbers that are missing do not exist.
    burst_beats : :class:`int`
        Longest burst.
    outstanding : :class:`int`
        Bursts under way at once.
    queue : :class:`int`
        Transfers accepted and not finished; ``i`` is not ready while there are so many.
    address_bits : :class:`int`
        Width of addresses on the bus. Windows must lie within.

    Members
    -------
    i : ``In(stream.Signature(ReadDescriptor()))``
        Transfers. They are done strictly in order.
    windows : ``In(data.ArrayLayout(Window(), WINDOWS))``
        Addresses that may be read; steady while transfers are under way.
    stop : ``In(1)``
        Something else went wrong: from here on as after a fault, which is not told.
    axi : ``Out(AxiRead(data_bytes=data_bytes))``
        Memory. ``rlast`` is trusted; an answer that nothing asked for is a bus fault.
    w_en, w_dest, w_addr, w_tiles : ``Out(1)``, ``Out(3)``, ``Out(20)``, ``Out(16)``
        A word for a destination.
    w_data : ``Out(8 * max(words.values()))``
        The word, in the low bits.
    completed : ``Out(1)``
        Pulse: all words of the next transfer are written, and its sum was right. A memory read that
        starts in this cycle sees them. It comes :attr:`COMPLETE` cycles after the last beat has
        been taken apart, with a sum or without.
    fault : ``Out(1)``
        Pulse: transfers have stopped. Nothing is written or completed any more until reset.
    fault_code : ``Out(Fault)``
        Why, with ``fault`` and after it.

    Raises
    ------
    :exc:`ValueError`
        If the bus cannot be (:func:`jepa_r.dma.bursts.check_bus`), ``queue`` is not positive, or a
        destination's number or word size is out of range.
    """

    #: Cycles from a transfer on ``i`` to its first request on the bus, if none is under way.
    START = BurstPlanner.FIRST + 3

    #: Cycles from the last beat of a burst to a request that waited for it.
    RELEASE = 2

    #: Cycles from the last word of a transfer, or its sum, to ``completed``.
    COMPLETE = Crc32.LATENCY + 1

    def __init__(
        self, *, data_bytes, words, burst_beats=16, outstanding=8, queue=4, address_bits=32
    ):
        check_bus(
            data_bytes=data_bytes,
            burst_beats=burst_beats,
            outstanding=outstanding,
            address_bits=address_bits,
        )
        if queue < 1:
            raise ValueError(f"queue is {queue}; it must hold at least one transfer")
        for dest, word_bytes in words.items():
            if not 0 <= dest < 8:
                raise ValueError(f"words has destination {dest}; they are numbered 0 to 7")
            if word_bytes < 1:
                raise ValueError(f"words[{dest}] is {word_bytes}; a word has at least one byte")
        self._data_bytes = data_bytes
        self._words = dict(words)
        self._burst_beats = burst_beats
        self._outstanding = outstanding
        self._queue = queue
        # A word's bytes, destination by destination.
        sizes = "_".join(str(words.get(dest, 0)) for dest in range(8))
        super().__init__(
            {
                "i": In(stream.Signature(ReadDescriptor())),
                "windows": In(data.ArrayLayout(Window(), WINDOWS)),
                "stop": In(1),
                "axi": Out(AxiRead(data_bytes=data_bytes, address_bits=address_bits)),
                "w_en": Out(1),
                "w_dest": Out(3),
                "w_addr": Out(20),
                "w_tiles": Out(16),
                "w_data": Out(8 * max(self._words.values())),
                "completed": Out(1),
                "fault": Out(1),
                "fault_code": Out(Fault),
            },
            macro_name=f"dma_reader_{data_bytes}x{burst_beats}_{outstanding}_{queue}_{sizes}",
        )

    def build(self, platform):
        m = Module()

        slots = Signal(data.ArrayLayout(ReadDescriptor(), self._queue), reset_less=True)
        accepted = Signal(range(self._queue))
        asked = Signal(range(self._queue))
        begun = Signal(range(self._queue))
        to_ask = Signal(range(self._queue + 1))
        to_begin = Signal(range(self._queue + 1))
        unfinished = Signal(range(self._queue + 1))
        ask = Signal()
        begin = Signal()
        end = Signal()
        accept = Signal()
        # Registers whose enable knows of no `valid`: it comes late, and goes to few.
        room = Signal(init=1)
        left = Signal.like(unfinished)
        m.d.comb += [
            self.i.ready.eq(room),
            accept.eq(self.i.valid & self.i.ready),
            left.eq(unfinished - end),
        ]
        m.d.sync += room.eq((left != self._queue) & ~(accept & (left == self._queue - 1)))
        with m.If(room):
            m.d.sync += slots[accepted].eq(self.i.payload)
        with m.If(accept):
            m.d.sync += accepted.eq(after(accepted, self._queue))
        with m.If(ask):
            m.d.sync += asked.eq(after(asked, self._queue))
        with m.If(begin):
            m.d.sync += begun.eq(after(begun, self._queue))
        m.d.sync += [
            to_ask.eq(to_ask + accept - ask),
            to_begin.eq(to_begin + accept - begin),
            unfinished.eq(left + accept),
        ]

        faulted = Signal()
        under_way = Signal(range(self._outstanding + 1))  # bursts
        wrong_range = self._add_requests(m, slots[asked], to_ask.any(), ask, faulted, under_way)
        wrong_answer, wrong_sum = self._add_answers(
            m, slots[begun], to_begin.any(), begin, end, faulted, under_way
        )

        # The first fault is the one that is told; all of them stop everything.
        m.d.sync += self.fault.eq(0)
        with m.If((wrong_range | wrong_answer | wrong_sum) & ~faulted):
            m.d.sync += [
                faulted.eq(1),
                self.fault.eq(1),
                self.fault_code.eq(
                    Mux(wrong_answer, Fault.BUS, Mux(wrong_sum, Fault.CRC, Fault.WINDOW))
                ),
            ]
        with m.If(self.stop):
            m.d.sync += faulted.eq(1)

        return m

    def _add_requests(self, m, slot, waiting, ask, faulted, under_way):
        """From descriptors to requests on the bus. Returns what says that one is not allowed."""
        axi = self.axi
        beats_width = max(
            beats_of(2**16 - 1, word_bytes=size, data_bytes=self._data_bytes).bit_length()
            for size in self._words.values()
        )
        m.submodules.planner = planner = BurstPlanner(
            data_bytes=self._data_bytes, burst_beats=self._burst_beats, beats_width=beats_width
        )
        m.d.comb += planner.windows.eq(self.windows)

        # One register between descriptors and planner: a row's words become beats.
        block = Signal.like(planner.i.payload, reset_less=True)
        loaded = Signal()
        m.d.comb += [
            planner.i.valid.eq(loaded),
            planner.i.payload.eq(block),
            ask.eq(waiting & (~loaded | planner.i.ready)),
        ]
        with m.If(ask):
            m.d.sync += [
                loaded.eq(1),
                block.address.eq(slot.address),
                block.stride.eq(slot.stride),
                block.rows.eq(slot.rows),
                block.extra.eq(slot.crc),
                block.illegal.eq((slot.words == 0) | (slot.rows == 0)),
            ]
            with m.Switch(slot.dest):
                for dest, size in self._words.items():
                    with m.Case(dest):
                        m.d.sync += block.beats.eq(
                            beats_of(slot.words, word_bytes=size, data_bytes=self._data_bytes)
                        )
                with m.Default():
                    m.d.sync += block.illegal.eq(1)
        with m.Elif(planner.i.ready):
            m.d.sync += loaded.eq(0)

        request = Signal()
        answered = Signal()
        m.d.comb += [
            planner.o.ready.eq(
                (~axi.arvalid | axi.arready) & (under_way != self._outstanding) & ~faulted
            ),
            request.eq(planner.o.valid & planner.o.ready),
            answered.eq(axi.rvalid & axi.rready & axi.rlast),
        ]
        m.d.sync += under_way.eq(under_way + request - (answered & under_way.any()))
        with m.If(request):
            m.d.sync += [
                axi.arvalid.eq(1),
                axi.araddr.eq(planner.o.payload.address),
                axi.arlen.eq(planner.o.payload.beats - 1),
            ]
        with m.Elif(axi.arready):
            m.d.sync += axi.arvalid.eq(0)

        return planner.fault

    def _add_answers(self, m, slot, waiting, begin, end, faulted, under_way):
        """From beats to words and sums. Returns what says that an answer or a sum is wrong."""
        axi = self.axi
        shares = {dest: self._data_bytes // size for dest, size in self._words.items()}
        parts = {dest: -(-size // self._data_bytes) for dest, size in self._words.items()}

        # One beat waits here while its words are written.
        beat = Signal(8 * self._data_bytes, reset_less=True)
        full = Signal()
        refused = Signal()
        beat_done = Signal()
        m.d.comb += axi.rready.eq(~full | beat_done | faulted)
        with m.If(axi.rready):
            m.d.sync += [
                full.eq(axi.rvalid),
                beat.eq(axi.rdata),
                refused.eq((axi.rresp != Response.OKAY) | ~under_way.any()),
            ]
        wrong_answer = full & refused

        transfer = Signal(ReadDescriptor(), reset_less=True)
        left = Signal(16, reset_less=True)
        rows = Signal(16, reset_less=True)
        address = Signal(20, reset_less=True)
        first = Signal(reset_less=True)
        piece = Signal(range(max(*shares.values(), *parts.values(), 2)), reset_less=True)
        last_piece = Signal()
        word_done = Signal()
        sum_here = Signal()

        m.submodules.crc = crc = Crc32(data_bytes=self._data_bytes)
        m.d.comb += [crc.data.eq(beat), crc.first.eq(first)]

        with m.FSM(name="answers"):
            with m.State("IDLE"):
                m.d.sync += [
                    transfer.eq(slot),
                    left.eq(slot.words),
                    rows.eq(slot.rows),
                    address.eq(slot.dest_addr),
                    piece.eq(0),
                    first.eq(1),
                ]
                with m.If(waiting):
                    m.d.comb += begin.eq(1)
                    m.next = "WORDS"
            with m.State("WORDS"):
                with m.Switch(transfer.dest):
                    for dest in self._words:
                        with m.Case(dest):
                            m.d.comb += last_piece.eq(piece == max(shares[dest], parts[dest]) - 1)
                            if parts[dest] > 1:
                                m.d.comb += [word_done.eq(last_piece), beat_done.eq(full)]
                            else:
                                m.d.comb += [
                                    word_done.eq(1),
                                    beat_done.eq(full & (last_piece | (left == 1))),
                                ]
                m.d.comb += crc.en.eq(beat_done)
                with m.If(beat_done):
                    m.d.sync += first.eq(0)
                with m.If(full):
                    m.d.sync += piece.eq(Mux(last_piece, 0, piece + 1))
                    with m.If(word_done):
                        m.d.sync += [address.eq(address + 1), left.eq(left - 1)]
                        with m.If(left == 1):
                            m.d.sync += [piece.eq(0), left.eq(transfer.words), rows.eq(rows - 1)]
                            with m.If(rows == 1):
                                with m.If(transfer.crc):
                                    m.next = "SUM"
                                with m.Else():
                                    m.d.comb += end.eq(1)
                                    m.next = "IDLE"
            with m.State("SUM"):
                m.d.comb += beat_done.eq(full)
                with m.If(full):
                    m.d.comb += [sum_here.eq(1), end.eq(1)]
                    m.next = "IDLE"

        m.d.sync += [
            self.w_en.eq(full & word_done & ~refused & ~faulted),
            self.w_dest.eq(transfer.dest),
            self.w_addr.eq(address),
            self.w_tiles.eq(transfer.tiles),
        ]
        with m.Switch(transfer.dest):
            for dest, size in self._words.items():
                with m.Case(dest):
                    if parts[dest] == 1:
                        m.d.sync += self.w_data.eq(beat.word_select(piece, 8 * size))
                    else:
                        with m.Switch(piece):
                            for n in range(parts[dest]):
                                with m.Case(n):
                                    start = 8 * n * self._data_bytes
                                    m.d.sync += self.w_data[start : 8 * size].eq(beat)

        # The sum of the last beat is known some cycles later; every transfer waits as long, so that
        # they complete in order.
        ended = Signal(Crc32.LATENCY)
        summed = Signal(Crc32.LATENCY)
        expected = [Signal(32, name=f"expected_{n}", reset_less=True) for n in range(Crc32.LATENCY)]
        m.d.sync += [
            ended.eq(Cat(end, ended)),
            summed.eq(Cat(sum_here, summed)),
            *(
                after.eq(before)
                for before, after in zip([beat[:32], *expected], expected, strict=False)
            ),
        ]
        wrong_sum = Signal()
        m.d.comb += wrong_sum.eq(summed[-1] & (expected[-1] != crc.crc))
        m.d.sync += self.completed.eq(ended[-1] & ~wrong_sum & ~wrong_answer & ~faulted)

        return wrong_answer, wrong_sum
