"""Rows of which a known share is bad: what the robust mean is measured on.

    rows = corrupted("two groups", 99_990, 100, 0.1, seed=0)
    rows.excess(rows.X.mean(axis=0))

The mean of the good rows is the vector of ones. Their order is random, so that nobody profits from
where the bad ones stand. Every table is a function of (kind, n, d, contamination, seed, dtype).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]
Generator = np.random.Generator

UNKNOWN_SCALE = 7.0
NEAR = 4.0  # standard deviations
DIRECTIONS = 10
_BLOCK = 1 << 20  # numbers made at once

# What the tables call them, and what they are.
KINDS = {
    "two groups": "the published mixture: half of the bad rows uniform in {0, 1}^d, half at one "
    "point (12, -2, 0, ..., 0); N(1, I)",
    "hidden cluster": "one cluster .87 sqrt(d) away, as far from the centre as good rows; N(1, I)",
    "near cluster": f"one cluster N(c, I), c {NEAR:g} standard deviations away; N(1, I)",
    "many directions": f"{DIRECTIONS} such hidden clusters in orthogonal directions; N(1, I)",
    "deleted": "an adversary deletes the rows that reach furthest along one direction, and adds "
    "none; N(1, I)",
    "heavy columns": "a hidden cluster; the columns of good rows are independent t with 3 degrees "
    "of freedom, of variance 1",
    "heavy rows": "a hidden cluster; good rows are multivariate t with 3 degrees of freedom, of "
    "covariance I",
    "unknown scale": f"two groups, all {UNKNOWN_SCALE:g} times as far from the vector of ones",
}


@dataclass(frozen=True)
class Rows:
    """``X`` (n, d), and the mean of its good rows before any was deleted.

    Errors are in standard deviations of a good row along a direction, `scale`.
    """

    X: Array
    clean_mean: Array
    scale: float = 1.0

    @property
    def sampling_error(self) -> float:
        """L2 error of the mean of the good rows: what an oracle that knows them has."""
        return self.error(self.clean_mean)

    def error(self, estimate: Any) -> float:
        offset = np.asarray(estimate, dtype=np.float64) - 1.0
        return float(np.linalg.norm(offset)) / self.scale

    def excess(self, estimate: Any) -> float:
        """Error beyond the oracle's; slightly negative where the estimate is luckier."""
        return self.error(estimate) - self.sampling_error


def published_size(d: int, contamination: float = 0.1) -> int:
    """Rows in the published experiment, 10 floor(d / contamination^2): 99,990 for d = 100.

    Not always 1000 d, since .1^2 is a little more than .01 in floating point.
    """
    return 10 * math.floor(d / contamination**2)


def corrupted(
    kind: str,
    n: int,
    d: int,
    contamination: float,
    *,
    seed: int,
    dtype: DTypeLike = np.float64,
) -> Rows:
    """``n`` rows, of which ``contamination`` are bad; "deleted" returns only the others."""
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    rng = np.random.default_rng([list(KINDS).index(kind), n, d, seed])
    axes = np.linalg.qr(rng.standard_normal((d, min(DIRECTIONS, d))))[0].T
    num_bad = math.floor(contamination * n + 0.5)
    num_good = n if kind == "deleted" else n - num_bad
    scale = UNKNOWN_SCALE if kind == "unknown scale" else 1.0
    X = np.empty((n, d), dtype)
    places = rng.permutation(n)
    step = max(_BLOCK // d, 1)
    total = np.zeros(d)
    for start in range(0, num_good, step):
        chosen = places[start : min(start + step, num_good)]
        block = 1.0 + scale * _good(rng, kind, chosen.size, d)
        X[chosen] = block
        total += block.sum(axis=0)
    if kind == "deleted":
        reach = X @ axes[0].astype(X.dtype)
        X = X[np.sort(np.argpartition(reach, n - num_bad - 1)[: n - num_bad])] if num_bad else X
    else:
        for start in range(0, num_bad, step):
            index = np.arange(start, min(start + step, num_bad))
            X[places[num_good + index]] = 1.0 + scale * _bad(rng, kind, index, num_bad, axes)
    return Rows(X, total / num_good, scale)


def _good(rng: Generator, kind: str, m: int, d: int) -> Array:
    """About 0, of covariance I."""
    if kind == "heavy columns":
        return rng.standard_t(3, (m, d)) / math.sqrt(3.0)
    z = rng.standard_normal((m, d))
    if kind == "heavy rows":  # z / sqrt(chi2 / 3) has covariance 3 I
        z /= np.sqrt(rng.chisquare(3, (m, 1)))
    return z


def _bad(rng: Generator, kind: str, index: NDArray[np.int64], num_bad: int, axes: Array) -> Array:
    """Bad rows number ``index``, about 0."""
    m, d = index.size, axes.shape[1]
    if kind in ("two groups", "unknown scale"):
        rows = rng.integers(0, 2, (m, d)).astype(np.float64)
        rows[index >= num_bad // 2] = np.r_[12.0, -2.0, np.zeros(d - 2)]
        return rows - 1.0
    if kind == "near cluster":
        return np.asarray(NEAR * axes[0] + rng.standard_normal((m, d)))
    # E ||x||^2 = d as for good rows: distances from the centre give nothing away
    centre = math.sqrt(0.75 * d) * axes
    which = index % len(axes) if kind == "many directions" else np.zeros(m, np.int64)
    return np.asarray(centre[which] + 0.5 * rng.standard_normal((m, d)))
