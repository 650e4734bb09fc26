"""Latents on their way from encoder to predictor."""

from amaranth import *
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..memory.sram import Sram
from ..platform import Macro

__all__ = ["ADDRESS", "SLOTS", "LatentStore"]

#: Latents that the store holds.
SLOTS = 4

#: Bits of an address of the encoder's program.
ADDRESS = 20


class LatentStore(Macro):
    """Memory of four latents, each in a slot of its own.

    Word n of slot s has address ``s * words + n``. Only the slot that is being made may be written:
    a program that writes elsewhere would change what a plan is reading.

    Parameters
    ----------
    words : :class:`int`
        Words of a slot.
    row_bytes : :class:`int`
        Bytes of a word: rows of the encoder's array.
    ecc : :class:`bool`
        Whether words carry a code.

    Members
    -------
    slot : ``In(range(4))``
        The slot that may be written.
    w_en, w_addr, w_data : ``In(1)``, ``In(20)``, ``In(8 * row_bytes)``
        Write a word.
    r_en, r_addr : ``In(1)``, ``In(range(4 * words))``
        Read a word.
    r_data : ``Out(8 * row_bytes)``
        The word, :attr:`READ_LATENCY` cycles later.
    ready : ``Out(1)``
        The memory is cleared; until then the ports must rest.
    outside : ``Out(1)``
        A write was for another slot, and not done; stays.
    broken : ``Out(1)``
        A word was read that is wrong and cannot be corrected; stays.
    corrected : ``Out(32)``
        Words that were corrected when they were read.
    inject : ``In(2)``
        As of :class:`~jepa_r.memory.sram.Sram`, for tests.

    Raises
    ------
    :exc:`ValueError`
        If four slots have more words than addresses can name.
    """

    #: Cycles from ``r_en`` to ``r_data``.
    READ_LATENCY = Sram.READ_LATENCY

    def __init__(self, *, words, row_bytes, ecc):
        if not 1 <= words <= (1 << ADDRESS) // SLOTS:
            raise ValueError(f"words is {words}; it must be from 1 to {(1 << ADDRESS) // SLOTS}")
        self._words = words
        self._memory = Sram(width=8 * row_bytes, depth=SLOTS * words, ecc=ecc)
        super().__init__(
            {
                "slot": In(range(SLOTS)),
                "w_en": In(1),
                "w_addr": In(ADDRESS),
                "w_data": In(8 * row_bytes),
                "r_en": In(1),
                "r_addr": In(ceil_log2(SLOTS * words)),
                "r_data": Out(8 * row_bytes),
                "ready": Out(1),
                "outside": Out(1),
                "broken": Out(1),
                "corrected": Out(32),
                "inject": In(2),
            },
            macro_name=f"latent_store_{row_bytes}x{words}" + ("_ecc" if ecc else ""),
        )

    @property
    def words(self):
        return self._words

    def build(self, platform):
        m = Module()
        m.submodules.memory = memory = self._memory

        base = Signal(ADDRESS)
        inside = Signal()
        m.d.comb += [
            base.eq(self.slot * self._words),
            inside.eq((self.w_addr >= base) & (self.w_addr < base + self._words)),
            memory.w_en.eq(self.w_en & inside),
            memory.w_addr.eq(self.w_addr),
            memory.w_data.eq(self.w_data),
            memory.r_en.eq(self.r_en),
            memory.r_addr.eq(self.r_addr),
            self.r_data.eq(memory.r_data),
            memory.inject.eq(self.inject),
        ]
        m.d.sync += self.corrected.eq(self.corrected + memory.corrected)
        with m.If(self.w_en & ~inside):
            m.d.sync += self.outside.eq(1)
        with m.If(memory.uncorrectable):
            m.d.sync += self.broken.eq(1)

        if memory.clear_cycles:
            left = Signal(range(memory.clear_cycles + 1), init=memory.clear_cycles)
            m.d.comb += self.ready.eq(left == 0)
            with m.If(~self.ready):
                m.d.sync += left.eq(left - 1)
        else:
            m.d.comb += self.ready.eq(1)
        return m
