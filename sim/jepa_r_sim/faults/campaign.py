"""Campaigns: which faults, in what order, and what became of each.

Every fault is of exactly one class, so that the classes sum to the number injected. *Released* is
what leaves the design (:attr:`.Subject.released`), *wrong* is whatever the golden run does not
release in that very cycle, and every cycle of a correct design has its time, so that a late value
is a wrong value. In the order in which they are decided:

``silent``
    A wrong value left, and no alert had come in an earlier cycle; or it left in spite of one. Also
    called an escape, or silent data corruption.
``safe_stop``
    The design stopped by itself, with a named fault, before any alert.
``contained``
    An alert came, and a wrong value had been requested by then: had nothing been held back, it
    would have left.
``detected``
    An alert came, and no wrong value had been requested.
``timeout``
    The golden run releases something, this run releases nothing more, and there is no alert.
``masked``
    The state is that of the golden run again: nothing is left of the fault. A stuck-at fault is
    there for good, and is masked if no register differs in the last cycle.
``latent``
    The state differs, without an effect on what is released in the cycles that were watched.

Apart from its class, a fault is *late* if a compared output differed and the alert took more than
the bound of the subject, or did not come at all.

A campaign is cut into shards. What a shard found is a file under a name that is a hash of the
design, the workload and the list of faults, so that an interrupted campaign continues, with the
same counts as one that was not interrupted.
"""

import contextlib
import hashlib
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from attrs import frozen

from ..cosim import MissingToolError
from .engine import EVENT, Engine

__all__ = [
    "CLASSES",
    "Campaign",
    "ClusterError",
    "FaultsError",
    "classify",
    "draw",
    "on_cluster",
    "on_this_machine",
    "part_of",
    "run_campaign",
    "summarise",
    "wilson",
]

#: In the order of the command's result.
CLASSES = ("masked", "latent", "detected", "contained", "safe_stop", "timeout", "silent")

#: Faults of a shard: seconds of work, and one run of the stuck-at engine.
_SHARD = 511
#: Two-sided quantile of the normal distribution for 95 %.
_Z = 1.959963984540054
#: Seconds in which a scheduler must answer.
_PATIENCE = 10

Faults = npt.NDArray[np.uint32]
Events = npt.NDArray[np.void]
Runner = Callable[[Engine, Sequence[Faults]], Iterator[tuple[int, Events]]]


class FaultsError(ValueError):
    """A campaign that cannot be run as it is asked for."""


class ClusterError(RuntimeError):
    """The scheduler does not answer, or its workers failed."""


@frozen(kw_only=True)
class Campaign:
    """Faults, and what is needed to inject and to name them.

    Attributes
    ----------
    engine : :class:`~.engine.Engine`
        Injects them.
    faults
        UINT32 ``[faults, 2]``, in the engine's numbers.
    name_of
        Name of a row of ``faults``, for people.
    at
        Cycle in which a row of ``faults`` is injected.
    places
        Port of each word of the observed outputs.
    population : :class:`int`
        How many faults there are to draw from.
    bound : :class:`int` or ``None``
        As of the subject.
    """

    engine: Engine
    faults: Faults
    name_of: Callable[[npt.NDArray[np.uint32]], str]
    at: Callable[[npt.NDArray[np.uint32]], int]
    places: Sequence[str]
    population: int
    bound: int | None


def draw(
    first: npt.NDArray[np.uint32],
    second: npt.NDArray[np.uint32],
    *,
    count: int | None,
    seed: int,
) -> Faults:
    """Draw pairs without replacement, each with the same probability.

    Parameters
    ----------
    first, second
        All values of either part: bits and cycles, or sites and polarities.
    count
        How many; ``None`` for all of them, in order.
    seed
        The same seed gives the same list.

    Raises
    ------
    FaultsError
        If there are not that many.
    """
    population = len(first) * len(second)
    if count is None:
        chosen = np.arange(population)
    elif not 1 <= count <= population:
        raise FaultsError(f"faults is {count}; it must be 1..{population}, of which there are")
    else:
        chosen = np.random.default_rng(seed).choice(population, count, replace=False)
    return np.stack([first[chosen // len(second)], second[chosen % len(second)]], 1).astype(
        np.uint32
    )


def classify(events: Events) -> npt.NDArray[np.intp]:
    """Index in :data:`CLASSES` of each event."""

    def happened(name: str) -> npt.NDArray[np.bool_]:
        return events[name] >= 0

    alert, stopped = happened("alert"), happened("stopped")
    rules = [
        ("silent", happened("released")),
        ("safe_stop", stopped & ~(alert & (events["alert"] < events["stopped"]))),
        ("contained", alert & happened("requested") & (events["requested"] <= events["alert"])),
        ("detected", alert),
        ("timeout", happened("omitted")),
        ("masked", happened("matched")),
    ]
    return np.select(
        [holds for _, holds in rules],
        [CLASSES.index(name) for name, _ in rules],
        CLASSES.index("latent"),
    )


def run_campaign(
    campaign: Campaign,
    *,
    directory: Path,
    resume: bool = False,
    runner: Runner | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Events:
    """Inject all faults; returns what became of each, in order.

    Parameters
    ----------
    campaign
        What to do.
    directory
        Where shards are kept, below a name of this campaign.
    resume
        Keep what an earlier run of the same campaign left there.
    runner
        What works on shards; by default one process of this machine.
    progress
        Called with faults done and faults in all.
    """
    shards = [campaign.faults[n : n + _SHARD] for n in range(0, len(campaign.faults), _SHARD)]
    name = hashlib.sha256(campaign.engine.key.encode() + campaign.faults.tobytes()).hexdigest()
    home = directory / name[:32]
    if not resume:
        shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True, exist_ok=True)
    found = {
        n: events
        for n in range(len(shards))
        if (events := _kept(home, n, len(shards[n]))) is not None
    }
    missing = [n for n in range(len(shards)) if n not in found]
    done = sum(map(len, found.values()))
    progress(done, len(campaign.faults))
    work = (runner or on_this_machine(1))(campaign.engine, [shards[n] for n in missing])
    with contextlib.closing(work):  # type: ignore[type-var]
        for place, events in work:
            _keep(home, missing[place], events)
            found[missing[place]] = events
            done += len(events)
            progress(done, len(campaign.faults))
    return np.concatenate([found[n] for n in range(len(shards))])


def _shard_file(home: Path, number: int) -> Path:
    return home / f"shard-{number:05}.npy"


def _kept(home: Path, number: int, length: int) -> Events | None:
    """What a shard found, if its file is there and whole."""
    try:
        events = np.load(_shard_file(home, number))
    except (OSError, EOFError, ValueError):
        return None
    return events if events.dtype == EVENT and len(events) == length else None


def _keep(home: Path, number: int, events: Events) -> None:
    """Write a shard, whole or not at all."""
    with tempfile.NamedTemporaryFile(dir=home, delete=False) as partial:
        np.save(partial, events)
    Path(partial.name).replace(_shard_file(home, number))


def on_this_machine(workers: int) -> Runner:
    """Work on shards in processes of this machine."""

    def run(engine: Engine, shards: Sequence[Faults]) -> Iterator[tuple[int, Events]]:
        # The work is done by the processes that the threads wait for.
        pool = ThreadPoolExecutor(workers)
        try:
            engine.program.path()
            places = {pool.submit(engine.run, shard): n for n, shard in enumerate(shards)}
            for future in as_completed(places):
                yield places[future], future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    return run


def on_cluster(address: str) -> Runner:
    """Work on shards on the workers of a ``dask.distributed`` scheduler.

    The workers need this package and a compiler. Nothing else is shared with them.

    Raises
    ------
    MissingToolError
        If ``distributed`` is not installed.
    ClusterError
        If the scheduler does not answer, has no workers, or a shard failed on one.
    """
    try:
        import distributed
    except ImportError:
        raise MissingToolError(
            "not found: distributed, for --scheduler; pip install 'jepa-r[cluster]'"
        ) from None

    def connected() -> Any:
        try:
            return distributed.Client(address, timeout=_PATIENCE)
        except (OSError, ValueError, TimeoutError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ClusterError(f"scheduler {address} does not answer: {reason}") from None

    def run(engine: Engine, shards: Sequence[Faults]) -> Iterator[tuple[int, Events]]:
        with connected() as client:
            sent = client.scatter(engine, broadcast=True)
            places = {
                client.submit(_run_shard, sent, shard, pure=False): n
                for n, shard in enumerate(shards)
            }
            for future in distributed.as_completed(places):
                if future.status != "finished":
                    raise ClusterError(f"a worker of {address} failed: {future.exception()}")
                yield places[future], future.result()

    # At once, and not after minutes of building.
    with connected() as client:
        if not client.scheduler_info()["workers"]:
            raise ClusterError(f"scheduler {address} has no workers")
    return run


def _run_shard(engine: Engine, faults: Faults) -> Events:
    return engine.run(faults)


def wilson(hits: int, total: int) -> tuple[float, float]:
    """Wilson's interval of 95 % for a proportion of which ``hits`` of ``total`` were seen.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    JASA 22 (1927).
    """
    share, square = hits / total, _Z * _Z
    centre = share + square / (2 * total)
    half = _Z * math.sqrt(share * (1 - share) / total + square / (4 * total * total))
    scale = 1 + square / total
    # Rounding must not move the ends that are exact.
    low = 0.0 if hits == 0 else (centre - half) / scale
    high = 1.0 if hits == total else (centre + half) / scale
    return low, high


def summarise(campaign: Campaign, events: Events) -> dict[str, Any]:
    """Counts, intervals, latencies, and every case that must not be.

    Returns
    -------
    dict
        ``injected``, a count for each of :data:`CLASSES`; ``population``; ``intervals`` (95 %, of
        the proportions); ``latency`` (cycles from the first wrong output to the alert) and
        ``reaction`` (from the fault to the alert), cycles to counts; ``bound``, ``late``;
        ``silent_cases`` and ``timeout_cases``; ``modules``, counts of classes by part of the
        design.
    """
    kinds = classify(events)
    counts = {name: int((kinds == n).sum()) for n, name in enumerate(CLASSES)}
    alert, diverged = events["alert"], events["diverged"]
    at = np.array([campaign.at(fault) for fault in campaign.faults])
    known = (alert >= 0) & (diverged >= 0) & (diverged <= alert)
    latency = (alert - diverged)[known]
    late = 0
    if campaign.bound is not None:
        late = int((latency > campaign.bound).sum()) + int(((alert < 0) & (diverged >= 0)).sum())
    modules: dict[str, dict[str, int]] = {}
    names = [campaign.name_of(fault) for fault in campaign.faults]
    for name, kind in zip(names, kinds, strict=True):
        part = modules.setdefault(part_of(name), dict.fromkeys(CLASSES, 0))
        part[CLASSES[kind]] += 1
    return {
        "injected": len(events),
        **counts,
        "population": campaign.population,
        "intervals": {name: wilson(count, len(events)) for name, count in counts.items()},
        "bound": campaign.bound,
        "late": late,
        "latency": _histogram(latency),
        "reaction": _histogram((alert - at)[alert >= 0]),
        "modules": dict(sorted(modules.items())),
        "silent_cases": [
            {
                "fault": names[n],
                "cycle": int(at[n]),
                "released": int(events["released"][n]),
                "alert": int(alert[n]) if alert[n] >= 0 else None,
                "port": campaign.places[events["place"][n]],
                "expected": int(events["expected"][n]),
                "found": int(events["found"][n]),
            }
            for n in np.flatnonzero(kinds == CLASSES.index("silent"))
        ],
        "timeout_cases": [
            {"fault": names[n], "cycle": int(at[n]), "omitted": int(events["omitted"][n])}
            for n in np.flatnonzero(kinds == CLASSES.index("timeout"))
        ],
    }


def _histogram(cycles: npt.NDArray[np.int32]) -> dict[str, int]:
    values, counts = np.unique(cycles, return_counts=True)
    return {str(value): int(count) for value, count in zip(values, counts, strict=True)}


def part_of(name: str) -> str:
    """First part of a hierarchical name; ``top`` if it has but one."""
    part, dot, _ = name.partition(".")
    return part if dot else "top"
