"""The verilated chip, and a host that follows a script."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import asdict, define, field, frozen

from jepa_r.chip import Chip
from jepa_r.config import ChipConfig

from .cosim import Simulation, build
from .drivers.packets import Action, parse_action

__all__ = ["ChipRun", "Elite", "Script", "Wait", "build_chip", "register_parameters", "run_chip"]

#: Settings of the planner that are registers of one value, by their names in the golden model.
_SETTINGS = (
    "samples", "elites", "iterations", "horizon", "warm", "seed", "momentum_mean",
    "momentum_deviation", "threshold",
)  # fmt: skip


@frozen
class Elite:
    """One of the best candidates of an iteration."""

    iteration: int
    rank: int
    candidate: int
    cost: int


@frozen(kw_only=True)
class Wait:
    """How a wait for interrupts ended.

    Attributes
    ----------
    seen
        Bits of INTERRUPT_STATUS that were set.
    cycle
        When the last one was.
    in_time
        Whether it ended before its limit.
    """

    seen: tuple[str, ...]
    cycle: int
    in_time: bool


@define
class Script:
    """What the host does, step by step. Each method adds a step and returns the script.

    Attributes
    ----------
    steps
        Name and arguments of each step, as the bench has them.
    """

    steps: list[list[Any]] = field(factory=list)

    def _add(self, *step: Any) -> "Script":
        self.steps.append(list(step))
        return self

    def write(self, register: str, value: int | None = None, /, **fields: int) -> "Script":
        """Write a register, by number or by fields."""
        return self._add("write", register, fields if value is None else int(value))

    def refused(self, register: str, value: int) -> "Script":
        """Write a register, which must be answered with SLVERR."""
        return self._add("write", register, value, "SLVERR")

    def read(self, *registers: str) -> "Script":
        """Read registers; :attr:`ChipRun.reads` gets a dictionary."""
        return self._add("read", *registers)

    def command(self, *names: str) -> "Script":
        """Write these bits of CONTROL."""
        return self.write("CONTROL", **dict.fromkeys(names, 1))

    def wait(self, *events: str, limit: int = 10_000_000) -> "Script":
        """Wait for bits of INTERRUPT_STATUS; :attr:`ChipRun.waits` gets how it ended."""
        return self._add("wait", list(events), limit)

    def state(self, pose: Iterable[int], *, timestamp: int = 0, spoil: int = 0) -> "Script":
        """Send a joint state."""
        return self._add("state", [int(value) for value in pose], timestamp, spoil)

    def patch(self, address: int, contents: bytes) -> "Script":
        """Write to the memory outside."""
        return self._add("patch", address, contents.hex())

    def dump(self, name: str, address: int, length: int) -> "Script":
        """Keep a part of the memory outside; :attr:`ChipRun.dumps` gets it."""
        return self._add("dump", f"{name}.dump", address, length)

    def cycles(self, count: int) -> "Script":
        """Let time pass."""
        return self._add("cycles", count)

    def inject(self, bits: int) -> "Script":
        """Invert bits of what is written to the chip's memories."""
        return self._add("inject", bits)

    def hold_actions(self, held: bool = True) -> "Script":
        """Take no action packets."""
        return self._add("hold_actions", held)

    def reset(self, mode: Iterable[Sequence[Any]] | None = None) -> "Script":
        """Reset the chip, and maybe change the memory's mode."""
        return self._add("reset", None if mode is None else [list(call) for call in mode])

    def configure(
        self,
        *,
        encoder: int,
        predictor: int,
        frame: int,
        goal: int,
        trace: int = 0,
        windows: Sequence[tuple[int, int]] = ((0, (1 << 32) - 1),),
    ) -> "Script":
        """Say where everything is: program images, pictures, trace, and what may be used."""
        for register, address in (
            ("ENCODER_PROGRAM", encoder), ("PREDICTOR_PROGRAM", predictor), ("FRAME", frame),
            ("GOAL_FRAME", goal), ("TRACE_BASE", trace),
        ):  # fmt: skip
            self.write(register, address)
        for name in ("ENCODER", "PREDICTOR"):
            for n, (base, limit) in enumerate(windows):
                self.write(f"{name}_WINDOW[{n}].BASE", base)
                self.write(f"{name}_WINDOW[{n}].LIMIT", limit)
        return self

    def settings(self, settings: Any) -> "Script":
        """Write the planner's registers, from :class:`jepa_r_sim.golden.planner.Settings`."""
        for name in _SETTINGS:
            self.write(name.upper(), int(getattr(settings, name)))
        self.write("NEXT_PLAN", settings.plan)
        for name in ("deviation", "clip"):
            *three, gripper = getattr(settings, name)
            for n, value in enumerate(three):
                self.write(f"{name.upper()}_XYZ[{n}]", int(value))
            self.write(f"{name.upper()}_GRIPPER", int(gripper))
        return self


@frozen(kw_only=True)
class ChipRun:
    """What came of a script.

    Attributes
    ----------
    actions
        Action packets, with the cycle of each one's last word.
    elites
        Elites of all plans, as they were told.
    reads, waits
        Results of :meth:`Script.read` and :meth:`Script.wait`, in order.
    dumps
        Parts of memory by name.
    read_bytes
        Bytes read from memory since the last reset.
    """

    actions: tuple[tuple[int, Action], ...]
    elites: tuple[Elite, ...]
    reads: tuple[dict[str, Any], ...]
    waits: tuple[Wait, ...]
    dumps: dict[str, bytes]
    read_bytes: int


def register_parameters(config: ChipConfig) -> dict[str, int]:
    """Parameters of the register description for a chip."""
    return {"CONFIG_HASH": int(config.hash, 16), "CYCLES_PER_MS": 1000 * config.clock_mhz}


def build_chip(config: ChipConfig, *, waves: bool = False) -> Simulation:
    """Verilated chip."""
    return build(Chip(config=config), name="chip", waves=waves)


def run_chip(
    config: ChipConfig,
    script: Script,
    memory: Mapping[int, bytes],
    *,
    workdir: Path,
    simulation: Simulation | None = None,
    mode: Iterable[Sequence[Any]] = (("worst",),),
    seed: int = 1,
) -> ChipRun:
    """Let a host follow a script.

    Parameters
    ----------
    config
        The chip.
    script
        What the host does.
    memory
        Contents of the memory outside, by address; where there are none, nothing is.
    workdir
        Where the bench works.
    simulation
        From :func:`build_chip`; built if missing.
    mode
        Calls that make a :class:`jepa_r_sim.drivers.memory.Mode`.
    seed
        Of registers that no reset reaches.

    Raises
    ------
    jepa_r_sim.cosim.SimulationError
        If the simulation itself failed; a fault of the chip is a result.
    """
    assert config.memory is not None
    simulation = build_chip(config) if simulation is None else simulation
    workdir = Path(workdir).resolve()
    workdir.mkdir(parents=True, exist_ok=True)
    files = {}
    for base, contents in memory.items():
        path = workdir / f"memory_{base:08x}.bin"
        path.write_bytes(contents)
        files[str(base)] = str(path)
    values = simulation.run(
        "jepa_r_sim.benches.chip",
        workdir=workdir,
        seed=seed,
        parameters={
            "contract": asdict(config.memory),
            "memory": files,
            "mode": [list(call) for call in mode],
            "registers": register_parameters(config),
            "script": script.steps,
        },
    ).values
    return ChipRun(
        actions=tuple((cycle, parse_action(words)) for cycle, words in values["actions"]),
        elites=tuple(Elite(*elite) for elite in values["elites"]),
        reads=tuple(values["reads"]),
        waits=tuple(
            Wait(seen=tuple(w["seen"]), cycle=w["cycle"], in_time=w["in_time"])
            for w in values["waits"]
        ),
        dumps={
            step[1].removesuffix(".dump"): (workdir / step[1]).read_bytes()
            for step in script.steps
            if step[0] == "dump"
        },
        read_bytes=values["read_bytes"],
    )
