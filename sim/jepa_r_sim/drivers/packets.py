"""Packets of the host: states in, actions out, as words of 32 bits."""

import struct
import zlib
from collections.abc import Sequence

from attrs import frozen

__all__ = ["Action", "command_packet", "joint_packet", "parse_action", "state_packet", "with_sum"]


@frozen(kw_only=True)
class Action:
    """What an action packet says.

    Attributes
    ----------
    sequence
        Number of its period.
    time
        Cycles since reset.
    age
        Of its plan, in cycles.
    plan
        Low 16 bits of its plan's number.
    valid, stale
        Whether there is a plan that is not too old; one that is.
    action
        Seven INT16.
    """

    sequence: int
    time: int
    age: int
    plan: int
    valid: bool
    stale: bool
    action: tuple[int, ...]


def state_packet(sequence: int, pose: Sequence[int], timestamp: int) -> list[int]:
    """Words of a state packet."""
    head = struct.pack("<I7hhI", sequence, *pose, 0, timestamp)
    return list(struct.unpack("<7I", head + struct.pack("<I", zlib.crc32(head))))


def with_sum(words: Sequence[int]) -> list[int]:
    """Words of 32 bits, and the CRC-32 of their bytes behind them."""
    return [*words, zlib.crc32(struct.pack(f"<{len(words)}I", *words))]


def command_packet(
    sequence: int,
    position: Sequence[int],
    velocity: Sequence[int],
    torque: Sequence[int],
    *,
    age: int = 0,
    flags: int = 0,
) -> list[int]:
    """Words of a command for the safety island; numbers are Q16.16 in 32 bits, signed or not."""
    numbers = [number & 0xFFFF_FFFF for number in (*position, *velocity, *torque)]
    return with_sum([sequence, age, flags, *numbers])


def joint_packet(sequence: int, position: Sequence[int], velocity: Sequence[int]) -> list[int]:
    """Words of a sample of the joints, as :func:`command_packet`."""
    return with_sum([sequence, *(number & 0xFFFF_FFFF for number in (*position, *velocity))])


def parse_action(words: Sequence[int]) -> Action:
    """Read an action packet.

    Raises
    ------
    ValueError
        If it has another length or checksum, or anything in the bits that mean nothing.
    """
    if len(words) != 10:
        raise ValueError(f"an action packet has {len(words)} words; it must have 10")
    head = struct.pack("<9I", *words[:9])
    if zlib.crc32(head) != words[9]:
        raise ValueError(f"an action packet has the sum {words[9]:#x}, not {zlib.crc32(head):#x}")
    sequence, time, age, plan, flags, *action, spare = struct.unpack("<IQIHH7hh", head)
    if flags >> 2 or spare:
        raise ValueError(f"an action packet has flags {flags:#x} and {spare:#x} in its last half")
    return Action(
        sequence=sequence,
        time=time,
        age=age,
        plan=plan,
        valid=bool(flags & 1),
        stale=bool(flags & 2),
        action=tuple(action),
    )
