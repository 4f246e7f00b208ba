"""QUE scores on the published synthetic mixture, and their time against a full SVD.

    python bench/que.py [--rounds 3]

Writes results/que.csv: AUC by number of directions k, for ambient noise 1 and .1 ("as coded").
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np

import _timing
import tamis

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from published_mixtures import for_que

RESULTS = Path(__file__).parent / "results"


def full_svd(X: Any) -> Any:
    """The published recipe: scores from the SVD of the rows in float64."""
    gap = X.astype(np.float64) - X.mean(axis=0)
    _, s, v = np.linalg.svd(gap, full_matrices=False)
    weights = np.exp(4.0 * (np.square(s / s[0]) - 1.0))
    return np.square(gap @ v.T) @ (weights / weights.sum())


def main() -> None:
    _timing.use_full_speed_blas()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    from sklearn.ensemble import IsolationForest
    from sklearn.metrics import roc_auc_score

    names = ["ambient", "k", "exact", "sketch", "naive", "l2", "isolation_forest"]
    lines = [names]
    for ambient in (1.0, 0.1):
        for k in (1, 4, 7, 10):
            X, y = for_que(k, 128, np.random.default_rng(0), ambient)
            X -= X.mean(axis=0)
            top = np.linalg.eigh(X.T @ X)[1][:, -1]
            forest = IsolationForest(random_state=0).fit(X)
            scores = [
                tamis.que_scores(X),
                tamis.que_scores(X, method="sketch"),
                np.square(X @ top),
                np.square(X).sum(axis=1),
                -forest.score_samples(X),
            ]
            lines.append([ambient, k, *(f"{roc_auc_score(y, s):.3f}" for s in scores)])
            print(*lines[-1], sep="\t", flush=True)
    with (RESULTS / "que.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)
    X = np.random.default_rng(0).standard_normal((10_000, 512)).astype(np.float32)
    X[:500, :4] *= 4.0
    calls = {
        "svd": lambda: full_svd(X),
        "exact": lambda: tamis.que_scores(X),
        "sketch": lambda: tamis.que_scores(X, method="sketch"),
    }

    def check() -> None:
        np.testing.assert_allclose(tamis.que_scores(X), full_svd(X), rtol=1e-2)

    times = _timing.interleave(calls, check=check, rounds=args.rounds, warmup=0)
    for name, seconds in times.items():
        ratio = _timing.spread(_timing.ratios(times, "svd", name))["median"]
        middle = _timing.spread(seconds)["median"]
        print(f"10000 x 512 {name}: {middle:.3f} s, {ratio:.1f} times as fast as the SVD")


if __name__ == "__main__":
    main()
