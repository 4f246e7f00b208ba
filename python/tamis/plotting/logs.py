"""Figures of certification logs."""

from __future__ import annotations

from collections.abc import Sequence
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
from tamis.plotting._frame import COLOURS, SMALL, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))
_MAX_DIRECT = 6
_MAX_NAME = 30
_P_TICKS = (0.5, 0.7, 0.9, 0.97, 0.99, 0.999, 0.9999, 0.99999, 0.999999)


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
    dash = _DASHES[index // len(COLOURS) % len(_DASHES)]
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": dash}


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
    figure, (axes,) = new_figure(6.4, 4.0 + (0.19 * (len(names) + 1) if below else 0.0))
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
        axes.set_title(said, loc="left", fontsize=SMALL, color="0.35")
    box: dict[str, Any] = {"frameon": False, "fontsize": SMALL, "borderaxespad": 0}
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
        colour = COLOURS[index % len(COLOURS)]
        text = axes.annotate(name, (0.0, 0.0), color=colour, fontsize=SMALL)
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
    figure, panels = new_figure(6.4, 1.4 + 1.35 * len(logs), len(logs))
    # A bound of exactly 1 has no quantile; no finite sample gives one.
    multiples = [ndtri(np.minimum(np.nan_to_num(v, nan=0.0), 1 - 1e-12)) for v in values]
    most = max(1.0, *(float(z.max()) for z in multiples))
    edges = np.linspace(0.0, most * (1 + 1e-9), bins + 1)
    width = edges[1]
    tallest = 0.0
    for index, (axes, z, name) in enumerate(zip(panels, multiples, names, strict=True)):
        heights = 100 * np.histogram(z[z >= 0], edges)[0] / z.size
        below = 100 * float(np.mean(z < 0))
        colour = COLOURS[index % len(COLOURS)]
        axes.bar(edges[:-1], heights, width, align="edge", color=colour, edgecolor="white", lw=0.5)
        axes.bar(-2.5 * width, below, 1.5 * width, align="edge", color="0.6")
        axes.set_title(name, loc="left", fontsize=SMALL, color=colour, pad=3)
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
        fontsize=SMALL,
    )
    figure.supylabel("images (%)", fontsize=10)
    return figure
