"""Single error correction, double error detection (SECDED) for words of any width."""

import itertools

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["SecdedDecoder", "SecdedEncoder", "check_bits", "columns", "parities"]


def check_bits(width):
    """Check bits that a word of ``width`` bits needs: 5 for 8 bits, 7 for 32, 8 for 64.

    ``r`` check bits have ``2**(r - 1)`` syndromes of odd weight, and ``r`` of those belong to the
    check bits themselves.
    """
    if width < 1:
        raise ValueError(f"width is {width}; a code word holds at least one bit of data")
    return next(r for r in itertools.count(3) if 2 ** (r - 1) - r >= width)


def columns(width):
    """Columns of the parity check matrix that belong to data: what each bit adds to the syndrome.

    All have odd weight of at least three: lighter ones first, those of one weight in ascending
    order. So two errors always give an even syndrome, which is never a column.
    """
    candidates = (
        n for n in range(1 << check_bits(width)) if n.bit_count() % 2 and n.bit_count() > 1
    )
    return sorted(candidates, key=lambda n: (n.bit_count(), n))[:width]


def parities(bits, columns_):
    """Parity of ``bits`` against each row of the matrix whose columns are given."""
    rows = max(columns_).bit_length()
    return Cat(
        Cat(bit for bit, column in zip(bits, columns_, strict=True) if column >> row & 1).xor()
        for row in range(rows)
    )


class SecdedEncoder(wiring.Component):
    """Hsiao encoder. No latency.

    The golden function is :func:`jepa_r_sim.golden.secded.encode`. The code is M. Y. Hsiao's, "A
    class of optimal minimum odd-weight-column SEC-DED codes", IBM J. Res. Dev. 14, 1970.

    Parameters
    ----------
    width : :class:`int`, positive
        Bits of data in a word.

    Members
    -------
    data : ``In(width)``
        Word.
    code : ``Out(width + check_bits(width))``
        Code word: data in the low bits, check bits above.

    Raises
    ------
    :exc:`ValueError`
        If ``width`` is not positive.
    """

    def __init__(self, *, width):
        self._columns = columns(width)
        super().__init__({"data": In(width), "code": Out(width + check_bits(width))})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.code.eq(Cat(self.data, parities(self.data, self._columns)))
        return m


class SecdedDecoder(wiring.Component):
    """Hsiao decoder: corrects one wrong bit of a code word and detects two.

    The golden function is :func:`jepa_r_sim.golden.secded.decode`. A result a cycle,
    :attr:`latency` cycles later: the syndrome is in a register, since its parities are as deep as
    the search for its column.

    Parameters
    ----------
    width : :class:`int`, positive
        Bits of data in a word.

    Members
    -------
    code : ``In(width + check_bits(width))``
        Code word as it was read.
    data : ``Out(width)``
        Corrected word; as it was read where ``uncorrectable``.
    corrected : ``Out(1)``
        One bit was wrong, in data or check bits.
    uncorrectable : ``Out(1)``
        More than one bit was wrong. All pairs are detected, and most larger sets.

    Raises
    ------
    :exc:`ValueError`
        If ``width`` is not positive.
    """

    latency = 1

    def __init__(self, *, width):
        self._columns = columns(width)
        super().__init__({
            "code": In(width + check_bits(width)),
            "data": Out(width),
            "corrected": Out(1),
            "uncorrectable": Out(1),
        })

    def elaborate(self, platform):
        m = Module()

        width = len(self.data)
        rows = len(self.code) - width
        every_column = [*self._columns, *(1 << row for row in range(rows))]

        syndrome = Signal(rows, reset_less=True)
        word = Signal(width, reset_less=True)
        wrong = Signal(len(self.code))
        m.d.sync += [
            syndrome.eq(parities(self.code, every_column)),
            word.eq(self.code[:width]),
        ]
        m.d.comb += [
            wrong.eq(Cat(syndrome == column for column in every_column)),
            self.data.eq(word ^ wrong[:width]),
            self.corrected.eq(wrong.any()),
            self.uncorrectable.eq(syndrome.any() & ~wrong.any()),
        ]

        return m
