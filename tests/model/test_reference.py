"""The float encoder against the published implementation, Hugging Face's VJEPA2Model."""

import numpy as np
import pytest

from jepa_r_sim.model.encoder import encode, normalised_patches
from jepa_r_sim.model.preprocess import patches_of
from jepa_r_sim.model.shapes import ModelConfig
from jepa_r_sim.model.weights import load_weights, random_weights

torch = pytest.importorskip("torch", reason="extra 'reference' is not installed: torch")
transformers = pytest.importorskip(
    "transformers", reason="extra 'reference' is not installed: transformers"
)

TOLERANCE = 1e-5


@pytest.mark.parametrize(
    ("image", "patch", "heads", "head_dim", "mlp"),
    [(32, 8, 3, 16, 101), (48, 16, 2, 22, 64), (64, 16, 2, 64, 352)],
)
def test_encoder_agrees_with_the_published_one(tmp_path, image, patch, heads, head_dim, mlp):
    config = ModelConfig(
        image=image, patch=patch, width=heads * head_dim, heads=heads, head_dim=head_dim,
        depth=3, mlp=mlp,
    )  # fmt: skip
    published = transformers.VJEPA2Model(
        transformers.VJEPA2Config(
            patch_size=patch, crop_size=image, frames_per_clip=2, tubelet_size=2,
            hidden_size=config.width, num_attention_heads=heads, num_hidden_layers=config.depth,
            mlp_ratio=(mlp + 0.5) / config.width, layer_norm_eps=config.eps,
            pred_hidden_size=24, pred_num_attention_heads=2, pred_num_hidden_layers=1,
            pred_num_mask_tokens=1, attn_implementation="eager",
        )
    ).eval()  # fmt: skip
    weights = random_weights(config, 7)
    missing, unknown = published.load_state_dict(
        {name: torch.from_numpy(tensor) for name, tensor in weights.tensors.items()}, strict=False
    )
    assert not unknown
    assert not [name for name in missing if name.startswith("encoder.")]
    published = published.double()

    pixels = np.random.default_rng(3).integers(0, 256, (3, image, image), dtype=np.uint8)
    patches = patches_of(pixels, config)
    grid = config.grid
    colours = normalised_patches(patches, config).reshape(grid, grid, 3, patch, patch)
    frame = torch.from_numpy(colours.transpose(2, 0, 3, 1, 4).reshape(3, image, image).copy())
    with torch.no_grad():
        video = torch.stack([frame, frame])[None]
        hidden = published(video, skip_predictor=True).last_hidden_state[0]
        latent = torch.nn.functional.layer_norm(hidden, (config.width,), eps=config.latent_eps)

    found = encode(weights, patches)
    assert np.abs(found.hidden - hidden.numpy()).max() < TOLERANCE
    assert np.abs(found.latent - latent.numpy()).max() < TOLERANCE

    # A checkpoint as it is published: predictor and all.
    from safetensors.torch import save_file

    save_file(published.float().state_dict(), tmp_path / "model.safetensors")
    loaded = load_weights(tmp_path / "model.safetensors", config)
    assert all(np.array_equal(loaded[name], weights[name]) for name in weights.tensors)
