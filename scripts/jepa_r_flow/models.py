"""Models by name or file, as commands take them."""

from pathlib import Path

from jepa_r_sim.model.quantised import QuantisedEncoder
from jepa_r_sim.model.quantiser import quantise
from jepa_r_sim.model.shapes import MODELS, ModelConfig
from jepa_r_sim.model.weights import EncoderWeights, WeightsError, load_weights, random_weights

from .console import Stages

__all__ = ["load_model", "load_shapes", "quantised"]


def load_shapes(name: str) -> ModelConfig:
    """Shapes of a model of :data:`MODELS`, or of one in a ``.safetensors`` file.

    Raises
    ------
    WeightsError
        If there is no such model, or the file is not one.
    """
    return MODELS[name] if name in MODELS else load_model(name).config


def load_model(name: str, *, seed: int = 1) -> EncoderWeights:
    """Weights of a model: random ones for a name, the file's for a file.

    Raises
    ------
    WeightsError
        If there is no such model, or the file is not one.
    """
    if name in MODELS:
        return random_weights(MODELS[name], seed)
    if not name.endswith(".safetensors"):
        raise WeightsError(
            f"there is no model {name!r}; there are {', '.join(MODELS)}, or a file FILE.safetensors"
        )
    return load_weights(Path(name))


def quantised(weights: EncoderWeights, stages: Stages) -> QuantisedEncoder:
    """Quantise a model, with a bar."""
    with stages.stage("quantise") as progress:
        return quantise(weights, progress=progress)
