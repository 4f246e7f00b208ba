"""Quadratic forms of rows: their law under a Gaussian, and the directions where they vary most.

A symmetric matrix V of Frobenius norm 1 is a direction of the space of degree-2 polynomials. Its
value on a whitened row is ``z' V z``, a weighted sum of squared normals for Gaussian rows. The
space has ``d (d + 1) / 2`` dimensions (off-diagonals times sqrt 2); its covariance operator is only
ever applied, so that nothing of size (n, d^2) exists.

Sources
-------
[DKKLMS17] Diakonikolas, Kamath, Kane, Li, Moitra and Stewart 2017, "Being robust (in high
dimensions) can be practical": the degree-2 filter.
[LR80] Lugannani and Rice 1980, saddle point approximation; [BN86] Barndorff-Nielsen 1986, r*.
[BH95] Benjamini and Hochberg 1995, false discovery rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["gaussianised", "pack", "quadratic_forms", "rejected", "top_forms", "unpack"]

Array = NDArray[Any]
_BLOCK_ROWS = 8192  # rows of one product: its temporaries stay at some ten MB
_GRID = 400  # saddle points; between them r* is interpolated
_QUARTILE = 0.6744897501960817  # of the standard normal


def pack(M: Array) -> Array:
    """A symmetric (d, d) matrix as a vector of d (d + 1) / 2 numbers of the same norm."""
    i, j = np.triu_indices(M.shape[0])
    return np.asarray(M[i, j] * np.where(i == j, 1.0, math.sqrt(2.0)))


def unpack(v: Array, d: int) -> Array:
    """The inverse of `pack`."""
    i, j = np.triu_indices(d)
    M = np.zeros((d, d), dtype=v.dtype)
    M[i, j] = v * np.where(i == j, 1.0, math.sqrt(0.5))
    M[j, i] = M[i, j]
    return M


def quadratic_forms(Z: Array, V: Array) -> Array:
    """``z_i' V z_i`` for every row, float64 (n,)."""
    out = np.empty(Z.shape[0])
    V = V.astype(Z.dtype, copy=False)
    for start in range(0, Z.shape[0], _BLOCK_ROWS):
        z = Z[start : start + _BLOCK_ROWS]
        out[start : start + _BLOCK_ROWS] = np.einsum("ij,ij->i", z @ V, z)
    return out


def _operator(Z: Array) -> Callable[[Array], Array]:
    """``v -> cov(z (x) z) v`` on packed vectors: mean q zz' - mean(q) mean(zz')."""
    n, d = Z.shape
    plain = np.zeros((d, d))
    for start in range(0, n, _BLOCK_ROWS):
        z = Z[start : start + _BLOCK_ROWS]
        plain += z.T @ z

    def apply(v: Array) -> Array:
        V = unpack(np.ravel(v).astype(Z.dtype), d)
        total, count = np.zeros((d, d)), 0.0
        for start in range(0, n, _BLOCK_ROWS):
            z = Z[start : start + _BLOCK_ROWS]
            q = np.einsum("ij,ij->i", z @ V, z)
            total += (z * q[:, None]).T @ z
            count += float(q.sum(dtype=np.float64))
        return pack((total - (count / n) * plain) / n)

    return apply


def top_forms(Z: Array, k: int, seed: int = 0) -> tuple[Array, list[Array]]:
    """The k directions V along which ``z' V z`` varies most, by Lanczos on the packed space.

    Parameters
    ----------
    Z : array of shape (n, d)
        Whitened rows.
    k : int
    seed : int
        Of the starting vector.

    Returns
    -------
    values : float64 array, descending
        Variances; 2 for Gaussian rows and n much larger than d^2.
    forms : list of (d, d) arrays
        Symmetric, of Frobenius norm 1.
    """
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

    d = Z.shape[1]
    size = d * (d + 1) // 2
    k = min(k, size - 1)
    if k < 1:
        return np.zeros(0), []
    operator: Any = LinearOperator((size, size), matvec=_operator(Z), dtype=np.float64)
    start = np.random.default_rng(seed).standard_normal(size)
    try:
        values, vectors = eigsh(
            operator, k, which="LA", v0=start, tol=0.02, ncv=min(size, 2 * k + 10), maxiter=5
        )
    except ArpackNoConvergence as error:  # the spectrum is flat: whatever converged will do
        values, vectors = error.eigenvalues, error.eigenvectors
    order = np.argsort(-values)
    return values[order], [unpack(vectors[:, j], d) for j in order]


def gaussianised(s: Array, V: Array, kept: Array) -> Array:
    """What ``z' V z`` would be if it were standard normal on Gaussian rows: r* of [BN86].

    Location and scale are first matched to those of the law of the form, by the median and the
    quartiles of the ``kept`` values, so that a whitening which outliers inflated does no harm.

    Parameters
    ----------
    s : array of shape (n,)
        The forms.
    V : array of shape (d, d)
        Of Frobenius norm 1.
    kept : bool array of shape (n,)

    Returns
    -------
    float64 array of shape (n,)
        Finite; 0 everywhere where the forms do not vary.
    """
    x, r = _law(np.linalg.eigvalsh(V))
    low, middle, high = np.interp([-_QUARTILE, 0.0, _QUARTILE], r, x)
    q1, q2, q3 = np.quantile(s[kept], [0.25, 0.5, 0.75])
    if q3 - q1 <= 1e-12 * max(abs(q1), abs(q3), 1e-300):
        return np.zeros_like(s)
    if middle - x[0] < 1e-3 * (high - low) or low >= high:
        return np.zeros_like(s)
    matched = middle + (s - q2) * ((high - low) / (q3 - q1))
    return np.asarray(np.interp(matched, x, r))


def _law(weights: Array) -> tuple[Array, Array]:
    """Values of ``sum_j weights_j g_j^2`` and their normal scores, both ascending."""
    top, bottom = float(weights.max()), float(weights.min())
    # the cumulant function lives where 1 - 2 t w > 0 for every weight
    far = np.geomspace(1e-3, 1e8, _GRID)
    near = np.unique(
        np.r_[np.geomspace(5e-4, 0.5, _GRID // 2), 1.0 - np.geomspace(1e-4, 1.0, _GRID // 2)[::-1]]
    )
    up = 0.5 / top * near if top > 1e-9 else far
    down = 0.5 / bottom * near if bottom < -1e-9 else -far
    t = np.r_[down, up]
    t = np.unique(t[t != 0.0])
    rest = 1.0 - 2.0 * np.outer(t, weights)
    cumulant = -0.5 * np.log(rest).sum(axis=1)
    x = (weights / rest).sum(axis=1)
    second = 2.0 * np.square(weights / rest).sum(axis=1)
    w = np.sign(t) * np.sqrt(np.maximum(2.0 * (t * x - cumulant), 1e-300))
    r = w + np.log(np.maximum(t * np.sqrt(second) / w, 1e-300)) / w
    good = np.abs(w) > 0.05  # closer to the mean r* is 0 / 0; the line between will do
    order = np.argsort(x[good])
    x, r = x[good][order], np.maximum.accumulate(r[good][order])
    return x, r


def rejected(r: Array, level: float, limit: int) -> Array:
    """Rows that [BH95] rejects at a false discovery rate, given scores that should be normal.

    At most ``limit`` rows, those furthest out.
    """
    from scipy.special import erfc

    n = r.size
    p = erfc(np.abs(r) / math.sqrt(2.0))
    order = np.argsort(p, kind="stable")
    passed = np.flatnonzero(p[order] <= level * np.arange(1, n + 1) / n)
    out = np.zeros(n, dtype=bool)
    if passed.size:
        out[order[: min(int(passed[-1]) + 1, limit)]] = True
    return out
