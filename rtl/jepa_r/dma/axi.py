"""AXI4 master interfaces, and what both directions of transfers share."""

from amaranth import *
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["WINDOWS", "AxiRead", "AxiSignature", "AxiWrite", "Fault", "Response", "Window"]

#: Address windows that a master may use.
WINDOWS = 4

#: Bytes that no burst may cross a multiple of.
PAGE_BYTES = 4096

#: Burst type: addresses count up.
INCR = 1


class Fault(enum.Enum, shape=2):
    """Why transfers stopped."""

    NONE = 0
    #: The memory answered with SLVERR or DECERR.
    BUS = 1
    #: The sum of what was read is not the sum behind it.
    CRC = 2
    #: Some address is outside all windows; or the transfer is empty, not aligned to beats, or for
    #: a destination that does not exist.
    WINDOW = 3


class Response(enum.Enum, shape=2):
    """Answers of AXI4 memories."""

    OKAY = 0
    EXOKAY = 1
    SLVERR = 2
    DECERR = 3


class Window(data.StructLayout):
    """Addresses that a master may use: ``base <= address < limit``; none if the two are equal."""

    def __init__(self):
        super().__init__({"base": 32, "limit": 32})


def _read_members(data_bytes, address_bits):
    return {
        "arid": Out(1),
        "araddr": Out(address_bits),
        "arlen": Out(8),
        "arsize": Out(3, init=(data_bytes - 1).bit_length()),
        "arburst": Out(2, init=INCR),
        "arvalid": Out(1),
        "arready": In(1),
        "rid": In(1),
        "rdata": In(8 * data_bytes),
        "rresp": In(Response),
        "rlast": In(1),
        "rvalid": In(1),
        "rready": Out(1),
    }


def _write_members(data_bytes, address_bits):
    return {
        "awid": Out(1),
        "awaddr": Out(address_bits),
        "awlen": Out(8),
        "awsize": Out(3, init=(data_bytes - 1).bit_length()),
        "awburst": Out(2, init=INCR),
        "awvalid": Out(1),
        "awready": In(1),
        "wdata": Out(8 * data_bytes),
        "wstrb": Out(data_bytes),
        "wlast": Out(1),
        "wvalid": Out(1),
        "wready": In(1),
        "bid": In(1),
        "bresp": In(Response),
        "bvalid": In(1),
        "bready": Out(1),
    }


class AxiRead(wiring.Signature):
    """Read channels of an AXI4 master with one ID.

    A member ``axi`` of this signature has ports ``axi__araddr`` and so on: the bus of
    ``cocotbext-axi`` finds them with the prefix ``axi_``.

    Parameters
    ----------
    data_bytes : :class:`int`, a power of two in 4..128
        Width of the data bus.
    address_bits : :class:`int`
        Width of addresses.

    Members
    -------
    arid, araddr, arlen, arsize, arburst, arvalid, arready
        Requests.
    rid, rdata, rresp, rlast, rvalid, rready
        Answers.
    """

    def __init__(self, *, data_bytes, address_bits=32):
        super().__init__(_read_members(data_bytes, address_bits))


class AxiWrite(wiring.Signature):
    """Write channels of an AXI4 master with one ID; ports as for :class:`AxiRead`.

    Parameters
    ----------
    data_bytes : :class:`int`, a power of two in 4..128
        Width of the data bus.
    address_bits : :class:`int`
        Width of addresses.

    Members
    -------
    awid, awaddr, awlen, awsize, awburst, awvalid, awready
        Requests.
    wdata, wstrb, wlast, wvalid, wready
        Data.
    bid, bresp, bvalid, bready
        Answers.
    """

    def __init__(self, *, data_bytes, address_bits=32):
        super().__init__(_write_members(data_bytes, address_bits))


class AxiSignature(wiring.Signature):
    """All channels of an AXI4 master: the members of :class:`AxiRead` and :class:`AxiWrite`.

    Parameters
    ----------
    data_bytes : :class:`int`, a power of two in 4..128
        Width of the data bus.
    address_bits : :class:`int`
        Width of addresses.
    """

    def __init__(self, *, data_bytes, address_bits=32):
        super().__init__(
            _read_members(data_bytes, address_bits) | _write_members(data_bytes, address_bits)
        )
