"""The directions along which gradients spread most, without their covariance.

Three ways to the same answer, by what the gradients are: dense ones go to `power_iteration`; outer
products of one coefficient with dense examples to `covariance_apply`, whose weights are the squared
coefficients (of a regression the first such product comes out of the read that finds them); all
others are multiplied by from both sides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import aslinearoperator

from tamis import ops
from tamis.sever._krylov import GUARDS, block_krylov, random_block, warm_block
from tamis.sever._second_moments import SecondMoments, is_native
from tamis.sever.gradients import OuterGradients, RegressionGradients

__all__ = ["Spectrum", "spectrum"]

Vector = NDArray[np.float64]
_LAPACK_SIDE = 32
_ROUNDING = 1e-26  # of a squared mean gradient
_SAMPLED = 16  # every 16th example says where to start,
_LARGE = 2**18  # if those have as many numbers: smaller ones cost as much as the pass they save


class Spectrum(NamedTuple):
    """Where gradients spread most: the top `eigenvalue`, and how far every row lies, (n,)."""

    eigenvalue: float
    lengths: Vector  # of the rows' projections on the top directions
    block: Any = None  # (p, k or more) to start from with gradients that differ a little
    following: float = np.inf  # at most the variance along the next; infinite: look for yourself


def spectrum(
    gradients: Any,
    k: int = 1,
    *,
    center_rows: NDArray[np.bool_] | None = None,
    start: Any = None,
    weigh: bool = False,
    num_threads: int | None = None,
) -> Spectrum:
    """The top directions of gradients about their mean, and how far every row lies along them.

    Parameters
    ----------
    gradients : array or LinearOperator of shape (n, p)
    k : int
        Directions; fewer where n or p is smaller.
    center_rows : bool array of shape (n,), optional
        Rows whose mean is the centre. Default all.
    start : array of shape (p, m), optional
        ``block`` of similar gradients, which saves passes.
    weigh : bool
        Each direction counts by how far all rows spread along it beyond those of ``center_rows``
        (`_prominence`); the most prominent keeps its unit.
    num_threads : int, optional
        Of the native kernels, for dense rows.

    Returns
    -------
    Spectrum
        Zeros where all gradients are equal. ``eigenvalue`` is of ``sum (g - mean)(g - mean)' / n``.
        Deterministic.
    """
    n, p = gradients.shape
    k = min(k, n, p)
    kept = center_rows if weigh and k > 1 else None
    if isinstance(gradients, RegressionGradients):
        if min(n, p) > _LAPACK_SIDE + k:
            return _of_regression(gradients, k, start, kept, num_threads)
        gradients = gradients.outer()
    weights = np.ones(n) if center_rows is None else center_rows.astype(np.float64)
    weights /= weights.sum()
    if isinstance(gradients, np.ndarray):
        if p <= ops.spectral.MAX_COLUMNS:
            mean = np.asarray(weights @ gradients, dtype=np.float64)
            return _dense(gradients, mean, k, kept, num_threads)
        gradients = aslinearoperator(gradients)
    alive, read, moments, block = slice(None), gradients, None, None
    if isinstance(gradients, OuterGradients):
        alive, read = gradients.nonzero()
        if not read.shape[0]:
            return Spectrum(0.0, np.zeros(n))
        if is_native(read.X) and read.coefficients.shape[1] == 1:
            moments = _moments(read, weights[alive], n, center_rows is None, num_threads)
    mean = np.asarray(read.rmatvec(weights[alive])) if moments is None else moments.mean
    if not np.isfinite(mean).all():
        raise _not_finite(gradients.matvec(np.ones(p)))
    rows = _Centered(read, mean, n - read.shape[0])
    if min(rows.shape) <= _LAPACK_SIDE + k:
        table = rows.matmat(np.eye(p)) if p <= n else rows.rmatmat(np.eye(rows.shape[0])).T
        u, sizes, _ = np.linalg.svd(table, full_matrices=False)  # more directions come for nothing
        following, top, projections = np.inf, float(sizes[0] ** 2), u[:, :k] * sizes[:k]
    elif rows.shape[0] < p and moments is None:  # the shorter side has the cheaper basis
        values, vectors = block_krylov(
            _short_side(rows), random_block(rows.shape[0], k + GUARDS), k
        )
        following, top = _next(values, k) / n, float(values[0])
        projections = vectors[:, :k] * np.sqrt(values[:k])
    else:
        if moments is not None and start is None:
            start = _sampled_start(read, k, num_threads)
        block = random_block(p, k + GUARDS) if start is None else warm_block(start)
        apply = _both_sides(rows) if moments is None else moments
        values, block = block_krylov(apply, block, k, warm=start is not None)
        projections = rows.matmat(block[:, :k])
        following, top = _next(values, k) / n, float(np.square(projections[:, 0]).sum())
    if kept is not None:
        shares = kept[alive].astype(np.float64)
        if rows.zeros:  # the last row stands for all that are zero
            shares = np.append(shares, (kept.sum() - shares.sum()) / rows.zeros)
        projections = projections * _prominence(projections, shares)
    lengths = np.sqrt(np.square(projections).sum(axis=1))
    if not np.isfinite(lengths).all():
        raise _not_finite(gradients.matvec(np.ones(p)))
    if _are_equal(top, mean, n):
        return Spectrum(0.0, np.zeros(n))
    if rows.zeros:
        found, lengths = lengths, np.full(n, lengths[-1] / np.sqrt(rows.zeros))
        lengths[alive] = found[:-1]
    return Spectrum(top / n, lengths, block, following)


def _next(values: Vector, k: int) -> float:
    return float(values[k]) if len(values) > k else 0.0


def _of_regression(
    gradients: RegressionGradients, k: int, start: Any, kept: Any, num_threads: int | None
) -> Spectrum:
    """The same, where the first pass finds the gradients as well."""
    n, p = gradients.shape
    if start is None and n * p >= _SAMPLED * _LARGE:
        some = gradients.every(_SAMPLED)
        block = random_block(p, k + 1)
        moments, product = some.look(block[:-1], num_threads)
        if moments.squares.any():
            start = block_krylov(moments, block, k, images=moments(block, product))[1]
    block = random_block(p, k + GUARDS) if start is None else warm_block(start)
    moments, product = gradients.look(block[:-1], num_threads)
    if not moments.squares.any():
        return Spectrum(0.0, np.zeros(n))
    images = moments(block, product)
    values, block = block_krylov(moments, block, k, warm=start is not None, images=images)
    projections = moments.project(block[:, :k])
    squares = np.square(projections)
    top = float(squares[:, 0].sum())
    if not np.isfinite(top):
        raise _not_finite(projections.sum(axis=1))
    if kept is not None:
        squares *= np.square(_prominence(projections, kept.astype(np.float64)))
    if _are_equal(top, moments.mean, n):
        return Spectrum(0.0, np.zeros(n))
    return Spectrum(top / n, np.sqrt(squares.sum(axis=1)), block, _next(values, k) / n)


def _prominence(projections: Vector, shares: Vector) -> Vector:
    """Weights of directions, at most 1: ``(all / kept)^2 / kept`` of the spreads along them.

    Poison that pulls one way stands out along that direction alone, and it alone counts; poison
    that pulls in all (wrong targets at usual rows) does along each, and all count. Without weights
    a direction of large but clean spread would count as much.
    """
    squares = np.square(projections)
    whole = np.sqrt(squares.sum(axis=0))
    kept = np.maximum(np.sqrt(shares @ squares), 1e-6 * whole.max(initial=0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (whole / kept) ** 2 / kept
    top = found.max(initial=0.0)
    return np.nan_to_num(found / top) if np.isfinite(top) and top > 0 else np.ones(len(found))


def _are_equal(top: float, mean: Vector, n: int) -> bool:
    """Whether gradients of this largest sum of squares about their mean differ by rounding only."""
    return top <= n * _ROUNDING * float(mean @ mean)


class _Centered:
    """Rows minus their centre, where ``zeros`` more rows of zeros are one row, as heavy as all."""

    def __init__(self, rows: Any, mean: Vector, zeros: int) -> None:
        self.rows, self.mean, self.zeros = rows, mean, zeros
        self.shape = (rows.shape[0] + bool(zeros), rows.shape[1])

    def matmat(self, V: Any) -> Any:
        shift = self.mean @ V
        out = self.rows.matmat(V) - shift
        return np.vstack([out, -np.sqrt(self.zeros) * shift]) if self.zeros else out

    def rmatmat(self, U: Any) -> Any:
        own = U[:-1] if self.zeros else U
        total = own.sum(axis=0)
        if self.zeros:
            total = total + np.sqrt(self.zeros) * U[-1]
        return self.rows.rmatmat(own) - np.outer(self.mean, total)


def _short_side(rows: _Centered) -> Callable[[Any], Any]:
    """``U -> R R' U`` for the rows R, fewer than they are long."""
    read, zeros = rows.rows, rows.zeros
    if not isinstance(read, OuterGradients) or read.coefficients.shape[1] > 1:
        return lambda U: rows.matmat(rows.rmatmat(U))
    # Of one predictor all but X X' is of rank four, in vectors as short as U: nothing that is as
    # long as the rows is centred.
    a, center, mean = read.coefficients, read.center, rows.mean
    m = len(a)
    S, M = np.zeros((m + bool(zeros), 4)), np.zeros((4, 4))
    S[:m, 0], S[:m, 1], S[:m, 2] = a[:, 0], a[:, 0] * (read.X @ center), read.matvec(mean)
    S[:m, 3], S[m:, 3] = 1.0, np.sqrt(zeros)
    M[0, 0], M[3, 3] = center @ center + read.intercept, mean @ mean
    M[0, 1] = M[1, 0] = M[2, 3] = M[3, 2] = -1.0

    def apply(U: Any) -> Any:
        out = S @ (M @ (S.T @ U))
        out[:m] += a * (read.X @ (read.X.T @ (a * U[:m])))
        return out

    return apply


def _both_sides(rows: Any) -> Callable[[Any], Any]:
    return lambda V: rows.rmatmat(rows.matmat(V))


def _moments(
    rows: OuterGradients, weights: Vector, n: int, everyone: bool, num_threads: int | None
) -> SecondMoments:
    """Of n rows that are zero but for these. ``everyone``: ``weights`` are 1 / n."""
    U = np.empty((2 - everyone + rows.intercept, rows.shape[0]))
    U[0] = weights
    if not everyone:
        U[1] = 1.0 / n
    if rows.intercept:
        U[-1] = rows.coefficients[:, 0]
    found = rows.sums(U, num_threads)
    sums = found[0], found[0 if everyone else 1], found[-1]
    return SecondMoments(rows.coefficients[:, 0], rows.X, rows.center, sums, n, num_threads)


def _sampled_start(rows: OuterGradients, k: int, num_threads: int | None) -> Any:
    """The directions of every 16th row (a view, not a copy), so that full passes only polish."""
    some = rows.take(slice(None, None, _SAMPLED))
    m, p = some.shape
    if some.X.size < _LARGE or not some.coefficients.any():
        return None
    moments = _moments(some, np.full(m, 1.0 / m), m, True, num_threads)
    return block_krylov(moments, random_block(p, k + 1), k)[1]


def _not_finite(images: Any) -> ValueError:
    bad = np.flatnonzero(~np.isfinite(images))
    row = int(bad[0]) if bad.size else 0
    return ValueError(f"gradients: expected finite values, got NaN or inf in row {row}")


def _dense(
    rows: NDArray[Any], mean: Vector, k: int, kept: Any, num_threads: int | None
) -> Spectrum:
    """The same by the native kernels, which centre as they read."""
    if not (rows != rows[0]).any():
        return Spectrum(0.0, np.zeros(len(rows)))
    scale = float(np.abs(rows).max(initial=0.0))
    unit = 1.0 if 1e-15 < scale < 1e15 else scale  # squares stay inside float32
    table, center = (rows, mean) if unit == 1.0 else (rows / unit, mean / unit)
    found = ops.power_iteration(
        table, min(k, ops.spectral.MAX_EIGENPAIRS), mean=center, tol=1e-4, num_threads=num_threads
    )
    vectors = np.asarray(found.vectors)
    if kept is not None:
        projections = np.asarray(table @ vectors, dtype=np.float64) - center @ vectors
        vectors = vectors * _prominence(projections, kept.astype(np.float64))
    squares = ops.projection_scores(table, vectors, mean=center, num_threads=num_threads)
    lengths = np.sqrt(np.asarray(squares, dtype=np.float64)) * unit
    return Spectrum(float(found.values[0]) * unit * unit, lengths)  # inf beyond 1e154
