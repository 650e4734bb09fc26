"""The main job: a compiled model on the verilated cluster, from memory image to latents."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from attrs import asdict, field, frozen

from jepa_r.cluster.cluster import Cluster
from jepa_r.config import ClusterConfig

from .compiler import Compiled
from .cosim import Simulation, build

__all__ = ["Run", "RunResult", "build_cluster", "run_encoder", "run_image"]


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
    """

    mode: Sequence[Sequence[Any]] = (("worst",),)
    elastic: bool = False
    patches: Mapping[int, bytes] = field(factory=dict)
    windows: Sequence[tuple[int, int]] = ((0, (1 << 32) - 1),)
    inject: tuple[int, int, int] = (0, 0, 0)

    def parameters(self) -> dict[str, Any]:
        """What the bench reads."""
        return {
            "mode": [list(call) for call in self.mode],
            "elastic": self.elastic,
            "patches": {str(at): raw.hex() for at, raw in self.patches.items()},
            "windows": [list(window) for window in self.windows],
            "inject": list(self.inject),
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


def build_cluster(compiled: Compiled, *, waves: bool = False) -> Simulation:
    """Verilated cluster for a compiled model."""
    return build(Cluster(config=compiled.config), name="cluster", waves=waves)


def run_encoder(
    compiled: Compiled,
    frames: Sequence[npt.NDArray[np.int8]],
    *,
    workdir: Path,
    runs: Sequence[Run] = (Run(),),
    simulation: Simulation | None = None,
    seed: int = 1,
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
    ):  # fmt: skip
        memory = bytearray(image)
        memory[first : first + length] = output
        kept = {k: v for k, v in values.items() if k not in ("distances", "read_bursts")}
        found.append(RunResult(latents=compiled.latents(memory), **kept))
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
    simulation, workdir, runs, seed
        As for :func:`run_encoder`.

    Returns
    -------
    list of (dict, bytes)
        What the bench reports of each run, and the part of memory that was asked for.
    """
    workdir = Path(workdir).resolve()
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "memory.bin").write_bytes(image)
    results = simulation.run(
        "jepa_r_sim.benches.cluster",
        workdir=workdir,
        seed=seed,
        parameters={
            "contract": asdict(config.memory),
            "image": str(workdir / "memory.bin"),
            "program": program,
            # Boot comes before the run, and an elastic run may take longer.
            "limit": 8 * cycles + 100_000,
            "output": list(output),
            "runs": [run.parameters() for run in runs],
        },
    )
    return [
        (values, (workdir / f"output_{n}.bin").read_bytes())
        for n, values in enumerate(results.values["runs"])
    ]
