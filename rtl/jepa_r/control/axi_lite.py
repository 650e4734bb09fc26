"""AXI4-Lite: the signature, and a subordinate that turns its handshakes into single accesses."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..dma.axi import Response
from ..platform import Macro

__all__ = ["AxiLite", "AxiLiteTarget"]

#: Bytes of a word.
WORD_BYTES = 4


class AxiLite(wiring.Signature):
    """All channels of an AXI4-Lite manager with data of 32 bits.

    A member ``lite`` of this signature has ports ``lite__araddr`` and so on: the bus of
    ``cocotbext-axi`` finds them with the prefix ``lite_``.

    Parameters
    ----------
    address_bits : :class:`int`
        Width of addresses, which count bytes.

    Members
    -------
    awaddr, awprot, awvalid, awready
        Addresses of writes.
    wdata, wstrb, wvalid, wready
        Data of writes.
    bresp, bvalid, bready
        Answers to writes.
    araddr, arprot, arvalid, arready
        Addresses of reads.
    rdata, rresp, rvalid, rready
        Answers to reads.
    """

    def __init__(self, *, address_bits):
        super().__init__({
            "awaddr": Out(address_bits),
            "awprot": Out(3),
            "awvalid": Out(1),
            "awready": In(1),
            "wdata": Out(8 * WORD_BYTES),
            "wstrb": Out(WORD_BYTES),
            "wvalid": Out(1),
            "wready": In(1),
            "bresp": In(Response),
            "bvalid": In(1),
            "bready": Out(1),
            "araddr": Out(address_bits),
            "arprot": Out(3),
            "arvalid": Out(1),
            "arready": In(1),
            "rdata": In(8 * WORD_BYTES),
            "rresp": In(Response),
            "rvalid": In(1),
            "rready": Out(1),
        })


class AxiLiteTarget(Macro):
    """Accesses of an AXI4-Lite manager, one read and one write at a time.

    Addresses and data of writes may come in any order. Every valid and ready is a register, and
    none depends on what the manager does in the same cycle. Protection bits and the low two
    address bits are ignored.

    Parameters
    ----------
    address_bits : :class:`int`, at least 3
        Width of addresses, which count bytes.

    Members
    -------
    lite : ``In(AxiLite(...))``
        The manager.
    write_address, write_data, write_strobe : ``Out(address_bits - 2)``, ``Out(32)``, ``Out(4)``
        Word address, data and byte enables of a write.
    write_response : ``In(Response)``
        Whether that write may be done: combinational from address and strobes.
    write : ``Out(1)``
        Do it, in this cycle; only if the answer was ``OKAY``.
    read_address : ``Out(address_bits - 2)``
        Word address of a read.
    read : ``Out(1)``
        Take what is there, in this cycle.
    read_data, read_response : ``In(32)``, ``In(Response)``
        What was taken, in the cycle after ``read``.

    Raises
    ------
    :exc:`ValueError`
        If ``address_bits`` is below 3.
    """

    #: Cycles from the later of a write's address and data to ``write``, and to the answer.
    WRITE_LATENCY, WRITE_ANSWER = 2, 3

    #: Cycles from a read's address to ``read``, and to the answer.
    READ_LATENCY, READ_ANSWER = 1, 3

    def __init__(self, *, address_bits):
        if address_bits < 3:
            raise ValueError(f"address_bits is {address_bits}; words have at least 3")
        super().__init__(
            {
                "lite": In(AxiLite(address_bits=address_bits)),
                "write_address": Out(address_bits - 2),
                "write_data": Out(8 * WORD_BYTES),
                "write_strobe": Out(WORD_BYTES),
                "write_response": In(Response),
                "write": Out(1),
                "read_address": Out(address_bits - 2),
                "read": Out(1),
                "read_data": In(8 * WORD_BYTES),
                "read_response": In(Response),
            },
            macro_name=f"axi_lite_target_{address_bits}",
        )

    def build(self, platform):
        m = Module()
        self._writes(m)
        self._reads(m)
        return m

    def _writes(self, m):
        lite = self.lite
        # Ready is high from the first cycle after reset until there is something.
        address_ready, data_ready = Signal(init=1), Signal(init=1)
        address = Signal(len(self.write_address), reset_less=True)
        data = Signal(len(self.write_data), reset_less=True)
        strobe = Signal(len(self.write_strobe), reset_less=True)
        response = Signal(Response, reset_less=True)
        m.d.comb += [
            lite.awready.eq(address_ready),
            lite.wready.eq(data_ready),
            lite.bresp.eq(response),
            self.write_address.eq(address),
            self.write_data.eq(data),
            self.write_strobe.eq(strobe),
        ]
        with m.If(lite.awvalid & address_ready):
            m.d.sync += [address.eq(lite.awaddr[2:]), address_ready.eq(0)]
        with m.If(lite.wvalid & data_ready):
            m.d.sync += [data.eq(lite.wdata), strobe.eq(lite.wstrb), data_ready.eq(0)]

        with m.FSM(name="writes"):
            with m.State("CHECK"):
                m.d.sync += response.eq(self.write_response)
                with m.If(~address_ready & ~data_ready):
                    m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += self.write.eq(response == Response.OKAY)
                m.d.sync += [address_ready.eq(1), data_ready.eq(1)]
                m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += lite.bvalid.eq(1)
                # The next write may come in, but it waits: the answer is still shown.
                with m.If(lite.bready):
                    m.next = "CHECK"

    def _reads(self, m):
        lite = self.lite
        ready = Signal(init=1)
        address = Signal(len(self.read_address), reset_less=True)
        data = Signal(len(self.read_data), reset_less=True)
        response = Signal(Response, reset_less=True)
        m.d.comb += [
            lite.arready.eq(ready),
            lite.rdata.eq(data),
            lite.rresp.eq(response),
            self.read_address.eq(address),
        ]
        with m.FSM(name="reads"):
            with m.State("ADDRESS"):
                m.d.sync += address.eq(lite.araddr[2:])
                with m.If(lite.arvalid):
                    m.d.sync += ready.eq(0)
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += self.read.eq(1)
                m.next = "TAKE"
            with m.State("TAKE"):
                m.d.sync += [data.eq(self.read_data), response.eq(self.read_response)]
                m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += lite.rvalid.eq(1)
                with m.If(lite.rready):
                    m.d.sync += ready.eq(1)
                    m.next = "ADDRESS"
