"""Readable float64 twins of the spectral operations, and the robust mean filter built from them.

Everything reads the rows in blocks and never forms a (d, d) or a second (n, d) array, so each
function is also the specification of its native counterpart.

Sources
-------
[DKKLMS16] Diakonikolas, Kamath, Kane, Li, Moitra and Stewart 2016, Robust estimators in high
    dimensions without the computational intractability.
[DKKLMS17] The same authors 2017, Being robust (in high dimensions) can be practical.
[DHL19] Dong, Hopkins and Li 2019, Quantum entropy scoring for fast robust mean estimation.
[Johnstone01] Johnstone 2001, On the distribution of the largest eigenvalue in PCA.
[BJ79] Berk and Jones 1979, Goodness-of-fit test statistics that dominate the Kolmogorov statistics.
[LM00] Laurent and Massart 2000, Adaptive estimation of a quadratic functional, Lemma 1.
[MM15] Musco and Musco 2015, Randomized block Krylov methods (the block Lanczos space).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

Array = npt.NDArray[np.float64]
Rule = Literal["gaussian_tail", "bounded_covariance", "fixed_fraction", "soft", "randomized"]
Assume = Literal["identity", "scale", "none"]

BLOCK_ROWS = 1024  # rows of one block: the only (rows, d) temporary that exists
BLOCK_SIZE = 8  # directions examined at once: eight projections cost one read of X
SAMPLE_ROWS = 4096  # rows of the seeded subsample that starts the eigensolver
KRYLOV_PASSES = 4  # full reads of X per eigensolve inside the filter, at most
TW_QUANTILE = 4.0  # Tracy-Widom (beta = 1) deviate; exceeded with probability 2e-4
TAIL_FACTOR = 2.0  # rows beyond a cut: at least this many times the expected number
ATOM_BIN = 0.04  # a bin of a smooth density holds at most BINS_PER_SCALE^-1 phi(0) = 0.0125
ATOM_SHARE = 0.35
OWN_SCALE_FACTOR = 3.0  # the same where the scale itself is a guess from this direction
TAIL_EVIDENCE = 10.0  # log-likelihood ratio needed before a tail is called too heavy
MIN_REACH = 1.5  # scales: a variance cut never goes deeper into the bulk
BINS_PER_SCALE = 32  # histogram bins per robust standard deviation
HALF_RANGE = 32  # robust standard deviations on either side; the rest goes to two overflow bins
SCALE_LEVEL = 0.6  # the robust scale is this quantile of |z - median| ...
SCALE_TO_SIGMA = 1.18818294989389  # ... over Phi^-1(0.8), its value for a standard normal
SCALE_RELATIVE_ERROR = 1.04  # its sd is 1.04 sigma / sqrt(n): sqrt(.6 .4) / (2 phi(.8416) .8416)
HEAVY_VARIANCE_RATIO = 2.333  # variance of t_3 over the squared quartile scale: 3 / 1.134^2
BINS = 2 * HALF_RANGE * BINS_PER_SCALE
MARKOV_RADIUS2 = 100.0  # prune radius^2 over the median distance^2 when only Cov is bounded
MAX_READMISSIONS = 6  # after that rows only leave, so the filter ends
SETTLED = 1e-4  # share of the rows that may still move when the support is called stable


# ------------------------------------------------------------------------------------------
# Counter-based randomness: a pure function of (seed, stream, index), so that the native code,
# any thread count and this file draw the same numbers.
# ------------------------------------------------------------------------------------------


def uniform_hash(seed: int, stream: int, index: npt.NDArray[np.uint64]) -> Array:
    """Return doubles in [0, 1), one for each counter, by the splitmix64 finaliser.

    Source: Steele, Lea and Flood 2014, Fast splittable pseudorandom number generators.
    """
    golden = 0x9E3779B97F4A7C15
    mask = (1 << 64) - 1
    start = np.uint64(((seed & mask) * golden + (stream + 1) * 0xD1B54A32D192ED03) & mask)
    with np.errstate(over="ignore"):
        z = start + (index + np.uint64(1)) * np.uint64(golden)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53


def sample_rows(n: int, size: int, seed: int, stream: int) -> npt.NDArray[np.int64]:
    """Return `size` row numbers, one uniform draw from each of `size` equal strata, ascending.

    All rows when ``size >= n``. Strata give distinct ascending rows (one forward sweep of X); the
    seeded draw inside each keeps an adversary from placing rows where they are never looked at.
    """
    if size >= n:
        return np.arange(n, dtype=np.int64)
    counter = np.arange(size, dtype=np.uint64)
    u = uniform_hash(seed, stream, counter)
    rows = ((np.arange(size) + u) * (n / size)).astype(np.int64)
    return np.asarray(np.minimum(rows, n - 1))


# ------------------------------------------------------------------------------------------
# One pass over X: moments, the covariance operator, projections
# ------------------------------------------------------------------------------------------


def _blocks(n: int) -> Iterator[slice]:
    for start in range(0, n, BLOCK_ROWS):
        yield slice(start, min(start + BLOCK_ROWS, n))


def weighted_mean(X: Array, weights: Array | None = None) -> Array:
    """Return the weighted mean of the rows, (d,)."""
    n, d = X.shape
    w = np.ones(n) if weights is None else weights
    total = np.zeros(d)
    for rows in _blocks(n):
        total += w[rows] @ X[rows]
    return np.asarray(total / w.sum())


def covariance_apply(
    X: Array, V: Array, *, weights: Array | None = None, mean: Array | None = None
) -> Array:
    """Return ``sum_i w_i (x_i - mu) (x_i - mu)^T V / sum_i w_i``.

    Parameters
    ----------
    X : (n, d) array
    V : (d,) or (d, k) array
    weights : (n,) array, optional
        Non-negative, not all zero. Default: ones.
    mean : (d,) array, optional
        The centre. Default: the weighted mean (costs one more pass).

    Returns
    -------
    (d,) or (d, k) array
    """
    n = X.shape[0]
    w = np.ones(n) if weights is None else weights
    centre = weighted_mean(X, w) if mean is None else mean
    V2 = V.reshape(V.shape[0], -1)
    out = np.zeros_like(V2)
    for rows in _blocks(n):
        centred = X[rows] - centre
        out += centred.T @ (w[rows, None] * (centred @ V2))
    return np.asarray(out / w.sum()).reshape(V.shape)


def projection_scores(X: Array, V: Array, *, mean: Array | None = None) -> Array:
    """Return ``|| V^T (x_i - mu) ||^2`` for every row, (n,)."""
    n = X.shape[0]
    centre = weighted_mean(X) if mean is None else mean
    V2 = V.reshape(V.shape[0], -1)
    out = np.empty(n)
    for rows in _blocks(n):
        out[rows] = np.square((X[rows] - centre) @ V2).sum(axis=1)
    return out


# ------------------------------------------------------------------------------------------
# Top eigenpairs of the implicit covariance
# ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EigenResult:
    """Top eigenpairs, largest first.

    Attributes
    ----------
    values : (k,) array
    vectors : (d, k) array
        Orthonormal; the entry of largest magnitude of each is positive.
    residuals : (k,) array
        ``|| A v - value v ||_2``.
    iterations : int
        Applications of the operator to a block, each one pass over X.
    converged : bool
        Every residual is at most ``tol * values[0]``.
    clustered : bool
        The k-th and the next Ritz value cannot be told apart at this tolerance: the vectors are
        one basis of an invariant subspace, and another start gives another basis.
    """

    values: Array
    vectors: Array
    residuals: Array
    iterations: int
    converged: bool
    clustered: bool


def orthonormalise(
    block: Array, basis: Array | None, fill: Callable[[int], Array] | None = None
) -> Array:
    """Orthonormalise the columns of `block` against `basis` and one another.

    Modified Gram-Schmidt, each vector swept twice ("twice is enough", Kahan and Parlett). A column
    that loses all but 1e-10 of its length is dropped, or replaced by a draw of `fill`. The result
    has at most d columns in all, so it may be narrower than `block`.
    """
    d = block.shape[0]
    columns: list[Array] = [] if basis is None else list(basis.T)
    old = len(columns)
    for j in range(block.shape[1]):
        vector = block[:, j].copy()
        for attempt in range(3):
            if len(columns) >= d:
                break
            before = float(np.linalg.norm(vector))
            for _ in range(2):
                for column in columns:
                    vector -= (column @ vector) * column
            after = float(np.linalg.norm(vector))
            if after > 1e-10 * before and after > 0.0:
                columns.append(vector / after)
                break
            if fill is None:
                break
            vector = fill(3 * j + attempt)
    return np.array(columns[old:]).T.reshape(d, len(columns) - old)


def gaussian_block(d: int, k: int, seed: int, stream: int) -> Array:
    """Return a (d, k) block of standard normal draws from the counter-based generator."""
    count = np.arange(d * k, dtype=np.uint64)
    u = uniform_hash(seed, stream, 2 * count)
    v = uniform_hash(seed, stream, 2 * count + np.uint64(1))
    return np.asarray(np.sqrt(-2.0 * np.log1p(-u)) * np.cos(2.0 * np.pi * v)).reshape(d, k)


def rayleigh_ritz(Q: Array, AQ: Array, k: int) -> tuple[Array, Array, Array]:
    """Return the top-k Ritz values, vectors and residual norms in the span of Q."""
    T = Q.T @ AQ
    theta, S = np.linalg.eigh(0.5 * (T + T.T))
    theta, S = theta[::-1][:k], S[:, ::-1][:, :k]
    vectors = Q @ S
    residuals = np.linalg.norm(AQ @ S - vectors * theta, axis=0)
    return np.maximum(theta, 0.0), vectors, residuals


def block_krylov(
    apply: Callable[[Array], Array],
    start: Array,
    k: int,
    *,
    tol: float,
    max_passes: int,
    basis_limit: int = 256,
    seed: int = 0,
) -> tuple[Array, Array, Array, int, Array]:
    """Block Lanczos with full reorthogonalisation: Rayleigh-Ritz on the whole Krylov space.

    Each step applies the operator to the newest block (one pass over X), appends it, and solves
    the small projected problem. At `basis_limit` columns the space is restarted from the leading
    Ritz vectors (thick restart), so memory stays at ``2 * basis_limit * d`` numbers.

    Returns
    -------
    values, vectors, residuals, passes, all_values
        `all_values` are all Ritz values of the final space, largest first.
    """
    d = start.shape[0]

    def fill(attempt: int) -> Array:
        return gaussian_block(d, 1, seed, 1000 + attempt)[:, 0]

    Q = orthonormalise(start, None, fill)
    width = Q.shape[1]
    AQ = apply(Q)
    passes = 1
    while True:
        values, vectors, residuals = rayleigh_ritz(Q, AQ, Q.shape[1])
        scale = max(float(values[0]), np.finfo(np.float64).tiny)
        done = bool(np.all(residuals[:k] <= tol * scale))
        if done or passes >= max_passes or Q.shape[1] >= d:
            return values[:k], vectors[:, :k], residuals[:k], passes, values
        if Q.shape[1] + width > basis_limit:
            keep = max(width, basis_limit // 2)
            S = Q.T @ vectors[:, :keep]
            Q, AQ = Q @ S, AQ @ S
        # The newest directions are the residuals of the wanted Ritz pairs: in exact arithmetic
        # the same space as the classical three-term recurrence, and safe after a restart.
        S = Q.T @ vectors[:, :width]
        fresh = orthonormalise(AQ @ S - (Q @ S) * values[:width], Q)
        if fresh.shape[1] == 0:  # invariant subspace: every residual is rounding
            return values[:k], vectors[:, :k], residuals[:k], passes, values
        AQ = np.hstack([AQ, apply(fresh)])
        Q = np.hstack([Q, fresh])
        passes += 1


def power_iteration(
    X: Array,
    k: int = 1,
    *,
    weights: Array | None = None,
    mean: Array | None = None,
    method: Literal["lanczos", "power"] = "lanczos",
    tol: float = 1e-4,
    max_iter: int = 100,
    init: Array | None = None,
    seed: int = 0,
) -> EigenResult:
    """Return the top k eigenpairs of the weighted covariance, which is never formed.

    Parameters
    ----------
    X : (n, d) array
    k : int
        1 to d.
    method : {"lanczos", "power"}
        Block Lanczos, or orthogonal iteration (plain power iteration for k = 1) with
        Rayleigh-Ritz.
    tol : float
        Stop when every residual ``||A v - value v||`` is at most ``tol * values[0]``.
    init : (d, j) array, optional
        Warm start. Default: the top eigenvectors of a row subsample.

    Returns
    -------
    EigenResult
        Zero values with some orthonormal vectors where the rank is below k.

    Notes
    -----
    Departure from the textbook: the default start is the solution on a subsample of
    ``max(SAMPLE_ROWS, 4 d)`` rows (capped at n / 8), so the full passes only polish it. The block
    is wider than k by ``min(k + 4, d)``: a k-th value that is repeated then still converges.
    """
    n, d = X.shape
    w = np.ones(n) if weights is None else weights
    centre = weighted_mean(X, w) if mean is None else mean
    width = min(k + 4, d)
    start = gaussian_block(d, width, seed, 1)
    if init is not None:
        given = init.reshape(d, -1)[:, :width]
        start = np.hstack([given, start])[:, :width]
    else:
        size = min(max(SAMPLE_ROWS, 4 * d), n // 8)
        if size >= 2 * width:
            rows = sample_rows(n, size, seed, 0)
            if w[rows].sum() > 0.0:
                start = subsample_start(X[rows], w[rows], centre, start, seed=seed)

    def apply(V: Array) -> Array:
        return covariance_apply(X, V, weights=w, mean=centre)

    if method == "power":
        start = start[:, : min(k, d)]
        result = _orthogonal_iteration(apply, start, k, tol, max_iter, seed)
    else:
        result = block_krylov(apply, start, k, tol=tol, max_passes=max_iter, seed=seed)
    values, vectors, residuals, passes, spectrum = result
    vectors = vectors * np.where(
        vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])] < 0.0, -1.0, 1.0
    )
    bound = tol * max(float(values[0]), np.finfo(np.float64).tiny)
    return EigenResult(
        values,
        vectors,
        residuals,
        passes,
        bool(np.all(residuals <= bound)),
        bool(spectrum.size > k and spectrum[k - 1] - spectrum[k] <= bound),
    )


def subsample_start(
    rows: Array, weights: Array, mean: Array, start: Array, *, passes: int = 6, seed: int = 0
) -> Array:
    """Return the top eigenvectors of a few rows: where the passes over all rows begin."""

    def apply(V: Array) -> Array:
        return covariance_apply(rows, V, weights=weights, mean=mean)

    width = start.shape[1]
    return block_krylov(apply, start, width, tol=1e-2, max_passes=passes, seed=seed)[1]


def _orthogonal_iteration(
    apply: Callable[[Array], Array], start: Array, k: int, tol: float, max_iter: int, seed: int
) -> tuple[Array, Array, Array, int, Array]:
    """Orthogonal (subspace) iteration; for one column this is power iteration."""
    d = start.shape[0]

    def fill(attempt: int) -> Array:
        return gaussian_block(d, 1, seed, 1000 + attempt)[:, 0]

    Q = orthonormalise(start, None, fill)
    passes = 0
    while True:
        AQ = apply(Q)
        passes += 1
        values, vectors, residuals = rayleigh_ritz(Q, AQ, Q.shape[1])
        scale = max(float(values[0]), np.finfo(np.float64).tiny)
        if bool(np.all(residuals[:k] <= tol * scale)) or passes >= max_iter:
            return values[:k], vectors[:, :k], residuals[:k], passes, values
        Q = orthonormalise(AQ @ (Q.T @ vectors), None, fill)


# ------------------------------------------------------------------------------------------
# What noise alone explains
# ------------------------------------------------------------------------------------------


def noise_edge(n: float, d: int) -> float:
    """Return the largest eigenvalue that pure sampling noise explains, covariance I.

    The largest eigenvalue of the covariance of n clean sub-Gaussian rows concentrates at the
    Marchenko-Pastur edge ``(1 + sqrt(d/n))^2`` with Tracy-Widom fluctuations; this returns centre
    plus TW_QUANTILE deviations ([Johnstone01] Theorem 1.1). Works for n < d too.
    """
    a, b = math.sqrt(max(n - 1.0, 1.0)), math.sqrt(d)
    centre = (a + b) ** 2
    spread = (a + b) * (1.0 / a + 1.0 / b) ** (1.0 / 3.0)
    return float((centre + TW_QUANTILE * spread) / max(n, 1.0))


def truncated_variance(t: Array) -> Array:
    """Return the variance of a standard normal restricted to ``|z| <= t``."""
    density = np.exp(-0.5 * np.square(t)) / math.sqrt(2.0 * math.pi)
    inside = np.maximum(2.0 * ndtr(t) - 1.0, 1e-300)
    return np.asarray(np.clip(1.0 - 2.0 * t * density / inside, 0.0, 1.0))


# ------------------------------------------------------------------------------------------
# One direction: a histogram of the projections, and the interval that it justifies
# ------------------------------------------------------------------------------------------


@dataclass
class Histogram:
    """Weighted counts of one projection: HALF_RANGE scales either side, two overflow bins.

    Counting instead of sorting: O(1) memory, one pass, and sums that do not depend on the order.
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

    def keeps(self, z: Array) -> npt.NDArray[np.bool_]:
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
    distance = np.abs(middles - centre)
    order = np.argsort(distance, kind="stable")
    level = min(SCALE_LEVEL * total / part, 1.0)
    scale = SCALE_TO_SIGMA * quantile(distance[order], counts[order], level, 0.5 * h.width)
    if scale < h.width:  # most rows share one value: fall back to the deviation
        scale = math.sqrt(float(counts @ np.square(distance)) / part)
    return centre, scale * (1.0 + 2.0 * SCALE_RELATIVE_ERROR / math.sqrt(kept)), kept


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
    """Return the edge to cut one side at, or None. `t` is the distance of each edge, in scales."""
    considered = (t >= 1.0) & (beyond > 0.0)
    expected = np.maximum(total * ndtr(-t), 1e-300)
    surplus = np.where(considered, beyond - factor * expected, -math.inf)
    with np.errstate(divide="ignore"):
        ratio = beyond * np.log(np.maximum(beyond, 1e-300) / expected) - beyond + expected
    if not np.any((surplus > 0.0) & (ratio >= TAIL_EVIDENCE)):
        return None
    return int(np.argmax(surplus))


def _bins_inside(h: Histogram, cut: Cut) -> tuple[int, int]:
    first = int(np.searchsorted(h.edges, cut.lo)) + 1 if math.isfinite(cut.lo) else 0
    last = int(np.searchsorted(h.edges, cut.hi)) if math.isfinite(cut.hi) else BINS + 1
    return first, max(last, first)


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
    distance = np.abs(h.middles - centre)
    order = np.argsort(distance, kind="stable")
    counts, middles = h.counts[order], h.middles[order] - centre
    mass = np.cumsum(counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.cumsum(counts * middles) / mass
        variance = np.cumsum(counts * np.square(middles)) / mass - np.square(mean)
    sigma = math.sqrt(max(target, 1e-300))
    t = (distance[order] + 0.5 * h.width) / sigma
    slack = 1.0 + 3.0 * math.sqrt(2.0 / total)
    allowed = np.maximum(target * slack * truncated_variance(t), 1e-300)
    allowed[-1] = target * slack
    square = np.cumsum(counts * np.square(middles))
    beyond = np.maximum(square[-1] - square, 0.0)
    density = np.exp(-0.5 * np.square(t)) / math.sqrt(2.0 * math.pi)
    expected = mass[-1] * target * 2.0 * (t * density + ndtr(-t))
    ratio = np.where((t >= MIN_REACH) & (mass > 0.0), variance / allowed, math.inf)
    ratio = np.where(beyond >= TAIL_FACTOR * expected, ratio, math.inf)  # half is unexplained
    ratio[-1] = variance[-1] / allowed[-1]
    explained = np.flatnonzero(ratio <= 1.0)
    keep = int(explained[-1]) if explained.size else int(np.argmin(ratio))
    removed = float(mass[-1] - mass[keep])
    if removed <= 0.0:
        return replace(cut, centre=centre, scale=sigma, lo=-math.inf, hi=math.inf, removed=0.0)
    lowest, highest = int(order[: keep + 1].min()), int(order[: keep + 1].max())
    lo = float(h.edges[lowest - 1]) if lowest > 0 else -math.inf
    hi = float(h.edges[highest]) if highest <= BINS else math.inf
    return replace(cut, centre=centre, scale=sigma, lo=lo, hi=hi, removed=removed)


# ------------------------------------------------------------------------------------------
# The filter
# ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FilterResult:
    """What the filter returns.

    Attributes
    ----------
    mean : (d,) array
        Weighted mean of the rows, exactly ``weights @ X / weights.sum()``.
    weights : (n,) array
        0 to 1.
    support : (n,) bool array
        ``weights > 0.5``.
    scores : (n,) array
        Larger is more outlying: the largest squared standardised projection over the recorded
        directions and the last top eigenvectors.
    rounds : int
        Eigensolves.
    eigenvalues : (rounds,) array
        Top eigenvalue of the surviving rows at each round.
    directions : (d, m) array
        The directions whose intervals define the support.
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
    support: npt.NDArray[np.bool_]
    scores: Array
    rounds: int
    eigenvalues: Array
    directions: Array
    stop_reason: str
    contamination: float
    passes: int


@dataclass
class _Filter:
    """The state of one run. Beyond X: weights and scores (n,), and O((BLOCK_SIZE + m) d)."""

    X: Array
    rule: Rule
    assume: Assume
    seed: int
    budget: float
    readmission: bool
    share: float  # contamination as stated; 0.3 for "auto"
    step: float  # share of the rows that "fixed_fraction" drops in one round
    weights: Array = field(init=False)
    scores: Array = field(init=False)
    origin: Array = field(init=False)
    mean: Array = field(init=False)
    trace: float = 0.0
    mass: float = 0.0
    ball_centre: Array = field(init=False)
    ball_radius2: float = math.inf
    cuts: list[Cut] = field(default_factory=list)
    passes: int = 0
    share_limit: float = 0.5
    limited: bool = False
    draws: int = 0

    def __post_init__(self) -> None:
        n, d = self.X.shape
        self.weights, self.scores = np.ones(n), np.zeros(n)
        size = min(n, max(SAMPLE_ROWS, 4 * d))
        self.sample = sample_rows(n, size, self.seed, 0)
        few = self.X[sample_rows(n, min(n, 1024), self.seed, 2)]
        self.origin = np.median(few, axis=0)
        self.ball_centre = self.origin
        self.few = few
        self.pair_scale2 = self._pair_scale2()
        self.hard = self.rule in ("gaussian_tail", "bounded_covariance")
        self.whole = self.hard and self.readmission  # every round scores all rows again
        self.tail_family = self.rule == "gaussian_tail" or (
            self.rule != "bounded_covariance" and self.assume != "none"
        )
        self.find = tail_cut if self.tail_family else variance_cut

    # -- scales ----------------------------------------------------------------------------

    def _pair_scale2(self) -> float:
        """Return a robust variance per column from distances between pairs of rows.

        ``|x - y|^2 / 2`` is s^2 times a chi-squared with d degrees of freedom for two clean rows.
        The 40% point is used, not the median: it stands until (1 - eps)^2 < 0.4, eps = 0.37.
        """
        n, d = self.X.shape
        size = min(4096, n * (n - 1) // 2)
        if size < 1:
            return 0.0
        index = np.arange(size, dtype=np.uint64)
        i = (uniform_hash(self.seed, 3, index) * n).astype(np.int64)
        j = (uniform_hash(self.seed, 4, index) * (n - 1)).astype(np.int64)
        j += j >= i
        half = np.empty(size)
        for rows in _blocks(size):
            half[rows] = 0.5 * np.square(self.X[i[rows]] - self.X[j[rows]]).sum(axis=1)
        z = -0.2533471031357997  # chi-squared 40% point, Wilson and Hilferty 1931
        point = d * (1.0 - 2.0 / (9.0 * d) + z * math.sqrt(2.0 / (9.0 * d))) ** 3
        return float(np.quantile(half, 0.4) / point)

    def _atom_share(self) -> float:
        """Return the share of the surviving rows that repeat one another.

        Rows that coincide in space coincide along a random direction. They add nothing to the
        variance of the others, so trace and pair distances are too small by this factor.
        """
        v = gaussian_block(self.X.shape[1], 1, self.seed, 6)[:, 0]
        cut = self.new_cut(v / max(float(np.linalg.norm(v)), 1e-300))
        z = (self.X[self.sample] - self.origin) @ cut.direction
        h = Histogram(cut.origin, cut.width)
        h.add(z, self.weights[self.sample])
        total = float(h.counts.sum())
        return 1.0 - float(without_atoms(h.counts).sum()) / total if total > 0.0 else 0.0

    def reference(self) -> Reference:
        """Return what clean rows may do along one direction, for this round."""
        d = self.X.shape[1]
        edge = noise_edge(self.mass, d)
        fitted = 1.0 + d / max(self.mass, 1.0)
        average = self.trace / d
        if self.assume == "identity":
            return Reference(1.0, math.sqrt(edge), 1.0, fitted)
        loose = 1.0 if self.tail_family else HEAVY_VARIANCE_RATIO
        s2 = min(average, loose * self.pair_scale2) if self.pair_scale2 > 0.0 else average
        s2 /= 1.0 - self._atom_share()
        s = math.sqrt(s2)
        if self.assume == "scale":
            return Reference(s, s * math.sqrt(edge), s2, s2 * fitted)
        return Reference(0.0, math.inf, s2, math.inf, OWN_SCALE_FACTOR)

    # -- passes over X ---------------------------------------------------------------------

    def prune(self) -> None:
        """Set the ball outside which rows are gross outliers ([DKKLMS17] "naive prune").

        Departures: the radius is measured from the data (median distance, plus the chi-squared
        deviation of [LM00] when the spread is known), not ``0.33 sqrt(d log(n / eps))``, which
        prunes good rows at small d and nothing at large d. Where only the covariance is bounded
        the radius is MARKOV_RADIUS2 times the median distance: Markov's inequality keeps 99% of
        the clean rows for any distribution.
        """
        n = self.X.shape[0]
        distance2 = np.square(self.few - self.ball_centre).sum(axis=1)
        middle = float(np.median(distance2))
        if middle <= 0.0:
            return
        if self.tail_family and self.assume != "none":
            s2 = 1.0 if self.assume == "identity" else self.pair_scale2
            log_n = math.log(100.0 * n)
            self.ball_radius2 = middle + 2.0 * math.sqrt(middle * s2 * log_n) + 2.0 * s2 * log_n
            outside = np.count_nonzero(distance2 > self.ball_radius2) / distance2.size
            if outside <= self.share + 3.0 * math.sqrt(self.share / distance2.size):
                return  # else so many rows are far out that the tails cannot be Gaussian
        self.ball_radius2 = MARKOV_RADIUS2 * middle

    def projections(self, block: Array) -> Array:
        """Return the (rows, m) projections on the recorded directions, from the fixed origin."""
        return np.asarray((block - self.origin) @ np.array([c.direction for c in self.cuts]).T)

    def support_from_cuts(self) -> None:
        """Pass: a row stays if it is in the ball and in every interval; mean and trace follow.

        Past the budget the least outlying rows come back.
        """
        n, _ = self.X.shape
        keep = np.empty(n, dtype=bool)
        for rows in _blocks(n):
            block = self.X[rows]
            far = np.square(block - self.ball_centre).sum(axis=1) / self.ball_radius2
            severity = np.where(far > 1.0, 1e6 * far, 0.0)
            inside = far <= 1.0
            if self.cuts:
                Z = self.projections(block)
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
        n = weights.size
        excess = (n - float(weights.sum())) - self.budget
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
        for rows in _blocks(n):
            centred = self.X[rows] - self.origin
            total += self.weights[rows] @ centred
            square += float(self.weights[rows] @ np.square(centred).sum(axis=1))
        self.mass = float(self.weights.sum())
        shift = total / self.mass
        self.mean = self.origin + shift
        self.trace = max(square / self.mass - float(shift @ shift), 0.0)

    def top_directions(self) -> tuple[Array, Array]:
        """Return the leading Ritz values and vectors of the weighted rows."""
        d = self.X.shape[1]
        width = min(BLOCK_SIZE, d)
        start = gaussian_block(d, width, self.seed, 5)
        w = self.weights[self.sample]
        if self.sample.size >= 2 * width and w.sum() > 0.0:
            rows = self.X[self.sample]
            start = subsample_start(rows, w, self.mean, start, seed=self.seed)

        def apply(V: Array) -> Array:
            self.passes += 1
            return covariance_apply(self.X, V, weights=self.weights, mean=self.mean)

        values, vectors, _, _, _ = block_krylov(
            apply, start, min(2, width), tol=0.03, max_passes=KRYLOV_PASSES, seed=self.seed
        )
        return values, vectors

    def histograms(self, cuts: list[Cut], weights: Array) -> list[Histogram]:
        """Pass: one histogram per direction, each over the rows charged to it (see `charge`)."""
        result = [Histogram(c.origin, c.width) for c in cuts]
        V = np.array([c.direction for c in cuts]).T
        for rows in _blocks(self.X.shape[0]):
            block = self.X[rows]
            w = weights[rows]
            if math.isfinite(self.ball_radius2):
                w = w * (np.square(block - self.ball_centre).sum(axis=1) <= self.ball_radius2)
            Z = (block - self.origin) @ V
            counted = charge(Z, cuts)
            for j in range(len(cuts)):
                result[j].add(Z[:, j], w * counted[:, j])
        self.passes += 1
        return result

    def new_cut(self, direction: Array) -> Cut:
        """Return an empty cut, its grid laid by the surviving rows of the subsample."""
        z = (self.X[self.sample] - self.origin) @ direction
        w = self.weights[self.sample] > 0.5
        z = z[w] if w.any() else z
        origin, scale = robust_scale(z)
        scale = scale if scale > 0.0 else 1.0
        return Cut(direction, origin, scale, origin, scale / BINS_PER_SCALE)

    # -- one round -------------------------------------------------------------------------

    def examine(self, values: Array, vectors: Array) -> tuple[list[Cut], list[Cut]]:
        """Return (recorded cuts, cuts of the suspicious new directions), intervals found anew."""
        ref = self.reference()
        threshold = ref.variance * noise_edge(self.mass, self.X.shape[1])
        if self.assume == "none" and self.tail_family:
            threshold = 0.0  # no variance is too large by itself: look at the tails
        fresh = [self.new_cut(v) for v in vectors[:, values > threshold].T]
        if not fresh and not (self.whole and self.cuts):
            return self.cuts, []
        chain = (self.cuts if self.whole else []) + self._provisional(fresh)
        weights = np.ones(self.X.shape[0]) if self.whole else self.weights
        counted = self.histograms(chain, weights)
        found = [self.find(h, c, ref) for h, c in zip(counted, chain, strict=True)]
        start = len(chain) - len(fresh)
        recorded = found[:start] if self.whole else self.cuts
        return recorded, [c for c in found[start:] if c.active]

    def _provisional(self, cuts: list[Cut]) -> list[Cut]:
        """Return the cuts with provisional intervals, found on the surviving subsample.

        Greedy: take the interval of largest reach, drop what it excludes, look again.
        """
        ref = self.reference()
        V = np.array([c.direction for c in cuts]).reshape(len(cuts), self.X.shape[1])
        Z = (self.X[self.sample] - self.origin) @ V.T
        alive = self.weights[self.sample] > 0.5
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
            if all(abs(float(new.direction @ old.direction)) < 0.9 for old in self.cuts)
        ]
        V = np.array([c.direction / c.scale for c in suspicious]).T
        shift = np.array([c.centre / c.scale for c in suspicious])
        tau = np.empty(self.X.shape[0])
        for rows in _blocks(tau.size):
            tau[rows] = np.square((self.X[rows] - self.origin) @ V - shift).sum(axis=1)
        self.passes += 1
        self.scores = tau
        alive = self.weights > 0.0
        if self.rule == "fixed_fraction":
            count = max(int(self.step * tau.size), 1)
            bound = np.partition(tau[alive], -count)[-count]
            self.set_weights(np.where(tau >= bound, 0.0, self.weights))
            return
        top = float(tau[alive].max())
        survive = np.clip(1.0 - tau / top, 0.0, 1.0)
        power = _smallest_power(tau[alive], self.weights[alive], top, float(len(suspicious)))
        if self.rule == "soft":
            self.set_weights(self.weights * survive**power)
        else:
            self.draws += 1
            u = uniform_hash(self.seed, 16 + self.draws, np.arange(tau.size, dtype=np.uint64))
            self.set_weights(np.where(u < survive**power, self.weights, 0.0))

    def readmit(self) -> bool:
        """Score every row again against the survivors; return whether the support changed.

        The intervals of all recorded directions are found anew from all rows, each direction
        seeing only rows that the better separating ones accept.
        """
        ref = self.reference()
        self._recentre_ball()
        before = self.weights
        if self.cuts:
            counted = self.histograms(self.cuts, np.ones(self.X.shape[0]))
            found = [self.find(h, c, ref) for h, c in zip(counted, self.cuts, strict=True)]
            self.cuts = [c for c in found if c.active]
        self.support_from_cuts()
        return self.changed(before)

    def changed(self, before: Array) -> bool:
        """Return whether more than SETTLED of the weight moved since `before`."""
        return float(np.abs(before - self.weights).sum()) > SETTLED * before.size

    def _recentre_ball(self) -> None:
        if math.isfinite(self.ball_radius2):
            self.ball_centre = self.mean
            self.prune()

    def final_scores(self, vectors: Array) -> None:
        """Pass: the largest squared standardised projection of every row."""
        ref = self.reference()
        centres = (self.mean - self.origin) @ vectors
        spread = []
        w = self.weights[self.sample]
        Z = (self.X[self.sample] - self.origin) @ vectors
        for j in range(vectors.shape[1]):
            kept = Z[w > 0.5, j] if np.any(w > 0.5) else Z[:, j]
            own = min(max(robust_scale(kept)[1], ref.scale_lo), ref.scale_hi)
            spread.append(own if own > 0.0 else 1.0)
        for rows in _blocks(self.X.shape[0]):
            block = self.X[rows] - self.origin
            worst = np.abs((block @ vectors - centres) / np.array(spread)).max(axis=1)
            for cut in self.cuts:
                np.maximum(worst, np.abs(block @ cut.direction - cut.centre) / cut.scale, out=worst)
            self.scores[rows] = np.square(worst)
        self.passes += 1


def charge(Z: Array, cuts: list[Cut]) -> npt.NDArray[np.bool_]:
    """Return which rows count for which direction, (rows, m).

    A row inside every interval counts everywhere; another counts only for the first direction
    that excludes it. Each outlier is explained once and narrows no other interval.
    """
    lo, hi = np.array([c.lo for c in cuts]), np.array([c.hi for c in cuts])
    outside: npt.NDArray[np.bool_] = np.logical_or(Z < lo, Z >= hi)
    inside: npt.NDArray[np.bool_] = ~np.any(outside, axis=1)
    first = np.argmax(outside, axis=1)[:, None] == np.arange(len(cuts))
    return np.asarray(inside[:, None] | (outside & first))


def _smallest_power(tau: Array, weights: Array, top: float, target: float) -> float:
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


def iterative_filter(
    X: Array,
    contamination: float | Literal["auto"] = 0.1,
    *,
    rule: Rule = "gaussian_tail",
    assume: Assume = "none",
    prune: bool = True,
    max_rounds: int = 50,
    max_removed: float = 2.5,
    readmit: bool = True,
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
        or "randomized" (keeps a row with that probability).
    assume : str
        Covariance of clean rows: "identity"; "scale" (s^2 I, s estimated); "none" (each direction
        is compared with its own robust scale).
    prune : bool
        Drop rows outside a ball about the coordinate-wise median first.
    max_rounds : int
        Eigensolves at most.
    max_removed : float
        At most ``min(max_removed * contamination, 0.5) * n`` rows go, in weight, ever.
    readmit : bool
        Score all rows again against the survivors, until the set is stable.
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
        max_rounds=max_rounds,
        max_removed=max_removed,
        readmit=readmit,
        seed=seed,
    )[0]


def filter_with_state(
    X: Array,
    contamination: float | Literal["auto"] = 0.1,
    *,
    rule: Rule = "gaussian_tail",
    assume: Assume = "none",
    prune: bool = True,
    max_rounds: int = 50,
    max_removed: float = 2.5,
    readmit: bool = True,
    seed: int = 0,
) -> tuple[FilterResult, _Filter, Array]:
    """Return the result, the state of the run and the last block of top directions."""
    X = np.asarray(X, dtype=np.float64)
    n, d = X.shape
    share = 0.5 if contamination == "auto" else min(max_removed * contamination, 0.5)
    budget = min(math.floor(share * n), (n - 1) // 2)
    step = 0.02 if contamination == "auto" else 0.25 * contamination
    share_stated = 0.3 if contamination == "auto" else float(contamination)
    run = _Filter(X, rule, assume, seed, budget, readmit, share_stated, step)
    run.share_limit = share
    run.moments()
    run.passes += 1
    eigenvalues: list[float] = []
    vectors = np.zeros((d, 0))
    if budget < 1:
        reason = "too_few_rows" if contamination != 0.0 else "no_contamination"
        return _result(run, eigenvalues, vectors, reason), run, vectors
    if prune:
        run.prune()
        if math.isfinite(run.ball_radius2):
            run.support_from_cuts()
    reason = "max_rounds"
    readmissions = 0
    fresh = float(run.weights.sum()) < n
    for _ in range(max_rounds):
        values, vectors = run.top_directions()
        eigenvalues.append(float(values[0]))
        if values[0] <= 1e-14 * max(float(np.square(run.mean - run.origin).sum()), 1e-290):
            reason = "zero_variance"
            break
        before, recorded = run.weights, len(run.cuts)
        run.cuts, suspicious = run.examine(values, vectors)
        if suspicious or (run.whole and recorded):
            if run.whole:
                run.cuts = [c for c in run.cuts if c.active]
                run._recentre_ball()
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
    return _result(run, eigenvalues, vectors, reason), run, vectors


def _result(run: _Filter, eigenvalues: list[float], vectors: Array, reason: str) -> FilterResult:
    if vectors.shape[1]:
        run.final_scores(vectors)
    n, d = run.X.shape
    directions = np.array([c.direction for c in run.cuts if c.active]).reshape(-1, d).T
    return FilterResult(
        run.mean,
        run.weights,
        run.weights > 0.5,
        run.scores,
        len(eigenvalues),
        np.array(eigenvalues),
        directions,
        reason,
        1.0 - float(run.weights.sum()) / n,
        run.passes,
    )
