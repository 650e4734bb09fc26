"""From a photograph to the INT8 patches that the encoder reads."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib import get_data_path
from PIL import Image, ImageOps

from .shapes import ModelConfig

__all__ = [
    "ImageError",
    "centre_crop",
    "default_photograph",
    "open_photograph",
    "patches_of",
    "photograph_patches",
]


class ImageError(ValueError):
    """A file that is not a picture, or a picture that cannot be used."""


def default_photograph() -> Path:
    """The photograph that matplotlib ships."""
    return Path(get_data_path()) / "sample_data" / "grace_hopper.jpg"


def open_photograph(path: str | Path | None = None) -> Image.Image:
    """Open a picture of any format as RGB: upright, grey levels of 16 bits scaled, alpha on white.

    Raises
    ------
    ImageError
        If the file cannot be read or is not a picture.
    """
    path = default_photograph() if path is None else Path(path)
    try:
        with Image.open(path) as file:
            file.load()
            picture = ImageOps.exif_transpose(file)
    except FileNotFoundError as error:
        raise ImageError(f"image {path} does not exist") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"image {path} cannot be read: {error}") from error
    if picture.mode.startswith(("I", "F")):
        levels = np.asarray(picture, np.float64)
        top = 65535.0 if levels.max(initial=0) > 255 else 255.0
        grey = np.clip(np.rint(levels * (255 / top)), 0, 255)
        picture = Image.fromarray(grey.astype(np.uint8))
    if picture.mode in {"RGBA", "LA", "PA"} or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


def centre_crop(picture: Image.Image, size: int) -> npt.NDArray[np.uint8]:
    """Resize the shorter side to ``size`` and cut out the centre: u8 ``[3, size, size]``."""
    square = ImageOps.fit(picture, (size, size), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(square, np.uint8).transpose(2, 0, 1))


def patches_of(pixels: npt.ArrayLike, config: ModelConfig) -> npt.NDArray[np.int8]:
    """Cut u8 ``[channels, image, image]`` into INT8 ``[tokens, patch_features]``.

    Values are ``pixel - 128``, rows are patches in raster order, columns run over (channel, row,
    column) of a patch. A class token is a row of zeros before the patches.

    Raises
    ------
    ImageError
        If the pixels are not u8 of the model's shape.
    """
    pixels = np.asarray(pixels)
    shape = (config.channels, config.image, config.image)
    if pixels.shape != shape or pixels.dtype != np.uint8:
        raise ImageError(f"pixels are {pixels.dtype} {pixels.shape}, the model reads uint8 {shape}")
    grid, patch = config.grid, config.patch
    blocks = pixels.reshape(config.channels, grid, patch, grid, patch).transpose(1, 3, 0, 2, 4)
    rows = (blocks.reshape(grid * grid, -1).astype(np.int16) - 128).astype(np.int8)
    return np.concatenate([np.zeros((int(config.class_token), rows.shape[1]), np.int8), rows])


def photograph_patches(config: ModelConfig, path: str | Path | None = None) -> npt.NDArray[np.int8]:
    """Patches of the centre of a photograph, the default one if ``path`` is None.

    Raises
    ------
    ImageError
        If the file cannot be read or is not a picture, or the model does not read RGB.
    """
    return patches_of(centre_crop(open_photograph(path), config.image), config)
