"""What a monitor has found: every fault, the first one, and an alert on two rails."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["FaultLatch", "fault_layout"]


def fault_layout(*names):
    """Layout of one bit a fault."""
    return data.StructLayout(dict.fromkeys(names, 1))


class FaultLatch(wiring.Component):
    """Keeps faults until reset. What is raised in a cycle shows in the next.

    Parameters
    ----------
    layout
        Layout of the faults, from :func:`fault_layout`.

    Members
    -------
    raised : ``In(layout)``
        Faults of this cycle.
    faults : ``Out(layout)``
        All that were ever raised.
    first : ``Out(layout)``
        Those of the first cycle with any: the cause. The rest may be its consequence.
    alert_p, alert_n : ``Out(1)``
        Quiet is (0, 1), and nothing else is.
    """

    def __init__(self, layout):
        super().__init__({
            "raised": In(layout),
            "faults": Out(layout),
            "first": Out(layout),
            "alert_p": Out(1),
            "alert_n": Out(1, init=1),
        })

    def elaborate(self, platform):
        m = Module()
        raised, faults = self.raised.as_value(), self.faults.as_value()
        m.d.sync += faults.eq(faults | raised)
        with m.If(~self.first.as_value().any()):
            m.d.sync += self.first.as_value().eq(raised)
        for rail in (self.alert_p, self.alert_n):
            # Two registers, although one is the other's inverse.
            rail.attrs["keep"] = True
        with m.If(raised.any()):
            m.d.sync += [self.alert_p.eq(1), self.alert_n.eq(0)]
        return m
