"""Fault campaigns of the README: run by one command, kept in one file, rendered from it."""

import tempfile
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jepa_r_sim.faults.campaign import CLASSES, wilson

from .console import Stages
from .faults import faults
from .figures import surroundings

__all__ = ["CAMPAIGNS", "coverage", "measure_faults", "render_coverage", "render_faults"]

#: Cycles that are watched after a flip, and the range that flips are drawn from.
_WINDOW, _CYCLES = 2048, 4096

#: With the window, the cycles from reset to the end of the firmware's self test of the core.
_SELF_TEST_CYCLES = 158_700

#: ISO 13849-1, table 5: denotation of the diagnostic coverage, by its least value.
_LEVELS = ((0.99, "high"), (0.9, "medium"), (0.6, "low"), (0.0, "none"))

#: What the command is asked for, by the name of the campaign.
CAMPAIGNS: dict[str, dict[str, Any]] = {
    "F1": {"target": "lockstep", "kind": "flips", "count": 38416},
    "F1b": {"target": "single", "kind": "flips", "count": 4000},
    "untied": {"target": "untied", "kind": "flips", "count": 4000},
    "F2": {"target": "lockstep", "kind": "stuck-at", "count": 9604},
    "F2b": {
        "target": "self-test", "kind": "stuck-at", "count": 5110, "cycles": _SELF_TEST_CYCLES,
    },
}  # fmt: skip

#: What is kept of a result, if it is there.
_KEPT = (
    "target", "name", "kind", "seed", "cycles", "window", "registers", "sites", "flip_flops",
    "injected", *CLASSES, "population", "intervals", "bound", "late", "latency", "reached",
    "modules", "unreached_modules", "unreached_cases", "processor_seconds", "passed",
)  # fmt: skip


def measure_faults(
    stages: Stages, *, campaigns: Iterable[str] = CAMPAIGNS, workers: int = 1
) -> dict[str, Any]:
    """Run campaigns, with seed 1; takes minutes.

    Parameters
    ----------
    stages
        What a person sees.
    campaigns
        Names in :data:`CAMPAIGNS`.
    workers
        Processes on this machine.

    Returns
    -------
    dict
        Figures of each campaign by its name, machine and versions.
    """
    figures = {}
    for name in campaigns:
        with tempfile.TemporaryDirectory() as scratch:
            asked = {"cycles": _CYCLES, "window": _WINDOW, **CAMPAIGNS[name]}
            result = faults(
                **asked,
                seed=1,
                workers=workers,
                scheduler=None,
                resume=False,
                output=Path(scratch) / "out",
                stages=stages,
            )
        figures[name] = {key: result[key] for key in _KEPT if key in result}
    tools = {"amaranth": version("amaranth"), "pyosys": version("pyosys")}
    return {**figures, "machine": surroundings()["machine"], "tools": tools}


def render_faults(figures: Mapping[str, Any]) -> str:
    """Markdown of the README's table of campaigns, as far as they have been run."""
    rows = [_row(name, figures[name]) for name in CAMPAIGNS if name in figures]
    tools = ", ".join(f"{name} {number}" for name, number in figures["tools"].items())
    return "\n".join([
        f"| campaign | faults | {' | '.join(name.replace('_', ' ') for name in CLASSES)} | late |",
        f"|---|{'---|' * (len(CLASSES) + 2)}",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        *_remarks(figures),
        f"From `python scripts/bench_faults.py` ({figures['machine']}; {tools}), which rewrites",
        "`scripts/faults.json` and this table.",
    ])


def coverage(result: Mapping[str, Any]) -> tuple[float, tuple[float, float]] | None:
    """Diagnostic coverage of a campaign, and its interval of 95 %.

    As ISO 13849-1 has it: the share of dangerous failures that are detected, where each fault is
    one failure. Dangerous is a fault that would let out a wrong value or none at all: every one
    with an alert or a stop (``detected``, ``contained``, ``safe_stop``), ``timeout`` and
    ``silent``. A fault that is late counts as one that is not detected, besides its class: so the
    share is never too good. ``masked`` and ``latent`` are not dangerous in the cycles that were
    watched.

    Returns
    -------
    tuple
        Or ``None``: no fault was dangerous.
    """
    found = result["detected"] + result["contained"] + result["safe_stop"]
    dangerous = found + result["timeout"] + result["silent"] + result["late"]
    return (found / dangerous, wilson(found, dangerous)) if dangerous else None


def render_coverage(figures: Mapping[str, Any]) -> str:
    """Markdown of the coverage that each campaign measured, as far as they have been run.

    Of F2b that of the self test: faults that changed what the comparator sees. Of the rest,
    which are in ``unreached_cases``, nobody has shown that they do no harm.
    """
    lines = ["| campaign | DC | 95 % interval | level |", "|---|---|---|---|"]
    for name in CAMPAIGNS:
        if (result := figures.get(name)) is None:
            continue
        if "reached" in result and result["target"] == "self-test":
            hits = result["reached"], result["injected"]
            measured = hits[0] / hits[1], wilson(*hits)
        else:
            measured = coverage(result)
        if measured is not None:
            share, (low, high) = measured
            # The level is that of what is certain, and not of what is likely.
            level = next(level for least, level in _LEVELS if low >= least)
            lines.append(f"| {name} | {share:.2%} | {low:.2%} to {high:.2%} | {level} |")
    return "\n".join(lines)


def _row(name: str, result: Mapping[str, Any]) -> tuple[str, ...]:
    what = "flips" if result["kind"] == "flips" else "stuck-at"
    return (
        f"{name}: {result['name']}, {what}",
        f"{result['injected']:,}",
        *(f"{result[kind]:,}" for kind in CLASSES),
        "" if result["bound"] is None else f"{result['late']:,}",
    )


def _remarks(figures: Mapping[str, Any]) -> list[str]:
    lines = []
    if (pair := figures.get("F1")) is not None:
        latest = max(map(int, pair["latency"]))
        lines += [
            f"F1: silent at most {pair['intervals']['silent'][1]:.4%} (95 %); alert at most "
            f"{latest} cycles after the first wrong output, of {pair['bound']} allowed.",
        ]
    if (test := figures.get("F2b")) is not None:
        low, high = wilson(test["reached"], test["injected"])
        lines += [
            f"F2b: {test['reached']:,} of {test['injected']:,} stuck-at faults "
            f"({test['reached'] / test['injected']:.1%}; 95 % interval {low:.1%} to {high:.1%}) "
            "change what",
            "the comparator sees before the core's self test has ended. Faults that nothing can "
            "show count as not reached.",
        ]
    return [*lines, ""] if lines else []
