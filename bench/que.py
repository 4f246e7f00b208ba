"""QUE scores on the published synthetic mixture, and their time against a full SVD.

    python bench/que.py [--rounds 3]

Writes results/que.csv: AUC by number of directions k, for ambient noise 1 and .1 ("as coded").
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

import tamis

RESULTS = Path(__file__).parent / "results"


def mixture(k: int, ambient: float, d: int = 128, seed: int = 0) -> tuple[Any, Any]:
    """k directions of two-sided outliers, a fifth of all rows; labels 1 for these."""
    rng = np.random.default_rng(seed)
    groups = []
    for i in range(k):
        group = ambient * rng.standard_normal((int(520 * 1.1**i), d))
        group[:, i * ((d - 1) // k)] += np.sqrt(k / 0.2)
        group[len(group) // 2 :] *= -1.0
        groups.append(group)
    bad = np.vstack(groups)
    X = np.vstack([bad, rng.standard_normal((4 * len(bad), d))])
    return X - X.mean(axis=0), np.arange(len(X)) < len(bad)


def full_svd(X: Any) -> Any:
    """The published recipe: scores from the SVD of the rows in float64."""
    gap = X.astype(np.float64) - X.mean(axis=0)
    _, s, v = np.linalg.svd(gap, full_matrices=False)
    weights = np.exp(4.0 * (np.square(s / s[0]) - 1.0))
    return np.square(gap @ v.T) @ (weights / weights.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    from sklearn.ensemble import IsolationForest
    from sklearn.metrics import roc_auc_score

    names = ["ambient", "k", "exact", "sketch", "naive", "l2", "isolation_forest"]
    lines = [names]
    for ambient in (1.0, 0.1):
        for k in (1, 4, 7, 10):
            X, y = mixture(k, ambient)
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
    np.testing.assert_allclose(tamis.que_scores(X), full_svd(X), rtol=1e-2)
    calls = {
        "svd": lambda: full_svd(X),
        "exact": lambda: tamis.que_scores(X),
        "sketch": lambda: tamis.que_scores(X, method="sketch"),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(args.rounds):
        for name, call in calls.items():
            start = perf_counter()
            call()
            times[name].append(perf_counter() - start)
    for name, seconds in times.items():
        ratio = median(a / b for a, b in zip(times["svd"], seconds, strict=True))
        print(f"10000 x 512 {name}: {median(seconds):.3f} s, {ratio:.1f} times as fast as the SVD")


if __name__ == "__main__":
    main()
