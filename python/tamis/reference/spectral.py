"""Twins of the spectral operations: the covariance of the rows as an operator, and its top.

Everything reads the rows in blocks and never forms a (d, d) or a second (n, d) array, so each
function is also the specification of its native counterpart. Arrays are float64. Past the usual
400 lines by a few: each operation is made of the one before.

Sources
-------
[Johnstone01] Johnstone 2001, On the distribution of the largest eigenvalue in PCA.
[MM15] Musco and Musco 2015, Randomized block Krylov methods (the block Lanczos space).
[SLF14] Steele, Lea and Flood 2014, Fast splittable pseudorandom number generators.
[WS00] Wu and Simon 2000, Thick-restart Lanczos method for large symmetric eigenvalue problems.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Operator: TypeAlias = Callable[[Array], Array]

BLOCK_ROWS = 1024  # rows of one block: the only (rows, d) temporary that exists
SAMPLE_ROWS = 4096  # rows of the seeded subsample that starts the eigensolver
EXTRA_COLUMNS = 1  # the block is wider than k: shows whether the k-th value is repeated
BASIS_LIMIT = 256  # columns of the Krylov space before a restart
TW_QUANTILE = 4.0  # Tracy-Widom (beta = 1) deviate; exceeded with probability 2e-4
TINY = float(np.finfo(np.float64).tiny)


# ---- random numbers: a pure function of (seed, stream, index) ------------------------------------
# The native code, any thread count and this file draw the same ones.


def uniform_hash(seed: int, stream: int, index: NDArray[np.uint64]) -> Array:
    """Return doubles in [0, 1), one for each index, by the splitmix64 finaliser ([SLF14])."""
    golden = 0x9E3779B97F4A7C15
    mask = (1 << 64) - 1
    start = np.uint64(((seed & mask) * golden + (stream + 1) * 0xD1B54A32D192ED03) & mask)
    with np.errstate(over="ignore"):
        z = start + (index + np.uint64(1)) * np.uint64(golden)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
        z ^= z >> np.uint64(31)
    return np.asarray((z >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def gaussian_block(d: int, k: int, seed: int, stream: int) -> Array:
    """Return a (d, k) block of standard normal draws: Box and Muller 1958 on `uniform_hash`."""
    count = np.arange(d * k, dtype=np.uint64)
    u = uniform_hash(seed, stream, 2 * count)
    v = uniform_hash(seed, stream, 2 * count + np.uint64(1))
    return np.asarray(np.sqrt(-2.0 * np.log1p(-u)) * np.cos(2.0 * np.pi * v)).reshape(d, k)


def sample_rows(n: int, size: int, seed: int, stream: int) -> NDArray[np.int64]:
    """Return `size` row numbers, one uniform draw from each of `size` equal strata, ascending.

    All rows when ``size >= n``. Strata give one forward sweep of X; the seeded draw inside each
    keeps an adversary from placing rows where they are never looked at. Neighbours can draw the
    same row where a stratum ends inside it.
    """
    if size >= n:
        return np.arange(n, dtype=np.int64)
    u = uniform_hash(seed, stream, np.arange(size, dtype=np.uint64))
    rows = ((np.arange(size) + u) * (n / size)).astype(np.int64)
    return np.asarray(np.minimum(rows, n - 1))


# ---- one pass over X -----------------------------------------------------------------------------


def row_blocks(n: int) -> Iterator[slice]:
    """Yield slices of BLOCK_ROWS rows, the last one shorter, that make up n rows."""
    for start in range(0, n, BLOCK_ROWS):
        yield slice(start, min(start + BLOCK_ROWS, n))


def weighted_mean(X: Array, weights: Array | None = None) -> Array:
    """Return the weighted mean of the rows, (d,)."""
    n, d = X.shape
    w = np.ones(n) if weights is None else weights
    total = np.zeros(d)
    for rows in row_blocks(n):
        total += w[rows] @ X[rows]
    return np.asarray(total / w.sum())


def covariance_apply(
    X: Array, V: Array, *, weights: Array | None = None, mean: Array | None = None
) -> Array:
    """Return ``sum_i w_i (x_i - mu) (x_i - mu)^T V / sum_i w_i``.

    Parameters
    ----------
    X : (n, d) array
    V : (d,) or (d, k) array
    weights : (n,) array, optional
        Non-negative, not all zero. Default: ones.
    mean : (d,) array, optional
        The centre. Default: the weighted mean (costs one more pass).

    Returns
    -------
    (d,) or (d, k) array
    """
    n = X.shape[0]
    w = np.ones(n) if weights is None else weights
    centre = weighted_mean(X, w) if mean is None else mean
    V2 = V.reshape(V.shape[0], -1)
    out = np.zeros_like(V2)
    for rows in row_blocks(n):
        centred = X[rows] - centre
        out += centred.T @ (w[rows, None] * (centred @ V2))
    return np.asarray(out / w.sum()).reshape(V.shape)


def weighted_sums(X: Array, U: Array) -> Array:
    """Return ``U X``: weighted sums of the rows.

    Parameters
    ----------
    X : (n, d) array
    U : (n,) or (j, n) array
        Weights of any sign, a row of them for each sum.

    Returns
    -------
    (d,) or (j, d) array
    """
    n, d = X.shape
    U2 = U.reshape(-1, n)
    out = np.zeros((len(U2), d))
    for rows in row_blocks(n):
        out += U2[:, rows] @ X[rows]
    return np.asarray(out).reshape(*U.shape[:-1], d)


def projection_scores(X: Array, V: Array, *, mean: Array | None = None) -> Array:
    """Return ``|| V^T (x_i - mu) ||^2`` for every row.

    Parameters
    ----------
    X : (n, d) array
    V : (d,) or (d, k) array
    mean : (d,) array, optional
        The centre. Default: the mean of the rows (costs one more pass).

    Returns
    -------
    (n,) array
    """
    n = X.shape[0]
    centre = weighted_mean(X) if mean is None else mean
    V2 = V.reshape(V.shape[0], -1)
    out = np.empty(n)
    for rows in row_blocks(n):
        out[rows] = np.square((X[rows] - centre) @ V2).sum(axis=1)
    return out


# ---- top eigenpairs of the implicit covariance ---------------------------------------------------


@dataclass(frozen=True)
class EigenResult:
    """Top eigenpairs, largest first.

    Attributes
    ----------
    values : (k,) array
    vectors : (d, k) array
        Orthonormal; the entry of largest magnitude of each is positive.
    residuals : (k,) array
        ``|| A v - value v ||_2``.
    iterations : int
        Applications of the operator to a block, each one pass over X.
    converged : bool
        Every residual is at most ``tol * values[0]``.
    clustered : bool
        The k-th and the next Ritz value cannot be told apart at this tolerance: the vectors are
        one basis of an invariant subspace, and another start gives another basis.
    """

    values: Array
    vectors: Array
    residuals: Array
    iterations: int
    converged: bool
    clustered: bool


def orthonormalise(
    block: Array, basis: Array | None = None, fill: Callable[[int], Array] | None = None
) -> Array:
    """Orthonormalise the columns of `block` against `basis` and one another.

    Modified Gram-Schmidt, each vector swept twice ("twice is enough", Kahan and Parlett). A column
    that loses all but 1e-10 of its length is dropped, or replaced by a draw of `fill`. The result
    has at most d columns in all, so it may be narrower than `block`.
    """
    d = block.shape[0]
    columns: list[Array] = [] if basis is None else list(basis.T)
    old = len(columns)
    for j in range(block.shape[1]):
        vector = block[:, j].copy()
        for attempt in range(3):
            if len(columns) >= d:
                break
            before = float(np.linalg.norm(vector))
            for _ in range(2):
                for column in columns:
                    vector -= (column @ vector) * column
            after = float(np.linalg.norm(vector))
            if after > 1e-10 * before and after > 0.0:
                columns.append(vector / after)
                break
            if fill is None:
                break
            vector = fill(3 * j + attempt)
    return np.asarray(np.array(columns[old:]).T.reshape(d, len(columns) - old))


def rayleigh_ritz(Q: Array, AQ: Array) -> tuple[Array, Array, Array]:
    """Return the Ritz values (largest first), vectors and residual norms in the span of Q."""
    T = Q.T @ AQ
    theta, S = np.linalg.eigh(0.5 * (T + T.T))
    theta, S = theta[::-1], S[:, ::-1]
    vectors = Q @ S
    residuals = np.linalg.norm(AQ @ S - vectors * theta, axis=0)
    return np.maximum(theta, 0.0), vectors, residuals


def block_krylov(
    apply: Operator,
    start: Array,
    k: int,
    *,
    tol: float,
    max_passes: int,
    seed: int = 0,
    returned: int | None = None,
) -> tuple[Array, Array, Array, int, Array]:
    """Block Lanczos with full reorthogonalisation: Rayleigh-Ritz on the whole space ([MM15]).

    Each step applies the operator to the newest block (one pass over X), appends it, and solves
    the small projected problem. At BASIS_LIMIT columns the space is restarted from the leading
    Ritz vectors ([WS00]), so memory stays at ``2 * BASIS_LIMIT * d`` numbers. It stops when the
    leading k residuals are small, and returns `returned` pairs (default k).

    Returns
    -------
    values, vectors, residuals, passes, all_values
        `all_values` are all Ritz values of the final space, largest first.
    """
    d = start.shape[0]
    Q = _orthonormal_start(start, seed)
    width = Q.shape[1]
    AQ = apply(Q)
    passes = 1
    while True:
        values, vectors, residuals = rayleigh_ritz(Q, AQ)
        done = _settled(values, residuals[:k], tol)
        if done or passes >= max_passes or Q.shape[1] >= d:
            break
        if Q.shape[1] + width > BASIS_LIMIT:
            keep = max(width, BASIS_LIMIT // 2)
            S = Q.T @ vectors[:, :keep]
            Q, AQ = Q @ S, AQ @ S
        # The newest directions are the residuals of the wanted Ritz pairs: in exact arithmetic
        # the same space as the classical three-term recurrence, and safe after a restart.
        S = Q.T @ vectors[:, :width]
        fresh = orthonormalise(AQ @ S - (Q @ S) * values[:width], Q)
        if fresh.shape[1] == 0:  # invariant subspace: every residual is rounding
            break
        AQ = np.hstack([AQ, apply(fresh)])
        Q = np.hstack([Q, fresh])
        passes += 1
    m = k if returned is None else returned
    return values[:m], vectors[:, :m], residuals[:m], passes, values


def orthogonal_iteration(
    apply: Operator, start: Array, k: int, *, tol: float, max_passes: int, seed: int = 0
) -> tuple[Array, Array, Array, int, Array]:
    """Orthogonal (subspace) iteration; for one column this is power iteration."""
    Q = _orthonormal_start(start, seed)
    passes = 0
    while True:
        AQ = apply(Q)
        passes += 1
        values, vectors, residuals = rayleigh_ritz(Q, AQ)
        if _settled(values, residuals[:k], tol) or passes >= max_passes:
            return values[:k], vectors[:, :k], residuals[:k], passes, values
        Q = _orthonormal_start(AQ @ (Q.T @ vectors), seed)


def _orthonormal_start(start: Array, seed: int) -> Array:
    """Orthonormalise a block to start from; noise takes the place of columns that vanish."""
    d = start.shape[0]
    return orthonormalise(
        start, fill=lambda attempt: gaussian_block(d, 1, seed, 1000 + attempt)[:, 0]
    )


def oriented(vectors: Array) -> Array:
    """Return the columns with the sign that makes the entry of largest magnitude positive."""
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])]
    return vectors * np.where(largest < 0.0, -1.0, 1.0)


def _settled(values: Array, residuals: Array, tol: float) -> bool:
    return bool(np.all(residuals <= tol * max(float(values[0]), TINY)))


def power_iteration(
    X: Array,
    k: int = 1,
    *,
    weights: Array | None = None,
    mean: Array | None = None,
    method: Literal["lanczos", "power"] = "lanczos",
    tol: float = 1e-4,
    max_iter: int = 100,
    init: Array | None = None,
    seed: int = 0,
) -> EigenResult:
    """Return the top k eigenpairs of the weighted covariance, which is never formed.

    Parameters
    ----------
    X : (n, d) array
    k : int
        1 to d.
    weights, mean
        As in `covariance_apply`.
    method : {"lanczos", "power"}
        Block Lanczos, or orthogonal iteration (plain power iteration for k = 1) with
        Rayleigh-Ritz.
    tol : float
        Stop when every residual ``||A v - value v||`` is at most ``tol * values[0]``.
    max_iter : int
        Applications of the operator at most.
    init : (d,) or (d, j) array, optional
        Warm start. Default: the top eigenvectors of a row subsample.
    seed : int
        The result is a function of (X, arguments, seed).

    Returns
    -------
    EigenResult
        Zero values with some orthonormal vectors where the rank is below k.

    Notes
    -----
    Departure from the textbook: the default start is the solution on a subsample of
    ``max(SAMPLE_ROWS, 4 d)`` rows (capped at n / 8), so the full passes only polish it. The block
    has ``min(k + EXTRA_COLUMNS, d)`` columns.
    """
    n, d = X.shape
    w = np.ones(n) if weights is None else weights
    centre = weighted_mean(X, w) if mean is None else mean
    width = min(k + EXTRA_COLUMNS, d)
    start = gaussian_block(d, width, seed, 1)
    if init is not None:
        start = np.hstack([init.reshape(d, -1), start])[:, :width]
    else:
        size = min(max(SAMPLE_ROWS, 4 * d), n // 8)
        if size >= 2 * width:
            rows = sample_rows(n, size, seed, 0)
            if w[rows].sum() > 0.0:
                own = weighted_mean(X[rows], w[rows]) if mean is None else centre
                start = subsample_start(X[rows], w[rows], own, start, seed=seed)

    def apply(V: Array) -> Array:
        return covariance_apply(X, V, weights=w, mean=centre)

    solve, columns = (orthogonal_iteration, k) if method == "power" else (block_krylov, width)
    values, vectors, residuals, iterations, spectrum = solve(
        apply, start[:, :columns], k, tol=tol, max_passes=max_iter, seed=seed
    )
    gap_bound = tol * max(float(values[0]), TINY)
    return EigenResult(
        values,
        oriented(vectors),
        residuals,
        iterations,
        converged=_settled(values, residuals, tol),
        clustered=bool(spectrum.size > k and spectrum[k - 1] - spectrum[k] <= gap_bound),
    )


def subsample_start(
    rows: Array,
    weights: Array,
    mean: Array,
    start: Array,
    *,
    wanted: int | None = None,
    passes: int = 6,
    seed: int = 0,
) -> Array:
    """Return the top eigenvectors of a few rows: where the passes over all rows begin.

    As many as `start` has, of which the leading `wanted` must have converged; None: all.
    """

    def apply(V: Array) -> Array:
        return covariance_apply(rows, V, weights=weights, mean=mean)

    width = start.shape[1]
    return block_krylov(
        apply, start, wanted or width, tol=1e-2, max_passes=passes, seed=seed, returned=width
    )[1]


# ---- what noise alone explains -------------------------------------------------------------------


def noise_edge(n: float, d: int) -> float:
    """Return the largest eigenvalue that pure sampling noise explains, covariance I.

    The largest eigenvalue of the covariance of n clean sub-Gaussian rows concentrates at the
    Marchenko-Pastur edge ``(1 + sqrt(d/n))^2`` with Tracy-Widom fluctuations; this returns centre
    plus TW_QUANTILE deviations ([Johnstone01] Theorem 1.1). Works for n < d too.
    """
    a, b = math.sqrt(max(n - 1.0, 1.0)), math.sqrt(d)
    centre = (a + b) ** 2
    spread = (a + b) * (1.0 / a + 1.0 / b) ** (1.0 / 3.0)
    return float((centre + TW_QUANTILE * spread) / max(n, 1.0))
