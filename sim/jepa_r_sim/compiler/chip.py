"""Everything that a chip finds in its memory: both programs, their data, and room for pictures."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from attrs import define

from jepa_r.config import ChipConfig, ConfigError
from jepa_r.planner.planner import Planner

from ..model.quantised import QuantisedEncoder, QuantisedPredictor
from ..model.shapes import ModelConfig
from . import Compiled, CompiledPredictor, compile_encoder, compile_predictor
from .builder import ceil

__all__ = ["ChipImage", "compile_chip"]

_PAGE = 4096


@define
class ChipImage:
    """Programs of both clusters, and the map of the memory that they share.

    Encoder (its picture, the latents it leaves, constants, program), predictor (constants,
    program), the goal's picture, and predicted latents follow one another.

    Attributes
    ----------
    config
        The chip.
    encoder, predictor
        Their programs.
    """

    config: ChipConfig
    encoder: Compiled
    predictor: CompiledPredictor

    @property
    def frame_address(self) -> int:
        """Picture of what is observed."""
        return self.encoder.encoder.input_address

    @property
    def goal_address(self) -> int:
        """Picture of the goal."""
        return ceil(self.predictor.memory_bytes, _PAGE)

    @property
    def trace_address(self) -> int:
        """Latents of the rollouts, batch after batch."""
        built = self.encoder.encoder
        return self.goal_address + self.encoder.config.tiles * built.input_bytes

    @property
    def addresses(self) -> Mapping[str, int]:
        """What the registers of the same names take."""
        return {
            "ENCODER_PROGRAM": self.encoder.program_address,
            "PREDICTOR_PROGRAM": self.predictor.program_address,
            "FRAME": self.frame_address,
            "GOAL_FRAME": self.goal_address,
            "TRACE_BASE": self.trace_address,
        }

    @property
    def rollout_cycles(self) -> int:
        """From the planner's wish for a rollout to its end: the run, and a cycle to begin it."""
        return self.predictor.cycles + 1

    def plan_cycles(self, *, samples: int, elites: int, iterations: int) -> int:
        """Length of a plan, from its start to its action; the horizon is the program's."""
        return Planner.cycles_of(
            samples=samples, elites=elites, iterations=iterations,
            horizon=self.predictor.predictor.layout.horizon, tiles=self.predictor.config.tiles,
            row_bytes=self.predictor.config.tile.rows, rollout=self.rollout_cycles,
        )  # fmt: skip

    def frame(self, patches: npt.NDArray[np.int8]) -> bytes:
        """A picture, INT8 patches ``[tokens, features]``, as it lies in memory."""
        return self.encoder.frame_image([patches])

    def memory(self, *, batches: int = 1) -> bytearray:
        """Contents of memory without pictures, with room for the latents of so many rollouts."""
        memory = bytearray(self.trace_address + batches * self.predictor.trace_bytes)
        self.encoder.place(memory)
        self.predictor.place(memory)
        return memory


def compile_chip(
    config: ChipConfig,
    encoder: ModelConfig | QuantisedEncoder,
    predictor: ModelConfig | QuantisedPredictor,
    *,
    horizon: int = 1,
    trace: bool = False,
) -> ChipImage:
    """Compile a model for a chip: what it sees through one camera, and what it plans with.

    Parameters
    ----------
    config
        The chip.
    encoder, predictor
        Quantised models; or shapes alone, for programs that can be timed but not run.
    horizon
        Steps of a rollout.
    trace
        Whether rollouts leave their latents in memory.

    Raises
    ------
    ConfigError
        If the chip has no predictor, or the model does not fit.
    """
    if config.predictor is None:
        raise ConfigError(f"{config.name} has no predictor; a chip needs one to plan")
    if horizon > config.planner.steps:
        raise ConfigError(
            f"horizon is {horizon}; planner.steps allows at most {config.planner.steps}"
        )
    first = compile_encoder(config.encoder, encoder, latent_store=True)
    base = ceil(first.memory_bytes, _PAGE)
    second = compile_predictor(config.predictor, predictor, horizon=horizon, base=base, trace=trace)
    words = -(-second.predictor.layout.output // config.encoder.tile.rows)
    if words * second.predictor.layout.tokens > config.latent_words:
        raise ConfigError(
            f"latent_words is {config.latent_words}; a latent of this model needs "
            f"{words * second.predictor.layout.tokens}"
        )
    left, compared = first.encoder.layout.width, second.predictor.layout.output
    if left < compared:
        # What is in a word beyond what the lanes have written is anything.
        raise ConfigError(
            f"encoder.tile.lanes is {config.encoder.tile.lanes}; it leaves {left} channels of a "
            f"latent, and predictor.tile.lanes, {config.predictor.tile.lanes}, compares {compared}"
        )
    return ChipImage(config, first, second)
