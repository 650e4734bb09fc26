"""Shapes of the models: what the compiler, the roofline and the quantiser need to know of one."""

from attrs import Attribute, field, frozen

__all__ = ["FEATURES", "INPUTS", "MODELS", "ModelConfig", "PredictorConfig", "rotary_dims"]

#: Widest row whose moments the row unit can take.
MAX_WIDTH = 8191
#: Action and state tokens of a step.
INPUTS = 2
#: Numbers of an action and of a state, and of the camera's pose (which nothing here reads).
FEATURES, EXTRINSICS = 7, 6
#: Most INT8 products that an INT32 accumulator holds: ``K * 128 * 128 < 2**31``.
MAX_K = (1 << 17) - 1


def rotary_dims(head_dim: int) -> int:
    """Dims rotated per axis, ``2 * floor(floor(head_dim / 3) / 2)``; the rest passes through."""
    return 2 * (head_dim // 3 // 2)


def _count(low: int, high: int):
    def check(instance: object, attribute: "Attribute[int]", value: int) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(
                f"{attribute.name} {value!r} is not allowed: an integer from {low} to {high}"
            )

    return check


def _check_heads(width: int, heads: int, head_dim: int, rotary: bool) -> None:
    if head_dim % 2 or (rotary and head_dim < 6):
        raise ValueError(
            f"head_dim {head_dim} cannot be split by the rotator: an even number"
            f"{', at least 6 (two dims for each of three axes)' if rotary else ''}"
        )
    if heads * head_dim != width:
        raise ValueError(
            f"width {width} is not heads * head_dim = {heads} * {head_dim} = {heads * head_dim}"
        )


def _block_parameters(width: int, mlp: int) -> int:
    return width * (4 * width + 2 * mlp) + 9 * width + mlp


@frozen(kw_only=True)
class PredictorConfig:
    """Shape of an action-conditioned predictor.

    Attributes
    ----------
    width, heads, head_dim, depth, mlp
        As of :class:`ModelConfig`.
    steps
        Most steps of one rollout; every step adds the patches, an action and a state token.

    Raises
    ------
    ValueError
        If a field is outside its range, or the heads do not fill the width.
    """

    width: int = field(validator=_count(1, MAX_WIDTH))
    heads: int = field(validator=_count(1, 1024))
    head_dim: int = field(validator=_count(2, 1024))
    depth: int = field(validator=_count(1, 1024))
    mlp: int = field(validator=_count(1, MAX_K))
    steps: int = field(validator=_count(1, 64))

    def __attrs_post_init__(self) -> None:
        _check_heads(self.width, self.heads, self.head_dim, True)

    @property
    def block_parameters(self) -> int:
        """Weights and biases of one block."""
        return _block_parameters(self.width, self.mlp)


@frozen(kw_only=True)
class ModelConfig:
    """Shape of an encoder, and of the predictor that reads its latents.

    Attributes
    ----------
    image, patch
        Side of the square input and of its square patches, in pixels.
    width, heads, head_dim, depth, mlp
        Channels of the residual stream, heads, channels of a head, blocks, hidden channels.
    channels, tubelet
        Colours of a pixel; frames of the patch kernel (a single frame is shown in all of them).
    class_token, absolute_positions, rotary
        V-JEPA 2 has rotary positions only; DINOv2 has a class token and absolute positions.
    eps, latent_eps
        Floors of the affine norms and of the last, affine-free one.
    predictor
        Shape of the predictor, if the model has one.

    Raises
    ------
    ValueError
        If a field is outside its range, the image is not whole patches, the heads do not fill the
        width, or the rotator cannot split a head.
    """

    image: int = field(validator=_count(1, 4096))
    patch: int = field(validator=_count(1, 64))
    width: int = field(validator=_count(1, MAX_WIDTH))
    heads: int = field(validator=_count(1, 1024))
    head_dim: int = field(validator=_count(2, 1024))
    depth: int = field(validator=_count(1, 1024))
    mlp: int = field(validator=_count(1, MAX_K))
    channels: int = field(default=3, validator=_count(1, 4))
    tubelet: int = field(default=2, validator=_count(1, 16))
    class_token: bool = False
    absolute_positions: bool = False
    rotary: bool = True
    eps: float = 1e-6
    latent_eps: float = 1e-5
    predictor: PredictorConfig | None = None

    def __attrs_post_init__(self) -> None:
        if self.image % self.patch:
            raise ValueError(f"image {self.image} is not a multiple of patch {self.patch}")
        for name in ("eps", "latent_eps"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is not between 0 and 1")
        if self.class_token and not self.absolute_positions:
            raise ValueError(
                "class_token True needs absolute_positions True: "
                "the token enters through the table of positions"
            )
        _check_heads(self.width, self.heads, self.head_dim, self.rotary)

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image // self.patch

    @property
    def tokens(self) -> int:
        """Rows of the residual stream: patches in raster order, after the class token if any."""
        return self.grid**2 + self.class_token

    @property
    def patch_features(self) -> int:
        """Columns of the input: a still frame adds the kernel's frames up."""
        return self.channels * self.patch**2

    @property
    def rotary_dims(self) -> int:
        """Dims of a head rotated for each of the three axes (0 without rotary positions)."""
        return rotary_dims(self.head_dim) if self.rotary else 0

    @property
    def block_macs(self) -> int:
        """Multiplications of one block."""
        linear = self.width * (4 * self.width + 2 * self.mlp)
        return self.tokens * (linear + 2 * self.tokens * self.width)

    @property
    def macs(self) -> int:
        """Multiplications of one encoded frame, the kernel's frames added up."""
        patches = self.tokens * self.patch_features * self.width
        return patches + self.depth * self.block_macs

    @property
    def parameters(self) -> int:
        """Weights and biases of the encoder, as published (every frame of the kernel counted)."""
        block = _block_parameters(self.width, self.mlp)
        patch = self.width * (self.patch_features * self.tubelet + 1)
        positions = self.tokens * self.width if self.absolute_positions else 0
        return (
            patch + positions + self.class_token * self.width + self.depth * block + 2 * self.width
        )

    @property
    def action_predictor(self) -> PredictorConfig:
        """Shape of the predictor, of a model that must have one.

        Raises
        ------
        ValueError
            If the model has none.
        """
        if self.predictor is None:
            raise ValueError("predictor None is not allowed here: the model must have one")
        return self.predictor

    @property
    def step_rows(self) -> int:
        """Rows of the predictor's residual stream in one step: action, state, patches."""
        return INPUTS + self.tokens

    @property
    def predictor_parameters(self) -> int:
        """Weights and biases of the predictor, as published: with the unused extrinsics layer."""
        predictor = self.action_predictor
        inputs = (2 * (FEATURES + 1) + EXTRINSICS + 1 + self.width + 1) * predictor.width
        outputs = 2 * predictor.width + (predictor.width + 1) * self.width
        return inputs + predictor.depth * predictor.block_parameters + outputs

    def predictor_macs(self, step: int, *, kept: bool = True) -> int:
        """Multiplications of the prediction of step ``step`` (the first is 1).

        Parameters
        ----------
        step
            How many steps the predicted one sees, itself included.
        kept
            Whether keys and values of the earlier steps are at hand; otherwise all steps are
            computed anew, each over what it may see, and only the last one's latent is projected.
        """
        predictor = self.action_predictor
        if step < 1:
            raise ValueError(f"step {step} is not allowed: at least 1")
        rows, width = self.step_rows, predictor.width
        linear = rows * width * (4 * width + 2 * predictor.mlp) * predictor.depth
        scores = 2 * rows * rows * width * predictor.depth
        project = self.tokens * self.width * width
        embed = project + INPUTS * FEATURES * width
        if kept:
            return linear + step * scores + embed + project
        return step * (linear + embed) + step * (step + 1) // 2 * scores + project


#: Models by name. ``nano`` keeps every quirk of ``vitg-ac`` at a size that simulates in seconds.
MODELS = {
    "nano": ModelConfig(
        image=64,
        patch=16,
        width=48,
        heads=3,
        head_dim=16,
        depth=2,
        mlp=209,
        predictor=PredictorConfig(width=32, heads=2, head_dim=16, depth=2, mlp=128, steps=3),
    ),
    "vitg-ac": ModelConfig(
        image=256,
        patch=16,
        width=1408,
        heads=22,
        head_dim=64,
        depth=40,
        mlp=6144,
        predictor=PredictorConfig(width=1024, heads=16, head_dim=64, depth=24, mlp=4096, steps=16),
    ),
}
