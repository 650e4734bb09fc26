"""Action out: one packet a control period, from what is known at its start."""

from amaranth import *
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from ..fabric.axi_stream import AxiStream
from ..fabric.crc import Crc32
from ..platform import Macro
from .state_in import FEATURES

__all__ = ["ActionOut"]

#: Words of a packet before its checksum.
WORDS = 9


class Snapshot(data.StructLayout):
    """What a packet says, first word lowest."""

    def __init__(self):
        super().__init__({
            "sequence": 32,
            "timestamp": 64,
            "age": 32,
            "plan": 16,
            "valid": 1,
            "stale": 1,
            "spare": 14,
            "action": data.ArrayLayout(signed(16), FEATURES),
            "spare_half": 16,
        })


class ActionOut(Macro):
    """Action packets, one every ``period`` cycles.

    A packet has ten words of 32 bits: 0 the number of the period since reset, from 0; 1 and 2 the
    time (low half first); 3 the plan's age; 4 the plan's number (16 bits), bit 16 ``valid``, bit 17
    ``stale``; 5 to 8 the action (INT16, two a word, the even one in the low half, the last high
    half zero); 9 the CRC-32 (zlib) of the 36 bytes before it, little endian, with ``tlast``.
    Without a plan, or with a stale one, the action is zeros and ``valid`` is 0.

    All of a packet is taken in one cycle, that in which its period begins, whether or not the
    packet before it has left: two are kept. If at that moment an earlier packet has not been taken
    to its last word, ``overrun`` tells it. The packet on its way goes on, whole; of those that wait
    behind it the newest remains, and the numbers tell what was left out.

    Members
    -------
    period : ``In(32)``
        Cycles from packet to packet; the first begins so many cycles after reset. Read when a
        period begins, and once in the first cycle. Less than :attr:`LEAST_PERIOD` counts as that,
        and is told.
    clamped : ``Out(1)``
        ``period`` is less than :attr:`LEAST_PERIOD`.
    time, age, plan : ``In(64)``, ``In(32)``, ``In(16)``
        What a packet says of them.
    planned, stale : ``In(1)``, ``In(1)``
        There is a plan; it is too old.
    action : ``In(ArrayLayout(signed(16), 7))``
        The plan's action.
    o : ``Out(AxiStream())``
        Packets. The first word is offered in the cycle after a period begins, if no other packet is
        on its way; after the last but one, the checksum follows :attr:`SUM` cycles later.
    overrun : ``Out(1)``
        For one cycle, that in which a period begins: an earlier packet was not taken.
    """

    #: Cycles from the last word of a sum to the sum on ``o``.
    SUM = Crc32.LATENCY

    #: Cycles of the shortest period: a packet that is taken at once takes 12.
    LEAST_PERIOD = 16

    def __init__(self):
        super().__init__(
            {
                "period": In(32),
                "clamped": Out(1),
                "time": In(64),
                "age": In(32),
                "plan": In(16),
                "planned": In(1),
                "stale": In(1),
                "action": In(data.ArrayLayout(signed(16), FEATURES)),
                "o": Out(AxiStream()),
                "overrun": Out(1),
            },
            macro_name="action_out",
        )

    def build(self, platform):
        m = Module()
        begin = self._periods(m)
        snapshot = self._snapshot(m, begin)

        # The packet on its way, its next word lowest, and the one behind it.
        packet = Signal(len(snapshot), reset_less=True)
        waiting = Signal(len(snapshot), reset_less=True)
        sending, kept = Signal(), Signal()
        finished = self._send(m, packet, sending)

        free, left = Signal(), Signal()
        m.d.comb += [
            free.eq(~sending | finished),
            left.eq(sending & ~finished | kept),
            self.overrun.eq(begin & left),
        ]
        with m.If(free):
            # A new snapshot goes past one that waits: that is too late.
            m.d.sync += [
                sending.eq(begin | kept),
                kept.eq(0),
                packet.eq(Mux(begin, snapshot, waiting)),
            ]
        with m.Elif(begin):
            m.d.sync += [waiting.eq(snapshot), kept.eq(1)]
        return m

    def _periods(self, m):
        """Whether a period begins in this cycle."""
        begin, counting = Signal(), Signal()
        left = Signal(32)
        m.d.comb += [
            self.clamped.eq(self.period < self.LEAST_PERIOD),
            begin.eq(counting & (left == 0)),
        ]
        m.d.sync += counting.eq(1)
        with m.If(~counting | begin):
            m.d.sync += left.eq(Mux(self.clamped, self.LEAST_PERIOD, self.period) - 1)
        with m.Else():
            m.d.sync += left.eq(left - 1)
        return begin

    def _snapshot(self, m, begin):
        """Bits of a packet that is taken in this cycle."""
        sequence = Signal(32)
        with m.If(begin):
            m.d.sync += sequence.eq(sequence + 1)
        valid = Signal()
        m.d.comb += valid.eq(self.planned & ~self.stale)
        values = {
            "sequence": sequence,
            "timestamp": self.time,
            "age": Mux(self.planned, self.age, ~C(0, 32)),
            "plan": self.plan,
            "valid": valid,
            "stale": self.planned & self.stale,
            "action": Mux(valid, self.action.as_value(), 0),
        }
        snapshot = Signal(Snapshot())
        m.d.comb += snapshot.as_value().eq(
            Cat(
                Value.cast(values[name])[: part.width] if name in values else C(0, part.width)
                for name, part in Snapshot()
            )
        )
        return snapshot.as_value()

    def _send(self, m, packet, sending):
        """Offer a packet's words; whether its last one is taken in this cycle."""
        m.submodules.crc = crc = Crc32(data_bytes=4)
        place = Signal(range(WORDS + self.SUM))
        last, taken, finished = Signal(), Signal(), Signal()
        m.d.comb += [
            last.eq(place == WORDS + self.SUM - 1),
            self.o.tvalid.eq(sending & ((place < WORDS) | last)),
            self.o.tlast.eq(last),
            self.o.tdata.eq(Mux(last, crc.crc, packet[:32])),
            taken.eq(self.o.tvalid & self.o.tready),
            finished.eq(taken & last),
            crc.en.eq(taken & ~last),
            crc.first.eq(place == 0),
            crc.data.eq(packet[:32]),
        ]
        with m.If(finished):
            m.d.sync += place.eq(0)
        # While the checksum is on its way there is nothing to take.
        with m.Elif(sending & (taken | ~self.o.tvalid)):
            m.d.sync += [place.eq(place + 1), packet.eq(packet[32:])]
        return finished
