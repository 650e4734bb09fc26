"""Golden model of :class:`jepa_r.safety.packets.PacketIn`."""

import zlib
from collections.abc import Iterable, Sequence

import numpy as np

__all__ = ["judge"]


def judge(
    packets: Iterable[Sequence[int]], *, words: int, strict: bool, last: int | None = None
) -> list[str]:
    """What each packet is found to be.

    Parameters
    ----------
    packets
        Words of 32 bits of each.
    words
        Words of a packet, its sum included.
    strict
        Whether only the next number is accepted, not any that is ahead.
    last
        Number of the last packet that was accepted, if there is one.

    Returns
    -------
    list of str
        ``LENGTH``, ``SUM``, ``REPEATED``, ``ORDER`` or ``ACCEPTED``.
    """
    verdicts = []
    for packet in packets:
        *body, given = packet
        if len(packet) != words:
            verdicts.append("LENGTH")
            continue
        if zlib.crc32(np.array(body, dtype="<u4").tobytes()) != given:
            verdicts.append("SUM")
            continue
        ahead = None if last is None else (body[0] - last) % 2**32
        if ahead == 0:
            verdicts.append("REPEATED")
        elif ahead is not None and (ahead != 1 if strict else ahead >= 2**31):
            verdicts.append("ORDER")
        else:
            verdicts.append("ACCEPTED")
            last = body[0]
    return verdicts
