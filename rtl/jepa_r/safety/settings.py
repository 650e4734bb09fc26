"""Settings of a safety block: held twice, one copy inverted, frozen by a lock."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Settings"]


class Settings(wiring.Component):
    """Registers of a block that are written before it starts, and never again.

    A flipped bit of either copy shows at once, by ``mismatch``. The lock is held twice, too: either
    copy of it locks. Source of the measure: ISO 26262-5:2018, D.2.4, duplicated and inverted
    storage.

    Parameters
    ----------
    fields : :class:`dict` from :class:`str` to :class:`int`
        Bits of each setting, 1 to 32, by its name. All are 0 after reset: blocks choose their
        settings such that 0 is the safe one.

    Members
    -------
    w_en : ``In(len(fields))``
        Writes ``w_data`` to the settings whose bits are set, in the order of ``fields``.
    w_data : ``In(32)``
        Bits that a setting does not have are dropped.
    lock : ``In(1)``
        Freezes all from the next cycle on, until reset.
    locked : ``Out(1)``
        They are frozen.
    refused : ``Out(1)``
        A write comes and they are frozen. In the cycle of the write.
    mismatch : ``Out(1)``
        The copies of a setting, or of the lock, do not agree.
    NAME : ``Out(width)``
        Each setting.

    Raises
    ------
    :exc:`ValueError`
        If a setting has less than 1 or more than 32 bits.
    """

    def __init__(self, fields):
        for name, width in fields.items():
            if not 1 <= width <= 32:
                raise ValueError(f"{name} has {width} bits; a setting has 1 to 32")
        self._fields = dict(fields)
        # `keep`: synthesis sees an inverter, and would make one register of two.
        self.copies = {
            name: Signal(width, init=-1, name=f"{name}_inverted", attrs={"keep": True})
            for name, width in fields.items()
        }
        self.lock_copies = (
            Signal(name="lock_copy", attrs={"keep": True}),
            Signal(init=1, name="lock_inverted", attrs={"keep": True}),
        )
        super().__init__(
            {
                "w_en": In(len(fields)),
                "w_data": In(32),
                "lock": In(1),
                "locked": Out(1),
                "refused": Out(1),
                "mismatch": Out(1),
            }
            | {name: Out(width) for name, width in fields.items()}
        )

    def elaborate(self, platform):
        m = Module()
        locked, unlocked = self.lock_copies
        with m.If(self.lock):
            m.d.sync += [locked.eq(1), unlocked.eq(0)]
        m.d.comb += [
            self.locked.eq(locked | ~unlocked),
            self.refused.eq(self.locked & self.w_en.any()),
        ]
        differs = [locked == unlocked]
        for bit, (name, copy) in zip(self.w_en, self.copies.items(), strict=True):
            value = getattr(self, name)
            with m.If(bit & ~self.locked):
                m.d.sync += [value.eq(self.w_data), copy.eq(~self.w_data[: len(copy)])]
            differs.append(value != ~copy)
        m.d.comb += self.mismatch.eq(Cat(differs).any())
        return m
