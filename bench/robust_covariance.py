"""Robust covariance: excess error on the published mixtures, time against the published filter.

    python bench/robust_covariance.py [--seeds 5] [--dims 10 20 ...] [--peer 40]

The peer is the published filter's step, the dense degree-2 matrix of every row (N x d^2) and the
search over its tail constant, ported to NumPy. Writes results/robust_covariance.csv.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import tamis

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from published_mixtures import for_covariance

RESULTS = Path(__file__).parent / "results"


def published(X: Any, eps: float, tau: float, constant: float) -> tuple[Any, int]:
    """The published filter with one tail constant: its covariance and the number of rows kept."""
    while True:
        n, d = X.shape
        if n < d:
            return np.zeros((d, d)), 0
        S = X.T @ X / n
        w, U = np.linalg.eigh(S)
        if w[-1] > 1e4 * w[0]:
            return np.zeros((d, d)), 0
        Z = X @ (U / np.sqrt(w)) @ U.T
        near = np.square(Z).sum(axis=1) <= 0.4 * d * np.log(n / tau)
        if not near.all():
            X = X[near]
            continue
        products = (Z[:, :, None] * Z[:, None, :]).reshape(n, d * d)
        F = products.T @ products / n
        eye = np.eye(d).ravel()
        F -= np.outer(eye, eye)
        from scipy.sparse.linalg import eigsh

        value, vector = eigsh(F, 1, which="LM")
        if value[0] / 2 < 1.0:
            return S, n
        p = np.einsum("ij,jk,ik->i", Z, vector.reshape(d, d) / np.sqrt(2), Z, optimize=True)
        s = np.abs(p - p.mean())
        order = np.argsort(s)
        tail = n * (12 * np.exp(-constant * s[order]) + 3 * eps / (d * np.log(n / tau)) ** 2)
        cut = np.flatnonzero(n - np.arange(1, n + 1) > tail)
        if not cut.size or cut[0] == 0 or cut[0] == n - 1:
            return S, n
        X = X[order[: cut[0] + 1]]


def tuned(X: Any, eps: float = 0.05, tau: float = 0.1) -> Any:
    """The search for a constant with which .5 to 1.5 eps n rows go."""
    n = len(X)
    low, high, constant = 0.0, np.inf, 2.0
    C = np.zeros((X.shape[1], X.shape[1]))
    for _ in range(20):
        C, kept = published(X, eps, tau, constant)
        gone = n - kept
        if 0.5 * eps * n < gone < 1.5 * eps * n:
            break
        if gone >= 1.5 * eps * n:
            high = constant
            constant = constant / 2 if low == 0.0 else (low + high) / 2
        else:
            low = constant
            constant = constant * 2 if np.isinf(high) else (low + high) / 2
    return C


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--dims", type=int, nargs="+", default=list(range(10, 101, 10)))
    parser.add_argument("--peer", type=int, default=0, help="time the published filter at this d")
    args = parser.parse_args()
    lines: list[list[Any]] = []
    for panel in ("isotropic", "spiked"):
        for d in args.dims:
            for seed in range(args.seeds):
                X, diagonal, bad = for_covariance(panel, d, np.random.default_rng([d, seed]))
                scale = np.sqrt(np.outer(diagonal, diagonal))

                def error(C: Any, scale: Any = scale, d: int = d) -> float:
                    return float(np.linalg.norm(C / scale - np.eye(d)))

                base = error(X[bad:].T @ X[bad:] / (len(X) - bad))
                noisy = error(X.T @ X / len(X)) - base
                start = perf_counter()
                found = tamis.RobustCovariance(0.05, assume_centered=True).fit(X)
                seconds = perf_counter() - start
                excess = error(found.covariance_) - base
                left = int(found.support_[:bad].sum())
                lost = int((~found.support_[bad:]).sum())
                peer: list[Any] = ["", ""]
                if d == args.peer and seed == 0:
                    start = perf_counter()
                    other = error(tuned(X)) - base
                    peer = [f"{other:.4f}", f"{perf_counter() - start:.2f}"]
                line = [panel, d, seed, f"{noisy:.4f}", f"{excess:.4f}", left, lost]
                lines.append([*line, f"{seconds:.3f}", *peer])
                print(*lines[-1], sep="\t", flush=True)
    with (RESULTS / "robust_covariance.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        head = "panel d seed noisy_excess excess bad_left good_lost seconds"
        writer.writerow([*head.split(), "published_excess", "published_seconds"])
        writer.writerows(lines)


if __name__ == "__main__":
    main()
