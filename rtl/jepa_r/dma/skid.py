"""A register between two handshakes, neither of which sees the other in the same cycle."""

from amaranth import *
from amaranth.lib.wiring import In, Out

from ..platform import Macro

__all__ = ["SkidBuffer"]


class SkidBuffer(Macro):
    """Two words in order: one that is offered, and one that came while it was not taken.

    A word can pass every cycle. What is offered, and whether there is room, are registers, so that
    ``ready`` of a bus is no part of the ``ready`` of what feeds it.

    Latency: a word is offered in the cycle after ``go``, if none is before it.

    Parameters
    ----------
    width : :class:`int`
        Bits of a word.

    Members
    -------
    room : ``Out(1)``
        A word may come. A register.
    go, word : ``In(1)``, ``In(width)``
        It comes, which it may only where there is ``room``.
    valid, payload : ``Out(1)``, ``Out(width)``
        The first word. Registers.
    ready : ``In(1)``
        It is taken, if there is one.
    """

    def __init__(self, *, width):
        super().__init__(
            {
                "room": Out(1, init=1),
                "go": In(1),
                "word": In(width),
                "valid": Out(1),
                "payload": Out(width),
                "ready": In(1),
            },
            macro_name=f"skid_buffer_{width}",
        )

    def build(self, platform):
        m = Module()
        second = Signal.like(self.word)
        with m.If(~self.valid | self.ready):
            m.d.sync += [
                self.valid.eq(self.go | ~self.room),
                self.payload.eq(Mux(self.room, self.word, second)),
                self.room.eq(1),
            ]
        with m.Elif(self.go):
            m.d.sync += self.room.eq(0)
        with m.If(self.room):
            m.d.sync += second.eq(self.word)
        return m
