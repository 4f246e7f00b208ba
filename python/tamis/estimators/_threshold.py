"""From scores to outliers: what the detectors have in common."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis import _arrays

__all__ = ["ThresholdMixin", "labels_of", "offset_for"]


class ThresholdMixin:
    """`decision_function` and `predict` of an estimator with `score_samples` and ``offset_``."""

    def decision_function(self, X: Any) -> Any:
        """``score_samples(X) - offset_``: negative for outliers."""
        detector: Any = self
        return detector.score_samples(X) - detector.offset_

    def predict(self, X: Any) -> Any:
        """-1 for outliers and 1 for the rest, int64 of shape (m,); see `score_samples`."""
        return labels_of(self.decision_function(X))


def labels_of(decision: Any) -> Any:
    """-1 where the decision is negative, else 1, in its library."""
    if _arrays.is_torch(decision):
        torch = sys.modules["torch"]
        return torch.where(decision >= 0, 1, -1)
    return np.where(decision >= 0, 1, -1)


def offset_for(scores: NDArray[np.float64], flagged: int, like: Any) -> float:
    """A threshold with at most ``flagged`` scores below it, not to be crossed by rounding.

    ValueError where scores above it are none that the dtype of the rows can hold.
    """
    ordered = np.sort(scores)
    first_normal = float(ordered[flagged])
    dtype = _arrays.dtype_name(like)
    if first_normal <= -float(np.finfo(dtype).max):
        raise ValueError(
            f"X: expected values whose scores {dtype} can hold; rescale the columns"
            + (" or pass float64" if dtype == "float32" else "")
        )
    near = 1e-5 if dtype == "float32" else 1e-9
    below = ordered[:flagged][ordered[:flagged] < first_normal - near * abs(first_normal)]
    if below.size:
        return 0.5 * (float(below[-1]) + first_normal)
    return first_normal - max(near * abs(first_normal), 1e-300)
