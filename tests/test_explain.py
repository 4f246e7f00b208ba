"""`explain` of the detectors: which direction made a row suspicious, which features carry it."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from tamis import QUEOutlierDetector, RobustCovariance, SpectralOutlierDetector
from tamis.estimators._explanation import parts_of_form

DETECTORS = [
    SpectralOutlierDetector("auto"),
    RobustCovariance("auto"),
    QUEOutlierDetector("auto"),
    QUEOutlierDetector(0.1, whiten="none"),
]


def rows() -> Any:
    """Columns 2 and 4 nearly agree, except in row 5; row 9 is far out in column 1."""
    X = np.random.default_rng(3).standard_normal((600, 6)) + 7.0
    X[:, 4] = X[:, 2] + 0.1 * X[:, 4]
    X[5, 2] += 2.0
    X[9, 1] -= 30.0
    return X


def ids(detector: Any) -> str:
    return f"{type(detector).__name__}-{getattr(detector, 'whiten', '')}"


@pytest.mark.parametrize("detector", DETECTORS, ids=ids)
def test_parts_sum_to_the_score_and_name_the_feature(detector: Any) -> None:
    """Oracle: score_samples, and how the rows were made."""
    X = rows()
    found = detector.fit(X)
    for number in (0, 5, 9, -1):
        why = found.explain(number)
        assert why.score == pytest.approx(-found.score_samples(X[[number]])[0], rel=1e-9)
        assert why.contributions.sum() == pytest.approx(why.score, rel=1e-9)
        assert why.outlier == (found.predict(X[[number]])[0] == -1)
        assert why.deviations >= 0
        assert 0 <= why.share <= 1
        assert np.linalg.norm(why.direction) == pytest.approx(1)
    far = found.explain(9)
    assert far.top(1)[0][0] == "1"
    assert far.direction[1] < -0.3  # towards the row
    assert far.deviations > 5
    assert "an outlier" in str(far)
    assert str(far).splitlines()[2].split()[0] == "1"


@pytest.mark.parametrize("detector", DETECTORS[1:3], ids=ids)
def test_a_broken_correlation_is_carried_by_both_features(detector: Any) -> None:
    """Row 5 is ordinary in each column; the direction e_2 - e_4 gives it away."""
    found = detector.fit(rows())
    why = found.explain(5)
    assert {name for name, _ in why.top(2)} == {"2", "4"}
    assert why.direction[2] * why.direction[4] < -0.3
    assert why.deviations > 10


def test_distance_is_the_deviation_along_one_direction() -> None:
    """Oracle: Cauchy and Schwarz: (v' gap)^2 / (v' C v) is largest, the squared distance, there."""
    X = rows()
    found = RobustCovariance("auto").fit(X)
    why = found.explain(5)
    gap = X[5] - found.location_
    spread = np.sqrt(why.direction @ found.covariance_ @ why.direction)
    assert why.direction @ gap / spread == pytest.approx(why.deviations)
    assert why.score == pytest.approx(why.deviations**2)


def test_parts_without_correlation_are_the_terms_of_the_sum() -> None:
    """Oracle: a diagonal form; and the split does not depend on the units of the features."""
    rng = np.random.default_rng(0)
    gap, scale = rng.standard_normal(5), 10.0 ** np.arange(-2, 3)
    parts = parts_of_form(gap * scale, np.diag(1 / scale)[:, ::-1], scale)
    np.testing.assert_allclose(parts, gap**2)
    root = rng.standard_normal((5, 3))
    a = parts_of_form(gap, root, np.ones(5))
    np.testing.assert_allclose(parts_of_form(gap * scale, root / scale[:, None], scale), a)
    np.testing.assert_allclose(a.sum(), np.square(gap @ root).sum())


def test_outside_the_ball() -> None:
    X = np.random.default_rng(0).standard_normal((300, 4))
    X[3] = 1e6
    found = SpectralOutlierDetector("auto").fit(X)
    why = found.explain(3)
    assert (why.direction > 0.3).all()
    assert why.contributions.sum() == pytest.approx(-found.score_samples(X[[3]])[0])


@pytest.mark.parametrize("detector", DETECTORS, ids=ids)
def test_rows_and_numbers(detector: Any) -> None:
    X = rows()
    found = detector.fit(X)
    expected = found.explain(9).contributions
    np.testing.assert_array_equal(found.explain(X[9]).contributions, expected)
    np.testing.assert_array_equal(found.explain(np.int64(9)).contributions, expected)
    np.testing.assert_array_equal(found.explain(X[9].tolist()).contributions, expected)
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(again.explain(X[9]).contributions, expected)
    with pytest.raises(ValueError, match="row: the rows of fit are not kept"):
        again.explain(9)
    with pytest.raises(IndexError, match="row: expected a number below 600, got 600"):
        found.explain(600)
    with pytest.raises(ValueError, match="row: expected 6 numbers, got 5"):
        found.explain(X[9, :5])
    with pytest.raises(ValueError, match="row: expected an integer or shape"):
        found.explain(X[:2])
    with pytest.raises(ValueError, match="row: expected finite values, got NaN"):
        found.explain(np.full(6, np.nan))
    for large in (1e160, 1e300):
        with pytest.raises(ValueError, match=r"row: expected values whose squares are finite"):
            found.explain(np.full(6, large))
    with pytest.raises(ValueError, match="not fitted yet"):
        type(detector)().explain(0)


def test_names_of_columns() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(rows(), columns=list("abcdef"))
    why = QUEOutlierDetector(0.1).fit(frame).explain(9)
    assert why.names == tuple("abcdef")
    assert why.top(1)[0][0] == "b"


def test_torch_rows() -> None:
    torch = pytest.importorskip("torch")
    X = rows()
    for detector in DETECTORS:
        expected = detector.fit(X).explain(9).contributions
        found = detector.fit(torch.from_numpy(X))
        np.testing.assert_allclose(found.explain(9).contributions, expected, rtol=1e-9)
        np.testing.assert_allclose(found.explain(torch.from_numpy(X)[9]).score, expected.sum())


def test_nothing_to_explain() -> None:
    """All rows the same: score 0, no direction."""
    X = np.ones((9, 3))
    for detector in DETECTORS:
        why = detector.fit(X).explain(0)
        assert why.score == 0
        assert not why.outlier
        assert str(why).startswith("score 0")
