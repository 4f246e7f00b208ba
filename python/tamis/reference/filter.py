"""The twin of `iterative_filter`: the loop of the filter.

Sources: [DKKLMS16], [DKKLMS17] as in `intervals`; ``docs/robust_mean.md`` has every step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tamis.reference.options import Assume, Limits, Rule
from tamis.reference.rounds import SETTLED, FilterRun
from tamis.reference.spectral import Array, noise_edge
from tamis.reference.sweeps import many_rows, sweeps

MAX_READMISSIONS = 6  # after that rows only leave, so the filter ends


@dataclass(frozen=True)
class FilterResult:
    """What the filter returns.

    Attributes
    ----------
    mean : (d,) array
        Weighted mean of the rows, exactly ``weights @ X / weights.sum()``.
    weights : (n,) array
        0 to 1.
    scores : (n,) array
        Larger is more outlying: ``max_j ((v_j . x - centers_j) / scales_j)**2``; for a row outside
        the ball at least ``(|x - ball_center| / ball_scale)**2``.
    rounds : int
        Eigensolves.
    eigenvalues : (rounds,) array
        Top eigenvalue of the surviving rows at each round.
    directions : (d, m) array
        First the `cuts` directions whose intervals define the support, then the last top
        eigenvectors.
    centers, scales : (m,) arrays
        Where clean rows lie along each direction, and their robust standard deviation.
    cuts : int
        How many of the directions define the support.
    ball_center : (d,) array
    ball_radius, ball_scale : float
        The ball outside which rows were pruned; an infinite radius where none was.
    stop_reason : str
        "eigenvalue_explained", "tails_explained", "removal_limit", "max_rounds",
        "zero_variance", "too_few_rows" or "no_contamination".
    contamination : float
        Share of the rows that was removed: the estimate when ``contamination="auto"``.
    passes : int
        Reads of X.
    """

    mean: Array
    weights: Array
    scores: Array
    rounds: int
    eigenvalues: Array
    directions: Array
    centers: Array
    scales: Array
    cuts: int
    ball_center: Array
    ball_radius: float
    ball_scale: float
    stop_reason: str
    contamination: float
    passes: int

    @property
    def support(self) -> NDArray[np.bool_]:
        """Which rows count: ``weights > 0.5``, (n,)."""
        return np.asarray(self.weights > 0.5)


def iterative_filter(
    X: Array,
    contamination: float | Literal["auto"] = 0.1,
    *,
    rule: Rule = "gaussian_tail",
    assume: Assume = "none",
    prune: bool = True,
    readmit: bool = True,
    max_rounds: int = 50,
    max_removed: float = 2.5,
    seed: int = 0,
) -> FilterResult:
    """Estimate the mean of rows of which a minority is arbitrary, by spectral filtering.

    Parameters
    ----------
    X : (n, d) array
        Finite, magnitudes below 1e70 (squares of squares are summed). Never modified.
    contamination : float in [0, 0.5) or "auto"
        Sets the budget, and the step of "fixed_fraction". The intervals of the other rules do not
        depend on it, so a wrong value costs nothing until the budget binds; "auto" only lifts the
        budget to half of the rows, and the share removed is the estimate.
    rule : str
        "gaussian_tail", "bounded_covariance", "fixed_fraction" (drops the contamination / 4 rows
        of largest score a round), "soft" (multiplies weights by a power of ``1 - score / max``)
        or "randomized" (keeps a row with that probability). Here alone, not in the native filter:
        "que", which drops as many rows as "fixed_fraction", those of largest quantum entropy score
        about the surviving rows (Dong, Hopkins and Li 2019, alpha = 4): it sees all directions of
        large variance at once, not the suspicious ones among the top few.
    assume : str
        Covariance of clean rows: "identity"; "scale" (s^2 I, s estimated); "none" (each direction
        is compared with its own robust scale).
    prune : bool
        Drop rows outside a ball about the coordinate-wise median first.
    readmit : bool
        Score all rows again against the survivors, until the set is stable.
    max_rounds : int
        Eigensolves at most.
    max_removed : float
        At most ``min(max_removed * contamination, 0.5) * n`` rows go, in weight, ever.
    seed : int
        The result is a function of (X, arguments, seed).

    Returns
    -------
    FilterResult
    """
    return filter_with_state(
        X,
        contamination,
        rule=rule,
        assume=assume,
        prune=prune,
        readmit=readmit,
        max_rounds=max_rounds,
        max_removed=max_removed,
        seed=seed,
    )[0]


def filter_with_state(
    X: Array,
    contamination: float | Literal["auto"] = 0.1,
    *,
    rule: Rule = "gaussian_tail",
    assume: Assume = "none",
    prune: bool = True,
    readmit: bool = True,
    max_rounds: int = 50,
    max_removed: float = 2.5,
    seed: int = 0,
) -> tuple[FilterResult, FilterRun, Array]:
    """Return the result, the state of the run and the last block of top directions."""
    X = np.asarray(X, dtype=np.float64)
    n, d = X.shape
    if contamination == "auto":
        removable, share, step = 0.5, 0.3, 0.02
    else:
        removable = min(max_removed * contamination, 0.5)
        share, step = float(contamination), 0.25 * contamination
    budget = min(math.floor(removable * n), (n - 1) // 2)
    run = FilterRun(X, Limits(rule, assume, seed, budget, readmit, share, step))
    if budget < 1:
        reason = "no_contamination" if contamination == 0.0 else "too_few_rows"
        return _result(run, [], np.zeros((d, 0)), reason)
    if prune:
        run.prune()
    eigenvalues: list[float] = []
    vectors = np.zeros((d, 0))
    if many_rows(run):
        run.passes = 0
        settled = sweeps(run, eigenvalues, max_rounds)
        vectors = run.top
        if settled is not None:
            return _result(run, eigenvalues, vectors, settled)
    elif math.isfinite(run.ball_radius2):
        run.support_from_cuts()
    reason = "max_rounds"
    readmissions = 0  # rounds in which rows came back
    fresh = float(run.weights.sum()) < n  # rows left since all were scored together
    for _ in range(len(eigenvalues), max_rounds):
        values, vectors = run.top_directions()
        eigenvalues.append(float(values[0]))
        if values[0] <= 1e-14 * max(float(np.square(run.mean - run.origin).sum()), 1e-290):
            reason = "zero_variance"
            break
        before = run.weights
        suspicious, moved = run.examine(values, vectors)
        if suspicious or moved:
            if run.whole:
                run.cuts = [c for c in run.cuts if c.active]
                run.recentre_ball()
            run.remove(suspicious)
            if run.changed(before):
                fresh = True
                returned = float(np.maximum(run.weights - before, 0.0).sum())
                if run.whole and returned > SETTLED * n:
                    readmissions += 1
                    run.whole = readmissions < MAX_READMISSIONS
                if not run.limited or run.whole:
                    continue
        if readmit and not run.hard and fresh and readmissions < MAX_READMISSIONS:
            readmissions += 1
            fresh = False
            if run.readmit() and not run.limited:
                continue
        if run.limited:
            reason = "removal_limit"
        else:
            explained = values[0] <= run.reference().variance * noise_edge(run.mass, d)
            reason = "eigenvalue_explained" if explained else "tails_explained"
        break
    return _result(run, eigenvalues, vectors, reason)


def _result(
    run: FilterRun, eigenvalues: list[float], vectors: Array, reason: str
) -> tuple[FilterResult, FilterRun, Array]:
    n, d = run.X.shape
    cuts = [c for c in run.cuts if c.active]
    lines = run.scored or (run.final_scores(vectors) if vectors.shape[1] else cuts)
    directions = np.array([line.direction for line in lines]).reshape(-1, d).T
    result = FilterResult(
        mean=run.mean,
        weights=run.weights,
        scores=run.scores,
        rounds=len(eigenvalues),
        eigenvalues=np.array(eigenvalues),
        directions=directions,
        centers=run.origin @ directions + np.array([line.centre for line in lines]),
        scales=np.array([line.scale for line in lines]),
        cuts=len(cuts),
        ball_center=run.ball_centre,
        ball_radius=math.sqrt(run.ball_radius2),
        ball_scale=math.sqrt(run.ball_radius2 / run.border),
        stop_reason=reason,
        contamination=1.0 - float(run.weights.sum()) / n,
        passes=run.passes,
    )
    return result, run, vectors
