"""Outlier detectors on real tables with known outliers: one default setting for every table.

    python bench/outliers.py [--quick] [--largest 5e9] [--again]

Needs the data folder (TAMIS_DATA_DIR). Every detector is fitted on all rows of a table and ranks
them; labels are used for the AUC and the average precision only. Tables where n d^2 is more than
``--largest`` are left out, by name; MinCovDet alone is left out of InternetAds, where its 500
trials with 1555 columns take hours. Rows go to results/outliers.csv at once, and a started run goes
on from there. MinCovDet is scikit-learn's; k neighbours is the mean distance to 10 of them.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import _timing
import peers_outliers
import tamis
from _data import require_data_dir
from _results import Progress, ResultFile

ROOT = Path(__file__).resolve().parent.parent
FIELDS = ("table", "rows", "columns", "detector", "auc", "average_precision")
QUICK = ("14_glass", "15_Hepatitis", "42_WBC")

PACKAGES = ("numpy", "scikit-learn", "pyod")
NOT_RUN = {("17_InternetAds", "MinCovDet")}

Scores = Callable[[Any], Any]  # higher: more of an outlier


DETECTORS: dict[str, Scores] = {
    "tamis RobustCovariance, auto": lambda X: tamis.RobustCovariance("auto").fit(X).dist_,
    "tamis QUEOutlierDetector": lambda X: -tamis.QUEOutlierDetector(0.1).fit(X).score_samples(X),
    "tamis SpectralOutlierDetector, auto": lambda X: (
        -tamis.SpectralOutlierDetector("auto").fit(X).training_scores_
    ),
    "isolation forest": peers_outliers.isolation_forest,
    "MinCovDet": peers_outliers.min_cov_det,
    "local outlier factor": peers_outliers.local_outlier_factor,
    "10 neighbours": peers_outliers.neighbours,
    "ECOD": peers_outliers.ecod,
    "l2": peers_outliers.l2,
}


def tables(folder: Path, largest: float, quick: bool) -> list[tuple[str, Path]]:
    """(name, path) of the tables to run; what is left out is said."""
    chosen = []
    for path in sorted((folder / "adbench").glob("*.npz")) + sorted(
        (folder / "embeddings").glob("*.npz")
    ):
        n, d = read(path)[0].shape
        if n * d * d > largest:
            print(f"left out, {n} x {d}: {path.stem}", file=sys.stderr)
        elif not quick or path.stem in QUICK:
            chosen.append((path.stem, path))
    return chosen


def read(path: Path) -> tuple[Any, Any]:
    with np.load(path, allow_pickle=False) as file:
        return file["X"].astype(np.float64), file["y"].astype(int).ravel()


def measure(results: ResultFile, chosen: list[tuple[str, Path]]) -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    left = [
        (name, path, title) for name, path in chosen for title in DETECTORS
        if (name, title) not in NOT_RUN and not results.select(table=name, detector=title)
    ]  # fmt: skip
    progress = Progress([1.0] * len(left))
    for name, path, title in left:
        X, y = read(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peers warn of singular and rank-deficient tables
            scores = np.nan_to_num(np.asarray(DETECTORS[title](X), float))
        auc = float(roc_auc_score(y, scores))
        precision = float(average_precision_score(y, scores))
        results.add(name, *X.shape, title, auc, precision)
        progress.step(1.0, f"{name}, {title}: AUC {auc:.3f}")


def means(results: ResultFile, chosen: list[tuple[str, Path]]) -> list[dict[str, Any]]:
    """Per detector over its tables, and over those that every detector was run on; best first."""
    names = [name for name, _ in chosen]
    common = [name for name in names if all(name != table for table, _ in NOT_RUN)]
    lines = []
    for title in DETECTORS:
        rows = [r for r in results.select(detector=title) if r["table"] in names]
        auc = [float(r["auc"]) for r in rows]
        lines.append(
            {
                "detector": title,
                "tables": len(rows),
                "mean_auc": float(np.mean(auc)),
                "mean_auc_common": float(
                    np.mean([float(r["auc"]) for r in rows if r["table"] in common])
                ),
                "mean_average_precision": float(
                    np.mean([float(r["average_precision"]) for r in rows])
                ),
                "worst_auc": min(auc),
            }
        )
    return sorted(lines, key=lambda line: -float(line["mean_auc_common"]))


def show(lines: list[dict[str, Any]]) -> str:
    head = [
        "detector",
        "tables",
        "mean AUC",
        "where all ran",
        "mean average precision",
        "worst AUC",
    ]
    cells = [
        [text if isinstance(text, str) else f"{text:.3f}".removesuffix(".000") for text in line]
        for line in (list(line.values()) for line in lines)
    ]
    return _timing.table(head, cells)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three small tables, seconds")
    parser.add_argument("--largest", type=float, default=5e9, help="n d^2 of the largest table")
    parser.add_argument("--json", action="store_true", help="print one JSON object, no table")
    parser.add_argument("--again", action="store_true", help="measure tamis's detectors anew")
    args = parser.parse_args()
    folder = require_data_dir()
    place = ROOT / ("build/bench" if args.quick else "bench/results") / "outliers.csv"
    results = ResultFile(
        place, FIELDS, 4, lambda row: args.again and row["detector"].startswith("tamis")
    )
    chosen = tables(folder, args.largest, args.quick)
    measure(results, chosen)
    lines = means(results, chosen)
    if args.json:
        print(json.dumps({"machine": _timing.machine(PACKAGES), "detectors": lines}, indent=2))
    else:
        print(show(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
