"""One direction of the filter: a histogram of the projections, and the interval it justifies.

Everything along a direction is decided on counts: O(1) memory, one pass over the rows, and sums
that depend neither on their order nor on the number of threads.

Sources
-------
[DKKLMS16] Diakonikolas, Kamath, Kane, Li, Moitra and Stewart 2016, Robust estimators in high
    dimensions without the computational intractability.
[DKKLMS17] The same authors 2017, Being robust (in high dimensions) can be practical.
[DHL19] Dong, Hopkins and Li 2019, Quantum entropy scoring for fast robust mean estimation.
[BJ79] Berk and Jones 1979, Goodness-of-fit test statistics that dominate the Kolmogorov statistics.
[WH31] Wilson and Hilferty 1931, The distribution of chi-square.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from tamis.reference.spectral import Array, row_blocks, uniform_hash

BINS_PER_SCALE = 32  # histogram bins per robust standard deviation
HALF_RANGE = 32  # robust standard deviations on either side; the rest goes to two overflow bins
BINS = 2 * HALF_RANGE * BINS_PER_SCALE
SCALE_LEVEL = 0.6  # the robust scale is this quantile of |z - median| ...
SCALE_TO_SIGMA = 1.18818294989389  # ... over Phi^-1(0.8), its value for a standard normal
SCALE_RELATIVE_ERROR = 1.04  # its sd is 1.04 sigma / sqrt(n): sqrt(.6 .4) / (2 phi(.8416) .8416)
TAIL_FACTOR = 2.0  # rows beyond a cut: at least this many times the expected number
TAIL_EVIDENCE = 10.0  # log-likelihood ratio needed before a tail is called too heavy
MIN_REACH = 1.5  # scales: a variance cut never goes deeper into the bulk
PAIRS = 4096  # distances between two rows, for the scale of a whole data set
ATOM_BIN = 0.04  # a bin of a smooth density holds at most BINS_PER_SCALE^-1 phi(0) = 0.0125
ATOM_SHARE = 0.35  # more rows than this in point masses: the data are discrete


@dataclass
class Histogram:
    """Weighted counts of one projection: HALF_RANGE scales either side, two overflow bins.

    Bin 0 and bin BINS + 1 are the overflows; `square` holds their sums of ``(z - origin)^2``.
    """

    origin: float
    width: float
    counts: Array = field(default_factory=lambda: np.zeros(BINS + 2))
    square: Array = field(default_factory=lambda: np.zeros(2))

    def add(self, z: Array, w: Array) -> None:
        """Count the projections z with weights w."""
        position = np.floor((z - self.origin) / self.width) + (BINS // 2 + 1)
        index = np.clip(position, 0, BINS + 1).astype(np.int64)
        self.counts += np.bincount(index, weights=w, minlength=BINS + 2)
        for side, bin_number in enumerate((0, BINS + 1)):
            out = index == bin_number
            self.square[side] += float(w[out] @ np.square(z[out] - self.origin))

    @property
    def edges(self) -> Array:
        """Lower edges of bins 1..BINS, then the upper edge of the last: BINS + 1 numbers."""
        return np.asarray(self.origin + self.width * (np.arange(BINS + 1) - BINS // 2), dtype=float)

    @property
    def middles(self) -> Array:
        """Middles of all bins; the overflow bins are given the magnitude of their mean square."""
        inner = self.origin + self.width * (np.arange(BINS) - BINS // 2 + 0.5)
        reach = self.width * (BINS // 2)
        far = [
            math.sqrt(self.square[side] / self.counts[b]) if self.counts[b] > 0 else reach
            for side, b in enumerate((0, BINS + 1))
        ]
        return np.concatenate([[self.origin - far[0]], inner, [self.origin + far[1]]])


@dataclass(frozen=True)
class Cut:
    """A recorded direction and the interval of its projection that is kept.

    Positions are projections of ``x - origin`` for the fixed origin of the run. `reach` is the
    distance of the nearer bound from the centre in units of `scale`: how well the direction
    separates what it removes. Infinite bounds keep everything. `origin` and `width` are the grid
    of the histogram, fixed when the direction is recorded, so that intervals can come to rest.
    """

    direction: Array
    centre: float
    scale: float
    origin: float
    width: float
    lo: float = -math.inf
    hi: float = math.inf
    removed: float = 0.0

    @property
    def active(self) -> bool:
        """Whether the interval excludes anything."""
        return math.isfinite(self.lo) or math.isfinite(self.hi)

    @property
    def reach(self) -> float:
        """Distance of the nearer bound from the centre, in scales."""
        return min(self.hi - self.centre, self.centre - self.lo) / self.scale

    def keeps(self, z: Array) -> NDArray[np.bool_]:
        """Return which projections lie in the interval."""
        return (z >= self.lo) & (z < self.hi)


@dataclass(frozen=True)
class Reference:
    """What is taken for granted about the spread of clean rows along any direction.

    The robust scale of a direction is clipped: to ``scale_lo .. scale_hi`` for a tail cut, its
    square to ``variance .. variance_hi`` for a variance cut. The upper ends leave room for the
    in-sample variance along a fitted direction (the noise edge); they are infinite where nothing
    is known of the covariance. `factor` is how many times the expected rows must lie beyond a
    tail cut.
    """

    scale_lo: float
    scale_hi: float
    variance: float
    variance_hi: float
    factor: float = TAIL_FACTOR


def charge(Z: Array, cuts: list[Cut]) -> NDArray[np.bool_]:
    """Return which rows count for which direction, (rows, m).

    A row inside every interval counts everywhere; another counts only for the first direction
    that excludes it. Each outlier is explained once and narrows no other interval.
    """
    lo, hi = np.array([c.lo for c in cuts]), np.array([c.hi for c in cuts])
    outside: NDArray[np.bool_] = (lo > Z) | (hi <= Z)
    inside: NDArray[np.bool_] = ~np.any(outside, axis=1)
    first = np.argmax(outside, axis=1)[:, None] == np.arange(len(cuts))
    return np.asarray(inside[:, None] | (outside & first))


# ---- centre and scale ----------------------------------------------------------------------------


def quantile(middles: Array, counts: Array, q: float, width: float) -> float:
    """Return the q-quantile of a histogram with ascending middles, linear inside its bin."""
    cumulative = np.cumsum(counts)
    target = q * cumulative[-1]
    k = min(int(np.searchsorted(cumulative, target)), counts.size - 1)
    before = cumulative[k] - counts[k]
    inside = (target - before) / counts[k] if counts[k] > 0 else 0.5
    return float(middles[k] + (inside - 0.5) * width)


def centre_and_scale(
    h: Histogram, first: int, last: int, cut_off: tuple[float, float] = (0.0, 0.0)
) -> tuple[float, float, float]:
    """Return median, robust scale (upper confidence bound) and count of bins first..last.

    `cut_off` holds how many clean rows are thought to lie below and above the bins: quantiles are
    those of the completed sample. Without this each cut would shrink the scale, and the smaller
    scale would call for the next cut.
    """
    counts, middles = h.counts[first : last + 1], h.middles[first : last + 1]
    kept = float(counts.sum())
    if kept <= 0.0:
        return h.origin, 0.0, 0.0
    counts = without_atoms(counts)
    weight = float(counts.sum()) / kept
    cut_off = (weight * cut_off[0], weight * cut_off[1])
    part = weight * kept
    total = part + cut_off[0] + cut_off[1]
    level = (0.5 * total - cut_off[0]) / part
    centre = quantile(middles, counts, min(max(level, 0.0), 1.0), h.width)
    distance, order = outward(middles, centre, h.width)
    level = min(SCALE_LEVEL * total / part, 1.0 - 1e-12)  # rounding must not decide on the last row
    scale = SCALE_TO_SIGMA * quantile(distance[order], counts[order], level, 0.5 * h.width)
    if scale < h.width:  # most rows share one value: fall back to the deviation
        scale = math.sqrt(float(counts @ np.square(distance)) / part)
    return centre, scale * (1.0 + 2.0 * SCALE_RELATIVE_ERROR / math.sqrt(kept)), kept


def outward(middles: Array, centre: float, width: float) -> tuple[Array, NDArray[np.int64]]:
    """Return the distances of bins from the centre, and the bins in that order.

    Of two as far (a centre on an edge or in the middle of a bin) the lower one comes first, to
    1e-6 of a bin: else rounding would decide.
    """
    distance = np.abs(middles - centre)
    return distance, np.argsort(np.round(distance / (1e-6 * width)), kind="stable")


def without_atoms(counts: Array) -> Array:
    """Return the counts with point masses capped, if a minority of the rows sits in them.

    No smooth density of this scale puts more than about 1.3% of the rows into one bin; an outlier
    repeated many times does, and would shrink or shift centre and scale in every direction. If
    more than ATOM_SHARE of the rows would go, the data are discrete and stay as they are.
    """
    total = float(counts.sum())
    capped = np.minimum(counts, max(ATOM_BIN * total, 5.0))
    return capped if float(capped.sum()) >= (1.0 - ATOM_SHARE) * total else counts


def robust_scale(z: Array) -> tuple[float, float]:
    """Return median and robust scale of a sample; the deviation if most of it is one value."""
    centre = float(np.median(z))
    scale = SCALE_TO_SIGMA * float(np.quantile(np.abs(z - centre), SCALE_LEVEL))
    return centre, scale if scale > 0.0 else float(z.std())


def pair_scale2(X: Array, seed: int) -> float:
    """Return a robust variance per column, from distances between PAIRS pairs of rows.

    ``|x - y|^2 / 2`` is s^2 times a chi-squared with d degrees of freedom for two clean rows.
    The 40% point is used, not the median: it stands until (1 - eps)^2 < 0.4, eps = 0.37.
    """
    n, d = X.shape
    size = min(PAIRS, n * (n - 1) // 2)
    if size < 1:
        return 0.0
    index = np.arange(size, dtype=np.uint64)
    i = (uniform_hash(seed, 3, index) * n).astype(np.int64)
    j = (uniform_hash(seed, 4, index) * (n - 1)).astype(np.int64)
    j += j >= i
    half = np.empty(size)
    for rows in row_blocks(size):
        half[rows] = 0.5 * np.square(X[i[rows]] - X[j[rows]]).sum(axis=1)
    z = -0.2533471031357997  # the 40% point of a normal, for that of a chi-squared ([WH31])
    point = d * (1.0 - 2.0 / (9.0 * d) + z * math.sqrt(2.0 / (9.0 * d))) ** 3
    return float(np.quantile(half, 0.4) / point)


# ---- the interval --------------------------------------------------------------------------------


def tail_cut(h: Histogram, cut: Cut, ref: Reference) -> Cut:
    """Return the interval outside which more rows lie than a Gaussian tail explains.

    For each side let N(T) be the rows beyond T scales from the median and E(T) the number that a
    Gaussian tail predicts. A side is cut if some T with N > 2 E has log-likelihood ratio
    ``N log(N / E) - N + E`` of TAIL_EVIDENCE or more ([BJ79]; one gross row among many is evidence
    enough, and at eps = 0 nothing is). It is cut at the T that maximises ``N(T) - 2 E(T)``: then
    every shell that goes holds at least as many bad rows as good ones, the invariant on which
    [DKKLMS16] rests, and the cut does not depend on the contamination or on one order statistic.
    Median and scale are taken from the rows inside the cut, to a fixed point.

    Departure from [DKKLMS17]: their walk stops at the first violation of a two-sided bound with
    slack ``eps / (d log(d eps / tau))`` and removes about 10% of the good rows with the bad.
    """
    first, last = _bins_inside(h, cut)
    above = np.cumsum(h.counts[::-1])[::-1][1:]  # rows at or above each edge
    below = np.cumsum(h.counts)[:-1]  # rows under each edge
    centre, scale = cut.centre, cut.scale
    seen: set[tuple[int, int]] = set()
    while (first, last) not in seen and len(seen) < 20:
        seen.add((first, last))
        kept = float(h.counts[first : last + 1].sum())
        lower = 0.0 if first == 0 else kept * float(ndtr((h.edges[first - 1] - centre) / scale))
        upper = 0.0 if last > BINS else kept * float(ndtr((centre - h.edges[last]) / scale))
        lower = min(lower, float(h.counts[:first].sum()))
        upper = min(upper, float(h.counts[last + 1 :].sum()))
        centre, scale, kept = centre_and_scale(h, first, last, (lower, upper))
        scale = min(max(scale, ref.scale_lo), ref.scale_hi)
        if kept <= 0.0 or scale <= 0.0:
            return replace(cut, lo=-math.inf, hi=math.inf, removed=0.0)
        t = (h.edges - centre) / scale
        right = _cut_position(t, above, kept + lower + upper, ref.factor)
        left = _cut_position(-t, below, kept + lower + upper, ref.factor)
        first = 0 if left is None else left + 1
        last = BINS + 1 if right is None else right
    lo = -math.inf if first == 0 else float(h.edges[first - 1])
    hi = math.inf if last == BINS + 1 else float(h.edges[last])
    removed = float(h.counts.sum() - h.counts[first : last + 1].sum())
    return replace(cut, centre=centre, scale=scale, lo=lo, hi=hi, removed=removed)


def _cut_position(t: Array, beyond: Array, total: float, factor: float) -> int | None:
    """Return the edge to cut one side at, or None.

    `t` is the distance of each edge from the centre in scales, `beyond` the rows outside it.
    """
    considered = (t >= 1.0) & (beyond > 0.0)
    expected = np.maximum(total * ndtr(-t), 1e-300)
    surplus = np.where(considered, beyond - factor * expected, -math.inf)
    with np.errstate(divide="ignore"):
        ratio = beyond * np.log(np.maximum(beyond, 1e-300) / expected) - beyond + expected
    if not np.any((surplus > 0.0) & (ratio >= TAIL_EVIDENCE)):
        return None
    return int(np.argmax(surplus))


def variance_cut(h: Histogram, cut: Cut, ref: Reference) -> Cut:
    """Return the widest interval about the median whose rows have an explained variance.

    The target is the squared robust scale of the direction, clipped to what `ref` allows; a
    Gaussian of that variance, truncated alike, is what is left (the truncation shrinks a clean
    variance as well). Fewest rows go: bounded variance says nothing of the shape, but a removed
    row had one of the largest scores. Of the second moment that goes, at least half must be more
    than a Gaussian of the target variance has out there, else the excess sits in the bulk and a
    cut would take mostly good rows.
    """
    first, last = _bins_inside(h, cut)
    centre, scale, total = centre_and_scale(h, first, last)
    if total <= 0.0:
        return replace(cut, lo=-math.inf, hi=math.inf)
    target = min(max(scale * scale, ref.variance), ref.variance_hi)
    sigma = math.sqrt(max(target, 1e-300))
    # Bins from the median outwards: entry b belongs to the interval that ends with the b-th bin.
    distance, order = outward(h.middles, centre, h.width)
    counts, middles = h.counts[order], h.middles[order] - centre
    t = (distance[order] + 0.5 * h.width) / sigma
    mass = np.cumsum(counts)
    square = np.cumsum(counts * np.square(middles))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.cumsum(counts * middles) / mass
        variance = square / mass - np.square(mean)
    slack = 1.0 + 3.0 * math.sqrt(2.0 / total)
    allowed = np.maximum(target * slack * truncated_variance(t), 1e-300)
    allowed[-1] = target * slack
    # The second moment outside, and that of a Gaussian.
    beyond = np.maximum(square[-1] - square, 0.0)
    density = np.exp(-0.5 * np.square(t)) / math.sqrt(2.0 * math.pi)
    expected = mass[-1] * target * 2.0 * (t * density + ndtr(-t))
    ratio = np.where((t >= MIN_REACH) & (mass > 0.0), variance / allowed, math.inf)
    ratio = np.where(beyond >= TAIL_FACTOR * expected, ratio, math.inf)  # half is unexplained
    ratio[-1] = variance[-1] / allowed[-1]  # no cut at all
    explained = np.flatnonzero(ratio <= 1.0)
    keep = int(explained[-1]) if explained.size else int(np.argmin(ratio))
    removed = float(mass[-1] - mass[keep])
    if removed <= 0.0:
        return replace(cut, centre=centre, scale=sigma, lo=-math.inf, hi=math.inf, removed=0.0)
    lowest, highest = int(order[: keep + 1].min()), int(order[: keep + 1].max())
    lo = float(h.edges[lowest - 1]) if lowest > 0 else -math.inf
    hi = float(h.edges[highest]) if highest <= BINS else math.inf
    return replace(cut, centre=centre, scale=sigma, lo=lo, hi=hi, removed=removed)


def _bins_inside(h: Histogram, cut: Cut) -> tuple[int, int]:
    """Return the first and the last bin of the present interval."""
    first = int(np.searchsorted(h.edges, cut.lo)) + 1 if math.isfinite(cut.lo) else 0
    last = int(np.searchsorted(h.edges, cut.hi)) if math.isfinite(cut.hi) else BINS + 1
    return first, max(last, first)


def rows_between(h: Histogram, a: Cut, b: Cut) -> float:
    """Return how many rows would change sides if one interval took the other's place."""
    (first_a, last_a), (first_b, last_b) = _bins_inside(h, a), _bins_inside(h, b)
    below = h.counts[min(first_a, first_b) : max(first_a, first_b)]
    above = h.counts[min(last_a, last_b) + 1 : max(last_a, last_b) + 1]
    return float(below.sum() + above.sum())


def truncated_variance(t: Array) -> Array:
    """Return the variance of a standard normal restricted to ``|z| <= t``."""
    density = np.exp(-0.5 * np.square(t)) / math.sqrt(2.0 * math.pi)
    inside = np.maximum(2.0 * ndtr(t) - 1.0, 1e-300)
    return np.asarray(np.clip(1.0 - 2.0 * t * density / inside, 0.0, 1.0))


# ---- the soft rules ------------------------------------------------------------------------------


def smallest_power(tau: Array, weights: Array, top: float, target: float) -> float:
    """Return the least r with weighted mean of tau at most `target` under w (1 - tau/top)^r.

    Repeating the multiplicative step of the soft filter r times along the same directions is one
    step with that power, so a single far row does not cost a round ([DHL19] section 4 searches
    likewise). Bisection on a logarithmic histogram of tau: no further pass.
    """
    position = np.clip(np.floor(16.0 * np.log2(np.maximum(tau / top, 2.0**-60))), -960, -1)
    index = (position + 960).astype(np.int64)
    mass = np.bincount(index, weights=weights, minlength=960)
    middle = top * 2.0 ** ((np.arange(960) - 960 + 0.5) / 16.0)
    survive = 1.0 - middle / top

    def mean_after(r: float) -> float:
        w = mass * survive**r
        return float(w @ middle / w.sum()) if w.sum() > 0.0 else 0.0

    low, high = 0.0, 1.0
    while mean_after(high) > target and high < 2.0**60:
        low, high = high, 2.0 * high
    for _ in range(40):
        middle_r = 0.5 * (low + high)
        low, high = (middle_r, high) if mean_after(middle_r) > target else (low, middle_r)
    return max(high, 1.0)
