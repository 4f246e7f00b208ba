"""Products, sums, gradients, top eigenpairs: tamis, NumPy, torch, SciPy and scikit-learn.

    python bench/power_iteration.py [--quick] [--json] [--rounds R] [--threads T ...] [--cpu-time]

Products: 100,000 x 512 in float32, times 1 and 8 vectors; the last lines of a case read the same
rows once and write nothing, the machine's limit. Weighted sums: 4 at once, of those rows and of
3,000 x 410 in float64, which stay in the cache. Gradients of a regression (linear_gradients): of
the same, with 4 directions. Eigenpairs: a planted spike over noise, and eigenvalues that decay
slowly; every solver must reach the same residual, checked in float64, and is tuned before it is
timed (peers_spectral.py). Past the usual 400 lines by a few: one table of peers.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

import _timing
import peers
import peers_spectral
import tamis
from tamis import reference

Array = NDArray[Any]
Calls = dict[str, Callable[[], Any]]
Clock = Callable[[], float]

TAMIS, SIMPLE = "tamis", "tamis, method power"
NUMPY, TORCH = "numpy X.T @ (X @ V)", "torch x.T @ (x @ v)"
EIGSH, TUNED_EIGSH = "scipy eigsh, implicit", "scipy eigsh, best basis"
TSVD, POWER = "sklearn TruncatedSVD", "numpy power iteration"
COV_EIGSH, COV_EIGH = "covariance, scipy eigsh", "covariance, scipy eigh"
TOL = 1e-4  # residual over the top eigenvalue
READ_SHARE = 0.75
TARGETS = {NUMPY: 1.6, TORCH: 4.0, EIGSH: 10.0, TUNED_EIGSH: 10.0, TSVD: 8.0, POWER: 2.5}
SEED = 3


@dataclass(frozen=True)
class Case:
    """``spectrum`` of the covariance that the rows are drawn from."""

    n: int
    d: int
    spectrum: str = "spike"
    k: int = 1

    def variances(self) -> Array:
        if self.spectrum == "spike":  # the noise alone reaches (1 + sqrt(d/n))^2: 1.2 and 1.7
            return np.concatenate([[4.0], np.ones(self.d - 1)])
        return np.arange(1, self.d + 1) ** -0.5

    def rows(self) -> Array:
        """Normal rows in float32, in random axes, about a mean that is not 0."""
        rng = np.random.default_rng([SEED, self.n, self.d])
        mirror = rng.standard_normal(self.d)
        mirror /= np.linalg.norm(mirror)
        shift = 0.5 * rng.standard_normal(self.d)
        scale = np.sqrt(self.variances()).astype(np.float32)
        X = np.empty((self.n, self.d), np.float32)
        for start in range(0, self.n, 4096):
            block = rng.standard_normal(X[start : start + 4096].shape, np.float32) * scale
            X[start : start + 4096] = block - 2.0 * np.outer(block @ mirror, mirror) + shift
        return X


PRODUCTS = (Case(100_000, 512), Case(100_000, 512, k=8))
SUMS = 4
SMALL_SUMS = (3_000, 410)
EIGENPAIRS = (
    Case(50_000, 512),
    Case(50_000, 512, "power law"),
    Case(20_000, 2048),
    Case(20_000, 2048, "power law"),
)
QUICK_EIGENPAIRS = (Case(20_000, 512),)


def exact_covariance(X: Array) -> Array:
    """(d, d) in float64, a block of rows at a time."""
    mean = X.mean(axis=0, dtype=np.float64)
    total = np.zeros((X.shape[1], X.shape[1]))
    for start in range(0, len(X), 8192):
        rows = X[start : start + 8192] - mean
        total += rows.T @ rows
    return total / len(X)


# ---- products ------------------------------------------------------------------------------------


def product_calls(X: Array, V: Array, threads: int) -> Calls:
    calls: Calls = {
        TAMIS: lambda: tamis.covariance_apply(X, V, num_threads=threads),
        NUMPY: peers_spectral.numpy_two_pass(X, V),
    }
    if peers.torch_or_none() is not None:
        calls[TORCH] = peers_spectral.torch_two_pass(X, V)
    return {**calls, **peers_spectral.reads(X, threads)}


def check_products(X: Array, V: Array, covariance: Array, calls: Calls) -> None:
    """Against float64. Tolerance: float32 sums of 128 rows (tamis) or all of them (peers)."""
    mean = X.mean(axis=0, dtype=np.float64)
    centred = covariance @ V
    raw = len(X) * (centred + np.multiply.outer(mean, mean @ V))
    for name, exact, tolerance in ((TAMIS, centred, 1e-5), (NUMPY, raw, 1e-3), (TORCH, raw, 1e-3)):
        if name in calls:
            error = np.abs(np.asarray(calls[name]()) - exact).max() / np.abs(exact).max()
            if not error <= tolerance:
                sys.exit(f"wrong result, not timed: {name}, relative error {error:.1e}")


def measure_products(
    case: Case, X: Array, exact: Array, threads: int, rounds: int, clock: Clock
) -> dict[str, Any]:
    rng = np.random.default_rng(SEED)
    V = rng.standard_normal((case.d, case.k) if case.k > 1 else case.d, np.float32)
    calls = product_calls(X, V, threads)
    times = _timing.interleave(
        calls, check=lambda: check_products(X, V, exact, calls), rounds=rounds, clock=clock
    )
    results = summarise(times)
    read = min((name for name in times if name.startswith("read")), key=lambda s: median(times[s]))
    share = _timing.spread(_timing.ratios(times, read, TAMIS))
    if case.k > 1:  # the targets are stated for one vector
        for result in results.values():
            result.pop("target", None)
    return {
        "case": f"covariance_apply, {case.n} x {case.d}, float32, k = {case.k}",
        "threads": threads,
        "results": results,
        "read": {
            "by": read,
            "bytes_per_second": X.nbytes / median(times[read]),
            "share_reached": share,
            **({"target": READ_SHARE} if case.k == 1 else {}),
        },
    }


# ---- weighted sums -------------------------------------------------------------------------------


def measure_sums(X: Array, threads: int, rounds: int, clock: Clock) -> dict[str, Any]:
    n, d = X.shape
    U = np.random.default_rng(SEED).standard_normal((SUMS, n)).astype(X.dtype)
    exact = U.astype(np.float64) @ X.astype(np.float64)
    calls: Calls = {
        TAMIS: lambda: tamis.weighted_sums(X, U, num_threads=threads),
        **peers_spectral.sums(X, U),
    }

    def check() -> None:
        """Tolerance: n terms of either sign, rounded as often at worst."""
        tolerance = n * np.finfo(X.dtype).eps
        for name, call in calls.items():
            error = np.abs(np.asarray(call()) - exact).max() / np.abs(exact).max()
            if not error <= tolerance:
                sys.exit(f"wrong result, not timed: {name}, relative error {error:.1e}")

    times = _timing.interleave(calls, check=check, rounds=rounds, clock=clock)
    return {
        "case": f"weighted_sums, {n} x {d}, {X.dtype}, j = {SUMS}",
        "threads": threads,
        "results": summarise(times),
    }


def measure_gradients(X: Array, threads: int, rounds: int, clock: Clock) -> dict[str, Any]:
    n, d = X.shape
    rng = np.random.default_rng(SEED)
    y, coef, V = (rng.standard_normal(shape) for shape in (n, d, (d, SUMS)))
    epsilon = 1.345
    want = reference.linear_gradients(X.astype(float), y, coef, 0.0, V, epsilon=epsilon)

    def ours() -> tuple[Array, Array]:
        found = tamis.linear_gradients(X, y, coef, 0.0, V, epsilon=epsilon, num_threads=threads)
        return found.squares, found.product

    calls: Calls = {TAMIS: ours, **peers_spectral.gradients(X, y, coef, V, epsilon, threads)}

    def check() -> None:
        """Of rows about 0 nobody loses much; relative to the largest number."""
        for name, call in calls.items():
            for got, exact in zip(call(), (want.squares, want.product), strict=True):
                error = np.abs(np.asarray(got) - exact).max() / np.abs(exact).max()
                if not error <= 1e4 * np.finfo(X.dtype).eps:
                    sys.exit(f"wrong result, not timed: {name}, relative error {error:.1e}")

    times = _timing.interleave(calls, check=check, rounds=rounds, clock=clock)
    return {
        "case": f"linear_gradients, {n} x {d}, {X.dtype}, k = {SUMS}",
        "threads": threads,
        "results": summarise(times),
    }


# ---- eigenpairs ----------------------------------------------------------------------------------


class Exact:
    """The float64 answer, and the residual of a vector."""

    def __init__(self, X: Array) -> None:
        from scipy.linalg import eigh

        self.covariance = exact_covariance(X)
        top = [X.shape[1] - 1] * 2
        self.value = float(eigh(self.covariance, subset_by_index=top, eigvals_only=True)[0])

    def residual(self, vector: Array) -> float:
        """||A v - (v.A v) v|| over the top eigenvalue; infinite for another eigenvalue's vector."""
        v = vector.astype(np.float64)
        v /= np.linalg.norm(v)
        image = self.covariance @ v
        value = float(v @ image)
        if value < (1.0 - 1e-3) * self.value:
            return float("inf")
        return float(np.linalg.norm(image - value * v)) / self.value

    def accept(self, vector: Array) -> bool:
        return self.residual(vector) <= TOL


class Solvers:
    """The callables of a case, each giving the top eigenvector, and the settings they run with.

    The peers are tuned once, on all threads.
    """

    def __init__(self, X: Array, exact: Exact) -> None:
        self.X = X
        self.threads = 1
        self.settings: dict[str, str] = {}
        self.calls: Calls = {TAMIS: lambda: self.tamis("lanczos", TAMIS)}
        self.calls[SIMPLE] = lambda: self.tamis("power", SIMPLE)
        count = [0]
        self.calls[EIGSH] = peers_spectral.scipy_eigsh(X, None, TOL, 0, count)
        self.calls[EIGSH]()
        self.settings[EIGSH] = f"ncv 20, {count[0]} products"
        self.add(TUNED_EIGSH, peers_spectral.tuned_scipy_eigsh(X, TOL, exact.accept))
        self.add(TSVD, peers_spectral.tuned_truncated_svd(X, exact.accept))
        self.add(POWER, peers_spectral.tuned_numpy_power(X, TOL, exact.accept))
        self.calls[COV_EIGSH] = peers_spectral.covariance_eigsh(X, TOL)
        self.calls[COV_EIGH] = peers_spectral.covariance_eigh(X)

    def add(self, name: str, tuned: tuple[str, Callable[[], Array]] | None) -> None:
        if tuned is not None:
            self.settings[name], self.calls[name] = tuned

    def tamis(self, method: Any, name: str) -> Array:
        found = tamis.power_iteration(self.X, tol=TOL, method=method, num_threads=self.threads)
        self.settings[name] = f"{found.iterations} passes"
        return np.asarray(found.vectors[:, 0])


def measure_eigenpairs(
    case: Case, solvers: Solvers, exact: Exact, threads: int, rounds: int, clock: Clock
) -> dict[str, Any]:
    solvers.threads = threads
    residuals: dict[str, float] = {}

    def check() -> None:
        for name, call in solvers.calls.items():
            residuals[name] = exact.residual(call())
            if not residuals[name] <= TOL:
                sys.exit(f"residual {residuals[name]:.1e}, not timed: {name}")

    results = summarise(
        _timing.interleave(solvers.calls, check=check, rounds=rounds, warmup=1, clock=clock)
    )
    for name, result in results.items():
        result["residual"] = residuals[name]
        result["settings"] = solvers.settings.get(name, "")
    return {
        "case": f"top eigenpair, {case.n} x {case.d}, float32, {case.spectrum}",
        "threads": threads,
        "results": results,
    }


# ---- what is printed -----------------------------------------------------------------------------


def summarise(times: _timing.Times) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for name, seconds in times.items():
        results[name] = {
            "seconds": _timing.spread(seconds),
            "ratio": _timing.spread(_timing.ratios(times, name, TAMIS)),
        }
        if name in TARGETS:
            results[name]["target"] = TARGETS[name]
    return results


def show(measured: dict[str, Any]) -> str:
    rows = []
    for name, result in measured["results"].items():
        seconds, ratio = result["seconds"], result["ratio"]
        text = ["", ""]
        if name != TAMIS:
            text = [
                f"{ratio['median']:.2f}",
                f"{ratio['quartile_1']:.2f}-{ratio['quartile_3']:.2f}",
            ]
        if "target" in result:
            text[0] = f"{text[0]} (of {result['target']:g})"
        extra = []
        if "residual" in result:
            extra = [f"{result['residual']:.0e}", result["settings"]]
        rows.append(
            [
                name,
                f"{1e3 * seconds['median']:.3g}",
                f"{1e3 * seconds['quartile_1']:.3g}-{1e3 * seconds['quartile_3']:.3g}",
                *text,
                *extra,
            ]
        )
    header = ["", "ms", "quartiles", "ratio", "quartiles"]
    header += ["residual", "settings"] if len(rows[0]) > len(header) else []
    threads = measured["threads"]
    title = f"{measured['case']}, {threads} thread{'s' if threads > 1 else ''}"
    lines = [title, _timing.table(header, rows)]
    if "read" in measured:
        read, share = measured["read"], measured["read"]["share_reached"]
        wanted = f" (of {100 * read['target']:.0f})" if "target" in read else ""
        lines.append(
            f"reads at best {read['bytes_per_second'] / 1e9:.1f} GB/s ({read['by'][6:]}); tamis "
            f"reaches {100 * share['median']:.0f}%{wanted} of it, quartiles "
            f"{100 * share['quartile_1']:.0f}-{100 * share['quartile_3']:.0f}"
        )
    return "\n".join(lines)


def main() -> int:
    _timing.use_full_speed_blas()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    _timing.add_arguments(parser)
    parser.add_argument("--threads", type=int, nargs="+", metavar="T", help="default: 1 2")
    args = parser.parse_args()
    if args.cpu_time and args.threads not in (None, [1]):
        parser.error("--cpu-time adds up the time of all threads, so it goes with --threads 1 only")
    thread_counts = args.threads or ([1] if args.cpu_time else [1, 2])
    clock = _timing.clock_for(args)
    facts = _timing.machine(("numpy", "scipy", "torch", "scikit-learn", "threadpoolctl"))
    measured: list[dict[str, Any]] = []
    if not args.json:
        print(
            f"{_timing.describe(facts)}\n\nseed {SEED}; {_timing.clock_name(args)}; ratio: to the "
            f"time of tamis; residual: of the eigenpair, over the eigenvalue, wanted {TOL:g}\n"
        )

    def report(result: dict[str, Any]) -> None:
        measured.append(result)
        if not args.json:
            print(show(result), end="\n\n", flush=True)

    product_rounds = args.rounds or (5 if args.quick else 31)
    X = PRODUCTS[0].rows()
    covariance = exact_covariance(X)
    for case in PRODUCTS[:1] if args.quick else PRODUCTS:  # the rows are the same
        for threads in thread_counts:
            peers.set_threads(threads)
            report(measure_products(case, X, covariance, threads, product_rounds, clock))
    few = np.random.default_rng(SEED).standard_normal(SMALL_SUMS)
    for rows, repeats in ((X, 1), (few, 9)):  # short calls take little time
        for threads in thread_counts:
            peers.set_threads(threads)
            report(measure_sums(rows, threads, repeats * product_rounds, clock))
            report(measure_gradients(rows, threads, repeats * product_rounds, clock))
    eigen_rounds = args.rounds or (3 if args.quick else 15)
    for case in QUICK_EIGENPAIRS if args.quick else EIGENPAIRS:
        X = case.rows()
        peers.set_threads(max(thread_counts))
        exact = Exact(X)
        solvers = Solvers(X, exact)
        for threads in thread_counts:
            peers.set_threads(threads)
            report(measure_eigenpairs(case, solvers, exact, threads, eigen_rounds, clock))
    if args.json:
        result = {
            "benchmark": "power_iteration",
            "machine": facts,
            "clock": _timing.clock_name(args),
            "seed": SEED,
            "rounds": {"products": product_rounds, "eigenpairs": eigen_rounds},
            "measured": measured,
        }
        print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
