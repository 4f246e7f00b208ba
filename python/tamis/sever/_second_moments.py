"""Second moments of the gradients of one linear predictor, by native passes over the examples."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis import ops

__all__ = ["SecondMoments", "is_native"]

Vector = NDArray[np.float64]


def is_native(X: Any) -> bool:
    """Whether the native kernels read these examples as they lie: float64 in dense rows."""
    return (
        isinstance(X, np.ndarray)
        and X.dtype == np.float64
        and X.strides[1] == X.itemsize
        and X.shape[1] <= ops.spectral.MAX_COLUMNS
    )


class SecondMoments:
    """``V -> sum_i (g_i - mean)(g_i - mean)' V`` for gradients ``g_i = a_i (x_i - c)``.

    With an intercept ``g_i = a_i (x_i - c, 1)``. ``sum a_i^2 (x_i - c)(x_i - c)'`` is a weighted
    covariance; intercept and mean are corrections of rank two each.

    Parameters
    ----------
    a : array of shape (m,)
    X : array of shape (m, d)
        As `is_native` wants it.
    center : array of shape (d,)
    sums : three arrays of shape (d,), or (d + 1,) with an intercept
        Of the gradients by the weights of their mean, by 1 / n, and by a.
    n : int
        Number of rows, those of zeros that are not here included.
    num_threads : int, optional
    """

    def __init__(
        self, a: Vector, X: Vector, center: Vector, sums: Any, n: int, num_threads: int | None
    ) -> None:
        self.a, self.X, self.center, self.num_threads = a, X, center, num_threads
        self.squares = np.square(a)
        self.mean, whole, mixed = sums
        d, p = X.shape[1], len(self.mean)
        self.left, self.right = left, right = np.zeros((4, p)), np.zeros((4, p))
        left[0], right[0] = n * self.mean, -whole
        left[1], right[1] = n * (whole - self.mean), -self.mean
        if p > d:  # the products of ones with the examples and with themselves
            left[2, d] = right[3, d] = 1.0
            right[2] = mixed
            left[3, :d] = mixed[:d]

    def __call__(self, V: Any, product: Any = None) -> Any:
        """``product``: ``sum a_i^2 (x_i - c)(x_i - c)' V`` by the slopes in V, if that is known."""
        d = self.X.shape[1]
        if product is None:
            product = self.squares.sum() * ops.covariance_apply(
                self.X, V[:d], weights=self.squares, mean=self.center, num_threads=self.num_threads
            )
        out = self.left.T @ (self.right @ V)
        out[:d] += product
        return out

    def project(self, V: Any) -> Any:
        """``(g_i - mean) . v`` for the columns of V: (m, k)."""
        d = self.X.shape[1]
        at_zero = V[d:].sum(axis=0) - self.center @ V[:d]
        out = self.X @ V[:d]
        out += at_zero
        out *= self.a[:, None]
        out -= self.mean @ V
        return out
