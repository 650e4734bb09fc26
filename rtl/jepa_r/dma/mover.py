"""Transfers from the memories of tiles to the shared memory or to memory outside."""

from amaranth import *
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from .axi import WINDOWS, AxiWrite, Fault, Window

__all__ = ["MoveDescriptor", "MoveSource", "Mover"]


class MoveSource(enum.Enum, shape=1):
    """Memory of a tile that is read: words of R bytes or of 2 L bytes."""

    ACT = 0
    X = 1


class MoveDescriptor(data.StructLayout):
    """A transfer from a tile.

    Members
    -------
    source : :class:`MoveSource`
        Memory that is read.
    tile : ``unsigned(4)``
        Tile that is read.
    src_addr : ``unsigned(20)``
        First word.
    words : ``unsigned(16)``
        Words in each row.
    rows : ``unsigned(16)``
        Rows.
    src_stride : ``unsigned(20)``
        Words from the start of one row to the next in the tile.
    to_shared : ``unsigned(1)``
        To the shared memory, else to memory outside.
    address : ``unsigned(32)``
        Word of the shared memory, or byte of the memory outside (a multiple of the bus width).
    stride : ``unsigned(32)``
        From the start of one row to the next there: words, or bytes (a multiple of the bus width).
    segments : ``unsigned(8)``
        To the shared memory: segments of L bytes of each word, the lowest ones; 0 for all.
    dst_seg : ``unsigned(8)``
        To the shared memory: where segment 0 goes in the word.
    """

    def __init__(self):
        super().__init__({
            "source": MoveSource,
            "tile": 4,
            "src_addr": 20,
            "words": 16,
            "rows": 16,
            "src_stride": 20,
            "to_shared": 1,
            "address": 32,
            "stride": 32,
            "segments": 8,
            "dst_seg": 8,
        })


class Mover(wiring.Component):
    """Move words of one tile's memories, one transfer after another.

    Parameters
    ----------
    row_bytes : :class:`int`
        Bytes R of a word of ACT and of the shared memory.
    lanes : :class:`int`
        Lanes L: bytes of a segment; words of X have 2 L bytes.
    data_bytes : :class:`int`, a power of two in 4..128
        Bytes D of a beat.
    burst_beats : :class:`int`
        Longest burst.
    outstanding : :class:`int`
        Bursts under way at once.
    read_latency : :class:`int`
        Cycles from ``r_en`` to ``r_data``.
    queue : :class:`int`
        Transfers accepted and not complete; ``i`` is not ready while there are so many.
    address_bits : :class:`int`
        Width of addresses.

    Members
    -------
    i : ``In(stream.Signature(MoveDescriptor()))``
        Transfers. They are done strictly in order.
    windows : ``In(data.ArrayLayout(Window(), WINDOWS))``
        Addresses that may be written; steady while transfers are under way.
    r_en, r_source, r_tile, r_addr : ``Out(1)``, ``Out(MoveSource)``, ``Out(4)``, ``Out(20)``
        Read a word of a tile.
    r_data : ``In(8 * max(row_bytes, 2 * lanes))``
        The word, in the low bits, ``read_latency`` cycles later.
    sw_en, sw_addr, sw_data : ``Out(row_bytes // lanes)``, ``Out(20)``, ``Out(8 * row_bytes)``
        Write segments of a word of the shared memory.
    axi : ``Out(AxiWrite(data_bytes=data_bytes))``
        Memory.
    completed : ``Out(1)``
        Pulse: all words of the next transfer are written.
    fault : ``Out(1)``
        Pulse: transfers have stopped. Nothing completes any more until reset.
    fault_code : ``Out(Fault)``
        Why, with ``fault`` and after it.
    """

    def __init__(
        self, *, row_bytes, lanes, data_bytes, burst_beats=16, outstanding=8, read_latency=3,
        queue=2, address_bits=32,
    ):  # fmt: skip
        super().__init__({
            "i": In(stream.Signature(MoveDescriptor())),
            "windows": In(data.ArrayLayout(Window(), WINDOWS)),
            "r_en": Out(1),
            "r_source": Out(MoveSource),
            "r_tile": Out(4),
            "r_addr": Out(20),
            "r_data": In(8 * max(row_bytes, 2 * lanes)),
            "sw_en": Out(row_bytes // lanes),
            "sw_addr": Out(20),
            "sw_data": Out(8 * row_bytes),
            "axi": Out(AxiWrite(data_bytes=data_bytes, address_bits=address_bits)),
            "completed": Out(1),
            "fault": Out(1),
            "fault_code": Out(Fault),
        })
