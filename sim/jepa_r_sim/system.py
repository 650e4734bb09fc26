"""The main job: a compiled model on the verilated cluster, from memory image to latents."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from attrs import asdict, field, frozen

from jepa_r.cluster.cluster import Cluster
from jepa_r.config import ClusterConfig

from .compiler import Compiled, CompiledPredictor, CompiledProgram
from .cosim import Simulation, build
from .scale import cluster_blocks_of

__all__ = [
    "Rollouts", "Run", "RunResult", "build_cluster", "run_encoder", "run_image", "run_predictor",
]  # fmt: skip


#: Called with the cycles of a run that have passed, and with those that it takes.
Progress = Callable[[int, int], None]


@frozen(kw_only=True)
class Run:
    """One run, and the memory that it meets.

    Attributes
    ----------
    mode
        Calls that make a :class:`jepa_r_sim.drivers.memory.Mode`.
    elastic
        Whether late data are waited for. Only a program that was compiled for it stays right.
    patches
        Bytes that replace some of the memory image, by address.
    windows
        Addresses that the cluster may use: up to four pairs of the first one and the one behind the
        last, which is at most 2**32 - 1.
    inject
        Bits (1, 2, or 3 for both) to flip in what is written to the activation memories, the cycle
        of the run in which that begins, and for how many cycles.
    arguments
        Of the program.
    feed
        Words of the activation memories to write before the run: mask of tiles, address, word.
    load
        Fetch the program before that; else it is fetched and run in one.
    again
        Run what the run before has fetched, without a reset.
    """

    mode: Sequence[Sequence[Any]] = (("worst",),)
    elastic: bool = False
    patches: Mapping[int, bytes] = field(factory=dict)
    windows: Sequence[tuple[int, int]] = ((0, (1 << 32) - 1),)
    inject: tuple[int, int, int] = (0, 0, 0)
    arguments: tuple[int, int] = (0, 0)
    feed: Sequence[tuple[int, int, int]] = ()
    load: bool = False
    again: bool = False

    def parameters(self) -> dict[str, Any]:
        """What the bench reads."""
        return {
            "mode": [list(call) for call in self.mode],
            "elastic": self.elastic,
            "patches": {str(at): raw.hex() for at, raw in self.patches.items()},
            "windows": [list(window) for window in self.windows],
            "inject": list(self.inject),
            "arguments": list(self.arguments),
            "feed": [[tiles, address, hex(word)] for tiles, address, word in self.feed],
            "load": self.load,
            "again": self.again,
        }


@frozen(kw_only=True)
class RunResult:
    """How a run ended.

    Attributes
    ----------
    done
        It reached its end.
    fault
        Name of the fault, ``NONE`` if there was none.
    cycles
        From the program's start to its end, counted by the bench.
    slipped
        Cycles that an elastic run waited.
    corrected
        Memory words that were corrected.
    latents
        INT8 ``[cameras, tokens, width]`` as they lie in memory afterwards.
    read_bytes
        Bytes read from memory, the program included.
    """

    done: bool
    fault: str
    cycles: int
    slipped: int
    corrected: int
    latents: npt.NDArray[np.int8]
    read_bytes: int


@frozen(kw_only=True)
class Rollouts:
    """How a run of a predictor ended: a candidate on each tile.

    Attributes
    ----------
    done, fault, cycles, slipped
        As of :class:`RunResult`.
    distances
        Of each tile's last prediction from the goal.
    latents
        INT8 ``[tiles, steps, tokens, width]``; zeros if the program leaves none.
    """

    done: bool
    fault: str
    cycles: int
    slipped: int
    distances: list[int]
    latents: npt.NDArray[np.int8]


def build_cluster(compiled: CompiledProgram, *, waves: bool = False) -> Simulation:
    """Verilated cluster for a compiled model."""
    blocks = [] if waves else cluster_blocks_of(compiled.config)
    return build(Cluster(config=compiled.config), name="cluster", waves=waves, blocks=blocks)


def run_encoder(
    compiled: Compiled,
    frames: Sequence[npt.NDArray[np.int8]],
    *,
    workdir: Path,
    runs: Sequence[Run] = (Run(),),
    simulation: Simulation | None = None,
    seed: int = 1,
    progress: Progress | None = None,
) -> list[RunResult]:
    """Run a compiled encoder on the RTL.

    Parameters
    ----------
    compiled
        Program and data.
    frames
        INT8 patches, one image a camera.
    workdir
        Where the bench works.
    runs
        Memories to meet, one run each, with a reset between.
    simulation
        From :func:`build_cluster`; built if missing.
    seed
        Of registers that no reset reaches.
    progress
        Told now and then how far a run is.

    Raises
    ------
    jepa_r_sim.cosim.SimulationError
        If the simulation itself failed; a fault of the cluster is a result.
    """
    simulation = build_cluster(compiled) if simulation is None else simulation
    image = bytes(compiled.memory(frames))
    encoder = compiled.encoder
    first, length = encoder.output_address, compiled.config.tiles * encoder.output_bytes
    found = []
    for values, output in run_image(
        compiled.config, image, program=compiled.program_address, cycles=compiled.cycles,
        output=(first, length), simulation=simulation, workdir=workdir, runs=runs, seed=seed,
        progress=progress,
    ):  # fmt: skip
        memory = bytearray(image)
        memory[first : first + length] = output
        kept = {k: v for k, v in values.items() if k not in ("distances", "read_bursts", "stored")}
        found.append(RunResult(latents=compiled.latents(bytes(memory)), **kept))
    return found


def run_predictor(
    compiled: CompiledPredictor,
    latent: npt.NDArray[np.int8],
    goal: npt.NDArray[np.int8],
    actions: npt.NDArray[np.int16],
    states: npt.NDArray[np.int16],
    *,
    workdir: Path,
    mode: Sequence[Sequence[Any]] = (("worst",),),
    elastic: bool = False,
    simulation: Simulation | None = None,
    seed: int = 1,
) -> list[Rollouts]:
    """Roll candidates out on the RTL, as many at a time as there are tiles.

    The program is fetched once; the latents are fed once, actions and states before each run.

    Parameters
    ----------
    compiled
        Program and data, with ``trace`` if latents are wanted.
    latent, goal
        INT8 ``[tokens, width]``: where candidates start, and what their end is compared with.
    actions, states
        INT16 ``[candidates, horizon, 7]``.
    mode, elastic
        As of :class:`Run`.
    workdir, simulation, seed
        As for :func:`run_encoder`.
    """
    simulation = build_cluster(compiled) if simulation is None else simulation
    built, tiles = compiled.predictor, compiled.config.tiles
    end = -(-compiled.memory_bytes // 4096) * 4096
    memory = bytearray(end + compiled.trace_bytes)
    compiled.place(memory)
    runs = []
    for first in range(0, len(actions), tiles):
        feed = [
            (1 << n, address, word)
            for n in range(min(tiles, len(actions) - first))
            for address, word in compiled.input_feed(actions[first + n], states[first + n])
        ]
        if not first:
            feed += [
                ((1 << tiles) - 1, address, word)
                for what, place in ((latent, built.latent), (goal, built.goal))
                for address, word in compiled.latent_feed(what, place)
            ]
        runs.append(
            Run(
                mode=mode, elastic=elastic, arguments=(end, 0), feed=feed, load=not first,
                again=first > 0,
            )
        )  # fmt: skip
    found = []
    for values, output in run_image(
        compiled.config, bytes(memory), program=compiled.program_address, cycles=compiled.cycles,
        output=(end, compiled.trace_bytes), simulation=simulation, workdir=workdir, runs=runs,
        seed=seed,
    ):  # fmt: skip
        distances = [values["distances"] >> 48 * n & (1 << 48) - 1 for n in range(tiles)]
        found.append(
            Rollouts(
                done=values["done"], fault=values["fault"], cycles=values["cycles"],
                slipped=values["slipped"], distances=distances, latents=compiled.latents(output, 0),
            )
        )  # fmt: skip
    return found


def run_image(
    config: ClusterConfig,
    image: bytes,
    *,
    program: int,
    cycles: int,
    output: tuple[int, int],
    simulation: Simulation,
    workdir: Path,
    runs: Sequence[Run] = (Run(),),
    seed: int = 1,
    progress: Progress | None = None,
) -> list[tuple[dict[str, Any], bytes]]:
    """Run whatever program a memory image holds.

    Parameters
    ----------
    config
        The cluster that ``simulation`` is of.
    image
        Contents of memory from address 0.
    program
        Address of the program image.
    cycles
        Length of its run; one that takes much longer is given up.
    output
        First address and length of what is kept of memory.
    simulation, workdir, runs, seed, progress
        As for :func:`run_encoder`.

    Returns
    -------
    list of (dict, bytes)
        What the bench reports of each run, with what it ``stored`` in the latent store by address,
        and the part of memory that was asked for.
    """
    workdir = Path(workdir).resolve()
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "memory.bin").write_bytes(image)
    parameters = {
        "contract": asdict(config.memory),
        "image": str(workdir / "memory.bin"),
        "program": program,
        # Boot comes before the run, and an elastic run may take longer.
        "limit": 8 * cycles + 100_000,
        "output": list(output),
        "runs": [run.parameters() for run in runs],
    }
    with contextlib.ExitStack() as stack:
        if progress is not None:
            told = workdir / "progress"
            parameters["progress"] = [str(told), max(1, cycles // 100)]
            stack.enter_context(_followed(told, lambda done: progress(done, cycles)))
        results = simulation.run(
            "jepa_r_sim.benches.cluster", workdir=workdir, seed=seed, parameters=parameters
        )
    found = []
    for n, values in enumerate(results.values["runs"]):
        stored = json.loads((workdir / f"stored_{n}.json").read_text())
        values["stored"] = {int(at): int(word, 16) for at, word in stored.items()}
        found.append((values, (workdir / f"output_{n}.bin").read_bytes()))
    return found


@contextlib.contextmanager
def _followed(path: Path, call: Callable[[int], None]) -> Iterator[None]:
    """Call with the number in a file whenever it has changed, while the body runs and after it."""
    ended = threading.Event()
    path.write_text("")

    def follow() -> None:
        before, last = "", False
        while not last:
            last = ended.wait(0.5)
            if (text := path.read_text()) not in ("", before):
                before = text
                call(int(text))

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
