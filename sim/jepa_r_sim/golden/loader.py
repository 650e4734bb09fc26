"""Golden model of :class:`jepa_r.safety.loader.Loader`."""

import struct
import zlib
from collections.abc import Sequence

__all__ = ["image", "judge", "load"]

_MAGIC, _FORMAT, _ATTEMPTS = 0x4A525346, 1, 3


def image(code: Sequence[int], *, version: int) -> list[int]:
    """Words of an image."""
    words = [_MAGIC, _FORMAT, version, 4 * len(code), *code]
    return [*words, zlib.crc32(struct.pack(f"<{len(words)}I", *words))]


def judge(words: Sequence[int], *, capacity: int, oldest: int) -> str:
    """``NONE`` if an image is good for a memory of so many words, else what is wrong with it."""
    checks = (
        ("MAGIC", lambda word: word != _MAGIC),
        ("FORMAT", lambda word: word != _FORMAT),
        ("OLD", lambda word: word < oldest),
        ("LENGTH", lambda word: word % 4 or not 4 <= word <= 4 * capacity),
    )
    for n, (fault, wrong) in enumerate(checks):
        if wrong(words[n]):
            return fault
        if len(words) == n + 1:
            return "SHORT"
    whole = 4 + words[3] // 4 + 1
    if len(words) != whole:
        return "SHORT" if len(words) < whole else "LONG"
    body = struct.pack(f"<{whole - 1}I", *words[:-1])
    return "NONE" if zlib.crc32(body) == words[-1] else "SUM"


def load(
    images: Sequence[Sequence[int]], *, capacity: int, oldest: int
) -> tuple[list[str], list[int] | None]:
    """Verdicts on images up to the one that is taken, or the last that may be refused.

    Returns
    -------
    verdicts
        As of :func:`judge`.
    memory
        Words of the code memory, or none if all were refused.
    """
    verdicts: list[str] = []
    for words in images[:_ATTEMPTS]:
        verdicts.append(judge(words, capacity=capacity, oldest=oldest))
        if verdicts[-1] == "NONE":
            code = list(words[4:-1])
            return verdicts, code + [0] * (capacity - len(code))
    return verdicts, None
