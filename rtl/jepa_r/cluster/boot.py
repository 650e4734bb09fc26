"""Start-up: fetch a program image, and refuse one that is not for this chip."""

from amaranth import *
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from ..dma.reader import ReadDescriptor
from ..platform import Macro
from .isa import VERSION, WORD_BYTES, Destination, Fault

__all__ = ["MAGIC", "Boot", "Header", "image_offset"]

#: "JPRP", little endian.
MAGIC = int.from_bytes(b"JPRP", "little")

#: First word of a program image; a checksum follows it, then the program, then its checksum. What
#: stands behind ``words`` is for whoever starts the program and feeds it.
Header = data.StructLayout({
    "magic": 32,
    "version": 32,
    "config": 32,
    "words": 32,
    "kind": 8,  # 0 an encoder, 1 a predictor
    "steps": 8,  # of a rollout
    "elastic": 8,  # 1: stays right in elastic runs
    "spare": 8,
    "latent": 32,  # words of ACT at which the start latent,
    "goal": 32,  # the goal's latent,
    "inputs": 32,  # and actions and states are expected
    "rows": 16,  # tokens of a latent
    "blocks": 16,  # K-blocks of a latent
    "trace": 32,  # bytes that a run leaves at its first argument, for the next one to be moved by
})


def image_offset(data_bytes):
    """Bytes from the start of an image to its program: the header's beats and their checksum's."""
    return (-(-WORD_BYTES // data_bytes) + 1) * data_bytes


class Boot(Macro):
    """Read header and program, check them, and start the sequencer.

    Parameters
    ----------
    config_hash : :class:`int`
        Hash of the cluster's configuration, 32 bits.
    program_words : :class:`int`
        Words that the program memory holds.
    data_bytes : :class:`int`
        Bytes of a beat.
    name : :class:`str`
        Name of the cluster on a chip that has two, which the Verilog module carries.

    Members
    -------
    start, load : ``In(1)``
        Begin with the image at ``address``: to run it, or only to have it.
    address : ``In(32)``
        A multiple of the bus width.
    elastic : ``In(1)``
        It will run elastic.
    o : ``Out(stream.Signature(ReadDescriptor()))``
        Transfers for the reader.
    header_en, header : ``In(1)``, ``In(Header)``
        A word for ``Destination.HEADER``.
    completed : ``In(1)``
        A transfer is complete.
    active : ``Out(1)``
        The reader is Boot's, and a wrong sum is the image's.
    begin : ``Out(1)``
        The program is there: start it.
    loaded : ``Out(1)``
        A program is there.
    loaded_header : ``Out(Header)``
        Its header.
    fault : ``Out(Fault)``
        For one cycle, why the image is refused.
    """

    def __init__(self, *, config_hash, program_words, data_bytes, name=""):
        self._config_hash = config_hash
        self._program_words = program_words
        self._offset = image_offset(data_bytes)
        super().__init__(
            {
                "start": In(1),
                "load": In(1),
                "elastic": In(1),
                "address": In(32),
                "o": Out(stream.Signature(ReadDescriptor())),
                "header_en": In(1),
                "header": In(Header),
                "completed": In(1),
                "active": Out(1),
                "begin": Out(1),
                "loaded": Out(1),
                "loaded_header": Out(Header),
                "fault": Out(Fault),
            },
            macro_name="_".join(filter(None, (name, "boot"))),
        )

    def build(self, platform):
        m = Module()
        address = Signal(32)
        run = Signal()
        header = Signal(Header)
        with m.If(self.header_en):
            m.d.sync += header.eq(self.header)

        asked = {"address": Signal(32), "words": Signal(16), "dest": Signal(Destination)}
        fixed = {"rows": C(1, 16), "crc": C(1, 1)}
        # In one statement: parts of a signal that are constant alone never change in event-driven
        # simulation of the Verilog, not even to their value.
        m.d.comb += self.o.payload.as_value().eq(
            Cat(
                Value.cast((asked | fixed).get(name, C(0, field.width)))
                for name, field in self.o.payload.shape()
            )
        )
        m.d.comb += [self.active.eq(1), self.loaded_header.eq(header)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.active.eq(0)
                with m.If(self.start | self.load):
                    m.d.sync += [
                        address.eq(self.address), run.eq(self.start), self.loaded.eq(0)
                    ]  # fmt: skip
                    m.next = "ASK HEADER"
            with m.State("ASK HEADER"):
                m.d.comb += [
                    self.o.valid.eq(1),
                    asked["address"].eq(address),
                    asked["words"].eq(1),
                    asked["dest"].eq(Destination.HEADER),
                ]
                with m.If(self.o.ready):
                    m.next = "HEADER"
            with m.State("HEADER"):
                with m.If(self.completed):
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.next = "REFUSED"
                with m.If(header.magic != MAGIC):
                    m.d.comb += self.fault.eq(Fault.IMAGE_MAGIC)
                with m.Elif(header.version != VERSION):
                    m.d.comb += self.fault.eq(Fault.IMAGE_VERSION)
                with m.Elif(header.config != self._config_hash):
                    m.d.comb += self.fault.eq(Fault.IMAGE_CONFIG)
                with m.Elif((header.words == 0) | (header.words > self._program_words)):
                    m.d.comb += self.fault.eq(Fault.IMAGE_LENGTH)
                with m.Elif(self.elastic & (header.elastic == 0)):
                    m.d.comb += self.fault.eq(Fault.IMAGE_ELASTIC)
                with m.Else():
                    m.next = "ASK PROGRAM"
            with m.State("ASK PROGRAM"):
                m.d.comb += [
                    self.o.valid.eq(1),
                    asked["address"].eq(address + self._offset),
                    asked["words"].eq(header.words),
                    asked["dest"].eq(Destination.PROGRAM),
                ]
                with m.If(self.o.ready):
                    m.next = "PROGRAM"
            with m.State("PROGRAM"):
                with m.If(self.completed):
                    m.next = "BEGIN"
            with m.State("BEGIN"):
                m.d.comb += self.begin.eq(run)
                m.d.sync += self.loaded.eq(1)
                m.next = "IDLE"
            with m.State("REFUSED"):
                pass
        return m
