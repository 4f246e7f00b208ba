"""Excess error against the number of columns: the published experiment, its baselines, tamis."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

import _corrupted_rows
import _timing
import peers_filter
import tamis
from _results import Progress, ResultFile

Array = NDArray[Any]

CONTAMINATION = 0.1
TARGET = 0.01
DIMENSIONS = tuple(range(100, 401, 50))
FIELDS = ("n", "d", "seed", "method", "error", "sampling_error", "excess", "seconds")
MAIN, KNOWN = "tamis", "tamis, identity"


@dataclass(frozen=True)
class Method:
    estimate: Callable[[Array], Any]
    cost: float  # roughly seconds at d = 100, for the time left
    colour: str
    slow: bool = False  # --slow-seeds is for these


METHODS: dict[str, Method] = {
    MAIN: Method(lambda X: tamis.RobustMean(CONTAMINATION).fit(X).location_, 0.2, "#0072B2"),
    KNOWN: Method(
        lambda X: tamis.RobustMean(CONTAMINATION, assume="identity").fit(X).location_,
        0.2,
        "#56B4E9",
    ),
    "published filter": Method(
        lambda X: peers_filter.published_filter(X, CONTAMINATION), 0.7, "#D55E00"
    ),
    "sample mean": Method(lambda X: X.mean(axis=0), 0.02, "0.35"),
    "naive pruning": Method(lambda X: tamis.naive_prune(X, CONTAMINATION)[0], 0.4, "#E69F00"),
    "LRV": Method(lambda X: tamis.lrv_mean(X, CONTAMINATION), 1.0, "#009E73", slow=True),
    "geometric median": Method(tamis.geometric_median, 2.0, "#CC79A7", slow=True),
    "RANSAC": Method(lambda X: tamis.ransac_mean(X, CONTAMINATION), 6.0, "#8C6D46", slow=True),
}


def add_parser(modes: Any) -> None:
    parser = modes.add_parser("accuracy", help="the figure of the published experiment")
    parser.set_defaults(run=run)
    parser.add_argument(
        "--quick", action="store_true", help="small tables, always anew, into build/bench"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, no table")
    parser.add_argument("--dims", type=int, nargs="+", metavar="D", help="default: 100 150 ... 400")
    parser.add_argument("--seeds", type=int, default=5, help="tables for each d: seeds 0, 1, ...")
    parser.add_argument(
        "--slow-seeds",
        type=int,
        metavar="S",
        help="tables for LRV, geometric median and RANSAC; default: as --seeds",
    )
    parser.add_argument(
        "--again", nargs="+", default=[], choices=METHODS, metavar="METHOD", help="measure anew"
    )
    parser.add_argument("--output", type=Path, help="folder; default: bench/results")


def run(args: argparse.Namespace) -> dict[str, Any]:
    dims = args.dims or ((40, 60) if args.quick else DIMENSIONS)
    seeds = min(args.seeds, 2) if args.quick else args.seeds
    slow_seeds = seeds if args.slow_seeds is None else min(args.slow_seeds, seeds)
    root = Path(__file__).resolve().parent
    folder = args.output or (root.parent / "build" / "bench" if args.quick else root / "results")
    file = ResultFile(
        folder / "robust_mean.csv", FIELDS, 4, lambda row: args.quick or row["method"] in args.again
    )
    sizes = {
        d: 100 * d if args.quick else _corrupted_rows.published_size(d, CONTAMINATION) for d in dims
    }
    # seed by seed, so that an interrupted run leaves whole curves; within a table, the quick first
    tables = [(seed, d) for seed in range(seeds) for d in dims]
    jobs = {
        (seed, d): [
            name
            for name, method in METHODS.items()
            if seed < (slow_seeds if method.slow else seeds)
            and (sizes[d], d, seed, name) not in file
        ]
        for seed, d in tables
    }
    tamis.RobustMean(CONTAMINATION).fit(np.eye(9))  # loads what loads on first use
    progress = Progress([cost(name, d) for (_, d), names in jobs.items() for name in names])
    for (seed, d), names in jobs.items():
        if not names:
            continue
        rows = _corrupted_rows.corrupted("two groups", sizes[d], d, CONTAMINATION, seed=seed)
        for name in names:
            start = perf_counter()
            estimate = METHODS[name].estimate(rows.X)
            seconds = perf_counter() - start
            error, excess = rows.error(estimate), rows.excess(estimate)
            file.add(sizes[d], d, seed, name, error, rows.sampling_error, excess, seconds)
            text = f"d {d}, seed {seed}, {name}: {excess:+.4f}, {seconds:.1f} s"
            progress.step(cost(name, d), text)
    if not args.json:
        print(
            f"excess L2 error, contamination {CONTAMINATION:g}, seeds 0 to {seeds - 1}, n = "
            f"{', '.join(str(n) for n in sizes.values())}\n\n{show(file, sizes, seeds)}\n"
        )
        try:
            picture = draw(file, sizes, folder / "robust_mean.png")
        except ImportError as error:
            print(f"no figure: {error}")
        else:
            print(f"{file.path}\n{picture}")
    return {"results": file.rows, "target": TARGET}


def cost(name: str, d: int) -> float:
    return METHODS[name].cost * (d / 100) ** 2


def excesses(file: ResultFile, name: str, n: int, d: int) -> list[float]:
    return file.numbers("excess", n=n, d=d, method=name)


def show(file: ResultFile, sizes: dict[int, int], seeds: int) -> str:
    """Mean over the seeds, with the extremes below it for tamis; then the targets."""
    rows = []
    fewer = False
    for name in METHODS:
        values = [excesses(file, name, n, d) for d, n in sizes.items()]
        counts = {len(v) for v in values}
        few = counts != {seeds}
        fewer |= few
        label = f"{name} ({min(counts)} of {seeds} seeds)" if few else name
        rows.append([label, *(f"{np.mean(v):+.4f}" if v else "-" for v in values)])
        if name in (MAIN, KNOWN, "published filter"):
            rows.append(["  largest", *(f"{max(v):+.4f}" if v else "-" for v in values)])
    sampling = [np.mean(file.numbers("sampling_error", n=n, d=d)) for d, n in sizes.items()]
    rows.append(["error of the good rows' mean", *(f"{value:.4f}" for value in sampling)])
    lines = [_timing.table(["d", *map(str, sizes)], rows)]
    if fewer:
        lines.append("Methods with a number in brackets ran on the first seeds only.")
    for name in (MAIN, KNOWN):
        values = [excesses(file, name, n, d) for d, n in sizes.items()]
        worst = max(max(v) for v in values)
        text = f"{name}: largest excess {worst:+.4f}, wanted at most {TARGET:g}"
        if len(sizes) > 1:
            slope = np.polyfit(list(sizes), [np.mean(v) for v in values], 1)[0]
            text += f"; {100 * slope:+.5f} for 100 more columns"
        lines.append(text)
    return "\n".join(lines)


def draw(file: ResultFile, sizes: dict[int, int], path: Path) -> Path:
    """Mean over the seeds, with a band from least to largest; names at the end of the lines."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.8), layout="constrained")
    axes = figure.subplots()
    ends: dict[str, float] = {}
    dims = list(sizes)
    for name, method in METHODS.items():
        values = [excesses(file, name, n, d) for d, n in sizes.items()]
        if not all(values):
            continue
        mean = [float(np.mean(v)) for v in values]
        axes.fill_between(
            dims, list(map(min, values)), list(map(max, values)), color=method.colour, alpha=0.15
        )
        axes.plot(
            dims,
            mean,
            color=method.colour,
            marker="o",
            markersize=4.5 if name == MAIN else 3.5,
            lw=2.2 if name == MAIN else 1.3,
            zorder=3 if name == MAIN else 2,
        )
        ends[name] = mean[-1]
    axes.set_yscale("symlog", linthresh=TARGET, linscale=0.6)
    low = min(file.numbers("excess"))
    axes.set_ylim(min(-0.004, 1.3 * low), 2.5)
    axes.axhline(0.0, color="0.6", lw=0.8)
    axes.axhline(TARGET, color="0.35", lw=1.0, ls=(0, (4, 3)))
    ticks = [0.0, 0.01, 0.1, 1.0]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks(
        [*(0.01 * k for k in range(2, 10)), *(0.1 * k for k in range(2, 10))], minor=True
    )
    axes.tick_params(which="both", color="0.4", labelsize=9)
    axes.set_xticks(dims)
    axes.xaxis.set_minor_locator(_no_ticks())
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, axis="y", color="0.92", lw=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel("columns d")
    axes.set_ylabel("excess L2 error, linear below .01")
    axes.set_title(
        f"Robust mean of {round(sizes[dims[-1]] / dims[-1])} d rows, "
        f"{100 * CONTAMINATION:g}% of them bad",
        loc="left",
        fontsize=11,
    )
    label_ends(axes, ends, dims)
    figure.savefig(path, dpi=200)
    return path


def _no_ticks() -> Any:
    from matplotlib.ticker import NullLocator

    return NullLocator()


def label_ends(axes: Any, ends: dict[str, float], dims: Sequence[int]) -> None:
    """Names to the right of the lines, pushed apart where they would overlap."""
    gap = 0.052  # of the height of the axes
    heights = {
        name: float(axes.transAxes.inverted().transform(axes.transData.transform((0.0, end)))[1])
        for name, end in ends.items()
    }
    # "target" is one of the labels, at its own line
    target = axes.transAxes.inverted().transform(axes.transData.transform((0.0, TARGET)))[1]
    heights[f"target {TARGET:g}"] = float(target)
    order = sorted(heights, key=lambda name: heights[name])
    places = spread_out([heights[name] for name in order], gap)
    width = dims[-1] - dims[0] or 1
    axes.set_xlim(dims[0] - 0.03 * width, dims[-1] + 0.03 * width)
    for name, place in zip(order, places, strict=True):
        colour = METHODS[name].colour if name in METHODS else "0.35"
        axes.annotate(
            name,
            xy=(1.0, heights[name]),
            xytext=(1.045, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=colour,
            fontsize=9,
            fontweight="bold" if name == MAIN else "normal",
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.7, "shrinkA": 2, "shrinkB": 0},
        )


def spread_out(heights: Sequence[float], gap: float) -> list[float]:
    """Ascending heights, moved as little as needed to stand ``gap`` apart."""
    groups: list[list[float]] = []  # [sum of heights less offsets, count]: a group moves as one
    for height in heights:
        groups.append([height, 1.0])
        while len(groups) > 1:
            (below, count), (above, more) = groups[-2], groups[-1]
            if above / more >= below / count + count * gap:
                break
            groups[-2:] = [[below + above - more * count * gap, count + more]]
    return [total / count + index * gap for total, count in groups for index in range(int(count))]
