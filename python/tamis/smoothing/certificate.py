"""From vote counts to a certificate: confidence bounds, and the records of the result."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tamis import _arrays, ops
from tamis.smoothing.logs import ABSTAIN

__all__ = [
    "Bound",
    "Certificate",
    "Certificates",
    "Conclusion",
    "check_bound",
    "check_level",
    "conclude",
    "samples_needed",
]

Bound = Literal["one-sided", "two-sided"]
_BOUNDS: Final = ("one-sided", "two-sided")


def check_bound(bound: Bound) -> Bound:
    """`bound`; ValueError unless it is one of the two."""
    if bound not in _BOUNDS:
        raise ValueError(f"bound: expected one of {_BOUNDS}, got {bound!r}")
    return bound


def check_level(alpha: float) -> None:
    """TypeError or ValueError unless `alpha` is a probability strictly between 0 and 1."""
    if not 0.0 < _arrays.check_real(alpha, "alpha") < 1.0:
        raise ValueError(f"alpha: expected a probability strictly between 0 and 1, got {alpha}")


@dataclass(frozen=True, slots=True, eq=False)
class Certificate:
    """What certification says about one image.

    Parameters
    ----------
    prediction : int
        The smoothed classifier's class, or ``ABSTAIN`` (-1).
    radius : float
        l2 radius, in input units, within which the class cannot change; 0 when abstained.
    p_lower : float
        Lower confidence bound on the probability that a noisy copy gets `top_class`.
    p_upper : float
        Upper confidence bound on the probability of every other class.
    top_class : int
        Class with most votes in the selection sample: the candidate, also when abstained.
    counts, selection_counts : array of int64, shape (num_classes,)
        Votes among the `n` estimation samples and the `n0` selection samples.
    n, n0 : int
        Samples drawn for estimation and selection.
    seconds : float
        Time spent, shared out by rows where images share a batch.
    """

    prediction: int
    radius: float
    p_lower: float
    p_upper: float
    top_class: int
    counts: NDArray[np.int64]
    selection_counts: NDArray[np.int64]
    n: int
    n0: int
    seconds: float

    @property
    def abstained(self) -> bool:
        """Whether no class could be certified."""
        return self.prediction == ABSTAIN


@dataclass(frozen=True, slots=True, eq=False)
class Certificates:
    """Certificates of N images, one array per field of ``Certificate``, in the images' order.

    Parameters
    ----------
    prediction, top_class : array of int64, shape (N,)
    radius, p_lower, p_upper, seconds : array of float64, shape (N,)
    counts, selection_counts : array of int64, shape (N, num_classes)
    samples : array of int64, shape (N,)
        Noisy copies classified for the image, n0 + n.
    """

    prediction: NDArray[np.int64]
    radius: NDArray[np.float64]
    p_lower: NDArray[np.float64]
    p_upper: NDArray[np.float64]
    top_class: NDArray[np.int64]
    counts: NDArray[np.int64]
    selection_counts: NDArray[np.int64]
    samples: NDArray[np.int64]
    seconds: NDArray[np.float64]

    @classmethod
    def stack(cls, rows: list[Certificate], num_classes: int) -> Certificates:
        """Collect single certificates; an empty list gives arrays with N = 0."""

        def table(values: list[NDArray[np.int64]]) -> NDArray[np.int64]:
            return np.array(values, dtype=np.int64).reshape(len(rows), num_classes)

        return cls(
            prediction=np.array([row.prediction for row in rows], dtype=np.int64),
            radius=np.array([row.radius for row in rows], dtype=np.float64),
            p_lower=np.array([row.p_lower for row in rows], dtype=np.float64),
            p_upper=np.array([row.p_upper for row in rows], dtype=np.float64),
            top_class=np.array([row.top_class for row in rows], dtype=np.int64),
            counts=table([row.counts for row in rows]),
            selection_counts=table([row.selection_counts for row in rows]),
            samples=np.array([row.n0 + row.n for row in rows], dtype=np.int64),
            seconds=np.array([row.seconds for row in rows], dtype=np.float64),
        )

    def __len__(self) -> int:
        return int(self.prediction.size)


class Conclusion(NamedTuple):
    """Class, radius and the bounds behind them."""

    prediction: int
    radius: float
    p_lower: float
    p_upper: float


def conclude(
    top_class: int, counts: NDArray[np.int64], *, sigma: float, alpha: float, bound: Bound
) -> Conclusion:
    """Certify `top_class` from the votes of samples independent of how it was chosen.

    With probability at least 1 - alpha over those samples, a prediction other than ``ABSTAIN`` is
    the smoothed classifier's class everywhere within `radius` of the image.

    Parameters
    ----------
    top_class : int
        The candidate, 0 <= top_class < C.
    counts : array of int64, shape (C,)
        Votes for each class; their sum n is the number of samples.
    sigma : float
        Standard deviation of the noise, in input units.
    alpha : float
        Allowed probability of error, in (0, 1).
    bound : "one-sided" or "two-sided"
        One-sided: p_lower holds with 1 - alpha and p_upper = 1 - p_lower; abstains if
        p_lower < 1/2. Two-sided: p_lower at level alpha / 2; for each of the C - 1 other classes
        an upper bound at level alpha / (2 (C - 1)), so that all of them hold together with
        1 - alpha / 2 (union bound); p_upper is the largest of them or 1 - p_lower, whichever is
        smaller; abstains if p_lower < p_upper.

    Returns
    -------
    Conclusion
        (prediction, radius, p_lower, p_upper).

    Raises
    ------
    TypeError, ValueError
        For a `bound` or an `alpha` that is none, and what the functions of ``tamis`` behind it
        refuse.

    Notes
    -----
    Source: [Cohen19] Theorem 1 and Section 3.2.2 (Certify). Which bound is larger depends on the
    image: the one-sided one when the second class holds most of the rest, the two-sided one when
    the rest is spread over many classes; only the latter can certify below p_lower = 1/2.
    """
    check_bound(bound)
    check_level(alpha)
    n = int(counts.sum())
    votes = int(counts[top_class])
    if bound == "one-sided":
        p_lower = float(ops.clopper_pearson(votes, n, alpha, side="lower"))
        if p_lower < 0.5:
            return Conclusion(ABSTAIN, 0.0, p_lower, 1.0 - p_lower)
        radius = float(ops.certified_radius(p_lower, sigma))
        return Conclusion(top_class, radius, p_lower, 1.0 - p_lower)
    p_lower = float(ops.clopper_pearson(votes, n, alpha / 2, side="lower"))
    p_upper = 1.0 - p_lower
    others = counts.size - 1
    if others:
        most = int(np.delete(counts, top_class).max())  # the bound grows with the votes
        level = alpha / (2 * others)
        p_upper = min(p_upper, float(ops.clopper_pearson(most, n, level, side="upper")))
    if p_lower < p_upper:
        return Conclusion(ABSTAIN, 0.0, p_lower, p_upper)
    return Conclusion(
        top_class, float(ops.certified_radius(p_lower, sigma, p_upper)), p_lower, p_upper
    )


def samples_needed(alpha: float, bound: Bound = "one-sided") -> int:
    """Smallest n with which any certificate can exist: all n votes agree and p_lower >= 1/2.

    The best p_lower is level ** (1 / n), with level alpha (one-sided) or alpha / 2 (two-sided), so
    n >= log(level) / log(1/2). 10 for alpha = 0.001.

    Parameters
    ----------
    alpha : float
        Allowed probability of error, in (0, 1).
    bound : "one-sided" or "two-sided"

    Returns
    -------
    int
        At least 1.

    Raises
    ------
    TypeError, ValueError
        For a `bound` or an `alpha` that is none.
    """
    check_bound(bound)
    check_level(alpha)
    return max(1, math.ceil(-math.log2(alpha if bound == "one-sided" else alpha / 2)))
