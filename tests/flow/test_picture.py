import numpy as np
import pytest
from PIL import Image

from jepa_r_flow.picture import draw, principal_colours


@pytest.fixture
def latent():
    return np.random.default_rng(5).integers(-128, 128, size=(16, 48)).astype(np.int8)


def test_picture_is_a_png_and_the_same_each_time(tmp_path, latent):
    photograph = np.zeros((64, 64, 3), np.uint8)
    for name in ("a.png", "b.png"):
        draw(
            tmp_path / name,
            photograph=photograph,
            grid=4,
            rtl=latent,
            golden=latent,
            title="nano",
            caption=["one line", "another"],
        )
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG"
        assert image.width > 1000
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_equal_latents_have_equal_colours_and_others_do_not(latent):
    colours = principal_colours(latent)
    assert colours.shape == (16, 3)
    assert colours.min() == 0
    assert colours.max() == 1
    np.testing.assert_array_equal(principal_colours(latent, latent), colours)
    other = latent.copy()
    other[3] = -other[3]
    assert not np.allclose(principal_colours(other, latent)[3], colours[3])


def test_few_tokens_and_flat_latents_have_colours(latent):
    assert principal_colours(latent[:1]).shape == (1, 3)
    assert np.isfinite(principal_colours(np.zeros((16, 48)))).all()


def test_latents_of_another_shape_are_refused(tmp_path, latent):
    with pytest.raises(ValueError, match=r"^latents are \(16, 48\) and \(15, 48\); both need 16"):
        draw(
            tmp_path / "x.png",
            photograph=np.zeros((8, 8, 3), np.uint8),
            grid=4,
            rtl=latent,
            golden=latent[1:],
            title="",
            caption=[],
        )
