"""Poison to test defences with."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from tamis import _arrays, _rows

__all__ = ["flip_labels", "regression_attack"]


def regression_attack(
    X: Any, y: Any, number: int, *, strength: float, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points that cancel ``X'y``, so that a linear regression learns nothing.

    ``x = (b + |b| z / (10 sqrt d)) / strength``, ``y = -strength`` with ``b = X'y / number`` and
    ``z`` standard normal. The larger ``strength``, the closer to the other points in X and the
    farther in y.

    Parameters
    ----------
    X : array of shape (n, d)
    y : array of shape (n,)
    number : int
        How many to make.
    strength : float > 0
    seed : int

    Returns
    -------
    X_bad, y_bad : arrays of shape (number, d) and (number,)

    Notes
    -----
    Source: the attack of Diakonikolas et al., "Sever", ICML 2019, as in the authors' code.
    """
    if scipy.sparse.issparse(X):
        raise TypeError("X: expected a dense array, got a sparse one; pass X.toarray()")
    X, y = np.asarray(X, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if X.ndim != 2 or y.shape != (len(X),):
        raise ValueError(f"X, y: expected shapes (n, d) and (n,), got {X.shape} and {y.shape}")
    number = _arrays.check_int(number, "number", 0, 2**48)
    if not X.size:
        raise ValueError(f"X: expected at least one row and one column, got shape {X.shape}")
    _rows.check_finite(X, "X")
    _rows.check_finite(y[:, None], "y")
    strength = _arrays.check_real(strength, "strength")
    if not 0.0 < strength < np.inf:
        raise ValueError(f"strength: expected a finite number > 0, got {strength}")
    d = X.shape[1]
    b = X.T @ y / max(number, 1)
    z = np.random.default_rng(_arrays.check_int(seed, "seed", 0, 2**64)).standard_normal(
        (number, d)
    )
    bad = (b + np.linalg.norm(b) * z / (10.0 * np.sqrt(d))) / strength
    return bad, np.full(number, -float(strength))


def flip_labels(y: Any, share: float, *, seed: int = 0) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Labels of which ``floor(share * n)`` are changed to another class, at random.

    Parameters
    ----------
    y : array of shape (n,)
        At least two classes: numbers (none of them NaN), booleans or text.
    share : float in [0, 1]
    seed : int

    Returns
    -------
    labels : array of shape (n,)
        A copy.
    flipped : int array
        Where it differs from ``y``, increasing.
    """
    labels = np.array(y.detach().cpu().numpy() if _arrays.is_torch(y) else y)
    if labels.ndim != 1:
        raise ValueError(f"y: expected shape (n,), got {labels.shape}")
    if labels.dtype.kind == "f":
        _rows.check_finite(labels[:, None], "y")
    share = _arrays.check_real(share, "share")
    try:
        classes = np.unique(labels)
    except TypeError as error:
        raise TypeError(f"y: expected labels of one kind, got several: {error}") from error
    if len(classes) < 2:
        raise ValueError(f"y: expected at least two classes, got {len(classes)}")
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share: expected a number in [0, 1], got {share}")
    generator = np.random.default_rng(_arrays.check_int(seed, "seed", 0, 2**64))
    flipped = np.sort(generator.choice(len(labels), int(share * len(labels) + 1e-9), replace=False))
    position = np.searchsorted(classes, labels[flipped])
    shift = generator.integers(1, len(classes), size=len(flipped))
    labels[flipped] = classes[(position + shift) % len(classes)]
    return labels, flipped
