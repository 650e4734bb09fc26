"""Weights in floating point: random ones, and safetensors files."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs
import numpy as np
import numpy.typing as npt
from attrs import field, frozen
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from .shapes import FEATURES, ModelConfig, PredictorConfig

__all__ = [
    "EncoderWeights",
    "ModelFile",
    "PredictorWeights",
    "Weights",
    "WeightsError",
    "load_model_file",
    "load_weights",
    "predictor_shapes",
    "random_predictor_weights",
    "random_weights",
    "save_model",
    "save_weights",
    "tensor_shapes",
]

Float = npt.NDArray[np.float32]

PATCH = "encoder.embeddings.patch_embeddings.proj"
CLASS_TOKEN = "encoder.embeddings.cls_token"
POSITIONS = "encoder.embeddings.position_embeddings"


#: Standard deviation of a layer's output for inputs of unit variance.
GAINS = {"query": 0.9, "key": 0.9, "value": 1.0, "proj": 0.9, "fc1": 1.2, "fc2": 0.9}
#: The same for the predictor, where patches must take much from the one token of an action.
PREDICTOR_GAINS = {"query": 1.2, "key": 1.2, "value": 1.5, "proj": 1.5, "fc1": 1.2, "fc2": 0.9}
PREDICTOR_GAINS |= {"embed": 1.0}
#: What a unit (m, rad, or all of the gripper's way) of an action and of a state adds to a channel.
ACTION_GAIN = np.array([30.0, 30.0, 30.0, 3.0, 3.0, 3.0, 3.0])
STATE_GAIN = 1.0
#: Bias of an action's token: far less, and all actions would point the same way once normalised.
ACTION_BIAS = 0.6


class WeightsError(ValueError):
    """A file or a set of tensors that is not the weights of the model."""


def _block_shapes(name: str, width: int, mlp: int) -> dict[str, tuple[int, ...]]:
    linears = {f"attention.{part}": (width, width) for part in ("query", "key", "value", "proj")}
    linears |= {"mlp.fc1": (mlp, width), "mlp.fc2": (width, mlp)}
    shapes: dict[str, tuple[int, ...]] = {}
    for part, (rows, columns) in linears.items():
        shapes[f"{name}.{part}.weight"] = (rows, columns)
        shapes[f"{name}.{part}.bias"] = (rows,)
    for part in ("norm1", "norm2"):
        shapes[f"{name}.{part}.weight"] = (width,)
        shapes[f"{name}.{part}.bias"] = (width,)
    return shapes


def tensor_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Names (those of Hugging Face's VJEPA2Model) and shapes of all tensors of an encoder."""
    width, mlp = config.width, config.mlp
    shapes: dict[str, tuple[int, ...]] = {
        f"{PATCH}.weight": (width, config.channels, config.tubelet, config.patch, config.patch),
        f"{PATCH}.bias": (width,),
    }
    if config.class_token:
        shapes[CLASS_TOKEN] = (width,)
    if config.absolute_positions:
        shapes[POSITIONS] = (config.tokens, width)
    for layer in range(config.depth):
        shapes |= _block_shapes(f"encoder.layer.{layer}", width, mlp)
    shapes["encoder.layernorm.weight"] = shapes["encoder.layernorm.bias"] = (width,)
    return shapes


def predictor_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors of a model's predictor."""
    predictor = config.action_predictor
    width = predictor.width
    linears = {
        "embed": (width, config.width),
        "action": (width, FEATURES),
        "state": (width, FEATURES),
        "proj": (config.width, width),
    }
    shapes: dict[str, tuple[int, ...]] = {}
    for part, (rows, columns) in linears.items():
        shapes[f"predictor.{part}.weight"] = (rows, columns)
        shapes[f"predictor.{part}.bias"] = (rows,)
    for layer in range(predictor.depth):
        shapes |= _block_shapes(f"predictor.layer.{layer}", width, predictor.mlp)
    shapes["predictor.norm.weight"] = shapes["predictor.norm.bias"] = (width,)
    return shapes


@frozen(eq=False)
class Weights(ABC):
    """All tensors of a part of a model, FP32; the parts say under which names.

    Raises
    ------
    WeightsError
        If a tensor is missing, unknown, of another shape, or not finite.
    """

    config: ModelConfig
    tensors: Mapping[str, Float] = field(repr=False)

    @abstractmethod
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the tensors."""

    def __attrs_post_init__(self) -> None:
        expected = self.shapes()
        if missing := sorted(expected.keys() - self.tensors.keys()):
            raise WeightsError(f"tensor {missing[0]} is missing ({len(missing)} are)")
        if unknown := sorted(self.tensors.keys() - expected.keys()):
            raise WeightsError(
                f"tensor {unknown[0]} is not one of this model's ({len(unknown)} are not)"
            )
        for name, shape in expected.items():
            if self.tensors[name].shape != shape:
                raise WeightsError(
                    f"tensor {name} has shape {self.tensors[name].shape}, this model's is {shape}"
                )
            if not np.isfinite(self.tensors[name]).all():
                raise WeightsError(f"tensor {name} holds values that are not finite")

    def __getitem__(self, name: str) -> Float:
        return self.tensors[name]

    def affine(self, name: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Weight and bias of a linear layer or a norm, FP64."""
        weight, bias = (
            np.asarray(self.tensors[f"{name}.{part}"], np.float64) for part in ("weight", "bias")
        )
        return weight, bias


@frozen(eq=False)
class EncoderWeights(Weights):
    """All tensors of an encoder, FP32, under the names of :func:`tensor_shapes`."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return tensor_shapes(self.config)

    def affine(self, name: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Weight and bias of a linear layer or a norm, FP64; the patch kernel as ``[width, K]``.

        The frames of the patch kernel are added up, since a still frame fills all of them.
        """
        weight, bias = Weights.affine(self, name)
        if name == PATCH:
            weight = weight.sum(2).reshape(self.config.width, -1)
        return weight, bias


@frozen(eq=False)
class PredictorWeights(Weights):
    """All tensors of a predictor, FP32, under the names of :func:`predictor_shapes`."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return predictor_shapes(self.config)


def random_weights(config: ModelConfig, seed: int) -> EncoderWeights:
    """Weights that use the arithmetic as trained ones do.

    Attention is neither uniform nor one-hot, hidden channels reach both arms of GELU, the residual
    stream grows over the depth, and some channels of the norms stand out by three to five times.
    """
    random = np.random.default_rng(seed)
    tensors = {}
    for name, shape in tensor_shapes(config).items():
        if name.startswith("encoder.embeddings") and not name.endswith(".bias"):
            tensor = random.standard_normal(shape) / np.sqrt(
                np.prod(shape[1:]) if len(shape) == 5 else 4
            )
        else:
            tensor = _random_tensor(random, name, shape, GAINS)
        tensors[name] = tensor.astype(np.float32)
    return EncoderWeights(config, tensors)


def _random_tensor(
    random: np.random.Generator, name: str, shape: tuple[int, ...], gains: Mapping[str, float]
) -> npt.NDArray[np.float64]:
    kind = name.split(".")[-2]
    if name.endswith(".bias"):
        return 0.2 * random.standard_normal(shape)
    if kind in gains:
        return gains[kind] * random.standard_normal(shape) / np.sqrt(shape[1])
    gain = np.exp(0.25 * random.standard_normal(shape))
    if kind in {"norm1", "norm2"}:
        hot = random.choice(shape[0], max(1, shape[0] // 40), replace=False)
        gain[hot] *= random.uniform(3, 5, len(hot))
    return gain


def random_predictor_weights(config: ModelConfig, seed: int) -> PredictorWeights:
    """Weights that use the arithmetic as :func:`random_weights` do, and in which actions matter.

    A few centimetres move an action's token as far as its bias does, and the latent well beyond
    what INT8 costs.
    """
    random = np.random.default_rng(seed)
    tensors = {}
    for name, shape in predictor_shapes(config).items():
        if name == "predictor.action.weight":
            tensor = ACTION_GAIN * random.standard_normal(shape)
        elif name == "predictor.state.weight":
            tensor = STATE_GAIN * random.standard_normal(shape)
        elif name == "predictor.action.bias":
            tensor = ACTION_BIAS * random.standard_normal(shape)
        else:
            tensor = _random_tensor(random, name, shape, PREDICTOR_GAINS)
        tensors[name] = tensor.astype(np.float32)
    return PredictorWeights(config, tensors)


@frozen(eq=False)
class ModelFile:
    """What a file holds of a model: either part, or both."""

    encoder: EncoderWeights | None
    predictor: PredictorWeights | None


def save_model(
    path: str | Path,
    *,
    encoder: EncoderWeights | None = None,
    predictor: PredictorWeights | None = None,
) -> None:
    """Write a safetensors file of either part or both, that also says which model it is of.

    Raises
    ------
    ValueError
        If there is no part, or the parts are of different models.
    """
    parts: list[Weights] = [part for part in (encoder, predictor) if part is not None]
    if not parts:
        raise ValueError("encoder None and predictor None: a file needs one of them at least")
    if any(part.config != parts[0].config for part in parts):
        raise ValueError("encoder and predictor are of different models: their configs differ")
    config = json.dumps(attrs.asdict(parts[0].config), sort_keys=True)
    arrays = {
        name: np.ascontiguousarray(tensor)
        for part in parts
        for name, tensor in part.tensors.items()
    }
    save_file(arrays, path, metadata={"format": "np", "jepa_r.model": config})


def save_weights(weights: EncoderWeights, path: str | Path) -> None:
    """Write a file of an encoder alone."""
    save_model(path, encoder=weights)


def load_model_file(path: str | Path, config: ModelConfig | None = None) -> ModelFile:
    """Read the parts that a safetensors file holds.

    A predictor is one that reads actions: that of a published V-JEPA 2 without them is left out.
    16-bit floats become FP32.

    Parameters
    ----------
    path
        The file.
    config
        The model; needed if the file was not written by :func:`save_model`.

    Raises
    ------
    WeightsError
        If the file cannot be read, is not a safetensors file, says nothing of its model where
        ``config`` does not either, does not fit the model, or holds neither part.
    """
    path = Path(path)
    config, tensors = _read(path, config, lambda name: True)
    predicting = {name: tensors.pop(name) for name in list(tensors) if _is_predictor(name)}
    acts = "predictor.action.weight" in predicting
    if not (tensors or acts):
        raise WeightsError(f"{path} holds neither an encoder nor a predictor that reads actions")
    try:
        return ModelFile(
            encoder=EncoderWeights(config, tensors) if tensors else None,
            predictor=PredictorWeights(config, predicting) if acts else None,
        )
    except ValueError as error:
        raise WeightsError(f"{path} does not fit the model: {error}") from error


def load_weights(path: str | Path, config: ModelConfig | None = None) -> EncoderWeights:
    """Read the encoder of a safetensors file, for example a published checkpoint of V-JEPA 2.

    Tensors of a predictor are left out; 16-bit floats become FP32.

    Parameters
    ----------
    path
        The file.
    config
        The model; needed if the file was not written by :func:`save_weights`.

    Raises
    ------
    WeightsError
        If the file cannot be read, is not a safetensors file, says nothing of its model where
        ``config`` does not either, or does not fit the model.
    """
    path = Path(path)
    config, tensors = _read(path, config, lambda name: not _is_predictor(name))
    try:
        return EncoderWeights(config, tensors)
    except WeightsError as error:
        raise WeightsError(f"{path} does not fit the model: {error}") from error


def _is_predictor(name: str) -> bool:
    return name.startswith("predictor.")


def _read(
    path: Path, config: ModelConfig | None, wanted: Callable[[str], bool]
) -> tuple[ModelConfig, dict[str, Float]]:
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            names = [name for name in file.keys() if wanted(name)]
            tensors = {name: file.get_tensor(name).astype(np.float32) for name in names}
    except OSError as error:
        raise WeightsError(
            f"model file {path} cannot be read: {error.strerror or error}"
        ) from error
    except (SafetensorError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path} is not a safetensors file of floats: {error}") from error
    if config is None:
        if "jepa_r.model" not in metadata:
            raise WeightsError(f"{path} does not say which model it is of: name one")
        config = _config_of(path, metadata["jepa_r.model"])
    return config, tensors


def _config_of(path: Path, text: str) -> ModelConfig:
    try:
        fields = json.loads(text)
        if fields["predictor"] is not None:
            fields["predictor"] = PredictorConfig(**fields["predictor"])
        return ModelConfig(**fields)
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path} describes a model that cannot be: {error}") from error
