"""Golden model of :mod:`jepa_r.memory.secded`: matrices over GF(2), and decoding by search."""

import itertools

import numpy as np
import numpy.typing as npt

__all__ = ["decode", "encode", "parity_matrix"]


def parity_matrix(width: int) -> npt.NDArray[np.uint8]:
    """Parity check matrix of a Hsiao code: a column for each bit, data bits first.

    The columns of data are the first ``width`` vectors of odd weight above one, by weight and then
    by value, row 0 being the lowest bit; behind them is the identity. There are as few rows as have
    enough such vectors.
    """
    for rows in itertools.count(1):
        columns = []
        for weight in range(3, rows + 1, 2):
            places = itertools.combinations(range(rows), weight)
            columns += sorted(sum(2**place for place in chosen) for chosen in places)
        if len(columns) >= width:
            break
    columns = columns[:width] + [2**row for row in range(rows)]
    return np.array([[column // 2**row % 2 for column in columns] for row in range(rows)], np.uint8)


def _bits(value: int, width: int) -> npt.NDArray[np.uint8]:
    return np.array([value >> n & 1 for n in range(width)], np.uint8)


def _value(bits: npt.NDArray[np.uint8]) -> int:
    return sum(int(bit) << n for n, bit in enumerate(bits))


def encode(word: int, width: int) -> int:
    """Code word of a word: data in the low bits, check bits above."""
    matrix = parity_matrix(width)
    check = matrix[:, :width].astype(int) @ _bits(word, width) % 2
    return word | _value(check) << width


def decode(code: int, width: int) -> tuple[int, bool, bool]:
    """Word, whether one bit of the code word was wrong, and whether more were."""
    matrix = parity_matrix(width)
    bits = _bits(code, matrix.shape[1])
    syndrome = matrix.astype(int) @ bits % 2
    if not syndrome.any():
        return code & (1 << width) - 1, False, False
    for n in range(matrix.shape[1]):
        if np.array_equal(matrix[:, n], syndrome):
            return (code ^ 1 << n) & (1 << width) - 1, True, False
    return code & (1 << width) - 1, False, True
