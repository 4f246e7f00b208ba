"""Derivatives of the usual losses by the linear predictor, example by example.

``derivative(z, y)`` for predictors ``z`` and targets ``y``; labels are -1 and +1 for the binary
losses, numbers for the others. All take and give float64 arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

__all__ = [
    "hinge",
    "huber",
    "logistic",
    "modified_huber",
    "multinomial",
    "squared",
    "squared_hinge",
]

Array = NDArray[np.float64]


def squared(z: Array, y: Array) -> Array:
    """Of ``(z - y)^2 / 2``."""
    return z - y


def huber(z: Array, y: Array, epsilon: float) -> Array:
    """Of Huber's loss: squared up to a residual of ``epsilon``, linear beyond."""
    return np.clip(z - y, -epsilon, epsilon)


def hinge(z: Array, y: Array) -> Array:
    """A subgradient of ``max(0, 1 - y z)``; 0 on the margin itself.

    A solver leaves support vectors within its tolerance of the margin: within 1e-6 counts as on it.
    """
    return np.where(y * z < 1.0 - 1e-6, -y, 0.0)


def squared_hinge(z: Array, y: Array) -> Array:
    """Of ``max(0, 1 - y z)^2``."""
    return np.asarray(-2.0 * y * np.maximum(0.0, 1.0 - y * z))


def modified_huber(z: Array, y: Array) -> Array:
    """Of ``max(0, 1 - y z)^2`` for ``y z >= -1``, else of ``-4 y z`` (scikit-learn's name)."""
    return np.where(y * z < -1.0, -4.0 * y, squared_hinge(z, y))


def logistic(z: Array, y: Array) -> Array:
    """Of ``log(1 + exp(-y z))``."""
    return np.asarray(-y * expit(-y * z))


def multinomial(z: Array, labels: Any) -> Array:
    """Of ``-log softmax(z)[label]``: predictors (n, K), labels 0 to K - 1; gives (n, K)."""
    out = np.asarray(softmax(z, axis=1))
    out[np.arange(len(out)), labels] -= 1.0
    return out
