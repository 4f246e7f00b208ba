"""Tables full of ties: what is found does not depend on the order of the rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tamis
from tamis.estimators._order import order_by_value


def one_hot(n: int, sizes: tuple[int, ...], seed: int) -> Any:
    generator = np.random.default_rng(seed)
    parts = [np.eye(k)[generator.choice(k, n, p=generator.dirichlet(np.ones(k)))] for k in sizes]
    return np.hstack(parts)


def small_numbers(n: int, d: int, seed: int) -> Any:
    generator = np.random.default_rng(seed)
    X = generator.integers(0, 5, (n, d)).astype(float)
    X[: n // 12] += generator.integers(0, 3, d)
    return X


TABLES = {
    "one-hot": lambda: one_hot(500, (4, 5, 2), 0),
    "one-hot, many columns": lambda: one_hot(400, (20, 20, 20), 1),
    "one-hot, few rows": lambda: one_hot(180, (3, 5), 3),
    "numbers": lambda: small_numbers(500, 8, 2),
    "numbers, float32": lambda: small_numbers(300, 4, 3).astype(np.float32),
}
DETECTORS: dict[str, Callable[[], Any]] = {
    "covariance": lambda: tamis.RobustCovariance("auto"),
    "covariance, .02": lambda: tamis.RobustCovariance(0.02),
    "bounded": lambda: tamis.RobustCovariance("auto", rule="bounded"),
    "que": lambda: tamis.QUEOutlierDetector(0.1, rounds=3),
    "spectral": lambda: tamis.SpectralOutlierDetector("auto"),
    "spectral, .05": lambda: tamis.SpectralOutlierDetector(0.05),
    "pca": lambda: tamis.RobustPCA(2),
}


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("table", TABLES)
def test_order_decides_nothing(detector: str, table: str) -> None:
    X = TABLES[table]()
    expected = DETECTORS[detector]().fit(X)
    scores = expected.score_samples(X)
    rtol = 1e-7 if X.dtype == np.float64 else 1e-3
    for seed in range(2):
        order = np.random.default_rng(seed).permutation(len(X))
        found = DETECTORS[detector]().fit(X[order])
        np.testing.assert_array_equal(found.support_, expected.support_[order])
        got = found.score_samples(X[order])
        np.testing.assert_allclose(got, scores[order], rtol=rtol, atol=rtol * np.abs(scores).max())
        if hasattr(found, "offset_"):
            np.testing.assert_array_equal(found.predict(X), expected.predict(X))


@pytest.mark.parametrize("detector", DETECTORS)
def test_equal_rows_share_one_fate(detector: str) -> None:
    X = one_hot(500, (4, 5, 2), 0)
    support = DETECTORS[detector]().fit(X).support_
    for row in np.unique(X, axis=0):
        assert len(set(support[(row == X).all(axis=1)].tolist())) == 1


def test_the_order_is_that_of_the_values() -> None:
    X = small_numbers(600, 5, 0)
    order = order_by_value(X)
    assert order is not None
    assert np.array_equal(np.sort(order.rows), np.arange(600))
    assert len(order.starts) == len(np.unique(X, axis=0))
    moved = np.random.default_rng(0).permutation(600)
    other = order_by_value(np.where(X == 0.0, -0.0, X)[moved])
    assert other is not None
    np.testing.assert_array_equal(X[moved][other.rows], X[order.rows])
    np.testing.assert_array_equal(order.back(X[order.rows]), X)
    runs = order.alike(np.arange(600.0))
    assert len(np.unique(runs)) == len(order.starts)
    assert runs[-1] == 599.0
    assert order_by_value(np.c_[X, np.random.default_rng(0).random(600)]) is None
    X[3, 1] = np.nan
    assert order_by_value(X) is None
    assert order_by_value(X[:2]) is None


def test_the_mean_and_the_detector_agree_and_name_the_bad_row() -> None:
    torch = pytest.importorskip("torch")
    X = small_numbers(500, 8, 2)
    mean, detector = tamis.RobustMean("auto").fit(X), tamis.SpectralOutlierDetector("auto").fit(X)
    np.testing.assert_array_equal(mean.support_, detector.support_)
    np.testing.assert_allclose(mean.weights_ @ X / mean.weights_.sum(), mean.location_)
    assert mean.contamination_ == pytest.approx(1.0 - mean.weights_.mean())
    tensor = tamis.RobustMean("auto").fit(torch.from_numpy(X))
    np.testing.assert_array_equal(tensor.weights_.numpy(), mean.weights_)
    np.testing.assert_array_equal(tensor.location_.numpy(), mean.location_)
    X[7, 3] = np.nan
    with pytest.raises(ValueError, match=r"NaN in row 7, column 3.*drop or fill"):
        tamis.RobustMean().fit(X)
