"""Weights of the encoder in floating point: random ones, and safetensors files."""

import json
from collections.abc import Mapping
from pathlib import Path

import attrs
import numpy as np
import numpy.typing as npt
from attrs import field, frozen
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from .shapes import ModelConfig, PredictorConfig

__all__ = [
    "EncoderWeights",
    "WeightsError",
    "load_weights",
    "random_weights",
    "save_weights",
    "tensor_shapes",
]

Float = npt.NDArray[np.float32]

PATCH = "encoder.embeddings.patch_embeddings.proj"
CLASS_TOKEN = "encoder.embeddings.cls_token"
POSITIONS = "encoder.embeddings.position_embeddings"


class WeightsError(ValueError):
    """A file or a set of tensors that is not the weights of the model."""


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
    linears = {f"attention.{name}": (width, width) for name in ("query", "key", "value", "proj")}
    linears |= {"mlp.fc1": (mlp, width), "mlp.fc2": (width, mlp)}
    for layer in range(config.depth):
        for name, (rows, columns) in linears.items():
            shapes[f"encoder.layer.{layer}.{name}.weight"] = (rows, columns)
            shapes[f"encoder.layer.{layer}.{name}.bias"] = (rows,)
        for name in ("norm1", "norm2"):
            shapes[f"encoder.layer.{layer}.{name}.weight"] = (width,)
            shapes[f"encoder.layer.{layer}.{name}.bias"] = (width,)
    shapes["encoder.layernorm.weight"] = shapes["encoder.layernorm.bias"] = (width,)
    return shapes


@frozen(eq=False)
class EncoderWeights:
    """All tensors of an encoder, FP32, under the names of :func:`tensor_shapes`.

    Raises
    ------
    WeightsError
        If a tensor is missing, unknown, of another shape, or not finite.
    """

    config: ModelConfig
    tensors: Mapping[str, Float] = field(repr=False)

    def __attrs_post_init__(self) -> None:
        expected = tensor_shapes(self.config)
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
        """Weight and bias of a linear layer or a norm, FP64; the patch kernel as ``[width, K]``.

        The frames of the patch kernel are added up, since a still frame fills all of them.
        """
        weight = np.asarray(self.tensors[f"{name}.weight"], np.float64)
        if name == PATCH:
            weight = weight.sum(2).reshape(self.config.width, -1)
        return weight, np.asarray(self.tensors[f"{name}.bias"], np.float64)


def random_weights(config: ModelConfig, seed: int) -> EncoderWeights:
    """Weights that use the arithmetic as trained ones do.

    Attention is neither uniform nor one-hot, hidden channels reach both arms of GELU, the residual
    stream grows over the depth, and some channels of the norms stand out by three to five times.
    """
    random = np.random.default_rng(seed)
    # Standard deviation of a layer's output for inputs of unit variance.
    gains = {"query": 0.9, "key": 0.9, "value": 1.0, "proj": 0.9, "fc1": 1.2, "fc2": 0.9}
    tensors = {}
    for name, shape in tensor_shapes(config).items():
        kind = name.split(".")[-2]
        if name.endswith("norm1.weight") or name.endswith("norm2.weight"):
            tensor = np.exp(0.25 * random.standard_normal(shape))
            hot = random.choice(shape[0], max(1, shape[0] // 40), replace=False)
            tensor[hot] *= random.uniform(3, 5, len(hot))
        elif name == "encoder.layernorm.weight":
            tensor = np.exp(0.25 * random.standard_normal(shape))
        elif name.endswith(".bias"):
            tensor = 0.2 * random.standard_normal(shape)
        elif name.startswith("encoder.embeddings"):
            tensor = random.standard_normal(shape) / np.sqrt(
                np.prod(shape[1:]) if len(shape) == 5 else 4
            )
        else:
            tensor = gains[kind] * random.standard_normal(shape) / np.sqrt(shape[1])
        tensors[name] = tensor.astype(np.float32)
    return EncoderWeights(config, tensors)


def save_weights(weights: EncoderWeights, path: str | Path) -> None:
    """Write a safetensors file that also says which model it is of."""
    config = json.dumps(attrs.asdict(weights.config), sort_keys=True)
    arrays = {name: np.ascontiguousarray(tensor) for name, tensor in weights.tensors.items()}
    save_file(arrays, path, metadata={"format": "np", "jepa_r.model": config})


def load_weights(path: str | Path, config: ModelConfig | None = None) -> EncoderWeights:
    """Read a safetensors file, for example a published checkpoint of V-JEPA 2.

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
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            names = [name for name in file.keys() if not name.startswith("predictor.")]
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
    try:
        return EncoderWeights(config, tensors)
    except WeightsError as error:
        raise WeightsError(f"{path} does not fit the model: {error}") from error


def _config_of(path: Path, text: str) -> ModelConfig:
    try:
        fields = json.loads(text)
        if fields["predictor"] is not None:
            fields["predictor"] = PredictorConfig(**fields["predictor"])
        return ModelConfig(**fields)
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path} describes a model that cannot be: {error}") from error
