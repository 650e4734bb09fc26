"""What lies in memory: words as beats carry them, checksums, and a map of it all."""

import zlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from attrs import define, field

__all__ = ["Image", "column_words", "pack_words", "unpack_words"]

Bytes = npt.NDArray[np.uint8]


def pack_words(words: Bytes, data_bytes: int) -> bytes:
    """Lay words (``[n, W]``) out as the reader takes them from beats.

    Several words share a beat if they fit, each at a multiple of its size; a word wider than a beat
    takes whole beats. Padding is zero.
    """
    count, size = words.shape
    if size > data_bytes:
        padded = np.zeros((count, -(-size // data_bytes) * data_bytes), np.uint8)
        padded[:, :size] = words
        return padded.tobytes()
    share = data_bytes // size
    beats = -(-count // share)
    padded = np.zeros((beats * share, size), np.uint8)
    padded[:count] = words
    lines = np.zeros((beats, data_bytes), np.uint8)
    lines[:, : share * size] = padded.reshape(beats, share * size)
    return lines.tobytes()


def unpack_words(memory: bytes, count: int, size: int, data_bytes: int) -> Bytes:
    """Inverse of :func:`pack_words`: ``[count, size]``."""
    flat = np.frombuffer(memory, np.uint8)
    if size > data_bytes:
        return flat.reshape(count, -1)[:, :size]
    share = data_bytes // size
    lines = flat.reshape(-1, data_bytes)[:, : share * size]
    return lines.reshape(-1, size)[:count]


def column_words(add: npt.ArrayLike, mul: npt.ArrayLike, shift: npt.ArrayLike, lanes: int) -> Bytes:
    """Parameters of columns as words of the lanes, zero beyond the last column."""
    count = -(-len(np.atleast_1d(add)) // lanes) * lanes
    record = np.dtype([("add", "<i4"), ("mul", "<i2"), ("shift", "u1"), ("unused", "u1")])
    table = np.zeros(count, record)
    for name, values in (("add", add), ("mul", mul), ("shift", shift)):
        table[name][: len(np.atleast_1d(values))] = values
    return np.frombuffer(table.tobytes(), np.uint8).reshape(-1, lanes * 8)


@define
class Image:
    """Constant data in memory, in the order in which a program reads it.

    Contents are made when asked for, so that a program of a model without weights can be timed.

    Attributes
    ----------
    base
        Address of the first byte.
    data_bytes
        Bytes of a beat, to which everything is aligned.
    size
        Bytes so far.
    """

    base: int
    data_bytes: int
    size: int = 0
    _parts: list[tuple[int, Callable[[], Bytes]]] = field(factory=list)

    def add(self, count: int, word_bytes: int, words: Callable[[], Bytes]) -> int:
        """Reserve ``count`` words and a checksum; returns their address."""
        address = self.base + self.size
        share = max(1, self.data_bytes // word_bytes)
        beats = -(-count // share) * -(-word_bytes // self.data_bytes)
        self._parts.append((count, words))
        self.size += (beats + 1) * self.data_bytes
        return address

    def align(self, boundary: int) -> None:
        """Leave a gap up to a multiple of ``boundary``, so that bursts split as they did before."""
        gap = -(self.base + self.size) % boundary
        self._parts.append((0, lambda: np.zeros((0, gap), np.uint8)))
        self.size += gap

    def render(self) -> bytes:
        """All bytes from ``base`` on."""
        out = bytearray()
        for count, words in self._parts:
            made = words()
            assert len(made) == count, (len(made), count)
            if not count:
                out += bytes(made.shape[1])
                continue
            body = pack_words(made, self.data_bytes)
            out += body + zlib.crc32(body).to_bytes(4, "little").ljust(self.data_bytes, b"\0")
        assert len(out) == self.size, (len(out), self.size)
        return bytes(out)
