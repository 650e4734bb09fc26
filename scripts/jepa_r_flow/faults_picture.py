"""The picture of a campaign: what became of the faults, and how soon they were noticed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jepa_r_sim.faults.campaign import CLASSES

__all__ = ["draw_faults"]

#: Grey: nothing happened; blue and green: noticed; red: what must not be.
_COLOURS = {
    "masked": "#c9ced6",
    "latent": "#98a1ae",
    "detected": "#2a78b8",
    "contained": "#2f9e77",
    "safe_stop": "#7fc3a5",
    "timeout": "#e39a2d",
    "silent": "#c8372d",
}
#: Parts of the design that get a bar of their own, the largest.
_MOST_PARTS = 12
#: Latencies that get a bar of their own.
_MOST_CYCLES = 12


def draw_faults(path: Path, result: Mapping[str, Any]) -> None:
    """Draw classes with their intervals, classes by part, and latencies, as PNG.

    Parameters
    ----------
    path
        File to write.
    result
        What the command found.
    """
    parts = sorted(result["modules"].items(), key=lambda item: -sum(item[1].values()))
    parts = parts[:_MOST_PARTS]
    figure = Figure(figsize=(14, 4.6), dpi=110, facecolor="white")
    classes, modules, latency, reaction = figure.subplots(
        1, 4, gridspec_kw={"wspace": 0.36, "width_ratios": [1.2, 1.3, 0.8, 1]}
    )
    figure.subplots_adjust(left=0.07, right=0.985, top=0.76, bottom=0.13)
    what = (
        "bit flips in registers" if result["kind"] == "flips" else "stuck-at faults in the netlist"
    )
    figure.suptitle(
        f"{result['name']}: {result['injected']:,} {what}",
        x=0.015, y=0.97, ha="left", fontsize=13, fontweight="bold",
    )  # fmt: skip
    figure.text(
        0.015, 0.885,
        f"of {result['population']:,} there are, seed {result['seed']}; "
        f"{result['silent']:,} silent, {result['timeout']:,} timeouts, {result['late']:,} late",
        fontsize=10, va="center",
    )  # fmt: skip
    _draw_classes(classes, result)
    _draw_parts(modules, parts)
    _draw_latency(latency, result)
    _draw_reaction(reaction, result)
    figure.savefig(path, format="png")


def _draw_classes(axis: Axes, result: Mapping[str, Any]) -> None:
    total = result["injected"]
    for row, name in enumerate(CLASSES):
        share = result[name] / total
        low, high = result["intervals"][name]
        axis.barh(row, 100 * share, color=_COLOURS[name])
        axis.plot([100 * low, 100 * high], [row, row], color="black", linewidth=1.2)
        axis.text(
            100 * high + 1.5,
            row,
            f"{result[name]:,}  ({100 * share:.2f} %)",
            va="center",
            fontsize=8,
        )
    axis.set_yticks(range(len(CLASSES)), [name.replace("_", " ") for name in CLASSES])
    axis.invert_yaxis()
    axis.set_xlim(0, 145)
    axis.set_xticks([0, 50, 100])
    _finish(axis, "classes, 95 % intervals", "% of faults")


def _draw_parts(axis: Axes, parts: list[tuple[str, dict[str, int]]]) -> None:
    for row, (_, counts) in enumerate(parts):
        total, left = sum(counts.values()), 0.0
        for name in CLASSES:
            width = 100 * counts[name] / total
            axis.barh(row, width, left=left, color=_COLOURS[name])
            left += width
    labels = [f"{name} ({sum(counts.values()):,})" for name, counts in parts]
    axis.set_yticks(range(len(parts)), labels, fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(0, 100)
    _finish(axis, "by part of the design", "% of faults of the part")


def _draw_latency(axis: Axes, result: Mapping[str, Any]) -> None:
    latency = {int(cycles): count for cycles, count in result["latency"].items()}
    _finish(axis, "first wrong output to alert", "cycles")
    if not latency:
        _say_none(axis, "no alerts\nof wrong outputs")
        return
    last = min(max(latency), _MOST_CYCLES)
    more = sum(count for cycles, count in latency.items() if cycles > last)
    heights = [latency.get(cycles, 0) for cycles in range(last + 1)]
    axis.bar(range(last + 1), heights, color=_COLOURS["detected"])
    if more:
        axis.bar(last + 1, more, color=_COLOURS["silent"])
    axis.set_xticks(range(last + 1 + bool(more)))
    if result["bound"] is not None:
        axis.axvline(result["bound"] + 0.5, color="black", linestyle="--", linewidth=1)
        axis.text(
            result["bound"] + 0.4,
            max(heights),
            "bound",
            ha="right",
            va="top",
            fontsize=8,
            rotation=90,
        )
        axis.set_xlim(-0.6, max(last + more + 0.6 if more else last, result["bound"]) + 1)


def _draw_reaction(axis: Axes, result: Mapping[str, Any]) -> None:
    reaction = {int(cycles): count for cycles, count in result["reaction"].items()}
    _finish(axis, "fault to alert", "cycles, at most")
    if not reaction:
        _say_none(axis, "no alerts")
        return
    cycles = np.array(sorted(reaction))
    share = 100 * np.cumsum([reaction[cycle] for cycle in cycles]) / sum(reaction.values())
    axis.step(cycles + 1, share, where="post", color=_COLOURS["detected"])
    axis.set_xscale("log")
    axis.set_ylim(0, 102)
    axis.set_ylabel("% of alerts", fontsize=9)


def _say_none(axis: Axes, text: str) -> None:
    axis.text(0.5, 0.5, text, ha="center", va="center", transform=axis.transAxes, fontsize=9)
    axis.set_xticks([])
    axis.set_yticks([])


def _finish(axis: Axes, title: str, label: str) -> None:
    axis.set_title(title, fontsize=10, loc="left")
    axis.set_xlabel(label, fontsize=9)
    axis.tick_params(labelsize=8)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
