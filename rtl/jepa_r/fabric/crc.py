"""CRC-32 over many bytes a cycle."""

import zlib

from amaranth import *
from amaranth.lib.wiring import In, Out

from ..platform import Macro

__all__ = ["Crc32"]

#: Value of the register before the first byte, and what the result is inverted with.
ONES = 0xFFFFFFFF

#: Bits of data that one tree of the first step gathers.
GROUP_BITS = 64


def _columns(data_bytes):
    """What each bit of a beat adds to the register behind it, bit 0 of byte 0 first."""
    # A sum is an affine function of the beat; taking that of zero bytes away leaves it linear.
    # Bit i of the register is added to bit i of the first four bytes, so it has the same column.
    nothing = zlib.crc32(bytes(data_bytes))
    return [
        zlib.crc32((1 << bit).to_bytes(data_bytes, "little")) ^ nothing
        for bit in range(8 * data_bytes)
    ]


def _product(bits, columns):
    """Product of a matrix, given by its columns, and a vector of bits."""
    return Cat(
        Cat(bit for bit, column in zip(bits, columns, strict=True) if column >> row & 1).xor()
        for row in range(32)
    )


class Crc32(Macro):
    """CRC-32 of IEEE 802.3 (zlib, PNG) over whole beats, one a cycle.

    The product of the parity matrix and a beat needs two registered steps; only the 32 bits of the
    register itself are fed back. The reference is :func:`zlib.crc32`.

    Parameters
    ----------
    data_bytes : :class:`int`, at least 4
        Bytes of a beat.

    Members
    -------
    en : ``In(1)``
        Take a beat.
    first : ``In(1)``
        With ``en``: a sum begins with this beat.
    data : ``In(8 * data_bytes)``
        The beat, byte 0 lowest.
    crc : ``Out(32)``
        Sum of all beats up to the one that was taken :attr:`LATENCY` cycles ago.

    Raises
    ------
    :exc:`ValueError`
        If ``data_bytes`` is below 4.
    """

    #: Cycles from a beat to the sum that has it.
    LATENCY = 3

    def __init__(self, *, data_bytes):
        if data_bytes < 4:
            raise ValueError(f"data_bytes is {data_bytes}; a sum has four bytes")
        self._columns = _columns(data_bytes)
        super().__init__(
            {
                "en": In(1),
                "first": In(1),
                "data": In(8 * data_bytes),
                "crc": Out(32),
            },
            macro_name=f"crc32_{data_bytes}",
        )

    def build(self, platform):
        m = Module()

        en = Signal(2)
        first = Signal(2)
        m.d.sync += [en.eq(Cat(self.en, en)), first.eq(Cat(self.first, first))]

        groups = []
        for start in range(0, len(self.data), GROUP_BITS):
            part = slice(start, start + GROUP_BITS)
            group = Signal(32, name=f"group_{start}", reset_less=True)
            m.d.sync += group.eq(_product(self.data[part], self._columns[part]))
            groups.append(group)

        term = Signal(32, reset_less=True)
        m.d.sync += term.eq(Cat(Cat(group[row] for group in groups).xor() for row in range(32)))

        register = Signal(32)
        before = Signal(32)
        m.d.comb += [before.eq(Mux(first[1], ONES, register)), self.crc.eq(register ^ ONES)]
        with m.If(en[1]):
            m.d.sync += register.eq(_product(before, self._columns[:32]) ^ term)

        return m
