"""Fixed point of actions and states: seven INT16, which the chip reads as two INT8 each."""

import numpy as np
import numpy.typing as npt

from .shapes import FEATURES

__all__ = [
    "GRIPPER",
    "GRIPPER_MAX",
    "LIMIT",
    "LSB",
    "PLANNED",
    "advance",
    "from_units",
    "poses",
    "split",
    "to_units",
]

Int16 = npt.NDArray[np.int16]

#: What a unit is worth: x, y, z in m, three Euler angles in rad, the gripper (0..1).
LSB: npt.NDArray[np.float64] = 2.0 ** -np.array([14, 14, 14, 13, 13, 13, 14])
#: Largest magnitude: ``127 * 256 + 127``, so that either byte is a balanced INT8.
LIMIT = 32639
#: Which feature the gripper is, and its value when it is closed.
GRIPPER, GRIPPER_MAX = 6, 1 << 14
#: Features of an action that are planned; the rotations are zero.
PLANNED = (0, 1, 2, 6)


def _checked(name: str, values: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
    if values.dtype != np.int16 or values.shape[-1:] != (FEATURES,):
        raise ValueError(
            f"{name} are {values.dtype} {values.shape}, not int16 (..., {FEATURES}) features"
        )
    if np.abs(values.astype(np.int64)).max(initial=0) > LIMIT:
        raise ValueError(f"{name} reach {np.abs(values.astype(np.int64)).max()}, at most {LIMIT}")
    return values.astype(np.int64)


def to_units(values: npt.ArrayLike) -> Int16:
    """Nearest units of features ``[..., 7]`` in m, rad and 0..1, at most ``LIMIT`` of them."""
    return np.clip(np.rint(np.asarray(values) / LSB), -LIMIT, LIMIT).astype(np.int16)


def from_units(units: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Features in m, rad and 0..1 of INT16 ``[..., 7]``."""
    return np.asarray(units) * LSB


def split(units: npt.NDArray[np.int16]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8]]:
    """High and low byte with ``units = 256 * high + low``, both INT8 and the low one balanced.

    Raises
    ------
    ValueError
        If the units are not INT16 ``[..., 7]``, or beyond ``LIMIT``.
    """
    value = _checked("units", units)
    low = ((value + 128) & 255) - 128
    return ((value - low) >> 8).astype(np.int8), low.astype(np.int8)


def advance(pose: Int16, action: Int16) -> Int16:
    """Pose ``[..., 7]`` after an action: the sum, within ``LIMIT``, the gripper within its way.

    Raises
    ------
    ValueError
        If either is not INT16 ``[..., 7]``, or beyond ``LIMIT``.
    """
    after = np.clip(_checked("poses", pose) + _checked("actions", action), -LIMIT, LIMIT)
    after[..., GRIPPER] = np.clip(after[..., GRIPPER], 0, GRIPPER_MAX)
    return after.astype(np.int16)


def poses(pose: Int16, actions: Int16) -> Int16:
    """States ``[..., H, 7]`` of a rollout: the pose before each of ``actions [..., H, 7]``."""
    states = [np.broadcast_to(pose, actions[..., 0, :].shape).astype(np.int16)]
    for step in range(actions.shape[-2] - 1):
        states.append(advance(states[-1], actions[..., step, :]))
    return np.stack(states, -2)
