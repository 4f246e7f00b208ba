"""Classical robust estimates of location, to compare `tamis.RobustMean` with.

Each takes rows ``X`` of shape (n, d), as a NumPy array, a torch tensor on the CPU or whatever
NumPy makes an array of, and returns a location of shape (d,) in the same library. float32 stays
float32 (sums are taken in float64); integers become float64. ``X`` is never modified.

None of them is good at both ends. The medians, the trimmed mean and naive pruning stay in place
when a share ``eps`` of the rows is arbitrary, but their error can grow like ``eps sqrt(d)``;
median of means and RANSAC need far fewer outliers than that. `lrv_mean` loses only a logarithm.

All raise TypeError or ValueError, naming the argument, for what is not a table of finite numbers
(the row of the first NaN is named) and for ``contamination`` outside [0, 0.5).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis import _arrays, _rows

__all__ = [
    "coordinate_median",
    "geometric_median",
    "lrv_mean",
    "median_of_means",
    "naive_prune",
    "ransac_mean",
    "trimmed_mean",
]

_Array = NDArray[np.float64]
_COLUMN_NUMBERS = 1 << 22  # numbers of X that are copied at once to be ordered by column


def _checked(X: Any) -> tuple[Any, NDArray[Any]]:
    """X as a table in its own library, and the same memory as a NumPy array."""
    table = _rows.as_rows(X)
    rows = _rows.as_numpy(table)
    _rows.check_finite(rows)
    return table, rows


def _by_columns(X: NDArray[Any], reduce: Callable[[NDArray[Any]], NDArray[Any]]) -> _Array:
    """Apply ``reduce`` along axis 1 to a few columns at a time, each a dense row of a copy."""
    n, d = X.shape
    step = max(_COLUMN_NUMBERS // n, 1)
    parts = [reduce(np.ascontiguousarray(X[:, at : at + step].T)) for at in range(0, d, step)]
    return np.concatenate(parts).astype(np.float64, copy=False)


def _median(X: NDArray[Any]) -> _Array:
    return _by_columns(X, lambda columns: np.asarray(np.median(columns, axis=1)))


def coordinate_median(X: Any) -> Any:
    """The median of each column.

    Parameters
    ----------
    X : array of shape (n, d)

    Returns
    -------
    array of shape (d,)

    Examples
    --------
    >>> from tamis import location
    >>> location.coordinate_median([[0.0, 1.0], [2.0, 3.0], [100.0, 5.0]]).tolist()
    [2.0, 3.0]
    """
    table, rows = _checked(X)
    return _rows.in_library_of(_median(rows), table)


def trimmed_mean(X: Any, contamination: float = 0.1) -> Any:
    """The mean of each column without its ``floor(contamination n)`` smallest and largest values.

    Parameters
    ----------
    X : array of shape (n, d)
    contamination : float in [0, 0.5)
        Share to drop at either end; 0 gives the mean.

    Returns
    -------
    array of shape (d,)

    Examples
    --------
    >>> from tamis import location
    >>> location.trimmed_mean([[0.0], [1.0], [2.0], [99.0]], 0.25).tolist()
    [1.5]
    """
    share = _rows.check_contamination(contamination)
    table, rows = _checked(X)
    n = rows.shape[0]
    cut = min(math.floor(share * n), (n - 1) // 2)

    def inner(columns: NDArray[Any]) -> NDArray[Any]:
        if cut:
            columns = np.partition(columns, (cut, n - cut - 1), axis=1)[:, cut : n - cut]
        return np.asarray(columns.mean(axis=1, dtype=np.float64))

    return _rows.in_library_of(_by_columns(rows, inner), table)


def median_of_means(X: Any, num_blocks: int = 20, *, seed: int = 0) -> Any:
    """The coordinate-wise median of the means of random blocks of rows.

    Parameters
    ----------
    X : array of shape (n, d)
    num_blocks : int >= 1
        Blocks of nearly equal size; at most n are made. For a guarantee there must be more than
        twice as many blocks as outliers: this answers heavy tails, not a constant share of them.
    seed : int >= 0
        Which rows make a block.

    Returns
    -------
    array of shape (d,)

    Notes
    -----
    Source: Nemirovsky and Yudin 1983; Jerrum, Valiant and Vazirani 1986.
    """
    count = _arrays.check_int(num_blocks, "num_blocks", 1)
    rng = np.random.default_rng(_arrays.check_int(seed, "seed", 0))
    table, rows = _checked(X)
    order = rng.permutation(rows.shape[0])
    means = [
        rows[part].mean(axis=0, dtype=np.float64)
        for part in np.array_split(order, min(count, rows.shape[0]))
    ]
    return _rows.in_library_of(np.asarray(np.median(means, axis=0)), table)


def geometric_median(X: Any, *, tol: float = 1e-7, max_iter: int = 200) -> Any:
    """The point whose summed distance to the rows is least.

    Parameters
    ----------
    X : array of shape (n, d)
    tol : float > 0
        Stop at a step of at most ``tol`` times the median distance of the rows.
    max_iter : int >= 1
        Steps, one pass over ``X`` each.

    Returns
    -------
    array of shape (d,)
        With a `tamis.ConvergenceWarning` where ``max_iter`` steps were not enough.

    Notes
    -----
    Weiszfeld's iteration, started at the coordinate-wise median, with the correction of Vardi and
    Zhang 2000, "The multivariate L1-median and associated data depth", equation (2.6): rows that
    coincide with the iterate are left out of the weighted mean, and the step is shortened by their
    number over the length of the pull of the others. It is then defined everywhere, and stops at
    a data row only where that row is the answer.

    Examples
    --------
    >>> from tamis import location
    >>> location.geometric_median([[0.0], [0.0], [0.0], [7.0]]).tolist()
    [0.0]
    """
    limit = _arrays.check_real(tol, "tol")
    if not 0.0 < limit < math.inf:
        raise ValueError(f"tol: expected a number > 0, got {limit}")
    steps = _arrays.check_int(max_iter, "max_iter", 1)
    table, rows = _checked(X)
    point = _median(rows)
    spread = float(np.median(np.sqrt(_rows.squared_distances(rows, point))))
    for _ in range(steps):
        pull, weight, here = _weiszfeld_sums(rows, point, 1e-12 * spread)
        strength = float(np.linalg.norm(pull))
        if strength <= here:  # nothing outweighs the rows that lie right here (also: 0 and none)
            break
        step = (1.0 - here / strength) / weight * pull
        point = point + step
        if float(np.linalg.norm(step)) <= limit * spread:
            break
    else:
        from tamis import ops

        warnings.warn(
            f"geometric_median: still moving after max_iter = {steps} steps",
            ops.ConvergenceWarning,
            stacklevel=2,
        )
    return _rows.in_library_of(point, table)


def _weiszfeld_sums(X: NDArray[Any], point: _Array, nearest: float) -> tuple[_Array, float, int]:
    """Sum of unit vectors to the rows, sum of 1 / distance, and how many rows lie at the point."""
    pull, weight, here = np.zeros(point.size), 0.0, 0
    nearest = max(nearest, 4.0 * np.finfo(np.float64).eps * float(np.abs(point).max()))
    for rows in _rows.blocks(X):
        difference = X[rows] - point
        distance = np.sqrt(np.einsum("ij,ij->i", difference, difference))
        away = distance > nearest
        inverse = np.zeros(distance.size)
        inverse[away] = 1.0 / distance[away]
        pull += inverse @ difference
        weight += float(inverse.sum())
        here += distance.size - int(np.count_nonzero(away))
    return pull, weight, here


def naive_prune(X: Any, contamination: float = 0.1) -> tuple[Any, Any]:
    """The mean of the rows in a ball about the coordinate-wise median.

    Parameters
    ----------
    X : array of shape (n, d)
        Clean rows have unit variance in every direction: the radius is absolute.
    contamination : float in [0, 0.5)
        0 keeps every row.

    Returns
    -------
    location : array of shape (d,)
    support : bool array of shape (n,)
        The rows inside; all of them where the ball would be empty.

    Notes
    -----
    Radius ``0.33 sqrt(d log(n / contamination))``, as in the experiments of Diakonikolas, Kamath,
    Kane, Li, Moitra and Stewart 2017, "Being robust (in high dimensions) can be practical".
    """
    share = _rows.check_contamination(contamination)
    table, rows = _checked(X)
    n, d = rows.shape
    keep = np.ones(n, dtype=bool)
    if share > 0.0:
        radius2 = 0.33**2 * d * math.log(n / share)
        inside = _rows.squared_distances(rows, _median(rows)) < radius2
        keep = inside if inside.any() else keep
    mean = np.asarray(np.mean(rows, axis=0, dtype=np.float64, where=keep[:, None]))
    return _rows.in_library_of(mean, table), _rows.in_library_of(keep, table)


def ransac_mean(
    X: Any, contamination: float = 0.1, *, tau: float = 0.1, trials: int = 100, seed: int = 0
) -> Any:
    """The mean of the random subset of rows about which a ball holds the most rows.

    Parameters
    ----------
    X : array of shape (n, d)
        Clean rows have unit variance in every direction: the radius is absolute.
    contamination : float in [0, 0.5)
    tau : float in (0, 1)
        Accepted probability of failure.
    trials : int >= 1
    seed : int >= 0
        Which rows make a subset.

    Returns
    -------
    array of shape (d,)
        The mean of all rows where a subset would be larger than the data.

    Notes
    -----
    Subsets of ``2 (d log 4 + log(2 / tau)) / contamination^2`` rows, squared radius
    ``d + 2 (sqrt(d L) + L) + contamination^2 log(1 / contamination)^2`` with ``L = log(n / tau)``,
    as in the experiments of Diakonikolas et al. 2017. Departure: distances are taken from the
    trial mean to every row; the published script compares the mean with one number of the matrix.
    """
    share = _rows.check_contamination(contamination)
    failure = _arrays.check_real(tau, "tau")
    if not 0.0 < failure < 1.0:
        raise ValueError(f"tau: expected a number in (0, 1), got {failure}")
    count = _arrays.check_int(trials, "trials", 1)
    rng = np.random.default_rng(_arrays.check_int(seed, "seed", 0))
    table, rows = _checked(X)
    n, d = rows.shape
    mean = rows.mean(axis=0, dtype=np.float64)
    size = (
        n + 1
        if share == 0.0
        else math.ceil(2.0 * (d * math.log(4.0) + math.log(2.0 / failure)) / share**2)
    )
    if size > n:
        return _rows.in_library_of(mean, table)
    level = math.log(n / failure)
    radius2 = d + 2.0 * (math.sqrt(d * level) + level) + (share * math.log(share)) ** 2
    centres = np.empty((count, d))
    for trial in range(count):
        chosen = np.sort(rng.choice(n, size, replace=False))
        centres[trial] = rows[chosen].mean(axis=0, dtype=np.float64) - mean
    inside = np.zeros(count, dtype=np.int64)
    for part in _rows.blocks(rows):  # all trials in one pass over X
        block = rows[part] - mean
        square = np.einsum("ij,ij->i", block, block)[:, None] - 2.0 * (block @ centres.T)
        square += np.einsum("ij,ij->i", centres, centres)
        inside += np.count_nonzero(square <= radius2, axis=0)
    return _rows.in_library_of(mean + centres[int(np.argmax(inside))], table)


def lrv_mean(X: Any, contamination: float = 0.1) -> Any:
    """The agnostic mean of Lai, Rao and Vempala: means in quiet directions, medians in loud ones.

    Parameters
    ----------
    X : array of shape (n, d)
    contamination : float in [0, 0.5)

    Returns
    -------
    array of shape (d,)

    Notes
    -----
    Source: Lai, Rao and Vempala 2016, "Agnostic estimation of mean and covariance", Algorithm 3.
    At each level the rows outside a ball about the coordinate-wise median that holds a share
    ``(1 - contamination)^2`` of them are dropped, the mean of the rest is taken in the span of the
    lower half of the eigenvectors of their covariance, and all rows, projected on the upper half,
    go to the next level. In one dimension it is the mean of the shortest interval that holds this
    share. A (d, d) matrix and a few copies of ``X`` are made.
    """
    share = _rows.check_contamination(contamination)
    table, rows = _checked(X)
    location = _lrv(rows.astype(np.float64), (1.0 - share) ** 2)
    return _rows.in_library_of(location, table)


def _lrv(X: _Array, inner: float) -> _Array:
    n, d = X.shape
    if d == 1:
        values = np.sort(X[:, 0])
        size = max(math.floor(n * inner), 1)
        start = int(np.argmin(values[size - 1 :] - values[: n - size + 1]))
        return np.array([values[start : start + size].mean()])
    distances = _rows.squared_distances(X, _median(X))
    kept = X[distances <= np.quantile(distances, inner)]
    mean = kept.mean(axis=0)
    kept -= mean
    _, vectors = np.linalg.eigh(kept.T @ kept)  # ascending; the scale does not matter
    low, high = vectors[:, : d // 2], vectors[:, d // 2 :]
    return np.asarray(low @ (low.T @ mean) + high @ _lrv(X @ high, inner))
