"""Confidence bounds, the fair-coin test, confidence sequences and the certified radius.

Oracles: mpmath at 50 digits, scipy.stats and scipy.special where they are accurate, exact
fractions, exact dynamic programming for the probability of ever crossing, published logs.
"""

from __future__ import annotations

import lzma
import math
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special, stats

import tamis

FALSE_ALARM = 1e-6
Floats = NDArray[np.float64]

COUNTS = [
    (k, n)
    for n in (1, 2, 3, 7, 9, 33, 257, 1023)
    for k in sorted({1, 2, n // 3, n // 2, n - 1, n})
    if 1 <= k <= n
]
HUGE = [
    (1, 10**9),
    (17, 10**9),
    (10**9 - 3, 10**9),
    (10**9, 10**9),
    (499_999_968, 999_999_937),
    (99_990, 100_000),
    (50_400, 100_000),
    (3_001, 100_003),
]


def beta_tail(x: Any, y: Any, a: int, b: int) -> tuple[Any, Any]:
    """``P(Beta(a, b) <= x)`` and the density at ``x = 1 - y``, by mpmath quadrature at 50 digits.

    Panels grow from ``x`` towards 0 until the integrand has lost 60 digits. Accurate below the
    mode, where the integrand falls.
    """
    a, b = mpmath.mpf(a), mpmath.mpf(b)
    scale = 1 / (abs((a - 1) / x - (b - 1) / y) + mpmath.sqrt((a + b) / (x * y)))

    def log_ratio(s: Any) -> Any:  # of the density at x - s and at x
        return (a - 1) * mpmath.log1p(-s / x) + (b - 1) * mpmath.log1p(s / y)

    points = [mpmath.mpf(0)]
    while points[-1] < x:
        points.append(min(points[-1] + scale, x))
        scale *= 2
        if points[-1] < x and log_ratio(points[-1]) < -140:
            break
    length = mpmath.quad(
        lambda s: mpmath.exp(log_ratio(s)) if s < x else mpmath.mpf(a == 1),
        points,
        method="gauss-legendre",
    )
    log_beta = mpmath.loggamma(a) + mpmath.loggamma(b) - mpmath.loggamma(a + b)
    density = mpmath.exp((a - 1) * mpmath.log(x) + (b - 1) * mpmath.log(y) - log_beta)
    return density * length, density


def bound_errors(k: int, n: int, alpha: float) -> tuple[float, float]:
    """Relative errors of the lower bound and of 1 minus it (which is an upper bound mirrored).

    One Newton step at 50 digits from the value under test: its error squared is out of sight.
    """
    with mpmath.workdps(50):
        lower = mpmath.mpf(float(tamis.clopper_pearson(k, n, alpha)))
        rest = mpmath.mpf(float(tamis.clopper_pearson(n - k, n, alpha, side="upper")))
        x, y = (lower, 1 - lower) if lower < 0.5 else (1 - rest, rest)
        if alpha <= 0.5:
            tail, density = beta_tail(x, y, k, n - k + 1)
            step = (mpmath.mpf(alpha) - tail) / density
        else:
            tail, density = beta_tail(y, x, n - k + 1, k)
            step = (tail - (1 - mpmath.mpf(alpha))) / density
        x, y = x + step, y - step
        return float(abs(lower / x - 1)), float(abs(rest / y - 1))


@pytest.mark.parametrize("alpha", [1e-300, 1e-12, 0.001, 0.05, 0.5, 0.975, 1 - 1e-12])
def test_clopper_pearson_against_50_digits(alpha: float) -> None:
    for k, n in COUNTS[::3]:
        lower, rest = bound_errors(k, n, alpha)
        if tamis.clopper_pearson(k, n, alpha) < 1 - 2**-53:  # the promised cap
            assert lower < 1e-12, (k, n)
        assert rest < 1e-12, (k, n)


@pytest.mark.parametrize(("k", "n"), HUGE)
def test_clopper_pearson_against_50_digits_for_many_trials(k: int, n: int) -> None:
    for alpha in (1e-12, 0.5):
        assert max(bound_errors(k, n, alpha)) < 1e-12, alpha


@pytest.mark.parametrize("alpha", [1e-12, 0.001, 0.05, 0.5, 0.975])
def test_clopper_pearson_against_scipy(alpha: float) -> None:
    # scipy's own error stays below 1e-10 for these counts; mpmath is the judge of the rest.
    k, n = (np.array(column) for column in zip(*COUNTS, strict=True))
    lower = tamis.clopper_pearson(k, n, alpha)
    np.testing.assert_allclose(lower, special.betaincinv(k, n - k + 1, alpha), rtol=1e-10)
    upper = tamis.clopper_pearson(n - k, n, alpha, side="upper")
    np.testing.assert_allclose(upper, special.betainccinv(n - k + 1, k, alpha), rtol=1e-10)


def test_clopper_pearson_solves_its_equation_exactly() -> None:
    # P(X >= k) at the lower bound, summed in fractions. A relative error e of the bound moves it by
    # at most k e, since d log P(X >= k) / d log p <= k.
    for n in (1, 2, 7, 33):
        for k in range(1, n + 1):
            for alpha in (1e-12, 0.001, 0.3):
                p = Fraction(float(tamis.clopper_pearson(k, n, alpha)))
                tail = sum(math.comb(n, j) * p**j * (1 - p) ** (n - j) for j in range(k, n + 1))
                assert abs(tail / Fraction(alpha) - 1) < k * 1e-12


@pytest.mark.parametrize("n", [1, 7, 33, 501])
def test_clopper_pearson_covers(n: int) -> None:
    # Exact coverage by summing the binomial over the counts that miss; also just below a bound,
    # where the coverage is smallest and equals 1 - alpha (so a conservative fake would show).
    alpha = 0.05
    counts = np.arange(n + 1)
    lower = tamis.clopper_pearson(counts, n, alpha)
    for p in np.concatenate([np.linspace(0.001, 0.999, 97), lower[1:]]):
        missed = stats.binom.sf(np.searchsorted(lower, p * (1 + 1e-12), side="right") - 1, n, p)
        assert missed <= alpha * (1 + 1e-9)
    at_bound = stats.binom.sf(counts[1:] - 1, n, lower[1:])
    np.testing.assert_allclose(at_bound, alpha, rtol=1e-9)


@pytest.mark.parametrize("bound", [tamis.clopper_pearson, tamis.confidence_sequence])
@pytest.mark.parametrize("n", [1, 9, 33, 3001, 1_000_003])
def test_bounds_are_monotone(bound: Any, n: int) -> None:
    counts = np.unique(np.linspace(0, n, 301).astype(np.int64))
    alphas = np.array([1e-300, 1e-12, 1e-3, 0.05, 0.5])
    lower = bound(counts[:, None], n, alphas)
    upper = bound(counts[:, None], n, alphas, side="upper")
    assert (np.diff(lower, axis=0) > 0).all()  # in the count
    assert (np.diff(lower[1:], axis=1) > 0).all()  # in the level
    assert (np.diff(upper, axis=0) >= 0).all()  # an upper bound may round to 1
    assert (np.diff(upper[:-1], axis=1) <= 0).all()
    assert (lower <= counts[:, None] / n).all()
    assert (upper >= counts[:, None] / n).all()
    assert (bound(counts[1:, None], n + 1, alphas) < lower[1:]).all()  # after one more failure
    mirrored = 1 - bound(n - counts[:, None], n, alphas)
    np.testing.assert_allclose(upper, mirrored, rtol=0, atol=2e-16)


def test_ends() -> None:
    for n in (1, 33, 10**9):
        assert tamis.clopper_pearson(0, n, 0.01) == 0
        assert tamis.clopper_pearson(n, n, 0.01, side="upper") == 1
        np.testing.assert_allclose(tamis.clopper_pearson(n, n, 0.01), 0.01 ** (1 / n), rtol=1e-15)
    assert tamis.confidence_sequence(0, 0, 0.01) == 0
    assert tamis.confidence_sequence(0, 0, 0.01, side="upper") == 1
    # A lower bound never rounds to 1, so a radius never becomes infinite by rounding.
    assert tamis.clopper_pearson(2**53, 2**53, 1 - 1e-15) < 1


# ---- the radius ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sigma", "radii"),
    [
        (0.12, [0.457, 0.449, 0.443, 0.438, 0.434, 0.431, 0.428, 0.425]),
        (0.25, [0.953, 0.935, 0.922, 0.913, 0.905, 0.898, 0.892, 0.886]),
    ],
)
def test_lattice_of_published_radii(sigma: float, radii: list[float]) -> None:
    # The largest radii in the certification logs of Cohen et al. 2019 (three digits), which are
    # those of n, n - 1, ... votes at n = 100000, alpha = .001.
    n = 100_000
    p_lower = tamis.clopper_pearson(np.arange(n, n - 8, -1), n, 0.001)
    np.testing.assert_array_equal(tamis.certified_radius(p_lower, sigma).round(3), radii)


@pytest.mark.parametrize("alpha", [0.001, 0.01])
def test_every_large_radius_of_a_published_log_lies_on_the_lattice(
    data_dir: Path, alpha: float
) -> None:
    # 10,000 images at sigma = .12. Above .39 the lattice has gaps that three digits resolve, so
    # the wrong level (.01) must miss many of them.
    path = data_dir / "certify_logs" / "smoothadv_DDN10_m8_eps64_sigma0.12.tsv.xz"
    with lzma.open(path, "rt") as file:
        next(file)
        logged = [line.split("\t")[3] for line in file]
    large = [radius for radius in logged if float(radius) >= 0.39]
    assert len(large) > 500
    n = 100_000
    p_lower = tamis.clopper_pearson(np.arange(n - 200, n + 1), n, alpha)
    lattice = {f"{radius:.3}" for radius in tamis.certified_radius(p_lower, 0.12)}
    missed = sum(radius not in lattice for radius in large)
    assert missed == 0 if alpha == 0.001 else missed > len(large) / 10


def test_radius_is_the_normal_quantile() -> None:
    # certified_radius(1/2, 2, p) = -PhiInv(p) gives the whole lower half of the quantile. Oracle: a
    # Newton step at 40 digits; scipy's ndtri for the many values.
    p = np.concatenate(
        [np.geomspace(1e-300, 0.49, 301), 0.5 - np.geomspace(1e-12, 0.2, 101), [5e-324, 0.25]]
    )
    z = tamis.certified_radius(0.5, 2.0, p)
    np.testing.assert_allclose(z, -special.ndtri(p), rtol=2e-15)
    with mpmath.workdps(40):
        for value, exact in zip(p[::9].tolist(), z[::9].tolist(), strict=True):
            start = mpmath.mpf(exact)
            miss = mpmath.erfc(start / mpmath.sqrt(2)) / 2 - mpmath.mpf(value)
            assert abs(miss / mpmath.npdf(start)) < 1e-15 * start


def test_radius_with_both_bounds() -> None:
    p = np.array([0.5, 0.7, 0.975, 0.999])
    np.testing.assert_allclose(
        tamis.certified_radius(p, 0.25), 0.25 * stats.norm.ppf(p), rtol=1e-13, atol=0
    )
    one = tamis.certified_radius(p, 0.25)
    np.testing.assert_allclose(tamis.certified_radius(p, 0.25, 1 - p), one, rtol=1e-13)
    assert (tamis.certified_radius(p[1:], 0.25, 0.5 * (1 - p[1:])) > one[1:]).all()
    assert tamis.certified_radius(0.4, 1.0, 0.3) > 0  # below 1/2, but ahead of the runner-up
    for nothing in (
        tamis.certified_radius(0.5, 1.0),
        tamis.certified_radius(0.2, 1.0),
        tamis.certified_radius(0.3, 1.0, 0.3),
        tamis.certified_radius(0.3, 1.0, 0.9),
    ):
        assert nothing == 0
    assert tamis.certified_radius(1.0, 1.0) == math.inf
    assert tamis.certified_radius(0.9, 1.0, 0.0) == math.inf


# ---- the fair coin ------------------------------------------------------------------------------


def test_binomial_test_in_fractions() -> None:
    for n in (0, 1, 2, 7, 33, 257):
        for k in range(n + 1):
            fewer = min(k, n - k)
            tail = Fraction(sum(math.comb(n, j) for j in range(fewer + 1)), 2**n)
            exact = float(min(2 * tail, Fraction(1)))
            assert tamis.binomial_test_half(k, n) == pytest.approx(exact, rel=1e-13)


def test_binomial_test_against_scipy() -> None:
    for k, n in ((512, 1023), (49_100, 100_000), (3001, 5000), (1234, 6001)):
        expected = stats.binomtest(k, n, 0.5).pvalue
        assert tamis.binomial_test_half(k, n) == pytest.approx(expected, rel=1e-9)


# ---- confidence sequences -----------------------------------------------------------------------


def wealth(p: float, k: int, n: int) -> Any:
    """The integral that defines the bound, by mpmath quadrature."""
    odds = mpmath.mpf(p) / (1 - mpmath.mpf(p))
    peak = (k - n * mpmath.mpf(p)) / n if k > n * p else mpmath.mpf(0)
    width = 1 / mpmath.sqrt(n)
    inner = [peak + width * step for step in (-8, -4, -2, 0, 2, 4, 8)]
    points = [mpmath.mpf(0), *(u for u in inner if 0 < u < 1), mpmath.mpf(1)]
    return mpmath.quad(lambda u: (1 + u / odds) ** k * (1 - u) ** (n - k), points)


@pytest.mark.parametrize("alpha", [1e-12, 0.001, 0.05, 0.5])
def test_wealth_at_the_bound_is_one_over_alpha(alpha: float) -> None:
    with mpmath.workdps(30):
        for k, n in ((1, 1), (1, 9), (9, 9), (20, 33), (700, 1023), (1020, 1023)):
            p = float(tamis.confidence_sequence(k, n, alpha))
            # d log W / d log p is at most k / (1 - p) in size, hence this tolerance.
            assert abs(wealth(p, k, n) * alpha - 1) < 1e-12 * k / (1 - p)


def crossing_probability(p: float, alpha: float, steps: int) -> float:
    """Exact probability that the lower bound exceeds ``p`` after any of the first ``steps`` trials.

    Dynamic programming over the count among paths that have not crossed yet.
    """
    alive = np.ones(1)
    crossed = 0.0
    for n in range(1, steps + 1):
        alive = np.append(alive * (1 - p), 0) + np.append(0, alive * p)
        over = tamis.confidence_sequence(np.arange(n + 1), n, alpha) > p
        crossed += float(alive[over].sum())
        alive[over] = 0
    return crossed


@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.93, 0.999])
@pytest.mark.parametrize("alpha", [0.001, 0.05])
def test_sequence_covers_at_every_time(p: float, alpha: float) -> None:
    crossed = crossing_probability(p, alpha, 201)
    assert 0 <= crossed <= alpha * (1 + 1e-9)
    if 0.1 <= p <= 0.93:  # not vacuous: a good share of the allowance is used up
        assert crossed > alpha / 10


@pytest.mark.parametrize("side", ["lower", "upper"])
def test_sequence_covers_in_simulation(side: Literal["lower", "upper"]) -> None:
    # 4000 runs of 3001 trials at alpha = .05: the number of runs in which the bound is ever wrong
    # is at most Binomial(4000, .05), tested at a false-alarm rate of 1e-6. Clopper-Pearson, looked
    # at after every trial, must fail the same test: so the test can tell.
    runs, trials, alpha, p = 4000, 3001, 0.05, 0.8
    rng = np.random.default_rng(20240607)
    limit = stats.binom.isf(FALSE_ALARM, runs, alpha)
    n = np.arange(1, trials + 1)
    totals = np.cumsum(rng.random((runs, trials), dtype=np.float32) < p, axis=1, dtype=np.int32)
    wrong = {}
    for bound in (tamis.confidence_sequence, tamis.clopper_pearson):
        # Bounds grow with the count, so each n has one count from (or up to) which they are wrong.
        low, high = np.zeros_like(n), n + 1
        while (low < high).any():
            middle = (low + high) // 2
            value = bound(np.minimum(middle, n), n, alpha, side=side)
            above = (value > p) if side == "lower" else (value >= p)
            above |= middle > n
            low = np.where(above | (low >= high), low, middle + 1)
            high = np.where(above, middle, high)
        bad = totals >= low if side == "lower" else totals < low
        wrong[bound.__name__] = int(bad.any(axis=1).sum())
    assert wrong["confidence_sequence"] <= limit < wrong["clopper_pearson"]


def test_sequence_is_never_tighter_than_one_look() -> None:
    k = np.arange(0, 1024, 31)
    assert (tamis.confidence_sequence(k, 1023, 0.01) <= tamis.clopper_pearson(k, 1023, 0.01)).all()
    # and pays about sqrt(log n) for it: the price at n = 100000, alpha = .001 is under 1.7 widths.
    mean, n = 0.9, 100_000
    once = mean - tamis.clopper_pearson(int(mean * n), n, 0.001)
    always = mean - tamis.confidence_sequence(int(mean * n), n, 0.001)
    assert once < always < 1.7 * once


# ---- arguments ----------------------------------------------------------------------------------


def test_broadcasting_and_types() -> None:
    k = np.array([[1], [2]], dtype=np.int32)
    out = tamis.clopper_pearson(k, [10, 20, 30], 0.05)
    assert out.shape == (2, 3)
    assert out.dtype == np.float64
    assert out[1, 2] == tamis.clopper_pearson(2, 30, 0.05)
    assert isinstance(tamis.clopper_pearson(2, 30, 0.05), float)
    assert isinstance(tamis.clopper_pearson(np.int64(2), np.uint8(30), 0.05), float)
    strided = np.arange(40)[::-4]
    np.testing.assert_array_equal(
        tamis.confidence_sequence(strided, 40, 0.05),
        tamis.confidence_sequence(strided.copy(), 40, 0.05),
    )
    empty: Floats = tamis.clopper_pearson([], [], [])
    assert empty.shape == (0,)
    assert tamis.certified_radius(np.zeros((0, 3)), 0.5).shape == (0, 3)
    assert tamis.binomial_test_half(np.zeros((2, 0), dtype=int), 5).shape == (2, 0)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: tamis.clopper_pearson(2.0, 3, 0.1), TypeError, "successes"),
        (lambda: tamis.clopper_pearson(2, [3.5], 0.1), TypeError, "trials"),
        (lambda: tamis.clopper_pearson(True, 3, 0.1), TypeError, "successes"),
        (lambda: tamis.clopper_pearson(4, 3, 0.1), ValueError, "successes = 4, trials = 3"),
        (lambda: tamis.clopper_pearson(-1, 3, 0.1), ValueError, "successes = -1"),
        (lambda: tamis.clopper_pearson(0, 0, 0.1), ValueError, "trials"),
        (lambda: tamis.clopper_pearson([1, 1], 3, [0.1, 1.0]), ValueError, "alpha.* index 1"),
        (lambda: tamis.clopper_pearson(1, 3, math.nan), ValueError, "alpha"),
        (lambda: tamis.clopper_pearson(1, 3, 0.1, side="both"), ValueError, "side.*both"),  # type: ignore[arg-type]
        (lambda: tamis.clopper_pearson(1, 2**53 + 1, 0.1), ValueError, "2\\^53"),
        (lambda: tamis.clopper_pearson([1, 2], [3, 4, 5], 0.1), ValueError, "broadcast"),
        (lambda: tamis.confidence_sequence(1, -1, 0.1), ValueError, "trials"),
        (lambda: tamis.confidence_sequence(1, 3, 0.0), ValueError, "alpha"),
        (lambda: tamis.binomial_test_half(4, 3), ValueError, "successes"),
        (lambda: tamis.binomial_test_half(0.5, 3), TypeError, "successes"),
        (lambda: tamis.certified_radius(1.5, 0.5), ValueError, "p_lower"),
        (lambda: tamis.certified_radius([0.9, math.nan], 0.5), ValueError, "p_lower.* index 1"),
        (lambda: tamis.certified_radius(0.9, 0.5, -0.1), ValueError, "p_upper"),
        (lambda: tamis.certified_radius(0.9, 0.0), ValueError, "sigma"),
        (lambda: tamis.certified_radius(0.9, math.inf), ValueError, "sigma"),
    ],
)
def test_errors_name_the_argument(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()
