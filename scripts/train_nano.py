"""Train the ``nano`` model on scenes, and write the weights that the package ships.

Run with PyTorch beside the project: ``pip install -e '.[train]'``, then
``python scripts/train_nano.py``. Takes about ten minutes on one core; the same seed on the same
machine and version gives the same weights.

Encoder and predictor learn together from short random motions, whose poses are known. A latent is
trained to be as far from another (mean absolute difference, what the planner minimises) as a
function of the distance of the poses says, so that far goals still have a slope; a prediction to be
where the next frame's latent is, over one to three steps, and to have the same distances to other
frames for actions that were not taken. A linear readout of the pose, which is thrown away later,
keeps the encoder's eye on small movements. Latents are rounded to sixteenths on the way, as the
chip rounds them.
"""

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from attrs import asdict
from safetensors.numpy import save_file
from torch import Tensor
from torch.nn import functional

from jepa_r_sim import scene
from jepa_r_sim.model.encoder import MEAN, STD, rotary_tables
from jepa_r_sim.model.shapes import MODELS, ModelConfig
from jepa_r_sim.model.units import advance, from_units, to_units
from jepa_r_sim.model.weights import PATCH

CONFIG = MODELS["nano"]
#: Where the package keeps the weights.
FILE = Path(scene.__file__).parent / "model" / "data" / "nano.safetensors"

#: Everything that decides the weights, beside this file.
SETTINGS = {
    "seed": 1,
    "scenes": 400,
    "motions": 6000,
    "batch": 48,
    "updates": 6500,
    "rate": 6e-3,
    "kernel": 0.08,
    "decay": 0.01,
    "apart": 0.6,
}
#: How much each term of the loss counts.
WEIGHTS = {"near": 2.0, "far": 2.0, "next": 0.1, "slope": 1.0, "goal": 1.0, "pose": 3.0}
#: Distance of latents that a distance of poses is mapped to: ``TOP * (1 - exp(-d / SCALE))``.
TOP, SCALE = 1.1, 0.3
#: Metres that a full turn of the gripper from closed to open counts.
OPENING = 0.15
#: Frames of one motion: a start and three steps.
FRAMES = 4
#: Largest action along an axis in metres, and of the gripper.
REACH = np.array([0.075, 0.075, 0.075, 0.75])
#: About the standard deviations of poses.
SPREAD = np.array([0.2, 0.2, 0.12, 0.3])
#: How far outside the box motions may start.
MARGIN = 0.08
DIMS = [0, 1, 2, 6]


def motions(random: np.random.Generator, settings: dict) -> tuple[np.ndarray, ...]:
    """Frames uint8 ``[N, 4, 3, 64, 64]``, poses ``[N, 4, 7]`` and actions ``[N, 3, 7]``, floats."""
    count = settings["motions"]
    poses = np.zeros((count, FRAMES, 7), np.int16)
    poses[:, 0] = scene.draw_poses(random, count, margin=MARGIN)
    actions = np.zeros((count, FRAMES - 1, 7), np.int16)
    for step in range(FRAMES - 1):
        actions[:, step] = draw_actions(random, count)
        poses[:, step + 1] = advance(poses[:, step], actions[:, step])
    scenes = [scene.Scene(seed=1_000_000 + index) for index in range(settings["scenes"])]
    frames = np.zeros((count, FRAMES, 3, 64, 64), np.uint8)
    for index in range(count):
        for step in range(FRAMES):
            frames[index, step] = scenes[index % len(scenes)].render(poses[index, step])
    return frames, from_units(poses), from_units(actions)


def draw_actions(random: np.random.Generator, count: int) -> np.ndarray:
    """Actions in units: half of them anywhere in the box, half close to standing still."""
    size = np.where(random.uniform(size=(count, 1)) < 0.5, 1.0, random.uniform(0, 1, (count, 1)))
    actions = np.zeros((count, 7))
    actions[:, DIMS] = size * random.uniform(-REACH, REACH, (count, 4))
    return to_units(actions)


class Net:
    """Both networks as functions of one dictionary of tensors, under the project's names."""

    def __init__(self, config: ModelConfig, seed: int) -> None:
        self.config = config
        self.tensors: dict[str, Tensor] = {}
        self._random = torch.Generator().manual_seed(seed)
        width = config.width
        self._linear(PATCH, width, config.patch_features, 0.3)
        for layer in range(config.depth):
            self._block(f"encoder.layer.{layer}", width, config.mlp)
        self._norm("encoder.layernorm", width)
        p = config.predictor
        self._linear("predictor.embed", p.width, width)
        self._linear("predictor.action", p.width, 7)
        self._linear("predictor.state", p.width, 7)
        for layer in range(p.depth):
            self._block(f"predictor.layer.{layer}", p.width, p.mlp)
        self._norm("predictor.norm", p.width)
        self._linear("predictor.proj", width, p.width)
        with torch.no_grad():
            # Spread over the range of each feature; the angles are never used. With no bias, the
            # norm of the first block would lose how large an action is.
            for name, spread in (("action", REACH / 2), ("state", SPREAD)):
                weight = self.tensors[f"predictor.{name}.weight"]
                weight.zero_()
                scale = torch.tensor(1 / (2 * spread), dtype=torch.float32)
                weight[:, DIMS] = scale * torch.randn(p.width, 4, generator=self._random)
                self.tensors[f"predictor.{name}.bias"].normal_(generator=self._random)
        self._linear("readout", len(DIMS), config.tokens * width)
        self.tables = [
            tuple(torch.tensor(t, dtype=torch.float32) for t in rotary_tables(config, time))
            for time in range(p.steps)
        ]

    def _linear(self, name: str, rows: int, columns: int, gain: float = 1.0) -> None:
        weight = torch.randn(rows, columns, generator=self._random) * gain / columns**0.5
        self.tensors[f"{name}.weight"] = weight.requires_grad_()
        self.tensors[f"{name}.bias"] = torch.zeros(rows).requires_grad_()

    def _norm(self, name: str, width: int) -> None:
        self.tensors[f"{name}.weight"] = torch.ones(width).requires_grad_()
        self.tensors[f"{name}.bias"] = torch.zeros(width).requires_grad_()

    def _block(self, name: str, width: int, mlp: int) -> None:
        for norm in ("norm1", "norm2"):
            self._norm(f"{name}.{norm}", width)
        for part in ("query", "key", "value", "proj"):
            self._linear(f"{name}.attention.{part}", width, width, 0.5 if part == "proj" else 1.0)
        self._linear(f"{name}.mlp.fc1", mlp, width)
        self._linear(f"{name}.mlp.fc2", width, mlp, 0.5)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return functional.linear(x, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])

    def norm(self, name: str, x: Tensor) -> Tensor:
        gain, offset = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        return functional.layer_norm(x, gain.shape, gain, offset, self.config.eps)

    def latent(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], eps=self.config.latent_eps)

    def block(
        self, name: str, x: Tensor, heads: int, table: tuple[Tensor, Tensor], past: list
    ) -> Tensor:
        """One block over ``[B, tokens, width]``; ``past`` holds keys and values of all steps."""

        def split(part: str) -> Tensor:
            y = self.linear(f"{name}.attention.{part}", h)
            return y.unflatten(-1, (heads, -1)).transpose(-2, -3)

        def rotate(y: Tensor) -> Tensor:
            return y * table[0] + y.unflatten(-1, (-1, 2)).flip(-1).flatten(-2) * table[1]

        h = self.norm(f"{name}.norm1", x)
        past.append((rotate(split("key")), split("value")))
        key, value = (torch.cat(parts, -2) for parts in zip(*past, strict=True))
        context = functional.scaled_dot_product_attention(rotate(split("query")), key, value)
        x = x + self.linear(f"{name}.attention.proj", context.transpose(-2, -3).flatten(-2))
        h = self.norm(f"{name}.norm2", x)
        return x + self.linear(
            f"{name}.mlp.fc2", functional.gelu(self.linear(f"{name}.mlp.fc1", h))
        )

    def encode(self, patches: Tensor) -> Tensor:
        """Latents ``[B, tokens, width]`` of normalised patches ``[B, tokens, features]``."""
        x = self.linear(PATCH, patches)
        for layer in range(self.config.depth):
            x = self.block(f"encoder.layer.{layer}", x, self.config.heads, self.tables[0], [])
        return self.latent(self.norm("encoder.layernorm", x))

    def predict(self, latent: Tensor, actions: Tensor, states: Tensor) -> list[Tensor]:
        """Latents after each of the ``[B, H, 7]`` actions."""
        p = self.config.predictor
        past: list[list] = [[] for _ in range(p.depth)]
        found = []
        for step in range(actions.shape[1]):
            tokens = [
                self.linear("predictor.action", actions[:, step])[:, None],
                self.linear("predictor.state", states[:, step])[:, None],
                self.linear("predictor.embed", latent),
            ]
            x = torch.cat(tokens, 1)
            cos, sin = self.tables[step]
            # Row and column of the action's and the state's token are 0, as the first patch's.
            table = (torch.cat([cos[:1], cos[:1], cos]), torch.cat([sin[:1], sin[:1], sin]))
            for layer in range(p.depth):
                x = self.block(f"predictor.layer.{layer}", x, p.heads, table, past[layer])
            x = self.linear("predictor.proj", self.norm("predictor.norm", x[:, 2:]))
            latent = rounded(self.latent(x))
            found.append(latent)
        return found


def rounded(latent: Tensor) -> Tensor:
    """In sixteenths, as the chip keeps latents; the gradient passes."""
    return latent + (torch.clamp(torch.round(latent * 16), -128, 127) / 16 - latent).detach()


def patches_of(frames: np.ndarray, config: ModelConfig) -> Tensor:
    """Normalised patches ``[B, tokens, features]`` of uint8 ``[B, 3, side, side]``."""
    colours = (torch.from_numpy(frames).float() / 255 - torch.tensor(MEAN)[:, None, None]) / (
        torch.tensor(STD)[:, None, None]
    )
    grid, patch = config.grid, config.patch
    blocks = colours.float().reshape(-1, 3, grid, patch, grid, patch).permute(0, 2, 4, 1, 3, 5)
    return blocks.reshape(len(frames), grid * grid, -1)


def reach(a: Tensor, b: Tensor) -> Tensor:
    """Distance of latents that two poses should have."""
    difference = (a - b)[..., DIMS] * torch.tensor([1.0, 1.0, 1.0, OPENING])
    return TOP * (1 - torch.exp(-torch.sqrt((difference**2).sum(-1) + 1e-12) / SCALE))


def places(poses: Tensor) -> Tensor:
    """Poses ``[..., 4]`` about as large as latents are, for the readout that only training has."""
    return poses[..., DIMS] / torch.tensor(SPREAD, dtype=torch.float32)


def far(a: Tensor, b: Tensor) -> Tensor:
    """Distance of latents: what the planner calls cost."""
    return (a - b).abs().mean((-1, -2))


def mismatch(found: Tensor, wanted: Tensor) -> Tensor:
    """Error of distances, small ones held more tightly."""
    return ((found - wanted).abs() / (0.1 + wanted)).mean()


def loss_of(
    net: Net,
    random: np.random.Generator,
    frames: np.ndarray,
    poses: Tensor,
    actions: Tensor,
    *,
    part: str,
) -> dict[str, Tensor]:
    """All terms for one batch of motions, which are added up.

    First the encoder learns alone: before its latents are spread out, the predictor would only
    teach it to make all of them equal.
    """
    count = len(frames)
    z = rounded(net.encode(patches_of(frames.reshape(-1, *frames.shape[2:]), net.config)))
    z = z.unflatten(0, (count, FRAMES))
    terms = {}
    found, wanted = [], []
    for i in range(FRAMES):
        for j in range(i):
            found.append(far(z[:, i], z[:, j]))
            wanted.append(reach(poses[:, i], poses[:, j]))
    terms["near"] = mismatch(torch.cat(found), torch.cat(wanted))
    shifts = [int(s) for s in random.choice(np.arange(1, count), 3, replace=False)]
    found = [far(z, z.roll(shift, 0)) for shift in shifts]
    wanted = [reach(poses, poses.roll(shift, 0)) for shift in shifts]
    terms["far"] = mismatch(torch.stack(found), torch.stack(wanted))

    terms["pose"] = ((net.linear("readout", z.flatten(-2)) - places(poses)) ** 2).mean()
    if part == "encoder":
        return terms
    predicted = net.predict(z[:, 0], actions, poses[:, :-1])
    terms["next"] = sum(
        mismatch(far(p, z[:, step + 1]), torch.zeros(count)) for step, p in enumerate(predicted)
    )
    # Actions that were not taken: their latents were never seen, their distances are known.
    others, start = 3, int(random.integers(FRAMES))
    imagined = torch.from_numpy(from_units(draw_actions(random, count * others)).astype(np.float32))
    state = poses[:, start].repeat_interleave(others, 0)
    after = state + imagined
    after = torch.cat([after[:, :6], after[:, 6:].clamp(0, 1)], 1).unflatten(0, (count, others))
    (p,) = net.predict(z[:, start].repeat_interleave(others, 0), imagined[:, None], state[:, None])
    p = p.unflatten(0, (count, others))
    terms["slope"] = mismatch(
        far(p[:, :, None], z[:, None]), reach(after[:, :, None], poses[:, None])
    )
    shift = shifts[0]
    terms["goal"] = mismatch(
        far(p[:, :, None], z.roll(shift, 0)[:, None]),
        reach(after[:, :, None], poses.roll(shift, 0)[:, None]),
    )
    return terms


def train(settings: dict, log=sys.stderr.write) -> Net:
    """Train from scratch."""
    torch.manual_seed(settings["seed"])
    torch.set_num_threads(1)
    random = np.random.default_rng(settings["seed"])
    begun = time.monotonic()
    frames, poses, actions = motions(random, settings)
    log(f"{frames.shape[0] * FRAMES} frames drawn in {time.monotonic() - begun:.0f} s\n")
    poses_t, actions_t = (torch.from_numpy(a.astype(np.float32)) for a in (poses, actions))
    net = Net(CONFIG, settings["seed"])
    kernel = net.tensors[f"{PATCH}.weight"]
    plain = [t for t in net.tensors.values() if t.ndim == 1]
    decayed = [t for t in net.tensors.values() if t.ndim > 1 and t is not kernel]
    groups = [
        {"params": decayed, "weight_decay": settings["decay"]},
        {"params": plain, "weight_decay": 0.0},
        {"params": [kernel], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98))
    # The kernel adds up hundreds of pixels that are much alike: it wants smaller steps.
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        [settings["rate"] * part for part in (1, 1, settings["kernel"])],
        total_steps=settings["updates"],
        pct_start=0.1,
        cycle_momentum=False,
        final_div_factor=1e3,
    )
    smooth: dict[str, float] = {}
    for update in range(settings["updates"]):
        rows = random.choice(len(frames), settings["batch"], replace=False)
        index = torch.from_numpy(rows)
        part = "encoder" if update < settings["apart"] * settings["updates"] else "both"
        terms = loss_of(net, random, frames[rows], poses_t[index], actions_t[index], part=part)
        loss = sum(WEIGHTS[name] * value for name, value in terms.items())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(net.tensors.values()), 1.0)
        optimiser.step()
        schedule.step()
        for name, value in terms.items():
            smooth[name] = 0.98 * smooth.get(name, value.item()) + 0.02 * value.item()
        if update % 100 == 99:
            parts = ", ".join(f"{name} {value:.3f}" for name, value in smooth.items())
            log(f"{update + 1:5d} {time.monotonic() - begun:4.0f} s  {parts}\n")
    return net


def arrays_of(net: Net) -> dict[str, np.ndarray]:
    """FP16 tensors of both networks, named and shaped as in the project's files."""
    config = net.config
    arrays = {}
    for name, tensor in net.tensors.items():
        if name.startswith("readout."):
            continue
        array = tensor.detach().numpy()
        if name == f"{PATCH}.weight":
            # A single frame fills the whole tubelet: each of its halves has half of the kernel.
            kernel = array.reshape(-1, config.channels, 1, config.patch, config.patch)
            array = np.repeat(kernel / config.tubelet, config.tubelet, axis=2)
        arrays[name] = np.ascontiguousarray(array, np.float16)
    return arrays


def digest(arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 of all tensors, in the order of their names."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        total.update(name.encode() + arrays[name].tobytes())
    return total.hexdigest()


def save(net: Net, path: Path, settings: dict) -> str:
    """Write the file; returns the digest of its tensors."""
    arrays = arrays_of(net)
    metadata = {
        "format": "np",
        "jepa_r.model": json.dumps(asdict(net.config), sort_keys=True),
        "jepa_r.training": json.dumps(settings, sort_keys=True),
        "jepa_r.digest": digest(arrays),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(arrays, path, metadata=metadata)
    path.chmod(0o644)
    return metadata["jepa_r.digest"]


def main() -> None:
    """Train and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=FILE, help="file to write")
    for name, value in SETTINGS.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    options = vars(parser.parse_args())
    output = options.pop("output")
    found = save(train(options), output, options)
    sys.stderr.write(f"wrote {output}, digest {found}\n")


if __name__ == "__main__":
    main()
