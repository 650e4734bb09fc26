"""Golden model of the firmware's one law of torque."""

import numpy as np
import numpy.typing as npt

from jepa_r.safety.arm import Settings

from .rounding import round_shift

__all__ = ["impedance"]


def impedance(
    settings: Settings,
    *,
    target: npt.ArrayLike,
    feed_forward: npt.ArrayLike,
    position: npt.ArrayLike,
    velocity: npt.ArrayLike,
    last: npt.ArrayLike,
) -> npt.NDArray[np.int64]:
    """Torques of the next commit: ``sat(K (target - position) - D velocity + feed_forward)``.

    All are Q16.16 numbers of 32 bits, one for each joint. The error saturates to 32 bits, the sum
    of products is rounded half up, the torque saturates to its limit, and then differs from the
    ``last`` by at most the slew.
    """
    goal, feed, place, speed, before = (
        np.asarray(values, np.int64) for values in (target, feed_forward, position, velocity, last)
    )
    error = np.clip(goal - place, -(1 << 31), (1 << 31) - 1)
    limit = np.array(settings.torque_limit, np.int64)
    slew = np.array(settings.torque_slew, np.int64)
    # Below 2**63, since gains are not negative.
    spring = np.array(settings.stiffness, np.int64) * error
    damper = np.array(settings.damping, np.int64) * speed
    total = spring - damper
    # The shift of the sum alone: its rounding needs the top bits that `round_shift` leaves free.
    low = total & 0xFFFF
    torque = (total >> 16) + round_shift(low, 16) + feed
    return np.clip(np.clip(torque, -limit, limit), before - slew, before + slew)
