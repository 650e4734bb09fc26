"""From a quantised model to images that a cluster runs, and to the length of their run."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
from attrs import define

from jepa_r.config import ClusterConfig

from ..model.quantised import QuantisedEncoder, QuantisedPredictor
from ..model.shapes import ModelConfig
from .builder import Builder
from .encoder import EncoderProgram
from .image import pack_words, unpack_words
from .predictor import FEATURES, PredictorProgram
from .program import Program, assemble
from .schedule import Stage

__all__ = [
    "Compiled",
    "CompiledPredictor",
    "CompiledProgram",
    "compile_encoder",
    "compile_predictor",
]


@define(slots=False)
class CompiledProgram(ABC):
    """A program with its data, for one cluster and one model.

    Attributes
    ----------
    config
        The cluster.
    program
        Program words.
    """

    config: ClusterConfig
    program: Program

    @property
    @abstractmethod
    def builder(self) -> Builder:
        """Operations and places."""

    @property
    def about(self) -> dict[str, int]:
        """Fields of the image's header for whoever feeds the program."""
        return {"elastic": int(self.builder.scheduler.elastic)}

    @property
    @abstractmethod
    def macs(self) -> int:
        """Multiplications of the model, padding not counted."""

    @property
    def cycles(self) -> int:
        """Length of the run, from the program's start to its end."""
        return self.program.cycles

    @property
    def bundles(self) -> int:
        """Different start cycles of operations, loops unrolled."""
        return self.program.bundles

    @property
    def stages(self) -> Sequence[Stage]:
        """Parts of the model on the time axis."""
        return self.builder.scheduler.stages()

    @property
    def utilisation(self) -> float:
        """Part of the arrays' multiplications that are the model's."""
        return self.macs / (self.cycles * self.config.macs_per_cycle)

    @property
    def program_address(self) -> int:
        """Where the program image lies."""
        end = self.builder.image.base + self.builder.image.size
        return -(-end // 4096) * 4096

    @property
    def memory_bytes(self) -> int:
        """End of the memory that a run uses, program included."""
        return self.program_address + len(self.program_image)

    @cached_property
    def program_image(self) -> bytes:
        """Header and program words, with checksums."""
        return self.program.image(self.config, about=self.about)

    @cached_property
    def weight_image(self) -> bytes:
        """Constant data from ``builder.image.base`` on."""
        return self.builder.image.render()

    def place(self, memory: bytearray) -> None:
        """Put constant data and program where they belong."""
        base = self.builder.image.base
        memory[base : base + len(self.weight_image)] = self.weight_image
        end = self.program_address + len(self.program_image)
        memory[self.program_address : end] = self.program_image


@define(slots=False)
class Compiled(CompiledProgram):
    """An encoder's program with its data.

    Addresses are the cluster's; the input is one part a tile, then the output, the constant data
    and the program follow.

    Attributes
    ----------
    encoder
        Operations and places.
    """

    encoder: EncoderProgram

    @property
    def builder(self) -> EncoderProgram:
        """Operations and places."""
        return self.encoder

    @property
    def macs(self) -> int:
        """Multiplications of the model, padding not counted."""
        return self.encoder.model.macs * self.encoder.layout.cameras

    def memory(self, frames: Sequence[npt.NDArray[np.int8]]) -> bytearray:
        """Contents of memory before a run.

        Parameters
        ----------
        frames
            INT8 patches ``[tokens, features]``, one image a camera.
        """
        memory = bytearray(self.memory_bytes)
        begin = self.encoder.input_address
        image = self.frame_image(frames)
        memory[begin : begin + len(image)] = image
        self.place(memory)
        return memory

    def frame_image(self, frames: Sequence[npt.NDArray[np.int8]]) -> bytes:
        """Frames as the program reads them, from the address in its first argument on."""
        tiles, size = range(self.config.tiles), self.encoder.input_bytes
        return b"".join(self._input(frames, tile).ljust(size, b"\0") for tile in tiles)

    def _input(self, frames: Sequence[npt.NDArray[np.int8]], tile: int) -> bytes:
        lay, rows = self.encoder.layout, self.config.tile.rows
        features = self.encoder.model.patch_features
        blocks = lay.blocks(features)
        held = np.zeros((lay.cameras, lay.tokens, blocks * rows), np.int8)
        for camera, frame in enumerate(frames):
            part = frame[tile * lay.tokens : (tile + 1) * lay.tokens]
            held[camera, : len(part), :features] = part
        words = held.reshape(lay.rows, blocks, rows).transpose(1, 0, 2).reshape(-1, rows)
        return pack_words(words.view(np.uint8), self.config.memory.data_bytes)

    def latents(self, memory: bytes) -> npt.NDArray[np.int8]:
        """Latents that a run has left in memory, ``[cameras, tokens, width]``."""
        encoder, lay, rows = self.encoder, self.encoder.layout, self.config.tile.rows
        parts = []
        for tile in range(self.config.tiles):
            begin = encoder.output_address + tile * encoder.output_bytes
            words = _words(memory, begin, encoder.output_words, rows, self.config.memory.data_bytes)
            blocks = lay.blocks(lay.width)
            part = words.reshape(blocks, lay.cameras, lay.tokens, rows).transpose(1, 2, 0, 3)
            parts.append(part.reshape(lay.cameras, lay.tokens, blocks * rows))
        whole = np.concatenate(parts, 1).view(np.int8)
        return whole[:, : encoder.model.tokens, : encoder.model.width]


@define(slots=False)
class CompiledPredictor(CompiledProgram):
    """A rollout's program with its data: a candidate on each tile.

    Attributes
    ----------
    predictor
        Operations and places.
    """

    predictor: PredictorProgram

    @property
    def builder(self) -> PredictorProgram:
        """Operations and places."""
        return self.predictor

    @property
    def about(self) -> dict[str, int]:
        """Fields of the image's header for whoever feeds the program."""
        built, lay = self.predictor, self.predictor.layout
        return super().about | {
            "kind": 1, "steps": lay.horizon, "latent": built.latent, "goal": built.goal,
            "inputs": built.inputs, "rows": lay.tokens, "blocks": lay.blocks(lay.output),
            "trace": self.trace_bytes,
        }  # fmt: skip

    @property
    def macs(self) -> int:
        """Multiplications of the model for all tiles' candidates, padding not counted."""
        model, horizon = self.predictor.model, self.predictor.layout.horizon
        return self.config.tiles * sum(model.predictor_macs(n + 1) for n in range(horizon))

    def latent_feed(self, latent: npt.NDArray[np.int8], place: int) -> list[tuple[int, int]]:
        """Words of ACT, as address and value, that hold a latent ``[tokens, width]``."""
        lay, rows = self.predictor.layout, self.config.tile.rows
        blocks = lay.blocks(lay.output)
        held = np.zeros((lay.tokens, blocks * rows), np.int8)
        held[:, : latent.shape[1]] = latent
        words = held.reshape(lay.tokens, blocks, rows).transpose(1, 0, 2).reshape(-1, rows)
        return _feed(words, place)

    def input_feed(
        self, actions: npt.NDArray[np.int16], states: npt.NDArray[np.int16]
    ) -> list[tuple[int, int]]:
        """Words of ACT that hold a candidate's actions and states, INT16 ``[horizon, 7]``."""
        rows = self.config.tile.rows
        blocks = self.predictor.layout.blocks(FEATURES)
        values = np.stack([actions, states], 1).astype(np.int64)
        low = ((values + 128) & 255) - 128
        parts = np.stack([(values - low) >> 8, low], 2)  # [step, token, part, feature]
        held = np.zeros((*parts.shape[:3], blocks * rows), np.int8)
        held[..., :FEATURES] = parts
        words = held.reshape(*parts.shape[:3], blocks, rows).transpose(0, 1, 3, 2, 4)
        return _feed(words.reshape(-1, rows), self.predictor.inputs)

    def latents(self, memory: bytes, address: int) -> npt.NDArray[np.int8]:
        """Predicted latents that a traced run has left, ``[tiles, steps, tokens, width]``."""
        built, lay, rows = self.predictor, self.predictor.layout, self.config.tile.rows
        blocks, width = lay.blocks(lay.output), self.config.memory.data_bytes
        found = []
        for n in range(lay.horizon * self.config.tiles):
            words = _words(memory, address + n * built.trace_bytes, lay.latent_words, rows, width)
            found.append(words.reshape(blocks, lay.tokens, rows).transpose(1, 0, 2))
        whole = np.stack(found).reshape(lay.horizon, self.config.tiles, lay.tokens, -1)
        return whole.swapaxes(0, 1).view(np.int8)[..., : lay.latent_width]

    @property
    def trace_bytes(self) -> int:
        """Bytes that a run leaves: none if it is not traced."""
        built = self.predictor
        return built.trace * built.layout.horizon * self.config.tiles * built.trace_bytes


def _feed(words: npt.NDArray[np.int8], place: int) -> list[tuple[int, int]]:
    return [(place + n, int.from_bytes(word.tobytes(), "little")) for n, word in enumerate(words)]


def _words(memory: bytes, begin: int, count: int, size: int, width: int) -> npt.NDArray[np.uint8]:
    """Words that a move has left in memory."""
    share = max(1, width // size)
    beats = -(-count // share) * -(-size // width)
    return unpack_words(bytes(memory[begin : begin + beats * width]), count, size, width)


def compile_encoder(
    config: ClusterConfig,
    model: ModelConfig | QuantisedEncoder,
    *,
    cameras: int = 1,
    base: int = 0,
    latent_store: bool = False,
    elastic: bool = False,
) -> Compiled:
    """Compile an encoder for a cluster.

    Parameters
    ----------
    config
        The cluster.
    model
        A quantised encoder; or shapes alone, for a program that can be timed but not run.
    cameras
        Images encoded together, which share each pass over the weights.
    base
        First address of memory that it may use, a multiple of 4096.
    latent_store
        Move latents to the latent store as well, from the address in the second argument on.
    elastic
        Make a program that stays right in elastic runs, for bring-up. It takes a few percent
        longer, since operations that meet at a memory also start in that order.

    Raises
    ------
    ConfigError
        If the model does not fit; the message names the field that is too small.
    """
    quantised = model if isinstance(model, QuantisedEncoder) else None
    shapes = model.config if isinstance(model, QuantisedEncoder) else model
    encoder = EncoderProgram(
        config, shapes, quantised, cameras, base=base, latent_store=latent_store, elastic=elastic
    )
    return Compiled(config, _assembled(encoder, [encoder.layer_operations]), encoder)


def compile_predictor(
    config: ClusterConfig,
    model: ModelConfig | QuantisedPredictor,
    *,
    horizon: int = 1,
    base: int = 0,
    trace: bool = False,
    elastic: bool = False,
) -> CompiledPredictor:
    """Compile rollouts of a predictor for a cluster.

    Parameters
    ----------
    config
        The cluster; each of its tiles rolls a candidate out.
    model
        A quantised predictor; or shapes alone, for a program that can be timed but not run.
    horizon
        Steps of a rollout.
    base, elastic
        As for :func:`compile_encoder`.
    trace
        Also store the predicted latents of all steps, from the address in the first argument on.

    Raises
    ------
    ConfigError
        If the model does not fit; the message names the field that is too small.
    """
    quantised = model if isinstance(model, QuantisedPredictor) else None
    shapes = model.config if isinstance(model, QuantisedPredictor) else model
    predictor = PredictorProgram(
        config, shapes, quantised, horizon, base=base, trace=trace, elastic=elastic
    )
    return CompiledPredictor(config, _assembled(predictor, predictor.layer_operations), predictor)


def _assembled(builder: Builder, turns: Sequence[int]) -> Program:
    return assemble(
        builder.scheduler.in_order(), profiles=builder.profiles, end=builder.scheduler.end,
        config=builder.config, turns=turns,
    )  # fmt: skip
