"""The rounds of `iterative_filter` where there are many rows: one read of X each.

What applies the cuts also counts, scores and multiplies, so new directions are cut by what the row
sample says of them, until the same read has said better. Here each of these is a pass by itself;
that they are one read is for the native code.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.special import ndtr

from tamis.reference.intervals import Cut, rows_between
from tamis.reference.rounds import (
    BLOCK_SIZE,
    EXAMINED,
    KRYLOV_PASSES,
    KRYLOV_TOL,
    LEADING,
    SETTLED,
    FilterRun,
)
from tamis.reference.spectral import (
    Array,
    Operator,
    noise_edge,
    oriented,
    orthonormalise,
    rayleigh_ritz,
)

SAMPLE_SHARE = 4  # with a larger sample, reads of X are not what takes the time
MAX_SWEEPS = 12
NEARLY_SETTLED = 2e-3  # share of the rows that may change sides without another look at all
CLOSE_BINS = 24  # that a bound may move inwards then ...
CLOSE_SHARE = 4e-3  # ... past at most this share of Gaussian rows


def many_rows(run: FilterRun) -> bool:
    """Return whether there are so many rows that reads of X take the time.

    And whether the rule decides by tails: by variances, provisional intervals cost accuracy.
    """
    many = run.X.shape[0] // SAMPLE_SHARE >= run.sample.size
    return many and run.whole and run.limits.rule == "gaussian_tail"


def _threshold(run: FilterRun) -> float:
    if run.limits.assume == "none" and run.tail_family:
        return 0.0
    return run.reference().variance * noise_edge(run.mass, run.X.shape[1])


def _look_at(run: FilterRun, values: Array, vectors: Array) -> tuple[list[Cut], list[Cut]]:
    """Return the cuts that the sample suggests, with provisional intervals, and the others."""
    leading = vectors[:, :EXAMINED]
    suspect = values[: leading.shape[1]] > _threshold(run)
    found = run.provisional([run.new_cut(v) for v in leading[:, suspect].T])
    others = [c for c in found if not c.active]
    return [c for c in found if c.active], others + [run.new_cut(v) for v in leading[:, ~suspect].T]


def _sweep(run: FilterRun, others: list[Cut], block: Array) -> tuple[list[Cut], Array] | None:
    """Apply the recorded cuts; return all intervals anew, and the covariance times the block.

    None where the budget is exceeded.
    """
    passes = run.passes
    before = run.weights
    run.support_from_cuts()
    if run.limited:
        run.weights, run.passes = before, passes + 1
        return None
    chain = run.cuts + others
    found: list[Cut] = []
    if chain:
        ref = run.reference()
        counted = run.histograms(chain, np.ones(run.X.shape[0]))
        found = [run.find(h, c, ref) for h, c in zip(counted, chain, strict=True)]
        run.moved = sum(map(rows_between, counted, run.cuts, found))
    image = run.multiply(block)
    run.passes = passes + 1
    return found, image


def _examined(along: list[float], values: Array, threshold: float) -> bool:
    """Return whether the leading directions found are those examined.

    That is, whether none has a much larger variance; `along` has the variances of those examined.
    """
    along = sorted(along, reverse=True)
    for i, value in enumerate(values[:LEADING]):
        if value <= threshold:
            return True
        if i == len(along):
            return i > 0
        if value > (1.0 + KRYLOV_TOL) * along[i]:
            return False
    return True


def _way_in(cut: Cut, reach: float) -> float:
    """Return how far a bound `reach` scales from the centre may move towards it.

    Past few of the rows that a Gaussian has there.
    """
    step = cut.width / cut.scale
    beyond = ndtr(-reach)
    bins = 0
    while bins < CLOSE_BINS and ndtr((bins + 1) * step - reach) - beyond <= CLOSE_SHARE:
        bins += 1
    return bins * cut.width


def _move_bounds(run: FilterRun, found: list[Cut]) -> bool:
    """Give the recorded cuts the bounds that a sweep found, if these are close; return whether.

    Native: no read of X, since the sweep has listed the rows close to a bound. Nothing happens
    where too many rows would go.
    """
    for old, new in zip(run.cuts, found, strict=True):
        below = _way_in(old, (old.centre - old.lo) / old.scale)
        above = _way_in(old, (old.hi - old.centre) / old.scale)
        if new.lo != old.lo and not old.lo <= new.lo <= old.lo + below:
            return False
        if new.hi != old.hi and not old.hi - above <= new.hi <= old.hi:
            return False
    before = run.cuts, run.weights, run.passes
    run.cuts = [replace(c, lo=f.lo, hi=f.hi) for c, f in zip(run.cuts, found, strict=True)]
    run.support_from_cuts()
    moved = not run.limited
    if run.limited:
        run.cuts, run.weights, run.limited = before[0], before[1], False
        run.moments()
    run.passes = before[2]
    return moved


def _known_first(run: FilterRun, image: Array) -> Operator:
    """Return the covariance as an operator whose first product is known."""
    known = [image]
    return lambda V: known.pop() if known else run.multiply(V)


def sweeps(run: FilterRun, eigenvalues: list[float], max_rounds: int) -> str | None:
    """Run until the cuts are at rest; return the reason.

    None where the budget is exceeded or they do not come to rest: then the ordinary rounds go on.
    """
    n, d = run.X.shape
    width = min(BLOCK_SIZE, d)
    others: list[Cut] = []
    scored: list[Cut] = []
    far = np.square(run.X[run.sample] - run.ball_centre).sum(axis=1)
    if np.any(far > run.ball_radius2):
        run.support_from_cuts()  # a sample with rows outside the ball says nothing
    block = orthonormalise(run.sample_start(run.origin))
    products = 0  # since a cut changed
    for sweep in range(MAX_SWEEPS):
        if len(eigenvalues) >= max_rounds:
            break
        result = _sweep(run, others, block)
        if result is None:
            break
        found, image = result
        values, vectors, residuals = rayleigh_ritz(block, image)
        top = float(values[0])
        vectors = oriented(vectors)
        run.top = vectors[:, :EXAMINED]
        eigenvalues.append(top)
        flat = top <= 1e-14 * max(float(np.square(run.mean - run.origin).sum()), 1e-290)
        threshold = _threshold(run)
        old = len(run.cuts)
        suspicious = [
            cut
            for j, cut in enumerate(found[old:])
            if cut.active and float(block[:, j] @ image[:, j]) > threshold
        ]
        products += 1
        converged = bool(np.all(residuals[:LEADING] <= KRYLOV_TOL * top))
        settled = not suspicious and (sweep > 0 or flat)
        if settled and run.moved <= NEARLY_SETTLED * n:
            along = [float(block[:, j] @ image[:, j]) for j in range(len(others))]
            looked = _examined(along, values, threshold)
            done = flat or (looked and (converged or products >= KRYLOV_PASSES))
            if done and run.moved > SETTLED * n:
                done = _move_bounds(run, found[:old])
            if done:
                if sweep > 0:
                    run.score(run.cuts + scored, np.max, run.border)
                    run.passes -= 1
                    run.scored = run.cuts + scored
                if flat:
                    return "zero_variance"
                explained = top <= run.reference().variance * noise_edge(run.mass, d)
                return "eigenvalue_explained" if explained else "tails_explained"
        if not settled or run.moved > SETTLED * n:
            products = 0
            run.cuts = [c for c in found[:old] + suspicious if c.active]
            run.recentre_ball()
        remainder = image @ (block.T @ vectors) - vectors * values
        fresh, others = _look_at(run, values, vectors)
        if fresh and not converged:
            # Something is to be cut, along directions that are not good enough yet.
            values, vectors = run.krylov(_known_first(run, image), block, width)
            run.top = vectors[:, :EXAMINED]
            fresh, others = _look_at(run, values, vectors)
        ref = run.reference()
        scored = [run.scored_by(c, ref) for c in others]
        run.cuts = run.cuts + fresh
        looked = np.array([c.direction for c in others]).reshape(-1, d).T
        more = np.hstack([remainder, vectors[:, EXAMINED:], vectors])
        block = np.hstack([looked, orthonormalise(more, looked)])[:, :width]
    run.support_from_cuts()
    return None
