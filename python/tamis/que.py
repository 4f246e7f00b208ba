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

__all__ = ["que_scores"]

METHODS = ("exact", "sketch")
_EXACT = 16  # eigenvectors that the sketch leaves alone
_DEGREE = 60  # at most; the series of exp(a (t - 1)) needs about 4 + 6 sqrt(a) terms
_TOLERANCE = 1e-5  # of the Chebyshev series, relative to its largest value


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
        "exact": the eigenvectors of the (d, d) covariance. "sketch": 16 top
        eigenvectors are exact, and what is left is sketched by ``n_rows`` random vectors times
        ``exp(alpha S / (2 lambda_1))``, applied by Chebyshev's series through
        `tamis.covariance_apply`; the (d, d) covariance is not formed.
    n_rows : int, 1 to 256
        Of the sketch; its error is proportional to ``sqrt(1 / n_rows)``.
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
    The published sketch applies ``exp(alpha S)`` and squares it, which is another alpha; here the
    exponent is halved first.

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
    center = array.mean(axis=0, dtype=np.float64)
    if method == "exact":
        scores = scores_of(array, center, exact_root(array, center, multiple))
    else:
        scores = _sketched(array, center, multiple, columns, seed, num_threads)
    return _rows.in_library_of(scores, rows)


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
    for start in range(0, n, 4096):
        part = array[start : start + 4096] - middle
        C += part.T @ part
    C /= n
    if not np.isfinite(C).all():
        raise ValueError("X: expected values whose squares are finite, got larger ones")
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
    """Scores from G times ``f(S) = exp(multiple (S / lambda_1 - 1))``, in three parts.

    The top eigenvectors V are exact. On the rest, where f hardly varies, f is c I plus little, with
    c its mean: c |x|^2 is exact, and only ``x' (f - c) x`` is left to the sketch, as the mean of
    ``(g' f^(1/2) x)^2 - c (g' x)^2`` over the columns g of G.
    """
    d = array.shape[1]
    found = ops.power_iteration(
        array, min(_EXACT, d), tol=1e-2, seed=seed, num_threads=threads, max_iter=30
    )
    values = np.asarray(found.values, dtype=np.float64)
    V = np.asarray(found.vectors, dtype=np.float64)
    top = float(values[0])
    if top <= 0.0:
        return np.zeros(array.shape[0])
    G = np.random.default_rng(seed).standard_normal((d, columns))
    G -= V @ (V.T @ G)
    R = _half_exponential(array, G, top, multiple, threads)
    R -= V @ (V.T @ R)
    whole = np.square(G).sum()
    c = float(np.square(R).sum() / whole) if d > V.shape[1] and whole > 0.0 else 0.0
    weights = np.exp(multiple * (values / top - 1.0))
    trace = float(weights.sum()) + c * (d - V.shape[1])
    plain = _rows.squared_distances(array, center)
    first = scores_of(array, center, V * np.sqrt(weights))
    rest = plain - scores_of(array, center, V)
    correction = scores_of(array, center, R) - c * scores_of(array, center, G)
    return np.asarray(np.maximum(first + c * rest + correction / columns, 0.0) / trace)


def _half_exponential(
    array: NDArray[Any], G: NDArray[np.float64], top: float, multiple: float, threads: int | None
) -> NDArray[np.float64]:
    """``exp(multiple (S / top - 1) / 2) G`` by Chebyshev's series.

    exp(a (x - 1)) on [-1, 1] has the coefficients 2 I_k(a) exp(-a), I_k the modified Bessel
    functions, the first one halved.
    """
    from scipy.special import ive

    bound = top * 1.01  # the top eigenvalue is estimated from below
    half = multiple * 1.01 / 4.0
    coefficients = ive(np.arange(_DEGREE + int(2 * half) + 1), half)
    coefficients[1:] *= 2.0
    tail = np.cumsum(np.abs(coefficients)[::-1])[::-1]
    degree = int(np.argmax(tail < _TOLERANCE * coefficients[0])) or coefficients.size

    def apply(A: NDArray[np.float64]) -> NDArray[np.float64]:
        product = ops.covariance_apply(array, A.astype(array.dtype), num_threads=threads)
        return np.asarray(product, dtype=np.float64) * (2.0 / bound) - A

    older, old = G, apply(G) if degree > 1 else G
    total = coefficients[0] * G
    for k in range(1, degree):
        total = total + coefficients[k] * old
        if k + 1 < degree:
            older, old = old, 2.0 * apply(old) - older
    return np.asarray(total * math.exp(2.0 * half - multiple / 2.0))
