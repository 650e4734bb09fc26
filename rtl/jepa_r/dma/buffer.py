"""A queue of words in an SRAM."""

from amaranth import *
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from ..memory.sram import Sram
from ..platform import Macro

__all__ = ["BeatBuffer"]


class BeatBuffer(Macro):
    """Queue of words in an SRAM, which gives one a cycle.

    A word can be taken :attr:`LATENCY` cycles after it was written, if it is the next one. After
    reset nothing may be written for ``clear_cycles`` cycles.

    Parameters
    ----------
    width : :class:`int`
        Bits of a word.
    depth : :class:`int`, at least 2
        Words that it holds at least.
    ecc : :class:`bool`
        Whether words carry a code.

    Members
    -------
    w_en, w_data : ``In(1)``, ``In(width)``
        Put a word, where there is room; a word too many is lost.
    w_rdy : ``Out(1)``
        There is room.
    r_rdy, r_data : ``Out(1)``, ``Out(width)``
        The next word.
    spoilt : ``Out(1)``
        With the word: it is wrong and could not be corrected.
    r_en : ``In(1)``
        Take it, where there is one.
    corrected : ``Out(1)``
        Pulse: a word was corrected.
    inject : ``In(2)``
        As of :class:`~jepa_r.memory.sram.Sram`.
    """

    #: Cycles from ``w_en`` to ``r_rdy``: the memory's, one before it and one behind it.
    LATENCY = Sram.READ_LATENCY + 2

    #: Words on their way out; as many as are asked for until the first of them is taken.
    _AHEAD = Sram.READ_LATENCY + 2

    def __init__(self, *, width, depth, ecc):
        self._memory = Sram(width=width, depth=depth, ecc=ecc)
        super().__init__(
            {
                "w_en": In(1),
                "w_data": In(width),
                "w_rdy": Out(1, init=1),
                "r_rdy": Out(1),
                "r_data": Out(width),
                "spoilt": Out(1),
                "r_en": In(1),
                "corrected": Out(1),
                "inject": In(2),
            },
            macro_name=f"beat_buffer_{width}x{depth}" + ("_ecc" if ecc else ""),
        )

    @property
    def clear_cycles(self):
        """Cycles after reset in which nothing may be written."""
        return self._memory.clear_cycles

    def build(self, platform):
        m = Module()
        m.submodules.memory = memory = self._memory
        depth = memory.depth

        level = Signal(range(depth + 1))
        places = Signal(range(self._AHEAD + 1), init=self._AHEAD)
        put, ask, take = Signal(), Signal(), Signal()
        m.d.comb += [
            put.eq(self.w_en & self.w_rdy),
            ask.eq((level != 0) & (places != 0)),
            take.eq(self.r_en & self.r_rdy),
            memory.w_en.eq(put),
            memory.w_data.eq(self.w_data),
            memory.r_en.eq(ask),
            memory.inject.eq(self.inject),
            self.corrected.eq(memory.corrected),
        ]
        m.d.sync += [
            level.eq(level + put - ask),
            places.eq(places - ask + take),
            # There will be room: a register, since it is the ``ready`` of a master.
            self.w_rdy.eq(ask | (level != Mux(put, depth - 1, depth))),
        ]
        for address, step in ((memory.w_addr, put), (memory.r_addr, ask)):
            at = Signal.like(address)
            m.d.comb += address.eq(at)
            with m.If(step):
                m.d.sync += at.eq(Mux(at == depth - 1, 0, at + 1))

        coming = Signal(Sram.READ_LATENCY)
        m.d.sync += coming.eq(Cat(ask, coming))
        m.submodules.out = out = SyncFIFO(width=memory.width + 1, depth=self._AHEAD)
        m.d.comb += [
            out.w_en.eq(coming[-1]),
            out.w_data.eq(Cat(memory.r_data, memory.uncorrectable)),
            out.r_en.eq(take),
            self.r_rdy.eq(out.r_rdy),
            Cat(self.r_data, self.spoilt).eq(out.r_data),
        ]
        return m
