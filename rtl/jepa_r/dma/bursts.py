"""Strided blocks of memory as AXI4 bursts, each checked before it is asked for."""

from amaranth import *
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from ..platform import Macro
from .axi import PAGE_BYTES, WINDOWS, Window

__all__ = ["Block", "Burst", "BurstPlanner", "beats_of", "burst_lengths", "check_bus"]


def check_bus(*, data_bytes, burst_beats, outstanding, address_bits):
    """Refuse a bus that cannot be.

    Raises
    ------
    :exc:`ValueError`
        If ``data_bytes`` is no power of two in 4..128, a burst is longer than AXI4's 256 beats or
        than 4 KB, ``outstanding`` is not positive, or addresses have more than 32 bits.
    """
    if data_bytes not in {4, 8, 16, 32, 64, 128}:
        raise ValueError(f"data_bytes is {data_bytes}; it must be a power of two from 4 to 128")
    most = min(256, PAGE_BYTES // data_bytes)
    if not 1 <= burst_beats <= most:
        raise ValueError(
            f"burst_beats is {burst_beats}; it must be from 1 to {most} for beats of "
            f"{data_bytes} bytes"
        )
    if not 1 <= outstanding <= 256:
        raise ValueError(f"outstanding is {outstanding}; it must be from 1 to 256")
    if not 13 <= address_bits <= 32:
        raise ValueError(f"address_bits is {address_bits}; it must be from 13 to 32")


def beats_of(words, *, word_bytes, data_bytes):
    """Beats of a row of ``words`` words.

    Whole words share a beat, as many as fit; a word that is wider than a beat takes several.

    Parameters
    ----------
    words : :class:`int`, or :class:`amaranth.hdl.Value` of 16 bits
        Words in the row.
    word_bytes, data_bytes : :class:`int`
        Bytes of a word and of a beat.

    Returns
    -------
    Same kind as ``words``.
    """
    if word_bytes > data_bytes:
        return words * -(-word_bytes // data_bytes)
    share = data_bytes // word_bytes
    if isinstance(words, int):
        return -(-words // share)
    log = (share - 1).bit_length()
    if share == 1 << log:
        return (words + (share - 1)) >> log
    # Exact for 17 bits: T. Granlund, P. L. Montgomery, "Division by invariant integers using
    # multiplication", PLDI 1994.
    return ((words + (share - 1)) * -(-(1 << (17 + log)) // share)) >> (17 + log)


def burst_lengths(address, beats, *, data_bytes, burst_beats):
    """Lengths of the bursts of a row: none crosses a page, none is too long.

    Returns
    -------
    iterator of :class:`int`
        Beats of each burst.
    """
    while beats:
        to_page = (PAGE_BYTES - address % PAGE_BYTES) // data_bytes
        length = min(beats, burst_beats, to_page)
        yield length
        address += length * data_bytes
        beats -= length


class Block(data.StructLayout):
    """Rows of beats.

    Parameters
    ----------
    beats_width : :class:`int`
        Bits that count the beats of a row.

    Members
    -------
    address, stride : ``unsigned(32)``
        Byte of the first row; bytes from one row to the next.
    rows : ``unsigned(16)``
        Rows, at least one.
    beats : ``unsigned(beats_width)``
        Beats of a row, at least one.
    extra : ``unsigned(1)``
        The last row has one more beat.
    illegal : ``unsigned(1)``
        This is no block: refuse it.
    """

    def __init__(self, *, beats_width):
        super().__init__({
            "address": 32,
            "stride": 32,
            "rows": 16,
            "beats": beats_width,
            "extra": 1,
            "illegal": 1,
        })


class Burst(data.StructLayout):
    """A burst.

    Members
    -------
    address : ``unsigned(32)``
        Of its first byte.
    beats : ``unsigned(9)``
        Its length, at least one.
    """

    def __init__(self):
        super().__init__({"address": 32, "beats": 9})


class BurstPlanner(Macro):
    """Split blocks into bursts, row after row.

    A row is checked as a whole before its first burst: it must lie inside one window and begin on a
    beat. A row that does not, and an illegal block, raises ``fault``, and nothing follows.

    The first burst of a block comes :attr:`FIRST` cycles after the block; if none has to wait, the
    next burst of a row :attr:`NEXT` cycles after the one before, the first of another row
    :attr:`NEXT_ROW`, that of a waiting block :attr:`NEXT_BLOCK` cycles.

    Parameters
    ----------
    data_bytes : :class:`int`
        Bytes of a beat.
    burst_beats : :class:`int`
        Longest burst.
    beats_width : :class:`int`
        As for :class:`Block`.

    Members
    -------
    i : ``In(stream.Signature(Block(...)))``
        Blocks.
    o : ``Out(stream.Signature(Burst()))``
        Bursts.
    windows : ``In(data.ArrayLayout(Window(), WINDOWS))``
        Where rows may lie.
    fault : ``Out(1)``
        A row is not allowed; stays.
    """

    FIRST = 4
    NEXT = 2
    NEXT_ROW = 4
    NEXT_BLOCK = 5

    def __init__(self, *, data_bytes, burst_beats, beats_width):
        self._log = (data_bytes - 1).bit_length()
        self._burst_beats = burst_beats
        super().__init__(
            {
                "i": In(stream.Signature(Block(beats_width=beats_width))),
                "o": Out(stream.Signature(Burst())),
                "windows": In(data.ArrayLayout(Window(), WINDOWS)),
                "fault": Out(1),
            },
            macro_name=f"burst_planner_{data_bytes}x{burst_beats}_{beats_width}",
        )

    def build(self, platform):
        m = Module()

        block = Signal.like(self.i.payload, reset_less=True)
        row = Signal(32, reset_less=True)
        rows = Signal(16, reset_less=True)
        address = Signal(32, reset_less=True)
        # One bit more than a row's beats: the extra beat.
        beats = Signal(len(block.beats) + 1)
        left = Signal.like(beats, reset_less=True)
        length = Signal(9, reset_less=True)
        to_page = Signal(range(PAGE_BYTES + 1))
        end = Signal(range(2**32 + ((1 << len(beats)) << self._log)), reset_less=True)
        inside = Signal(WINDOWS)
        m.d.comb += [
            beats.eq(block.beats + (block.extra & (rows == 1))),
            to_page.eq((PAGE_BYTES - address[: PAGE_BYTES.bit_length() - 1]) >> self._log),
            inside.eq(
                Cat(
                    (window.base <= row) & (end <= window.limit)
                    for window in (self.windows[n] for n in range(WINDOWS))
                )
            ),
            self.o.payload.address.eq(address),
            self.o.payload.beats.eq(length),
        ]

        with m.FSM():
            with m.State("BLOCK"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [
                    block.eq(self.i.payload),
                    row.eq(self.i.payload.address),
                    rows.eq(self.i.payload.rows),
                ]
                with m.If(self.i.valid):
                    m.next = "ROW"
            with m.State("ROW"):
                m.d.sync += [address.eq(row), left.eq(beats), end.eq(row + (beats << self._log))]
                m.next = "CHECK"
            with m.State("CHECK"):
                with m.If(inside.any() & ~row[: self._log].any() & ~block.illegal):
                    m.next = "LENGTH"
                with m.Else():
                    m.next = "FAULT"
            with m.State("LENGTH"):
                m.d.sync += length.eq(self._burst_beats)
                with m.If((left < self._burst_beats) & (left <= to_page)):
                    m.d.sync += length.eq(left)
                with m.Elif(to_page < self._burst_beats):
                    m.d.sync += length.eq(to_page)
                m.next = "BURST"
            with m.State("BURST"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.d.sync += [
                        address.eq(address + (length << self._log)),
                        left.eq(left - length),
                    ]
                    m.next = "LENGTH"
                    with m.If(left == length):
                        m.d.sync += [row.eq(row + block.stride), rows.eq(rows - 1)]
                        m.next = "ROW"
                        with m.If(rows == 1):
                            m.next = "BLOCK"
            with m.State("FAULT"):
                m.d.comb += self.fault.eq(1)

        return m
