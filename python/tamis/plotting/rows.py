"""Figures of rows and their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tamis.plotting._frame import (
    COLOURS,
    SMALL,
    clean_axes,
    new_figure,
    numbers,
    require_matplotlib,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tamis.diagnostics import OutlierMap


def plot_scores(
    scores: Any,
    *,
    threshold: float | None = None,
    support: Any = None,
    eigenvalues: Any = None,
    title: str | None = None,
    bins: int = 60,
    xlabel: str = "distance from the centre (standard deviations)",
) -> Figure:
    """Histogram of outlier scores with the threshold, and the top eigenvalue of every round.

    Parameters
    ----------
    scores : array of shape (n,)
        Finite, >= 0, larger for rows that are further out: ``scores_`` of `tamis.RobustMean`.
    threshold : float, optional
        Marked by a line: ``-offset_`` of `tamis.SpectralOutlierDetector`.
    support : bool array of shape (n,), optional
        Rows that were kept; the others are drawn in another colour.
    eigenvalues : array of shape (rounds,), optional
        Drawn in a second panel where there was more than one round.
    title : str, optional
    bins : int, default 60
        Of equal width in the logarithm of the score.
    xlabel : str
        What the square root of a score is.

    Returns
    -------
    matplotlib.figure.Figure
        x: square root of the score, logarithmic; y: rows, logarithmic above 1. Scores below a
        thousandth of their median are in the first bin.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If there are no scores, or an argument does not fit.
    """
    distance = np.sqrt(numbers("scores", scores))
    kept = np.ones(distance.size, bool) if support is None else np.asarray(support, bool)
    rounds = np.zeros(0) if eigenvalues is None else numbers("eigenvalues", eigenvalues, 0)
    if kept.shape != distance.shape:
        raise ValueError(f"support: expected {distance.size} values, got shape {kept.shape}")
    if bins < 1:
        raise ValueError(f"bins: expected an integer >= 1, got {bins}")
    figure, panels = new_figure(
        6.4, 5.0 if rounds.size > 1 else 3.4, min(rounds.size, 2) or 1, sharex=False
    )
    if rounds.size > 1:
        _plot_rounds(panels[1], rounds)
    axes = panels[0]
    marks = [distance.max(), *([] if threshold is None else [np.sqrt(max(threshold, 0.0))])]
    high = 1.05 * max(marks) or 1.0
    low = min(max(distance.min(), np.median(distance) / 30, high / 1e4), high / 10) / 1.05
    edges = np.geomspace(low, high, bins + 1)
    groups = [("kept", kept, COLOURS[0]), ("left out", ~kept, COLOURS[1])]
    tallest = 1
    for name, rows, colour in groups[: 1 if support is None else 2]:
        counts = np.histogram(np.clip(distance[rows], low, high), edges)[0]
        tallest = max(tallest, int(counts.max()))
        label = "" if support is None else f"{name}: {counts.sum()}"
        axes.stairs(counts, edges, fill=True, color=colour, alpha=0.7, label=label)
    if threshold is not None and threshold > 0.0:
        axes.axvline(np.sqrt(threshold), color="0.2", lw=1.2, ls=(0, (4, 2)), label="threshold")
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=1.0)
    axes.set_ylim(0, 1.6 * tallest)
    axes.set_xlim(low, high)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.set_xlabel(xlabel)
    axes.set_ylabel("rows")
    if title:
        axes.set_title(title, loc="left", fontsize=SMALL, color="0.35")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=SMALL)
    return figure


def _plot_rounds(axes: Axes, eigenvalues: NDArray[np.float64]) -> None:
    from matplotlib.ticker import MaxNLocator

    numbers = np.arange(1, eigenvalues.size + 1)
    axes.plot(numbers, eigenvalues, color=COLOURS[2], marker="o", markersize=4, lw=1.4)
    if float(eigenvalues.min()) > 0.0 and eigenvalues.max() > 20 * eigenvalues.min():
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, 1.1 * float(eigenvalues.max()) or 1.0)
    axes.set_xlim(0.5, eigenvalues.size + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("round")
    axes.set_ylabel("top eigenvalue")


def plot_groups(
    panels: Sequence[tuple[str, Any, Mapping[str, Any]]],
    *,
    xlabel: str,
    ylabel: str = "rows",
    columns: int = 2,
) -> Figure:
    """Histograms of two or more groups over one another, a panel each of `panels`.

    Parameters
    ----------
    panels : sequence of (title, edges, counts)
        ``edges`` has shape (bins + 1,); ``counts`` maps a group's name to its (bins,) counts, and
        has the same names in every panel. Later groups are drawn over earlier ones.
    xlabel, ylabel : str
    columns : int, default 2
        Of panels.

    Returns
    -------
    matplotlib.figure.Figure
        y is logarithmic above 1, so that a small group shows beside a large one.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If there are no panels.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    if not panels:
        raise ValueError("panels: expected at least one, got none")
    columns = min(columns, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(1.2 + 3.2 * columns, 1.0 + 1.7 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, (title, edges, counts) in zip(grid, panels, strict=False):
        clean_axes(axes)
        for index, (name, heights) in enumerate(counts.items()):
            colour, style = COLOURS[index], {"hatch": "////" if index else "", "lw": 0.8}
            axes.stairs(heights, edges, fill=True, color=colour, alpha=0.35)
            axes.stairs(heights, edges, color=colour, label=name, **style)
        axes.set_yscale("symlog", linthresh=1.0)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_ylim(0, None)
        axes.set_title(title, loc="left", fontsize=SMALL)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    handles, names = grid[0].get_legend_handles_labels()
    if len(names) > 1:
        figure.legend(
            handles, names, loc="outside upper right", ncols=len(names), frameon=False,
            fontsize=SMALL,
        )  # fmt: skip
    figure.supxlabel(xlabel, fontsize=10)
    figure.supylabel(ylabel, fontsize=10)
    return figure


def plot_outlier_map(
    found: OutlierMap,
    *,
    outlier: Any = None,
    title: str | None = None,
    named: int = 8,
) -> Figure:
    """Robust distance against orthogonal distance of every row, with both cut-offs.

    Parameters
    ----------
    found : OutlierMap
        From `tamis.outlier_map`.
    outlier : bool array of shape (n,), optional
        Rows that a detector calls outliers: orange crosses, over the others' blue dots.
    title : str, optional
    named : int, default 8
        How many of the rows furthest beyond a cut-off carry their number, counted from 0, where
        the numbers do not overlap.

    Returns
    -------
    matplotlib.figure.Figure
        Square roots of both distances are spaced evenly, so that the bulk stays readable beside far
        rows.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If an argument does not fit.
    """
    x, y = found.robust_distances, found.orthogonal_distances
    bad = np.zeros(x.size, bool) if outlier is None else np.asarray(outlier, bool)
    if bad.shape != x.shape:
        raise ValueError(f"outlier: expected {x.size} values, got shape {bad.shape}")
    if named < 0:
        raise ValueError(f"named: expected an integer >= 0, got {named}")
    figure, (axes,) = new_figure(6.4, 4.6)
    for name, rows, marker, colour, size in (
        ("not outliers" if outlier is not None else "rows", ~bad, "o", COLOURS[0], 12),
        ("outliers", bad, "x", COLOURS[1], 22),
    ):
        if rows.any() or name == "rows":
            label = f"{name}: {int(rows.sum())}"
            style: dict[str, Any] = {"s": size, "marker": marker, "color": colour, "alpha": 0.7}
            axes.scatter(x[rows], y[rows], label=label, rasterized=x.size > 5000, **style)
    dashed: dict[str, Any] = {"color": "0.2", "lw": 1.0, "ls": (0, (4, 2))}
    axes.axvline(found.robust_cutoff, label="97.5% of clean rows", **dashed)
    axes.axhline(found.orthogonal_cutoff, **dashed)
    for axis, values, cutoff in (("x", x, found.robust_cutoff), ("y", y, found.orthogonal_cutoff)):
        roots = (lambda v: np.sqrt(np.maximum(v, 0.0)), np.square)
        getattr(axes, f"set_{axis}scale")("function", functions=roots)
        axes.set(**{f"{axis}lim": (0.0, 1.12 * max(float(values.max()), cutoff) or 1.0)})
    beyond = np.maximum(
        x / (found.robust_cutoff or 1.0), y / (found.orthogonal_cutoff or float(y.max()) or 1.0)
    )
    figure.draw_without_rendering()
    at = axes.transData.transform(np.stack([x, y], axis=1)) * 72.0 / figure.dpi  # in points
    taken: list[NDArray[np.float64]] = []
    for row in np.argsort(-beyond, kind="stable"):
        if beyond[row] <= 1.0 or len(taken) == named:
            break
        if any(np.all(np.abs(at[row] - place) < (24.0, 9.0)) for place in taken):
            continue  # two numbers on top of each other are none
        taken.append(at[row])
        axes.annotate(
            str(row), (x[row], y[row]), (4, 3), textcoords="offset points", fontsize=SMALL - 2
        )
    s = "" if found.n_components == 1 else "s"
    axes.set_xlabel(f"robust distance within {found.n_components} component{s}")
    axes.set_ylabel("orthogonal distance to them")
    if title:
        axes.set_title(title, loc="left", fontsize=SMALL, color="0.35")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=SMALL)
    return figure
