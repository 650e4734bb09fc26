"""Mapping and timing of a hierarchy, the units in parallel, those below first."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from graphlib import TopologicalSorter
from pathlib import Path

from attrs import asdict, frozen
from cattrs import structure

from jepa_r_sim.cosim import cache_root

from .liberty import Liberty
from .mapping import Mapped, map_unit
from .netlist import Unit
from .recipes import Recipe, recipes_for
from .timing import Timing, digest, memory_model, time_domains, time_unit

__all__ = ["Memories", "Synthesised", "synthesise"]


@frozen(kw_only=True)
class Memories:
    """What is assumed of memories, which are no part of the logic.

    Attributes
    ----------
    names
        Units that are memories.
    access
        From the clock to their outputs, as a part of its period.
    setup
        From their inputs to the clock, likewise.
    """

    names: frozenset[str]
    access: float
    setup: float


@frozen(kw_only=True)
class Synthesised:
    """A unit, mapped and timed.

    Attributes
    ----------
    unit
        The unit.
    mapped
        Its cells; ``None`` for a memory.
    timing
        Its timing, those below it included as far as paths cross.
    recipe
        The recipe that was kept; ``None`` for a memory.
    """

    unit: Unit
    mapped: Mapped | None
    timing: Timing
    recipe: Recipe | None


def synthesise(
    units: Mapping[str, Unit],
    *,
    liberty: Liberty,
    corner: Sequence[Path],
    periods_ps: Mapping[str, float],
    memories: Memories,
    recipes: Sequence[Recipe] | None = None,
    constraints: Mapping[str, Path],
    clocks_ps: Mapping[str, float] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    workers: int | None = None,
) -> dict[str, Synthesised]:
    """Map and time all units, each as soon as those below it are done.

    A unit is mapped with the first recipe, and with the next as long as it misses the clock; the
    first that meets it is kept, or else the fastest. Another corner is timed with what was kept.

    Parameters
    ----------
    units
        The hierarchy.
    liberty, corner
        Library to map to, and files to time the result with.
    periods_ps
        Clock period of each unit: the shortest, if its instances have several.
    memories
        Units that are memories, and their timing.
    recipes
        Ways to map, the smallest first; by default all that suit the library.
    constraints
        SDC of units that have one.
    clocks_ps
        If the top has several clocks: the period of each, by its name in the constraints.
    progress
        Called with the number of units that are done, and of all.
    workers
        Units at a time; by default as many as there are processors.
    """
    known = recipes_for(liberty) if recipes is None else recipes
    # Those below come first.
    top = list(units)[-1]

    def walk(
        choices: Mapping[str, Sequence[Recipe]], files: Sequence[Path], before: int, total: int
    ) -> dict[str, Synthesised]:
        def one(name: str, done: Mapping[str, Synthesised]) -> Synthesised:
            unit, period_ps = units[name], periods_ps[name]
            if name in memories.names:
                model = memory_model(
                    unit,
                    access_ps=memories.access * period_ps,
                    setup_ps=memories.setup * period_ps,
                )
                timing = Timing(worst_ps=0.0, period_ps=period_ps, path=(), model=model)
                return Synthesised(unit=unit, mapped=None, timing=timing, recipe=None)
            best: Synthesised | None = None
            for recipe in choices[name]:
                mapped = map_unit(unit, units, liberty=liberty, recipe=recipe, period_ps=period_ps)
                timing = _timed(
                    unit,
                    mapped,
                    {child: done[child].timing for child in unit.children},
                    liberty=liberty,
                    corner=files,
                    period_ps=period_ps,
                    constraints=constraints.get(name),
                    clocks_ps=clocks_ps if name == top else None,
                )
                found = Synthesised(unit=unit, mapped=mapped, timing=timing, recipe=recipe)
                if best is None or timing.tightness < best.timing.tightness:
                    best = found
                if timing.tightness <= 1:
                    break
            assert best is not None
            return best

        return _upwards(units, one, workers, lambda count: progress(before + count, total))

    same = tuple(corner) == liberty.files
    total = len(units) * (1 if same else 2)
    done = walk(dict.fromkeys(units, known), liberty.files, 0, total)
    if same:
        return done
    kept = {name: [unit.recipe] for name, unit in done.items() if unit.recipe is not None}
    return walk(kept, corner, len(units), total)


def _upwards(
    units: Mapping[str, Unit],
    one: Callable[[str, Mapping[str, Synthesised]], Synthesised],
    workers: int | None,
    progress: Callable[[int], None],
) -> dict[str, Synthesised]:
    """Do all units, several at a time, each when its children are done."""
    done: dict[str, Synthesised] = {}
    sorter = TopologicalSorter({name: unit.children for name, unit in units.items()})
    sorter.prepare()
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        running: dict[Future[Synthesised], str] = {}
        try:
            while sorter.is_active():
                running |= {pool.submit(one, name, done): name for name in sorter.get_ready()}
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    name = running.pop(future)
                    done[name] = future.result()
                    sorter.done(name)
                    progress(len(done))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return {name: done[name] for name in units}


def _timed(
    unit: Unit,
    mapped: Mapped,
    children: Mapping[str, Timing],
    *,
    liberty: Liberty,
    corner: Sequence[Path],
    period_ps: float,
    constraints: Path | None,
    clocks_ps: Mapping[str, float] | None,
) -> Timing:
    """Timing of a unit; one that was analysed before is taken from the cache."""
    key = digest(
        mapped.netlist,
        sorted((name, timing.model) for name, timing in children.items()),
        liberty.digest,
        *(path.read_bytes() for path in corner),
        period_ps,
        constraints.read_text() if constraints else "",
        *(clocks_ps or {}).items(),
        Path(__file__).with_name("timing.py").read_text(),
    )
    entry = cache_root() / "timing" / key
    if not (entry / "timing.json").is_file():
        entry.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{unit.name[:40]}-", dir=entry.parent))
        try:
            models = {name: timing.model for name, timing in children.items()}
            if clocks_ps is None:
                timing = time_unit(
                    unit,
                    mapped.netlist,
                    models,
                    liberty=liberty,
                    corner=corner,
                    period_ps=period_ps,
                    directory=partial,
                    constraints=constraints,
                )
            else:
                assert constraints is not None
                timing = time_domains(
                    unit,
                    mapped.netlist,
                    models,
                    liberty=liberty,
                    corner=corner,
                    periods_ps=clocks_ps,
                    directory=partial,
                    constraints=constraints,
                )
            (partial / "timing.json").write_text(json.dumps(asdict(timing)))
            if not entry.exists():
                partial.rename(entry)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return structure(json.loads((entry / "timing.json").read_text()), Timing)
