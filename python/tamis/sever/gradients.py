"""Per-example gradients as SEVER looks at them: rows that need not be formed.

The gradient of a linear model's loss at example i is ``a_i (x_i - c)``, an outer product of one
number (or of m, with m outputs) and the row itself. `OuterGradients` multiplies by such rows in
O(n + p) memory; `spectrum` (`_spectrum.py`) finds the direction along which gradients spread most.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator

from tamis import _arrays, _rows, ops
from tamis.sever import losses
from tamis.sever._second_moments import SecondMoments, is_native

__all__ = ["OuterGradients", "RegressionGradients", "as_operator", "take_rows"]

Vector = NDArray[np.float64]


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
    center_weights : array of shape (n,), optional
        Makes ``center_weights @ X`` the centre, found when it is needed, with other sums.

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
        self,
        coefficients: Any,
        X: Any,
        *,
        intercept: bool = False,
        center: Any = None,
        center_weights: Any = None,
    ) -> None:
        self.X = X.tocsr() if scipy.sparse.issparse(X) else np.asarray(X)
        a = np.asarray(coefficients, dtype=np.float64)
        self.coefficients: NDArray[np.float64] = a[:, None] if a.ndim == 1 else a
        n, d = self.X.shape
        if a.ndim not in (1, 2) or len(a) != n:
            raise ValueError(f"coefficients: expected shape ({n},) or ({n}, m), got {a.shape}")
        if not np.isfinite(a).all():
            row = int(np.argmin(np.isfinite(self.coefficients).all(axis=1)))
            raise ValueError(f"gradients: expected finite values, got {a[row]} in row {row}")
        self.intercept = bool(intercept)
        if center is not None and center_weights is not None:
            raise ValueError("center, center_weights: expected only one of them, got both")
        if center is None and center_weights is None:
            center = np.zeros(d)
        self._center = _vector(center, d, "center")
        self._center_weights = _vector(center_weights, n, "center_weights")
        super().__init__(np.float64, (n, self.coefficients.shape[1] * (d + self.intercept)))

    @property
    def center(self) -> Any:
        """What is taken off every example, (d,)."""
        if self._center is None:
            self._center = np.asarray(self.X.T @ self._center_weights)
        return self._center

    def _matmat(self, V: Any) -> Any:
        d, m = self.X.shape[1], self.coefficients.shape[1]
        blocks = np.asarray(V).reshape(m, -1, V.shape[1])
        out = np.zeros((self.shape[0], V.shape[1]))
        for j in range(m):
            slopes = blocks[j, :d]
            z = self.X @ slopes - self.center @ slopes
            if self.intercept:
                z = z + blocks[j, d]
            out += self.coefficients[:, j : j + 1] * z
        return out

    def _matvec(self, v: Any) -> Any:
        return self._matmat(np.reshape(v, (-1, 1)))[:, 0]

    def _rmatmat(self, U: Any) -> Any:
        parts = []
        for j in range(self.coefficients.shape[1]):
            weighted = self.coefficients[:, j : j + 1] * U
            total = weighted.sum(axis=0)
            parts.append(self.X.T @ weighted - np.outer(self.center, total))
            if self.intercept:
                parts.append(total[None, :])
        return np.concatenate(parts)

    def _rmatvec(self, u: Any) -> Any:
        return self._rmatmat(np.reshape(u, (-1, 1)))[:, 0]

    def sums(self, U: NDArray[np.float64], num_threads: int | None = None) -> NDArray[np.float64]:
        """``U G`` of a few rows of U, (j, n), and the gradients G of one predictor: (j, q)."""
        j, d = len(U), self.X.shape[1]
        weights = np.empty((j + (self._center is None), self.shape[0]))
        np.multiply(U, self.coefficients[:, 0], out=weights[:j])
        if self._center is None:  # in the same read
            weights[j] = self._center_weights
        found = _weighted_sums(weights, self.X, num_threads)
        if self._center is None:
            self._center = found[j]
        out = np.empty((j, self.shape[1]))
        total = weights[:j].sum(axis=1)
        np.subtract(found[:j], total[:, None] * self._center, out=out[:, :d])
        if self.intercept:
            out[:, d] = total
        return out

    def toarray(self) -> NDArray[np.float64]:
        """The rows formed: a new array of their shape."""
        X: Any = self.X
        X = X.toarray() if scipy.sparse.issparse(X) else X
        examples = X - self.center
        if self.intercept:
            examples = np.column_stack([examples, np.ones(len(examples))])
        formed = self.coefficients[:, :, None] * examples[:, None, :]
        return np.asarray(formed.reshape(self.shape))

    def nonzero(self) -> tuple[Any, OuterGradients]:
        """Where rows are not zero and those rows; all, uncopied, if they are most.

        Of a hinge most are zero, and their examples are never read again.
        """
        alive = np.flatnonzero(self.coefficients.any(axis=1))
        if len(alive) > 0.75 * self.shape[0]:
            return slice(None), self
        return alive, self.take(alive)

    def take(self, indices: NDArray[np.intp] | slice) -> OuterGradients:
        """The rows at ``indices``; views of dense examples with a slice."""
        return OuterGradients(
            self.coefficients[indices],
            self.X[indices],
            intercept=self.intercept,
            center=self.center,
        )


class RegressionGradients:
    """Rows ``a_i (x_i - c, 1)`` of a linear regression whose coefficients nobody has asked for yet.

    ``a_i`` is the derivative of Huber's loss (``epsilon``; the squared one where that is infinite)
    at the model, times ``weights``; c the mean of the examples by ``center_weights``. One read of X
    gives them all and the first product with a block of directions: `look`.
    """

    def __init__(
        self,
        X: NDArray[np.float64],
        y: Any,
        coef: Any,
        intercept: float,
        *,
        epsilon: float,
        weights: Any,
        center_weights: Any,
    ) -> None:
        self.X = X
        self.model = (y, coef, intercept)
        self.epsilon, self.weights, self.center_weights = epsilon, weights, center_weights
        self.shape = (X.shape[0], X.shape[1] + 1)

    def outer(self) -> OuterGradients:
        """The same with coefficients."""
        y, coef, intercept = self.model
        z = self.X @ coef
        z += intercept
        a = losses.huber(z, y, self.epsilon)
        if self.weights is not None:
            a *= self.weights
        share = self.center_weights
        if share is None:
            share = np.full(len(a), 1.0 / len(a))
        return OuterGradients(a, self.X, intercept=True, center_weights=share)

    def every(self, step: int) -> RegressionGradients:
        """Every so many rows (views, no copies), about their own mean."""
        some = slice(None, None, step)
        y, coef, intercept = self.model
        return RegressionGradients(
            self.X[some],
            y[some],
            coef,
            intercept,
            epsilon=self.epsilon,
            weights=None if self.weights is None else self.weights[some],
            center_weights=None,
        )

    def look(self, V: Vector, num_threads: int | None) -> tuple[SecondMoments, Vector]:
        """Their second moments, and ``sum_i a_i^2 (x_i - c) (x_i - c)^T V`` of V, (d, k)."""
        n, d = self.X.shape
        found = ops.linear_gradients(
            self.X,
            *self.model,
            V,
            epsilon=self.epsilon,
            weights=self.weights,
            center_weights=self.center_weights,
            num_threads=num_threads,
        )
        a, share = found.coefficients, self.center_weights
        sums = np.empty((3, d + 1))  # with the intercept's behind
        sums[0, :d], sums[1, :d], sums[2, :d] = found.mean, found.total / n, found.squares
        sums[1, d], sums[2, d] = a.sum() / n, a @ a
        sums[0, d] = sums[1, d] if share is None else share @ a
        return SecondMoments(a, self.X, found.center, sums, n, num_threads), found.product


def _vector(given: Any, size: int, name: str) -> Any:
    """``given`` as float64, (size,); None as it is."""
    if given is None:
        return None
    vector = np.asarray(given, dtype=np.float64)
    if vector.shape != (size,):
        raise ValueError(f"{name}: expected shape ({size},), got {vector.shape}")
    return vector


def _weighted_sums(U: NDArray[np.float64], X: Any, num_threads: int | None) -> NDArray[np.float64]:
    """``U X`` of a few rows of U, (j, n) times (n, d)."""
    if is_native(X):
        return np.asarray(ops.weighted_sums(X, U, num_threads=num_threads))
    return np.asarray((X.T @ U.T).T)


def as_operator(gradients: Any, rows: int) -> Any:
    """What a user's ``gradients`` returned as a NumPy array or a LinearOperator of ``rows`` rows.

    Raises
    ------
    TypeError, ValueError
        Not a table, not numbers, NaN or infinity (the row is named), or another number of rows.
    """
    if isinstance(gradients, RegressionGradients):
        table: Any = gradients
    elif scipy.sparse.issparse(gradients):
        matrix = gradients.tocsr()
        total = np.asarray(abs(matrix).sum(axis=1), dtype=np.float64).ravel()
        bad = np.flatnonzero(~np.isfinite(total))
        if bad.size:
            raise ValueError(f"gradients: expected finite values, got NaN or inf in row {bad[0]}")
        table = OuterGradients(np.ones(matrix.shape[0]), matrix)
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


def take_rows(table: Any, members: Any) -> Any:
    """The rows of one class, as `parts_of` names them, of what `as_operator` returned."""
    if isinstance(members, slice):
        return table
    if isinstance(table, np.ndarray):
        return table[members]
    if hasattr(table, "take"):
        return table.take(members)
    raise TypeError(
        "gradients: with per_class, expected an array, a sparse matrix or OuterGradients (whose "
        f"rows can be taken), got {type(table).__name__}"
    )
