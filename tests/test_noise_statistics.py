"""Is the noise standard normal, and independent wherever it promises to be?

Oracle: the normal distribution itself. Seeds are fixed, so a result never changes by itself; they
were not chosen for their results. Each test raises a false alarm with probability at most 1e-6 over
random seeds (``FALSE_ALARM``): where it looks at k statistics, each gets 1e-6 / k, and thresholds
are derived beside them. What rounding and the cut at 6.66 change in the distribution (less than
2^-24 in any probability) is far below what 1e8 values can show.

Every family of statistics is also shown a broken generator, and must alarm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special, stats

import tamis

FALSE_ALARM = 1e-6
SEEDS = (0, 1, 0x0123456789ABCDEF, 2**64 - 1)

Array = NDArray[Any]
Float64 = NDArray[np.float64]


def normals(n: int, d: int, **key: int) -> NDArray[np.float32]:
    """z itself: noise of standard deviation 1 on zeros."""
    key = {"seed": 2024, **key}
    return np.asarray(tamis.gaussian_noise(np.zeros(d, np.float32), n, 1.0, num_threads=1, **key))


def moment(k: int) -> int:
    """E z^k of a standard normal: 0, or 1 * 3 * 5 * ... * (k - 1)."""
    return 0 if k % 2 else math.prod(range(1, k, 2))


@dataclass(frozen=True)
class Statistic:
    """A mean of n independent (or uncorrelated, for lags) terms, standardised.

    ``skewness`` is that of the mean: the skewness of one term over sqrt(n).
    """

    name: str
    score: float
    skewness: float = 0.0


def alarms(statistics: Iterable[Statistic]) -> list[Statistic]:
    """Those beyond the two-sided normal quantile q of FALSE_ALARM / k, Bonferroni's bound.

    A mean of skewed terms is not yet normal so far out. The first Cornish-Fisher term moves the
    quantile by skewness (q^2 - 1) / 6; it is added on both sides. The next terms are of order
    kurtosis q^4 / 24 n: with the terms below (kurtosis at most 3100 with n >= 1e8, 230 with 1e6)
    they change the probability by less than 2%.
    """
    statistics = list(statistics)
    assert statistics
    q = stats.norm.isf(FALSE_ALARM / (2 * len(statistics)))
    return [s for s in statistics if not abs(s.score) <= q + abs(s.skewness) * (q * q - 1) / 6]


# ---- one large sample: moments, distribution, tails --------------------------------------------

BINS_PER_UNIT = 2**15
LIMIT = 8  # beyond any value


@dataclass(frozen=True)
class Summary:
    """Power sums 0..6 and exact counts in bins of width 2^-15 of a stream of values."""

    power_sums: Float64
    histogram: NDArray[np.int64]

    @property
    def n(self) -> int:
        return int(self.power_sums[0])

    def count_below(self, edge: float) -> int:
        """Exact for edges that are multiples of 2^-15."""
        return int(self.histogram[: round((edge + LIMIT) * BINS_PER_UNIT)].sum())


def summarise(chunks: Iterable[Array]) -> Summary:
    """One pass in flat memory. Scaling by 2^15 and floor are exact, so is the bin of a value."""
    sums = np.zeros(7)
    histogram = np.zeros(2 * LIMIT * BINS_PER_UNIT, np.int64)
    for chunk in chunks:
        z = chunk.ravel().astype(np.float64)
        z2 = z * z
        z3 = z2 * z
        sums += [z.size, z.sum(), z2.sum(), z3.sum(), z2 @ z2, z2 @ z3, z3 @ z3]
        z *= BINS_PER_UNIT
        np.floor(z, out=z)
        z += LIMIT * BINS_PER_UNIT
        histogram += np.bincount(z.astype(np.intp), minlength=histogram.size)
    return Summary(sums, histogram)


def moment_statistics(power_sums: Float64) -> list[Statistic]:
    """Sample moments 1 to 6. Var z^k = E z^2k - (E z^k)^2, and the third moment likewise."""
    n = power_sums[0]
    result = []
    for k in range(1, 7):
        mean, variance = moment(k), moment(2 * k) - moment(k) ** 2
        third = moment(3 * k) - 3 * moment(k) * moment(2 * k) + 2 * moment(k) ** 3
        score = (power_sums[k] / n - mean) / math.sqrt(variance / n)
        result.append(Statistic(f"moment {k}", score, third / variance**1.5 / math.sqrt(n)))
    return result


def ks_distance(summary: Summary, cdf: Callable[[Float64], Float64]) -> float:
    """sup |F_n - F| over the bin edges.

    At most the Kolmogorov-Smirnov distance D, and less than it by at most the largest probability
    of a bin (1.3e-5): both functions are monotone, so between two edges they cannot part further.
    Hence no more false alarms than the exact test, and next to its power.
    """
    edges = np.arange(-LIMIT * BINS_PER_UNIT, LIMIT * BINS_PER_UNIT + 1) / BINS_PER_UNIT
    empirical = np.concatenate([[0], np.cumsum(summary.histogram)]) / summary.n
    return float(np.abs(empirical - cdf(edges)).max())


def ks_threshold(n: int) -> float:
    """P(D > t) <= 2 exp(-2 n t^2) for every n (Dvoretzky, Kiefer and Wolfowitz; Massart 1990)."""
    return math.sqrt(math.log(2 / FALSE_ALARM) / (2 * n))


def tail_p_values(summary: Summary) -> dict[str, float]:
    """Counts beyond 3, 4 and 5 on either side are binomial: exact, the smaller one-sided p."""
    counts = {}
    for edge in (3, 4, 5):
        counts[f"< -{edge}"] = (summary.count_below(-edge), special.ndtr(-edge))
        counts[f">= {edge}"] = (summary.n - summary.count_below(edge), special.ndtr(-edge))
    return {
        name: min(stats.binom.cdf(count, summary.n, p), stats.binom.sf(count - 1, summary.n, p))
        for name, (count, p) in counts.items()
    }


def tail_alarms(summary: Summary) -> list[str]:
    p_values = tail_p_values(summary)
    return [name for name, p in p_values.items() if not p >= FALSE_ALARM / (2 * len(p_values))]


@pytest.fixture(scope="module")
def large() -> Summary:
    """1e8 values, from many samples, images, streams and seeds; rows of a ragged length."""

    def chunks() -> Iterator[Array]:
        rows, d = 128, 3001
        for k in range(math.ceil(1e8 / (rows * d))):
            yield normals(rows, d, seed=SEEDS[k % 4], image=k % 7, stream=k % 3, start=rows * k)

    summary = summarise(chunks())
    assert summary.n >= 1e8
    return summary


def sums_of_twelve_uniforms() -> Summary:
    """The classic poor man's normal, 2e6 of them: kurtosis 2.9, thin tails."""
    rng = np.random.default_rng(5)
    return summarise(rng.random((12, 250_000)).sum(axis=0) - 6 for _ in range(8))


def test_moments(large: Summary) -> None:
    assert alarms(moment_statistics(large.power_sums)) == []


@pytest.mark.parametrize("sigma", [1.001, 0.999])
def test_moments_notice_a_sigma_off_by_a_thousandth(large: Summary, sigma: float) -> None:
    """Values times sigma have power sums times sigma^k. Only the even moments can tell."""
    scaled = alarms(moment_statistics(large.power_sums * sigma ** np.arange(7)))
    assert [s.name for s in scaled] == ["moment 2", "moment 4", "moment 6"]


def test_moments_notice_a_mean_off_by_a_thousandth() -> None:
    shifted = summarise(normals(128, 3001, start=128 * k) + np.float32(1e-3) for k in range(100))
    assert "moment 1" in [s.name for s in alarms(moment_statistics(shifted.power_sums))]


def test_moments_notice_sums_of_twelve_uniforms() -> None:
    found = alarms(moment_statistics(sums_of_twelve_uniforms().power_sums))
    assert [s.name for s in found] == ["moment 4", "moment 6"]


def test_kolmogorov_smirnov(large: Summary) -> None:
    assert ks_distance(large, special.ndtr) <= ks_threshold(large.n)


def test_kolmogorov_smirnov_notices_a_shift_and_a_scale(large: Summary) -> None:
    """Comparing with the wrong normal is the same as having the wrong noise."""
    threshold = ks_threshold(large.n)
    assert ks_distance(large, lambda x: special.ndtr(x - 0.002)) > threshold
    assert ks_distance(large, lambda x: special.ndtr(x * 1.003)) > threshold


def test_tails(large: Summary) -> None:
    assert tail_alarms(large) == []


def test_tails_notice_a_cut_and_sums_of_twelve_uniforms(large: Summary) -> None:
    cut = large.histogram.copy()
    edge = round(4.5 * BINS_PER_UNIT)
    middle = LIMIT * BINS_PER_UNIT
    cut[: middle - edge] = 0
    cut[middle + edge :] = 0
    found = tail_alarms(Summary(np.array([float(cut.sum())] + [0.0] * 6), cut))
    assert {"< -5", ">= 5"} <= set(found)
    assert {"< -3", ">= 3"} <= set(tail_alarms(sums_of_twelve_uniforms()))


def test_no_value_beyond_the_stated_limit(large: Summary) -> None:
    """Box-Muller of a 32-bit uniform ends at sqrt(2 ln 2^32) = 6.6604."""
    assert large.count_below(-6.6875) == 0
    assert large.count_below(6.6875) == large.n


# ---- pairs: correlation of values and of squares -----------------------------------------------


def pair_statistics(name: str, a: Array, b: Array) -> list[Statistic]:
    """Two statistics of n pairs of independent normals, both of mean 0 and variance 1.

    a b, which sees correlation; (a^2 - 1)(b^2 - 1) / 2, which sees dependence of the radii without
    it. One term of the latter has skewness (8 / 2^1.5)^2 = 8, the square of that of chi^2_1.
    """
    assert a.size == b.size >= 1e6
    a, b = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    root = math.sqrt(a.size)
    values = Statistic(name, float(a @ b) / root)
    a *= a
    b *= b
    a -= 1
    b -= 1
    return [values, Statistic(f"{name}, squares", float(a @ b) / (2 * root), 8 / root)]


def lag_statistics(z: Array) -> list[Statistic]:
    """Rows against the rows 1 to 8 further on. The products of a lag are uncorrelated."""
    found = []
    for lag in range(1, 9):
        found += pair_statistics(f"lag {lag}", z[:-lag], z[lag:])
    return found


@pytest.mark.parametrize(
    "coordinate", ["element", "sample", "image", "stream", "seed", "high seed"]
)
def test_neighbours_are_independent(coordinate: str) -> None:
    """8 lags, 2 statistics each, along every coordinate of z, 1.3e6 pairs each."""
    k, m = 40, 40_009
    if coordinate == "element":
        z = normals(400, 4001).T
    elif coordinate == "sample":
        z = normals(k, m)
    elif coordinate == "high seed":
        z = np.stack([normals(1, m, seed=i << 32)[0] for i in range(k)])
    else:
        z = np.stack([normals(1, m, **{coordinate: i})[0] for i in range(k)])
    assert alarms(lag_statistics(z)) == []


def test_lags_notice_a_correlation_of_one_percent() -> None:
    z = normals(40, 40_009, seed=7)
    z[3:] += np.float32(0.01) * z[:-3]
    assert [s.name for s in alarms(lag_statistics(z))] == ["lag 3"]


M = 2**20


@pytest.mark.parametrize(
    ("coordinate", "bits"), [("seed", 64), ("image", 32), ("stream", 32), ("start", 32)]
)
def test_keys_one_bit_apart_are_independent(coordinate: str, bits: int) -> None:
    """Every bit of every coordinate, the high half of the seed among them."""
    base = {"seed": 0x9E3779B97F4A7C15, "image": 5, "stream": 1, "start": 1000}
    z = normals(1, M, **base)
    found = []
    for bit in range(bits):
        other = {**base, coordinate: base[coordinate] ^ (1 << bit)}
        found += pair_statistics(f"{coordinate} bit {bit}", z, normals(1, M, **other))
    assert alarms(found) == []


def test_elements_one_bit_apart_are_independent() -> None:
    """Element e against e ^ 2^k: bits 0 and 1 lie within a block, the others choose the block."""
    z = normals(2, M)
    found = []
    for bit in range(20):
        halves = z.reshape(-1, 2, 1 << bit)
        found += pair_statistics(f"element bit {bit}", halves[:, 0], halves[:, 1])
    assert alarms(found) == []


def test_coordinates_are_not_interchangeable() -> None:
    """The same number in another place of the key gives other noise, and so does a sum of two."""
    keys = [
        {"seed": 9},
        {"seed": 9 << 32},
        {"seed": 0, "image": 9},
        {"seed": 0, "stream": 9},
        {"seed": 0, "start": 9},
        {"seed": 0},
    ]
    blocks = [normals(1, M, **key) for key in keys]
    found = []
    for i, a in enumerate(blocks):
        for j, b in enumerate(blocks[:i]):
            found += pair_statistics(f"{keys[i]} {keys[j]}", a, b)
    assert alarms(found) == []


def test_pairs_notice_correlation_and_dependence_of_the_radii() -> None:
    a, b = normals(1, M, seed=1), normals(1, M, seed=2)
    assert alarms(pair_statistics("sound", a, b)) == []
    correlated = np.float32(0.01) * a + np.float32(math.sqrt(1 - 1e-4)) * b
    assert [s.name for s in alarms(pair_statistics("c", a, correlated))] == ["c"]
    # One value in fifty keeps the magnitude of its partner, with a sign of its own: uncorrelated.
    shared = np.where(np.arange(M) % 50 == 0, np.copysign(a, b), b)
    assert [s.name for s in alarms(pair_statistics("r", a, shared))] == ["r, squares"]


# ---- the two halves of a Box-Muller pair -------------------------------------------------------


def mixed_moment_statistics(name: str, a: Array, b: Array) -> list[Statistic]:
    """E a^i b^j for i, j >= 1, i + j <= 4: correlation, radius, and the angle's harmonics.

    (ab is r^2 sin 2t / 2; a^3 b - a b^3 is r^4 sin 4t / 4: a mistake in one octant of the angle
    shows here.) Moments of a product of independent normals are products of moments.
    """
    n = a.size
    a, b = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    powers_a, powers_b = (np.stack([v, v * v, v * v * v]) for v in (a, b))
    sums = powers_a @ powers_b.T
    found = []
    for i, j in ((1, 1), (1, 2), (2, 1), (1, 3), (2, 2), (3, 1)):
        first, second, third = (moment(i * k) * moment(j * k) for k in (1, 2, 3))
        variance = second - first**2
        skewness = (third - 3 * first * second + 2 * first**3) / variance**1.5 / math.sqrt(n)
        score = (float(sums[i - 1, j - 1]) / n - first) / math.sqrt(variance / n)
        found.append(Statistic(f"{name} {i}{j}", score, skewness))
    return found


def test_halves_of_a_pair_and_pairs_of_a_block_are_independent() -> None:
    """All six pairs of the four values of a block, 2.5e6 blocks. (0, 1) and (2, 3) share a pair."""
    z = normals(1000, 10_000, seed=11).reshape(-1, 4)
    found = []
    for i in range(4):
        for j in range(i):
            found += mixed_moment_statistics(f"{j}, {i}", z[:, j], z[:, i])
    assert alarms(found) == []


def test_mixed_moments_notice_a_mistake_in_one_quadrant() -> None:
    """The first value loses its sign in one pair in twenty of one quadrant."""
    z = normals(250, 10_000, seed=12).reshape(-1, 2)
    wrong = (z[:, 0] < 0) & (z[:, 1] > 0) & (np.arange(len(z)) % 20 == 0)
    a = np.where(wrong, -z[:, 0], z[:, 0])
    assert "bad 11" in [s.name for s in alarms(mixed_moment_statistics("bad", a, z[:, 1]))]
    assert alarms(mixed_moment_statistics("sound", z[:, 0], z[:, 1])) == []
