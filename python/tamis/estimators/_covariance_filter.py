"""The loop behind `RobustCovariance`: which rows a clean Gaussian, or a clean bulk, would not have.

Rule "gaussian": the degree-2 filter of [DKKLMS17] (`_quadratic` has the sources). Departures, all
of which lower the error: the law of a quadratic form is known and is used (no tail constant is
searched for); a direction is looked at only where its variance is above what clean Gaussian rows
of that number have; rows are judged anew at the end, so that good ones come back.
Tables of fewer than 50 rows a column are too small for that: `_concentration`.
Rule "bounded": the first-order filter for bounded covariances, for rows that are not Gaussian; a
compact cluster among what it left out takes its stragglers along.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis import ops
from tamis.estimators._concentration import concentrated, is_small
from tamis.estimators._moments import ROWS_A_DIRECTION, Moments, inverses, moments, whitened
from tamis.estimators._order import order_by_value
from tamis.estimators._quadratic import (
    gaussianised,
    quadratic_forms,
    rejected,
    top_forms,
)

__all__ = ["Found", "filter_covariance"]

Array = NDArray[Any]
LEVEL = 0.02  # share of good rows among those left out that is put up with
CHANCE = 0.05  # share of the rows, few in many columns, that forms reject where nothing is wrong
UNSUSPICIOUS = 2.0  # deviations: nearer rows cannot be rejected at this level
SLACK = 1.15  # products of normals have heavier tails than the edge below assumes
NUM_FORMS = 3
# Of the Lanczos residual. Rows that are not Gaussian have many forms of nearly the same variance,
# and which is cut decides much (AUC .984 or .9935 on breastw): exact where that costs little.
FINE, ROUGH = 1e-3, 0.05
FEW_COLUMNS = 28  # some 400 dimensions of forms
TIED = 1e-5  # relative difference of distances in float32 that may be rounding
READMISSIONS = 15
SEPARATION = 4.0  # pooled standard deviations between a removed cluster and the survivors


@dataclass
class Found:
    """What the filter found."""

    moments: Moments
    kept: NDArray[np.bool_]
    rounds: int
    values: list[float] = field(default_factory=list)
    stop_reason: str = "explained"
    radius_cut: bool = False


def filter_covariance(
    X: Array,
    limit: int,
    *,
    centred: bool,
    rule: str,
    options: dict[str, Any],
) -> Found:
    """Which rows to keep; at most ``limit`` of them go in the end, and equal rows together.

    ``options``: of `tamis.iterative_filter`, for the first-order filter; seed and rounds for all.
    """
    n = X.shape[0]
    kept = np.ones(n, dtype=bool)
    if limit < 1 or n < 4:
        return Found(moments(X, kept, centred), kept, 0, stop_reason="no_contamination")
    # with fewer rows a column forms are noise, of which the order picks one as the seed does
    order = order_by_value(X) if n >= ROWS_A_DIRECTION * X.shape[1] else None
    if order is None:
        return _filtered(X, limit, centred, rule, options)
    found = _filtered(X[order.rows], limit, centred, rule, options)
    alike = order.alike(found.kept)
    if (alike != found.kept).any():
        found.kept = alike
        found.moments = moments(X[order.rows], alike, centred)
    found.kept = order.back(found.kept)
    return found


def _filtered(X: Array, limit: int, centred: bool, rule: str, options: dict[str, Any]) -> Found:
    n = X.shape[0]
    if rule == "bounded":
        return _bounded(X, centred, options)
    if is_small(*X.shape):
        kept = concentrated(X, LEVEL, centred)
        found = Found(moments(X, kept, centred), kept, 1, radius_cut=not kept.all())
    else:
        found = _gaussian(
            X, np.ones(n, dtype=bool), centred, options["max_rounds"], options["seed"]
        )
        gone = int((~found.kept).sum())
        if gone <= CHANCE * n and found.moments.inside < found.moments.rank:
            second = _first_order(X, found, centred, options)
            found = second if int((~second.kept).sum()) > gone or not gone else found
    found.stop_reason = _limited(X, found, limit, centred) or found.stop_reason
    return found


def _radius(d: int) -> Array:
    return np.asarray(np.eye(d) / np.sqrt(d))


def _gaussian(X: Array, kept: NDArray[np.bool_], centred: bool, rounds: int, seed: int) -> Found:
    n = X.shape[0]
    directions: list[Array] = []
    values: list[float] = []
    reason = "max_rounds"
    now = moments(X, kept, centred)
    Z = None
    for _ in range(rounds):
        d = now.inside
        if d == 0:
            reason = "zero_variance"
            break
        Z = whitened(X, now)
        inner = Z[:, :d]
        m = int(kept.sum())
        edge = 2.0 * SLACK * (1.0 + np.sqrt(d * (d + 1) / 2 / m)) ** 2
        rows = inner if m == n else inner[kept]
        tol = FINE if d <= FEW_COLUMNS else ROUGH
        variances, forms = top_forms(rows, NUM_FORMS, seed, enough=edge, tol=tol)
        values.append(float(variances[0]) if variances.size else 2.0)
        forms = [V for value, V in zip(variances, forms, strict=True) if value > edge]
        best, form = np.zeros(n, dtype=bool), None
        for V in [_radius(d), *forms]:
            out = np.zeros(n, dtype=bool)
            scores = _scores(inner, V, kept, now)
            out[kept] = rejected(scores[kept], LEVEL, n)
            if out.sum() > best.sum():
                best, form = out, V
        if form is None:
            reason = "explained"
            break
        if m - int(best.sum()) < (n + 1) // 2:
            reason = "removal_limit"
            break
        kept = kept & ~best
        directions.append(now.whiten[:, :d] @ form @ now.whiten[:, :d].T)
        now, Z = moments(X, kept, centred), None
    found = Found(now, kept, len(values), values, reason)
    if directions:
        _readmit(X, Z, found, directions, centred)
    return found


def _first_order(X: Array, found: Found, centred: bool, options: dict[str, Any]) -> Found:
    """Where few rows in many columns show nothing in their forms, a cluster shows in the variance.

    Columns are standardised, which Gaussian rows of any covariance may be.
    """
    Z = (X - found.moments.mean) * inverses(found.moments.sd)
    result = ops.iterative_filter(Z, **(options | {"rule": "gaussian_tail"}))
    return _found_by(result, X, np.asarray(result.support), centred, found)


def _found_by(
    result: Any, X: Array, kept: NDArray[np.bool_], centred: bool, before: Found | None = None
) -> Found:
    """What a first-order filter found; ``before``: what there was, whose moments may be these."""
    values = [float(v) for v in np.asarray(result.eigenvalues)]
    if before is not None and bool((kept == before.kept).all()):
        now = before.moments
    else:
        now = moments(X, kept, centred)
    return Found(now, kept, int(result.rounds), values, str(result.stop_reason))


def _readmit(
    X: Array, Z: Array | None, found: Found, directions: list[Array], centred: bool
) -> None:
    """Judge every row along every direction that was used, until the set is stable.

    ``Z`` are the rows as ``found.moments`` whitens them, where that has been done. Rows that leave
    the subspace of those kept are measured there, too; the law is that of rows which do not.
    """
    n = X.shape[0]
    for _ in range(READMISSIONS):
        now = found.moments
        d = now.inside
        if d == 0:
            return
        if Z is None:
            Z = whitened(X, now)
        out = np.zeros(n, dtype=bool)
        for number, M in enumerate([None, *directions]):
            V = np.eye(d + now.outside) if M is None else now.back @ M @ now.back.T
            norm = np.linalg.norm(V[:d, :d])
            if norm > 0.0:
                V /= norm
                hit = rejected(_scores(Z, V, found.kept, now), LEVEL, n)
                found.radius_cut |= number == 0 and bool(hit.any())
                out |= hit
        if n - int(out.sum()) < (n + 1) // 2 or bool((out == ~found.kept).all()):
            return
        found.kept = ~out
        found.moments, Z = moments(X, found.kept, centred), None


def _scores(Z: Array, V: Array, kept: Array, now: Moments) -> Array:
    """Of every row along a form, on a normal scale, by the law of rows in the span of those kept.

    Without rows that are too near where few rows were whitened: leading directions of few rows in
    many columns are those rows' own noise, in which any other row lies near the centre.
    """
    law = V[: now.inside, : now.inside]
    scores = gaussianised(quadratic_forms(Z, V), law, kept, UNSUSPICIOUS)
    return scores if now.inside == now.rank else np.maximum(scores, 0.0)


def _limited(X: Array, found: Found, limit: int, centred: bool) -> str | None:
    """Let the nearest of the rows back in where more than ``limit`` were left out.

    And those as near as the last of them.
    """
    gone = np.flatnonzero(~found.kept)
    if gone.size <= limit:
        return None
    Z = whitened(X, found.moments)
    distance = np.abs(np.square(Z[gone], dtype=np.float64).sum(axis=1) - found.moments.inside)
    last = np.partition(distance, gone.size - limit - 1)[gone.size - limit - 1]
    found.kept[gone[distance <= last * (1.0 + TIED)]] = True
    found.moments = moments(X, found.kept, centred)
    return "removal_limit"


def _bounded(X: Array, centred: bool, options: dict[str, Any]) -> Found:
    """The first-order filter; then rows on the far side of a removed cluster go, too."""
    result = ops.iterative_filter(X, **options)
    kept = np.asarray(result.weights, dtype=float) > 0.5
    for _ in range(READMISSIONS):
        moved = _reassigned(X, kept)
        if moved is None or bool((moved == kept).all()):
            break
        kept = moved
    return _found_by(result, X, kept, centred)


def _reassigned(X: Array, kept: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """Rows by the nearer of two centres along Fisher's direction (Fisher 1936).

    None where what was left out is no compact cluster: fewer rows than columns, or means fewer
    than `SEPARATION` pooled standard deviations apart.
    """
    n, d = X.shape
    gone = int((~kept).sum())
    if gone <= d or n - gone <= d:
        return None
    good, bad = moments(X, kept, False), moments(X, ~kept, False)
    pooled = ((n - gone) * good.covariance + gone * bad.covariance) / n
    apart = bad.mean - good.mean
    direction = np.linalg.pinv(pooled, hermitian=True) @ apart
    distance2 = float(apart @ direction)
    if distance2 < SEPARATION**2:
        return None
    side = X @ direction < float((good.mean + bad.mean) @ direction) / 2
    return side if int(side.sum()) >= (n + 1) // 2 else None
