"""Preprocessing: the order of pixels, and pictures that are none."""

import numpy as np
import pytest
from attrs import evolve
from PIL import Image

from jepa_r_sim.model.preprocess import (
    ImageError,
    centre_crop,
    default_photograph,
    open_photograph,
    patches_of,
    photograph_patches,
)
from jepa_r_sim.model.shapes import MODELS

NANO = MODELS["nano"]


def test_features_run_over_channel_row_column_and_tokens_over_the_raster():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8)
    patches = patches_of(pixels, NANO)
    assert patches.shape == (16, 768)
    assert patches.dtype == np.int8
    for token in (0, 1, 4, 15):
        for channel, row, column in ((0, 0, 0), (1, 0, 5), (2, 15, 15), (0, 7, 1)):
            pixel = int(pixels[channel, token // 4 * 16 + row, token % 4 * 16 + column])
            assert patches[token, channel * 256 + row * 16 + column] == pixel - 128


def test_a_class_token_is_a_row_of_zeros_before_the_patches():
    config = evolve(NANO, class_token=True, absolute_positions=True)
    patches = photograph_patches(config)
    assert not patches[0].any()
    assert np.array_equal(patches[1:], photograph_patches(NANO))


def test_the_default_is_a_photograph():
    assert default_photograph().is_file()
    assert photograph_patches(NANO).std() > 20


def test_the_centre_is_cut_out():
    picture = Image.new("RGB", (300, 100), "red")
    picture.paste("blue", (100, 0, 200, 100))
    pixels = centre_crop(picture, 50)
    assert pixels.shape == (3, 50, 50)
    # The filter looks two pixels beyond the edge.
    assert (pixels[:, :, 3:-3].transpose(1, 2, 0) == (0, 0, 255)).all()


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("1", "png"), ("L", "png"), ("P", "png"), ("RGB", "bmp"), ("CMYK", "tif"), ("YCbCr", "jpg"),
     ("I", "tif"), ("F", "tif")],
)  # fmt: skip
def test_every_mode_becomes_rgb(tmp_path, mode, suffix):
    white = Image.new("L", (20, 20), "white")
    picture = white.convert(mode) if mode in {"I", "F"} else white.convert("RGB").convert(mode)
    picture.save(tmp_path / f"x.{suffix}")
    opened = open_photograph(tmp_path / f"x.{suffix}")
    assert opened.mode == "RGB"
    assert np.asarray(opened).min() == 255


def test_sixteen_bits_of_grey_are_scaled(tmp_path):
    levels = np.full((8, 8), 257 * 100, np.uint16)
    levels[0, 0] = 65535
    Image.fromarray(levels).save(tmp_path / "x.png")
    opened = np.asarray(open_photograph(tmp_path / "x.png"))
    assert (opened[0, 0] == 255).all()
    assert (opened[1, 1] == 100).all()


def test_what_is_transparent_is_white(tmp_path):
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "x.png")
    assert (np.asarray(open_photograph(tmp_path / "x.png")) == 255).all()


def test_files_that_are_no_pictures(tmp_path):
    with pytest.raises(ImageError, match=r"^image .*none\.png does not exist$"):
        open_photograph(tmp_path / "none.png")
    with pytest.raises(ImageError, match="cannot be read: "):
        open_photograph(tmp_path)
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(ImageError, match=r"text\.jpg cannot be read: cannot identify image file"):
        open_photograph(tmp_path / "text.jpg")
    whole = default_photograph().read_bytes()
    (tmp_path / "half.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match=r"half\.jpg cannot be read: image file is truncated"):
        open_photograph(tmp_path / "half.jpg")


def test_pixels_of_another_shape_are_refused():
    with pytest.raises(
        ImageError, match=r"^pixels are uint8 \(3, 32, 64\), the model reads uint8 \(3, 64, 64\)$"
    ):
        patches_of(np.zeros((3, 32, 64), np.uint8), NANO)
