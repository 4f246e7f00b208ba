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
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis import _rows

__all__ = [
    "cached_blocks",
    "gaussianised",
    "pack",
    "quadratic_forms",
    "rejected",
    "top_forms",
    "unpack",
]

Array = NDArray[Any]
_CACHED_NUMBERS = 1 << 15  # of a block of rows
_MOST_PRODUCTS = 60
_EVERY = 3  # products between two looks at the Ritz values
_GRID = 200  # saddle points; between them r* is interpolated, off by .003 at most up to 5
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
    diagonal = np.diag(V)
    if np.count_nonzero(V) == np.count_nonzero(diagonal):  # the radius, above all
        for rows in cached_blocks(Z):
            out[rows] = np.square(Z[rows]) @ diagonal
        return out
    for rows in cached_blocks(Z):
        z = Z[rows]
        out[rows] = np.einsum("ij,ij->i", z @ V, z)
    return out


def cached_blocks(X: Array) -> Iterator[slice]:
    """Blocks of rows that stay in the second-level cache when they are multiplied twice."""
    return _rows.blocks(X, _CACHED_NUMBERS, 256)


class _Operator:
    """``v -> cov(z (x) z) v`` on packed vectors: mean q zz' - mean(q) mean(zz').

    Both products of a block of rows are made while it lies in the second-level cache.
    """

    def __init__(self, Z: Array) -> None:
        d = Z.shape[1]
        self.Z = Z
        self.i, self.j = np.triu_indices(d)
        self.weight = np.where(self.i == self.j, 1.0, math.sqrt(2.0))
        self.blocks = list(cached_blocks(Z))
        self.room = np.empty((self.blocks[0].stop, d), Z.dtype)
        self.plain = np.zeros((d, d))
        for rows in self.blocks:
            self.plain += Z[rows].T @ Z[rows]

    def __call__(self, v: Array) -> Array:
        n, d = self.Z.shape
        V = np.empty((d, d), self.Z.dtype)
        V[self.i, self.j] = v / self.weight
        V[self.j, self.i] = V[self.i, self.j]
        total, count = np.zeros((d, d)), 0.0
        for rows in self.blocks:
            z = self.Z[rows]
            room = self.room[: z.shape[0]]
            np.matmul(z, V, out=room)
            q = np.einsum("ij,ij->i", room, z)
            np.multiply(z, q[:, None], out=room)
            total += room.T @ z
            count += float(q.sum(dtype=np.float64))
        total -= (count / n) * self.plain
        return np.asarray((total / n)[self.i, self.j] * self.weight)


def top_forms(
    Z: Array, k: int, seed: int = 0, *, enough: float = 0.0, tol: float = 0.02
) -> tuple[Array, list[Array]]:
    """The directions V along which ``z' V z`` varies most, by Lanczos on the packed space.

    Lanczos with full reorthogonalisation from a random start. It ends when the k largest Ritz
    values, as far as they exceed ``enough``, have residuals of at most ``tol`` of their size; where
    none exceeds it, when the largest has settled.

    Parameters
    ----------
    Z : array of shape (n, d)
        Whitened rows.
    k : int
    seed : int
        Of the starting vector.
    enough : float
        Directions of less variance are of no interest.
    tol : float

    Returns
    -------
    values : float64 array, descending
        Variances; 2 for Gaussian rows and n much larger than d^2.
    forms : list of (d, d) arrays
        Symmetric, of Frobenius norm 1.
    """
    d = Z.shape[1]
    size = d * (d + 1) // 2
    k = min(k, size)
    if d < 2:
        return np.zeros(0), []
    apply = _Operator(Z)
    v = np.random.default_rng(seed).standard_normal(size)
    Q = np.empty((min(_MOST_PRODUCTS, size), size))
    Q[0] = v / np.linalg.norm(v)
    T = np.zeros((len(Q), len(Q)))
    before = 0.0
    for m in range(1, len(Q) + 1):
        w = apply(Q[m - 1])
        T[m - 1, m - 1] = float(w @ Q[m - 1])
        for _ in range(2):
            w -= (Q[:m] @ w) @ Q[:m]
        beta = float(np.linalg.norm(w))
        last = m == len(Q) or beta <= 1e-7 * abs(T[0, 0])
        if last or m % _EVERY == 0:
            values, S = np.linalg.eigh(T[:m, :m])
            values, S = values[::-1][:k], S[:, ::-1][:, :k]
            done = beta * np.abs(S[-1]) <= tol * values
            found = values > enough
            settled = values[0] - before <= tol * values[0]
            if last or (m > k and bool(done[found].all() if found.any() else settled)):
                break
            before = float(values[0])
        Q[m] = w / beta
        T[m, m - 1] = T[m - 1, m] = beta
    vectors = S.T @ Q[:m]
    return values, [unpack(v, d) for v in vectors]


def gaussianised(s: Array, V: Array, kept: Array, beyond: float = 0.0) -> Array:
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
    beyond : float
        Scores nearer to 0 than this are given as 0, which saves finding them.

    Returns
    -------
    float64 array of shape (n,)
        Finite; 0 everywhere where the forms do not vary.
    """
    x, r = _known_law(tuple(np.round(np.linalg.eigvalsh(V), 12).tolist()))
    low, middle, high = np.interp([-_QUARTILE, 0.0, _QUARTILE], r, x)
    q1, q2, q3 = _quartiles(s[kept])
    if q3 - q1 <= 1e-12 * max(abs(q1), abs(q3), 1e-300):
        return np.zeros_like(s)
    if middle - x[0] < 1e-3 * (high - low) or low >= high:
        return np.zeros_like(s)
    matched = middle + (s - q2) * ((high - low) / (q3 - q1))
    least, most = np.interp([-beyond, beyond], r, x)
    far = np.flatnonzero((matched <= least) | (matched >= most))
    scores = np.zeros(s.shape)
    scores[far] = np.interp(matched[far], x, r)
    return scores


def _quartiles(s: Array) -> Array:
    """As `numpy.quantile` has them, in a third of its time."""
    at = np.array([0.25, 0.5, 0.75]) * (s.size - 1)
    low = at.astype(np.int64)
    high = np.minimum(low + 1, s.size - 1)
    ordered = np.partition(s, sorted({*low.tolist(), *high.tolist()}))
    return np.asarray(ordered[low] + (at - low) * (ordered[high] - ordered[low]))


@lru_cache(maxsize=8)
def _known_law(weights: tuple[float, ...]) -> tuple[Array, Array]:
    """The law is asked for again and again for the radius, all of whose weights are the same."""
    return _law(np.array(weights))


_FAR = np.geomspace(1e-3, 1e8, _GRID)
_NEAR = np.unique(  # from 0 to 1, both excluded, denser at the ends
    np.r_[np.geomspace(5e-4, 0.5, _GRID // 2), 1.0 - np.geomspace(1e-4, 1.0, _GRID // 2)[:-1]]
)


def _law(weights: Array) -> tuple[Array, Array]:
    """Values of ``sum_j weights_j g_j^2`` and their normal scores, both ascending."""
    top, bottom = float(weights.max()), float(weights.min())
    # the cumulant function lives where 1 - 2 t w > 0 for every weight
    up = 0.5 / top * _NEAR if top > 1e-9 else _FAR
    down = 0.5 / bottom * _NEAR[::-1] if bottom < -1e-9 else -_FAR[::-1]
    t = np.concatenate([down, up])
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
    few = np.flatnonzero(r)  # where there is a score at all
    p = erfc(np.abs(r[few]) / math.sqrt(2.0))
    few, p = few[p <= level], p[p <= level]  # no other row can be among them
    near = np.argsort(p, kind="stable")
    order = few[near]
    passed = np.flatnonzero(p[near] <= level * np.arange(1, few.size + 1) / n)
    out = np.zeros(n, dtype=bool)
    if passed.size:
        out[order[: min(int(passed[-1]) + 1, limit)]] = True
    return out
