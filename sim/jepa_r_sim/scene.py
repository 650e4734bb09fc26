"""A scene to close the loop in: a gripper above a table, moved by actions and seen by a camera.

The pose is that of the joint state, in its fixed-point units, and moves as the planner assumes. A
frame is drawn from the pose alone: where the gripper is across and along the table, how high, and
how far it is open all show, as place, size, distance from its shadow and gap between the fingers.
"""

import numpy as np
import numpy.typing as npt
from attrs import field, frozen

from .model.units import GRIPPER, GRIPPER_MAX, from_units, to_units

__all__ = ["BOX", "SIDE", "Scene", "distance", "draw_poses", "draw_task"]

Float = npt.NDArray[np.float64]
Int16 = npt.NDArray[np.int16]

#: Corners of the box that starts and goals are drawn from, x, y, z in metres above the table.
BOX = np.array([[-0.3, -0.3, 0.05], [0.3, 0.3, 0.4]])

#: Side of a frame in pixels, and the camera's focal length in the same.
SIDE, FOCAL = 64, 70.0
#: The camera, and the unit vectors of its picture: right, up, and into the scene.
EYE = np.array([0.0, -1.2, 1.07])
AXES = np.array([[1.0, 0.0, 0.0], [0.0, 0.6, 0.8], [0.0, 0.8, -0.6]])

#: Half of the table's side, in metres; beyond it is the floor.
TABLE = 0.62
#: Colours of table, floor and the parts of the gripper, 0..1.
TABLE_COLOUR, FLOOR_COLOUR = np.array([0.62, 0.55, 0.44]), np.array([0.20, 0.23, 0.27])
ARM, PALM = np.array([0.75, 0.77, 0.80]), np.array([0.85, 0.33, 0.12])
FINGERS = (np.array([0.12, 0.36, 0.80]), np.array([0.10, 0.62, 0.35]))


def distance(pose: npt.NDArray[np.integer], goal: npt.NDArray[np.integer]) -> Float:
    """How far the gripper is from where it should be, in metres; its opening does not count."""
    return np.linalg.norm((from_units(pose) - from_units(goal))[..., :3], axis=-1)


def draw_poses(random: np.random.Generator, count: int, *, margin: float = 0.0) -> Int16:
    """Poses ``[count, 7]``, uniform in the box (widened by ``margin`` metres) and in opening."""
    poses = np.zeros((count, 7))
    poses[:, :3] = random.uniform(BOX[0] - margin, BOX[1] + margin, (count, 3))
    poses[:, GRIPPER] = random.uniform(0, 1, count)
    return to_units(poses)


def draw_task(seed: int, *, apart: float = 0.15) -> tuple[Int16, Int16]:
    """A start and a goal in the box, at least ``apart`` metres from each other."""
    random = np.random.default_rng(seed)
    while True:
        start, goal = draw_poses(random, 2)
        if distance(start, goal) >= apart:
            return start, goal


@frozen(eq=False)
class Scene:
    """One table under one light, seen by one camera.

    Attributes
    ----------
    seed
        Decides brightness and tint of the light, the grain of the table and the camera's noise.
    """

    seed: int
    _noise: float = field(init=False, repr=False)
    _light: Float = field(init=False, repr=False)
    _empty: Float = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        random = np.random.default_rng(self.seed)
        light = random.uniform(0.85, 1.15) * random.uniform(0.95, 1.05, 3)
        object.__setattr__(self, "_light", light)
        object.__setattr__(self, "_noise", float(random.uniform(1.0, 3.0)))
        object.__setattr__(self, "_empty", _table(random))

    def render(self, pose: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
        """Draw a frame.

        Parameters
        ----------
        pose
            Seven features in units. The angles are not drawn: the gripper hangs straight down.

        Returns
        -------
        numpy.ndarray
            uint8 ``[3, 64, 64]``; the same pose always gives the same frame.
        """
        x, y, z = from_units(pose)[:3]
        image = _shadow(self._empty, x, y, z)
        wrist = np.array([x, y, z + 0.13])
        ceiling = wrist + np.array([0, 0, 0.9])
        image = _capsule(image, wrist, ceiling, 0.026, ARM)
        # One opening for both fingers: half of it to either side.
        reach = 0.025 + 0.065 * float(pose[GRIPPER]) / GRIPPER_MAX
        across = np.array([reach, 0, 0])
        tip = np.array([x, y, z])
        for side, colour in zip((-1, 1), FINGERS, strict=True):
            image = _capsule(image, wrist + side * across, tip + side * across, 0.024, colour)
        image = _capsule(image, wrist - across, wrist + across, 0.045, PALM)
        key = [self.seed, *(int(value) & 0xFFFF for value in pose)]
        noise = np.random.default_rng(key).normal(0, self._noise, image.shape)
        levels = image * self._light * 255 + noise
        return np.clip(np.rint(levels), 0, 255).astype(np.uint8).transpose(2, 0, 1)


def _project(point: Float) -> tuple[Float, float]:
    """Column and row in pixels, and pixels a metre at that depth."""
    right, up, depth = AXES @ (point - EYE)
    scale = FOCAL / depth
    return np.array([SIDE / 2 + scale * right, SIDE / 2 - scale * up]), float(scale)


def _pixels() -> Float:
    """Centres of all pixels, ``[SIDE, SIDE, 2]`` of column and row."""
    centre = np.arange(SIDE) + 0.5
    return np.stack(np.meshgrid(centre, centre), -1)


def _ground() -> Float:
    """Where on the plane of the table each pixel looks, ``[SIDE, SIDE, 2]`` of x and y."""
    offset = (_pixels() - SIDE / 2) / FOCAL
    rays = offset[..., :1] * AXES[0] - offset[..., 1:] * AXES[1] + AXES[2]
    # The camera looks down: every ray of the picture meets the plane.
    return EYE[:2] - rays[..., :2] * (EYE[2] / rays[..., 2:])


PIXELS, GROUND = _pixels(), _ground()


def _table(random: np.random.Generator) -> Float:
    """The empty scene, ``[SIDE, SIDE, 3]``: boards with a grain of their own, and the floor."""
    x, y = GROUND[..., 0], GROUND[..., 1]
    boards = 0.05 * np.sign(np.sin(2 * np.pi * x / 0.4) * np.sin(2 * np.pi * y / 0.4))
    waves = np.zeros_like(x)
    for _ in range(3):
        wave, phase = random.uniform(-25, 25, 2), random.uniform(0, 2 * np.pi)
        waves += 0.02 * np.sin(wave[0] * x + wave[1] * y + phase)
    # Boards are told apart by their colour too: each place of the table looks different.
    tint = np.stack([0.10 * x, 0.06 * y, -0.10 * x - 0.08 * y], -1)
    table = TABLE_COLOUR + (boards + waves)[..., None] + tint
    edge = np.clip((TABLE - np.abs(GROUND).max(-1)) / 0.02 + 0.5, 0, 1)[..., None]
    return edge * table + (1 - edge) * FLOOR_COLOUR


def _shadow(image: Float, x: float, y: float, z: float) -> Float:
    """Darken the table below the gripper; the higher it is, the wider and fainter."""
    away = np.hypot(GROUND[..., 0] - x, GROUND[..., 1] - y)
    width = 0.075 + 0.05 * max(z, 0.0)
    depth = 0.65 - 0.4 * max(z, 0.0)
    return image * (1 - depth * np.clip((width - away) / 0.03 + 0.5, 0, 1))[..., None]


def _capsule(image: Float, start: Float, end: Float, radius: float, colour: Float) -> Float:
    """Draw a rod with round ends, lit from the camera, its outline a pixel soft."""
    (a, scale_a), (b, scale_b) = _project(start), _project(end)
    along = b - a
    part = (PIXELS - a) @ along / max(float(along @ along), 1e-9)
    part = np.clip(part, 0, 1)
    away = np.linalg.norm(PIXELS - a - part[..., None] * along, axis=-1)
    reach = radius * (scale_a + part * (scale_b - scale_a))
    cover = np.clip(reach - away + 0.5, 0, 1)[..., None]
    shade = 1.05 - 0.45 * np.clip(away / reach, 0, 1) ** 2
    return (1 - cover) * image + cover * colour * shade[..., None]
