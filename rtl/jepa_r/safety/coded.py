"""Memory of the island: code words that are bound to their addresses, and a scrubber."""

import enum

from amaranth import *
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..memory.sram import SramArray
from ..platform import Macro
from .code import ADDRESS_BITS, CODE_BITS, CodeDecoder, CodeEncoder, unfit

__all__ = ["CodedBank", "Step"]


class Step(enum.Enum):
    """What the scrubber does: clear all rows, then the steps of each."""

    CLEAR = 0
    READ = 1
    CHECK = 2
    LOOK = 3
    WRITE = 4


class CodedBank(Macro):
    """Memory with one port, for code words (:mod:`jepa_r.safety.code`), which scrubs itself.

    Code words pass as they are: they are made and decoded in the processors, so that the way from
    and to them is covered. A word that is to be written with more than one wrong bit for its
    address is refused.

    Every ``interval`` cycles a word is due to be scrubbed, one after another. It is read in the
    first cycle in which the port rests, and written back corrected in such a cycle if it has one
    wrong bit, unless it was written meanwhile. If the port rests at least once in every two cycles,
    that takes :attr:`SCRUB_CYCLES` cycles at most, so that a sweep is ``words * interval`` cycles.

    After reset all words are written with zero. The port must rest until ``ready``; what it is
    given before is lost.

    The golden model is :class:`jepa_r_sim.golden.coded.Bank`.

    Parameters
    ----------
    words : :class:`int`, a power of two, at least 2
        Words.
    base : :class:`int`, a multiple of ``4 * words``, below ``2**18``
        Address of the first word, in bytes.
    interval : :class:`int`, at least :attr:`SCRUB_CYCLES`
        Cycles from one word that is scrubbed to the next.

    Members
    -------
    en, write, addr : ``In(1)``, ``In(1)``, ``In(range(words))``
        Read or write a word: its number in this bank.
    wcode : ``In(39)``
        Code word to write.
    rcode : ``Out(39)``
        Code word read, one cycle after its request, as it is in the memory.
    refused : ``Out(1)``
        For one cycle, that after the request: a word was not written since it is none of its
        address.
    inject : ``In(39)``
        Test: these bits of what is written are inverted, behind the check.
    ready : ``Out(1)``
        All words hold zero or what was written.
    corrected, uncorrectable : ``Out(16)``
        Words that the scrubber found with one wrong bit, with more; they stay at their largest
        value.
    broken : ``Out(1)``
        For one cycle: the scrubber found a word with more than one wrong bit.
    late : ``Out(1)``
        For one cycle: a word is due, and the one before it was not done. The one that is due is
        left out.

    Raises
    ------
    :exc:`ValueError`
        If a parameter is none of those.
    """

    #: Cycles from a word's turn to the end of its scrubbing, if the port rests every other cycle.
    SCRUB_CYCLES = 6

    def __init__(self, *, words, base, interval=256):
        if words < 2 or words & words - 1:
            raise ValueError(f"words is {words}; it must be a power of two and at least 2")
        if base % (4 * words) or not 0 <= base < 1 << ADDRESS_BITS + 2:
            raise ValueError(
                f"base is {base:#x}; it must be a multiple of {4 * words:#x} below 0x40000"
            )
        if interval < self.SCRUB_CYCLES:
            raise ValueError(
                f"interval is {interval}; a word takes up to {self.SCRUB_CYCLES} cycles"
            )
        self._words = words
        self._base = base
        self._interval = interval
        super().__init__(
            {
                "en": In(1),
                "write": In(1),
                "addr": In(range(words)),
                "wcode": In(CODE_BITS),
                "rcode": Out(CODE_BITS),
                "refused": Out(1),
                "inject": In(CODE_BITS),
                "ready": Out(1),
                "corrected": Out(16),
                "uncorrectable": Out(16),
                "broken": Out(1),
                "late": Out(1),
            },
            macro_name=f"coded_bank_{words}_at_{base:05x}_{interval}",
        )
        self.array = SramArray(width=CODE_BITS, depth=words)
        self.decoder = CodeDecoder()
        self.encoder = CodeEncoder()
        #: What the scrubber does, to which row, which is due; it was written since it was read.
        self.step = Signal(Step)
        self.row = Signal(range(words))
        self.due, self.stale = Signal(), Signal()
        #: In this cycle it reads, writes, is done with the row; what it has to write.
        self.look, self.put, self.finished = Signal(), Signal(), Signal()
        self.fixed = Signal(CODE_BITS, reset_less=True)

    @property
    def sweep_cycles(self):
        """Cycles from the scrubbing of a word to its next."""
        return self._words * self._interval

    def _address(self, row):
        """Address of a word in bytes."""
        return Cat(C(0, 2), row, C(self._base >> exact_log2(4 * self._words), 32))[:32]

    def build(self, platform):
        m = Module()
        m.submodules.array = self.array
        m.submodules.decoder = self.decoder
        m.submodules.encoder = self.encoder
        self._port(m)
        self._turns(m)
        self._scrub(m)
        return m

    def _port(self, m):
        """Give the array to the port, or to the scrubber."""
        array = self.array
        accepted = Signal()
        m.d.comb += [
            accepted.eq(self.en & self.write & ~unfit(self.wcode, self._address(self.addr))),
            array.r_en.eq(self.en & ~self.write | self.look),
            array.r_addr.eq(Mux(self.en, self.addr, self.row)),
            self.rcode.eq(array.r_data),
            array.w_en.eq(accepted | self.put),
            array.w_addr.eq(Mux(self.put, self.row, self.addr)),
        ]
        with m.If(~self.ready):
            m.d.comb += array.w_data.eq(self.encoder.code)
        with m.Elif(self.put):
            m.d.comb += array.w_data.eq(self.fixed)
        with m.Else():
            m.d.comb += array.w_data.eq(self.wcode ^ self.inject)
        m.d.sync += self.refused.eq(self.en & self.write & ~accepted)

    def _turns(self, m):
        """Which row it is, and when."""
        left = Signal(range(self._interval))
        m.d.comb += self.late.eq((left == 0) & self.due & ~self.finished)
        with m.If(left == 0):
            m.d.sync += [left.eq(self._interval - 1), self.due.eq(1)]
        with m.Else():
            m.d.sync += left.eq(left - self.ready)
            with m.If(self.finished):
                m.d.sync += self.due.eq(0)
        with m.If(~self.ready | self.finished):
            m.d.sync += self.row.eq(self.row + 1)

    def _scrub(self, m):
        """Clear all words, then look at one after another where the port rests."""
        decoder, encoder, step = self.decoder, self.encoder, self.step
        m.d.comb += [
            self.ready.eq(step != Step.CLEAR),
            decoder.address.eq(self._address(self.row)),
            decoder.code.eq(self.rcode),
            encoder.data.eq(Mux(self.ready, decoder.data, 0)),
            encoder.address.eq(self._address(self.row)),
        ]
        # A word that is written after it was read is newer than what the scrubber holds.
        with m.If(self.en & self.write & (self.addr == self.row)):
            m.d.sync += self.stale.eq(1)

        with m.Switch(step):
            with m.Case(Step.CLEAR):
                m.d.comb += self.put.eq(1)
                with m.If(self.row == self._words - 1):
                    m.d.sync += step.eq(Step.READ)
            with m.Case(Step.READ):
                with m.If(self.due & ~self.en):
                    m.d.comb += self.look.eq(1)
                    m.d.sync += [self.stale.eq(0), step.eq(Step.CHECK)]
            with m.Case(Step.CHECK):
                m.d.sync += step.eq(Step.LOOK)
            with m.Case(Step.LOOK):
                m.d.sync += self.fixed.eq(encoder.code)
                with m.If(decoder.corrected):
                    m.d.sync += [
                        step.eq(Step.WRITE),
                        self.corrected.eq(self.corrected + ~self.corrected.all()),
                    ]
                with m.Else():
                    m.d.comb += self.finished.eq(1)
                    m.d.sync += step.eq(Step.READ)
                with m.If(decoder.uncorrectable):
                    m.d.comb += self.broken.eq(1)
                    m.d.sync += self.uncorrectable.eq(
                        self.uncorrectable + ~self.uncorrectable.all()
                    )
            with m.Case(Step.WRITE):
                with m.If(self.stale | ~self.en):
                    m.d.comb += [self.put.eq(~self.stale), self.finished.eq(1)]
                    m.d.sync += step.eq(Step.READ)
            with m.Default():
                m.d.sync += step.eq(Step.READ)
