"""Models by name or file, as commands take them."""

from pathlib import Path

import numpy as np

from jepa_r_sim.model import integer
from jepa_r_sim.model.quantised import QuantisedEncoder, QuantisedPredictor
from jepa_r_sim.model.quantiser import calibration_patches, quantise, quantise_predictor
from jepa_r_sim.model.shapes import MODELS, ModelConfig
from jepa_r_sim.model.trained import load_trained, quantised_trained
from jepa_r_sim.model.weights import (
    EncoderWeights,
    ModelFile,
    WeightsError,
    load_model_file,
    random_predictor_weights,
    random_weights,
)

from .console import Stages

__all__ = [
    "TRAINED",
    "load_encoder",
    "load_model",
    "load_shapes",
    "quantised",
    "quantised_model",
]

#: The model whose weights are shipped.
TRAINED = "nano"


def load_shapes(name: str) -> ModelConfig:
    """Shapes of a model of :data:`MODELS`, or of one in a ``.safetensors`` file.

    Raises
    ------
    WeightsError
        If there is no such model, or the file is not one.
    """
    if name in MODELS:
        return MODELS[name]
    found = load_model(name)
    weights = found.encoder or found.predictor
    assert weights is not None
    return weights.config


def load_model(name: str, *, seed: int = 1) -> ModelFile:
    """Weights of a model: the trained ones, for other names random ones, or a file's.

    Raises
    ------
    WeightsError
        If there is no such model, or the file is not one.
    """
    if name == TRAINED:
        return ModelFile(*load_trained())
    if name in MODELS:
        config = MODELS[name]
        return ModelFile(random_weights(config, seed), random_predictor_weights(config, seed))
    if not name.endswith(".safetensors"):
        raise WeightsError(
            f"there is no model {name!r}; there are {', '.join(MODELS)}, or a file FILE.safetensors"
        )
    return load_model_file(Path(name))


def load_encoder(name: str, *, seed: int = 1) -> EncoderWeights:
    """Weights of a model's encoder, as of :func:`load_model`.

    Raises
    ------
    WeightsError
        If there is no such model, the file is not one, or it has no encoder.
    """
    if name in MODELS and name != TRAINED:
        return random_weights(MODELS[name], seed)
    found = load_model(name, seed=seed).encoder
    if found is None:
        raise WeightsError(f"{name} holds a predictor alone")
    return found


def quantised(name: str, weights: EncoderWeights, stages: Stages) -> QuantisedEncoder:
    """Quantise the encoder of the model called ``name``, with a bar.

    The trained model was made for scenes, and is calibrated on them; others on a photograph.
    """
    with stages.stage("quantise") as progress:
        if name == TRAINED:
            return quantised_trained()[0]
        return quantise(weights, progress=progress)


def quantised_model(
    name: str, model: ModelFile, stages: Stages
) -> tuple[QuantisedEncoder, QuantisedPredictor]:
    """Quantise both parts of the model called ``name``, as :func:`quantised` does its encoder."""
    assert model.encoder is not None
    assert model.predictor is not None
    with stages.stage("quantise") as progress:
        if name == TRAINED:
            return quantised_trained()
        frames = calibration_patches(model.encoder.config)
        first = quantise(model.encoder, frames, progress=progress)
        latents = np.stack([integer.encode(first, frame).latent for frame in frames])
        return first, quantise_predictor(model.predictor, latents)
