"""From a quantised model to images that a cluster runs, and to the length of their run."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
from attrs import define

from jepa_r.config import ClusterConfig

from ..model.quantised import QuantisedEncoder
from ..model.shapes import ModelConfig
from .encoder import EncoderProgram
from .image import pack_words, unpack_words
from .program import Program, assemble
from .schedule import Stage

__all__ = ["Compiled", "compile_encoder"]


@define(slots=False)
class Compiled:
    """A program with its data, for one cluster and one model.

    Addresses are the cluster's; the input is one part a tile, then the output, the constant data
    and the program follow.

    Attributes
    ----------
    config
        The cluster.
    encoder
        Operations and places.
    program
        Program words.
    """

    config: ClusterConfig
    encoder: EncoderProgram
    program: Program

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
        return self.encoder.scheduler.stages()

    @property
    def macs(self) -> int:
        """Multiplications of the model, padding not counted."""
        return self.encoder.model.macs * self.encoder.layout.cameras

    @property
    def utilisation(self) -> float:
        """Part of the arrays' multiplications that are the model's."""
        return self.macs / (self.cycles * self.config.macs_per_cycle)

    @property
    def program_address(self) -> int:
        """Where the program image lies."""
        end = self.encoder.image.base + self.encoder.image.size
        return -(-end // 4096) * 4096

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory that a run uses, program included."""
        return self.program_address + len(self.program_image)

    @cached_property
    def program_image(self) -> bytes:
        """Header and program words, with checksums."""
        about = {"elastic": int(self.encoder.scheduler.elastic)}
        return self.program.image(self.config, about=about)

    @cached_property
    def weight_image(self) -> bytes:
        """Constant data from ``encoder.image.base`` on."""
        return self.encoder.image.render()

    def memory(self, frames: Sequence[npt.NDArray[np.int8]]) -> bytearray:
        """Contents of memory before a run.

        Parameters
        ----------
        frames
            INT8 patches ``[tokens, features]``, one image a camera.
        """
        encoder = self.encoder
        memory = bytearray(self.memory_bytes)
        for tile in range(self.config.tiles):
            part = self._input(frames, tile)
            begin = tile * encoder.input_bytes
            memory[begin : begin + len(part)] = part
        base = encoder.image.base
        memory[base : base + len(self.weight_image)] = self.weight_image
        memory[self.program_address :] = self.program_image
        return memory

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
        width = self.config.memory.data_bytes
        parts = []
        for tile in range(self.config.tiles):
            begin = encoder.output_address + tile * encoder.output_bytes
            share = max(1, width // rows)
            beats = -(-encoder.output_words // share) * -(-rows // width)
            words = unpack_words(
                bytes(memory[begin : begin + beats * width]), encoder.output_words, rows, width
            )
            blocks = lay.blocks(lay.width)
            part = words.reshape(blocks, lay.cameras, lay.tokens, rows).transpose(1, 2, 0, 3)
            parts.append(part.reshape(lay.cameras, lay.tokens, blocks * rows))
        whole = np.concatenate(parts, 1).view(np.int8)
        return whole[:, : encoder.model.tokens, : encoder.model.width]


def compile_encoder(
    config: ClusterConfig,
    model: ModelConfig | QuantisedEncoder,
    *,
    cameras: int = 1,
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
    encoder = EncoderProgram(config, shapes, quantised, cameras, elastic=elastic)
    program = assemble(
        encoder.scheduler.in_order(),
        profiles=encoder.profiles,
        end=encoder.scheduler.end,
        config=config,
        turn=encoder.layer_operations,
    )
    return Compiled(config, encoder, program)
