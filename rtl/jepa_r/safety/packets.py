"""Packets with a length and a sum: commands from the arm's controller, samples of the joints."""

from amaranth import *
from amaranth.lib.wiring import In, Out

from ..fabric.axi_stream import AxiStream
from ..fabric.crc import Crc32
from ..memory.sram import SramArray
from ..platform import Macro

__all__ = ["PacketIn"]

#: Copies: the packet that is visible, the newest one, and the one that comes in.
COPIES = 3


class PacketIn(Macro):
    """Receive packets, judge them, and show one at a time as it was sent.

    Word 0 of a packet is its number, the last one the CRC-32 (zlib) of the bytes before it, little
    endian, with ``tlast``. What is visible changes only with ``take``, and as a whole: a reader
    sees one packet from one take to the next, with its sum, so that it may check what it has read.
    Packets with a wrong length or sum become visible, too, and say so; what of them was too long is
    dropped. Of several packets between two takes the last one becomes visible.

    The golden model is :class:`jepa_r_sim.golden.packets.Packets`.

    Parameters
    ----------
    words : :class:`int`, at least 2
        Words of a packet, its sum included.

    Members
    -------
    i : ``In(AxiStream())``
        Packets. ``tready`` is low for :attr:`CHECK` cycles after each, otherwise high.
    checked : ``Out(1)``
        For one cycle: a packet came to its end, :attr:`LATENCY` cycles ago.
    good, sequence : ``Out(1)``, ``Out(32)``
        With ``checked``: its length and sum are right; its word 0.
    take : ``In(1)``
        Make the newest packet visible, from the next cycle on: the last one whose ``checked`` was
        in this cycle, or before.
    fresh : ``Out(1)``
        The last take found a new packet.
    length_good, sum_good : ``Out(1)``, ``Out(1)``
        The visible packet had its length; its sum agrees, which only counts with the length. Zero
        while there is none.
    lost : ``Out(8)``
        Packets between the last two takes that never became visible, at most 255.
    age : ``Out(32)``
        Cycles since the last word of the visible packet. Stays at its largest value, which it also
        has while there is none.
    r_addr, r_data : ``In(range(words))``, ``Out(32)``
        A word of the visible packet, one cycle later.

    Raises
    ------
    :exc:`ValueError`
        If ``words`` is below 2.
    """

    #: Cycles after the last word in which no word is taken.
    CHECK = Crc32.LATENCY

    #: Cycles from a packet's last word to ``checked``.
    LATENCY = CHECK + 1

    def __init__(self, *, words):
        if words < 2:
            raise ValueError(f"words is {words}; a packet has at least a number and a sum")
        self._words = words
        super().__init__(
            {
                "i": In(AxiStream()),
                "checked": Out(1),
                "good": Out(1),
                "sequence": Out(32),
                "take": In(1),
                "fresh": Out(1),
                "length_good": Out(1),
                "sum_good": Out(1),
                "lost": Out(8),
                "age": Out(32, init=0xFFFF_FFFF),
                "r_addr": In(range(words)),
                "r_data": Out(32),
            },
            macro_name=f"packet_in_{words}",
        )

    def build(self, platform):
        m = Module()
        words = self._words
        m.submodules.crc = crc = Crc32(data_bytes=4)

        # One more than the sum's place: the packet is too long.
        count = Signal(range(words + 1))
        number, given = Signal(32, reset_less=True), Signal(32, reset_less=True)
        length_good, sum_good = Signal(), Signal()
        taken, judged = Signal(), Signal()
        m.d.comb += [
            taken.eq(self.i.tvalid & self.i.tready),
            crc.en.eq(taken & (count < words - 1)),
            crc.first.eq(count == 0),
            crc.data.eq(self.i.tdata),
        ]
        with m.FSM():
            with m.State("WORDS"):
                m.d.comb += self.i.tready.eq(1)
                with m.If(taken):
                    m.d.sync += given.eq(self.i.tdata)
                    with m.If(count == 0):
                        m.d.sync += number.eq(self.i.tdata)
                    with m.If(count < words):
                        m.d.sync += count.eq(count + 1)
                    with m.If(self.i.tlast):
                        m.d.sync += length_good.eq(count == words - 1)
                        m.next = "SUM"
            with m.State("SUM"):
                # The last word of the sum was taken a cycle before the sum itself, or earlier.
                m.d.sync += count.eq(0)
                m.next = "COMPARE"
            with m.State("COMPARE"):
                m.d.sync += sum_good.eq(crc.crc == given)
                m.next = "JUDGE"
            with m.State("JUDGE"):
                m.d.comb += judged.eq(1)
                m.next = "WORDS"
        m.d.sync += self.checked.eq(judged)
        with m.If(judged):
            m.d.sync += [self.good.eq(length_good & sum_good), self.sequence.eq(number)]

        self._show(m, taken & (count < words), count, judged, (length_good, sum_good))
        return m

    def _show(self, m, write, count, judged, verdict):
        """Keep three copies, so that none is written while it is visible or waits to be."""
        bank_words = 1 << (self._words - 1).bit_length()
        m.submodules.copies = copies = SramArray(width=32, depth=(COPIES + 1) * bank_words)
        bank = range(COPIES + 1)
        visible, newest, coming = Signal(bank), Signal(bank, init=1), Signal(bank, init=2)
        m.d.comb += [
            copies.w_en.eq(write),
            copies.w_addr.eq(count + coming * bank_words),
            copies.w_data.eq(self.i.tdata),
            copies.r_en.eq(1),
            copies.r_addr.eq(self.r_addr + visible * bank_words),
            self.r_data.eq(copies.r_data),
        ]

        # What waits: its verdict, its age, and how many came before it since the last take.
        waiting, before = Signal(), Signal(8)
        waits = Signal(2)
        waited = Signal(32)
        shows = Signal()
        m.d.comb += shows.eq(self.take & waiting)
        m.d.sync += [waited.eq(_more(waited)), self.age.eq(_more(self.age))]
        with m.If(self.take):
            m.d.sync += [self.fresh.eq(waiting), self.lost.eq(before), before.eq(0)]
            m.d.sync += waiting.eq(judged)
        with m.Elif(judged):
            m.d.sync += [waiting.eq(1), before.eq(Mux(waiting, _more(before), 0))]
        with m.If(shows):
            m.d.sync += [
                visible.eq(newest),
                newest.eq(visible),
                Cat(self.length_good, self.sum_good).eq(waits),
                self.age.eq(_more(waited)),
            ]
        with m.If(judged):
            m.d.sync += [
                newest.eq(coming),
                coming.eq(Mux(shows, visible, newest)),
                waits.eq(Cat(verdict)),
                waited.eq(self.LATENCY),
            ]


def _more(count):
    """One more, unless there is no larger number."""
    return Mux(count.all(), count, count + 1)
