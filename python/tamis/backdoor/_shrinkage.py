"""Whitening in all directions: for outliers that share none, of as few rows as columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis.backdoor import _classes
from tamis.estimators._moments import shrunk_variances

__all__ = ["ShrunkWhitening", "spanned", "unit_rows"]

_REFITS = 2  # 1 and 6 came out the same on tables like real ones (docs/backdoor.md)


def unit_rows(rows: NDArray[Any], members: NDArray[np.int64]) -> NDArray[np.float64]:
    """Rows of a class, (m, d), brought to length 1; rows of zeros stay."""
    out = np.empty((members.size, rows.shape[1]))
    for part, block in _classes.gathered(rows, members):
        largest = np.abs(block).max(axis=1, keepdims=True)  # squares neither overflow nor vanish
        np.divide(block, np.where(largest > 0.0, largest, 1.0), out=out[part])
        lengths = np.linalg.norm(out[part], axis=1, keepdims=True)
        out[part] /= np.where(lengths > 0.0, lengths, 1.0)
    return out


def spanned(X: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows about their mean, in coordinates of what they span where that is less than all columns.

    Distances stay the same, and matrices have no more rows than ``X``.
    """
    gap = X - X.mean(axis=0)
    if X.shape[0] > X.shape[1]:
        return np.asarray(gap)
    values, Q = np.linalg.eigh(gap @ gap.T)
    some = values > X.shape[0] * np.finfo(np.float64).eps * max(float(values[-1]), 0.0)
    coordinates: NDArray[np.float64] = Q[:, some] * np.sqrt(values[some])
    return coordinates


class ShrunkWhitening:
    """Mean and shrunk covariance of the rows that stay, and all rows in these deviations.

    Parameters
    ----------
    Z : float64 array of shape (n, k)
        Rows, as `spanned` gives them.
    columns : int
        What they had before: the identity that the covariance is shrunk to has as many.
    gone : int
        So many rows of largest distance are left out, then mean and covariance are made again.

    Attributes
    ----------
    rows : (n, k), whitened
    values, top : eigenvalues of the covariance of all rows, largest first; its top direction (k,)
    """

    def __init__(self, Z: NDArray[np.float64], columns: int, gone: int) -> None:
        n = Z.shape[0]
        keep = np.arange(n)
        for refit in range(1 + _REFITS):
            mean = Z[keep].mean(axis=0)
            gap = Z[keep] - mean
            w, V = np.linalg.eigh(gap.T @ gap / keep.size)
            w = np.maximum(w, 0.0)
            if refit == 0:
                self.values, self.top = w[::-1], V[:, -1]
            variances = shrunk_variances(w, np.square(gap).sum(axis=1), columns)
            if not variances[-1] > 0.0:
                self.rows = np.zeros_like(Z)
                return
            self.rows = (Z - mean) @ (V / np.sqrt(variances))
            order = np.argsort(np.square(self.rows).sum(axis=1), kind="stable")
            before, keep = keep, np.sort(order[: max(n - gone, 2)])
            if np.array_equal(before, keep):
                return
