"""QUE scores: between the squared distance and the projection on the top direction.

Source: Dong, Hopkins and Li 2019, "Quantum entropy scoring for fast robust mean estimation and
improved outlier detection".
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tamis import _arrays, _rows, ops
from tamis._eigenpairs import few_rows, product_eigenpairs

__all__ = ["que_scores"]

METHODS = ("exact", "sketch")
_WIDTH = 8  # of a block: eight products cost `covariance_apply` one read of the rows
_BLOCKS = 8  # at least, so that the top eigenvectors are found
_ROUNDING = 1e-10  # squared length over that before, of products in float32


def que_scores(
    X: Any,
    alpha: float = 4.0,
    *,
    method: Literal["exact", "sketch"] = "exact",
    n_rows: int = 64,
    seed: int = 0,
    num_threads: int | None = None,
) -> Any:
    """Quantum entropy scores of the rows of ``X``: higher is more outlying.

    ``score_i = (x_i - mu)' U (x_i - mu)`` with ``U = exp(alpha S / lambda_1) / trace``, S the
    covariance of the rows and lambda_1 its top eigenvalue.

    Parameters
    ----------
    X : array of shape (n, d)
        Whitened by what is known of good rows, where that is anything. NumPy array, torch tensor
        on the CPU, data frame, or what NumPy makes an array of.
    alpha : float >= 0
        0 ranks like the squared distance to the mean, a large number like the squared projection on
        the top eigenvector.
    method : {"exact", "sketch"}
        "exact": the eigenvectors of the (d, d) covariance. "sketch": ``n_rows`` directions from
        block Lanczos on random vectors, through `tamis.covariance_apply`, in which the exponential
        is taken, and a multiple of the squared length for the rest; the (d, d) covariance is not
        formed.
    n_rows : int, 1 to 256
        Of the sketch: how many directions. The error shrinks as they grow; d of them are exact.
    seed : int in [0, 2**64)
        Of the sketch.
    num_threads : int, optional
        CPU threads of native code.

    Returns
    -------
    array of shape (n,)
        In the library and dtype of ``X``; zeros where all rows are the same.

    Raises
    ------
    TypeError, ValueError
        Not a table of finite numbers (the first bad row is named), or an argument out of range.

    Notes
    -----
    Rows so small that their squares underflow in their dtype (1e-12 in float32) are multiplied by a
    power of two first, so that the scores are those of other units, of the same order.

    The published sketch takes random signs of a Hadamard matrix, a short series of the exponential
    outside of where that holds, and the square of ``exp(alpha S)``, which is another alpha. Here
    the directions are those that Lanczos finds, after Musco and Musco 2015, so the exponential is
    right along the top eigenvectors, and they cost less than as many random ones.

    Examples
    --------
    >>> import numpy as np, tamis
    >>> X = np.random.default_rng(0).standard_normal((1000, 30))
    >>> X[:20, 0] += 8
    >>> sorted(np.argsort(-tamis.que_scores(X))[:20].tolist()) == list(range(20))
    True
    """
    multiple = _arrays.check_real(alpha, "alpha")
    if not (math.isfinite(multiple) and multiple >= 0.0):
        raise ValueError(f"alpha: expected a finite number >= 0, got {multiple}")
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
    columns = _arrays.check_int(n_rows, "n_rows", 1, ops.spectral.MAX_VECTORS + 1)
    seed = _arrays.check_int(seed, "seed", 0, 2**64)
    rows = _rows.as_rows(X)
    array = _rows.as_numpy(rows)
    _rows.check_finite(array)

    def scores_by(X: NDArray[Any]) -> NDArray[np.float64]:
        center = X.mean(axis=0, dtype=np.float64)
        if method == "exact":
            return scores_of(X, center, exact_root(X, center, multiple))
        return _sketched(X, center, multiple, columns, seed, num_threads)

    scores = scores_by(array)
    if scores.max() < np.square(_least(array.dtype)):
        exponent = enlargement(array, array.dtype)
        scores = scores_by(np.ldexp(array, exponent)) if exponent else scores
    return _rows.in_library_of(scores, rows)


def _least(dtype: Any) -> float:
    """The square of this leaves room below for those of smaller numbers."""
    return math.sqrt(float(np.finfo(dtype).tiny)) / float(np.finfo(dtype).eps)


def enlargement(X: NDArray[Any], dtype: Any) -> int:
    """The power of two by which rows are multiplied so that no square underflows in this dtype.

    0 where none would.
    """
    largest = float(max(X.max(initial=0.0), -X.min(initial=0.0)))
    return 0 if largest >= _least(dtype) else min(-math.frexp(largest)[1], 1000)


def scores_of(
    array: NDArray[Any], center: NDArray[np.float64], root: NDArray[np.float64]
) -> NDArray[np.float64]:
    """``|| root' (x_i - center) ||^2``, (n,), computed in the dtype of the rows."""
    return _rows.squared_projections(array, center.astype(array.dtype), root.astype(array.dtype))


def exact_root(
    array: NDArray[Any],
    center: NDArray[np.float64],
    multiple: float,
    cap: float = math.inf,
) -> NDArray[np.float64]:
    """R with ``R R' = exp(multiple S / lambda_1) / trace``; the top eigenvalue is subtracted first.

    Eigenvalues above ``cap`` count as ``cap``. Columns whose weight is below 1e-20 of the largest
    are left out.
    """
    n, d = array.shape
    C = np.zeros((d, d))
    middle = center.astype(array.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, n, 4096):
            part = array[start : start + 4096] - middle
            C += part.T @ part
    C /= n
    if not np.isfinite(C).all():
        raise ValueError("X: expected values whose squares are finite, got larger ones")
    if few_rows(n, d):
        values, vectors = product_eigenpairs((array - center) / math.sqrt(n))
    else:
        values, vectors = np.linalg.eigh(C)
    values = np.minimum(values, cap)
    top = float(values[-1])
    if top <= 0.0:
        return np.zeros((d, 1))
    weights = np.exp(multiple * (np.maximum(values, 0.0) / top - 1.0))
    weights /= weights.sum()
    used = weights > 1e-20 * weights[-1]
    return np.asarray(vectors[:, used] * np.sqrt(weights[used]))


def _sketched(
    array: NDArray[Any],
    center: NDArray[np.float64],
    multiple: float,
    columns: int,
    seed: int,
    threads: int | None,
) -> NDArray[np.float64]:
    """Scores from ``columns`` directions Q: ``x' Q f(T) Q' x + c |x - Q Q' x|^2``, ``T = Q' S Q``.

    f(t) = exp(multiple (t / lambda_1 - 1)) and c is its mean over the eigenvalues that are left,
    whose own mean is known from the trace, and whose variance from the products with random
    vectors: ``f(mean) (1 + variance f''/ 2 f)``.
    """
    d = array.shape[1]
    Q, T, square = _krylov(array, center, columns, seed, threads)
    values, W = np.linalg.eigh(T)
    values = np.maximum(values, 0.0)
    top = float(values[-1])
    if top <= 0.0:
        return np.zeros(array.shape[0])
    V = (Q @ W).astype(array.dtype)
    middle = center.astype(array.dtype)
    lengths = np.empty(array.shape[0])
    inside = np.empty((array.shape[0], values.size), array.dtype)
    for rows in _rows.blocks(array):
        x = array[rows] - middle
        lengths[rows] = np.einsum("ij,ij->i", x, x)
        np.square(x @ V, out=inside[rows])
    left = d - values.size
    c = 0.0
    if left:
        mean = max(float(lengths.mean() - values.sum()) / left, 0.0)
        variance = (square - float(np.square(values).sum())) / left - mean**2
        variance = min(max(variance, 0.0), mean * max(float(values[0]), mean))
        c = math.exp(multiple * (mean / top - 1.0)) * (1.0 + 0.5 * (multiple / top) ** 2 * variance)
    weights = np.exp(multiple * (values / top - 1.0))
    scores = c * lengths + inside @ (weights - c).astype(array.dtype)
    return np.asarray(np.maximum(scores, 0.0) / (float(weights.sum()) + c * left))


def _krylov(
    array: NDArray[Any], center: NDArray[np.float64], columns: int, seed: int, threads: int | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Block Lanczos from random vectors: orthonormal Q (d, columns), ``Q' S Q``, about ``tr S^2``.

    Everything where the rows have fewer directions than that.
    """
    d = array.shape[1]
    width = min(_WIDTH, max(columns // _BLOCKS, 1), d)
    start = np.random.default_rng(seed).standard_normal((d, width))
    Q, SQ = np.zeros((d, 0)), np.zeros((d, 0))
    following, square = start, 0.0
    while True:
        block = _orthonormal(following, Q)[:, : columns - Q.shape[1]]
        if not block.shape[1]:
            break
        product = ops.covariance_apply(
            array, block.astype(array.dtype), mean=center, num_threads=threads
        )
        following = np.asarray(product, dtype=np.float64)
        if not Q.shape[1]:
            square = float(np.square(following).sum()) * d / block.shape[1]
        Q, SQ = np.hstack([Q, block]), np.hstack([SQ, following])
    T = Q.T @ SQ
    return Q, (T + T.T) / 2.0, square


def _orthonormal(B: NDArray[np.float64], Q: NDArray[np.float64]) -> NDArray[np.float64]:
    """A basis of the columns of B beside those of Q; what rounding alone has left is dropped."""
    size = float(np.square(B).sum(axis=0).max(initial=0.0))
    for _ in range(2):
        B = B - Q @ (Q.T @ B)
        values, W = np.linalg.eigh(B.T @ B)
        good = values > _ROUNDING * size
        B = B @ (W[:, good] / np.sqrt(values[good]))[:, ::-1]
        size = 1.0
    return B[:, : Q.shape[0] - Q.shape[1]]
