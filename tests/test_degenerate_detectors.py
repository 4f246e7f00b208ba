"""Detectors where clean rows do not vary in some direction, or are few: gross values are found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tamis
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
