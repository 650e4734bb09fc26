"""AXI4-Stream of 32-bit words in packets."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["AxiStream"]


class AxiStream(wiring.Signature):
    """A source of packets of 32-bit words.

    A member ``state`` of this signature has ports ``state__tdata`` and so on: the bus of
    ``cocotbext-axi`` finds them with the prefix ``state_``.

    Members
    -------
    tdata : ``Out(32)``
        A word.
    tlast : ``Out(1)``
        It is the packet's last.
    tvalid : ``Out(1)``
        There is one.
    tready : ``In(1)``
        It is taken.
    """

    def __init__(self):
        super().__init__({"tdata": Out(32), "tlast": Out(1), "tvalid": Out(1), "tready": In(1)})
