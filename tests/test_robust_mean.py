"""`tamis.RobustMean`: what it finds, what it takes and refuses, scikit-learn's conventions."""

from __future__ import annotations

import builtins
import importlib
import pickle
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tamis
from tamis import RobustMean

RULES = ["gaussian_tail", "bounded_covariance", "fixed_fraction", "soft", "randomized"]


def contaminated(n: int = 2001, d: int = 31, share: float = 0.1, far: float = 3.0) -> Any:
    """Standard normal rows, the first ``share`` of them moved by ``far`` in every coordinate."""
    X = np.random.default_rng(7).standard_normal((n, d))
    X[: int(share * n)] += far
    return X


# --- what it finds --------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("contamination", [0.1, "auto"])
def test_a_far_cluster_is_left_out(rule: str, contamination: Any) -> None:
    """Oracle: the mean of the good rows. 200 of 2001 rows at distance 3 sqrt(31) = 16.7.

    Of the bad rows 5 may stay, each of which moves the mean by 16.7 / 1800 = .009; and 3% of the
    good ones may go, which in the worst direction moves it by .03 * sqrt(2 log(1 / .03)) = .08.
    """
    X = contaminated()
    found = RobustMean(contamination, rule=rule).fit(X)
    assert np.linalg.norm(found.location_ - X[200:].mean(axis=0)) < 5 * 0.009 + 0.08
    assert found.support_[:200].sum() <= (0 if rule == "gaussian_tail" else 5)
    assert found.support_[200:].mean() > 0.97
    assert np.linalg.norm(X.mean(axis=0)) > 1.6  # what a plain mean makes of it


@pytest.mark.parametrize("rule", RULES)
def test_attributes_agree_with_one_another(rule: str) -> None:
    X = contaminated(999, 8, far=2.0)
    found = RobustMean(rule=rule).fit(X)
    n, d = X.shape
    expected = found.weights_ @ X / found.weights_.sum()
    np.testing.assert_allclose(found.location_, expected, rtol=1e-10, atol=1e-12)
    assert found.location_.shape == (d,)
    assert found.weights_.shape == found.scores_.shape == found.support_.shape == (n,)
    np.testing.assert_array_equal(found.support_, found.weights_ > 0.5)
    assert found.contamination_ == pytest.approx(1.0 - found.weights_.mean())
    assert found.eigenvalues_.shape == (found.n_iter_,)
    assert found.n_passes_ >= found.n_iter_ >= 1
    assert found.n_features_in_ == d
    assert found.scores_[:99].mean() > found.scores_[99:].mean()
    assert found.stop_reason_ in ("eigenvalue_explained", "tails_explained")


def test_it_is_the_operation() -> None:
    """Oracle: tamis.ops.iterative_filter with the same arguments, to the bit."""
    X = contaminated(501, 9)
    arguments: dict[str, Any] = {"rule": "randomized", "assume": "scale", "prune": False}
    arguments |= {"readmit": False, "max_rounds": 7, "max_removed": 1.5}
    expected = tamis.ops.iterative_filter(X, 0.2, seed=11, **arguments)
    found = RobustMean(0.2, random_state=11, n_jobs=2, **arguments).fit(X)
    np.testing.assert_array_equal(found.location_, expected.mean)
    np.testing.assert_array_equal(found.weights_, expected.weights)
    np.testing.assert_array_equal(found.scores_, expected.scores)
    assert found.stop_reason_ == expected.stop_reason
    other = RobustMean(0.2, random_state=12, **arguments).fit(X)
    assert not np.array_equal(found.weights_, other.weights_)  # the seed arrives


def test_clean_rows_and_no_contamination() -> None:
    """Oracle: the sample mean; at eps = 0 it is exact, else within 2% of its error."""
    X = np.random.default_rng(0).standard_normal((5000, 20))
    mean = X.mean(axis=0)
    found = RobustMean(0.0).fit(X)
    np.testing.assert_allclose(found.location_, mean, atol=1e-13)
    assert (found.stop_reason_, found.n_iter_) == ("no_contamination", 0)
    found = RobustMean().fit(X)
    assert np.linalg.norm(found.location_) < 1.02 * np.linalg.norm(mean)


def test_known_leverage_points(data_dir: Any) -> None:
    """Oracle: Hawkins, Bradu and Kass 1984 made rows 1 to 14 of their table outliers in X1..X3.

    And the octane table of Esbensen et al.: rows 25, 26 and 36 to 39 hold alcohol; 226 columns.
    """
    for name, columns, bad in (
        ("hbk", slice(0, 3), np.arange(14)),
        ("octane", slice(1, None), np.array([24, 25, 35, 36, 37, 38])),
    ):
        path = data_dir / "robust_classics" / f"{name}.csv.gz"
        X = np.loadtxt(path, delimiter=",", skiprows=1)[:, columns]
        for contamination in (0.2, "auto"):
            found = RobustMean(contamination).fit(X)
            np.testing.assert_array_equal(np.flatnonzero(~found.support_), bad)
            keep = np.setdiff1d(np.arange(len(X)), bad)
            np.testing.assert_allclose(found.location_, X[keep].mean(axis=0), rtol=1e-9)


# --- what it takes --------------------------------------------------------------------------------


def test_float32_and_integers() -> None:
    X = contaminated(501, 9)
    found = RobustMean().fit(X.astype(np.float32))
    assert found.location_.dtype == found.weights_.dtype == found.scores_.dtype == np.float32
    np.testing.assert_allclose(found.location_, RobustMean().fit(X).location_, atol=1e-5)
    whole = np.rint(100 * X)
    expected = RobustMean().fit(whole).location_
    for same in (whole.astype(np.int32), whole.tolist(), whole.astype(object)):
        found = RobustMean().fit(same)
        assert found.location_.dtype == np.float64
        np.testing.assert_array_equal(found.location_, expected)
    half = X.astype(np.float16)
    np.testing.assert_array_equal(
        RobustMean().fit(half).location_, RobustMean().fit(half.astype(np.float32)).location_
    )


def test_torch_tensors_give_torch_tensors() -> None:
    torch = pytest.importorskip("torch")
    X = contaminated(501, 9)
    expected = RobustMean().fit(X)
    found = RobustMean().fit(torch.from_numpy(X))
    for name in ("location_", "weights_", "scores_", "support_"):
        value = getattr(found, name)
        assert isinstance(value, torch.Tensor), name
        np.testing.assert_array_equal(value.numpy(), getattr(expected, name))
    assert found.support_.dtype == torch.bool
    with pytest.raises(ValueError, match="X: expected a tensor outside autograd"):
        RobustMean().fit(torch.zeros(3, 2, requires_grad=True))


def test_read_only_strided_and_never_modified() -> None:
    X = contaminated(501, 9)
    expected = RobustMean().fit(X).location_
    wide = np.full((501, 20), np.nan)
    wide[:, 4:13] = X
    for view in (wide[:, 4:13], np.asfortranarray(X), X[::-1][::-1]):
        before = view.copy()
        view.flags.writeable = False
        np.testing.assert_array_equal(RobustMean().fit(view).location_, expected)
        np.testing.assert_array_equal(view, before)


def test_names_of_columns() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(contaminated(99, 3), columns=["a", "b", "c"])
    found = RobustMean().fit(frame)
    assert found.feature_names_in_.tolist() == ["a", "b", "c"]
    found.fit(frame.to_numpy())
    assert not hasattr(found, "feature_names_in_")


# --- what it refuses ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("X", "error", "says"),
    [
        (np.zeros(5), ValueError, "X: expected a 2D array"),
        (np.zeros((0, 3)), ValueError, "at least one row"),
        (np.zeros((3, 0)), ValueError, "0 feature"),
        (np.zeros((3, 2), complex), ValueError, "Complex data not supported"),
        (np.array([["a", "b"]]), TypeError, "X: expected numbers, got dtype"),
        ([[1, {}]], TypeError, "X: expected numbers, got objects"),
        ("table.npy", TypeError, "X: expected numbers, got dtype"),
    ],
)
def test_what_is_no_table(X: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        RobustMean().fit(X)


@pytest.mark.parametrize(("bad", "what"), [(np.nan, "[Nn]a[Nn]"), (-np.inf, "-inf")])
def test_the_first_bad_row_is_named(bad: float, what: str) -> None:
    X = contaminated(501, 9)
    X[[407, 409], [5, 0]] = bad
    with pytest.raises(ValueError, match=f"got {what} in row 407, column 5.*missing value"):
        RobustMean().fit(X)


@pytest.mark.parametrize(
    ("parameters", "error", "says"),
    [
        ({"contamination": -0.1}, ValueError, "contamination"),
        ({"contamination": 0.5}, ValueError, "contamination"),
        ({"contamination": float("nan")}, ValueError, "contamination"),
        ({"contamination": "most"}, (TypeError, ValueError), "contamination"),
        ({"rule": "dkk"}, ValueError, "rule"),
        ({"assume": "normal"}, ValueError, "assume"),
        ({"max_rounds": 0}, ValueError, "max_rounds"),
        ({"max_removed": 0.0}, ValueError, "max_removed"),
        ({"random_state": -1}, ValueError, "random_state: expected an integer"),
        ({"random_state": 0.5}, TypeError, "random_state: expected an integer, got float"),
        ({"n_jobs": 0}, ValueError, "n_jobs: expected None"),
        ({"n_jobs": 1.5}, TypeError, "n_jobs: expected an integer, got float"),
    ],
)
def test_parameters_out_of_range(parameters: Any, error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        RobustMean(**parameters).fit(np.zeros((9, 2)))


def test_random_state_and_n_jobs_as_scikit_learn_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the seed and the thread count that reach the operation."""
    seen: list[Any] = []
    run = tamis.ops.iterative_filter

    def spy(X: Any, **options: Any) -> Any:
        seen.append((options["seed"], options["num_threads"]))
        return run(X, **{**options, "num_threads": 1})

    monkeypatch.setattr(tamis.ops, "iterative_filter", spy)
    monkeypatch.setattr(tamis.ops, "info", lambda: {"num_threads": 6})
    X = np.zeros((9, 2))
    for random_state in (None, 0, np.uint64(2**64 - 1)):
        RobustMean(random_state=random_state).fit(X)
    assert [seed for seed, _ in seen] == [0, 0, 2**64 - 1]
    seen.clear()
    for n_jobs in (None, 1, 3, -1, -2, -9):
        RobustMean(n_jobs=n_jobs).fit(X)
    assert [threads for _, threads in seen] == [None, 1, 3, 6, 5, 1]
    seen.clear()
    for generator in (np.random.RandomState(3), np.random.default_rng(3)):
        for _ in range(2):
            RobustMean(random_state=generator).fit(X)
    seeds = [seed for seed, _ in seen]
    assert len(set(seeds)) == 4
    assert seeds[0] == int(np.random.RandomState(3).randint(2**63, dtype=np.uint64))


# --- scikit-learn ---------------------------------------------------------------------------------


def test_unfitted() -> None:
    with pytest.raises((ValueError, AttributeError), match="this RobustMean is not fitted yet"):
        _ = RobustMean().location_
    assert not hasattr(RobustMean(), "location_")


def test_pickle_and_clone() -> None:
    X = contaminated(99, 3)
    found = RobustMean(0.2, rule="soft", random_state=4).fit(X)
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(again.location_, found.location_)
    base = pytest.importorskip("sklearn.base")
    copy = base.clone(found)
    assert copy.get_params() == found.get_params()
    assert not hasattr(copy, "location_")
    assert repr(copy) == "RobustMean(contamination=0.2, random_state=4, rule='soft')"


@pytest.fixture
def without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The estimators, loaded anew as where scikit-learn is not installed."""
    loaded = {name: module for name, module in sys.modules.items() if "tamis.estimators" in name}
    for name in [*loaded, *(n for n in sys.modules if n.partition(".")[0] == "sklearn")]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "sklearn":
            raise ImportError("No module named 'sklearn'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    before = vars(tamis).get("estimators")
    yield
    for name in [name for name in sys.modules if "tamis.estimators" in name]:
        del sys.modules[name]
    if before is None:
        vars(tamis).pop("estimators", None)
    else:
        vars(tamis)["estimators"] = before


@pytest.mark.usefixtures("without_scikit_learn")
def test_without_scikit_learn() -> None:
    estimators = importlib.import_module("tamis.estimators")
    assert estimators.RobustMean is not RobustMean
    X = contaminated(501, 9)
    mean = estimators.RobustMean(0.2, rule="soft")
    with pytest.raises(ValueError, match="not fitted yet"):
        _ = mean.location_
    np.testing.assert_array_equal(
        mean.fit(X).location_, RobustMean(0.2, rule="soft").fit(X).location_
    )
    assert repr(mean) == "RobustMean(contamination=0.2, rule='soft')"
    assert mean.set_params(rule="randomized", n_jobs=1) is mean
    assert mean.get_params() == {
        "assume": "none", "contamination": 0.2, "max_removed": 2.5, "max_rounds": 50, "n_jobs": 1,
        "prune": True, "random_state": None, "readmit": True, "rule": "randomized",
    }  # fmt: skip
    with pytest.raises(ValueError, match="RobustMean has no parameter 'eps', but assume, cont"):
        mean.set_params(eps=0.1)
    detector = estimators.SpectralOutlierDetector().fit(X)
    np.testing.assert_array_equal(detector.predict(X), detector.fit_predict(X))


sklearn_checks = pytest.importorskip("sklearn.utils.estimator_checks")


@sklearn_checks.parametrize_with_checks([RobustMean(), RobustMean("auto", rule="soft")])
def test_scikit_learn_checks(estimator: Any, check: Any) -> None:
    """Oracle: scikit-learn's own checks; none is expected to fail."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # their data, their warnings
        check(estimator)
