"""SEVER and its baselines exactly as published for ridge regression: the oracle of sever_ridge.py.

Plain NumPy: MATLAB's ridge (columns standardised with n - 1), MATLAB's quantile (NumPy's "hazen"),
half of eps dropped a round, four fits of which the last is returned, one robust centring of X
beforehand. Two oddities are kept: every centring round uses the mean of all rows, and the penalty's
gradient is added with the sign that the authors' code gives it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
DEFENCES = ("none", "l2", "gradient", "gradient_centered", "loss", "sever")


def ridge(X: Array, y: Array, penalty: float) -> tuple[Array, float]:
    mean, scale = X.mean(axis=0), X.std(axis=0, ddof=1)
    # two columns vary by the attack's rows only; without those, by the rounding of a shift
    scale = np.where(scale <= 1e-12 * scale.max(), 1.0, scale)
    Z = (X - mean) / scale
    A = Z.T @ Z
    A[np.diag_indices_from(A)] += penalty
    slopes = np.linalg.solve(A, Z.T @ y) / scale
    return slopes, float(y.mean() - mean @ slopes)


def filter_simple(rows: Array, mean: Array, p: float) -> Any:
    centred = (rows - mean) / np.sqrt(len(rows))
    direction = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    score = np.abs(centred @ direction)
    cut = np.quantile(score, 1.0 - p, method="hazen")
    return np.ones(len(rows), bool) if cut == 0 else score / cut < 1.0


def largest(values: Array, p: float) -> Any:
    n = len(values)
    cut = np.sort(values)[min(n, int(np.ceil((1.0 - p) * n))) - 1]
    return values / cut < 1.0


def defend(
    kind: str, X: Array, y: Array, X_test: Array, y_test: Array, penalty: float, eps: float
) -> float:
    """Test error of one defence; "none" fits everything, without the centring."""

    def error(slopes: Array, intercept: float) -> float:
        return float(np.mean((X_test @ slopes + intercept - y_test) ** 2))

    if kind == "none":
        return error(*ridge(X, y, penalty))
    p, active, mean = eps / 2.0, np.arange(len(X)), X.mean(axis=0)
    for _ in range(4):
        active = active[filter_simple(X[active], mean, p)]
    shift, level = X[active].mean(axis=0), float(np.median(y))
    X, y, X_test, y_test = X - shift, y - level, X_test - shift, y_test - level
    active = np.arange(len(X))
    for fits in range(4):
        Xa, ya = X[active], y[active]
        slopes, intercept = ridge(Xa, ya, penalty)
        if fits == 3:
            break
        residual = ya - Xa @ slopes - intercept
        gradients = residual[:, None] * np.c_[np.ones(len(Xa)), Xa]
        gradients = gradients + penalty * np.r_[intercept, slopes]
        if kind == "sever":
            keep = filter_simple(gradients, gradients.mean(axis=0), p)
        elif kind == "l2":
            keep = largest(np.linalg.norm(Xa - Xa.mean(axis=0), axis=1), p)
        elif kind == "gradient":
            keep = largest(np.linalg.norm(gradients, axis=1), p)
        elif kind == "gradient_centered":
            keep = largest(np.linalg.norm(gradients - gradients.mean(axis=0), axis=1), p)
        else:
            keep = largest(residual**2, p)
        active = active[keep]
    return float(np.mean((X_test @ slopes + intercept - y_test) ** 2))
