"""`tamis.SpectralOutlierDetector`: scores, threshold, scikit-learn's conventions, real tables."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pytest

import tamis
from tamis import RobustMean, SpectralOutlierDetector
from tamis.estimators.outliers import _torch_scores


def contaminated(n: int = 1001, d: int = 31, share: float = 0.05, far: float = 3.0) -> Any:
    """Standard normal rows, the first ``share`` of them moved by ``far`` in every coordinate."""
    X = np.random.default_rng(7).standard_normal((n, d))
    X[: int(share * n)] += far
    return X


# --- scores and threshold -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_scores_are_those_of_the_filter(dtype: Any) -> None:
    """Oracle: tamis.iterative_filter; on the rows of fit, the formula gives its own scores.

    A projection of 31 terms is off by less than 31 eps |x| |v|, and |x| < 25: in float32 5e-5,
    twice relative in the square, over scores of at least .1.
    """
    X = contaminated().astype(dtype)
    expected = tamis.iterative_filter(X)
    found = SpectralOutlierDetector().fit(X)
    np.testing.assert_array_equal(found.training_scores_, -expected.scores)
    scores = found.score_samples(X)
    assert scores.dtype == dtype
    np.testing.assert_allclose(
        scores, -expected.scores, rtol=1e-10 if dtype == np.float64 else 1e-3, atol=1e-12
    )
    np.testing.assert_array_equal(found.location_, expected.mean)
    np.testing.assert_array_equal(found.support_, expected.support)
    assert found.n_cuts_ == expected.cuts >= 1


def test_scores_of_new_rows_are_the_documented_formula() -> None:
    X, new = contaminated(), 5.0 * np.random.default_rng(1).standard_normal((40_000, 31))
    found = SpectralOutlierDetector().fit(X)
    z = (new @ found.directions_ - found.centers_) / found.scales_
    expected = -(z**2).max(axis=1)
    np.testing.assert_allclose(found.score_samples(new), expected, rtol=1e-10)
    decision = found.decision_function(new)
    np.testing.assert_array_equal(decision, found.score_samples(new) - found.offset_)
    np.testing.assert_array_equal(found.predict(new), np.where(decision >= 0, 1, -1))
    assert set(found.predict(new)) == {-1, 1}
    assert found.score_samples(found.location_[None])[0] > found.score_samples(new).max()


@pytest.mark.parametrize("contamination", [0.001, 0.05, 0.1, 0.29, 0.4999])
@pytest.mark.parametrize("n", [33, 100, 1001])
def test_offset_calls_the_stated_share_outliers(contamination: float, n: int) -> None:
    """Oracle: floor(contamination n) rows, and a threshold half-way to the next."""
    X = contaminated(n)
    found = SpectralOutlierDetector(contamination).fit(X)
    count = int(np.floor(contamination * n + 1e-9))
    assert (found.predict(X) == -1).sum() == count
    np.testing.assert_array_equal(found.fit_predict(X), found.predict(X))
    ordered = np.sort(found.training_scores_)
    if count:
        assert found.offset_ == pytest.approx((ordered[count - 1] + ordered[count]) / 2)
    else:
        assert ordered[0] * (1 + 1e-6) < found.offset_ < ordered[0]


def test_offset_of_auto_calls_as_many_outliers_as_the_filter_left_out() -> None:
    X = contaminated()
    found = SpectralOutlierDetector("auto").fit(X)
    assert np.flatnonzero(~found.support_).tolist() == list(range(50))
    np.testing.assert_array_equal(found.predict(X) == -1, ~found.support_)
    assert found.contamination_ == pytest.approx(50 / 1001)
    clean = contaminated(share=0.0)
    found.fit(clean)
    assert (found.predict(clean) == 1).all()
    assert found.predict(clean + 9.0).max() == -1  # far rows are outliers all the same


def test_ties_are_not_outliers() -> None:
    """A third of the rows are one and the same: asking for fewer flags none of them."""
    X = np.vstack([contaminated(400, 3, share=0.0), np.full((200, 3), 6.0)])
    found = SpectralOutlierDetector(0.2).fit(X)
    labels = found.predict(X)
    assert len(set(labels[400:])) == 1
    assert (labels == -1).sum() <= 0.2 * 600
    same = SpectralOutlierDetector(0.2).fit(np.ones((9, 3)))
    assert (same.predict(np.ones((5, 3))) == 1).all()


def test_too_few_rows_for_any_direction() -> None:
    X = np.random.default_rng(0).standard_normal((2, 5))
    found = SpectralOutlierDetector(0.1).fit(X)
    assert found.stop_reason_ == "too_few_rows"
    np.testing.assert_array_equal(found.score_samples(X), [0.0, 0.0])
    assert (found.predict(100 * X) == 1).all()


def test_the_first_columns_decide_nothing_about_order() -> None:
    """Oracle: scores do not change when rows are permuted, up to rounding and the sample."""
    X = contaminated(501)
    order = np.random.default_rng(0).permutation(501)
    a = SpectralOutlierDetector().fit(X).predict(X)
    b = SpectralOutlierDetector().fit(X[order]).predict(X[order])
    assert (a[order] == b).mean() > 0.99


def test_numbers_that_overflow_are_far_out() -> None:
    X = contaminated()
    found = SpectralOutlierDetector().fit(X)
    huge = np.full((1, 31), 1e200)
    assert found.score_samples(huge)[0] == -np.finfo(np.float64).max
    assert found.predict(huge)[0] == -1
    single = SpectralOutlierDetector().fit(X.astype(np.float32))
    assert np.isfinite(single.score_samples(np.full((1, 31), 3e38, np.float32))[0])


# --- what it takes and refuses --------------------------------------------------------------------


def test_torch_tensors_give_torch_tensors() -> None:
    torch = pytest.importorskip("torch")
    X = contaminated()
    expected = SpectralOutlierDetector().fit(X)
    tensor = torch.from_numpy(X)
    found = SpectralOutlierDetector().fit(tensor)
    for method in ("score_samples", "decision_function", "predict", "fit_predict"):
        values = getattr(found, method)(tensor)
        assert isinstance(values, torch.Tensor), method
        wanted = getattr(expected, method)(X)
        np.testing.assert_allclose(values.numpy(), wanted, rtol=1e-12)
    assert found.predict(tensor).dtype == torch.int64
    assert found.score_samples(tensor.float()).dtype == torch.float32
    np.testing.assert_array_equal(found.predict(X), expected.predict(X))  # and arrays later


@pytest.mark.parametrize(
    ("contamination", "error"),
    [(0.0, ValueError), (-0.1, ValueError), (0.5, ValueError), ("all", (TypeError, ValueError))],
)
def test_contamination_out_of_range(contamination: Any, error: Any) -> None:
    with pytest.raises(error, match="contamination: expected"):
        SpectralOutlierDetector(contamination).fit(np.zeros((9, 2)))


@pytest.mark.parametrize("method", ["score_samples", "decision_function", "predict"])
def test_bad_rows(method: str) -> None:
    unfitted = getattr(SpectralOutlierDetector(), method)
    with pytest.raises(ValueError, match="this SpectralOutlierDetector is not fitted yet"):
        unfitted(np.zeros((3, 2)))
    X = contaminated()
    call = getattr(SpectralOutlierDetector().fit(X), method)
    with pytest.raises(ValueError, match="X has 2 features, but SpectralOutlierDetector is exp"):
        call(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="X: expected a 2D array"):
        call(X[0])
    bad = np.zeros((20_001, 31))
    bad[19_999, 30] = np.nan
    bad[20_000, 0] = np.inf
    with pytest.raises(ValueError, match="expected finite values, got NaN in row 19999, column 30"):
        call(bad)
    with pytest.raises(ValueError, match="got -inf in row 1, column 0"):
        call(np.pad(bad[:1, :], ((0, 1), (0, 0)), constant_values=-np.inf))


def test_names_of_columns() -> None:
    pandas = pytest.importorskip("pandas")
    X = contaminated(99, 3)
    frame = pandas.DataFrame(X, columns=["a", "b", "c"])
    found = SpectralOutlierDetector().fit(frame)
    np.testing.assert_array_equal(found.predict(frame), found.fit_predict(X))
    found.fit(frame)
    with pytest.warns(UserWarning, match="fit has column names, X has none"):
        found.predict(X)
    with pytest.raises(ValueError, match="in the same order as they were in fit"):
        found.predict(frame[["b", "a", "c"]])
    with pytest.raises(ValueError, match=r"unseen at fit time:\n- d\n"):
        found.predict(frame.rename(columns={"c": "d"}))
    with pytest.raises(TypeError, match="column names that are all strings or none"):
        found.fit(frame.rename(columns={"c": 3}))
    found.fit(X)
    with pytest.warns(UserWarning, match="X has column names, fit has none"):
        found.predict(frame)


# --- scikit-learn ---------------------------------------------------------------------------------

checks = pytest.importorskip("sklearn.utils.estimator_checks")


@checks.parametrize_with_checks([SpectralOutlierDetector(), SpectralOutlierDetector(rule="soft")])
def test_scikit_learn_checks(estimator: Any, check: Any) -> None:
    """Oracle: scikit-learn's own checks; none is expected to fail."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # their data, their warnings
        check(estimator)


@checks.parametrize_with_checks(
    [SpectralOutlierDetector("auto")],
    expected_failed_checks=lambda estimator: dict.fromkeys(
        ("check_outliers_train", "check_outliers_fit_predict"),
        "wants an outlier in three clean clusters, where contamination='auto' finds none",
    ),
)
def test_scikit_learn_checks_of_auto(estimator: Any, check: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        check(estimator)


def test_in_a_pipeline_with_a_search() -> None:
    pytest.importorskip("sklearn")
    from sklearn.base import clone, is_outlier_detector
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import RobustScaler

    X = contaminated()
    y = np.where(np.arange(1001) < 50, -1, 1)
    scales = 10.0 ** np.arange(31)  # units that have nothing to do with one another
    pipeline = make_pipeline(RobustScaler(), SpectralOutlierDetector(0.05))
    assert is_outlier_detector(pipeline)
    assert (clone(pipeline).fit_predict(X * scales) == y).all()
    search = GridSearchCV(
        pipeline,
        {"spectraloutlierdetector__rule": ["gaussian_tail", "bounded_covariance"]},
        scoring=lambda p, X, y: roc_auc_score(y, p.decision_function(X)),
        cv=StratifiedKFold(3, shuffle=True, random_state=0),
    )
    assert search.fit(X, y).best_score_ == 1.0


def test_pickle() -> None:
    X = contaminated(201, 5)
    found = SpectralOutlierDetector().fit(X)
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(again.decision_function(X), found.decision_function(X))


# --- real tables ----------------------------------------------------------------------------------


def table(data_dir: Any, name: str) -> Any:
    path = data_dir / "robust_classics" / f"{name}.csv.gz"
    return np.loadtxt(path, delimiter=",", skiprows=1)


def test_known_outliers(data_dir: Any) -> None:
    """Oracles: the outliers that the books on robust statistics name.

    Hawkins, Bradu and Kass: rows 1 to 14, made so. Star cluster CYG OB1: the giants 11, 20, 30
    and 34, which are 4 of 47. Octane: rows 25, 26 and 36 to 39, which hold alcohol.
    """
    hbk = table(data_dir, "hbk")[:, :3]
    assert np.flatnonzero(SpectralOutlierDetector("auto").fit_predict(hbk) < 0).tolist() == [
        *range(14)
    ]
    stars = table(data_dir, "starsCYG")
    labels = SpectralOutlierDetector(0.1).fit_predict(stars)
    assert (np.flatnonzero(labels < 0) + 1).tolist() == [11, 20, 30, 34]
    octane = table(data_dir, "octane")[:, 1:]
    labels = SpectralOutlierDetector("auto").fit_predict(octane)
    assert (np.flatnonzero(labels < 0) + 1).tolist() == [25, 26, 36, 37, 38, 39]


@pytest.mark.parametrize(
    ("name", "least"), [("31_satimage-2", 0.97), ("4_breastw", 0.96), ("42_WBC", 0.96)]
)
def test_auc_on_tables_with_labels(data_dir: Any, name: str, least: float) -> None:
    """Oracle: labels of the ADBench tables. Isolation forests reach .992, .987 and .995."""
    metrics = pytest.importorskip("sklearn.metrics")
    with np.load(data_dir / "adbench" / f"{name}.npz") as file:
        X, y = file["X"].astype(np.float64), file["y"]
    found = SpectralOutlierDetector("auto").fit(X)
    assert metrics.roc_auc_score(y, -found.score_samples(X)) > least


def test_the_detector_and_the_mean_agree() -> None:
    X = contaminated()
    mean, detector = RobustMean().fit(X), SpectralOutlierDetector().fit(X)
    np.testing.assert_array_equal(mean.location_, detector.location_)
    np.testing.assert_array_equal(mean.support_, detector.support_)
    np.testing.assert_array_equal(mean.scores_, -detector.training_scores_)


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_torch_scores_are_those_of_numpy_and_finite(kind: str) -> None:
    torch = pytest.importorskip("torch")
    X = contaminated(300, 4).astype(kind)
    detector = SpectralOutlierDetector("auto").fit(X)
    X[0] = np.finfo(kind).max / 8
    expected = detector.score_samples(X)
    assert np.isfinite(expected).all()
    found = _torch_scores(detector, torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5)
