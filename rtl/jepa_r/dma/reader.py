"""Transfers from memory to the chip."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .axi import WINDOWS, AxiRead, Fault, Window

__all__ = ["DmaReader", "ReadDescriptor"]


class ReadDescriptor(data.StructLayout):
    """A transfer from memory to the chip.

    Members
    -------
    address : ``unsigned(32)``
        Of the first byte; a multiple of the bus width.
    words : ``unsigned(16)``
        Destination words in each row of memory.
    rows : ``unsigned(16)``
        Rows.
    stride : ``unsigned(32)``
        Bytes from the start of one row to the next; a multiple of the bus width.
    dest : ``unsigned(3)``
        Where to.
    dest_addr : ``unsigned(20)``
        Of the first word; addresses run on over all rows.
    tiles : ``unsigned(16)``
        Mask of the tiles that take the words.
    crc : ``unsigned(1)``
        Behind the last row is one more beat, whose first four bytes are the CRC-32 of all others.
    """

    def __init__(self):
        super().__init__({
            "address": 32,
            "words": 16,
            "rows": 16,
            "stride": 32,
            "dest": 3,
            "dest_addr": 20,
            "tiles": 16,
            "crc": 1,
        })


class DmaReader(wiring.Component):
    """Read strided blocks of memory and write them to the memories of a cluster.

    Parameters
    ----------
    data_bytes : :class:`int`, a power of two in 4..128
        Bytes D of a beat.
    words : :class:`dict` from :class:`int` to :class:`int`
        Bytes of a word of each destination; numbers that are missing do not exist.
    burst_beats : :class:`int`
        Longest burst.
    outstanding : :class:`int`
        Bursts under way at once.
    queue : :class:`int`
        Transfers accepted and not complete; ``i`` is not ready while there are so many.
    address_bits : :class:`int`
        Width of addresses.

    Members
    -------
    i : ``In(stream.Signature(ReadDescriptor()))``
        Transfers. They are done strictly in order.
    windows : ``In(data.ArrayLayout(Window(), WINDOWS))``
        Addresses that may be read; steady while transfers are under way.
    axi : ``Out(AxiRead(data_bytes=data_bytes))``
        Memory.
    w_en, w_dest, w_addr, w_tiles, w_data : ``Out(1)``, ``Out(3)``, ``Out(20)``, ``Out(16)``, ``Out``
        A word for a destination, in the low bits of ``w_data``.
    completed : ``Out(1)``
        Pulse: all words of the next transfer are written, and its sum was right. A memory read that
        starts in this cycle sees them.
    fault : ``Out(1)``
        Pulse: transfers have stopped. Nothing completes any more until reset.
    fault_code : ``Out(Fault)``
        Why, with ``fault`` and after it.
    """

    def __init__(
        self, *, data_bytes, words, burst_beats=16, outstanding=8, queue=4, address_bits=32
    ):
        self._word_bytes = dict(words)
        super().__init__({
            "i": In(stream.Signature(ReadDescriptor())),
            "windows": In(data.ArrayLayout(Window(), WINDOWS)),
            "axi": Out(AxiRead(data_bytes=data_bytes, address_bits=address_bits)),
            "w_en": Out(1),
            "w_dest": Out(3),
            "w_addr": Out(20),
            "w_tiles": Out(16),
            "w_data": Out(8 * max(self._word_bytes.values())),
            "completed": Out(1),
            "fault": Out(1),
            "fault_code": Out(Fault),
        })
