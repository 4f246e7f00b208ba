"""Which rows of a small table are clean, where bad rows mask each other.

With few rows a column the noise of the degree-2 directions is so large that a cluster of bad rows
cannot be told from it, and the first covariance, that of all rows, is the cluster's. There the half
of the rows that concentrates most is looked for instead: the deterministic minimum covariance
determinant of Hubert, Rousseeuw and Verdonck, "A deterministic algorithm for robust location and
scatter", J. Comput. Graph. Statist. 21 (2012), from four of their six starts. Departure: rows come
back at a false discovery rate, not at a fixed quantile.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis import _rows
from tamis.estimators._moments import rounding_about, variance_of_rounding
from tamis.estimators._quadratic import rejected

__all__ = ["MAD", "concentrated", "is_small", "medians"]

Array = NDArray[np.float64]
ROWS_A_DIRECTION = 4  # fewer: no half has a covariance worth the name
FEW_COLUMNS = 20  # with more, the half that concentrates fits the noise: twice as many rows
SMALL = 50  # rows a column; with more, the degree-2 filter sees clusters by itself
STEPS = 100
RETURNS = 20
_ENOUGH = 1000  # rows for the scale of a start
_FURTHEST = 1e9  # standardised; squares of this fit into float32
_SINGULAR = 1e-9  # of the squared pivots: below, the eigenvalues decide
_SOUND = 1e-4  # of the same: above, rows in float32 are good enough
MAD = 1.4826  # of a Gaussian: standard deviation over median absolute deviation


def is_small(n: int, d: int) -> bool:
    """Is this a table for `concentrated`?"""
    needed = ROWS_A_DIRECTION if d <= FEW_COLUMNS else 2 * ROWS_A_DIRECTION
    return needed * d <= n < SMALL * d


def concentrated(X: NDArray[Any], level: float, centred: bool = False) -> NDArray[np.bool_]:
    """Which rows are clean, (n,); at least half of them. ``centred``: about zero."""
    A = np.asarray(X, np.float64)
    middle = np.zeros(A.shape[1]) if centred else medians(A)
    Z = A - middle
    scale = MAD * medians(np.abs(Z))
    off = np.zeros(len(A))
    rounding = rounding_about(middle, float(np.finfo(X.dtype).eps))
    flat = scale <= rounding
    if flat.any():
        off = _off_the_pattern(np.where(np.abs(Z) <= rounding, 0.0, Z)[:, flat])
        Z, scale = Z[:, ~flat], scale[~flat]
    Z /= scale
    if Z.size:
        some = _spanning(Z, middle[~flat] / scale, float(np.finfo(X.dtype).eps), centred)
        Z = Z if some.size == Z.shape[1] else Z[:, some]
    n, d = Z.shape
    kept = np.ones(n, dtype=bool)
    if d == 0:
        return kept
    half = (n + d + 1) // 2
    best, least = None, np.inf
    rough = np.clip(Z, -_FURTHEST, _FURTHEST).astype(np.float32)
    seen: set[bytes] = set()
    for distances in _starts(rough, centred):
        chosen, determinant = _descend(Z, rough, distances, half, centred, seen)
        if determinant < least:
            best, least = chosen, determinant
    if best is None:
        return kept
    kept[:] = False
    kept[best] = True
    for _ in range(RETURNS):
        more = float(off[kept].mean())  # dimensions that these columns are worth to rows kept
        distances = _distances(Z, rough, kept, centred) + off
        scores = _normal_scores(distances, d + more, int(kept.sum()))
        again = ~rejected(scores, level, n)
        if again.sum() < half or bool((again == kept).all()):
            break
        kept = again
    return kept


def _spanning(Z: Array, middle: Array, eps: float, centred: bool) -> NDArray[np.intp]:
    """Columns of which the others are combinations in every row.

    With the others every half is singular, and the rounding in its determinant would choose.
    """
    from scipy.linalg import qr

    n, d = Z.shape
    length = np.sqrt(np.einsum("ij,ij->i", Z, Z))[:, None]
    if not centred:  # the medians need not be such a combination, but a row near to them is
        Z = Z - Z[length.argmin()]
    Z = Z / np.maximum(length, 1.0)
    rough = Z.astype(np.float32)
    if _cholesky(rough.T @ rough)[1] > _SOUND:  # nearly always, in a tenth of the time
        return np.arange(d)
    R, order = qr(Z, mode="r", pivoting=True, check_finite=False)
    left = np.square(np.diag(R)) / n  # of each column beside those before it in this order
    good = left > variance_of_rounding(middle, eps, n, float(left.max(initial=0.0)))
    return np.sort(order[: d if good.all() else int(good.argmin())])


def _off_the_pattern(gaps: Array) -> Array:
    """Squared distances, (n,), in columns where most rows are at one value, from which gaps are.

    They have no robust scale. As for other moments (`_moments`), it is the second moment of all
    rows that measures: a share p of rows that leave such a value in the same way is 1 / p off.
    """
    size = np.sqrt(np.square(gaps).mean(axis=0))
    if not (size > 0).any():
        return np.zeros(len(gaps))
    gaps = gaps[:, size > 0] / size[size > 0]
    root = _inverse_root(gaps.T @ gaps / len(gaps))[0]
    return np.asarray(np.square(gaps @ root).sum(axis=1))


def _starts(Z: NDArray[np.float32], centred: bool) -> Iterator[Array]:
    """Squared distances by four rough scatters: tanh, ranks, spatial signs, the nearest half."""
    ranks = _ranks(Z)
    length = np.sqrt(np.square(Z).sum(axis=1, keepdims=True))
    near = Z[np.argsort(length[:, 0], kind="stable")[: (len(Z) + 1) // 2]]
    for rough in (np.tanh(Z), ranks, Z / np.maximum(length, 1e-30), near):
        moved = rough - rough.mean(axis=0)
        axes = np.linalg.eigh(moved.T @ moved)[1]
        B = Z @ axes
        some = B[:: max(len(B) // _ENOUGH, 1)]
        if not centred:
            middle = medians(some)
            B, some = B - middle, some - middle
        spread = MAD * medians(np.abs(some))
        if (spread > 0).all():
            yield np.square(B / spread).sum(axis=1)


def medians(A: Array) -> Array:
    """Of the columns; each is copied together first, which is what makes it quick."""
    columns = np.array(A.T, order="C")
    return np.asarray(np.median(columns, axis=1, overwrite_input=True))


def _ranks(Z: NDArray[Any]) -> NDArray[Any]:
    """Of every value within its column, from 0 on."""
    order = np.ascontiguousarray(Z.T).argsort(axis=1)
    ranks = np.empty(order.shape, Z.dtype)
    np.put_along_axis(ranks, order, np.arange(len(Z), dtype=Z.dtype)[None], axis=1)
    return np.asarray(ranks.T)


def _descend(
    Z: Array,
    rough: NDArray[np.float32],
    distances: Array,
    half: int,
    centred: bool,
    seen: set[bytes],
) -> tuple[NDArray[np.intp], float]:
    """Concentration steps: the half nearest to its own mean, by its own covariance.

    And its log determinant; infinity where the way led to a half that was ``seen`` before.
    """
    chosen = np.sort(np.argsort(distances, kind="stable")[:half])
    for _ in range(STEPS):
        if chosen.tobytes() in seen:
            return chosen, np.inf
        seen.add(chosen.tobytes())
        far = _distances(Z, rough, chosen, centred)
        following = np.sort(np.argsort(far, kind="stable")[:half])
        if bool((following == chosen).all()):
            break
        chosen = following
    sign, determinant = np.linalg.slogdet(_moments(Z[chosen], centred)[1])
    return chosen, float(determinant) if sign > 0 else np.inf


def _moments(Z: Array, centred: bool) -> tuple[Array, Array]:
    """About the coordinate-wise medians, which are 0 here, so that nothing much cancels."""
    mean = np.zeros(Z.shape[1]) if centred else Z.mean(axis=0)
    return mean, Z.T @ Z / len(Z) - np.outer(mean, mean)


def _distances(Z: Array, rough: NDArray[np.float32], chosen: Any, centred: bool) -> Array:
    """Squared Mahalanobis distances of all rows from those chosen, in float32 where that will do.

    ``rough`` are the rows in float32.
    """
    mean, C = _moments(Z[chosen], centred)
    root, sound = _inverse_root(C)
    rows: NDArray[Any] = rough if sound else Z
    return _rows.squared_projections(rows, mean.astype(rows.dtype), root.astype(rows.dtype))


def _inverse_root(C: Array) -> tuple[Array, bool]:
    """R with ``R R'`` the inverse of C, or its pseudo-inverse where C is nearly singular.

    Also whether C is so far from singular that float32 will do for the rows.
    """
    from scipy.linalg.lapack import dtrtri

    L, least = _cholesky(C)
    if least > _SINGULAR:
        return np.asarray(dtrtri(L, lower=1)[0].T), least > _SOUND
    w, U = np.linalg.eigh(C)
    good = w > len(w) * np.finfo(np.float64).eps * max(float(w[-1]), 0.0)
    return np.asarray(U[:, good] / np.sqrt(w[good])), False


def _cholesky(C: NDArray[Any]) -> tuple[NDArray[Any], float]:
    """The factor, and the least of its squared pivots over the largest; 0 where C is singular."""
    try:
        L = np.linalg.cholesky(C)
    except np.linalg.LinAlgError:
        return C, 0.0
    pivots = np.square(np.diag(L))
    return L, float(pivots.min() / pivots.max())


def _normal_scores(distances2: Array, d: float, m: int) -> Array:
    """Distances on a normal scale, two-sided: by the F(d, m - d) law that a further row has.

    Their median is brought to that law's, which makes up for the half that was chosen because it
    is narrow.
    """
    from scipy.special import fdtrc, fdtri, ndtri

    middle = float(np.median(distances2))
    if m <= d or middle <= 0.0:
        return np.zeros(len(distances2))
    ratio = distances2 * (float(fdtri(d, m - d, 0.5)) / middle)
    tail = np.maximum(fdtrc(d, m - d, ratio), 1e-300)
    return np.asarray(-ndtri(tail / 2.0))
