"""Picture of where the area is: a rectangle a module, as large as all its instances together."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

__all__ = ["draw_treemap", "squarified"]

#: Modules of less than this part of the area share one rectangle.
_SMALL = 0.004

#: Points on paper a unit of the picture, which is 3 by 2.
_POINTS = 270

#: What a module belongs to, by the beginning of its name, and its colour.
_GROUPS = (
    ("array of cells", ("cell", "array", "steering"), "#3b6ea5"),
    ("tile, accumulators", ("tile", "accumulator"), "#6ea8c9"),
    ("vector lanes", ("vector", "multiplier", "round_shift", "exp2"), "#d98c3f"),
    ("row statistics", ("row_unit", "rsqrt", "reciprocal"), "#e3b778"),
    ("memory codes and ports", ("sram",), "#7a9e5f"),
    ("control, DMA, planner", ("",), "#8c7aa9"),
)


def draw_treemap(result: dict[str, Any], path: Path) -> None:
    """Draw the area of the modules of a synthesis."""
    areas = {
        name: module["area_um2"] * module["instances"]
        for name, module in result["modules"].items()
        if module["area_um2"]
    }
    total = sum(areas.values())
    shown = {name: area for name, area in areas.items() if area >= _SMALL * total}
    rest = total - sum(shown.values())
    items = sorted(shown.items(), key=lambda item: -item[1])
    if rest > 0:
        items.append((f"{len(areas) - len(shown)} others", rest))

    figure = Figure(figsize=(12, 8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_xlim(0, 3)
    axes.set_ylim(0, 2)
    boxes = squarified([area for _, area in items], 3.0, 2.0)
    for (name, area), (x, y, width, height) in zip(items, boxes, strict=True):
        axes.add_patch(
            Rectangle((x, y), width, height, facecolor=_colour(name), edgecolor="white", lw=1.5)
        )
        _label(axes, result, name, area / total, (x, y, width, height))
    for label, _, colour in _GROUPS:
        axes.add_patch(Rectangle((0, 0), 0, 0, facecolor=colour, label=label))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=len(_GROUPS), frameon=False)
    axes.set_title(
        f"{result['top']}: {total / 1e6:,.3f} mm² of standard cells, "
        f"{result['memory_bits'] / 8 / 2**20:,.1f} MiB of SRAM apart"
    )
    figure.savefig(path, dpi=120)


def _label(
    axes: Axes, result: dict[str, Any], name: str, part: float, box: tuple[float, ...]
) -> None:
    """Write into a box what fits into it: all, the name, or nothing."""
    x, y, width, height = box
    module = result["modules"].get(name, {"instances": 1})
    lines = [name, f"{part:.1%}"]
    if module["instances"] > 1:
        lines.append(f"{module['instances']:,} x {module['area_um2']:,.0f} um²")
    for text in ("\n".join(lines), name):
        longest, count = max(map(len, text.split("\n"))), text.count("\n") + 1
        size = min(11.0, _POINTS * width / (0.62 * longest), _POINTS * height / (1.5 * count))
        if size >= 5.5:
            axes.text(
                x + width / 2,
                y + height / 2,
                text,
                ha="center",
                va="center",
                fontsize=size,
                color="white" if sum(to_rgb(_colour(name))) < 1.7 else "black",
            )
            return


def _colour(name: str) -> str:
    return next(colour for _, heads, colour in _GROUPS if name.startswith(heads))


def squarified(
    areas: Sequence[float], width: float, height: float
) -> list[tuple[float, float, float, float]]:
    """Rectangles (x, y, width, height) that fill one, none of them long and thin.

    Areas are in descending order. Source: Bruls, Huizing, van Wijk, "Squarified Treemaps", 2000.
    """
    scale = width * height / sum(areas)
    left = [area * scale for area in areas]
    boxes: list[tuple[float, float, float, float]] = []
    x = y = 0.0
    while left:
        side = min(width, height)
        row = [left[0]]
        while len(row) < len(left):
            longer = [*row, left[len(row)]]
            if _worst(longer, side) > _worst(row, side):
                break
            row = longer
        left = left[len(row) :]
        depth = sum(row) / side
        at = 0.0
        for area in row:
            length = area / depth
            if width >= height:
                boxes.append((x, y + at, depth, length))
            else:
                boxes.append((x + at, y, length, depth))
            at += length
        if width >= height:
            x, width = x + depth, width - depth
        else:
            y, height = y + depth, height - depth
    return boxes


def _worst(row: Sequence[float], side: float) -> float:
    """Worst ratio of the sides of a row of rectangles along a side."""
    depth = sum(row) / side
    return max(max(depth * depth / area, area / (depth * depth)) for area in row)
