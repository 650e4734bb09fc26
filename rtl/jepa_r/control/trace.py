"""Where a rollout's program leaves what it computes."""

from amaranth import *
from amaranth.lib.wiring import In, Out

from ..platform import Macro

__all__ = ["TracePointer"]


class TracePointer(Macro):
    """Give each rollout of a plan room behind the one before.

    Members
    -------
    begin, base : ``In(1)``, ``In(32)``
        A plan begins; its first rollout writes from here on.
    next, step : ``In(1)``, ``In(32)``
        A rollout has ended; the bytes that it may have written.
    address : ``Out(32)``
        Of the next rollout, from the cycle after either on.
    """

    def __init__(self):
        super().__init__(
            {
                "begin": In(1),
                "base": In(32),
                "next": In(1),
                "step": In(32),
                "address": Out(32),
            },
            macro_name="trace_pointer",
        )

    def build(self, platform):
        m = Module()
        with m.If(self.begin):
            m.d.sync += self.address.eq(self.base)
        with m.Elif(self.next):
            m.d.sync += self.address.eq(self.address + self.step)
        return m
