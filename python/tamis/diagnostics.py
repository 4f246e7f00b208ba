"""The outlier map: how far rows lie within the leading components, and how far off them.

Source: Hubert, Rousseeuw and Vanden Branden 2005, "ROBPCA: a new approach to robust principal
component analysis", Technometrics 47, section 3: the diagnostic plot and both of its cut-offs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis import _arrays, _rows

__all__ = ["OutlierMap", "outlier_map"]

LEVEL = 0.975  # share of clean rows within each cut-off
EXPLAINED = 0.8  # share of the variance that the components have by default
MOST = 10  # components by default


@dataclass(frozen=True, eq=False)
class OutlierMap:
    """Two distances of every row, and where clean ones end.

    Attributes
    ----------
    robust_distances : float64 array of shape (n,)
        Mahalanobis distance within the span of the components.
    orthogonal_distances : float64 array of shape (n,)
        Euclidean distance to that span, in the units of the rows.
    robust_cutoff, orthogonal_cutoff : float
        97.5% of clean Gaussian rows lie below each (96.8% of the second where variances beside the
        components differ sevenfold).
    n_components : int
    """

    robust_distances: NDArray[np.float64]
    orthogonal_distances: NDArray[np.float64]
    robust_cutoff: float
    orthogonal_cutoff: float
    n_components: int


def outlier_map(X: Any, support: Any = None, *, n_components: int | None = None) -> OutlierMap:
    """Robust and orthogonal distances of rows from the components of the clean ones.

    Rows far out in both are bad leverage points; rows far off the components alone break the
    correlations; rows far out within them follow the pattern of the rest.

    Parameters
    ----------
    X : array of shape (n, d)
        NumPy array, torch tensor on the CPU, data frame, or what NumPy makes an array of. Columns
        should have comparable units.
    support : bool array of shape (n,), optional
        Clean rows, such as ``support_`` of a detector; by default those that
        ``tamis.RobustCovariance("auto")`` keeps.
    n_components : int >= 1, optional
        By default as many as have 80% of the variance of the clean rows, at most 10 and, where the
        rows have more than one direction, one fewer than those.

    Returns
    -------
    OutlierMap
        Distances of 0 where rows have no component or nothing is left beside them.

    Raises
    ------
    TypeError, ValueError
        Not a table of finite numbers (the first bad row is named), or an argument that does not
        fit.

    Examples
    --------
    >>> import numpy as np, tamis
    >>> X = np.random.default_rng(0).standard_normal((500, 4)) * [9, 5, 1, 1]
    >>> X[3, 3] = 30.0
    >>> found = tamis.outlier_map(X, n_components=2)
    >>> int(found.orthogonal_distances.argmax()), found.robust_distances[3] < found.robust_cutoff
    (3, np.True_)
    """
    from scipy.special import chdtri

    from tamis.estimators._moments import moments, principal_axes

    array = _rows.as_numpy(_rows.as_rows(X))
    _rows.check_finite(array)
    kept = _support(array, support)
    clean = moments(array, kept, False)
    values, vectors = principal_axes(array, kept, clean)
    values, vectors = values[::-1], vectors[:, ::-1]
    k = _components(values, clean.rank, n_components)
    V = vectors[:, :k]
    robust = np.empty(array.shape[0])
    orthogonal = np.empty(array.shape[0])
    scale = np.sqrt(np.maximum(values[:k], np.finfo(float).tiny))
    for part in _rows.blocks(array):
        gap = array[part] - clean.mean
        scores = gap @ V
        robust[part] = np.linalg.norm(scores / scale, axis=1)
        orthogonal[part] = np.linalg.norm(gap - scores @ V.T, axis=1)
    if k == clean.rank:  # what is left is rounding
        orthogonal[kept] = 0.0
    return OutlierMap(
        robust_distances=robust,
        orthogonal_distances=orthogonal,
        robust_cutoff=float(np.sqrt(chdtri(k, 1.0 - LEVEL))) if k else 0.0,
        orthogonal_cutoff=_cutoff(orthogonal[kept]),
        n_components=k,
    )


def _support(array: NDArray[Any], support: Any) -> NDArray[np.bool_]:
    if support is None:
        from tamis.estimators import RobustCovariance

        return np.asarray(RobustCovariance("auto").fit(array).support_)
    kept = np.asarray(support.cpu() if _arrays.is_torch(support) else support)
    n = array.shape[0]
    if kept.dtype != np.bool_ or kept.shape != (n,):
        raise ValueError(
            f"support: expected {n} booleans, one a row, got {kept.dtype} of shape {kept.shape}"
        )
    if not kept.any():
        raise ValueError("support: expected at least one clean row, got none")
    return kept


def _components(values: NDArray[np.float64], rank: int, wanted: int | None) -> int:
    if wanted is not None:
        k = _arrays.check_int(wanted, "n_components", 1, values.size + 1)
        return min(k, rank)
    total = float(values[:rank].sum())
    if rank < 2 or total <= 0.0:
        return rank
    enough = int(np.searchsorted(np.cumsum(values[:rank]) / total, EXPLAINED)) + 1
    return min(enough, MOST, rank - 1)


def _cutoff(distances: NDArray[np.float64]) -> float:
    """Of orthogonal distances: their power 2/3 is nearly normal (Wilson and Hilferty 1931)."""
    power = np.cbrt(np.square(distances))
    middle = float(np.median(power))
    spread = 1.4826 * float(np.median(np.abs(power - middle)))
    return float((middle + 1.959963984540054 * spread) ** 1.5)
