"""Golden model of :mod:`jepa_r.safety.code`: the matrix as it is drawn, decoding by search."""

from functools import cache

import numpy as np
import numpy.typing as npt

__all__ = ["address_check", "decode", "encode", "parity_matrix"]

#: A row for each check bit: data bits 0 to 31, address bits 2 to 17, whether it is inverted.
_ROWS = """
11011101010111001010010001001100 1100110011001100 1
00110011101111110000100010100101 0011001100110011 0
01001110000001111101001010011110 1001011001101001 1
10100100011101100011100110001111 0101010101010101 0
10111010100100100100011110000111 0011001100110011 1
01000001111101100100000001111111 0000111100001111 0
00000000000010011011111111111111 0000000011111111 1
"""


@cache
def _parts() -> tuple[npt.NDArray[np.uint8], ...]:
    """Columns of data, columns of the address, inverted check bits."""
    rows = [line.split() for line in _ROWS.split("\n") if line]
    return tuple(
        np.array([[int(bit) for bit in row[part]] for row in rows], np.uint8) for part in range(3)
    )


def parity_matrix() -> npt.NDArray[np.uint8]:
    """Parity check matrix ``[7, 39]`` of what is stored: data, then check bits."""
    return np.hstack([_parts()[0], np.eye(7, dtype=np.uint8)])


def _bits(value: int, width: int) -> npt.NDArray[np.int64]:
    return np.array([value >> n & 1 for n in range(width)], np.int64)


def _value(bits: npt.NDArray[np.int64]) -> int:
    return sum(int(bit) << n for n, bit in enumerate(bits))


def address_check(address: int) -> int:
    """Check bits of a zero at a byte address."""
    _data, places, inverted = _parts()
    return _value((places @ _bits(address >> 2, 16) + inverted[:, 0]) % 2)


def encode(word: int, address: int) -> int:
    """Code word of a word at a byte address: data in the low bits, check bits above."""
    return word | (address_check(address) ^ _value(_parts()[0] @ _bits(word, 32) % 2)) << 32


def decode(code: int, address: int) -> tuple[int, bool, bool]:
    """Word, whether one bit of the code word was wrong, and whether more were."""
    matrix = parity_matrix()
    syndrome = _value(matrix @ _bits(code, 39) % 2) ^ address_check(address)
    word = code & 0xFFFF_FFFF
    if syndrome == 0:
        return word, False, False
    for n in range(39):
        if _value(matrix[:, n].astype(np.int64)) == syndrome:
            return (code ^ 1 << n) & 0xFFFF_FFFF, True, False
    return word, False, True
