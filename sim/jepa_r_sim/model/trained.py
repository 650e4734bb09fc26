"""The ``nano`` model trained on scenes, and what to calibrate its quantisation with.

The weights are FP16, made by ``scripts/train_nano.py``, and shipped with the package.
"""

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from attrs import frozen

from ..scene import Scene, draw_poses
from . import integer
from .preprocess import patches_of
from .quantised import QuantisedEncoder, QuantisedPredictor
from .quantiser import quantise, quantise_predictor
from .shapes import MODELS
from .units import LSB, PLANNED, advance
from .weights import EncoderWeights, PredictorWeights, WeightsError, load_model_file

__all__ = ["FILE", "Calibration", "calibration", "load_trained", "quantised_trained"]

#: The shipped weights.
FILE = Path(__file__).parent / "data" / "nano.safetensors"

#: Largest action along x, y, z (m) and of the gripper that calibration shows.
REACH = np.array([0.075, 0.075, 0.075, 0.75])
#: Metres outside the scene's box in which the gripper may still be.
MARGIN = 0.05


def load_trained() -> tuple[EncoderWeights, PredictorWeights]:
    """Encoder and predictor.

    Raises
    ------
    WeightsError
        If the file is damaged.
    """
    file = load_model_file(FILE)
    if file.encoder is None or file.predictor is None:
        raise WeightsError(f"{FILE} does not hold both encoder and predictor")
    return file.encoder, file.predictor


@frozen(eq=False)
class Calibration:
    """Motions in scenes that neither training nor the benchmark shows.

    Attributes
    ----------
    frames
        INT8 patches of the frame before the first action, one ``[tokens, features]`` each.
    actions, states
        INT16 ``[frames, steps, 7]``; states are the poses before the actions.
    """

    frames: list[npt.NDArray[np.int8]]
    actions: npt.NDArray[np.int16]
    states: npt.NDArray[np.int16]


def calibration(count: int = 64, *, seed: int = 0) -> Calibration:
    """Draw ``count`` frames, each of a scene and a pose of its own, and actions from there."""
    random = np.random.default_rng(seed)
    config = MODELS["nano"]
    assert config.predictor is not None
    shape = (count, config.predictor.steps, 7)
    actions, states = np.zeros(shape, np.int16), np.zeros(shape, np.int16)
    pose = draw_poses(random, count, margin=MARGIN)
    first = pose
    for step in range(shape[1]):
        drawn = random.uniform(-REACH, REACH, (count, 4)) / LSB[list(PLANNED)]
        actions[:, step, PLANNED] = np.rint(drawn)
        states[:, step] = pose
        pose = advance(pose, actions[:, step])
    scenes = (Scene(seed=2_000_000 + count * seed + index) for index in range(count))
    frames = [
        patches_of(scene.render(pose), config) for scene, pose in zip(scenes, first, strict=True)
    ]
    return Calibration(frames, actions, states)


@cache
def quantised_trained() -> tuple[QuantisedEncoder, QuantisedPredictor]:
    """The trained model in the integers that the hardware reads."""
    encoder, predictor = load_trained()
    shown = calibration()
    quantised = quantise(encoder, shown.frames)
    latents = np.stack([integer.encode(quantised, frame).latent for frame in shown.frames])
    return quantised, quantise_predictor(predictor, latents, shown.actions, shown.states)
