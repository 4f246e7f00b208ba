"""What all figures share: colours, axes, files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart with every common colour vision deficiency; yellow is left
# out (too pale for a line on white), and black is kept for the envelope.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
SMALL = 9


def require_matplotlib() -> None:
    """Raise an ImportError that says how to install matplotlib, if it is missing."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        message = "tamis.plotting needs matplotlib: python -m pip install 'tamis[plot]'"
        raise ImportError(message) from error


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write `figure` to `path`, in the format its ending names, at 200 dots an inch."""
    figure.savefig(path, dpi=200)


def new_figure(
    width: float, height: float, rows: int = 1, *, sharex: bool = True
) -> tuple[Figure, list[Axes]]:
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(rows, 1, sharex=sharex, squeeze=False)
    panels: list[Axes] = list(grid[:, 0])
    for axes in panels:
        clean_axes(axes)
    return figure, panels


def clean_axes(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("0.4")
    axes.tick_params(color="0.4", labelsize=SMALL)
    axes.grid(True, color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)


def numbers(name: str, values: Any, least: int = 1) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size < least:
        raise ValueError(f"{name}: expected shape (n,) with n >= {least}, got {array.shape}")
    if not (np.isfinite(array).all() and array.min(initial=0.0) >= 0.0):
        raise ValueError(f"{name}: expected finite numbers >= 0")
    return array
