"""What a round of SEVER costs beside the learner's own fit, and what not forming gradients saves.

    python bench/sever_speed.py            # about 2 minutes on one core; CPU time, interleaved
    python bench/sever_speed.py --quick    # smaller gradients, fewer repeats

A round is the gradients at the fit, their top direction and the cut. Implicit and formed gradients
are checked against each other first; memory is what Python's allocators gave beyond the data.
"""

from __future__ import annotations

import argparse
import tracemalloc
import warnings
from collections.abc import Callable
from statistics import median
from time import process_time
from typing import Any

import numpy as np
from scipy.sparse.linalg import svds
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from _data import require_data_dir
from sever_ridge import drug
from sever_svm import load
from tamis.sever import OuterGradients, losses
from tamis.sever._spectrum import spectrum


def seconds(call: Callable[[], Any]) -> float:
    start = process_time()
    call()
    return process_time() - start


def compare(first: Callable[[], Any], second: Callable[[], Any], repeats: int) -> list[float]:
    """CPU seconds of the first over those of the second, pair by pair."""
    first()
    second()
    return [seconds(first) / seconds(second) for _ in range(repeats)]


def peak(call: Callable[[], Any]) -> float:
    tracemalloc.start()
    call()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most / 1e6


def rounds(repeats: int) -> None:
    folder = require_data_dir()
    X, y, _, _, penalty = drug(folder)
    X = np.ascontiguousarray(X)  # as `SeverRegressor` has it
    model = make_pipeline(StandardScaler(), Ridge(alpha=penalty)).fit(X, y)
    scaled = model[0].transform(X)
    ridge = clone(model[1]).fit(scaled, y)

    def ridge_round(Z: Any) -> Any:
        a = losses.squared(ridge.predict(Z), y)
        return spectrum(OuterGradients(a, Z, intercept=True, center=Z.mean(axis=0)))

    for name, once, fit in (
        ("standardised before", lambda: ridge_round(scaled), lambda: ridge.fit(scaled, y)),
        (
            "behind a StandardScaler",
            lambda: ridge_round(model[0].transform(X)),
            lambda: model.fit(X, y),
        ),
    ):
        found = compare(once, fit, repeats)
        print(f"a round beside a fit, Ridge on drug data, {name + ':':26s}{median(found):.2f}")
    counts, spam, _, _ = load(folder)
    hinge = LinearSVC(loss="hinge", C=1.0 / (len(spam) * 0.09), max_iter=100_000)
    for svm, derivative, k, name in (
        (LinearSVC(), losses.squared_hinge, 1, "by default"),
        (hinge, losses.hinge, 3, "hinge of the protocol"),
    ):
        found = compare(
            svm_round(svm, derivative, k, counts, spam), refit(svm, counts, spam), repeats
        )
        print(f"a round beside a fit, LinearSVC on Enron, {name + ':':26s}{median(found):.2f}")


def refit(svm: Any, counts: Any, spam: Any) -> Callable[[], Any]:
    def call() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # at 1000 iterations, the default
            return svm.fit(counts, spam)

    call()
    return call


def svm_round(svm: Any, derivative: Any, k: int, counts: Any, spam: Any) -> Callable[[], Any]:
    def call() -> Any:
        a = derivative(svm.decision_function(counts), spam.astype(float))
        center = np.asarray(counts.mean(axis=0)).ravel()
        rows = OuterGradients(a, counts, intercept=True, center=center)
        return [spectrum(rows.take(np.flatnonzero(spam == c)), k) for c in (-1, 1)]

    return call


def implicit(n: int, p: int, repeats: int) -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, p))
    X[: n // 20] += 0.5
    a = rng.standard_normal(n) + np.where(np.arange(n) < n // 20, 3.0, 0.0)

    def outer() -> Any:
        return spectrum(OuterGradients(a, X))

    def formed() -> Any:
        return spectrum(a[:, None] * X)

    def gram() -> Any:
        rows = a[:, None] * X
        rows -= rows.mean(axis=0)
        return rows @ np.linalg.eigh(rows.T @ rows)[1][:, -1]

    def arpack() -> Any:
        rows = a[:, None] * X
        rows -= rows.mean(axis=0)
        u, size, _ = svds(rows, 1, random_state=0)
        return u[:, 0] * size

    wanted = np.abs(gram())
    for lengths in (outer().lengths, formed().lengths, np.abs(arpack())):
        if not np.allclose(lengths, wanted, atol=1e-2 * wanted.max()):
            raise SystemExit("implicit and formed gradients disagree")
    print(f"\ngradients {n} x {p}: others over implicit, CPU time; memory beyond the data")
    for name, call, times in (
        ("formed, tamis", formed, repeats),
        ("formed, SciPy's svds", arpack, 1),
        ("formed, covariance and eigh", gram, 1),
    ):
        ratio = median(compare(call, outer, times))
        print(f"{name:30s} {ratio:6.1f} times as long, {peak(call):7.0f} MB")
    print(f"{'implicit':30s} {'':20s}{peak(outer):7.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    rounds(3 if args.quick else 9)
    implicit(*((4000, 500) if args.quick else (20_000, 5000)), 3)


if __name__ == "__main__":
    main()
