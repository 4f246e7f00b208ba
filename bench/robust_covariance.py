"""Robust covariance: excess error on the published mixtures, time against the published filter.

    python bench/robust_covariance.py accuracy [--seeds 5] [--dims 10 20 ...]
    python bench/robust_covariance.py speed [--dims 40]
    python bench/robust_covariance.py memory

`accuracy` adds to results/robust_covariance.csv; a run that was stopped goes on, ``--again`` starts
anew. `speed`: the peer is a port of the published filter with its dense degree-2 matrix and the
search over its tail constant (`peers_covariance`), scikit-learn's MinCovDet for the detectors;
CPU time of one thread. `memory`: growth beyond X at d = 500, n = 100,000, by the operating system.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

import _peak_memory
import _timing
import peers_covariance
import peers_outliers
import tamis
from _results import Progress, ResultFile
from peers import set_threads

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from published_mixtures import for_covariance

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("numpy", "scipy", "scikit-learn")
PANELS = ("isotropic", "spiked")
FIELDS = (*("panel", "d", "seed", "noisy_excess", "excess", "bad_left", "good_lost", "seconds"),)


def error(C: Any, diagonal: Any) -> float:
    return float(np.linalg.norm(C / np.sqrt(np.outer(diagonal, diagonal)) - np.eye(len(C))))


def fitted(X: Any) -> Any:
    return tamis.RobustCovariance(0.05, assume_centered=True).fit(X)


def accuracy(args: argparse.Namespace) -> dict[str, Any]:
    dims = (10, 20) if args.quick else args.dims or tuple(range(10, 101, 10))
    seeds = 1 if args.quick else args.seeds
    place = ROOT / ("build/bench" if args.quick else "bench/results") / "robust_covariance.csv"
    results = ResultFile(place, FIELDS, 3, lambda row: args.quick or args.again)
    cases = [(p, d, seed) for p in PANELS for d in dims for seed in range(seeds)]
    todo = [case for case in cases if case not in results]
    progress = Progress([float(d**4) for _, d, _ in todo])
    for panel, d, seed in todo:
        X, diagonal, bad = for_covariance(panel, d, np.random.default_rng([d, seed]))
        base = error(X[bad:].T @ X[bad:] / (len(X) - bad), diagonal)
        noisy = error(X.T @ X / len(X), diagonal) - base
        start = process_time()
        found = fitted(X)
        seconds = process_time() - start
        excess = error(found.covariance_, diagonal) - base
        left, lost = int(found.support_[:bad].sum()), int((~found.support_[bad:]).sum())
        results.add(panel, d, seed, noisy, excess, left, lost, seconds)
        progress.step(float(d**4), f"{panel}, d = {d}: excess {excess:.4f}")
    lines = []
    for panel in PANELS:
        for d in dims:
            rows = results.select(panel=panel, d=d)
            numbers = {f: [float(row[f]) for row in rows] for f in FIELDS[3:]}
            lines.append(
                {
                    "panel": panel,
                    "d": d,
                    "seeds": len(rows),
                    "worst_excess": max(numbers["excess"]),
                    "least_noisy_excess": min(numbers["noisy_excess"]),
                    "bad_left": max(numbers["bad_left"]),
                    "median_seconds": float(np.median(numbers["seconds"])),
                }
            )
    return {"lines": lines}


def speed(args: argparse.Namespace) -> dict[str, Any]:
    set_threads(1)
    lines = []

    def timed(name: str, call: Any, peer: str, slow: Any, rounds: int) -> None:
        times = []
        for _ in range(rounds + 1):  # the first one loads what is loaded once
            start = process_time()
            call()
            times.append(process_time() - start)
        start = process_time()
        slow()
        seconds = process_time() - start
        spread = _timing.spread(times[1:])
        line = {"case": name, "seconds": spread, "peer": peer, "peer_seconds": seconds}
        lines.append({**line, "ratio": seconds / spread["median"]})

    rounds = args.rounds or 9
    for d in (10,) if args.quick else args.dims or (40,):
        for panel in PANELS:
            X, _, _ = for_covariance(panel, d, np.random.default_rng([d, 0]))
            timed(
                f"{panel}, {len(X)} x {d}",
                lambda X=X: tamis.RobustCovariance(0.05, assume_centered=True, n_jobs=1).fit(X),
                "published filter",
                lambda X=X: peers_covariance.tuned(X),
                rounds,
            )
    n, d = (600, 20) if args.quick else (3062, 166)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, d)) @ rng.standard_normal((d, d))
    X[: n // 32] += 20.0 * rng.standard_normal(d)
    for detector in (
        tamis.QUEOutlierDetector(0.05, n_jobs=1),
        tamis.SpectralOutlierDetector(0.05, n_jobs=1),
    ):
        timed(
            f"{type(detector).__name__}, {n} x {d}",
            lambda detector=detector: detector.fit(X).score_samples(X),
            "MinCovDet",
            lambda: peers_outliers.min_cov_det(X),
            rounds,
        )
    return {"clock": "CPU time of one thread", "lines": lines}


def memory(args: argparse.Namespace) -> dict[str, Any]:
    n, d = (5000, 50) if args.quick else (100_000, 500)
    lines = []
    for dtype in ("float32", "float64"):
        grown = _peak_memory.growth("RobustCovariance.fit", n, d, dtype)
        size = n * d * np.dtype(dtype).itemsize
        lines.append({"n": n, "d": d, "dtype": dtype, "table_bytes": size, "bytes_beyond": grown})
    return {"lines": lines}


def show(mode: str, lines: list[dict[str, Any]]) -> str:
    if mode == "accuracy":
        head = ["panel", "d", "seeds", "worst excess", "noisy", "bad left", "seconds"]
        rows = [
            [f"{v:.4g}" if isinstance(v, float) else str(v) for v in line.values()]
            for line in lines
        ]
    elif mode == "speed":
        head = ["case", "seconds", "peer", "its seconds", "ratio"]
        rows = [
            [
                line["case"],
                f"{line['seconds']['median']:.4f}",
                line["peer"],
                f"{line['peer_seconds']:.2f}",
                f"{line['ratio']:.0f}",
            ]
            for line in lines
        ]
    else:
        head = ["rows", "dtype", "MB of X", "MB beyond it"]
        rows = [
            [
                f"{line['n']} x {line['d']}",
                line["dtype"],
                f"{line['table_bytes'] / 1e6:.0f}",
                f"{line['bytes_beyond'] / 1e6:.0f}",
            ]
            for line in lines
        ]
    return _timing.table(head, rows)


def main() -> int:
    _timing.use_full_speed_blas()
    warnings.simplefilter("ignore")  # of MinCovDet
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    modes = {"accuracy": accuracy, "speed": speed, "memory": memory}
    parser.add_argument("mode", choices=tuple(modes))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--dims", type=int, nargs="+", help="columns")
    parser.add_argument("--again", action="store_true", help="measure everything anew")
    parser.add_argument("--rounds", type=int, help="how often tamis runs; the peer runs once")
    parser.add_argument("--quick", action="store_true", help="small cases, into build/bench")
    parser.add_argument("--json", action="store_true", help="print one JSON object, no table")
    args = parser.parse_args()
    result = modes[args.mode](args)
    if args.json:
        facts = {"benchmark": "robust_covariance", "mode": args.mode}
        print(json.dumps({**facts, "machine": _timing.machine(PACKAGES), **result}, indent=2))
    else:
        print(show(args.mode, result["lines"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
