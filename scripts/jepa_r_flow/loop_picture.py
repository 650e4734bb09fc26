"""The picture of a closed loop: the way to the goal, and how one of its plans closed in."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, Rectangle

__all__ = ["draw_loop"]

Float = npt.NDArray[np.floating]

#: Most frames of the way, and most iterations of a plan, that are shown.
_MOST_FRAMES, _MOST_ITERATIONS = 7, 6
_BLUE, _RED, _GREEN, _GREY = "#1f5fa8", "#c8402a", "#2e8b57", "#8a8f98"


def draw_loop(
    path: Path,
    *,
    frames: npt.NDArray[np.uint8],
    goal_frame: npt.NDArray[np.uint8],
    poses: Float,
    goal: Float | None,
    distances: Float | None,
    elites: Float,
    means: Float,
    deviations: Float,
    costs: Float,
    limit: float,
    step: int = 0,
    reached: float | None = None,
    others: Mapping[str, Float] | None = None,
    title: str,
    caption: Sequence[str] = (),
) -> None:
    """Draw frames, distances, and the elites and costs of one plan, as PNG.

    Parameters
    ----------
    path
        File to write.
    frames
        uint8 ``[steps + 1, 3, side, side]``.
    goal_frame
        uint8 ``[3, side, side]``.
    poses, goal
        ``[steps + 1, 7]`` and ``[7]``; x, y, z in metres first. The goal's is not always known.
    distances
        To the goal in metres, ``[steps + 1]``; if it is known.
    elites
        First actions of the plan's elites, ``[iterations, elites, 4]``, x, y, z in metres and
        gripper.
    means, deviations
        Of the first action after each iteration, ``[iterations, 4]``.
    costs
        What the elites cost, ``[iterations, elites]``.
    limit
        Largest action along an axis in metres.
    step
        Which step's plan it is.
    reached
        Distance in metres that counts as reached.
    others
        Distances of other policies, by name.
    title, caption
        Text above; lines below.

    Raises
    ------
    ValueError
        If there is not a pose and a distance for each frame, the plan has no iteration, or its
        arrays have not one row for each.
    """
    known = 0 if distances is None else len(distances)
    if len(frames) != len(poses) or (distances is not None and len(frames) != known):
        raise ValueError(
            f"{len(frames)} frames, {len(poses)} poses and {known} distances: "
            "each frame needs one of both"
        )
    lengths = {len(a) for a in (elites, means, deviations, costs)}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            f"elites, means, deviations and costs have {sorted(lengths)} rows: "
            "all need one for each iteration, and at least one"
        )
    foot = 0.35 + 0.22 * len(caption)
    height = 8.4 + foot
    figure = Figure(figsize=(14, height), dpi=110, facecolor="white")
    figure.suptitle(title, x=0.02, y=1 - 0.16 / height, va="top", ha="left", fontsize=13,
                    fontweight="bold")  # fmt: skip
    rows = figure.add_gridspec(
        3, 1, left=0.045, right=0.955, top=1 - 0.85 / height, bottom=(foot + 0.45) / height,
        hspace=0.45, height_ratios=[0.9, 1.25, 1.15],
    )  # fmt: skip

    shown = _spread(len(frames), _MOST_FRAMES)
    film = rows[0].subgridspec(1, _MOST_FRAMES + 1, wspace=0.06)
    for place, index in enumerate(shown):
        axis = figure.add_subplot(film[place])
        far = "" if distances is None else f": {100 * distances[index]:.1f} cm"
        _picture(axis, frames[index], f"step {index}{far}", "black")
    _picture(figure.add_subplot(film[len(shown)]), goal_frame, "goal", _GREEN)

    wanted = None if goal is None else np.clip((goal - poses[step])[:3], -limit, limit)
    chosen = _spread(len(elites), _MOST_ITERATIONS)
    across = rows[1].subgridspec(
        1, len(chosen) + 1, wspace=0.1, width_ratios=[*len(chosen) * [1.0], 0.06]
    )
    for place, index in enumerate(chosen):
        axis = figure.add_subplot(across[place])
        points = _elites(axis, elites[index], means[index], deviations[index], wanted, limit)
        axis.set_title(f"elites of iteration {index + 1}", fontsize=10, loc="left")
        if place:
            axis.set_yticklabels([])
        else:
            axis.set_ylabel(f"plan of step {step}: y (cm)", fontsize=9)
        axis.set_xlabel("x (cm)", fontsize=9)

    bar = figure.colorbar(points, cax=figure.add_subplot(across[len(chosen)]))
    bar.set_label("z (cm)", fontsize=9)
    bar.ax.tick_params(labelsize=8)

    panels = 2 if distances is None else 3
    last = rows[2].subgridspec(1, panels, wspace=0.2)
    if distances is not None:
        _way(figure.add_subplot(last[0]), distances, others or {}, reached)
    _closing(figure.add_subplot(last[panels - 2]), means, deviations, wanted)
    _cost(figure.add_subplot(last[panels - 1]), costs)
    figure.text(0.02, foot / height, "\n".join(caption), va="top", fontsize=10, linespacing=1.4)
    figure.savefig(path, format="png")


def _spread(count: int, most: int) -> list[int]:
    """At most ``most`` of so many, the first and the last among them."""
    return sorted({round(x) for x in np.linspace(0, count - 1, min(count, most))})


def _picture(axis: Axes, frame: npt.NDArray[np.uint8], title: str, colour: str) -> None:
    axis.imshow(frame.transpose(1, 2, 0), interpolation="nearest")
    axis.set_title(title, fontsize=10, loc="left", color=colour)
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set(color=colour, linewidth=2.5 if colour == _GREEN else 0.8)


def _elites(
    axis: Axes, elites: Float, mean: Float, deviation: Float, wanted: Float | None, limit: float
) -> PathCollection:
    """One iteration, seen from above, in centimetres; the colour of a point is its height."""
    reach = 100 * limit
    axis.add_patch(Rectangle((-reach, -reach), 2 * reach, 2 * reach, fill=False, color=_GREY))
    if wanted is not None:
        axis.plot(*(100 * wanted[:2]), marker="*", color=_GREEN, markersize=13, linestyle="none")
    x, y = 100 * elites[:, 0], 100 * elites[:, 1]
    points = axis.scatter(
        x, y, s=24, c=100 * elites[:, 2], cmap="coolwarm", vmin=-reach, vmax=reach,
        edgecolors="black", linewidths=0.4, zorder=3,
    )  # fmt: skip
    (across, along), (width, height) = 100 * mean[:2], 200 * deviation[:2]
    ellipse = Ellipse((across, along), width, height, color=_BLUE, alpha=0.18, zorder=2)
    axis.add_patch(ellipse)
    axis.plot(*(100 * mean[:2]), marker="+", color=_BLUE, markersize=12, markeredgewidth=2)
    axis.set(xlim=(-1.15 * reach, 1.15 * reach), ylim=(-1.15 * reach, 1.15 * reach), aspect="equal")
    axis.tick_params(labelsize=8)
    return points


def _way(axis: Axes, distances: Float, others: Mapping[str, Float], reached: float | None) -> None:
    axis.set_title("distance to the goal (cm)", fontsize=11, loc="left")
    for name, values in others.items():
        axis.plot(100 * np.asarray(values), color=_GREY, linewidth=1.2, label=name)
    axis.plot(100 * distances, color=_RED, marker="o", markersize=4, label="planned")
    if reached is not None:
        axis.axhline(100 * reached, color=_GREEN, linestyle="--", linewidth=1, label="reached")
    axis.set(xlabel="step", ylim=(0, None))
    axis.legend(fontsize=9, frameon=False)
    _plain(axis)


def _closing(axis: Axes, means: Float, deviations: Float, wanted: Float | None) -> None:
    axis.set_title("mean and deviation of the plan (cm)", fontsize=11, loc="left")
    iterations = np.arange(1, len(means) + 1)
    for index, (name, colour) in enumerate(zip("xyz", (_RED, _BLUE, "#b8860b"), strict=True)):
        mean, deviation = 100 * means[:, index], 100 * deviations[:, index]
        axis.plot(iterations, mean, color=colour, marker="o", markersize=3, label=name)
        axis.fill_between(iterations, mean - deviation, mean + deviation, color=colour, alpha=0.15,
                          linewidth=0)  # fmt: skip
        if wanted is not None:
            axis.plot(iterations[-1], 100 * wanted[index], marker="*", color=colour,
                      markersize=12, linestyle="none")  # fmt: skip
    stars = "" if wanted is None else " (stars: towards the goal, as far as a step goes)"
    axis.set(xlabel=f"iteration{stars}")
    axis.set_xticks(iterations)
    axis.legend(fontsize=9, frameon=False, ncols=3)
    _plain(axis)


def _cost(axis: Axes, costs: Float) -> None:
    axis.set_title("cost of the elites: latent L1 (standard deviations)", fontsize=11, loc="left")
    iterations = np.arange(1, len(costs) + 1)
    axis.fill_between(iterations, costs.min(1), costs.max(1), color=_BLUE, alpha=0.18, linewidth=0)
    axis.plot(iterations, costs.mean(1), color=_BLUE, marker="o", markersize=4)
    axis.set(xlabel="iteration")
    axis.set_xticks(iterations)
    _plain(axis)


def _plain(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=9)
    axis.grid(alpha=0.25)
