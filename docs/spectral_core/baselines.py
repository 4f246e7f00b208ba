"""Robust location estimators that users compare with, and the published filter as a peer.

All take an (n, d) float64 array and return a (d,) location unless they say otherwise.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import erfc

Array = npt.NDArray[np.float64]


def coordinate_median(X: Array) -> Array:
    """Return the median of each column."""
    return np.asarray(np.median(X, axis=0))


def trimmed_mean(X: Array, contamination: float = 0.1) -> Array:
    """Return the mean of each column without its floor(contamination n) smallest and largest."""
    n = X.shape[0]
    cut = min(math.floor(contamination * n), (n - 1) // 2)
    if cut == 0:
        return np.asarray(X.mean(axis=0))
    ordered = np.partition(X, (cut, n - cut - 1), axis=0)
    return np.asarray(ordered[cut : n - cut].mean(axis=0))


def median_of_means(X: Array, blocks: int = 20, *, seed: int = 0) -> Array:
    """Return the coordinate-wise median of the means of random blocks of rows.

    `blocks` must exceed twice the number of outliers for a guarantee: it answers heavy tails, not
    a constant share of outliers. Source: Nemirovsky and Yudin 1983; Jerrum, Valiant, Vazirani 1986.
    """
    blocks = max(1, min(blocks, X.shape[0]))
    order = np.random.default_rng(seed).permutation(X.shape[0])
    means = [X[part].mean(axis=0) for part in np.array_split(order, blocks)]
    return np.asarray(np.median(np.array(means), axis=0))


def geometric_median(X: Array, *, tol: float = 1e-7, max_iter: int = 200) -> Array:
    """Return the point that minimises the sum of distances to the rows.

    Weiszfeld's iteration with the correction of Vardi and Zhang 2000, The multivariate L1-median
    and associated data depth, eq. (2.6): rows that coincide with the iterate are left out of the
    weighted mean, and the step is shortened by their number over the length of the pull of the
    others. The iteration is then defined everywhere and cannot stick at a data row that is not
    the answer. Started at the coordinate-wise median.
    """
    y = coordinate_median(X)
    for _ in range(max_iter):
        distance = np.sqrt(np.square(X - y).sum(axis=1))
        away = distance > 1e-12 * max(1.0, float(np.abs(y).max(initial=0.0)))
        if not away.any():
            return y
        w = 1.0 / distance[away]
        target = (w @ X[away]) / w.sum()
        here = int(X.shape[0] - np.count_nonzero(away))
        pull = float(np.linalg.norm(target - y)) * float(w.sum())
        stay = min(1.0, here / pull) if pull > 0.0 else (1.0 if here else 0.0)
        new = (1.0 - stay) * target + stay * y
        moved = float(np.linalg.norm(new - y))
        y = new
        if moved <= tol * max(float(np.median(distance)), 1e-300):
            break
    return y


def naive_prune(X: Array, contamination: float = 0.1) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Return the mean of the rows near the coordinate-wise median, and which rows those are.

    Keeps ``|x - median| < 0.33 sqrt(d log(n / eps))``, the constants of the published comparison
    of Diakonikolas et al. 2017. Keeps all rows if the ball is empty.
    """
    n, d = X.shape
    distance = np.sqrt(np.square(X - coordinate_median(X)).sum(axis=1))
    keep = distance < 0.33 * math.sqrt(d * math.log(n / contamination))
    if not keep.any():
        keep = np.ones(n, dtype=bool)
    return np.asarray(X[keep].mean(axis=0)), keep


def ransac_mean(
    X: Array, contamination: float = 0.1, *, tau: float = 0.1, trials: int = 100, seed: int = 0
) -> Array:
    """Return the mean of a random subset whose ball holds the most rows (identity covariance).

    Subset size and ball radius of the published comparison (Diakonikolas et al. 2017). Departure:
    the distance is from the trial mean to row j; the published script compares the mean with one
    scalar of the matrix, which makes its curve meaningless. Returns the mean where the subset
    would be larger than the data, as published.
    """
    n, d = X.shape
    size = math.ceil(2.0 * (d * math.log(4.0) + math.log(2.0 / tau)) / contamination**2)
    best, most = np.asarray(X.mean(axis=0)), -1
    if size > n:
        return best
    log_n = math.log(n / tau)
    radius2 = d + 2.0 * (math.sqrt(d * log_n) + log_n)
    radius2 += contamination**2 * math.log(1.0 / contamination) ** 2
    square = np.square(X).sum(axis=1)
    rng = np.random.default_rng(seed)
    for _ in range(trials):
        centre = X[rng.choice(n, size, replace=False)].mean(axis=0)
        inside = int(np.count_nonzero(square - 2.0 * (X @ centre) + centre @ centre <= radius2))
        if inside > most:
            best, most = centre, inside
    return best


def lrv_mean(X: Array, contamination: float = 0.1) -> Array:
    """Return the agnostic mean of Lai, Rao and Vempala 2016 (Algorithm 3).

    At each level the rows outside a ball about the coordinate median that holds (1 - eps)^2 of
    them are dropped, the mean is taken in the span of the lower half of the eigenvectors, and
    the rows projected on the upper half go to the next level. In one dimension: mean of the
    shortest interval that holds (1 - eps)^2 of the values.
    """
    n, d = X.shape
    if d <= 1:
        values = np.sort(X[:, 0])
        size = max(math.floor(n * (1.0 - contamination) ** 2), 1)
        start = int(np.argmin(values[size - 1 :] - values[: n - size + 1]))
        return np.array([values[start : start + size].mean()])
    distance2 = np.square(X - coordinate_median(X)).sum(axis=1)
    keep = distance2 <= np.quantile(distance2, (1.0 - contamination) ** 2)
    kept = X[keep]
    _, vectors = np.linalg.eigh(np.cov(kept, rowvar=False, bias=True))
    low, high = vectors[:, : d // 2], vectors[:, d // 2 :]
    upper = lrv_mean(X @ high, contamination)
    return np.asarray(low @ (low.T @ kept.mean(axis=0)) + high @ upper)


def published_filter(
    X: Array, contamination: float = 0.1, *, tau: float = 0.1, cher: float = 2.5
) -> Array:
    """Return the mean by the published filter for identity covariance, step by step as run.

    Source: `filterGaussianMean` of Diakonikolas et al. 2017, Being robust (in high dimensions) can
    be practical, with the constants of its experiments. Top singular vector by the d x d Gram
    matrix, as there. Kept as a peer: not tamis's own algorithm.
    """
    eps, d = contamination, X.shape[1]
    threshold = 1.0 + 3.0 * eps * math.log(1.0 / eps)
    # the published expression is undefined where d eps <= tau; infinity lets the walk pass there
    log_term = math.log(d * eps / tau) if d * eps > tau else 0.0
    floor = eps / (d * log_term) if log_term > 0.0 else math.inf
    while True:
        n = X.shape[0]
        mean = X.mean(axis=0)
        centred = (X - mean) / math.sqrt(n)
        values, vectors = np.linalg.eigh(centred.T @ centred)
        if values[-1] < threshold:
            return np.asarray(mean)
        projected = X @ vectors[:, -1]
        score = np.abs(projected - np.median(projected))
        order = np.argsort(score)
        t = score[order] - 2.0 * eps
        left = n - np.arange(1, n + 1)
        violated = left > cher * n * (0.5 * erfc(t / math.sqrt(2.0)) + floor)
        first = int(np.argmax(violated)) + 1 if violated.any() else n
        if first in (1, n):
            return np.asarray(mean)
        X = X[order[:first]]
