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

from tamis.estimators._quadratic import cached_blocks

__all__ = ["Moments", "mean_of", "moments", "whitened"]

Array = NDArray[Any]
ROWS_A_DIRECTION = 5  # fewer rows than this for each direction: whitened rows are all alike
_FLAT = 64.0  # roundings of the mean: a smaller standard deviation is none
_NULL = 16.0  # squared roundings of a row: a smaller variance is none
_LEFT = 1e3  # roundings of a row: nearer to the subspace it is within it
_FURTHEST = 1e15  # whitened; in float32 squares of this are far from overflow


@dataclass
class Moments:
    """Mean, covariance, and the maps to and from whitened coordinates."""

    mean: Array
    covariance: Array
    whiten: Array  # (d, r + s): r coordinates in which the rows kept have the identity as
    back: Array  # (r + s, d)     covariance, then s in which they are 0 and other rows are not
    rank: int  # of the covariance; r may be less
    outside: int = 0  # s

    @property
    def inside(self) -> int:
        """R."""
        return int(self.whiten.shape[1]) - self.outside


def mean_of(X: Array, kept: Array) -> Array:
    """Mean of the kept rows, summed in float64."""
    return np.asarray(np.mean(X, axis=0, dtype=np.float64, where=kept[:, None]))


def moments(
    X: Array, kept: Array, centred: bool, tall: bool = True, others: Array | None = None
) -> Moments:
    """Moments of the kept rows in float64.

    ``tall``: as many whitened coordinates as the number of rows can bear; else all of them.
    ``others``: rows that may leave the subspace of those kept; by default the rest of ``X``.
    """
    d = X.shape[1]
    count = int(kept.sum())
    mean, C = _sums(X, kept, centred)
    if not np.isfinite(C).all():
        raise ValueError("X: expected values whose squares are finite, got larger ones")
    sd = np.sqrt(np.maximum(np.diag(C), 0.0))
    eps = float(np.finfo(X.dtype).eps)
    flat = sd <= _FLAT * eps * np.maximum(np.abs(mean), np.finfo(np.float64).tiny)
    sd = np.where(flat, 0.0, sd)
    inverse = _inverses(sd)
    w, U = np.linalg.eigh(C * np.outer(inverse, inverse))
    # rounding of the rows, which may be float32, and of the sums, which are float64
    of_rows = _NULL * np.square(eps * (np.abs(mean) * inverse + 1.0)).max(initial=0.0)
    of_sums = max(w[-1], 0.0) * max(count, d) * 4 * np.finfo(np.float64).eps
    good = w > max(of_rows, of_sums)
    null = U[:, ~good]
    rank = int(good.sum())
    if tall:
        good &= np.arange(d) >= d - max(count // ROWS_A_DIRECTION, 1)
    root = np.sqrt(w[good])
    whiten = inverse[:, None] * U[:, good] / root
    back = (sd[:, None] * U[:, good] * root).T
    outside = 0
    if null.size and rank < count - (not centred):  # else the kept rows are too few to tell
        if others is None:
            gone, total = X[~kept], len(X)
        else:
            gone, total = others, len(others)
        out, into = _outside(gone - mean, total, sd, null, eps)
        outside = out.shape[1]
        whiten, back = np.hstack([whiten, out]), np.vstack([back, into])
    return Moments(mean, C, whiten, back, rank, outside)


def _inverses(scale: Array) -> Array:
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


def _outside(gaps: Array, total: int, sd: Array, null: Array, eps: float) -> tuple[Array, Array]:
    """Coordinates in which these rows leave the subspace of those kept: (d, s), and back, (s, d).

    Parameters
    ----------
    gaps : float64 array of shape (m, d)
        From the mean of the rows kept.
    total : int
        All rows; the second moments are over these.
    sd : array of shape (d,)
        Of the rows kept. 0 where they do not vary: there the unit is the root mean square of all.
    null : array of shape (d, t)
        Orthonormal: what the rows kept do not span, in these units.
    eps : float
        Relative rounding of the rows.
    """
    unit = np.where(sd > 0.0, sd, np.sqrt(np.square(gaps).sum(axis=0) / total))
    scaled = gaps * _inverses(unit)
    off = scaled @ null
    size = np.linalg.norm(scaled, axis=1, keepdims=True)
    off[np.linalg.norm(off, axis=1) <= _LEFT * eps * size[:, 0]] = 0.0
    moment, W = np.linalg.eigh(off.T @ off / total)
    taken = moment > max(moment[-1], 0.0) * len(moment) * 4 * np.finfo(np.float64).eps
    root = np.sqrt(moment[taken])
    axes = null @ W[:, taken]
    return _inverses(unit)[:, None] * axes / root, (unit[:, None] * axes * root).T


def whitened(X: Array, found: Moments) -> Array:
    """In float32, from products in float64: rows are judged by their order of magnitude."""
    Z = np.empty((X.shape[0], found.whiten.shape[1]), np.float32)
    for rows in cached_blocks(X):
        part = (X[rows] - found.mean) @ found.whiten
        Z[rows] = np.clip(part, -_FURTHEST, _FURTHEST, out=part)
    return Z
