"""Wrong bits on purpose in the data memory, and counts of those that are found."""

from amaranth import *
from amaranth.lib.wiring import In, Out

from ..platform import Macro
from .code import CODE_BITS

__all__ = ["MemoryTest"]


class MemoryTest(Macro):
    """Invert bits of the next store, and count what loads and scrubbers find.

    Parameters
    ----------
    sweep_cycles : :class:`int`, at least 2
        Cycles of a sweep of the data memory's scrubber.

    Members
    -------
    selftest : ``In(1)``
        Without it nothing is inverted or expected.
    inject, word : ``In(1)``, ``In(32)``
        Invert so many bits (bits 16 and 17 of ``word``: 1 or 2; else none) of the next store's code
        word: that of the number in bits 0 to 5, and that in bits 8 to 13.
    store : ``In(1)``
        Data memory is written.
    mask : ``Out(39)``
        Bits to invert in a store of this cycle.
    expected : ``Out(1)``
        Two bits were asked for last: an uncorrectable word is no alert.
    of_code, of_data : ``In(1)``
        The memory that a load of the cycle before went to answers.
    corrected, uncorrectable : ``In(1)``
        A cycle later: what the processor found in the answer.
    code_corrected, code_uncorrectable, data_corrected, data_uncorrectable : ``In(16)``
        Counts of the scrubbers.
    code_corrected_all, ... : ``Out(16)``
        The same and those of the processor, at most 65535.
    sweeps : ``Out(32)``
        Sweeps of the data memory.

    Raises
    ------
    :exc:`ValueError`
        If ``sweep_cycles`` is below 2.
    """

    def __init__(self, *, sweep_cycles):
        if sweep_cycles < 2:
            raise ValueError(f"sweep_cycles is {sweep_cycles}; it must be at least 2")
        self._sweep_cycles = sweep_cycles
        self._counts = [
            f"{memory}_{found}"
            for memory in ("code", "data")
            for found in ("corrected", "uncorrectable")
        ]
        super().__init__(
            {
                "selftest": In(1),
                "inject": In(1),
                "word": In(32),
                "store": In(1),
                "mask": Out(CODE_BITS),
                "expected": Out(1),
                "of_code": In(1),
                "of_data": In(1),
                "corrected": In(1),
                "uncorrectable": In(1),
                "sweeps": Out(32),
            }
            | {name: In(16) for name in self._counts}
            | {f"{name}_all": Out(16) for name in self._counts},
            macro_name=f"memory_test_{sweep_cycles}",
        )

    def build(self, platform):
        m = Module()
        count, first, second = Signal(2), Signal(6), Signal(6)
        armed, twice = Signal(), Signal()
        m.d.comb += self.expected.eq(twice)
        with m.If(armed & self.selftest):
            m.d.comb += self.mask.eq((1 << first) | Mux(count == 2, (1 << second)[: 1 << 6], 0))
        with m.If(self.inject):
            m.d.sync += [
                first.eq(self.word[:6]),
                second.eq(self.word[8:14]),
                count.eq(self.word[16:18]),
                armed.eq((self.word[16:18] == 1) | (self.word[16:18] == 2)),
                twice.eq(self.word[16:18] == 2),
            ]
        with m.Elif(self.store):
            m.d.sync += armed.eq(0)
        with m.If(~self.selftest):
            m.d.sync += [armed.eq(0), twice.eq(0)]

        came = Signal(2)
        m.d.sync += came.eq(Cat(self.of_code, self.of_data))
        for n, memory in enumerate(("code", "data")):
            for found in ("corrected", "uncorrectable"):
                name = f"{memory}_{found}"
                seen, whole = Signal(16, name=f"{name}_seen"), Signal(17, name=f"{name}_whole")
                with m.If(came[n] & getattr(self, found)):
                    m.d.sync += seen.eq(seen + ~seen.all())
                m.d.comb += [
                    whole.eq(seen + getattr(self, name)),
                    getattr(self, f"{name}_all").eq(Mux(whole[-1], 0xFFFF, whole)),
                ]

        left = Signal(range(self._sweep_cycles), init=self._sweep_cycles - 1)
        m.d.sync += left.eq(left - 1)
        with m.If(left == 0):
            m.d.sync += [left.eq(self._sweep_cycles - 1), self.sweeps.eq(self.sweeps + 1)]
        return m
