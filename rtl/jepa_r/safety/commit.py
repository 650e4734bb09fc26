"""The firmware's torques, all at once, and each set once."""

from amaranth import *
from amaranth.lib.wiring import In, Out

from ..platform import Macro

__all__ = ["TorqueCommit"]


class TorqueCommit(Macro):
    """Pass torques on if their number is the next one and its inverse is with it.

    Members
    -------
    commit, word : ``In(1)``, ``In(32)``
        A commit: its number, one more than the last (16 bits, from 1), and the inverse above it.
    valid : ``Out(1)``
        In the cycle of ``commit``: the torques are to be taken.
    wrong : ``Out(1)``
        A commit was not the next one. Stays until reset.
    """

    def __init__(self):
        super().__init__(
            {"commit": In(1), "word": In(32), "valid": Out(1), "wrong": Out(1)},
            macro_name="torque_commit",
        )

    def build(self, platform):
        m = Module()
        due = Signal(16, init=1)
        m.d.comb += self.valid.eq(self.commit & (self.word == Cat(due, ~due)))
        with m.If(self.valid):
            m.d.sync += due.eq(due + 1)
        with m.If(self.commit & ~self.valid):
            m.d.sync += self.wrong.eq(1)
        return m
