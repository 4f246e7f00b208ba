"""Publication-ready figures of certification logs and scores; needs matplotlib (extra ``plot``).

Figures are built as ``matplotlib.figure.Figure`` objects, without pyplot: no window system is
needed, no global backend is switched, and nothing has to be closed.
Over 400 lines: the figures share their frame, colours and sizes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from tamis.analysis import (
    CertificationLog,
    certified_accuracy,
    describe_subset,
    p_lower_distribution,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tamis.diagnostics import OutlierMap

__all__ = [
    "plot_certified_accuracy",
    "plot_groups",
    "plot_outlier_map",
    "plot_p_lower",
    "plot_scores",
    "require_matplotlib",
    "save_figure",
]

# Okabe and Ito's colours, told apart with every common colour vision deficiency; yellow is left
# out (too pale for a line on white), and black is kept for the envelope.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))
_MAX_DIRECT = 6
_MAX_NAME = 30
_P_TICKS = (0.5, 0.7, 0.9, 0.97, 0.99, 0.999, 0.9999, 0.99999, 0.999999)
_SMALL = 9


def require_matplotlib() -> None:
    """Raise an ImportError that says how to install matplotlib, if it is missing."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        message = "tamis.plotting needs matplotlib: python -m pip install 'tamis[plot]'"
        raise ImportError(message) from error


def _new_figure(
    width: float, height: float, rows: int = 1, *, sharex: bool = True
) -> tuple[Figure, list[Axes]]:
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(rows, 1, sharex=sharex, squeeze=False)
    panels: list[Axes] = list(grid[:, 0])
    for axes in panels:
        _clean_axes(axes)
    return figure, panels


def _clean_axes(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("0.4")
    axes.tick_params(color="0.4", labelsize=_SMALL)
    axes.grid(True, color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)


def _checked(
    logs: Sequence[CertificationLog], labels: Sequence[str] | None
) -> tuple[list[CertificationLog], list[str]]:
    if not logs:
        raise ValueError("logs expected at least one log, got none")
    names = [log.name for log in logs] if labels is None else list(labels)
    if len(names) != len(logs):
        raise ValueError(f"labels expected {len(logs)} texts, one a log, got {len(names)}")
    return list(logs), names


def _style(index: int) -> dict[str, Any]:
    dash = _DASHES[index // len(_COLOURS) % len(_DASHES)]
    return {"color": _COLOURS[index % len(_COLOURS)], "linestyle": dash}


def _corners(logs: Sequence[CertificationLog]) -> NDArray[np.float64]:
    """Corners, shape (2, k), of the largest certified accuracy over `logs`, for "steps-pre".

    The curve is constant on (r_i, r_i+1] between neighbouring certified radii and includes its
    right end, so the value at a corner holds to its left; the last corner is the drop to 0.
    """
    radii = np.unique(np.concatenate([[0.0], *(log.radius[log.correct] for log in logs)]))
    best = np.max([100 * certified_accuracy(log, radii) for log in logs], axis=0)
    return np.array([np.append(radii, radii[-1]), np.append(best, 0.0)])


def plot_certified_accuracy(
    logs: Sequence[CertificationLog],
    *,
    labels: Sequence[str] | None = None,
    envelope: bool = False,
    title: str | None = None,
) -> Figure:
    """Certified accuracy against radius: exact step curves of one or several logs.

    Parameters
    ----------
    logs : sequence of CertificationLog
        At least one, each with at least one row.
    labels : sequence of str, optional
        One a log; file names by default.
    envelope : bool, default False
        Also draw the largest value over all logs, as a wide grey band behind the curves.
    title : str, optional
        Title; by default the images covered, where all logs cover the same.

    Returns
    -------
    matplotlib.figure.Figure
        x: l2 radius in input units; y: certified accuracy in percent. Up to six curves carry their
        names where there is room; else there is a legend, below the axes if the names are long.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If there are no logs, a log has no rows, or `labels` does not fit.
    """
    logs, names = _checked(logs, labels)
    # Long names go below the axes, in full: cut short they would not tell the curves apart.
    below = max(map(len, names)) > _MAX_NAME
    figure, (axes,) = _new_figure(6.4, 4.0 + (0.19 * (len(names) + 1) if below else 0.0))
    curves = [_corners([log]) for log in logs]
    right = max(float(x[-1]) for x, _ in curves) or 1.0
    axes.set_xlim(0, right * 1.02)
    axes.set_ylim(0, 100)
    axes.set_xlabel(r"$\ell_2$ radius (input units)")
    axes.set_ylabel("certified accuracy (%)")
    step: dict[str, Any] = {"drawstyle": "steps-pre"}
    handles: list[Any] = []
    if envelope and len(logs) > 1:
        grey: dict[str, Any] = {"color": "0.78", "linewidth": 5, "solid_joinstyle": "miter"}
        handles += axes.plot(*_corners(logs), label="upper envelope", zorder=1.9, **grey, **step)
    for index, (curve, name) in enumerate(zip(curves, names, strict=True)):
        handles += axes.plot(*curve, label=name, lw=1.6, clip_on=False, **_style(index), **step)
    subsets = {describe_subset(log) for log in logs}
    said = title if title is not None else subsets.pop() if len(subsets) == 1 else None
    if said:
        axes.set_title(said, loc="left", fontsize=_SMALL, color="0.35")
    box: dict[str, Any] = {"frameon": False, "fontsize": _SMALL, "borderaxespad": 0}
    if below:
        figure.legend(handles=handles, loc="outside lower left", **box)
    elif len(logs) > _MAX_DIRECT or not _name_curves(figure, axes, curves, names):
        axes.legend(handles=handles, **box)
    elif len(handles) > len(logs):
        axes.legend(handles=handles[:1], **box)
    return figure


def _name_curves(
    figure: Figure, axes: Axes, curves: Sequence[NDArray[np.float64]], names: Sequence[str]
) -> bool:
    """Write each name beside its curve; False, and nothing written, where one finds no room.

    Tried are places along the curve, to its upper right or, less welcome, its lower left. A place
    counts only if the text crosses no curve and no other text; the best is far from other curves.
    """
    figure.draw_without_rendering()
    point = figure.dpi / 72.0  # one typographic point in pixels; all below is in pixels
    frame = axes.get_window_extent()
    low, high = np.array([frame.x0, frame.y0]) + 3 * point, np.array([frame.x1, frame.y1])
    dense = [axes.transData.transform(_along(curve)) for curve in curves]
    taken: list[NDArray[np.float64]] = []
    texts = []
    for index, name in enumerate(names):
        colour = _COLOURS[index % len(_COLOURS)]
        text = axes.annotate(name, (0.0, 0.0), color=colour, fontsize=_SMALL)
        texts.append(text)
        extent = text.get_window_extent()
        size = np.array([extent.width, extent.height])
        others = [points for k, points in enumerate(dense) if k != index]
        best, best_room = None, 6 * point  # nearer to another curve a name would be ambiguous
        for place in dense[index][::6]:
            for corner, handicap in ((place + 4 * point, 0.0), (place - 4 * point - size, 15.0)):
                box = np.array([corner, corner + size])
                wide = box + np.array([[-2.0], [2.0]]) * point
                if np.any(box[0] < low) or np.any(box[1] > high):
                    continue
                if any(_distance(points, wide) == 0 for points in dense):
                    continue
                if any(np.all(wide[0] < b[1]) and np.all(wide[1] > b[0]) for b in taken):
                    continue
                room = min([40 * point, *(_distance(points, box) for points in others)])
                if room - handicap * point > best_room:
                    best, best_room = box, room - handicap * point
        if best is None:
            for written in texts:
                written.remove()
            return False
        text.xy = tuple(axes.transData.inverted().transform(best[0]))
        text.set_position(text.xy)
        taken.append(best)
    return True


def _along(curve: NDArray[np.float64], count: int = 800) -> NDArray[np.float64]:
    """Points, shape (count, 2), close together along the steps of `curve`."""
    x, y = curve
    corners = np.array([np.repeat(x, 2)[:-1], np.repeat(y, 2)[1:]])  # steps-pre: up or down first
    reach = np.array([[x[-1] or 1.0], [100.0]])
    length = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(corners / reach)).sum(axis=0))])
    at = np.linspace(0, length[-1], count)
    return np.stack([np.interp(at, length, axis) for axis in corners], axis=1)


def _distance(points: NDArray[np.float64], box: NDArray[np.float64]) -> float:
    """Distance from the nearest of `points` to `box`, 0 if one is inside."""
    outside = np.maximum(np.maximum(box[0] - points, points - box[1]), 0.0)
    return float(np.sqrt((outside**2).sum(axis=1).min()))


def plot_p_lower(
    logs: Sequence[CertificationLog],
    *,
    labels: Sequence[str] | None = None,
    sigmas: Sequence[float | None] | None = None,
    bins: int = 30,
) -> Figure:
    """Histogram of p_lower, the lower bound on the top class probability, a panel per log.

    Parameters
    ----------
    logs : sequence of CertificationLog
        At least one, each with at least one row.
    labels : sequence of str, optional
        One a log; file names by default.
    sigmas : sequence of float or None, optional
        Noise level of each log, for those that record neither it nor p_lower.
    bins : int, default 30
        Bins from 0.5 up. They are equally wide in PhiInv(p_lower), which is radius / sigma for the
        one-sided bound, so that the range near 1, where certificates are decided, is resolved.

    Returns
    -------
    matplotlib.figure.Figure
        y: percent of all images. The grey bar at the left is p_lower < 0.5: abstentions.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If there are no logs, a log has no rows, an argument does not fit, or p_lower is unknown.
    """
    logs, names = _checked(logs, labels)
    scales = [None] * len(logs) if sigmas is None else list(sigmas)
    if len(scales) != len(logs):
        raise ValueError(f"sigmas expected {len(logs)} numbers, one a log, got {len(scales)}")
    if bins < 1:
        raise ValueError(f"bins expected an integer >= 1, got {bins}")
    values = [p_lower_distribution(log, s).values for log, s in zip(logs, scales, strict=True)]
    figure, panels = _new_figure(6.4, 1.4 + 1.35 * len(logs), len(logs))
    # A bound of exactly 1 has no quantile; no finite sample gives one.
    multiples = [ndtri(np.minimum(np.nan_to_num(v, nan=0.0), 1 - 1e-12)) for v in values]
    most = max(1.0, *(float(z.max()) for z in multiples))
    edges = np.linspace(0.0, most * (1 + 1e-9), bins + 1)
    width = edges[1]
    tallest = 0.0
    for index, (axes, z, name) in enumerate(zip(panels, multiples, names, strict=True)):
        heights = 100 * np.histogram(z[z >= 0], edges)[0] / z.size
        below = 100 * float(np.mean(z < 0))
        colour = _COLOURS[index % len(_COLOURS)]
        axes.bar(edges[:-1], heights, width, align="edge", color=colour, edgecolor="white", lw=0.5)
        axes.bar(-2.5 * width, below, 1.5 * width, align="edge", color="0.6")
        axes.set_title(name, loc="left", fontsize=_SMALL, color=colour, pad=3)
        axes.grid(False, axis="x")
        tallest = max(tallest, below, float(heights.max()))
    for axes in panels:
        axes.set_ylim(0, 1.05 * tallest)
    ticks = [p for p in _P_TICKS if ndtri(p) <= most]
    panels[-1].set_xticks(
        [-1.75 * width, *ndtri(ticks)], ["<.5", *(f"{p:g}".lstrip("0") for p in ticks)]
    )
    panels[-1].set_xlabel(
        r"lower bound $\underline{p}$ on the top class probability"
        r" (equal steps of $\Phi^{-1}(\underline{p})$)",
        fontsize=_SMALL,
    )
    figure.supylabel("images (%)", fontsize=10)
    return figure


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
    distance = np.sqrt(_numbers("scores", scores))
    kept = np.ones(distance.size, bool) if support is None else np.asarray(support, bool)
    rounds = np.zeros(0) if eigenvalues is None else _numbers("eigenvalues", eigenvalues, 0)
    if kept.shape != distance.shape:
        raise ValueError(f"support: expected {distance.size} values, got shape {kept.shape}")
    if bins < 1:
        raise ValueError(f"bins: expected an integer >= 1, got {bins}")
    figure, panels = _new_figure(
        6.4, 5.0 if rounds.size > 1 else 3.4, min(rounds.size, 2) or 1, sharex=False
    )
    if rounds.size > 1:
        _plot_rounds(panels[1], rounds)
    axes = panels[0]
    marks = [distance.max(), *([] if threshold is None else [np.sqrt(max(threshold, 0.0))])]
    high = 1.05 * max(marks) or 1.0
    low = min(max(distance.min(), np.median(distance) / 30, high / 1e4), high / 10) / 1.05
    edges = np.geomspace(low, high, bins + 1)
    groups = [("kept", kept, _COLOURS[0]), ("left out", ~kept, _COLOURS[1])]
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
        axes.set_title(title, loc="left", fontsize=_SMALL, color="0.35")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=_SMALL)
    return figure


def _plot_rounds(axes: Axes, eigenvalues: NDArray[np.float64]) -> None:
    from matplotlib.ticker import MaxNLocator

    numbers = np.arange(1, eigenvalues.size + 1)
    axes.plot(numbers, eigenvalues, color=_COLOURS[2], marker="o", markersize=4, lw=1.4)
    if float(eigenvalues.min()) > 0.0 and eigenvalues.max() > 20 * eigenvalues.min():
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, 1.1 * float(eigenvalues.max()) or 1.0)
    axes.set_xlim(0.5, eigenvalues.size + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("round")
    axes.set_ylabel("top eigenvalue")


def _numbers(name: str, values: Any, least: int = 1) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size < least:
        raise ValueError(f"{name}: expected shape (n,) with n >= {least}, got {array.shape}")
    if not (np.isfinite(array).all() and array.min(initial=0.0) >= 0.0):
        raise ValueError(f"{name}: expected finite numbers >= 0")
    return array


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
        _clean_axes(axes)
        for index, (name, heights) in enumerate(counts.items()):
            colour, style = _COLOURS[index], {"hatch": "////" if index else "", "lw": 0.8}
            axes.stairs(heights, edges, fill=True, color=colour, alpha=0.35)
            axes.stairs(heights, edges, color=colour, label=name, **style)
        axes.set_yscale("symlog", linthresh=1.0)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_ylim(0, None)
        axes.set_title(title, loc="left", fontsize=_SMALL)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    handles, names = grid[0].get_legend_handles_labels()
    if len(names) > 1:
        figure.legend(
            handles, names, loc="outside upper right", ncols=len(names), frameon=False,
            fontsize=_SMALL,
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
    figure, (axes,) = _new_figure(6.4, 4.6)
    for name, rows, marker, colour, size in (
        ("not outliers" if outlier is not None else "rows", ~bad, "o", _COLOURS[0], 12),
        ("outliers", bad, "x", _COLOURS[1], 22),
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
            str(row), (x[row], y[row]), (4, 3), textcoords="offset points", fontsize=_SMALL - 2
        )
    s = "" if found.n_components == 1 else "s"
    axes.set_xlabel(f"robust distance within {found.n_components} component{s}")
    axes.set_ylabel("orthogonal distance to them")
    if title:
        axes.set_title(title, loc="left", fontsize=_SMALL, color="0.35")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=_SMALL)
    return figure


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write `figure` to `path`, in the format its ending names, at 200 dots an inch."""
    figure.savefig(path, dpi=200)
