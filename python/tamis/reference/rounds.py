"""The state of one run of `iterative_filter`, and what a round does to it.

A row survives if it lies in the ball and in the interval of every recorded direction: the support
is a function of few numbers, so re-admission means finding the intervals anew from all rows and
applying them again. Past the usual 400 lines by a few: all of it is one state and its passes.

Sources
-------
[DKKLMS16], [DKKLMS17] as in `intervals`.
[LM00] Laurent and Massart 2000, Adaptive estimation of a quadratic functional, Lemma 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tamis.reference.intervals import (
    BINS_PER_SCALE,
    Cut,
    Histogram,
    Reference,
    charge,
    pair_scale2,
    robust_scale,
    rows_between,
    smallest_power,
    tail_cut,
    variance_cut,
    without_atoms,
)
from tamis.reference.options import Limits
from tamis.reference.que import que_scores
from tamis.reference.spectral import (
    SAMPLE_ROWS,
    Array,
    Operator,
    block_krylov,
    covariance_apply,
    gaussian_block,
    noise_edge,
    oriented,
    row_blocks,
    sample_rows,
    subsample_start,
    uniform_hash,
)

BLOCK_SIZE = 8  # vectors multiplied at once: eight products cost one read of X
KRYLOV_PASSES = 4  # full reads of X per eigensolve, at most
KRYLOV_TOL = 0.03  # a direction need not be exact to show a tail
LEADING = 2  # directions that must converge
EXAMINED = 4  # directions whose tails are looked at
BALL_ROWS = 1024  # rows that lay the ball
OWN_SCALE_FACTOR = 3.0  # TAIL_FACTOR where the scale itself is a guess from this direction
HEAVY_VARIANCE_RATIO = 2.333  # variance of t_3 over the squared quartile scale: 3 / 1.134^2
MARKOV_RADIUS2 = 100.0  # prune radius^2 over the median distance^2 when only Cov is bounded
PARALLEL = 0.9  # cosine above which the soft rules take two directions for the same
SETTLED = 1e-4  # share of the rows that may still move when the support is called stable


class FilterRun:
    """One run. Beyond X: weights and scores (n,), and O((BLOCK_SIZE + m) d) for m cuts.

    Projections are those of ``x - origin`` for one origin near the centre: nothing cancels.
    """

    def __init__(self, X: Array, limits: Limits) -> None:
        n, d = X.shape
        self.X = X
        self.limits = limits
        self.weights, self.scores = np.ones(n), np.zeros(n)
        self.sample = sample_rows(n, min(n, max(SAMPLE_ROWS, 4 * d)), limits.seed, 0)
        self.ball_rows = X[sample_rows(n, min(n, BALL_ROWS), limits.seed, 2)]
        self.origin = np.median(self.ball_rows, axis=0)
        self.ball_centre, self.ball_radius2 = self.origin, math.inf
        self.border = 2.0 * math.log(100.0 * n)  # score there: exp(-border / 2) = 1 / (100 n)
        self.cuts: list[Cut] = []
        self.passes = 0
        self.draws = 0
        self.moved = 0.0  # rows between the intervals that a sweep applied and those it found
        self.top = np.zeros((d, 0))  # the last top directions of a sweep
        self.scored: list[Cut] = []  # the lines of the scores, once these are final
        self.limited = False  # the budget gave rows back
        self.hard = limits.rule in ("gaussian_tail", "bounded_covariance")
        self.whole = self.hard and limits.readmit  # every round scores all rows again
        self.tail_family = limits.rule == "gaussian_tail" or (
            limits.rule != "bounded_covariance" and limits.assume != "none"
        )
        self.find = tail_cut if self.tail_family else variance_cut
        self.pair_scale2 = pair_scale2(X, limits.seed)
        self.moments()
        self.passes += 1

    # ---- what clean rows may do ------------------------------------------------------------------

    def _atom_share(self) -> float:
        """Return the share of the surviving rows that repeat one another.

        Rows that coincide in space coincide along a random direction. They add nothing to the
        variance of the others, so trace and pair distances are too small by this factor.
        """
        v = gaussian_block(self.X.shape[1], 1, self.limits.seed, 6)[:, 0]
        cut = self.new_cut(v / max(float(np.linalg.norm(v)), 1e-300))
        h = Histogram(cut.origin, cut.width)
        h.add(self.project(self.sample, cut.direction)[:, 0], self.weights[self.sample])
        total = float(h.counts.sum())
        return 1.0 - float(without_atoms(h.counts).sum()) / total if total > 0.0 else 0.0

    def reference(self) -> Reference:
        """Return what clean rows may do along one direction, for this round."""
        d = self.X.shape[1]
        edge = noise_edge(self.mass, d)
        fitted = 1.0 + d / max(self.mass, 1.0)  # in-sample variance of a fitted direction
        if self.limits.assume == "identity":
            return Reference(1.0, math.sqrt(edge), 1.0, fitted)
        loose = 1.0 if self.tail_family else HEAVY_VARIANCE_RATIO
        s2 = self.trace / d
        if self.pair_scale2 > 0.0:
            s2 = min(s2, loose * self.pair_scale2)
        s2 /= 1.0 - self._atom_share()
        if self.limits.assume == "scale":
            s = math.sqrt(s2)
            return Reference(s, s * math.sqrt(edge), s2, s2 * fitted)
        return Reference(0.0, math.inf, s2, math.inf, OWN_SCALE_FACTOR)

    def prune(self) -> None:
        """Set the ball outside which rows are gross outliers ([DKKLMS17] "naive prune").

        Departures: the radius is measured from the data (median distance, plus the chi-squared
        deviation of [LM00] when the spread is known), not ``0.33 sqrt(d log(n / eps))``, which
        prunes good rows at small d and nothing at large d. Where only the covariance is bounded
        the radius is MARKOV_RADIUS2 times the median distance: Markov's inequality keeps 99% of
        the clean rows for any distribution.
        """
        distance2 = np.square(self.ball_rows - self.ball_centre).sum(axis=1)
        middle = float(np.median(distance2))
        if middle <= 0.0:
            return
        if self.tail_family and self.limits.assume != "none":
            s2 = 1.0 if self.limits.assume == "identity" else self.pair_scale2
            log_n = math.log(100.0 * self.X.shape[0])
            self.ball_radius2 = middle + 2.0 * math.sqrt(middle * s2 * log_n) + 2.0 * s2 * log_n
            outside = np.count_nonzero(distance2 > self.ball_radius2) / distance2.size
            share = self.limits.share
            if outside <= share + 3.0 * math.sqrt(share / distance2.size):
                return  # else so many rows are far out that the tails cannot be Gaussian
        self.ball_radius2 = MARKOV_RADIUS2 * middle

    def recentre_ball(self) -> None:
        """Move the ball, if there is one, to the present mean and measure its radius anew."""
        if math.isfinite(self.ball_radius2):
            self.ball_centre = self.mean
            self.prune()

    # ---- passes over X ---------------------------------------------------------------------------

    def project(self, rows: slice | NDArray[np.int64], *directions: Array) -> Array:
        """Return the (rows, m) projections of ``x - origin``.

        Each is summed by itself, not by a matrix product: the same bits whichever rows come along,
        so that the median row lies exactly where it laid the grid.
        """
        centred = self.X[rows] - self.origin
        Z = np.array([(centred * v).sum(axis=1) for v in directions])
        return np.asarray(Z.reshape(-1, len(centred)).T)

    def support_from_cuts(self) -> None:
        """Pass: a row stays if it is in the ball and in every interval; mean and trace follow.

        Past the budget the least outlying rows come back.
        """
        n = self.X.shape[0]
        keep = np.empty(n, dtype=bool)
        for rows in row_blocks(n):
            block = self.X[rows]
            far = np.square(block - self.ball_centre).sum(axis=1) / self.ball_radius2
            severity = np.where(far > 1.0, 1e6 * far, 0.0)
            inside = far <= 1.0
            Z = self.project(rows, *(c.direction for c in self.cuts))
            for j, cut in enumerate(self.cuts):
                if cut.active:
                    inside &= cut.keeps(Z[:, j])
                    z = np.abs(Z[:, j] - cut.centre) / cut.scale
                    np.maximum(severity, z, out=severity)
            keep[rows] = inside
            self.scores[rows] = severity
        self.passes += 1
        self.set_weights(keep.astype(np.float64))

    def set_weights(self, weights: Array) -> None:
        """Adopt the weights, giving the least severe rows back where the budget is exceeded."""
        excess = (weights.size - float(weights.sum())) - self.limits.budget
        self.limited = excess > 1e-9
        if self.limited:
            lost = np.flatnonzero(weights < 1.0)
            order = lost[np.argsort(self.scores[lost], kind="stable")]
            back = np.cumsum(1.0 - weights[order])
            weights = weights.copy()
            weights[order[: int(np.searchsorted(back, excess - 1e-9)) + 1]] = 1.0
        self.weights = weights
        self.moments()

    def moments(self) -> None:
        """Mean, trace of the covariance and mass of the weighted rows (native: the same pass)."""
        n, d = self.X.shape
        total, square = np.zeros(d), 0.0
        for rows in row_blocks(n):
            centred = self.X[rows] - self.origin
            total += self.weights[rows] @ centred
            square += float(self.weights[rows] @ np.square(centred).sum(axis=1))
        self.mass = float(self.weights.sum())
        shift = total / self.mass
        self.mean = self.origin + shift
        self.trace = max(square / self.mass - float(shift @ shift), 0.0)

    def sample_start(self, mean: Array) -> Array:
        """Return the top directions of the sample about `mean`: where passes over X begin."""
        d, seed = self.X.shape[1], self.limits.seed
        width = min(BLOCK_SIZE, d)
        start = gaussian_block(d, width, seed, 5)
        w = self.weights[self.sample]
        if self.sample.size < 2 * width or w.sum() <= 0.0:
            return start
        wanted = min(EXAMINED, width)
        return subsample_start(self.X[self.sample], w, mean, start, wanted=wanted, seed=seed)

    def multiply(self, V: Array) -> Array:
        """Pass: return the covariance of the weighted rows times V."""
        self.passes += 1
        return covariance_apply(self.X, V, weights=self.weights, mean=self.mean)

    def krylov(self, apply: Operator, start: Array, returned: int) -> tuple[Array, Array]:
        """Return the leading Ritz values and vectors: a few passes, no more than tails need."""
        values, vectors, _, _, _ = block_krylov(
            apply,
            start,
            min(LEADING, start.shape[1]),
            tol=KRYLOV_TOL,
            max_passes=KRYLOV_PASSES,
            seed=self.limits.seed,
            returned=min(returned, start.shape[1]),
        )
        return values, oriented(vectors)

    def top_directions(self) -> tuple[Array, Array]:
        """Return the leading Ritz values and vectors of the weighted rows."""
        return self.krylov(self.multiply, self.sample_start(self.mean), EXAMINED)

    def score(self, lines: list[Cut], combine: Callable[..., Array], border: float = 0.0) -> None:
        """Pass: scores become the sum or maximum of squared standardised projections.

        At least the squared distance, `border` on the border of the ball, for a row outside it.
        """
        centres, scales = np.array([(line.centre, line.scale) for line in lines]).T
        for rows in row_blocks(self.X.shape[0]):
            Z = self.project(rows, *(line.direction for line in lines))
            far = np.square(self.X[rows] - self.ball_centre).sum(axis=1) / self.ball_radius2
            least = np.where(far > 1.0, border * far, 0.0)
            self.scores[rows] = np.maximum(
                combine(np.square((Z - centres) / scales), axis=1), least
            )
        self.passes += 1

    def histograms(self, cuts: list[Cut], weights: Array) -> list[Histogram]:
        """Pass: one histogram per direction, each over the rows charged to it (see `charge`)."""
        result = [Histogram(c.origin, c.width) for c in cuts]
        for rows in row_blocks(self.X.shape[0]):
            block = self.X[rows]
            w = weights[rows]
            if math.isfinite(self.ball_radius2):
                w = w * (np.square(block - self.ball_centre).sum(axis=1) <= self.ball_radius2)
            Z = self.project(rows, *(c.direction for c in cuts))
            counted = charge(Z, cuts)
            for j in range(len(cuts)):
                result[j].add(Z[:, j], w * counted[:, j])
        self.passes += 1
        return result

    def new_cut(self, direction: Array) -> Cut:
        """Return an empty cut, its grid laid by the surviving rows of the subsample."""
        z = self.project(self.sample, direction)[:, 0]
        alive = self.weights[self.sample] > 0.5
        origin, scale = robust_scale(z[alive] if alive.any() else z)
        scale = scale if scale > 0.0 else 1.0
        return Cut(direction, origin, scale, origin, scale / BINS_PER_SCALE)

    # ---- one round -------------------------------------------------------------------------------

    def examine(self, values: Array, vectors: Array) -> tuple[list[Cut], bool]:
        """Return the cuts of suspicious new directions, and whether recorded intervals moved.

        Where every round scores all rows, the recorded intervals are found anew as well. If that
        would move no more than SETTLED of the rows and nothing is suspicious, they stay.
        """
        n, d = self.X.shape
        ref = self.reference()
        threshold = ref.variance * noise_edge(self.mass, d)
        if self.limits.assume == "none" and self.tail_family:
            threshold = 0.0  # no variance is too large by itself: look at the tails
        fresh = [self.new_cut(v) for v in vectors[:, values > threshold].T]
        recorded = self.cuts if self.whole else []
        if not fresh and not recorded:
            return [], False
        chain = recorded + self.provisional(fresh)
        counted = self.histograms(chain, np.ones(n) if self.whole else self.weights)
        found = [self.find(h, c, ref) for h, c in zip(counted, chain, strict=True)]
        old = len(recorded)
        suspicious = [c for c in found[old:] if c.active]
        rows = sum(map(rows_between, counted[:old], recorded, found[:old]))
        moved = rows > SETTLED * n
        if recorded and (moved or suspicious):
            self.cuts = found[:old]
        return suspicious, moved

    def provisional(self, cuts: list[Cut]) -> list[Cut]:
        """Return the cuts with provisional intervals, found on the surviving subsample.

        Greedy: take the interval of largest reach, drop what it excludes, look again.
        """
        ref = self.reference()
        Z = self.project(self.sample, *(c.direction for c in cuts))
        alive: NDArray[np.bool_] = self.weights[self.sample] > 0.5
        left, ordered = list(range(len(cuts))), []
        while left and alive.any():
            found = {}
            for j in left:
                h = Histogram(cuts[j].origin, cuts[j].width)
                h.add(Z[alive, j], np.ones(int(alive.sum())))
                found[j] = self.find(h, cuts[j], ref)
            best = max(left, key=lambda j: found[j].reach if found[j].active else -1.0)
            if not found[best].active:
                break
            ordered.append(found[best])
            alive &= found[best].keeps(Z[:, best])
            left.remove(best)
        return ordered + [cuts[j] for j in left]

    def remove(self, suspicious: list[Cut]) -> None:
        """Apply the rule to the suspicious directions."""
        if self.hard:
            self.cuts = self.cuts + suspicious
            self.support_from_cuts()
            return
        self.cuts = self.cuts + [  # the direction found first saw the most outliers: keep that
            new
            for new in suspicious
            if all(abs(float(new.direction @ old.direction)) < PARALLEL for old in self.cuts)
        ]
        if self.limits.rule == "que":
            self.scores = que_scores(self.X, weights=self.weights)
            self.passes += 2
        else:
            self.score(suspicious, np.sum)
        tau = self.scores
        alive = self.weights > 0.0
        if self.limits.rule in ("fixed_fraction", "que"):
            count = max(int(self.limits.step * tau.size), 1)
            bound = np.partition(tau[alive], -count)[-count]
            self.set_weights(np.where(tau >= bound, 0.0, self.weights))
            return
        top = float(tau[alive].max())
        survive = np.clip(1.0 - tau / top, 0.0, 1.0)
        survive **= smallest_power(tau[alive], self.weights[alive], top, float(len(suspicious)))
        if self.limits.rule == "soft":
            self.set_weights(self.weights * survive)
        else:
            self.draws += 1
            index = np.arange(tau.size, dtype=np.uint64)
            u = uniform_hash(self.limits.seed, 16 + self.draws, index)
            self.set_weights(np.where(u < survive, self.weights, 0.0))

    def readmit(self) -> bool:
        """Score every row again against the survivors; return whether the support changed.

        The intervals of all recorded directions are found anew from all rows, each direction
        seeing only rows that the better separating ones accept.
        """
        ref = self.reference()
        self.recentre_ball()
        before = self.weights
        if self.cuts:
            counted = self.histograms(self.cuts, np.ones(self.X.shape[0]))
            found = [self.find(h, c, ref) for h, c in zip(counted, self.cuts, strict=True)]
            self.cuts = [c for c in found if c.active]
        self.support_from_cuts()
        return self.changed(before)

    def changed(self, before: Array) -> bool:
        """Return whether more than SETTLED of the weight moved."""
        return float(np.abs(before - self.weights).sum()) > SETTLED * before.size

    def scored_by(self, cut: Cut, ref: Reference) -> Cut:
        """Return what clean rows do along a top direction without a cut.

        They lie about the mean, with the sample's scale.
        """
        scale = min(max(cut.width * BINS_PER_SCALE, ref.scale_lo), ref.scale_hi)
        centre = float((self.mean - self.origin) @ cut.direction)
        return replace(cut, centre=centre, scale=scale if scale > 0.0 else 1.0)

    def final_scores(self, vectors: Array) -> list[Cut]:
        """Pass: the largest squared standardised projection; return the lines it was taken along.

        These are the recorded cuts and the last `vectors`, as cuts without an interval.
        """
        ref = self.reference()
        lines = self.cuts + [self.scored_by(self.new_cut(v), ref) for v in vectors.T]
        self.score(lines, np.max, self.border)
        return lines
