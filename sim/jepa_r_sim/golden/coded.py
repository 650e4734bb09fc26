"""Golden model of :mod:`jepa_r.safety.coded`: what a bank holds, and what scrubbing does to it."""

from .code import decode, encode

__all__ = ["Bank"]


class Bank:
    """A bank of code words; nothing in it takes time.

    Attributes
    ----------
    codes
        Code word of every row.
    corrected, uncorrectable
        Words that were found with one wrong bit, and with more.
    """

    def __init__(self, words: int, base: int):
        self._base = base
        self.codes = [encode(0, base + 4 * row) for row in range(words)]
        self.corrected = self.uncorrectable = 0
        self._next = 0

    def write(self, row: int, code: int, inject: int = 0) -> bool:
        """Write a code word, if it may be one of its address; whether it was refused."""
        if decode(code, self._base + 4 * row)[2]:
            return True
        self.codes[row] = code ^ inject
        return False

    def scrub(self) -> int:
        """Look at the next row; returns which it was."""
        row = self._next
        self._next = (row + 1) % len(self.codes)
        address = self._base + 4 * row
        word, corrected, uncorrectable = decode(self.codes[row], address)
        if corrected:
            self.codes[row] = encode(word, address)
        self.corrected = min(self.corrected + corrected, 0xFFFF)
        self.uncorrectable = min(self.uncorrectable + uncorrectable, 0xFFFF)
        return row
