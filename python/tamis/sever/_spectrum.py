"""The directions along which gradients spread most, without their covariance.

Three ways to the same answer, by what the gradients are: dense ones go to `power_iteration`; outer
products of one coefficient with dense examples to `covariance_apply`, whose weights are the squared
coefficients; all others are multiplied by from both sides.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.sparse.linalg import aslinearoperator

from tamis import ops
from tamis.sever.gradients import OuterGradients

__all__ = ["Spectrum", "spectrum"]

Vector = NDArray[np.float64]
_LAPACK_SIDE = 32
_TOLERANCE = 3e-3  # of the top eigenvalue; docs/sever.md has what ranks need
_LEAST_LEFT = 0.02  # a block that has not met the next direction thinks too little of it
_ZERO = 1e-12  # of the top eigenvalue
_MAX_BASIS = 120
_GUARDS = 3  # vectors of a block beside those wanted
_ROUNDING = 1e-26  # of a squared mean gradient
_SAMPLED = 16  # every 16th example says where to start,
_LARGE = 2**18  # if those have as many numbers: smaller ones cost as much as the pass they save


class Spectrum(NamedTuple):
    """Where gradients spread most: the top `eigenvalue`, and how far every row lies, (n,)."""

    eigenvalue: float
    lengths: Vector  # of the rows' projections on the top directions
    block: Any = None  # (p, k or more) to start from with gradients that differ a little


def spectrum(
    gradients: Any,
    k: int = 1,
    *,
    center_rows: NDArray[np.bool_] | None = None,
    start: Any = None,
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
    num_threads : int, optional
        Of the native kernels, for dense rows.

    Returns
    -------
    Spectrum
        Zeros where all gradients are equal. ``eigenvalue`` is of ``sum (g - mean)(g - mean)' / n``.
        Deterministic.
    """
    n, p = gradients.shape
    weights = np.ones(n) if center_rows is None else center_rows.astype(np.float64)
    weights /= weights.sum()
    k = min(k, n, p)
    if isinstance(gradients, np.ndarray):
        if p <= ops.spectral.MAX_COLUMNS:
            mean = np.asarray(weights @ gradients, dtype=np.float64)
            return _dense(gradients, mean, k, num_threads)
        gradients = aslinearoperator(gradients)
    alive, read = slice(None), gradients
    if isinstance(gradients, OuterGradients):
        alive, read = gradients.nonzero()
        if not read.shape[0]:
            return Spectrum(0.0, np.zeros(n))
    block = None
    fused = _is_fused(read)
    if fused:
        mean, apply = _fused(read, weights[alive], n, center_rows is None, num_threads)
    else:
        mean = np.asarray(read.rmatvec(weights[alive]), dtype=np.float64)
    rows = _Centered(read, mean, n - read.shape[0])
    if not np.isfinite(mean).all():
        raise _not_finite(gradients.matvec(np.ones(p)))
    if min(rows.shape) <= _LAPACK_SIDE + k:
        table = rows.matmat(np.eye(p)) if p <= n else rows.rmatmat(np.eye(rows.shape[0])).T
        u, sizes, _ = np.linalg.svd(table, full_matrices=False)
        top, projections = float(sizes[0] ** 2), u[:, :k] * sizes[:k]
    elif rows.shape[0] < p and not fused:  # the shorter side has the cheaper basis
        squares, vectors = _block_krylov(lambda U: rows.matmat(rows.rmatmat(U)), rows.shape[0], k)
        top, projections = float(squares[0]), vectors[:, :k] * np.sqrt(squares)
    else:
        if not fused:
            apply = _both_sides(rows)
        elif start is None:
            start = _sampled_start(read, k, num_threads)
        _, block = _block_krylov(apply, p, k, start)
        projections = rows.matmat(block[:, :k])
        top = float(np.square(projections[:, 0]).sum())
    found = np.sqrt(np.square(projections).sum(axis=1))
    if not np.isfinite(found).all():
        raise _not_finite(gradients.matvec(np.ones(p)))
    if top <= n * _ROUNDING * float(mean @ mean):  # all gradients are equal
        return Spectrum(0.0, np.zeros(n))
    lengths = found
    if rows.zeros:
        lengths = np.full(n, found[-1] / np.sqrt(rows.zeros))
        lengths[alive] = found[:-1]
    return Spectrum(top / n, lengths, block)


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


def _block_krylov(
    apply: Callable[[Any], Any], side: int, k: int, start: Any = None, guards: int = _GUARDS
) -> tuple[Vector, Vector]:
    """The k largest eigenvalues of a symmetric operator, their eigenvectors, and some to spare.

    The first k columns are orthonormal, the others merely good to start from.

    Musco and Musco, NeurIPS 2015: all blocks are kept, and each pass multiplies a few vectors at
    once, which costs little more than one. The images of the last pass are at hand, so that what is
    returned is one power step better than what the residual r was measured on. For k = 1, Mu is
    returned, with a variance of at least ``|Mu|^2 / top``; none exceeds ``top + r^2 / gap``. So at
    most ``r^2 / gap * (top - gap) / top`` is missed. A vector of the first block is always random:
    what a start does not know of is found.
    """
    if start is None:
        block = np.random.default_rng(0).standard_normal((side, min(k + guards, side)))
    else:
        block = np.column_stack([_random(side), start[:, :-1]])
    width = block.shape[1]
    block = _orthonormal(block)
    basis, images = block, apply(block)
    before = np.zeros(k)
    while True:
        if not np.isfinite(images[:, -1]).all():
            return np.full(k, np.nan), np.full((side, width), np.nan)
        values, vectors, failed = lapack.dsyevd(basis.T @ images)  # reads one triangle
        if failed:
            raise np.linalg.LinAlgError("eigenvalues of the gradients did not converge")
        values, vectors = values[::-1], vectors[:, : -width - 1 : -1]
        top, found = np.maximum(values[:k], 0.0), vectors[:, :k]
        stepped = images @ vectors
        error = np.square(stepped[:, :k] - basis @ (found * top)).sum()  # over the gap: of top
        gap = values[k - 1] - values[k] if len(values) > k else 0.0
        if gap > 0.0 and top[k - 1] > _ZERO * top[0]:
            error *= max(values[k] / top[k - 1], _LEAST_LEFT)  # what the last step leaves of it
        settled = min(np.abs(top - before).max() * gap, error) <= _TOLERANCE * top[0] * gap
        if basis is block and start is not None:  # one that is no better than what is random
            settled = settled and top[k - 1] > 2.0 * (basis[:, 0] @ images[:, 0])
        if settled or basis.shape[1] + width > min(side, _MAX_BASIS):
            sizes = np.linalg.norm(stepped[:, :k], axis=0)
            if k == 1 and sizes[0] > 0.0:
                stepped[:, 0] /= sizes[0]
            else:
                stepped[:, :k] = _orthonormal(stepped[:, :k])
            return sizes, stepped
        before, block = top, images[:, -width:]
        for _ in range(2):  # twice is enough
            block = _orthonormal(block - basis @ (basis.T @ block))
        basis, images = np.hstack([basis, block]), np.hstack([images, apply(block)])


def _orthonormal(columns: Any) -> Any:
    """An orthonormal basis of a few columns, by LAPACK alone: NumPy takes three times as long."""
    factored, scales, _, _ = lapack.dgeqrf(columns)
    return np.ascontiguousarray(lapack.dorgqr(factored, scales, overwrite_a=True)[0])


@functools.lru_cache(maxsize=1)
def _random(side: int) -> Vector:
    """The same vector at every call; seeding a generator takes as long as a small product."""
    return np.random.default_rng(0).standard_normal(side)


def _both_sides(rows: Any) -> Callable[[Any], Any]:
    return lambda V: rows.rmatmat(rows.matmat(V))


def _is_fused(rows: Any) -> bool:
    """Whether one native pass multiplies by the rows and their transpose."""
    return (
        isinstance(rows, OuterGradients)
        and isinstance(rows.X, np.ndarray)
        and rows.X.dtype == np.float64
        and rows.X.strides[1] == rows.X.itemsize
        and rows.coefficients.shape[1] == 1
        and rows.X.shape[1] <= ops.spectral.MAX_COLUMNS
    )


def _fused(
    rows: OuterGradients, weights: Vector, n: int, everyone: bool, num_threads: int | None
) -> tuple[Vector, Callable[[Any], Any]]:
    """``mean = sum_i weights_i g_i``, and ``V -> sum_i (g_i - mean)(g_i - mean)' V`` in one pass.

    n: number of rows, those of zeros that are not here included. ``everyone``: ``mean`` is the mean
    of all. ``sum a_i^2 (x_i - c)(x_i - c)'`` is a weighted covariance; intercept and mean are
    corrections of rank two each.
    """
    a = rows.coefficients[:, 0]
    squares = np.square(a)
    total = squares.sum()
    d, p = rows.X.shape[1], rows.shape[1]
    U = np.empty((2 - everyone + rows.intercept, len(a)))
    U[0] = weights
    if not everyone:
        U[1] = 1.0 / n
    if rows.intercept:
        U[-1] = a
    sums = rows.sums(U, num_threads)
    mean, whole = sums[0], sums[0 if everyone else 1]
    left, right = np.zeros((4, p)), np.zeros((4, p))
    left[0], right[0] = n * mean, -whole
    if not everyone:
        left[1], right[1] = n * (whole - mean), -mean
    if rows.intercept:  # the products of ones with the examples and with themselves
        left[2, d] = right[3, d] = 1.0
        right[2] = sums[-1]
        left[3, :d] = sums[-1, :d]

    def apply(V: Any) -> Any:
        out = left.T @ (right @ V)
        out[:d] += total * ops.covariance_apply(
            rows.X, V[:d], weights=squares, mean=rows.center, num_threads=num_threads
        )
        return out

    return mean, apply


def _sampled_start(rows: OuterGradients, k: int, num_threads: int | None) -> Any:
    """The directions of every 16th row (a view, not a copy), so that full passes only polish."""
    some = rows.take(slice(None, None, _SAMPLED))
    m, p = some.shape
    if some.X.size < _LARGE or not some.coefficients.any():
        return None
    _, apply = _fused(some, np.full(m, 1.0 / m), m, True, num_threads)
    return _block_krylov(apply, p, k, guards=1)[1]


def _not_finite(images: Any) -> ValueError:
    bad = np.flatnonzero(~np.isfinite(images))
    row = int(bad[0]) if bad.size else 0
    return ValueError(f"gradients: expected finite values, got NaN or inf in row {row}")


def _dense(rows: NDArray[Any], mean: Vector, k: int, num_threads: int | None) -> Spectrum:
    """The same by the native kernels, which centre as they read."""
    if not (rows != rows[0]).any():
        return Spectrum(0.0, np.zeros(len(rows)))
    scale = float(np.abs(rows).max(initial=0.0))
    unit = 1.0 if 1e-15 < scale < 1e15 else scale  # squares stay inside float32
    table, center = (rows, mean) if unit == 1.0 else (rows / unit, mean / unit)
    found = ops.power_iteration(
        table, min(k, ops.spectral.MAX_EIGENPAIRS), mean=center, tol=1e-4, num_threads=num_threads
    )
    squares = ops.projection_scores(table, found.vectors, mean=center, num_threads=num_threads)
    lengths = np.sqrt(np.asarray(squares, dtype=np.float64)) * unit
    return Spectrum(float(found.values[0]) * unit**2, lengths)
