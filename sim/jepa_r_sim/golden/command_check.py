"""Golden model of the firmware's checks of commands and of samples of the joints.

A check of values gives a table of faults by joint; of several the first of the map counts.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from attrs import evolve, frozen

from jepa_r.safety.arm import Settings
from jepa_r.safety.map import JOINTS, PERIOD_CYCLES, Fault

__all__ = ["Accepted", "Received", "check_command", "check_joints"]

_NOT_A_NUMBER = -(1 << 31)


@frozen(kw_only=True)
class Received:
    """A packet as the registers show it.

    Attributes
    ----------
    words
        Without sign.
    fresh, crc_good, length_good, lost
        Fields of its status.
    age
        Cycles since it came.
    """

    words: Sequence[int]
    fresh: bool = True
    crc_good: bool = True
    length_good: bool = True
    lost: int = 0
    age: int = 0


@frozen(kw_only=True)
class Accepted:
    """What was accepted last; ``values`` has a row for each kind of number.

    Attributes
    ----------
    started
        Whether anything was.
    sequence
        Its number.
    misses
        Periods in a row without a new one.
    values
        Positions, velocities and, of commands, torques.
    """

    started: bool
    sequence: int
    misses: int
    values: npt.NDArray[np.int64]


def _first(faults: Sequence[tuple[Fault, npt.NDArray[np.bool_]]]) -> Fault:
    found = [fault for fault, where in faults if where.any()]
    return min(found, default=Fault.NONE)


def _numbers(words: Sequence[int], rows: int) -> npt.NDArray[np.int64]:
    return np.array(words, np.uint32).astype(np.int32).astype(np.int64).reshape(rows, JOINTS)


def _follows(packet: Received, last: Accepted) -> tuple[bool, bool]:
    """Whether a sequence number is the last again, and whether it is the next."""
    number = packet.words[0]
    following = (last.sequence + 1 + packet.lost) % (1 << 32)
    return number == last.sequence, packet.lost <= 1 and number == following


def check_command(settings: Settings, packet: Received, last: Accepted) -> tuple[Fault, Accepted]:
    """Fault of a command, and what is accepted then."""
    cycles = packet.words[1] * (PERIOD_CYCLES // 1000) + packet.age
    old = cycles > settings.command_age_us * (PERIOD_CYCLES // 1000)
    if not packet.fresh:
        if not last.started or last.misses >= settings.command_misses:
            return Fault.COMMAND_MISSING, last
        return Fault.COMMAND_AGE if old else Fault.NONE, evolve(last, misses=last.misses + 1)

    again, following = _follows(packet, last)
    header = (
        (Fault.COMMAND_LENGTH, not packet.length_good),
        (Fault.COMMAND_CRC, not packet.crc_good),
        (Fault.COMMAND_FLAGS, packet.words[2] != 0),
        (Fault.COMMAND_REPEATED, last.started and again),
        (Fault.COMMAND_ORDER, last.started and not following),
        (Fault.COMMAND_AGE, old),
    )
    for fault, found in header:
        if found:
            return fault, last

    values = _numbers(packet.words[3:24], 3)
    low = np.array([
        settings.position_low,
        np.negative(settings.velocity_limit),
        np.negative(settings.torque_limit),
    ])
    high = np.array([settings.position_high, settings.velocity_limit, settings.torque_limit])
    step = np.array([settings.position_step, settings.velocity_step, settings.torque_step])
    step = step * (2 if packet.lost else 1)
    unknown, outside = values == _NOT_A_NUMBER, (values < low) | (values > high)
    fast = np.abs(values - last.values) > step
    names = ("POSITION", "VELOCITY", "TORQUE")
    fault = _first([
        (Fault[f"{name}_{kind}"], table[row])
        for kind, table in (("NAN", unknown), ("RANGE", outside), ("RATE", fast))
        for row, name in enumerate(names)
    ])
    if fault:
        return fault, last
    accepted = Accepted(started=True, sequence=packet.words[0], misses=0, values=values)
    return Fault.NONE, accepted


def check_joints(settings: Settings, packet: Received, last: Accepted) -> tuple[Fault, Accepted]:
    """Fault of a sample of the joints, and what is accepted then."""
    old = packet.age > settings.joint_age_cycles
    if not packet.fresh:
        if not last.started or last.misses >= settings.joint_misses:
            return Fault.JOINT_MISSING, last
        return Fault.JOINT_AGE if old else Fault.NONE, evolve(last, misses=last.misses + 1)

    again, following = _follows(packet, last)
    header = (
        (Fault.JOINT_LENGTH, not packet.length_good),
        (Fault.JOINT_CRC, not packet.crc_good),
        (Fault.JOINT_REPEATED, last.started and again),
        (Fault.JOINT_ORDER, last.started and not following),
        (Fault.JOINT_AGE, old),
    )
    for fault, found in header:
        if found:
            return fault, last

    position, velocity = values = _numbers(packet.words[1:15], 2)
    step = np.array(settings.joint_step) * (2 if packet.lost else 1)
    low, high = np.array(settings.joint_low), np.array(settings.joint_high)
    fault = _first([
        (Fault.JOINT_POSITION_NAN, position == _NOT_A_NUMBER),
        (Fault.JOINT_VELOCITY_NAN, velocity == _NOT_A_NUMBER),
        (Fault.JOINT_POSITION_RANGE, (position < low) | (position > high)),
        (Fault.JOINT_VELOCITY_RANGE, np.abs(velocity) > np.array(settings.joint_velocity)),
        (Fault.JOINT_POSITION_JUMP, last.started & (np.abs(position - last.values[0]) > step)),
    ])
    if fault:
        return fault, last
    accepted = Accepted(started=True, sequence=packet.words[0], misses=0, values=values)
    return Fault.NONE, accepted
