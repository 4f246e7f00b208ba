"""Excess error of every rule under other corruptions, from no bad rows to 30%."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import _corrupted_rows
import _timing
import tamis
from _results import Progress, ResultFile

SHARES = (0.0, 0.05, 0.1, 0.2, 0.3)
DIMENSIONS = (50, 100, 200)
STATED_FOR_CLEAN = 0.1  # at contamination 0: a user who does not know that the rows are clean
CLEAN_LIMIT = 1.02  # error at contamination 0 over that of the sample mean
FIELDS = (
    "kind", "n", "d", "contamination", "seed", "method",
    "error", "sampling_error", "mean_error", "removed", "stop_reason", "seconds",
)  # fmt: skip


@dataclass(frozen=True)
class Method:
    rule: str
    assume: str
    auto: bool = False  # contamination="auto" in place of the true share


METHODS = {
    "tail identity": Method("gaussian_tail", "identity"),
    "tail scale": Method("gaussian_tail", "scale"),
    "tail none": Method("gaussian_tail", "none"),
    "tail auto": Method("gaussian_tail", "none", auto=True),
    "bounded scale": Method("bounded_covariance", "scale"),
    "bounded none": Method("bounded_covariance", "none"),
    "soft scale": Method("soft", "scale"),
    "soft none": Method("soft", "none"),
    "fraction scale": Method("fixed_fraction", "scale"),
    "random scale": Method("randomized", "scale"),
}
# the rule that the assumptions about the good rows call for
MADE_FOR = {
    "heavy columns": ("bounded scale", "bounded none"),
    "heavy rows": ("bounded scale", "bounded none"),
}


def add_parser(modes: Any) -> None:
    parser = modes.add_parser("corruptions", help="other corruptions, rules and assumptions")
    parser.set_defaults(run=run)
    parser.add_argument(
        "--quick", action="store_true", help="small tables, always anew, into build/bench"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, no table")
    parser.add_argument("--dims", type=int, nargs="+", metavar="D", help="default: 50 100 200")
    parser.add_argument(
        "--seeds", type=int, default=3, help="tables for each cell: seeds 0, 1, ..."
    )
    parser.add_argument("--kinds", nargs="+", choices=_corrupted_rows.KINDS, metavar="KIND")
    parser.add_argument("--again", action="store_true", help="measure everything anew")
    parser.add_argument("--output", type=Path, help="folder; default: bench/results")


def run(args: argparse.Namespace) -> dict[str, Any]:
    dims = args.dims or ((50,) if args.quick else DIMENSIONS)
    seeds = 1 if args.quick else args.seeds
    kinds = args.kinds or list(_corrupted_rows.KINDS)
    root = Path(__file__).resolve().parent
    folder = args.output or (root.parent / "build" / "bench" if args.quick else root / "results")
    file = ResultFile(
        folder / "robust_mean_corruptions.csv", FIELDS, 6, lambda _: bool(args.again or args.quick)
    )
    sizes = {d: (200 if args.quick else 1000) * d for d in dims}
    tables = [
        (kind, d, share, seed)
        for seed in range(seeds)
        for d in dims
        for kind in kinds
        for share in SHARES
    ]
    jobs = {
        (kind, d, share, seed): [
            name for name in METHODS if (kind, sizes[d], d, share, seed, name) not in file
        ]
        for kind, d, share, seed in tables
    }
    jobs = {table: names for table, names in jobs.items() if names}
    run_filter: Any = tamis.iterative_filter  # rule and assume are text here
    progress = Progress([d**2 for _, d, _, _ in jobs])
    for (kind, d, share, seed), names in jobs.items():
        rows = _corrupted_rows.corrupted(kind, sizes[d], d, share, seed=seed)
        mean_error = rows.error(rows.X.mean(axis=0))
        texts = []
        for name in names:
            method = METHODS[name]
            stated: Any = "auto" if method.auto else (share or STATED_FOR_CLEAN)
            start = perf_counter()
            found = run_filter(rows.X, stated, rule=method.rule, assume=method.assume, seed=seed)
            seconds = perf_counter() - start
            file.add(
                kind, sizes[d], d, share, seed, name,
                rows.error(found.mean), rows.sampling_error, mean_error,
                float(found.contamination), found.stop_reason, seconds,
            )  # fmt: skip
            texts.append(f"{rows.excess(found.mean):+.3f}")
        progress.step(d**2, f"{kind}, d {d}, share {share:g}, seed {seed}: {' '.join(texts)}")
    if not args.json:
        print(f"seeds 0 to {seeds - 1}; n = {200 if args.quick else 1000} d; contamination stated")
        print(f"as it is, but {STATED_FOR_CLEAN:g} where no row is bad. Excess L2 error beyond the")
        print("mean of the good rows, in standard deviations, averaged over the seeds;")
        print("! removal limit reached, ( ) the rule does not claim anything for these rows.\n")
        for kind in kinds:
            print(f"{kind}: {_corrupted_rows.KINDS[kind]}")
            print(show(file, kind, sizes), end="\n\n")
        print(show_clean(file, kinds, sizes))
        print(file.path)
    return {"results": file.rows, "clean_limit": CLEAN_LIMIT}


def claimed(kind: str, name: str) -> bool:
    """Whether what the rule assumes is true of these good rows."""
    if kind in MADE_FOR:
        return name in MADE_FOR[kind]
    return not (kind == "unknown scale" and METHODS[name].assume == "identity")


def show(file: ResultFile, kind: str, sizes: dict[int, int]) -> str:
    body = []
    for d, n in sizes.items():
        for share in SHARES:
            cell: dict[str, Any] = {"kind": kind, "n": n, "d": d, "contamination": share}
            sampling = file.numbers("sampling_error", **cell, method="tail none")
            means = file.numbers("mean_error", **cell, method="tail none")
            if not means:
                continue
            line = [f"d {d}, {share:.0%}", f"{np.mean(means) - np.mean(sampling):+.3f}"]
            for name in METHODS:
                errors = file.numbers("error", **cell, method=name)
                excess = float(np.mean(errors) - np.mean(sampling))
                limited = any(
                    row["stop_reason"] == "removal_limit"
                    for row in file.select(**cell, method=name)
                )
                text = f"{excess:+.3f}{'!' if limited else ''}"
                line.append(text if claimed(kind, name) else f"({text})")
            body.append(line)
    return _timing.table(["", "mean", *METHODS], body)


def show_clean(file: ResultFile, kinds: list[str], sizes: dict[int, int]) -> str:
    """Without bad rows: the worst ratio of errors, over the kinds that a rule is made for."""
    body = []
    for name in METHODS:
        line = [name]
        worst = 0.0
        for d, n in sizes.items():
            ratios = []
            for kind in kinds:
                if kind in ("near cluster", "many directions", "deleted") or not claimed(
                    kind, name
                ):
                    continue  # without bad rows these are "hidden cluster" again
                cell = {"kind": kind, "n": n, "d": d, "contamination": 0.0, "method": name}
                errors, means = file.numbers("error", **cell), file.numbers("mean_error", **cell)
                ratios += [a / b for a, b in zip(errors, means, strict=True)]
            line.append(f"{min(ratios):.4f} to {max(ratios):.4f}" if ratios else "-")
            worst = max([worst, *ratios])
        line.append("yes" if worst <= CLEAN_LIMIT else "no")
        body.append(line)
    header = ["no bad rows", *(f"d {d}" for d in sizes), f"all <= {CLEAN_LIMIT}"]
    return (
        "Error over that of the sample mean, where no row is bad (least and largest over seeds):\n"
        + _timing.table(header, body)
    )
