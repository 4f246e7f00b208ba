"""What a round of SEVER costs beside the learner's own fit, and what not forming gradients saves.

    python bench/sever_speed.py            # about 2 minutes on one core; CPU time, interleaved
    python bench/sever_speed.py --quick    # smaller gradients, fewer repeats
    OPENBLAS_CORETYPE=Haswell python bench/sever_speed.py --blas-as-set    # fits by slower products

A round is a fit and what follows it: the gradients there, their top direction, the cut and the copy
of what stays. So a round's share is all that `SeverRegressor` and `SeverClassifier` do outside of
the learner's fits, over those; over the rounds in their history, of which there is one fewer than
fits (the last look changes nothing and is not in it), it is given beside that.
Implicit and formed gradients are checked against each other first; memory is what Python's
allocators gave beyond the data.
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
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from _data import require_data_dir
from _timing import use_full_speed_blas
from sever_ridge import drug
from sever_svm import load
from tamis.sever import OuterGradients, SeverClassifier, SeverRegressor
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


def timed(kind: type[Any]) -> type[Any]:
    """The learner, which adds up the CPU seconds of its fits in ``kind.inside``."""

    class Timed(kind):  # type: ignore[misc]
        inside = 0.0
        fits = 0

        def fit(self, *args: Any, **keywords: Any) -> Any:
            start = process_time()
            try:
                return super().fit(*args, **keywords)
            finally:
                Timed.inside += process_time() - start
                Timed.fits += 1

    Timed.__name__ = kind.__name__  # SEVER knows losses by the learner's name
    return Timed


def beside_fits(
    kind: type[Any], make: Callable[[], Any], X: Any, y: Any, repeats: int
) -> tuple[float, float]:
    """All but the fits over all fits; and over the rounds in the history, over a mean fit."""
    found = []
    for _ in range(repeats):
        kind.inside, kind.fits = 0.0, 0
        model = make()
        total = seconds(lambda model=model: model.fit(X, y))
        share = (total - kind.inside) / kind.inside
        found.append((share, share * kind.fits / max(len(model.history_), 1)))
    return median(each for each, _ in found), median(each for _, each in found)


def rounds(repeats: int) -> None:
    folder = require_data_dir()
    X, y, _, _, penalty = drug(folder)
    scaled = StandardScaler().fit_transform(np.ascontiguousarray(X))
    counts, spam, _, _ = load(folder)
    ridge, svm = timed(Ridge), timed(LinearSVC)
    cases: dict[str, tuple[type[Any], Callable[[], Any], Any, Any]] = {
        "Ridge, drug data": (
            ridge,
            lambda: SeverRegressor(ridge(alpha=penalty), contamination=0.05),
            scaled,
            y,
        ),
        "LinearSVC, Enron": (svm, lambda: SeverClassifier(svm(), 0.05), counts, spam),
        "LinearSVC, Enron, hinge of the protocol": (
            svm,
            lambda: SeverClassifier(
                svm(loss="hinge", C=1.0 / (len(spam) * 0.09), max_iter=100_000), 0.05
            ),
            counts,
            spam,
        ),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # at 1000 iterations, the default
        for name, case in cases.items():
            share, listed = beside_fits(*case, repeats)
            print(f"beyond fits, over fits, {name + ':':41s}{share:.2f}, by history {listed:.2f}")


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
    parser.add_argument(
        "--blas-as-set", action="store_true", help="keep OPENBLAS_CORETYPE, which slows the fits"
    )
    args = parser.parse_args()
    if not args.blas_as_set:
        use_full_speed_blas()
    rounds(3 if args.quick else 9)
    implicit(*((4000, 500) if args.quick else (20_000, 5000)), 3)


if __name__ == "__main__":
    main()
