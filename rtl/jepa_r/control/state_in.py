"""Joint state in: packets with a checksum to a pose that changes as a whole."""

from amaranth import *
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from ..fabric.axi_stream import AxiStream
from ..fabric.crc import Crc32
from ..platform import Macro

__all__ = ["FEATURES", "LIMIT", "StateIn"]

#: Numbers of a state or an action: x, y, z, three angles, gripper.
FEATURES = 7

#: Largest magnitude of a feature, so that it is two balanced INT8 bytes.
LIMIT = 32639

#: Words of a packet before its checksum.
WORDS = 6


class StateIn(Macro):
    """State packets to the newest pose.

    A packet has seven words of 32 bits: 0 its number; 1 to 4 the features (INT16, two a word, the
    even one in the low half, the last high half is ignored); 5 the sender's timestamp; 6 the CRC-32
    (zlib) of the 24 bytes before it, little endian, with ``tlast``.

    A packet of another length, with another checksum, or with a feature beyond :data:`LIMIT` (which
    the planner's arithmetic could not hold) is dropped; nothing of it is seen. A packet whose
    number is not that of the last one taken plus one is taken, and told as a gap: the newest pose
    is what the sender says now.

    Members
    -------
    i : ``In(AxiStream())``
        Packets. ``tready`` is low for :attr:`CHECK` cycles after each packet, otherwise high.
    pose : ``Out(ArrayLayout(signed(16), 7))``
        Features of the last packet that was taken; zeros before.
    sequence, timestamp : ``Out(32)``, ``Out(32)``
        Its number and the sender's timestamp.
    known : ``Out(1)``
        A packet was taken since reset.
    updated : ``Out(1)``
        For one cycle: ``pose``, ``sequence`` and ``timestamp`` are new.
    gap : ``Out(1)``
        With ``updated``: numbers were left out or repeated.
    dropped : ``Out(1)``
        For one cycle: a packet was dropped.
    """

    #: Cycles after the last word in which no word is taken.
    CHECK = Crc32.LATENCY

    #: Cycles from a packet's last word to ``updated`` or ``dropped``.
    LATENCY = CHECK + 1

    def __init__(self):
        super().__init__(
            {
                "i": In(AxiStream()),
                "pose": Out(data.ArrayLayout(signed(16), FEATURES)),
                "sequence": Out(32),
                "timestamp": Out(32),
                "known": Out(1),
                "updated": Out(1),
                "gap": Out(1),
                "dropped": Out(1),
            },
            macro_name="state_in",
        )

    def build(self, platform):
        m = Module()
        m.submodules.crc = crc = Crc32(data_bytes=4)

        # Words before the checksum, the first lowest once all are in.
        packet = Signal(
            data.StructLayout({
                "sequence": 32,
                "pose": data.ArrayLayout(signed(16), FEATURES),
                "spare": 16,
                "timestamp": 32,
            }),
            reset_less=True,
        )
        bits = packet.as_value()
        given = Signal(32, reset_less=True)
        # One more than the checksum's place: the packet is too long.
        count = Signal(range(WORDS + 2))
        length_good, sum_good, range_good = Signal(), Signal(), Signal()

        taken = Signal()
        m.d.comb += [
            taken.eq(self.i.tvalid & self.i.tready),
            crc.en.eq(taken & (count < WORDS)),
            crc.first.eq(count == 0),
            crc.data.eq(self.i.tdata),
        ]
        m.d.sync += [self.updated.eq(0), self.gap.eq(0), self.dropped.eq(0)]
        with m.FSM():
            with m.State("WORDS"):
                m.d.comb += self.i.tready.eq(1)
                with m.If(taken):
                    m.d.sync += given.eq(self.i.tdata)
                    with m.If(count < WORDS):
                        m.d.sync += bits.eq(Cat(bits[32:], self.i.tdata))
                    with m.If(count <= WORDS):
                        m.d.sync += count.eq(count + 1)
                    with m.If(self.i.tlast):
                        m.d.sync += [length_good.eq(count == WORDS), count.eq(0)]
                        m.next = "SUM"
            with m.State("SUM"):
                # The last word of the sum was taken a cycle before the checksum, or earlier.
                values = [packet.pose[n] for n in range(FEATURES)]
                m.d.sync += range_good.eq(
                    Cat((value <= LIMIT) & (value >= -LIMIT) for value in values).all()
                )
                m.next = "COMPARE"
            with m.State("COMPARE"):
                m.d.sync += sum_good.eq(crc.crc == given)
                m.next = "TAKE"
            with m.State("TAKE"):
                with m.If(length_good & sum_good & range_good):
                    m.d.sync += [
                        self.pose.eq(packet.pose),
                        self.sequence.eq(packet.sequence),
                        self.timestamp.eq(packet.timestamp),
                        self.known.eq(1),
                        self.updated.eq(1),
                        self.gap.eq(self.known & (packet.sequence != (self.sequence + 1)[:32])),
                    ]
                with m.Else():
                    m.d.sync += self.dropped.eq(1)
                m.next = "WORDS"
        return m
