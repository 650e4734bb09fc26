"""Words to AXI4 write bursts."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from ..platform import Macro
from .axi import WINDOWS, AxiWrite, Response, Window
from .bursts import Block, BurstPlanner

__all__ = ["BeatWriter"]


class BeatWriter(Macro):
    """Pack words into beats, and write these in bursts.

    Parameters
    ----------
    data_bytes, burst_beats, outstanding, address_bits : :class:`int`
        Of the bus.
    sizes : :class:`dict`
        Bytes of a word by kind.
    read_latency : :class:`int`
        Cycles from when a word is asked for, where there is :attr:`room`, until it comes.
    beats_width : :class:`int`
        As for :class:`~.Block`.

    Members
    -------
    block : ``In(stream.Signature(Block(...)))``
        Where the next words go.
    kind : ``In(range(len(sizes)))``
        Kind of the words of the block; steady until it is done.
    words : ``In(16)``
        Words in each row of it; steady until it is done.
    begin : ``In(1)``
        Pulse before the first word of a block.
    ask : ``In(1)``
        A word is asked for.
    room : ``Out(1)``
        A word may be asked for.
    word_en, word : ``In(1)``, ``In(8 * max(sizes.values()))``
        A word, ``read_latency`` cycles after it was asked for.
    stop : ``In(1)``
        Begin no burst any more.
    windows : ``In(data.ArrayLayout(Window(), WINDOWS))``
        Addresses that may be written.
    axi : ``Out(AxiWrite(...))``
        Memory.
    done : ``Out(1)``
        All bursts of all blocks were answered.
    outside : ``Out(1)``
        A row is not allowed; stays.
    refused : ``Out(1)``
        Memory answers with an error.
    """

    def __init__(
        self, *, data_bytes, burst_beats, outstanding, address_bits, sizes, read_latency,
        beats_width,
    ):  # fmt: skip
        self._data_bytes = data_bytes
        self._burst_beats = burst_beats
        self._outstanding = outstanding
        self._sizes = dict(sizes)
        # A word is in the buffer, or on its way: as many as cover the way, and the buffer's own.
        self._depth = read_latency + 4
        self._beats_width = beats_width
        shapes = "_".join(f"{kind}x{size}" for kind, size in self._sizes.items())
        super().__init__(
            {
                "block": In(stream.Signature(Block(beats_width=beats_width))),
                "kind": In(range(len(sizes))),
                "words": In(16),
                "begin": In(1),
                "ask": In(1),
                "room": Out(1),
                "word_en": In(1),
                "word": In(8 * max(sizes.values())),
                "stop": In(1),
                "windows": In(data.ArrayLayout(Window(), WINDOWS)),
                "axi": Out(AxiWrite(data_bytes=data_bytes, address_bits=address_bits)),
                "done": Out(1),
                "outside": Out(1),
                "refused": Out(1),
            },
            macro_name=f"beat_writer_{data_bytes}x{burst_beats}_{outstanding}_{read_latency}_{shapes}",
        )

    def build(self, platform):
        m = Module()

        axi = self.axi
        m.submodules.planner = planner = BurstPlanner(
            data_bytes=self._data_bytes,
            burst_beats=self._burst_beats,
            beats_width=self._beats_width,
        )
        wiring.connect(m, wiring.flipped(self.block), planner.i)
        m.d.comb += [planner.windows.eq(self.windows), self.outside.eq(planner.fault)]

        # Requests.
        under_way = Signal(range(self._outstanding + 1))
        beats = Signal(9)
        request = Signal()
        move = Signal()
        m.d.comb += [
            planner.o.ready.eq(
                (~axi.awvalid | axi.awready)
                & (beats == 0)
                & (under_way != self._outstanding)
                & ~self.stop
            ),
            request.eq(planner.o.valid & planner.o.ready),
            axi.bready.eq(1),
            # An answer that nothing asked for is one, too.
            self.refused.eq(axi.bvalid & ((axi.bresp != Response.OKAY) | ~under_way.any())),
            self.done.eq(planner.i.ready & (under_way == 0)),
        ]
        m.d.sync += under_way.eq(under_way + request - (axi.bvalid & under_way.any()))
        with m.If(request):
            m.d.sync += [
                axi.awvalid.eq(1),
                axi.awaddr.eq(planner.o.payload.address),
                axi.awlen.eq(planner.o.payload.beats - 1),
                beats.eq(planner.o.payload.beats),
            ]
        with m.Else():
            m.d.sync += beats.eq(beats - move)
            with m.If(axi.awready):
                m.d.sync += axi.awvalid.eq(0)

        # Words wait here; one that was asked for has its place.
        m.submodules.waiting = waiting = SyncFIFOBuffered(width=len(self.word), depth=self._depth)
        places = Signal(range(self._depth + 1), init=self._depth)
        m.d.comb += [
            waiting.w_data.eq(self.word),
            waiting.w_en.eq(self.word_en),
            self.room.eq(places != 0),
        ]
        m.d.sync += places.eq(places - self.ask + waiting.r_en)

        # Beats are put together in one register and leave from another.
        beat = Signal(8 * self._data_bytes, reset_less=True)
        full = Signal()
        left = Signal(16)
        shares = {kind: self._data_bytes // size for kind, size in self._sizes.items()}
        parts = {kind: -(-size // self._data_bytes) for kind, size in self._sizes.items()}
        piece = Signal(range(max(*shares.values(), *parts.values(), 2)))
        take = Signal()
        beat_done = Signal()
        word_done = Signal()
        m.d.comb += [
            move.eq(full & (beats != 0) & (~axi.wvalid | axi.wready)),
            take.eq(waiting.r_rdy & (~full | move)),
            waiting.r_en.eq(take & word_done),
            axi.wstrb.eq(~0),
        ]
        with m.If(move):
            m.d.sync += [axi.wvalid.eq(1), axi.wdata.eq(beat), axi.wlast.eq(beats == 1)]
        with m.Elif(axi.wready):
            m.d.sync += axi.wvalid.eq(0)

        with m.Switch(self.kind):
            for kind, size in self._sizes.items():
                with m.Case(kind):
                    last_piece = piece == max(shares[kind], parts[kind]) - 1
                    if parts[kind] > 1:
                        m.d.comb += [beat_done.eq(1), word_done.eq(last_piece)]
                    else:
                        m.d.comb += [beat_done.eq(last_piece | (left == 1)), word_done.eq(1)]
                    with m.If(take):
                        with m.Switch(piece):
                            for n in range(max(shares[kind], parts[kind])):
                                with m.Case(n):
                                    if parts[kind] > 1:
                                        part = waiting.r_data[: 8 * size].word_select(
                                            n, 8 * self._data_bytes
                                        )
                                        m.d.sync += beat.eq(part)
                                    elif n == 0:
                                        # The rest of the beat becomes padding.
                                        m.d.sync += beat.eq(waiting.r_data[: 8 * size])
                                    else:
                                        m.d.sync += beat.word_select(n, 8 * size).eq(waiting.r_data)
        m.d.sync += full.eq((full & ~move) | (take & beat_done))
        with m.If(self.begin):
            m.d.sync += [left.eq(self.words), piece.eq(0)]
        with m.Elif(take):
            m.d.sync += piece.eq(piece + 1)
            with m.If(beat_done & word_done):
                m.d.sync += piece.eq(0)
            with m.If(word_done):
                m.d.sync += left.eq(left - 1)
                with m.If(left == 1):
                    m.d.sync += left.eq(self.words)

        return m
