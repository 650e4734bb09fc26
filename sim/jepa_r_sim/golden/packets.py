"""Golden model of :class:`jepa_r.safety.packets.PacketIn`."""

import zlib
from collections.abc import Sequence

import numpy as np
from attrs import define, field, frozen

__all__ = ["Packet", "Packets"]


@frozen
class Packet:
    """A packet that came: its words, and the cycle of its last word."""

    words: tuple[int, ...]
    came: int

    def length_good(self, words: int) -> bool:
        """Whether it has so many words."""
        return len(self.words) == words

    @property
    def sum_good(self) -> bool:
        """Whether its last word is the sum of the others."""
        *body, given = self.words
        return zlib.crc32(np.array(body, dtype="<u4").tobytes()) == given


@define
class Packets:
    """What a receiver of packets shows.

    Attributes
    ----------
    words
        Words of a packet.
    visible
        The packet that is visible, if there is one.
    fresh, lost
        Whether the last take found a new one, and how many it left out.
    """

    words: int
    visible: Packet | None = None
    fresh: bool = False
    lost: int = 0
    _came: list[Packet] = field(factory=list)

    def arrive(self, words: Sequence[int], cycle: int) -> bool:
        """Note a packet whose last word came in ``cycle``; whether it is good."""
        packet = Packet(tuple(words), cycle)
        self._came.append(packet)
        return packet.length_good(self.words) and packet.sum_good

    def take(self) -> None:
        """Make the newest packet visible."""
        self.fresh = bool(self._came)
        self.lost = min(max(len(self._came) - 1, 0), 255)
        if self._came:
            self.visible = self._came[-1]
        self._came.clear()

    def age(self, cycle: int) -> int:
        """Cycles since the visible packet's last word."""
        return min(cycle - self.visible.came, 2**32 - 1) if self.visible else 2**32 - 1
