"""Plans on the verilated chip, held to the integer golden model in everything that they compute."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from attrs import evolve, field, frozen

from jepa_r.config import ChipConfig

from .chip import ChipRun, Script, run_chip
from .compiler.chip import ChipImage, compile_chip
from .cosim import Simulation
from .drivers.packets import Action
from .golden import planner as golden
from .model import integer, rollout
from .model.quantised import QuantisedEncoder, QuantisedPredictor

__all__ = ["ChipPlanner", "Loop", "Measured", "Observation", "Planned", "differences"]

Int8 = npt.NDArray[np.int8]
Int16 = npt.NDArray[np.int16]

#: What the camera and the arm say: INT8 patches ``[tokens, features]`` and a pose, INT16 ``[7]``.
Observation = tuple[Int8, Int16]


@frozen(kw_only=True, eq=False)
class Planned:
    """A plan by the golden model.

    Attributes
    ----------
    patches, pose
        What was seen.
    latent
        INT8 ``[tokens, width]``.
    plan
        The plan.
    predictions
        Latents of all candidates of all iterations, ``[iterations * samples, H, tokens, width]``.
    """

    patches: Int8
    pose: Int16
    latent: Int8
    plan: golden.Plan
    predictions: Int8


@frozen(kw_only=True, eq=False)
class Measured:
    """The same plan on the chip.

    Attributes
    ----------
    fault
        Fields of the register FAULT.
    latent, predictions
        As of :class:`Planned`.
    action
        INT16 ``[7]``.
    elites, elite_costs
        ``[iterations, elites]``.
    plan_cycles, encoder_cycles
        What the chip has counted.
    """

    fault: dict[str, int]
    latent: Int8
    predictions: Int8
    action: Int16
    elites: npt.NDArray[np.int64]
    elite_costs: npt.NDArray[np.int64]
    plan_cycles: int
    encoder_cycles: int

    @property
    def failed(self) -> bool:
        """Whether anything has stopped."""
        return any(self.fault.values())


@frozen(kw_only=True, eq=False)
class Loop:
    """What a chip did for some observations.

    Attributes
    ----------
    goal
        Latent of the goal.
    steps
        A plan for each observation, up to the first that failed.
    packet
        The action that went out last.
    """

    goal: Int8
    steps: tuple[Measured, ...]
    packet: Action | None


@frozen
class ChipPlanner:
    """A chip with a model and the planner's settings.

    Parameters
    ----------
    config
        The chip.
    encoder, predictor
        The quantised model.
    settings
        The planner's registers. The plan number counts up from the one given.
    """

    config: ChipConfig
    encoder: QuantisedEncoder
    predictor: QuantisedPredictor
    settings: golden.Settings
    image: ChipImage = field(init=False)

    def __attrs_post_init__(self) -> None:
        image = compile_chip(
            self.config, self.encoder, self.predictor, horizon=self.settings.horizon, trace=True
        )
        object.__setattr__(self, "image", image)

    @property
    def plan_cycles(self) -> int:
        """Cycles that each plan will take."""
        s = self.settings
        return self.image.plan_cycles(samples=s.samples, elites=s.elites, iterations=s.iterations)

    @property
    def batches(self) -> int:
        """Rollouts of a plan, as many candidates at once as there are tiles."""
        return self.settings.iterations * -(-self.settings.samples // self._tiles)

    def elite_actions(self, plan: golden.Plan, iteration: int) -> Int16:
        """Actions of an iteration's elites, ``[K, H, 7]``, of the first plan."""
        mu, sd = golden.start(self.settings, None)
        if iteration:
            mu, sd = plan.means[iteration - 1], plan.deviations[iteration - 1]
        return golden.candidates(self.settings, mu, sd, iteration, plan.elites[iteration])

    @property
    def _tiles(self) -> int:
        return self.image.predictor.config.tiles

    def golden(
        self,
        goal: Int8,
        first: Observation,
        world: Callable[[Int16], Observation] | None = None,
        *,
        steps: int = 1,
        seeds: Sequence[int] | None = None,
    ) -> list[Planned]:
        """Plan in the golden model.

        Parameters
        ----------
        goal
            Patches of the goal's picture.
        first
            What is seen and felt at the begin.
        world
            What is seen and felt after an action; without it, the same as before.
        steps
            How often.
        seeds
            One for each plan, instead of that of the settings.
        """
        wanted = integer.encode(self.encoder, goal).latent
        seen, settings, previous, found = first, self.settings, None, []
        for step in range(steps):
            patches, pose = seen
            if seeds is not None:
                settings = evolve(settings, seed=seeds[step])
            latent = integer.encode(self.encoder, patches).latent
            predictions: list[Int8] = []

            def costs(
                actions: Int16, states: Int16, latent: Int8 = latent,
                predictions: list[Int8] = predictions,
            ) -> npt.NDArray[np.int64]:  # fmt: skip
                made = rollout.rollout(self.predictor, latent, actions, states).latents
                predictions.append(made)
                return rollout.costs(made[:, -1], wanted)

            plan = golden.plan(settings, pose, costs, previous=previous)
            found.append(
                Planned(
                    patches=patches, pose=pose, latent=latent, plan=plan,
                    predictions=np.concatenate(predictions),
                )
            )  # fmt: skip
            previous, settings = plan.mu, evolve(settings, plan=settings.plan + 1)
            seen = world(plan.action) if world else seen
        return found

    def script(
        self, goal: Int8, seen: Sequence[Observation], seeds: Sequence[int] | None = None
    ) -> Script:
        """What the host does: set up, encode the goal, then observe and plan each time."""
        image, encoder = self.image, self.image.encoder.encoder
        places = image.addresses
        script = Script().configure(
            encoder=places["ENCODER_PROGRAM"], predictor=places["PREDICTOR_PROGRAM"],
            frame=places["FRAME"], goal=places["GOAL_FRAME"], trace=places["TRACE_BASE"],
            windows=((0, image.trace_address + self.batches * image.predictor.trace_bytes),),
        )  # fmt: skip
        script.settings(self.settings).write("LOCK", 1)
        script.patch(image.goal_address, image.frame(goal))
        script.command("load", "goal").wait("goal", limit=20 * image.encoder.cycles + 1_000_000)
        script.read("FAULT")
        latents = (encoder.output_address, image.encoder.config.tiles * encoder.output_bytes)
        script.dump("goal", *latents)
        for n, (patches, pose) in enumerate(seen):
            if seeds is not None:
                script.write("SEED", seeds[n])
            script.patch(image.frame_address, image.frame(patches)).state(pose)
            script.command("observe", "plan")
            script.wait("planned", limit=2 * self.plan_cycles + 1_000_000)
            script.read(
                "FAULT",
                "PLAN",
                "PLAN_CYCLES",
                "ENCODER_CYCLES",
                *(f"ACTION[{i}]" for i in range(7)),
            )
            script.dump(f"latent_{n}", *latents)
            size = self.batches * image.predictor.trace_bytes
            script.dump(f"trace_{n}", image.trace_address, size)
        # The packet that is under way, and one with the last plan.
        return script.cycles(2 * 1000 * self.config.clock_mhz + 100)

    def run(
        self,
        goal: Int8,
        seen: Sequence[Observation],
        *,
        seeds: Sequence[int] | None = None,
        workdir: Path,
        simulation: Simulation | None = None,
        mode: Sequence[Sequence[Any]] = (("worst",),),
        seed: int = 1,
    ) -> Loop:
        """Plan on the chip, once for each observation.

        Raises
        ------
        jepa_r_sim.cosim.SimulationError
            If the simulation itself failed; a fault of the chip is a result.
        """
        ran = run_chip(
            self.config, self.script(goal, seen, seeds),
            {0: bytes(self.image.memory(batches=self.batches))},
            workdir=workdir, simulation=simulation, mode=mode, seed=seed,
        )  # fmt: skip
        first, *reads = ran.reads
        steps = [self._measured(n, read, ran) for n, read in enumerate(reads)]
        ended = next((n for n, step in enumerate(steps) if step.failed), len(steps))
        packets = [packet for _cycle, packet in ran.actions]
        if any(first["FAULT"].values()):
            ended = 0
        return Loop(
            goal=self._latent(ran.dumps["goal"]), steps=tuple(steps[: ended + 1]),
            packet=packets[-1] if packets else None,
        )  # fmt: skip

    def _measured(self, n: int, read: dict[str, Any], ran: ChipRun) -> Measured:
        s, size = self.settings, self.image.predictor.trace_bytes
        whole = s.iterations * s.elites
        told = ran.elites[n * whole : (n + 1) * whole]
        table = np.zeros((2, s.iterations, s.elites), np.int64)
        for elite in told:
            table[:, elite.iteration, elite.rank] = elite.candidate, elite.cost
        trace = ran.dumps[f"trace_{n}"]
        batches = [
            self.image.predictor.latents(trace, batch * size) for batch in range(self.batches)
        ]
        # Tiles that the last batch of an iteration does not need hold what they had.
        latents = np.concatenate(batches).reshape(s.iterations, -1, *batches[0].shape[1:])
        return Measured(
            fault=read["FAULT"],
            latent=self._latent(ran.dumps[f"latent_{n}"]),
            predictions=latents[:, : s.samples].reshape(-1, *batches[0].shape[1:]),
            action=np.array([read[f"ACTION[{i}]"] for i in range(7)], np.int16),
            elites=table[0],
            elite_costs=table[1],
            plan_cycles=read["PLAN_CYCLES"],
            encoder_cycles=read["ENCODER_CYCLES"],
        )

    def _latent(self, dump: bytes) -> Int8:
        encoder = self.image.encoder
        return encoder.latents(bytes(encoder.encoder.output_address) + dump)[0]


def differences(planned: Planned, measured: Measured) -> dict[str, int]:
    """How many numbers of a plan differ: of latent, predictions, elites, costs and action."""
    plan = planned.plan
    pairs: dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]] = {
        "latent": (planned.latent, measured.latent),
        "predictions": (planned.predictions, measured.predictions),
        "elites": (plan.elites, measured.elites),
        "costs": (plan.elite_costs, measured.elite_costs),
        "action": (plan.action, measured.action),
    }
    return {name: int((one != other).sum()) for name, (one, other) in pairs.items()}
