"""The published robust-mean filter, as a peer for the benchmarks: a port of what its authors run.

Kept with its constants and its quirks, also the costly ones. Not tamis's own algorithm.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfc


def published_filter(
    X: NDArray[np.float64], contamination: float = 0.1, *, tau: float = 0.1, cher: float = 2.5
) -> NDArray[np.float64]:
    """The mean, (d,), by the filter for identity covariance of Diakonikolas et al. 2017.

    "Being robust (in high dimensions) can be practical", the function of its mean experiments,
    with their constants. The top singular vector comes from the (d, d) Gram matrix, as there.

    The walk ends at the first row that violates the tail bound, and that row is kept. Where
    ``d contamination <= tau`` the bound is undefined (division by zero, or negative); here it is
    infinite, so that the walk passes.
    """
    d = X.shape[1]
    stop = 1.0 + 3.0 * contamination * math.log(1.0 / contamination)
    crowd = d * contamination / tau
    slack = contamination / (d * math.log(crowd)) if crowd > 1.0 else math.inf
    while True:
        n = X.shape[0]
        mean = X.mean(axis=0)
        centred = (X - mean) / math.sqrt(n)
        values, vectors = np.linalg.eigh(centred.T @ centred)
        if values[-1] < stop:
            return np.asarray(mean)
        projected = X @ vectors[:, -1]
        score = np.abs(projected - np.median(projected))
        order = np.argsort(score)
        t = score[order] - 2.0 * contamination
        farther = n - np.arange(1, n + 1)
        violated = farther > cher * n * (0.5 * erfc(t / math.sqrt(2.0)) + slack)
        first = int(np.argmax(violated)) + 1 if violated.any() else n
        if first in (1, n):
            return np.asarray(mean)
        X = X[order[:first]]
