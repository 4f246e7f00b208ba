"""Twin of `linear_gradients`: the gradients of a linear regression, each one formed."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tamis.reference.spectral import Array, row_blocks, weighted_mean

__all__ = ["RegressionSums", "linear_gradients"]


class RegressionSums(NamedTuple):
    """Of gradients ``a_i (x_i - c)``, by the names of `tamis.ops.LinearGradients`."""

    coefficients: Array  # (n,): a
    center: Array  # (d,): c
    mean: Array  # (d,)
    total: Array  # (d,)
    squares: Array  # (d,)
    product: Array  # of the shape of V


def linear_gradients(
    X: Array,
    y: Array,
    coef: Array,
    intercept: float,
    V: Array,
    *,
    epsilon: float = math.inf,
    weights: Array | None = None,
    center_weights: Array | None = None,
) -> RegressionSums:
    """Return the derivatives of Huber's loss and what the gradients they make add up to.

    Parameters
    ----------
    X : (n, d) array
    y : (n,) array
    coef : (d,) array
    intercept : float
    V : (d,) or (d, k) array
    epsilon : float
        Residuals beyond it count no more; infinite for the squared loss.
    weights : (n,) array, optional
        Of the examples in the loss.
    center_weights : (n,) array, optional
        Of the examples in the centre and of the gradients in their mean. Default: ones.
    """
    n, d = X.shape
    share = np.ones(n) if center_weights is None else center_weights
    center = weighted_mean(X, share)
    V2 = V.reshape(d, -1)
    a = np.empty(n)
    mean, total, squares, product = np.zeros(d), np.zeros(d), np.zeros(d), np.zeros_like(V2)
    for rows in row_blocks(n):
        a[rows] = np.clip(X[rows] @ coef + intercept - y[rows], -epsilon, epsilon)
        if weights is not None:
            a[rows] *= weights[rows]
        gradients = a[rows, None] * (X[rows] - center)
        mean += share[rows] @ gradients
        total += gradients.sum(axis=0)
        squares += a[rows] @ gradients
        product += gradients.T @ (gradients @ V2)
    return RegressionSums(
        a, center, mean / share.sum(), total, squares, np.asarray(product).reshape(V.shape)
    )
