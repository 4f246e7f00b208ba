"""What the spectral operations return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class ConvergenceWarning(UserWarning):
    """An iteration ended at its limit; the result says how far it came."""


@dataclass(frozen=True)
class EigenResult:
    """Top eigenpairs of a covariance, largest first. Arrays are of the input's library and dtype.

    Attributes
    ----------
    values : array of shape (k,)
        At least 0.
    vectors : array of shape (d, k)
        Orthonormal columns; the entry of largest magnitude of each is positive.
    residuals : array of shape (k,)
        ``|| A v - value v ||_2``.
    iterations : int
        Passes over all rows.
    converged : bool
        Every residual is at most ``tol * values[0]``.
    clustered : bool
        The k-th and the next value cannot be told apart at this tolerance: the vectors are one
        basis of an invariant subspace, and another start gives another basis.
    """

    values: Any
    vectors: Any
    residuals: Any
    iterations: int
    converged: bool
    clustered: bool


@dataclass(frozen=True)
class FilterResult:
    """What the filter found. Arrays are of the input's library; `mean`, `weights` and `scores` have
    its dtype, the others are float64, so that new rows can be scored as the old ones were.

    Attributes
    ----------
    mean : array of shape (d,)
        Robust mean: ``weights @ X / weights.sum()``.
    weights : array of shape (n,)
        0 to 1; only 0 and 1 for the rules that drop rows.
    scores : array of shape (n,)
        Larger is more outlying: ``max_j ((v_j . x - centers_j) / scales_j)**2``; for a row outside
        the ball at least ``(|x - ball_center| / ball_scale)**2``.
    rounds : int
        Eigensolves.
    eigenvalues : array of shape (rounds,)
        Top eigenvalue of the surviving rows, round by round.
    directions : array of shape (d, m)
        First the `cuts` directions whose intervals define the support, then the last top
        eigenvectors.
    centers, scales : arrays of shape (m,)
        Where clean rows lie along each direction, and their robust standard deviation.
    cuts : int
        How many of the directions define the support.
    ball_center : array of shape (d,)
    ball_radius, ball_scale : float
        The ball outside which rows were pruned; an infinite radius where none was.
    stop_reason : str
        ``"eigenvalue_explained"`` (noise alone explains the top eigenvalue), ``"tails_explained"``
        (it is larger, but no direction has too many rows far out), ``"removal_limit"``,
        ``"max_rounds"``, ``"zero_variance"``, ``"too_few_rows"`` or ``"no_contamination"``.
    contamination : float
        Share of the weight removed: the estimate where ``contamination="auto"``.
    passes : int
        Reads of X.
    """

    mean: Any
    weights: Any
    scores: Any
    rounds: int
    eigenvalues: Any
    directions: Any
    centers: Any
    scales: Any
    cuts: int
    ball_center: Any
    ball_radius: float
    ball_scale: float
    stop_reason: str
    contamination: float
    passes: int

    @property
    def support(self) -> Any:
        """``weights > 0.5``: which rows were kept, a boolean array of shape (n,)."""
        return self.weights > 0.5
