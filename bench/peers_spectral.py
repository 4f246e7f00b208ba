"""What the spectral core is compared with: NumPy, torch, SciPy and scikit-learn at their best.

Functions that take rows return a callable that does the whole work once. Products with the
covariance centre the projections, not the rows: no copy of X, and nothing cancels in float32.
Peers with settings have a `tuned_...` function: it tries them before anything is timed, and keeps
the fastest one whose answer ``accept`` takes.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

import peers
import tamis

Array = NDArray[Any]
Solve = Callable[[], Array]  # one eigenvector, (d,)
Accept = Callable[[Array], bool]

# ---- one product, and the memory -----------------------------------------------------------------


def numpy_two_pass(X: Array, V: Array) -> Callable[[], Array]:
    """The textbook line: both products read all of X, the rows are not centred."""
    return lambda: np.asarray(X.T @ (X @ V))


def torch_two_pass(X: Array, V: Array) -> Callable[[], Any]:
    """The same by torch, on the same memory."""
    import torch

    x, v = torch.from_numpy(X), torch.from_numpy(V)
    return lambda: x.T @ (x @ v)


def sums(X: Array, U: Array) -> dict[str, Callable[[], Any]]:
    """Weighted sums of the rows: one product, and one product a sum, which reads X as often."""
    calls: dict[str, Callable[[], Any]] = {
        "numpy U @ X": lambda: np.asarray(U @ X),
        "numpy u @ X, one by one": lambda: np.stack([u @ X for u in U]),
    }
    torch = peers.torch_or_none()
    if torch is not None:
        x, u = torch.from_numpy(X), torch.from_numpy(U)
        calls["torch u @ x"] = lambda: u @ x
    return calls


def gradients(
    X: Array, y: Array, coef: Array, V: Array, epsilon: float, threads: int
) -> dict[str, Callable[[], tuple[Array, Array]]]:
    """What linear_gradients finds, one read after the other: by BLAS, and by other operations.

    Returned are ``sum a_i^2 (x_i - c)`` and the product. BLAS wants numbers of X's dtype.
    """
    kind = X.dtype

    def coefficients() -> Array:
        return np.asarray(np.clip(X @ coef.astype(kind) - y, -epsilon, epsilon))

    def numpy() -> tuple[Array, Array]:
        a = coefficients()
        U = np.stack([np.full(len(a), 1.0 / len(a)), a, np.square(a)]).astype(kind)
        center, _, squares = U @ X
        block = V.astype(kind)
        Z = U[2, :, None] * (X @ block - center @ block)
        moved = squares - U[2].sum() * center
        return moved, np.asarray(X.T @ Z - np.multiply.outer(center, Z.sum(axis=0)))

    def ours() -> tuple[Array, Array]:
        a = coefficients()
        U = np.stack([np.full(len(a), 1.0 / len(a)), a, np.square(a)])
        center, _, squares = tamis.weighted_sums(X, U, num_threads=threads)
        total = U[2].sum()
        product = tamis.covariance_apply(X, V, weights=U[2], mean=center, num_threads=threads)
        return squares - total * center, total * product

    return {"numpy, read by read": numpy, "tamis, read by read": ours}


def reads(X: Array, threads: int) -> dict[str, Callable[[], Any]]:
    """Reductions that read X once and write nothing: the fastest one is the memory's limit."""
    flat = X.reshape(-1)
    parts = np.array_split(flat, threads)
    pool = ThreadPoolExecutor(threads)
    calls: dict[str, Callable[[], Any]] = {
        "read: numpy max": lambda: list(pool.map(np.max, parts)),
        "read: numpy dot": lambda: np.dot(flat, flat),
    }
    torch = peers.torch_or_none()
    if torch is not None:
        tensor = torch.from_numpy(flat)
        calls["read: torch sum"] = lambda: torch.sum(tensor)
        calls["read: torch amax"] = lambda: torch.amax(tensor)
    return calls


# ---- the top eigenvector -------------------------------------------------------------------------


def column_means(X: Array) -> Array:
    """By a matrix product, which beats ``X.mean(axis=0)``."""
    n = X.shape[0]
    return np.asarray(np.full(n, 1.0 / n, X.dtype) @ X)


def covariance_product(X: Array, mean: Array, V: Array, chunk: int) -> Array:
    """Covariance times V, (d, k); with chunks that fit into the cache X is read once, not twice."""
    shift = mean @ V
    total = np.zeros((X.shape[1], V.shape[1]), X.dtype)
    for start in range(0, X.shape[0], chunk):
        rows = X[start : start + chunk]
        projected = rows @ V
        projected -= shift
        total += rows.T @ projected
        total -= np.outer(mean, projected.sum(axis=0))
    total /= X.shape[0]
    return total


def scipy_eigsh(X: Array, ncv: int | None, tol: float, seed: int, count: list[int]) -> Solve:
    """ARPACK on the implicit operator, in the dtype of X; ``count[0]``: products of the last run.

    ncv is the size of the basis; None is SciPy's default of 20.
    """
    from scipy.sparse.linalg import LinearOperator, eigsh

    d = X.shape[1]
    start = np.random.default_rng(seed).standard_normal((d,)).astype(X.dtype)

    def solve() -> Array:
        count[0] = 0
        mean = column_means(X)

        def product(v: Array) -> Array:
            count[0] += 1
            projected = X @ v.reshape(-1)
            projected -= mean @ v.reshape(-1)
            return np.asarray((projected @ X - mean * projected.sum()) / len(X))

        operator = LinearOperator((d, d), matvec=product, dtype=X.dtype)
        vectors = eigsh(operator, k=1, which="LA", ncv=ncv, tol=tol, v0=start)[1]
        return np.asarray(vectors[:, 0])

    return solve


def tuned_scipy_eigsh(X: Array, tol: float, accept: Accept, seed: int = 0) -> tuple[str, Solve]:
    """The basis size with the fewest products; a small one can stop early, but restarts more often.

    No user knows it beforehand.
    """
    from scipy.sparse.linalg import ArpackNoConvergence

    best: tuple[int, int, Solve] | None = None
    for ncv in (3, 4, 6, 8, 12, 20):
        count = [0]
        solve = scipy_eigsh(X, ncv, tol, seed, count)
        try:
            good = accept(solve())
        except ArpackNoConvergence:
            continue
        if good and (best is None or count[0] < best[0]):
            best = (count[0], ncv, solve)
    if best is None:
        raise RuntimeError("scipy eigsh: no setting reaches the residual")
    return f"ncv {best[1]}, {best[0]} products", best[2]


def covariance_matrix(X: Array) -> Array:
    """The (d, d) covariance by one matrix product, in the dtype of X."""
    mean = column_means(X)
    return np.asarray((X.T @ X) / len(X) - np.outer(mean, mean))


def covariance_eigsh(X: Array, tol: float, seed: int = 0) -> Solve:
    from scipy.sparse.linalg import eigsh

    start = np.random.default_rng(seed).standard_normal(X.shape[1:]).astype(X.dtype)
    return lambda: np.asarray(
        eigsh(covariance_matrix(X), k=1, which="LA", tol=tol, v0=start)[1][:, 0]
    )


def covariance_eigh(X: Array) -> Solve:
    """LAPACK on the covariance, the top pair only."""
    from scipy.linalg import eigh

    top = [X.shape[1] - 1] * 2
    return lambda: np.asarray(
        eigh(covariance_matrix(X), subset_by_index=top, check_finite=False)[1][:, 0]
    )


def tuned_truncated_svd(X: Array, accept: Accept, seed: int = 0) -> tuple[str, Solve] | None:
    """The fewest iterations that are enough. The rows are centred beforehand: that is not timed."""
    try:
        from sklearn.decomposition import TruncatedSVD
    except ImportError:
        return None
    centred = X - column_means(X)

    def solver(n_iter: int) -> Solve:
        return lambda: np.asarray(
            TruncatedSVD(1, n_iter=n_iter, random_state=seed).fit(centred).components_[0]
        )

    for n_iter in range(1, 200):
        if accept(solver(n_iter)()):
            return f"{n_iter} iterations", solver(n_iter)
    raise RuntimeError("TruncatedSVD: 200 iterations do not reach the residual")


def numpy_power(X: Array, width: int, chunk: int, tol: float, seed: int, count: list[int]) -> Solve:
    """Subspace iteration with Rayleigh-Ritz, stopped by the residual; width 1: power iteration."""
    d = X.shape[1]
    start = np.random.default_rng(seed).standard_normal((d, width)).astype(X.dtype)

    def solve() -> Array:
        mean = column_means(X)
        block = np.linalg.qr(start)[0]
        count[0] = 0
        for _ in range(1000):
            count[0] += 1
            image = covariance_product(X, mean, block, chunk)
            small = block.T @ image
            values, rotation = np.linalg.eigh(0.5 * (small + small.T))
            top = rotation[:, -1]
            vector = block @ top
            if np.linalg.norm(image @ top - values[-1] * vector) <= tol * values[-1]:
                break
            block = np.linalg.qr(image)[0]
        return np.asarray(vector)

    return solve


def tuned_numpy_power(X: Array, tol: float, accept: Accept, seed: int = 0) -> tuple[str, Solve]:
    """The fastest of some block widths, with X whole and in chunks that stay in the cache."""
    n, d = X.shape
    best: tuple[float, str, Solve] | None = None
    for width in (1, 2, 4, 8):
        for chunk in (n, max((1 << 20) // (d * X.itemsize), 64), (1 << 22) // (d * X.itemsize)):
            count = [0]
            solve = numpy_power(X, width, chunk, tol, seed, count)
            seconds, vector = _timed(solve)
            if best is not None and seconds > 1.5 * best[0]:
                continue
            seconds = min(seconds, _timed(solve)[0])
            if accept(vector) and (best is None or seconds < best[0]):
                rows = "rows at once" if chunk == n else f"{chunk} rows at a time"
                best = (seconds, f"width {width}, {count[0]} iterations, {rows}", solve)
    if best is None:
        raise RuntimeError("NumPy power iteration: no setting reaches the residual")
    return best[1], best[2]


def _timed(solve: Solve) -> tuple[float, Array]:
    start = perf_counter()
    vector = solve()
    return perf_counter() - start, vector
