"""iterative_filter: what holds for every result, on ordinary and on degenerate rows.

Oracles: the definitions in the docstrings of `tamis.iterative_filter` and `FilterResult`, computed
here in float64. What it finds is compared with the twin in test_iterative_filter_rules.py.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tamis
from support import filter_rows, same_bits

ROWS = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 1023)
COLUMNS = (1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 70, 300)
DTYPES = (np.float32, np.float64)
RULES = ("gaussian_tail", "bounded_covariance", "fixed_fraction", "soft", "randomized")
ASSUMPTIONS = ("identity", "scale", "none")
REASONS = {
    "eigenvalue_explained",
    "tails_explained",
    "removal_limit",
    "max_rounds",
    "zero_variance",
    "too_few_rows",
    "no_contamination",
}
FLUSH = 128  # rows summed in the dtype of X

Floats = NDArray[Any]


def check(X: Floats, contamination: Any = 0.1, **arguments: Any) -> Any:
    """Check what every result must satisfy, whatever the rows; returns the result."""
    before = X.tobytes()
    r = tamis.iterative_filter(X, contamination, **arguments)
    assert X.tobytes() == before
    n, d = X.shape
    m = r.directions.shape[1]
    for name, shape in (
        ("mean", (d,)),
        ("weights", (n,)),
        ("scores", (n,)),
        ("support", (n,)),
        ("eigenvalues", (r.rounds,)),
        ("directions", (d, m)),
        ("centers", (m,)),
        ("scales", (m,)),
        ("ball_center", (d,)),
    ):
        array = getattr(r, name)
        assert array.shape == shape
        assert np.isfinite(array).all(), name
    assert r.mean.dtype == r.weights.dtype == r.scores.dtype == X.dtype
    assert r.support.dtype == bool
    assert np.array_equal(r.support, r.weights > 0.5)
    assert np.all((r.weights >= 0.0) & (r.weights <= 1.0))
    if arguments.get("rule") != "soft":
        assert np.all((r.weights == 0.0) | (r.weights == 1.0))
    assert r.stop_reason in REASONS
    assert 0 <= r.rounds <= arguments.get("max_rounds", 50)
    assert np.all(r.eigenvalues >= 0.0)
    assert 0 <= r.cuts <= m
    assert np.all(r.scales > 0.0)
    np.testing.assert_allclose(np.linalg.norm(r.directions, axis=0), 1.0, rtol=1e-6)
    check_budget(r, contamination, arguments.get("max_removed", 2.5))
    check_mean(X, r)
    check_scores(X, r)
    return r


def check_budget(r: Any, contamination: Any, max_removed: float) -> None:
    """Never more than stated, nor half of the rows; soft weights are rounded to their dtype."""
    n = r.weights.size
    share = 0.5 if contamination == "auto" else min(max_removed * contamination, 0.5)
    removed = n - float(r.weights.sum(dtype=np.float64))
    rounding = n * float(np.finfo(r.weights.dtype).eps)
    assert removed <= min(math.floor(share * n), (n - 1) // 2) + rounding + 1e-9
    assert abs(r.contamination - removed / n) <= 1e-12 + rounding / n


def check_mean(X: Floats, r: Any) -> None:
    """``weights @ X / weights.sum()``: sums over FLUSH rows in X's dtype about a point near by.

    The sum here has n roundings of float64.
    """
    u = float(np.finfo(X.dtype).eps) / 2
    kept = r.weights > 0
    A, w = X[kept].astype(np.float64), r.weights[kept].astype(np.float64)
    expected = w @ A / w.sum()
    size = w @ np.abs(A - r.ball_center) / w.sum() + np.abs(r.ball_center - expected)
    error = (FLUSH + 4) * u * size + 2 * u * np.abs(expected)
    error += (len(A) + 4) * 2.0**-53 * np.abs(A).max(axis=0)
    assert np.all(np.abs(r.mean - expected) <= error)


def check_scores(X: Floats, r: Any) -> None:
    """The formula of `FilterResult.scores`.

    A projection of ``x - origin`` has d + 4 roundings of X's dtype, that of x here and those of
    the centres d + 4 of float64.
    """
    u = float(np.finfo(X.dtype).eps) / 2
    largest = float(np.finfo(X.dtype).max)
    A, V = X.astype(np.float64), r.directions.astype(np.float64)
    n, d = A.shape
    expected, error = np.zeros(n), np.zeros(n)
    away = np.abs(A - r.mean) + np.abs(A[r.support] - r.mean).max(axis=0)
    with np.errstate(over="ignore"):
        if V.shape[1]:
            t = (A @ V - r.centers) / r.scales
            dt = 4 * (d + 4) * (u * (away @ np.abs(V)) + 2.0**-53 * (np.abs(A) @ np.abs(V)))
            dt = dt / r.scales + 4 * u * np.abs(t)
            expected = np.square(t).max(axis=1)
            error = (2 * np.abs(t) * dt + dt**2).max(axis=1)
        distance2 = np.square(A - r.ball_center).sum(axis=1)
    # Distances are from the centre as X's dtype holds it.
    with np.errstate(over="ignore"):
        blur = 4 * u * ((d + 4) * distance2 + np.linalg.norm(r.ball_center) * np.sqrt(distance2))
    near = np.abs(distance2 - r.ball_radius**2) <= blur  # in or out: cannot tell
    out = distance2 > r.ball_radius**2
    if out.any():
        radial = distance2 / r.ball_scale**2
        error = np.where(out & (radial > expected), blur / r.ball_scale**2, error)
        expected = np.where(out, np.maximum(radial, expected), expected)
    good = np.abs(r.scores - np.minimum(expected, largest)) <= error + 1e-6 * u * expected
    good |= (expected > 0.99 * largest) & (r.scores > 0.99 * largest)
    assert np.all(good | near)


# ---- sizes and degenerate rows -----------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", ROWS)
def test_sizes(n: int, dtype: Any) -> None:
    """Also n < d, one row and one column. Rules and assumptions take turns."""
    combinations = itertools.cycle(itertools.product(RULES, ASSUMPTIONS))
    for d, contamination in itertools.product(COLUMNS, (0.1, 0.4, "auto")):
        rule, assume = next(combinations)
        check(filter_rows(n, d, dtype), contamination, rule=rule, assume=assume)


def degenerate(dtype: Any) -> dict[str, Floats]:
    """Rows that break estimates of spread; each with a minority far away where that can be."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(300, 6))
    far = np.arange(300) % 12 == 5
    constant = X.copy()
    constant[:, [1, 4]] = 3.0
    constant[far, 4] = 50.0
    line = np.outer(X[:, 0] + 40.0 * far, np.arange(1.0, 7.0))
    twice = np.repeat(X[:20], 15, axis=0)
    twice[far] = 9.0
    same = np.full((300, 6), 0.1)
    most_same = same.copy()
    most_same[far] = X[far]
    zeros = np.where(rng.random((300, 6)) < 0.9, 0.0, X)
    coins = rng.integers(0, 2, (300, 6)).astype(np.float64)
    coins[far] = 7.0
    two = np.where((np.arange(300) % 3 == 0)[:, None], 5.0, -1.0) * np.ones(6)
    cases = {
        "one row": X[:1],
        "two rows": X[:2],
        "three rows, one far": np.vstack([X[:2], 1e3 * X[2:3]]),
        "constant columns": constant,
        "rank one": line,
        "duplicates": twice,
        "all rows equal": same,
        "all rows zero": 0.0 * same,
        "most rows equal": most_same,
        "mostly zeros": zeros,
        "coins": coins,
        "two points": two,
        "fewer rows than columns": rng.normal(size=(40, 90)),
        "mean far away": X + 1e6,
        "mean far away, outliers": X + 1e6 + 20.0 * far[:, None],
    }
    return {name: rows.astype(dtype) for name, rows in cases.items()}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", degenerate(np.float64))
def test_degenerate_rows(case: str, dtype: Any) -> None:
    X = degenerate(dtype)[case]
    for rule, assume in itertools.product(RULES, ASSUMPTIONS):
        for contamination in (0.1, "auto"):
            check(X, contamination, rule=rule, assume=assume)
    check(X, prune=False)
    check(X, readmit=False)


@pytest.mark.parametrize("dtype", DTYPES)
def test_too_few_rows_give_their_mean(dtype: Any) -> None:
    for n in (1, 2, 3):
        X = filter_rows(n, 5, dtype)
        r = check(X)
        assert r.stop_reason == "too_few_rows"
        assert (r.rounds, r.cuts) == (0, 0)
        assert np.all(r.weights == 1.0)
    assert same_bits(check(X[:1]).mean, X[0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_equal_rows(dtype: Any) -> None:
    X = np.repeat(filter_rows(1, 5, dtype), 40, axis=0)
    r = check(X)
    assert r.stop_reason == "zero_variance"
    assert np.all(r.weights == 1.0)
    np.testing.assert_allclose(r.mean, X[0], rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_contamination_gives_the_sample_mean(dtype: Any, rule: Any) -> None:
    X = filter_rows(1023, 17, dtype)
    r = check(X, 0.0, rule=rule)
    assert r.stop_reason == "no_contamination"
    assert (r.rounds, r.cuts, r.contamination) == (0, 0, 0.0)
    assert np.all(r.weights == 1.0)  # and so the mean is that of all rows, by check()


@pytest.mark.parametrize("assume", ["scale", "none"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("dtype", "size"), [(np.float32, 1e18), (np.float64, 1e30)])
def test_huge_outliers_go(dtype: Any, size: float, rule: Any, assume: Any) -> None:
    """Oracle: the mean of the other rows, to a tenth of its standard error a column."""
    rng = np.random.default_rng(2)
    X = rng.normal(size=(1000, 9))
    huge = np.arange(1000) % 20 == 7
    X[huge] *= size
    X = X.astype(dtype)
    r = check(X, rule=rule, assume=assume)
    assert not r.support[huge].any()
    assert np.abs(r.mean - X[~huge].mean(axis=0)).max() < 0.1 * math.sqrt(9 / 1000) * 3
    assert r.scores[huge].min() > r.scores[~huge].max()


@pytest.mark.parametrize("rule", RULES)
def test_huge_outliers_go_without_pruning(rule: Any) -> None:
    X = filter_rows(1000, 9)
    X[::20] *= 1e30
    r = check(X, rule=rule, prune=False)
    assert not r.support[::20].any()
    assert np.abs(r.mean).max() < 2.0


@pytest.mark.parametrize(("dtype", "size"), [(np.float32, 1e38), (np.float64, 1e307)])
def test_outliers_whose_squares_overflow(dtype: Any, size: float) -> None:
    """They are pruned; without pruning they are refused, in words that say so."""
    X = filter_rows(1000, 9, dtype)
    X[::20] = dtype(size)
    for rule, assume in itertools.product(RULES, ASSUMPTIONS):
        r = tamis.iterative_filter(X, rule=rule, assume=assume)
        assert not r.support[::20].any()
        for name in ("mean", "scores", "eigenvalues", "directions", "centers", "scales"):
            assert np.isfinite(getattr(r, name)).all()
        assert np.abs(r.mean).max() < 2.0
    with pytest.raises(ValueError, match=r"X: expected values whose squares.*(rescale|prune)"):
        tamis.iterative_filter(X, prune=False)


def test_tiny_numbers() -> None:
    """1e-20: their squares are 1e-40, whose squares are 1e-80."""
    X = filter_rows(1023, 9)
    tiny, plain = check(X * 1e-20), check(X)
    assert np.array_equal(tiny.support, plain.support)
    np.testing.assert_allclose(tiny.mean, plain.mean * 1e-20, rtol=1e-9)


# ---- what does not matter ----------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("assume", ["scale", "none"])
def test_units_do_not_matter(rule: Any, assume: Any) -> None:
    """A power of two rounds nothing."""
    X = filter_rows(900, 12)
    plain = check(X, rule=rule, assume=assume)
    for factor in (2.0**-40, 2.0**40):
        scaled = check(X * factor, rule=rule, assume=assume)
        np.testing.assert_allclose(scaled.weights, plain.weights, atol=1e-9)
        np.testing.assert_allclose(scaled.mean / factor, plain.mean, atol=1e-12)
        assert scaled.stop_reason == plain.stop_reason


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("assume", ASSUMPTIONS)
def test_the_origin_does_not_matter(rule: Any, assume: Any) -> None:
    """Multiples of 2^-20: their differences are the same bits wherever they lie."""
    X = np.round(filter_rows(900, 12) * 2.0**20) / 2.0**20
    plain, moved = check(X, rule=rule, assume=assume), check(X + 1024.0, rule=rule, assume=assume)
    np.testing.assert_allclose(moved.weights, plain.weights, atol=1e-9)
    np.testing.assert_allclose(moved.mean - 1024.0, plain.mean, atol=1e-11)


def test_the_order_of_few_rows_does_not_matter() -> None:
    """Up to 1024 rows all of them are looked at where otherwise some are."""
    X = filter_rows(1000, 12)
    order = np.random.default_rng(3).permutation(1000)
    plain, shuffled = check(X), check(X[order])
    assert np.array_equal(shuffled.support, plain.support[order])
    np.testing.assert_allclose(shuffled.mean, plain.mean, atol=1e-12)


# ---- limits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_budget_binds(dtype: Any, rule: Any) -> None:
    """A tenth of the rows is far out, and less than that may go."""
    X = filter_rows(1000, 9, dtype)
    for contamination, max_removed, most in ((0.02, 1.0, 20), (0.02, 2.5, 50), (0.013, 3, 39)):
        r = check(X, contamination, rule=rule, max_removed=max_removed)
        assert r.stop_reason == "removal_limit"
        removed = 1000 - float(r.weights.sum(dtype=np.float64))
        assert most - 1 - 1e-3 <= removed <= most + 1e-3
        gone = ~r.support
        assert gone[3::10].sum() >= 0.9 * gone.sum()  # the right ones


def test_at_most_half_goes() -> None:
    rng = np.random.default_rng(4)
    X = rng.normal(size=(1001, 5))
    X[:700] = 10.0 * rng.normal(size=(700, 5)) + 30.0  # most rows: nobody can tell
    for rule in RULES:
        for contamination in (0.49, "auto"):
            check(X, contamination, rule=rule)


@pytest.mark.parametrize("rule", RULES)
def test_rounds_are_limited(rule: Any) -> None:
    X = filter_rows(1000, 9) * np.linspace(0.2, 4.0, 9)
    for most in (1, 2, 3):
        r = check(X, rule=rule, assume="identity", max_rounds=most)
        assert r.rounds <= most
        assert r.eigenvalues.shape == (r.rounds,)
    assert check(X, rule="fixed_fraction", assume="identity", max_rounds=2).rounds == 2
