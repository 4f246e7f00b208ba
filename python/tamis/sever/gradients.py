"""Per-example gradients as SEVER looks at them: rows that need not be formed.

The gradient of a linear model's loss at example i is ``a_i (x_i - c)``, an outer product of one
number (or of m, with m outputs) and the row itself. `OuterGradients` multiplies by such rows in
O(n + p) memory; `spectrum` finds the direction along which gradients spread most.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from tamis import _arrays, _rows, ops

__all__ = ["OuterGradients", "Spectrum", "as_operator", "spectrum"]

Vector = NDArray[np.float64]
_LAPACK_SIDE = 32
_TOLERANCE = 1e-3  # of the top eigenvalue, between passes; ranks of examples need no more
_MAX_BASIS = 120
_ROUNDING = 1e-26  # of a squared mean gradient


class OuterGradients(LinearOperator):  # type: ignore[misc]
    """Rows ``vec(a_i (x_i - center)')``, ``a_i`` of m numbers: an (n, m q) matrix never formed.

    Parameters
    ----------
    coefficients : array of shape (n,) or (n, m)
        Derivatives of the loss of every example by its m linear predictors.
    X : array or scipy.sparse matrix of shape (n, d)
        The examples. A sparse one stays sparse.
    intercept : bool
        Predictors have an intercept: another column of ones, q = d + 1 (else q = d).
    center : array of shape (d,), optional
        Taken off every example. With an intercept this only names its coordinate differently, and
        about the mean of the examples slopes and intercept do not mix.

    Raises
    ------
    ValueError
        Shapes that do not fit, or a coefficient that is not finite; the row is named.

    Examples
    --------
    >>> import numpy as np
    >>> from tamis.sever import OuterGradients
    >>> rows = OuterGradients(np.array([2.0, -1.0]), np.array([[1.0, 0.0], [3.0, 4.0]]))
    >>> rows.matvec(np.array([1.0, 1.0])).tolist()
    [2.0, -7.0]
    """

    def __init__(
        self, coefficients: Any, X: Any, *, intercept: bool = False, center: Any = None
    ) -> None:
        self.X = X.tocsr() if scipy.sparse.issparse(X) else np.asarray(X)
        a = np.asarray(coefficients, dtype=np.float64)
        self.coefficients: NDArray[np.float64] = a.reshape(len(a), -1)
        n, d = self.X.shape
        if a.ndim not in (1, 2) or len(a) != n:
            raise ValueError(f"coefficients: expected shape ({n},) or ({n}, m), got {a.shape}")
        bad = np.flatnonzero(~np.isfinite(self.coefficients).all(axis=1))
        if bad.size:
            raise ValueError(f"gradients: expected finite values, got {a[bad[0]]} in row {bad[0]}")
        self.intercept = bool(intercept)
        # of a hinge most are 0: their examples are never read
        alive = np.flatnonzero(self.coefficients.any(axis=1))
        few = len(alive) < 0.75 * n
        self._alive = alive if few else None
        self._a = self.coefficients[alive] if few else self.coefficients
        self._x = self.X[alive] if few else self.X
        self.center = np.zeros(d) if center is None else np.asarray(center, dtype=np.float64)
        if self.center.shape != (d,):
            raise ValueError(f"center: expected shape ({d},), got {self.center.shape}")
        super().__init__(np.float64, (n, self.coefficients.shape[1] * (d + self.intercept)))

    def _matmat(self, V: Any) -> Any:
        d, m = self.X.shape[1], self._a.shape[1]
        blocks = np.asarray(V).reshape(m, -1, V.shape[1])
        out = np.zeros((len(self._a), V.shape[1]))
        for j in range(m):
            slopes = blocks[j, :d]
            z = self._x @ slopes - self.center @ slopes
            if self.intercept:
                z = z + blocks[j, d]
            out += self._a[:, j : j + 1] * z
        if self._alive is None:
            return out
        whole = np.zeros((self.shape[0], V.shape[1]))
        whole[self._alive] = out
        return whole

    def _matvec(self, v: Any) -> Any:
        return self._matmat(np.reshape(v, (-1, 1)))[:, 0]

    def _rmatmat(self, U: Any) -> Any:
        U = np.asarray(U) if self._alive is None else np.asarray(U)[self._alive]
        parts = []
        for j in range(self._a.shape[1]):
            weighted = self._a[:, j : j + 1] * U
            total = weighted.sum(axis=0)
            parts.append(self._x.T @ weighted - np.outer(self.center, total))
            if self.intercept:
                parts.append(total[None, :])
        return np.concatenate(parts)

    def _rmatvec(self, u: Any) -> Any:
        return self._rmatmat(np.reshape(u, (-1, 1)))[:, 0]

    def take(self, indices: NDArray[np.intp]) -> OuterGradients:
        """The rows at ``indices``."""
        return OuterGradients(
            self.coefficients[indices],
            self.X[indices],
            intercept=self.intercept,
            center=self.center,
        )


class Spectrum(NamedTuple):
    """Where gradients spread most: the top `eigenvalue`, and how far every row lies, (n,)."""

    eigenvalue: float
    lengths: Vector  # of the rows' projections on the top directions


class _Centered(LinearOperator):  # type: ignore[misc]
    """Rows minus their centre: what the direction is found from."""

    def __init__(self, rows: Any, mean: Vector) -> None:
        self.rows, self.mean = rows, mean
        super().__init__(np.float64, rows.shape)

    def _matmat(self, V: Any) -> Any:
        return self.rows.matmat(V) - self.mean @ V

    def _rmatmat(self, U: Any) -> Any:
        return self.rows.rmatmat(U) - np.outer(self.mean, U.sum(axis=0))


def as_operator(gradients: Any, rows: int) -> Any:
    """What a user's ``gradients`` returned as a NumPy array or a LinearOperator of ``rows`` rows.

    Raises
    ------
    TypeError, ValueError
        Not a table, not numbers, NaN or infinity (the row is named), or another number of rows.
    """
    if scipy.sparse.issparse(gradients):
        matrix = gradients.tocsr()
        total = np.asarray(abs(matrix).sum(axis=1), dtype=np.float64).ravel()
        bad = np.flatnonzero(~np.isfinite(total))
        if bad.size:
            raise ValueError(f"gradients: expected finite values, got NaN or inf in row {bad[0]}")
        table: Any = OuterGradients(np.ones(matrix.shape[0]), matrix)
    elif isinstance(gradients, LinearOperator):
        table = gradients
    else:
        if _arrays.is_torch(gradients):
            gradients = gradients.detach().cpu()
        table = _rows.as_numpy(_rows.as_rows(gradients, "gradients"))
        _rows.check_finite(table, "gradients")
    if table.shape[0] != rows:
        raise ValueError(
            f"gradients: expected one row for each of {rows} examples, got {table.shape}"
        )
    return table


def spectrum(
    gradients: Any,
    k: int = 1,
    *,
    center_rows: NDArray[np.bool_] | None = None,
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
        mean = np.asarray(weights @ gradients, dtype=np.float64)
        if p <= ops.spectral.MAX_COLUMNS:
            return _dense(gradients, mean, k, num_threads)
        gradients = aslinearoperator(gradients)
    else:
        mean = np.asarray(gradients.rmatvec(weights), dtype=np.float64)
    rows = _Centered(gradients, mean)
    if min(n, p) <= _LAPACK_SIDE + k:
        table = rows.matmat(np.eye(p)) if p <= n else rows.rmatmat(np.eye(n)).T
        u, sizes, _ = np.linalg.svd(table, full_matrices=False)
        eigenvalue, projections = float(sizes[0] ** 2 / n), u[:, :k] * sizes[:k]
    else:
        eigenvalue, projections = _block_krylov(rows, k)
    lengths = np.sqrt(np.square(projections).sum(axis=1))
    if not np.isfinite(lengths).all():
        row = int(np.flatnonzero(~np.isfinite(lengths))[0])
        raise ValueError(f"gradients: expected finite values, got {lengths[row]} in row {row}")
    if eigenvalue <= _ROUNDING * float(mean @ mean):  # all gradients are equal
        return Spectrum(0.0, np.zeros(n))
    return Spectrum(eigenvalue, lengths)


def _block_krylov(rows: Any, k: int) -> tuple[float, Vector]:
    """The top eigenvalue of ``rows' rows / n`` and the projections on the top k directions.

    Musco and Musco, NeurIPS 2015: all blocks are kept, and each pass multiplies a few vectors at
    once, which costs little more than one.
    """
    n, p = rows.shape
    block = np.random.default_rng(0).standard_normal((p, min(k + 3, p)))
    basis = np.zeros((p, 0))
    images = np.zeros((n, 0))
    before = np.zeros(k)
    while True:
        for _ in range(2):  # twice is enough
            block = block - basis @ (basis.T @ block)
            block = np.linalg.qr(block)[0]
        image = rows.matmat(block)
        basis, images = np.hstack([basis, block]), np.hstack([images, image])
        if not np.isfinite(image).all():
            return 0.0, images
        values, vectors = np.linalg.eigh(images.T @ images)
        top = values[-k:]
        settled = np.abs(top - before).max() <= _TOLERANCE * top[-1]
        if settled or basis.shape[1] + block.shape[1] > min(n, p, _MAX_BASIS):
            return float(max(top[-1], 0.0) / n), images @ vectors[:, -k:]
        before, block = top, rows.rmatmat(image)


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
