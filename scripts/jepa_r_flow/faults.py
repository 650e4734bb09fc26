"""Fault-injection campaigns: bit flips in registers, stuck-at faults in the netlist."""

import resource
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from jepa_r_sim.cosim import cache_root
from jepa_r_sim.faults.campaign import (
    Campaign,
    FaultsError,
    draw,
    on_cluster,
    on_this_machine,
    part_of,
    run_campaign,
    summarise,
)
from jepa_r_sim.faults.cxxrtl import Flips, build_flips
from jepa_r_sim.faults.stuck_at import StuckAt, build_stuck_at
from jepa_r_sim.faults.subject import Subject
from jepa_r_sim.faults.targets import TARGETS

from .console import Stages
from .faults_picture import draw_faults
from .output import check_replaceable, replaced, write_result

__all__ = ["KINDS", "faults", "faults_passed"]

KINDS = ("flips", "stuck-at")


def faults(
    *,
    target: str,
    kind: str,
    count: int | None,
    seed: int,
    cycles: int,
    window: int,
    workers: int,
    scheduler: str | None,
    resume: bool,
    output: Path,
    stages: Stages,
) -> dict[str, Any]:
    """Inject faults into a target, and say what became of them.

    Parameters
    ----------
    target
        Name of what is hurt.
    kind
        ``flips`` or ``stuck-at``.
    count
        How many faults are drawn; ``None`` for all that there are (stuck-at alone).
    seed
        Of the draw: the same gives the same list, and the same counts.
    cycles
        Range of cycles that flips are drawn from.
    window
        Cycles that are watched after a flip.
    workers
        Processes on this machine.
    scheduler
        Address of a ``dask.distributed`` scheduler that works instead.
    resume
        Continue what was interrupted.
    output
        Directory for JSON and picture.
    stages
        What a person sees.

    Returns
    -------
    dict
        As of :func:`~jepa_r_sim.faults.campaign.summarise`, and what was asked for.

    Raises
    ------
    FaultsError
        If there is no such target, kind or number of faults.
    """
    if target not in TARGETS:
        raise FaultsError(f"target is {target!r}; it must be one of {', '.join(TARGETS)}")
    if kind not in KINDS:
        raise FaultsError(f"kind is {kind!r}; it must be one of {', '.join(KINDS)}")
    if count is None and kind == "flips":
        raise FaultsError("all faults are for --kind stuck-at; give flips a number")
    runner = on_this_machine(workers) if scheduler is None else on_cluster(scheduler)
    check_replaceable(output)
    began = perf_counter()
    with stages.stage("build"):
        subject = TARGETS[target]()
        flips = build_flips(subject, cycles=cycles, window=window)
        if kind == "flips":
            campaign = _campaign_of_flips(subject, flips, count, seed)
        else:
            stuck_at = build_stuck_at(subject, flips)
            campaign = _campaign_of_stuck_at(subject, stuck_at, count, seed)
    built, used = perf_counter(), _children_seconds()
    with stages.stage("inject") as progress:
        events = run_campaign(
            campaign,
            directory=campaigns_root(),
            resume=resume,
            runner=runner,
            progress=progress,
        )
    result: dict[str, Any] = {
        "target": target,
        "name": subject.name,
        "kind": kind,
        "seed": seed,
        "cycles": len(flips.trace) if kind == "stuck-at" else cycles,
        "window": window,
        "baseline": subject.baseline,
        "registers": len(flips.bits),
        **summarise(campaign, events),
        "build_seconds": round(built - began, 2),
        "seconds": round(perf_counter() - built, 2),
        "processor_seconds": round(_children_seconds() - used, 2),
        "yosys": version("pyosys"),
    }
    if kind == "stuck-at":
        reached = events["diverged"] >= 0
        unreached = [campaign.name_of(fault) for fault in campaign.faults[~reached]]
        result |= {
            "sites": len(stuck_at.sites),
            "flip_flops": stuck_at.flip_flops,
            "reached": int(reached.sum()),
            "unreached_cases": unreached,
            "unreached_modules": dict(sorted(Counter(map(part_of, unreached)).items())),
        }
    result["passed"] = faults_passed(result)
    with replaced(output) as directory:
        draw_faults(directory / "picture.png", result)
        write_result(directory, "faults", result)
    return result | {"directory": str(output)}


def _children_seconds() -> float:
    """Processor time of all processes started from here that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def campaigns_root() -> Path:
    """Where shards of campaigns are kept."""
    return cache_root() / "campaigns"


def faults_passed(result: Mapping[str, Any]) -> bool:
    """Whether nothing wrong left, nothing hung, and every alert came in time.

    A baseline counts what must not be elsewhere, and passes.
    """
    return bool(result["baseline"]) or not (result["silent"] or result["timeout"] or result["late"])


def _campaign_of_flips(subject: Subject, flips: Flips, count: int | None, seed: int) -> Campaign:
    cycles = np.arange(flips.first, flips.first + flips.cycles, dtype=np.uint32)
    return Campaign(
        engine=flips.engine,
        faults=draw(flips.bits, cycles, count=count, seed=seed),
        name_of=lambda fault: flips.name_of(int(fault[0])),
        at=lambda fault: int(fault[1]),
        places=flips.places,
        population=len(flips.bits) * len(cycles),
        bound=subject.bound,
    )


def _campaign_of_stuck_at(
    subject: Subject, stuck_at: StuckAt, count: int | None, seed: int
) -> Campaign:
    polarities = np.arange(2, dtype=np.uint32)
    return Campaign(
        engine=stuck_at.engine,
        faults=draw(stuck_at.sites, polarities, count=count, seed=seed),
        name_of=lambda fault: stuck_at.name_of(int(fault[0]), int(fault[1])),
        at=lambda fault: 0,
        places=stuck_at.places,
        population=2 * len(stuck_at.sites),
        bound=subject.bound,
    )
