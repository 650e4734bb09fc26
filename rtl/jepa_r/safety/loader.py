"""Loader: the processor's code comes in as an image, whole and checked, or not at all."""

from amaranth import *
from amaranth.lib import enum
from amaranth.lib.wiring import In, Out

from ..fabric.axi_stream import AxiStream
from ..fabric.crc import Crc32
from ..platform import Macro
from .code import CODE_BITS

__all__ = ["LoadFault", "Loader"]

#: First words of an image: "JRSF", and the format.
MAGIC, FORMAT = 0x4A525346, 1

#: Words before the code: magic, format, version, length of the code in bytes.
HEADER = 4

#: What the loader does; WORDS, SUM, DRAIN and STORED may end in REFUSE.
STEPS = (
    "CLEAR", "WORDS", "SUM", "FILL", "HEADER", "VERIFY", "STORED", "DRAIN", "REFUSE", "LOADED",
    "FAILED",
)  # fmt: skip


class LoadFault(enum.Enum, shape=unsigned(4)):
    """Why an image was refused; the first that is found."""

    NONE = 0
    MAGIC = 1
    FORMAT = 2
    OLD = 3
    LENGTH = 4
    SHORT = 5
    LONG = 6
    SUM = 7
    STORED = 8


class Loader(Macro):
    """Fill the code memory from a stream, check it twice, and keep it closed from then on.

    An image is a packet of 32-bit words: :data:`MAGIC`, :data:`FORMAT`, a version that is not below
    ``oldest``, the length of the code in bytes, the code, and the CRC-32 (zlib) of all before it,
    with ``tlast``. What is behind the code in memory is filled with zeros, which are no
    instruction. Then the memory is read back, and its sum taken again: what was checked is what is
    stored.

    An image that is refused is read to its end, and another is asked for, :attr:`ATTEMPTS` in all;
    then the loader stays failed until reset. The sum tells accidents, not forgery.

    The golden model is :func:`jepa_r_sim.golden.loader.load`.

    Parameters
    ----------
    words : :class:`int`, a power of two, at least 2
        Words of the code memory.

    Members
    -------
    ready : ``In(1)``
        The code memory can be used.
    oldest : ``In(32)``
        Lowest version that is taken; constant.
    i : ``In(AxiStream())``
        Images.
    request : ``Out(1)``
        An image is to be sent, from its first word on.
    loading : ``Out(1)``
        The code memory belongs to the loader.
    load_en, load_write, load_word, load_data : ``Out``
        Write or read a word of it.
    load_rcode : ``In(39)``
        Code word that is read, one cycle later.
    loaded, failed : ``Out(1)``
        The image is good and in its place; there is none, for good.
    fault, attempts : ``Out(LoadFault)``, ``Out(2)``
        Why the last image was refused, and how many were.
    version, length : ``Out(32)``
        Of the image that is in its place, else of the last one that came so far.

    Raises
    ------
    :exc:`ValueError`
        If ``words`` is not such a number.
    """

    #: Images that may be refused before none is asked for any more.
    ATTEMPTS = 3

    def __init__(self, *, words):
        if words < 2 or words & (words - 1):
            raise ValueError(f"words is {words}; it must be a power of two and at least 2")
        self._words = words
        super().__init__(
            {
                "ready": In(1),
                "oldest": In(32),
                "i": In(AxiStream()),
                "request": Out(1),
                "loading": Out(1, init=1),
                "load_en": Out(1),
                "load_write": Out(1),
                "load_word": Out(range(words)),
                "load_data": Out(32),
                "load_rcode": In(CODE_BITS),
                "loaded": Out(1),
                "failed": Out(1),
                "fault": Out(LoadFault),
                "attempts": Out(range(self.ATTEMPTS + 1)),
                "version": Out(32),
                "length": Out(32),
            },
            macro_name=f"loader_{words}",
        )
        self.crc = Crc32(data_bytes=4)
        self.place = Signal(range(HEADER + 1))
        self.row = Signal(range(words + 1))
        #: The sum that the image gave itself, and cycles until the own one is known.
        self.given = Signal(32, reset_less=True)
        self.summed = Signal(range(Crc32.LATENCY + 1))
        self.doing = {step: Signal(name=f"doing_{step.lower()}") for step in STEPS}

    def build(self, platform):
        m = Module()
        words = self._words
        m.submodules.crc = crc = self.crc
        place, row, given, summed = self.place, self.row, self.given, self.summed
        code_words = Signal(range(words + 1))
        taken, ends, found = Signal(), Signal(), Signal(LoadFault)

        m.d.comb += [
            taken.eq(self.i.tvalid & self.i.tready),
            code_words.eq(self.length[2:]),
            ends.eq((place == HEADER) & (row == code_words)),
            self.load_word.eq(row),
            self.load_data.eq(self.i.tdata),
            crc.data.eq(self.i.tdata),
            crc.first.eq(place == 0),
        ]
        header = Cat(C(MAGIC, 32), C(FORMAT, 32), self.version, self.length)

        with m.FSM() as fsm:
            ongoing = {step: fsm.ongoing(step) for step in STEPS}
            with m.State("CLEAR"):
                with m.If(self.ready):
                    m.next = "WORDS"
            with m.State("WORDS"):
                m.d.comb += [self.i.tready.eq(1), self.request.eq(1)]
                with m.If(taken):
                    m.d.comb += found.eq(self._judge(place, ends))
                    m.d.sync += [
                        given.eq(self.i.tdata),
                        place.eq(Mux(place < HEADER, place + 1, HEADER)),
                    ]
                    with m.If(place == 2):
                        m.d.sync += self.version.eq(self.i.tdata)
                    with m.If(place == 3):
                        m.d.sync += [self.length.eq(self.i.tdata), row.eq(0)]
                    with m.If(place < HEADER):
                        m.d.comb += crc.en.eq(1)
                        m.d.sync += place.eq(place + 1)
                    with m.Elif(~ends):
                        m.d.comb += [crc.en.eq(1), self.load_en.eq(1), self.load_write.eq(1)]
                        m.d.sync += row.eq(row + 1)
                    with m.If(found != LoadFault.NONE):
                        m.d.sync += self.fault.eq(found)
                        m.next = "DRAIN"
                        with m.If(self.i.tlast):
                            m.next = "REFUSE"
                    with m.Elif(ends):
                        m.d.sync += summed.eq(Crc32.LATENCY)
                        m.next = "SUM"
            with m.State("SUM"):
                m.d.sync += summed.eq(summed - 1)
                with m.If(summed == 0):
                    with m.If(crc.crc == given):
                        m.next = "FILL"
                    with m.Else():
                        m.d.sync += self.fault.eq(LoadFault.SUM)
                        m.next = "REFUSE"
            with m.State("FILL"):
                with m.If(row[-1]):
                    m.d.sync += [row.eq(0), place.eq(0)]
                    m.next = "HEADER"
                with m.Else():
                    m.d.comb += [
                        self.load_en.eq(1), self.load_write.eq(1), self.load_data.eq(0),
                    ]  # fmt: skip
                    m.d.sync += row.eq(row + 1)
            with m.State("HEADER"):
                m.d.comb += [
                    crc.en.eq(1),
                    crc.data.eq(header.word_select(place[:2], 32)),
                    self.load_en.eq(place == HEADER - 1),
                ]
                m.d.sync += place.eq(place + 1)
                with m.If(place == HEADER - 1):
                    m.d.sync += row.eq(1)
                    m.next = "VERIFY"
            with m.State("VERIFY"):
                # The word that was read in the cycle before is there.
                m.d.comb += [
                    crc.en.eq(1),
                    crc.data.eq(self.load_rcode),
                    self.load_en.eq(row < code_words),
                ]
                m.d.sync += row.eq(row + 1)
                with m.If(row == code_words):
                    m.d.sync += summed.eq(Crc32.LATENCY)
                    m.next = "STORED"
            with m.State("STORED"):
                m.d.sync += summed.eq(summed - 1)
                with m.If(summed == 0):
                    with m.If(crc.crc == given):
                        m.d.sync += [
                            self.loading.eq(0), self.loaded.eq(1), self.fault.eq(LoadFault.NONE),
                        ]  # fmt: skip
                        m.next = "LOADED"
                    with m.Else():
                        m.d.sync += self.fault.eq(LoadFault.STORED)
                        m.next = "REFUSE"
            with m.State("DRAIN"):
                m.d.comb += self.i.tready.eq(1)
                with m.If(taken & self.i.tlast):
                    m.next = "REFUSE"
            with m.State("REFUSE"):
                m.d.sync += [self.attempts.eq(self.attempts + 1), place.eq(0)]
                m.next = "WORDS"
                with m.If(self.attempts == self.ATTEMPTS - 1):
                    m.d.sync += self.failed.eq(1)
                    m.next = "FAILED"
            with m.State("LOADED"):
                pass
            with m.State("FAILED"):
                pass
        m.d.comb += [doing.eq(ongoing[step]) for step, doing in self.doing.items()]
        return m

    def _judge(self, place, ends):
        """Fault of the word that is taken now, which is the sum if the image ``ends`` with it."""
        word = self.i.tdata
        length_bad = (word[:2] != 0) | (word == 0) | (word > 4 * self._words)
        faults = [
            (LoadFault.MAGIC, (place == 0) & (word != MAGIC)),
            (LoadFault.FORMAT, (place == 1) & (word != FORMAT)),
            (LoadFault.OLD, (place == 2) & (word < self.oldest)),
            (LoadFault.LENGTH, (place == 3) & length_bad),
            (LoadFault.SHORT, self.i.tlast & ~ends),
            (LoadFault.LONG, ends & ~self.i.tlast),
        ]
        found = C(LoadFault.NONE.value, 4)
        for fault, here in reversed(faults):
            found = Mux(here, C(fault.value, 4), found)
        return found
