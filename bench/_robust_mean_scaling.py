"""Time against rows and against columns, up to a mapped file larger than most tables in memory."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import _corrupted_rows
import _timing
import tamis

Array = NDArray[Any]
CONTAMINATION = 0.1
SEED = 0
COLOURS = ("#0072B2", "#D55E00", "#009E73")


def add_parser(modes: Any) -> None:
    parser = modes.add_parser("scaling", help="time against n and d, up to a mapped file")
    parser.set_defaults(run=run)
    parser.add_argument("--quick", action="store_true", help="small sizes, into build/bench")
    parser.add_argument("--json", action="store_true", help="print one JSON object, no table")
    parser.add_argument("--rounds", type=int, help="how often each size runs")
    parser.add_argument("--threads", type=int, metavar="T", help="default: see tamis info")
    parser.add_argument(
        "--folder",
        type=Path,
        help="where the mapped file is made, 8 GB, and removed; default: the temporary folder",
    )
    parser.add_argument("--output", type=Path, help="folder; default: bench/results")


class Line:
    """Tables that differ in one size, and the time that each takes."""

    def __init__(self, name: str, axis: str, tables: dict[int, Array]) -> None:
        self.name, self.axis, self.tables = name, axis, tables

    def measure(self, threads: int | None, rounds: int) -> dict[str, Any]:
        passes: dict[str, int] = {}
        excess: dict[str, float] = {}

        def call(size: int) -> None:
            found: Any = tamis.iterative_filter(
                self.tables[size], CONTAMINATION, num_threads=threads
            )
            passes[str(size)] = found.passes
            excess[str(size)] = float(np.linalg.norm(np.asarray(found.mean, np.float64) - 1.0))

        def check() -> None:
            for size, X in self.tables.items():
                call(size)
                # sampling error about sqrt(d / n), and nothing that grows with d on top
                if not excess[str(size)] <= 1.3 * np.sqrt(X.shape[1] / len(X)) + 0.02:
                    sys.exit(f"{self.name}, {size}: error {excess[str(size)]:.3f}, not timed")

        times = _timing.interleave(
            {str(size): lambda size=size: call(size) for size in self.tables},  # type: ignore[misc]
            check=check,
            rounds=rounds,
            warmup=0,  # the check has run everything
        )
        points = [
            {
                "size": size,
                "seconds": _timing.spread(times[str(size)]),
                "passes": passes[str(size)],
                "error": excess[str(size)],
            }
            for size in self.tables
        ]
        return {"name": self.name, "axis": self.axis, "points": points, "fit": fit(points)}


def fit(points: Sequence[dict[str, Any]]) -> dict[str, float]:
    """A fixed time and a time for one more, by least squares of relative deviations.

    ``exponent`` is the slope of log time over log size for the larger half of the sizes: 1 where
    time is linear.
    """
    size = np.array([point["size"] for point in points], dtype=np.float64)
    seconds = np.array([point["seconds"]["median"] for point in points])
    slope, fixed = np.polyfit(size, seconds, 1, w=1.0 / seconds)
    predicted = fixed + slope * size
    half = len(size) // 2
    return {
        "fixed_seconds": float(fixed),
        "seconds_for_one_more": float(slope),
        "largest_deviation": float(np.abs(seconds / predicted - 1.0).max()),
        "exponent": float(np.polyfit(np.log(size[half:]), np.log(seconds[half:]), 1)[0]),
    }


def map_mixture(folder: Path, n: int, d: int) -> Array:
    """The published mixture in a float32 .npy file, mapped; rows in blocks, bad ones among them."""
    path = folder / "rows.npy"
    file = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, d))
    step = max((1 << 26) // d, 1)
    for number, start in enumerate(range(0, n, step)):
        block = file[start : start + step]
        rows = _corrupted_rows.corrupted(
            "two groups", len(block), d, CONTAMINATION, seed=SEED + number, dtype=np.float32
        )
        block[:] = rows.X
        print(f"{path}: {start + len(block)} of {n} rows", file=sys.stderr, flush=True)
    file.flush()
    del file
    return np.asarray(np.load(path, mmap_mode="r"))


def room_for(folder: Path, n: int, d: int) -> int:
    """``n``, or as many rows as fit into 80% of the free space."""
    free = int(0.8 * shutil.disk_usage(folder).free)
    return min(n, free // (4 * d))


def memory_available() -> int:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    return 0


def show(line: dict[str, Any]) -> str:
    body = []
    for point in line["points"]:
        seconds = point["seconds"]
        body.append(
            [
                str(point["size"]),
                f"{1e3 * seconds['median']:.1f}",
                f"{1e3 * seconds['quartile_1']:.1f}-{1e3 * seconds['quartile_3']:.1f}",
                f"{1e9 * seconds['median'] / (point['size'] * line['other']):.3f}",
                str(point["passes"]),
                f"{point['error']:.4f}",
            ]
        )
    header = [line["axis"], "ms", "quartiles", "ns a number", "passes", "L2 error"]
    fitted = line["fit"]
    return (
        f"{line['name']}\n{_timing.table(header, body)}\n"
        f"fit: {1e3 * fitted['fixed_seconds']:.1f} ms + "
        f"{1e6 * fitted['seconds_for_one_more']:.4g} us for each {line['axis']}, off by at most "
        f"{fitted['largest_deviation']:.0%}; time grows as {line['axis']} to the power "
        f"{fitted['exponent']:.2f} over the larger half"
    )


def short(size: float) -> str:
    """20k, 1M."""
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if size >= unit:
            return f"{size / unit:g}{name}"
    return f"{size:g}"


def draw(lines: Sequence[dict[str, Any]], path: Path) -> Path:
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    figure = Figure(figsize=(10.5, 3.6), layout="constrained")
    panels = figure.subplots(1, len(lines), squeeze=False)[0]
    for axes, line, colour in zip(panels, lines, COLOURS, strict=False):
        size = np.array([point["size"] for point in line["points"]], dtype=np.float64)
        seconds = np.array([point["seconds"]["median"] for point in line["points"]])
        low = np.array([point["seconds"]["quartile_1"] for point in line["points"]])
        high = np.array([point["seconds"]["quartile_3"] for point in line["points"]])
        grid = np.geomspace(size[0], size[-1], 100)
        fitted = line["fit"]
        axes.plot(
            grid,
            fitted["fixed_seconds"] + fitted["seconds_for_one_more"] * grid,
            color="0.55",
            lw=1.2,
            label="fit: a + b " + line["axis"],
        )
        axes.errorbar(
            size,
            seconds,
            yerr=np.array([seconds - low, high - seconds]),
            color=colour,
            marker="o",
            ls="none",
            label="median, quartiles",
        )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(size, [short(value) for value in size])
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter("{x:g}")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_minor_locator(NullLocator())
        axes.set_xlabel(f"{'rows' if line['axis'] == 'n' else 'columns'} {line['axis']}")
        axes.set_title(line["name"], loc="left", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(True, which="major", color="0.92", lw=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=8)
        axes.legend(frameon=False, fontsize=8)
    panels[0].set_ylabel("seconds")
    figure.savefig(path, dpi=200)
    return path


def run(args: argparse.Namespace) -> dict[str, Any]:
    quick = args.quick
    rounds = args.rounds or (2 if quick else 5)
    root = Path(__file__).resolve().parent
    output = args.output or (root.parent / "build" / "bench" if quick else root / "results")
    output.mkdir(parents=True, exist_ok=True)
    lines: list[dict[str, Any]] = []

    def report(line: Line, other: int) -> None:
        lines.append({**line.measure(args.threads, rounds), "other": other})
        if not args.json:
            print(show(lines[-1]), end="\n\n", flush=True)

    if not args.json:
        threads = args.threads or tamis.info()["num_threads"]
        print(f"seed {SEED}; wall time; {threads} threads; {rounds} rounds; the mixture of the")
        print("published experiment; float32\n")
    counts = (4000, 8000, 16_000) if quick else (10_000, 30_000, 100_000, 300_000, 1_000_000)
    X = _corrupted_rows.corrupted(
        "two groups", counts[-1], 100, CONTAMINATION, seed=SEED, dtype=np.float32
    ).X
    report(Line("in memory, d = 100", "n", {n: X[:n] for n in counts}), 100)
    n = 10_000 if quick else 100_000
    columns = (50, 100, 200) if quick else (50, 100, 200, 500, 1000, 2000)
    tables = {
        d: _corrupted_rows.corrupted(
            "two groups", n, d, CONTAMINATION, seed=SEED, dtype=np.float32
        ).X
        for d in columns
    }
    report(Line(f"in memory, n = {n}", "d", tables), n)
    del X, tables
    n, d = (20_000, 200) if quick else (1_000_000, 2000)
    with tempfile.TemporaryDirectory(prefix="tamis-bench-", dir=args.folder) as name:
        folder = Path(name)
        rows = room_for(folder, n, d)
        if rows < n:
            print(f"{folder}: room for {rows} rows only, wanted {n}", file=sys.stderr)
        size, free = 4 * rows * d, memory_available()
        note = f"file of {size / 1e9:.1f} GB, {free / 1e9:.1f} GB of memory to keep it in"
        mapped = map_mixture(folder, rows, d)
        parts = {rows // k: mapped[: rows // k] for k in (10, 5, 2, 1)}
        report(Line(f"mapped .npy, d = {d}", "n", parts), d)
        del mapped, parts
    if not args.json:
        print(note)
        try:
            print(draw(lines, output / "robust_mean_scaling.png"))
        except ImportError as error:
            print(f"no figure: {error}")
    return {"seed": SEED, "rounds": rounds, "lines": lines, "mapped": note}
