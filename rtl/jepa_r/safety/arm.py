"""What the island's firmware is told about the arm: gains, limits and windows.

They are constants of the image, so they are locked with it, and its sum covers them. Those that the
hardware uses, too, are written to its registers at the start and locked there.
"""

from attrs import Attribute, field, fields, frozen

from .map import JOINTS, PERIOD_CYCLES, WATCHDOG_BITS

__all__ = ["ONE", "Settings"]

#: One in Q16.16.
ONE = 1 << 16

_HIGHEST = (1 << 31) - 1


def _each(*values: float) -> tuple[int, ...]:
    return tuple(round(value * ONE) for value in values)


def _joints(low: int):
    """Validator: whole numbers from ``low`` to ``2**31 - 1``, one for each joint."""

    def check(instance: object, attribute: "Attribute[tuple[int, ...]]", value: tuple[int, ...]):
        if len(value) != JOINTS:
            raise ValueError(
                f"{attribute.name} has {len(value)} numbers; there are {JOINTS} joints"
            )
        for joint, number in enumerate(value):
            if not low <= number <= _HIGHEST:
                raise ValueError(
                    f"{attribute.name}[{joint}] is {number}; it must be from {low} to {_HIGHEST}"
                )

    return check


def _between(low: int, high: int):
    """Validator: a whole number from ``low`` to ``high``."""

    def check(instance: object, attribute: "Attribute[int]", value: int):
        if not low <= value <= high:
            raise ValueError(f"{attribute.name} is {value}; it must be from {low} to {high}")

    return check


def _positive(*default: float):
    return field(default=_each(*default), validator=_joints(0))


def _signed(*default: float):
    return field(default=_each(*default), validator=_joints(-_HIGHEST))


@frozen(kw_only=True)
class Settings:
    """Gains, limits and windows. All limits are inclusive; the defaults are for an arm of 7 joints.

    Numbers of joints are Q16.16 of rad, rad/s and Nm; a step is a change from one command or sample
    to the next.

    Attributes
    ----------
    stiffness, damping
        Gains K and D of the impedance law, in Nm/rad and Nm s/rad.
    position_low, position_high, velocity_limit, torque_limit
        Range of commands. ``torque_limit`` bounds the torques that go out, too.
    position_step, velocity_step, torque_step
        Bounds on steps of commands.
    torque_slew
        Bound on the change of a torque that goes out, from one commit to the next.
    joint_low, joint_high, joint_velocity, joint_step
        Range of measured positions and velocities, and steps of positions.
    command_age_us
        Bound on the age of a command: its own and the time since it came, in microseconds.
    joint_age_cycles
        Bound on the time since a sample came.
    command_misses, joint_misses
        Periods in a row without a new one that are still good.
    fallback_periods, fallback_periods_hardware
        Bound on FALLBACK that the firmware holds, and that of the hardware behind it.
    watchdog_open, watchdog_deadline
        Window of the watchdog, in guard cycles.
    deadline_open, deadline_limit
        Window of actions, in cycles.

    Raises
    ------
    ValueError
        If a number is out of its range, or a range or window is empty.
    """

    stiffness: tuple[int, ...] = _positive(600, 600, 600, 600, 250, 150, 50)
    damping: tuple[int, ...] = _positive(50, 50, 50, 20, 20, 20, 10)
    position_low: tuple[int, ...] = _signed(-2.8, -1.7, -2.8, -3.0, -2.8, 0.0, -2.8)
    position_high: tuple[int, ...] = _signed(2.8, 1.7, 2.8, 0.0, 2.8, 3.7, 2.8)
    velocity_limit: tuple[int, ...] = _positive(2.1, 2.1, 2.1, 2.1, 2.6, 2.6, 2.6)
    torque_limit: tuple[int, ...] = _positive(87, 87, 87, 87, 12, 12, 12)
    position_step: tuple[int, ...] = _positive(*[0.005] * 7)
    velocity_step: tuple[int, ...] = _positive(*[0.05] * 7)
    torque_step: tuple[int, ...] = _positive(*[1.0] * 7)
    torque_slew: tuple[int, ...] = _positive(*[1.0] * 7)
    joint_low: tuple[int, ...] = _signed(-2.9, -1.8, -2.9, -3.1, -2.9, -0.1, -2.9)
    joint_high: tuple[int, ...] = _signed(2.9, 1.8, 2.9, 0.1, 2.9, 3.8, 2.9)
    joint_velocity: tuple[int, ...] = _positive(2.5, 2.5, 2.5, 2.5, 3.0, 3.0, 3.0)
    joint_step: tuple[int, ...] = _positive(*[0.01] * 7)
    # Sums of ages in cycles, and the smallest period, stay inside 32 bits.
    command_age_us: int = field(default=20_000, validator=_between(1, 10_000_000))
    joint_age_cycles: int = field(default=2 * PERIOD_CYCLES, validator=_between(1, 1 << 30))
    command_misses: int = field(default=1, validator=_between(0, 255))
    joint_misses: int = field(default=1, validator=_between(0, 255))
    fallback_periods: int = field(default=500, validator=_between(1, 10_000))
    fallback_periods_hardware: int = field(default=510, validator=_between(1, 10_000))
    watchdog_open: int = field(default=16_000, validator=_between(1, (1 << WATCHDOG_BITS) - 1))
    watchdog_deadline: int = field(default=42_000, validator=_between(1, (1 << WATCHDOG_BITS) - 1))
    deadline_open: int = field(default=50_000, validator=_between(1, (1 << 31) - 1))
    deadline_limit: int = field(default=125_000, validator=_between(1, (1 << 31) - 1))

    def __attrs_post_init__(self):
        for low, high in (
            ("position_low", "position_high"),
            ("joint_low", "joint_high"),
        ):
            pairs = zip(getattr(self, low), getattr(self, high), strict=True)
            for joint, (least, most) in enumerate(pairs):
                if least > most:
                    raise ValueError(f"{low}[{joint}] is {least}, above {high}[{joint}], {most}")
        for low, high in (
            ("watchdog_open", "watchdog_deadline"),
            ("deadline_open", "deadline_limit"),
            ("fallback_periods", "fallback_periods_hardware"),
        ):
            least, most = getattr(self, low), getattr(self, high)
            if least >= most:
                raise ValueError(f"{low} is {least}; it must be below {high}, {most}")

    @classmethod
    def names(cls) -> dict[str, int]:
        """Names of the settings in the order of the firmware's structure, and their words."""
        return {part.name: JOINTS if isinstance(part.default, tuple) else 1 for part in fields(cls)}

    def words(self) -> list[int]:
        """Words of the firmware's structure, as numbers of two's complement."""
        found: list[int] = []
        for name, count in self.names().items():
            value = getattr(self, name)
            found += [number & 0xFFFFFFFF for number in (value if count > 1 else [value])]
        return found
