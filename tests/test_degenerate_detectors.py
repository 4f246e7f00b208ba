"""Detectors where clean rows do not vary in some direction, or are few: gross values are found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tamis
from tamis.estimators._constant_columns import gross_values
from tamis.estimators._moments import moments, shrunk, shrunk_variances

DETECTORS = [tamis.RobustCovariance("auto"), tamis.QUEOutlierDetector("auto")]


def called(detector: Any, X: Any) -> Any:
    return detector.fit(X).predict(X) == -1


def noise(n: int, d: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((n, d))


@pytest.mark.parametrize("detector", DETECTORS, ids=["covariance", "que"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("n", "d"), [(60, 10), (200, 10), (2000, 10)])
def test_gross_values_in_a_constant_column(detector: Any, dtype: Any, n: int, d: int) -> None:
    X = noise(n, d).astype(dtype)
    X[:, 0] = 7.0
    bad = 3 * n // 100 or 1
    X[:bad, 0] = 1000.0
    out = called(detector, X)
    assert out[:bad].all()
    assert out[bad:].mean() < 0.02
    assert np.array_equal(np.sort(np.argsort(detector.score_samples(X))[:bad]), np.arange(bad))


@pytest.mark.parametrize("detector", DETECTORS, ids=["covariance", "que"])
def test_rows_that_break_an_equality(detector: Any) -> None:
    X = noise(2000, 10)
    X[:, 1] = 2.0 * X[:, 0]
    X[:30, 1] += 0.5  # within the range of the column
    out = called(detector, X)
    assert out[:30].all()
    assert out[30:].mean() < 0.02


def test_rows_that_leave_the_subspace_of_good_rows() -> None:
    good = noise(500, 6)
    good[:, 2] = 1.0
    X = noise(300, 6, 1)
    X[:, 2] = 1.0
    X[4, 2] = 1.5
    detector = tamis.QUEOutlierDetector(0.05, whiten=good).fit(X)
    assert int(np.argmin(detector.training_scores_)) == 4


def test_whitened_coordinates_and_back() -> None:
    X = noise(400, 5)
    X[:, 3] = X[:, 2] - X[:, 1]
    X[:, 4] = 3.0
    kept = np.arange(400) >= 20
    X[:20, 3] += 1.0
    X[:10, 4] = 4.0
    found = moments(X, kept, False)
    assert (found.rank, found.inside, found.outside) == (3, 3, 2)
    gaps = X - found.mean
    np.testing.assert_allclose(gaps @ found.whiten @ found.back, gaps, atol=1e-9)
    out = gaps @ found.whiten[:, 3:]
    np.testing.assert_allclose(out[kept], 0.0, atol=1e-9)
    np.testing.assert_allclose(np.square(out).sum(), 2 * 400)  # a second moment of 1 in each


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_float32_rows_keep_their_directions(offset: float) -> None:
    X = 0.2 * noise(60_000, 12) + noise(60_000, 1, 1) + offset
    wide = tamis.RobustCovariance("auto").fit(X)
    narrow = tamis.RobustCovariance("auto").fit(X.astype(np.float32))
    np.testing.assert_allclose(narrow.dist_, wide.dist_, rtol=2e-2)


def test_float32_rounding_spans_nothing() -> None:
    X = noise(1000, 4)
    X = np.c_[X, X.sum(axis=1)].astype(np.float32)
    assert moments(X, np.ones(1000, dtype=bool), False).rank == 4


@pytest.mark.parametrize("detector", DETECTORS, ids=["covariance", "que"])
@pytest.mark.parametrize(("n", "d"), [(6, 3), (20, 60), (50, 60), (30, 300)])
def test_few_rows_of_noise_stay(detector: Any, n: int, d: int) -> None:
    for seed in range(4):
        assert called(detector, noise(n, d, seed)).sum() <= 0.05 * n


@pytest.mark.parametrize("detector", DETECTORS, ids=["covariance", "que"])
@pytest.mark.parametrize(("n", "d"), [(100, 200), (60, 300), (200, 150)])
def test_a_cluster_among_few_rows_goes(detector: Any, n: int, d: int) -> None:
    X = noise(n, d)
    X[:6] += 1.5
    out = called(detector, X)
    assert out[:6].all()
    assert not out[6:].any()


def test_a_form_that_chance_found_hides_no_cluster() -> None:
    """Of forms of few rows, every other table has one that rejects a row or two of them."""
    found = []
    for seed in range(8):
        X = noise(60, 300, seed)
        X[:6] += 1.5
        out = called(tamis.RobustCovariance("auto"), X)
        found.append(out[:6].all())
        assert out[6:].sum() <= 3
    assert all(found)


def test_shrinkage_is_that_of_ledoit_and_wolf() -> None:
    reference = pytest.importorskip("sklearn.covariance").ledoit_wolf
    X = noise(40, 60) * np.linspace(1.0, 3.0, 60)
    gap = X - X.mean(axis=0)
    C = reference(X)[0]
    values = np.linalg.eigvalsh(gap.T @ gap / 40)
    found = shrunk_variances(values, np.square(gap).sum(axis=1), 60)
    np.testing.assert_allclose(found, np.linalg.eigvalsh(C))
    kept = np.ones(40, dtype=bool)
    found = shrunk(X / X.std(axis=0), kept, moments(X / X.std(axis=0), kept, False))
    np.testing.assert_allclose(found.covariance, reference(X / X.std(axis=0))[0], atol=1e-9)
    np.testing.assert_allclose(
        found.whiten @ found.whiten.T @ found.covariance, np.eye(60), atol=1e-7
    )


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_spectral_scores_are_not_those_of_rounding(dtype: Any) -> None:
    few = noise(5, 6).astype(dtype)
    same = np.repeat(noise(3, 4), [20, 10, 5], axis=0).astype(dtype)
    for X in (few, same):
        detector = tamis.SpectralOutlierDetector("auto").fit(X)
        np.testing.assert_allclose(detector.score_samples(X), detector.training_scores_, rtol=1e-5)
    assert len(np.unique(np.round(detector.training_scores_, 4))) == 3


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("n", "d", "unit"), [(50, 4, 1.0), (400, 10, 1e-30), (3000, 40, 1e6)])
def test_spectral_sees_a_gross_value_in_a_constant_column(
    dtype: Any, n: int, d: int, unit: float
) -> None:
    X = (noise(n, d) * unit).astype(dtype)
    X[:, 1] = 3.0 * unit
    clean = called(tamis.SpectralOutlierDetector("auto"), X)
    X[7, 1] = 13.0 * unit
    detector = tamis.SpectralOutlierDetector("auto").fit(X)
    out = detector.predict(X) == -1
    assert out[7]
    assert not detector.support_[7]
    assert out.sum() <= clean.sum() + 1
    np.testing.assert_array_equal(detector.training_scores_, detector.score_samples(X))
    np.testing.assert_allclose(detector.location_[1], X[0, 1], rtol=1e-6)
    assert detector.contamination_ == pytest.approx(1.0 - detector.support_.mean())
    assert (detector.n_cuts_, detector.directions_.shape[1]) <= (d, len(detector.scales_))
    why = detector.explain(7)
    assert int(np.argmax(why.contributions)) == 1
    few = tamis.SpectralOutlierDetector(2.5 / n).fit(X)
    assert few.training_scores_[7] == few.training_scores_.min()
    assert not few.support_[7]
    assert (~few.support_).sum() <= 6


def test_spectral_gross_values_in_a_tensor() -> None:
    torch = pytest.importorskip("torch")
    X = noise(500, 6)
    X[:, 2] = 0.1
    X[:5, 2] -= 30.0
    expected = tamis.SpectralOutlierDetector("auto", rule="soft").fit(X)
    found = tamis.SpectralOutlierDetector("auto", rule="soft").fit(torch.from_numpy(X))
    assert not found.support_[:5].any()
    np.testing.assert_allclose(found.training_scores_.numpy(), expected.training_scores_)
    np.testing.assert_allclose(found.location_.numpy(), expected.location_)


def test_features_that_some_rows_have_are_no_gross_values() -> None:
    """One row of 12 has a given one of 40 features, and its size is that of the other columns."""
    generator = np.random.default_rng(0)
    some = (generator.random((1200, 40)) < 1 / 12).astype(float)
    assert gross_values(np.c_[noise(1200, 5), some]) is None
    assert gross_values(10.0 * some) is None  # more rows than are rare
    assert gross_values(noise(100, 3)) is None
    X = np.c_[noise(1200, 5), np.zeros(1200)]
    X[0, 5] = -5.0
    found = gross_values(X)
    assert found is not None
    assert np.flatnonzero(found.rows).tolist() == [0]
    assert found.columns.tolist() == [5]
    X[0, 5] = 1.7e308
    X[1, 5] = -1.7e308
    found = gross_values(X)
    assert found is not None
    assert np.flatnonzero(found.rows).tolist() == [0, 1]


@pytest.mark.parametrize("value", [1.1, 1e6 / 3.0])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_equal_rows_are_no_outliers(dtype: Any, value: float) -> None:
    X = np.full((50, 3), value, dtype)
    for detector in (*DETECTORS, tamis.SpectralOutlierDetector("auto")):
        assert not called(detector, X).any()
        assert not (detector.predict(X[:1]) == -1).any()


@pytest.mark.parametrize("constant", [3.0, 1.0 / 3.0])
def test_precision_of_columns_of_many_scales_beside_a_constant(constant: float) -> None:
    X, scale = noise(400, 4), np.array([1.0, 1e-9, 1e3, 1e-5])
    alone = tamis.RobustCovariance().fit(X)
    found = tamis.RobustCovariance().fit(np.c_[X * scale, np.full(400, constant)])
    expected = alone.precision_ / np.outer(scale, scale)
    np.testing.assert_allclose(found.precision_[:4, :4], expected, rtol=1e-9)
    assert not found.precision_[4].any()


@pytest.mark.filterwarnings("error")
def test_scores_stay_within_float32() -> None:
    X = noise(400, 5).astype(np.float32)
    X[0] = 1e38
    found = tamis.RobustCovariance(rule="bounded").fit(X)
    assert found.predict(X)[0] == -1
    np.testing.assert_allclose(found.dist_, -found.score_samples(X), rtol=1e-5)
    assert np.isfinite(found.dist_).all()
    with pytest.raises(ValueError, match=r"float32 can hold; rescale"):  # every row is 1e35 off
        tamis.QUEOutlierDetector(whiten="none").fit(X)


def test_a_score_of_zero_has_no_direction() -> None:
    for detector in (*DETECTORS, tamis.SpectralOutlierDetector("auto")):
        why = detector.fit(np.zeros((9, 3))).explain(0)
        assert (why.score, why.deviations, why.share) == (0.0, 0.0, 0.0)
        assert not why.direction.any()


@pytest.mark.parametrize("detector", DETECTORS, ids=["covariance", "que"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("n", "d"), [(100, 4), (2000, 5), (100, 200)])
def test_roundings_of_a_constant_column_are_none(detector: Any, dtype: Any, n: int, d: int) -> None:
    X = noise(n, d).astype(dtype)
    X[: n // 16] += 3.0
    constant = np.full(n, 0.3, dtype)
    expected = detector.fit(np.c_[X, constant]).support_
    scores = detector.score_samples(np.c_[X, constant])
    row = np.r_[X[0], 9.0]
    parts = detector.explain(row).contributions
    some = np.random.default_rng(1).random(n) < 0.1
    constant[some] = np.nextafter(constant[some], dtype(1.0))
    assert np.array_equal(detector.fit(np.c_[X, constant]).support_, expected)
    np.testing.assert_allclose(detector.score_samples(np.c_[X, constant]), scores, rtol=1e-4)
    np.testing.assert_allclose(detector.explain(row).contributions, parts, rtol=1e-4, atol=1e-6)


def test_reference_rows_of_another_dtype() -> None:
    tables = [noise(500, 5, 0), noise(300, 5, 1)]
    for table in tables:
        table[:, 3] = 0.1
        table[:, 4] = 2.0 * table[:, 0] - table[:, 1]
    good, X = tables
    expected = tamis.QUEOutlierDetector(0.05, whiten=good).fit(X).training_scores_
    found = tamis.QUEOutlierDetector(0.05, whiten=good).fit(X.astype(np.float32)).training_scores_
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("detector", DETECTORS, ids=["covariance", "que"])
@pytest.mark.parametrize("n", [60, 120, 240])
def test_a_column_that_others_add_up_to(detector: Any, n: int) -> None:
    X = noise(n, 6)
    X[: n // 15] += 3.0
    total = X[:, :2].sum(axis=1)
    expected = detector.fit(X).support_
    scores = detector.score_samples(X)
    for shift in (0.0, 1e3):
        for dtype in (np.float64, np.float32):
            table = (np.c_[X, total] + shift).astype(dtype)
            assert np.array_equal(detector.fit(table).support_, expected)
            if isinstance(detector, tamis.RobustCovariance):  # which no linear map changes
                np.testing.assert_allclose(detector.score_samples(table), scores, rtol=0.01)
