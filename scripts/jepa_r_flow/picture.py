"""The picture of a run: what went in, what came out, and whether it is what it must be."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["draw", "principal_colours"]

_COMPONENTS = 3  # red, green, blue

#: Differences are also written as numbers on grids of up to this many patches a side.
_MOST_NUMBERS = 16


def principal_colours(
    latent: npt.ArrayLike, reference: npt.ArrayLike | None = None
) -> npt.NDArray[np.float64]:
    """Colours of tokens: the three principal components of ``reference``, as RGB in 0..1.

    Latents that are projected with the same reference have comparable colours.

    Parameters
    ----------
    latent
        ``[tokens, width]``.
    reference
        ``[tokens, width]`` whose components and ranges count; by default ``latent``.

    Returns
    -------
    numpy.ndarray
        ``[tokens, 3]``.
    """
    latent = np.asarray(latent, np.float64)
    reference = latent if reference is None else np.asarray(reference, np.float64)
    centre = reference.mean(0)
    _, _, axes = np.linalg.svd(reference - centre, full_matrices=False)
    axes = axes[:_COMPONENTS]
    # The sign of a component is arbitrary; fix it, so that equal runs give equal pictures.
    strongest = np.abs(axes).argmax(1)
    axes = axes * np.where(np.take_along_axis(axes, strongest[:, None], 1) < 0, -1, 1)
    low, high = np.percentile((reference - centre) @ axes.T, [2, 98], axis=0)
    scaled = ((latent - centre) @ axes.T - low) / np.maximum(high - low, 1e-9)
    colours = np.full((len(latent), _COMPONENTS), 0.5)
    colours[:, : axes.shape[0]] = np.clip(scaled, 0, 1)
    return colours


def draw(
    path: Path,
    *,
    photograph: npt.NDArray[np.uint8],
    grid: int,
    rtl: npt.NDArray[np.integer],
    golden: npt.NDArray[np.integer],
    title: str,
    caption: Sequence[str],
) -> None:
    """Draw photograph, patches, both latents and their difference side by side, as PNG.

    Parameters
    ----------
    path
        File to write.
    photograph
        What the encoder saw, RGB ``[side, side, 3]``.
    grid
        Patches along a side.
    rtl, golden
        Latents ``[grid * grid, width]``, patches in raster order.
    title, caption
        Text above; lines below.

    Raises
    ------
    ValueError
        If the latents are not of one shape with a row for each patch.
    """
    if rtl.shape != golden.shape or len(rtl) != grid * grid:
        raise ValueError(
            f"latents are {rtl.shape} and {golden.shape}; both need {grid * grid} rows"
        )
    difference = np.abs(rtl.astype(np.int64) - golden).max(1).reshape(grid, grid)
    differing = int((rtl != golden).sum())

    figure = Figure(figsize=(14, 3.9 + 0.2 * len(caption)), dpi=110, facecolor="white")
    axes = figure.subplots(1, 5, gridspec_kw={"wspace": 0.08})
    bottom = 0.07 + 0.055 * len(caption)
    figure.subplots_adjust(left=0.02, right=0.98, top=0.84, bottom=bottom)
    figure.suptitle(title, x=0.02, y=0.97, ha="left", fontsize=13, fontweight="bold")

    side = photograph.shape[0]
    _panel(axes[0], "photograph")
    axes[0].imshow(photograph, extent=(0, side, side, 0))
    _panel(axes[1], f"{grid} × {grid} patches")
    axes[1].imshow(photograph, extent=(0, side, side, 0))
    for line in np.linspace(0, side, grid + 1):
        axes[1].axhline(line, color="white", linewidth=0.8)
        axes[1].axvline(line, color="white", linewidth=0.8)
    for axis, name, latent in (
        (axes[2], "latent of the RTL", rtl),
        (axes[3], "latent of the golden model", golden),
    ):
        _panel(axis, name)
        axis.imshow(principal_colours(latent, golden).reshape(grid, grid, _COMPONENTS))
    found = f"{differing} of {rtl.size} elements" if differing else "none"
    _panel(axes[4], f"difference: {found}")
    axes[4].imshow(difference, cmap="Reds", vmin=0, vmax=max(int(difference.max()), 1))
    if grid <= _MOST_NUMBERS:
        for row, column in np.ndindex(grid, grid):
            value = int(difference[row, column])
            shade = "white" if value and 2 * value > difference.max() else "black"
            axes[4].text(column, row, str(value), ha="center", va="center", color=shade, fontsize=8)

    figure.text(0.02, bottom - 0.04, "\n".join(caption), va="top", fontsize=10, linespacing=1.4)
    figure.savefig(path, format="png")


def _panel(axis: Axes, title: str) -> None:
    axis.set_title(title, fontsize=11, loc="left")
    axis.set_xticks([])
    axis.set_yticks([])
