"""The safety island's code word: 32 bits of data and 7 check bits, bound to the word's address.

Check bits are parities over data and over bits 2 to 17 of the address, which are not stored, and
some of them are inverted. So a word that is read from another address than it was written to is
wrong, and neither all zeros nor all ones is ever a code word.

What the columns of the parity check matrix, chosen by search, give:

* Data and check bits have different columns of odd weight (M. Y. Hsiao, "A class of optimal minimum
  odd-weight-column SEC-DED codes", IBM J. Res. Dev. 14, 1970): every wrong bit is corrected, every
  two are flagged.
* Of the 9139 sets of three wrong bits 5340 (58.4 %) look like one; no 39 columns of odd weight in
  7 rows have less than 5316 (58.2 %), by the fourth moment of their Fourier spectrum. Up to four
  neighbours are always flagged.
* Address bits have the sixteen vectors of a hyperplane that does not contain zero in a space of
  five dimensions, all of even weight: up to three wrong address bits, and every odd number of them,
  are flagged whatever the data; of all 65535 ways to be at a wrong address, 2047 (3.1 %) are not
  seen. A wrong address together with a wrong bit of data may look like another wrong bit.
* What is inverted is outside of that space, so that all zeros have two wrong bits or more at every
  address; all ones are an odd number of wrong bits away from a code word, at half of the addresses
  more than one.
"""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..memory.secded import parities

__all__ = [
    "ADDRESS_BITS",
    "ADDRESS_COLUMNS",
    "CHECK_BITS",
    "CODE_BITS",
    "DATA_COLUMNS",
    "INVERTED",
    "CodeDecoder",
    "CodeEncoder",
    "binding",
    "unfit",
]

#: Bits of an address that the code covers: 2 to 17, the whole memory map.
ADDRESS_BITS = 16

CHECK_BITS = 7
CODE_BITS = 32 + CHECK_BITS

#: What each bit of data adds to the check bits.
DATA_COLUMNS = (
    25, 37, 26, 19, 21, 13, 22, 35, 50, 41, 42, 59, 67, 47, 62, 70,
    69, 52, 73, 76, 74, 81, 84, 88, 94, 97, 98, 100, 109, 127, 124, 122,
)  # fmt: skip

#: What each bit of an address adds, bit 2 first.
ADDRESS_COLUMNS = (5, 9, 18, 30, 33, 45, 54, 58, 65, 77, 86, 90, 101, 105, 114, 126)

#: Check bits that are inverted.
INVERTED = 0x55

_COLUMNS = (*DATA_COLUMNS, *(1 << row for row in range(CHECK_BITS)))


def binding(address):
    """What an address, and the inversion, add to the check bits; no latency.

    Parameters
    ----------
    address : ``unsigned(32)``
        Address of the word, in bytes.
    """
    return parities(address[2 : 2 + ADDRESS_BITS], ADDRESS_COLUMNS) ^ INVERTED


def unfit(code, address):
    """Whether more than one bit of a code word is wrong for its address; no latency."""
    syndrome = parities(code, _COLUMNS) ^ binding(address)
    return ~Cat(syndrome == column for column in (0, *_COLUMNS)).any()


class CodeEncoder(wiring.Component):
    """Code word of a word and its address. No latency.

    The golden function is :func:`jepa_r_sim.golden.code.encode`.

    Members
    -------
    data, address : ``In(32)``
        Word, and its address in bytes.
    code : ``Out(39)``
        Code word: data in the low bits, check bits above.
    """

    def __init__(self):
        super().__init__({"data": In(32), "address": In(32), "code": Out(CODE_BITS)})

    def elaborate(self, platform):
        m = Module()
        check = parities(self.data, DATA_COLUMNS) ^ binding(self.address)
        m.d.comb += self.code.eq(Cat(self.data, check))
        return m


class CodeDecoder(wiring.Component):
    """Word of a code word that was read: the last two cycles of a read.

    The golden function is :func:`jepa_r_sim.golden.code.decode`. The address is that of the request
    in cycle t, the code word the memory's answer in t + 1; results are there in t + 2. The syndrome
    is in a register, since its parities are as deep as the search for its column.

    Members
    -------
    address : ``In(32)``
        Address of the request, in bytes.
    code : ``In(39)``
        Code word, one cycle later.
    data : ``Out(32)``
        Corrected word, two cycles later; as it was read where ``uncorrectable``.
    corrected : ``Out(1)``
        With it: one bit was wrong, in data or check bits.
    uncorrectable : ``Out(1)``
        With it: more than one bit was wrong, or the word is that of another address.
    """

    #: Cycles from the address to the results.
    LATENCY = 2

    def __init__(self):
        super().__init__({
            "address": In(32),
            "code": In(CODE_BITS),
            "data": Out(32),
            "corrected": Out(1),
            "uncorrectable": Out(1),
        })
        #: Sum of the columns of what is wrong.
        self.syndrome = Signal(CHECK_BITS, reset_less=True)

    def elaborate(self, platform):
        m = Module()
        syndrome = self.syndrome
        bound = Signal(CHECK_BITS, reset_less=True)
        word = Signal(32, reset_less=True)
        wrong = Signal(CODE_BITS)
        m.d.sync += [
            bound.eq(binding(self.address)),
            syndrome.eq(parities(self.code, _COLUMNS) ^ bound),
            word.eq(self.code[:32]),
        ]
        m.d.comb += [
            wrong.eq(Cat(syndrome == column for column in _COLUMNS)),
            self.data.eq(word ^ wrong[:32]),
            self.corrected.eq(wrong.any()),
            self.uncorrectable.eq(syndrome.any() & ~wrong.any()),
        ]
        return m
