"""Mean and covariance of the rows kept, and coordinates in which rows are measured against them.

Where the rows kept lie in a subspace, other rows may leave it: by such a direction they are
infinitely far out, and no covariance of the kept rows can say by how much. As in the exact fit of
robust statistics (Rousseeuw and Van Driessen 1999, section 3.4) the rows kept are taken to be the
pattern, and a direction which only others take is measured by the second moment of all rows: where
a share p of the rows leaves the pattern in one direction, their squared distance is 1 / p.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis._eigenpairs import few_rows, product_eigenpairs
from tamis.estimators._quadratic import cached_blocks

__all__ = [
    "Moments",
    "inverses",
    "mean_of",
    "moments",
    "principal_axes",
    "rounding_about",
    "shrunk",
    "shrunk_variances",
    "variance_of_rounding",
    "whitened",
]

Array = NDArray[Any]
ROWS_A_DIRECTION = 5  # fewer rows than this for each direction: whitened rows are all alike
_FLAT = 64.0  # roundings of the mean: a smaller deviation is none
_NULL = 16.0  # squared roundings of a row: a smaller variance is none
_LEFT = 1e3  # roundings of a row: nearer to the subspace it is within it
_LEAST = 1e-12  # of the largest variance: so small is rounding
_FURTHEST = 1e15  # whitened; in float32 squares of this are far from overflow


@dataclass
class Moments:
    """Mean, covariance, and the maps to and from whitened coordinates."""

    mean: Array
    covariance: Array
    whiten: Array  # (d, r + s): r coordinates in which the rows kept have the identity as
    back: Array  # (r + s, d)     covariance, then s in which they are 0 and other rows are not
    rank: int  # of the covariance; r may be less
    sd: Array  # of the columns; 0 where the rows kept do not vary
    outside: int = 0  # s

    @property
    def inside(self) -> int:
        """How many coordinates are those of the rows kept: r."""
        return int(self.whiten.shape[1]) - self.outside


def mean_of(X: Array, kept: Array) -> Array:
    """Mean of the kept rows, summed in float64."""
    return np.asarray(np.mean(X, axis=0, dtype=np.float64, where=kept[:, None]))


def moments(X: Array, kept: Array, centred: bool, others: Array | None = None) -> Moments:
    """Moments of the kept rows in float64, and as many whitened coordinates as these can bear.

    ``others``: rows that may leave the subspace of those kept; by default the rest of ``X``.
    """
    d = X.shape[1]
    count = int(kept.sum())
    mean, C = _sums(X, kept, centred)
    if not np.isfinite(C).all():
        raise ValueError("X: expected values whose squares are finite, got larger ones")
    sd = np.sqrt(np.maximum(np.diag(C), 0.0))
    eps = float(np.finfo(X.dtype).eps)
    flat = sd <= rounding_about(mean, eps)
    sd = np.where(flat, 0.0, sd)
    inverse = inverses(sd)
    w, U = _axes(X, kept, mean, C, inverse)
    good = w > variance_of_rounding(mean * inverse, eps, count, max(w[-1], 0.0))
    null = U[:, ~good]
    rank = int(good.sum())
    good &= np.arange(d) >= d - max(count // ROWS_A_DIRECTION, 1)
    root = np.sqrt(w[good])
    whiten = inverse[:, None] * U[:, good] / root
    back = (sd[:, None] * U[:, good] * root).T
    found = Moments(mean, C, whiten, back, rank, sd)
    if rank >= count - (not centred):  # too few rows to span more: flat columns alone are a fact
        null = np.eye(d)[:, flat]
    if null.size:
        _add_outside(found, X, kept, others, null)
    return found


def principal_axes(X: Array, kept: Array, found: Moments) -> tuple[Array, Array]:
    """Eigenpairs of the covariance of the rows kept, ascending: (d,) and (d, d)."""
    return _axes(X, kept, found.mean, found.covariance, np.ones(len(found.mean)))


def _axes(X: Array, kept: Array, mean: Array, C: Array, scale: Array) -> tuple[Array, Array]:
    """The same of C, in which columns are multiplied by ``scale``."""
    count = int(kept.sum())
    if few_rows(count, len(mean)):
        return product_eigenpairs((X[kept] - mean) * (scale / np.sqrt(count)))
    w, U = np.linalg.eigh(C * np.outer(scale, scale))
    return w, U


def rounding_about(mean: Array, eps: float) -> Array:
    """So near to the mean a number with this unit roundoff may be the same one, rounded."""
    return np.asarray(_FLAT * eps * np.maximum(np.abs(mean), np.finfo(np.float64).tiny))


def variance_of_rounding(mean: Array, eps: float, count: int, largest: float) -> float:
    """What rows that do not vary in a direction may seem to vary there.

    ``mean``: in units of the columns' deviations. ``largest``: variance of any direction.
    """
    # rounding of the rows, which may be float32, and of the sums, which are float64
    of_rows = _NULL * float(np.square(eps * (np.abs(mean) + 1.0)).max(initial=0.0))
    of_sums = largest * max(count, mean.size) * 4 * float(np.finfo(np.float64).eps)
    return max(of_rows, of_sums)


def inverses(scale: Array) -> Array:
    """1 / scale, and 0 where it is 0."""
    return np.asarray(np.where(scale > 0.0, 1.0 / np.where(scale > 0.0, scale, 1.0), 0.0))


def _sums(X: Array, kept: Array, centred: bool) -> tuple[Array, Array]:
    """Mean and covariance of the kept rows, in blocks and in one pass.

    Products are summed about the mean of the first block, which is near enough to the mean for
    nothing to cancel.
    """
    d = X.shape[1]
    count = max(int(kept.sum()), 1)
    shift, total = np.zeros(d), np.zeros(d)
    C = np.zeros((d, d))
    began = False
    with np.errstate(over="ignore", invalid="ignore"):
        for rows in cached_blocks(X):
            part, inside = X[rows], kept[rows]
            if not inside.all():
                part = part[inside]
            if not began and not centred and len(part):
                shift = part.mean(axis=0, dtype=np.float64)
            began = began or len(part) > 0
            part = part - shift
            total += part.sum(axis=0)
            C += part.T @ part
        total /= count
        C /= count
        if centred:
            return np.zeros(d), C
        C -= np.outer(total, total)
    return shift + total, C


def _add_outside(found: Moments, X: Array, kept: Array, others: Array | None, null: Array) -> None:
    """Coordinates in which other rows leave the subspace of those kept.

    ``null``: (d, t), orthonormal, what the rows kept do not span in units of their deviations, or
    of the root mean square of all rows where they have none.
    """
    gone, total = (X[~kept], len(X)) if others is None else (others, len(others))
    if not len(gone):
        return
    eps = float(max(np.finfo(X.dtype).eps, np.finfo(gone.dtype).eps))
    gaps = gone - found.mean
    gaps[(found.sd == 0.0) & (np.abs(gaps) <= rounding_about(found.mean, eps))] = 0.0
    unit = np.where(found.sd > 0.0, found.sd, np.sqrt(np.square(gaps).sum(axis=0) / total))
    scaled = gaps * inverses(unit)
    off = scaled @ null
    within = _LEFT * eps * np.linalg.norm(scaled, axis=1)
    off[np.linalg.norm(off, axis=1) <= within] = 0.0
    if few_rows(*off.shape):
        moment, W = product_eigenpairs(off / np.sqrt(total))
    else:
        moment, W = np.linalg.eigh(off.T @ off / total)
    taken = moment > max(moment[-1], 0.0) * len(moment) * 4 * np.finfo(np.float64).eps
    root = np.sqrt(moment[taken])
    axes = null @ W[:, taken]
    found.whiten = np.hstack([found.whiten, inverses(unit)[:, None] * axes / root])
    found.back = np.vstack([found.back, (unit[:, None] * axes * root).T])
    found.outside += root.size


def shrunk(X: Array, kept: Array, found: Moments) -> Moments:
    """The same where rows are many; else of all directions, by a covariance that few rows can bear.

    Correlations are shrunk to the identity (`shrunk_variances`), so that rows kept and others are
    measured alike. Without it the rows kept, of which the covariance is, are all at one distance
    where they are fewer than columns, and others are nearer.
    """
    varies = found.sd > 0.0
    if found.inside == found.rank or not varies.any():
        return found
    d, columns = varies.size, int(varies.sum())
    sd = found.sd[varies]
    some = X if varies.all() else X[:, varies]
    C = found.covariance[np.ix_(varies, varies)]
    w, U = _axes(some, kept, found.mean[varies], C, 1.0 / sd)
    w = np.maximum(w, 0.0)
    inverse = inverses(found.sd)
    lengths = np.empty(len(X))
    for rows in cached_blocks(X):
        lengths[rows] = np.square((X[rows] - found.mean) * inverse).sum(axis=1)
    w = shrunk_variances(w, lengths[kept], columns)
    whiten, back = np.zeros((d, columns)), np.zeros((columns, d))
    whiten[varies] = U / sd[:, None] / np.sqrt(w)
    back[:, varies] = (sd[:, None] * U * np.sqrt(w)).T
    return Moments(
        mean=found.mean,
        covariance=back.T @ back,
        whiten=np.hstack([whiten, found.whiten[:, found.inside :]]),
        back=np.vstack([back, found.back[found.inside :]]),
        rank=columns,
        sd=found.sd,
        outside=found.outside,
    )


def shrunk_variances(values: Array, lengths: Array, columns: int) -> Array:
    """Eigenvalues of a covariance that is shrunk to a multiple of the identity, as few rows need.

    Parameters
    ----------
    values : array of shape (r,)
        Eigenvalues as the rows have them, ascending; those missing of ``columns`` are 0.
    lengths : array of shape (m,)
        Squared lengths of the rows about their mean.
    columns : int

    Notes
    -----
    Source: Ledoit and Wolf 2004, "A well-conditioned estimator for large-dimensional covariance
    matrices", section 3.2.
    """
    square, middle = float(np.square(values).sum()), float(values.sum()) / columns
    spread = square - columns * middle**2  # d2 times the columns
    share = 1.0
    if spread > 0.0:
        error = max(float(np.square(lengths).mean()) - square, 0.0) / lengths.size
        share = min(error / spread, 1.0)
    return np.asarray(np.maximum((1.0 - share) * values + share * middle, _LEAST * values[-1]))


def whitened(X: Array, found: Moments) -> Array:
    """In float32, from products in float64: rows are judged by their order of magnitude."""
    Z = np.empty((X.shape[0], found.whiten.shape[1]), np.float32)
    for rows in cached_blocks(X):
        part = (X[rows] - found.mean) @ found.whiten
        Z[rows] = np.clip(part, -_FURTHEST, _FURTHEST, out=part)
    return Z
