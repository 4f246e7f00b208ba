"""The classical estimates of location, and the published filter that benchmarks compare with."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tamis
from tamis import location

FUNCTIONS: list[Callable[..., Any]] = [getattr(location, name) for name in location.__all__]
WITH_SHARE = [f for f in FUNCTIONS if "contamination" in f.__code__.co_varnames]


def estimate(function: Callable[..., Any], X: Any, **arguments: Any) -> Any:
    found = function(X, **arguments)
    return found[0] if function is location.naive_prune else found


def contaminated(n: int = 3001, d: int = 9, share: float = 0.1, far: float = 4.0) -> Any:
    """Standard normal rows, the first ``share`` of them moved by ``far`` in every coordinate."""
    X = np.random.default_rng(7).standard_normal((n, d))
    X[: int(share * n)] += far
    return X


# --- every one of them ----------------------------------------------------------------------------


@pytest.mark.parametrize("function", FUNCTIONS)
def test_clean_rows_give_about_the_mean(function: Callable[..., Any]) -> None:
    """Oracle: the true mean. A coordinate has sd at most sqrt(pi / 2 / n); 6 of these, times 9."""
    X = np.random.default_rng(3).standard_normal((3001, 9)) + np.arange(9)
    found = estimate(function, X)
    assert found.shape == (9,)
    np.testing.assert_allclose(found, np.arange(9), atol=6 * np.sqrt(np.pi / 2 / 3001))


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 8), (2, 3), (7, 1), (8, 31), (33, 9)])
def test_small_and_odd_shapes(function: Callable[..., Any], shape: tuple[int, int]) -> None:
    """Oracle: every estimate lies within the range of its column."""
    X = np.random.default_rng(0).standard_normal(shape)
    found = estimate(function, X)
    assert found.shape == shape[1:]
    if function is location.lrv_mean and shape[1] > 1:  # it looks along other axes
        assert np.linalg.norm(found) <= np.linalg.norm(X, axis=1).max() * np.sqrt(shape[1])
        return
    assert np.all(found >= X.min(axis=0) - 1e-12)
    assert np.all(found <= X.max(axis=0) + 1e-12)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_identical_rows_give_that_row(function: Callable[..., Any]) -> None:
    row = np.array([3.0, -1e6, 0.0, 1e-3])
    found = estimate(function, np.tile(row, (33, 1)))
    np.testing.assert_allclose(found, row, rtol=1e-12)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_shift_moves_the_result_with_it(function: Callable[..., Any]) -> None:
    """Oracle: translation equivariance; 1e6 eats 6 of 16 digits."""
    X, shift = contaminated(401), 1e6 * np.arange(1.0, 10.0)
    moved = estimate(function, X + shift) - shift
    np.testing.assert_allclose(moved, estimate(function, X), atol=1e-6)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_library_and_dtype_are_kept_and_the_rows_untouched(function: Callable[..., Any]) -> None:
    X = contaminated(301)
    single = X.astype(np.float32)
    single.flags.writeable = False
    expected = estimate(function, X)
    found = estimate(function, single)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert estimate(function, np.asfortranarray(X)).dtype == np.float64
    integers = np.rint(10 * X).astype(np.int16)
    again = estimate(function, integers)
    assert again.dtype == np.float64
    np.testing.assert_array_equal(again, estimate(function, integers.astype(np.float64)))
    np.testing.assert_array_equal(estimate(function, X.tolist()), expected)
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(X)
    found = estimate(function, tensor)
    assert isinstance(found, torch.Tensor)
    assert found.dtype == torch.float64
    np.testing.assert_array_equal(found.numpy(), expected)
    assert estimate(function, tensor.to(torch.bfloat16)).dtype == torch.float32


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("X", "error", "says"),
    [
        (np.zeros(5), ValueError, r"X: expected a 2D array .* got shape \(5,\).*reshape"),
        (np.zeros((2, 2, 2)), ValueError, r"got shape \(2, 2, 2\)"),
        (np.zeros((0, 3)), ValueError, r"at least one row, got shape \(0, 3\)"),
        (np.zeros((3, 0)), ValueError, r"0 feature\(s\)"),
        (np.zeros((3, 2), complex), ValueError, "Complex data not supported"),
        (np.array([["a", "b"]]), TypeError, "X: expected numbers, got dtype <U1"),
        (np.array([[{}, 1]], dtype=object), TypeError, "X: expected numbers, got objects"),
        ([[1.0], [1.0, 2.0]], ValueError, "rows of equal length"),
        (np.ma.masked_equal([[1.0, 2.0]], 2.0), ValueError, "no masked entries, got 1"),
    ],
)
def test_what_is_no_table_is_refused(
    function: Callable[..., Any], X: Any, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        function(X)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(("bad", "what"), [(np.nan, "NaN"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_the_first_bad_row_is_named(function: Callable[..., Any], bad: float, what: str) -> None:
    X = contaminated(40_000, 9).astype(np.float32)  # more than one block of rows
    X[31_001, 3] = X[31_002, 0] = bad
    with pytest.raises(
        ValueError, match=f"X: expected finite .* got {what} in row 31001, column 3"
    ):
        function(X)


def test_numbers_whose_sum_overflows_are_finite() -> None:
    X = np.full((9, 3), 3e38, np.float32)
    np.testing.assert_array_equal(location.coordinate_median(X), X[0])


@pytest.mark.parametrize("function", WITH_SHARE)
@pytest.mark.parametrize("share", [-0.1, 0.5, float("nan"), float("inf")])
def test_contamination_out_of_range(function: Callable[..., Any], share: float) -> None:
    with pytest.raises(ValueError, match=r"contamination: expected a number in \[0, 0.5\)"):
        function(np.zeros((3, 2)), share)
    with pytest.raises(TypeError, match="contamination: expected a number, got str"):
        function(np.zeros((3, 2)), "auto")


@pytest.mark.parametrize("function", WITH_SHARE)
def test_contamination_zero_is_the_mean(function: Callable[..., Any]) -> None:
    X = contaminated(301)
    np.testing.assert_allclose(estimate(function, X, contamination=0), X.mean(axis=0), atol=1e-12)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda X: location.median_of_means(X, 0), "num_blocks: expected an integer >= 1"),
        (lambda X: location.median_of_means(X, seed=-1), "seed: expected an integer >= 0"),
        (lambda X: location.geometric_median(X, tol=0.0), "tol: expected a number > 0"),
        (lambda X: location.geometric_median(X, max_iter=0), "max_iter: expected"),
        (lambda X: location.ransac_mean(X, tau=1.0), r"tau: expected a number in \(0, 1\)"),
        (lambda X: location.ransac_mean(X, trials=0), "trials: expected an integer >= 1"),
    ],
)
def test_other_arguments_out_of_range(call: Callable[[Any], Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call(np.zeros((3, 2)))


def test_they_are_there_at_the_top() -> None:
    for name in location.__all__:
        assert getattr(tamis, name) is getattr(location, name)


# --- one by one -----------------------------------------------------------------------------------


def test_coordinate_median_is_numpys() -> None:
    for n in (1, 2, 8, 33, 3001):
        X = np.random.default_rng(n).standard_normal((n, 31))
        np.testing.assert_array_equal(location.coordinate_median(X), np.median(X, axis=0))


def test_trimmed_mean_is_scipys() -> None:
    """Oracle: scipy.stats.trim_mean, which drops floor(share n) at either end."""
    stats = pytest.importorskip("scipy.stats")
    X = contaminated(1001, 7)
    for share in (0.001, 0.1, 0.37):
        expected = stats.trim_mean(X, share, axis=0)
        np.testing.assert_allclose(location.trimmed_mean(X, share), expected, rtol=1e-12)


def test_median_of_means_of_as_many_blocks_as_rows_is_the_median() -> None:
    X = contaminated(33, 5)
    np.testing.assert_allclose(location.median_of_means(X, 99), np.median(X, axis=0), atol=1e-15)
    one = location.median_of_means(X, 1)
    np.testing.assert_allclose(one, X.mean(axis=0), atol=1e-14)
    same = [location.median_of_means(X, 7, seed=s) for s in (5, 5, 6)]
    np.testing.assert_array_equal(same[0], same[1])
    assert not np.array_equal(same[0], same[2])


def test_geometric_median_has_no_pull_left() -> None:
    """Oracle: the gradient of the summed distances, sum of unit vectors, is 0 at the answer."""
    X = contaminated(999, 7)
    found = location.geometric_median(X, tol=1e-12, max_iter=2000)
    difference = X - found
    units = difference / np.linalg.norm(difference, axis=1, keepdims=True)
    assert np.linalg.norm(units.sum(axis=0)) < 1e-6 * 999


def test_geometric_median_leaves_a_row_that_is_not_the_answer() -> None:
    """The coordinate median, where it starts, is a row; the answer, by symmetry, is elsewhere.

    Oracle: the Fermat point of an equilateral triangle is its centre; doubling two far rows on one
    side then moves it to one of them, as their pull of 2 exceeds that of the others.
    """
    triangle = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])
    centre = triangle.mean(axis=0)
    rows = np.vstack([triangle, [[0.5, 0.0]]])  # the coordinate median is this row
    assert (np.median(rows, axis=0) == [0.5, 0.0]).all()
    found = location.geometric_median(rows, tol=1e-12, max_iter=5000)
    cost = [np.linalg.norm(rows - at, axis=1).sum() for at in (found, [0.5, 0.0], centre)]
    assert cost[0] <= min(cost[1:]) + 1e-12
    heavy = np.vstack([triangle, triangle[:1], triangle[:1]])
    np.testing.assert_allclose(location.geometric_median(heavy), triangle[0], atol=1e-6)


def test_geometric_median_says_when_it_is_still_moving() -> None:
    warning = tamis.ops.ConvergenceWarning
    with pytest.warns(warning, match="geometric_median: still moving after max_iter = 1 step"):
        location.geometric_median(contaminated(), max_iter=1)


def test_naive_prune_keeps_the_ball() -> None:
    """Oracle: the published radius, straight from its formula."""
    X = contaminated(501, 100, far=6.0)
    mean, support = location.naive_prune(X, 0.1)
    distance = np.linalg.norm(X - np.median(X, axis=0), axis=1)
    expected = distance < 0.33 * np.sqrt(100 * np.log(501 / 0.1))
    np.testing.assert_array_equal(support, expected)
    assert 0 < expected.sum() < 501
    np.testing.assert_allclose(mean, X[expected].mean(axis=0), atol=1e-12)
    _, everything = location.naive_prune(1e6 * X, 0.1)
    assert everything.all()  # the ball is empty


def test_ransac_finds_a_trial_without_outliers() -> None:
    """Oracle: the mean of the inliers; 14 outliers of 30,000 miss most subsets of 2,400 rows.

    A clean subset of 2,400 of d = 3 is off by sqrt(3 / 2400) = .035; the outliers shift the mean
    by 14 / 30,000 * 1e4 = 4.7.
    """
    X = np.random.default_rng(2).standard_normal((30_000, 3))
    X[:14] += 1e4
    found = location.ransac_mean(X, 0.1)
    assert np.linalg.norm(found) < 6 * np.sqrt(3 / 2400)
    few = X[:1000]
    np.testing.assert_allclose(location.ransac_mean(few, 0.1), few.mean(axis=0), atol=1e-9)


def test_lrv_in_one_dimension_is_the_shortest_interval() -> None:
    """Oracle: every interval of floor(n (1 - eps)^2) sorted values, by hand."""
    values = np.array([0.0, 10.0, 10.1, 10.2, 10.3, 10.5, 10.9, 30.0, 31.0, 99.0])
    found = location.lrv_mean(values[:, None], 0.3)  # floor(10 * .49) = 4
    assert found == pytest.approx(np.mean([10.0, 10.1, 10.2, 10.3]))


def test_lrv_beats_the_medians_in_many_dimensions() -> None:
    X = contaminated(5000, 60, far=1.0)
    error = {f.__name__: np.linalg.norm(estimate(f, X) - X[500:].mean(axis=0)) for f in FUNCTIONS}
    assert error["lrv_mean"] < 0.5 * min(error["coordinate_median"], error["geometric_median"])


# --- the peer of the benchmarks -------------------------------------------------------------------


def published_filter(repo_root: Path) -> Callable[..., Any]:
    path = repo_root / "bench" / "peers_filter.py"
    spec = importlib.util.spec_from_file_location("peers_filter", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Callable[..., Any] = module.published_filter
    return function


def test_published_filter(repo_root: Path) -> None:
    """Oracle: the published protocol at d = 100, where five runs of an independent port gave an
    excess error of .025 to .040: n = 1000 d, inliers N(1, I), 5% of the rows with random 0/1
    coordinates, 5% at (12, -2, 0, ...). Clean rows give the sample mean.
    """
    run = published_filter(repo_root)
    rng = np.random.default_rng(1)
    X = rng.standard_normal((99_990, 100))
    X += 1.0
    np.testing.assert_array_equal(run(X[:5000]), X[:5000].mean(axis=0))
    X[:5000] = rng.integers(0, 2, (5000, 100))
    X[5000:10_000] = 0.0
    X[5000:10_000, :2] = 12.0, -2.0
    X.flags.writeable = False
    good = np.linalg.norm(X[10_000:].mean(axis=0) - 1.0)
    assert 0.02 < np.linalg.norm(run(X) - 1.0) - good < 0.045


def test_published_filter_where_its_bound_is_undefined(repo_root: Path) -> None:
    X = np.r_[np.zeros(90), np.full(10, 5.0)][:, None]  # d eps <= tau: nothing can be cut
    assert published_filter(repo_root)(X) == pytest.approx(0.5)
