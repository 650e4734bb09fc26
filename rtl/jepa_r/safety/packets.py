"""Packets with a length, a sum and a number: commands from the arm's controller, and joints."""

from amaranth import *
from amaranth.lib import enum
from amaranth.lib.wiring import In, Out

from ..fabric.axi_stream import AxiStream
from ..fabric.crc import Crc32
from ..memory.sram import SramArray
from ..platform import Macro

__all__ = ["COMMAND_WORDS", "JOINT_WORDS", "PacketIn", "Verdict"]

#: Words of a command: number, age, flags, 7 positions, 7 velocities, 7 torques, sum.
COMMAND_WORDS = 25

#: Words of a sample of the joints: number, 7 positions, 7 velocities, sum.
JOINT_WORDS = 16

#: Copies: the one that is shown, the newest behind it, and the one that comes in.
COPIES = 3


class Verdict(enum.Enum, shape=unsigned(3)):
    """What a packet was found to be; the first that applies, in the order of the list."""

    NONE = 0
    LENGTH = 1
    SUM = 2
    REPEATED = 3
    ORDER = 4
    ACCEPTED = 5


class PacketIn(Macro):
    """Take packets whole or not at all, and show the last one as it was sent.

    Word 0 of a packet is its number, the last one the CRC-32 (zlib) of the bytes before it, little
    endian, with ``tlast``. The first packet after reset or ``restart`` may have any number. After
    it, ``strict`` accepts the next number alone; else any that is ahead, up to 2**31 - 1.

    What is shown changes only with ``update``, so that a reader sees one packet from one update to
    the next, and its sum with it: the reader may check what it has read once more. A packet that is
    refused changes nothing that is shown, now or later.

    The golden model is :func:`jepa_r_sim.golden.packets.judge`.

    Parameters
    ----------
    words : :class:`int`, at least 2
        Words of a packet, its sum included.
    strict : :class:`bool`
        Whether numbers may be left out.

    Members
    -------
    i : ``In(AxiStream())``
        Packets. ``tready`` is low for :attr:`CHECK` cycles after each, otherwise high.
    restart : ``In(1)``
        Forget all packets: none is shown or waits, and the next may have any number. What is
        judged in this very cycle, one before ``checked``, counts as the next.
    checked : ``Out(1)``
        For one cycle: a packet has come to its end.
    verdict, sequence : ``Out(Verdict)``, ``Out(32)``
        With ``checked``: what it is, and its word 0.
    update : ``In(1)``
        From the next cycle on show the last packet that was accepted before.
    known : ``Out(1)``
        A packet is shown.
    age : ``Out(32)``
        Cycles since the packet that is shown was judged: 1 in the cycle of its ``checked``. Stays
        at its largest value, which it also has while none is shown.
    r_addr, r_data : ``In(range(words))``, ``Out(32)``
        A word of the packet that is shown, one cycle later.

    Raises
    ------
    :exc:`ValueError`
        If ``words`` is below 2.
    """

    #: Cycles after the last word in which no word is taken.
    CHECK = Crc32.LATENCY

    #: Cycles from a packet's last word to ``checked``.
    LATENCY = CHECK + 1

    def __init__(self, *, words, strict):
        if words < 2:
            raise ValueError(f"words is {words}; a packet has at least a number and a sum")
        self._words = words
        self._strict = strict
        super().__init__(
            {
                "i": In(AxiStream()),
                "restart": In(1),
                "checked": Out(1),
                "verdict": Out(Verdict),
                "sequence": Out(32),
                "update": In(1),
                "known": Out(1),
                "age": Out(32, init=0xFFFF_FFFF),
                "r_addr": In(range(words)),
                "r_data": Out(32),
            },
            macro_name=f"packet_in_{words}" + ("_strict" if strict else ""),
        )

    def build(self, platform):
        m = Module()
        accepted = self._receive(m)
        self._show(m, accepted)
        return m

    def _receive(self, m):
        """Judge packets; whether one is accepted in this cycle."""
        m.submodules.crc = crc = Crc32(data_bytes=4)
        # One more than the sum's place: the packet is too long.
        count = Signal(range(self._words + 1))
        number, given = Signal(32, reset_less=True), Signal(32, reset_less=True)
        length_good, sum_good = Signal(), Signal()
        last, ahead, started = Signal(32), Signal(32), Signal()

        self._taken = taken = Signal()
        self._count = count
        accepted = Signal()
        m.d.comb += [
            taken.eq(self.i.tvalid & self.i.tready),
            crc.en.eq(taken & (count < self._words - 1)),
            crc.first.eq(count == 0),
            crc.data.eq(self.i.tdata),
            ahead.eq(number - last),
        ]
        in_order = ahead == 1 if self._strict else ahead.any() & ~ahead[-1]
        verdict = Signal(Verdict)
        with m.If(~length_good):
            m.d.comb += verdict.eq(Verdict.LENGTH)
        with m.Elif(~sum_good):
            m.d.comb += verdict.eq(Verdict.SUM)
        with m.Elif(started & ~self.restart & ~ahead.any()):
            m.d.comb += verdict.eq(Verdict.REPEATED)
        with m.Elif(started & ~self.restart & ~in_order):
            m.d.comb += verdict.eq(Verdict.ORDER)
        with m.Else():
            m.d.comb += verdict.eq(Verdict.ACCEPTED)

        with m.If(self.restart):
            m.d.sync += started.eq(0)
        m.d.sync += self.checked.eq(0)
        with m.FSM():
            with m.State("WORDS"):
                m.d.comb += self.i.tready.eq(1)
                with m.If(taken):
                    m.d.sync += given.eq(self.i.tdata)
                    with m.If(count == 0):
                        m.d.sync += number.eq(self.i.tdata)
                    with m.If(count < self._words):
                        m.d.sync += count.eq(count + 1)
                    with m.If(self.i.tlast):
                        m.d.sync += length_good.eq(count == self._words - 1)
                        m.next = "SUM"
            with m.State("SUM"):
                # The last word of the sum was taken a cycle before the sum itself, or earlier.
                m.d.sync += count.eq(0)
                m.next = "COMPARE"
            with m.State("COMPARE"):
                m.d.sync += sum_good.eq(crc.crc == given)
                m.next = "JUDGE"
            with m.State("JUDGE"):
                m.d.comb += accepted.eq(verdict == Verdict.ACCEPTED)
                m.d.sync += [
                    self.checked.eq(1),
                    self.verdict.eq(verdict),
                    self.sequence.eq(number),
                ]
                with m.If(accepted):
                    m.d.sync += [last.eq(number), started.eq(1)]
                m.next = "WORDS"
        return accepted

    def _show(self, m, accepted):
        """Keep three copies, so that none is written while it is read or waits to be."""
        bank_words = 1 << (self._words - 1).bit_length()
        m.submodules.copies = copies = SramArray(width=32, depth=(COPIES + 1) * bank_words)
        bank = range(COPIES + 1)
        shown, newest = Signal(bank), Signal(bank, init=1)
        coming = Signal(bank, init=2)
        fresh = Signal()
        m.d.comb += [
            copies.w_en.eq(self._taken & (self._count < self._words)),
            copies.w_addr.eq(self._count + coming * bank_words),
            copies.w_data.eq(self.i.tdata),
            copies.r_en.eq(1),
            copies.r_addr.eq(self.r_addr + shown * bank_words),
            self.r_data.eq(copies.r_data),
        ]
        shows = Signal()
        m.d.comb += shows.eq(self.update & fresh)
        with m.If(shows):
            m.d.sync += [shown.eq(newest), newest.eq(shown), fresh.eq(0)]
        with m.If(accepted):
            m.d.sync += [newest.eq(coming), coming.eq(Mux(shows, shown, newest)), fresh.eq(1)]

        waited = Signal(32)
        m.d.sync += waited.eq(Mux(accepted, 1, _more(waited)))
        with m.If(shows):
            m.d.sync += [self.known.eq(1), self.age.eq(_more(waited))]
        with m.Else():
            m.d.sync += self.age.eq(_more(self.age))
        with m.If(self.restart):
            m.d.sync += [self.known.eq(0), self.age.eq(~0), fresh.eq(accepted)]


def _more(count):
    """One more, unless there is no larger number."""
    return Mux(count.all(), count, count + 1)
