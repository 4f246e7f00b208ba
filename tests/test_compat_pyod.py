"""`tamis.compat.pyod`: PyOD's conventions, in the way PyOD tests its own detectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tamis

pytest.importorskip("pyod")

from pyod.models.base import BaseDetector
from pyod.utils.data import generate_data
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from tamis.compat.pyod import QUEOutlierDetector, RobustCovariance, SpectralOutlierDetector

CLASSES = [SpectralOutlierDetector, QUEOutlierDetector, RobustCovariance]


@pytest.fixture(scope="module")
def data() -> tuple[Any, ...]:
    """PyOD's generator: 200 + 100 rows, a tenth of them uniform over a wide square."""
    data: tuple[Any, ...] = generate_data(
        n_train=200, n_test=100, n_features=8, contamination=0.1, random_state=42
    )
    return data


@pytest.fixture(params=CLASSES)
def detector(request: Any) -> Any:
    return request.param


@pytest.fixture(params=[0.1, "auto"])
def fitted(request: Any, detector: Any, data: tuple[Any, ...]) -> Any:
    return detector(contamination=request.param).fit(data[0])


def test_parameters_and_attributes(fitted: Any) -> None:
    assert isinstance(fitted, BaseDetector)
    assert fitted.decision_scores_.shape == fitted.labels_.shape == (200,)
    assert np.isscalar(fitted.threshold_)
    for name in ("_mu", "_sigma", "_classes", "contamination"):
        assert getattr(fitted, name) is not None


def test_scores_are_higher_for_more_abnormal_rows(fitted: Any, data: tuple[Any, ...]) -> None:
    """Oracle: the labels of the generator, and tamis's own detector with the opposite sign."""
    X, X_test, y, y_test = data
    assert roc_auc_score(y, fitted.decision_scores_) > 0.99
    scores = fitted.decision_function(X_test)
    assert scores.shape == (100,)
    assert roc_auc_score(y_test, scores) > 0.99
    own = getattr(tamis, type(fitted).__name__)(fitted.contamination).fit(X)
    np.testing.assert_array_equal(scores, -own.score_samples(X_test))
    np.testing.assert_allclose(fitted.decision_function(X), fitted.decision_scores_, rtol=1e-10)


def test_labels_and_threshold(fitted: Any, data: tuple[Any, ...]) -> None:
    """Oracle: PyOD's definitions; and 20 outliers, which is what is in the data ("auto" flags
    rows at a false discovery rate of 2%: at most one more).
    """
    X, X_test, y, _ = data
    expected = (fitted.decision_scores_ > fitted.threshold_).astype(int)
    np.testing.assert_array_equal(fitted.labels_, expected)
    assert (fitted.labels_ != y).sum() <= (fitted.contamination == "auto")
    assert fitted.labels_[y == 1].all()
    if fitted.contamination != "auto":
        assert fitted.threshold_ == pytest.approx(np.percentile(fitted.decision_scores_, 90))
    labels = fitted.predict(X_test)
    np.testing.assert_array_equal(labels, fitted.decision_function(X_test) > fitted.threshold_)
    assert labels.dtype.kind == "i"
    np.testing.assert_array_equal(fitted.predict(X), fitted.labels_)


def test_probabilities_and_confidence(fitted: Any, data: tuple[Any, ...]) -> None:
    X_test = data[1]
    for method in ("linear", "unify"):
        p = fitted.predict_proba(X_test, method=method)
        assert p.shape == (100, 2)
        assert p.min() >= 0.0
        assert p.max() <= 1.0
        np.testing.assert_allclose(p.sum(axis=1), 1.0)
        order = np.argsort(fitted.decision_function(X_test))
        assert (np.diff(p[order, 1]) >= 0).all()
    with pytest.raises(ValueError, match="probability conversion"):
        fitted.predict_proba(X_test, method="something")
    labels, confidence = fitted.predict(X_test, return_confidence=True)
    np.testing.assert_array_equal(labels, fitted.predict(X_test))
    assert confidence.shape == (100,)
    assert ((confidence >= 0) & (confidence <= 1)).all()
    np.testing.assert_array_equal(confidence, fitted.predict_confidence(X_test))
    p, again = fitted.predict_proba(X_test, return_confidence=True)
    np.testing.assert_array_equal(again, confidence)


def test_ranks(fitted: Any, data: tuple[Any, ...]) -> None:
    ranks = fitted._predict_rank(data[1], normalized=True)
    assert ranks.min() >= 0.0
    assert ranks.max() <= 1.0
    order = np.argsort(fitted.decision_function(data[1]))
    assert (np.diff(ranks[order]) >= 0).all()


@pytest.mark.parametrize("contamination", [0.1, "auto"])
def test_clone_and_parameters(contamination: Any, detector: Any, data: tuple[Any, ...]) -> None:
    """Oracle: the parameters of tamis's own estimator, all of them."""
    own = getattr(tamis, detector.__name__)
    changed: dict[Any, dict[str, Any]] = {
        SpectralOutlierDetector: {"rule": "soft"},
        QUEOutlierDetector: {"alpha": 2.0, "rounds": 2},
        RobustCovariance: {"rule": "bounded", "max_rounds": 9},
    }
    made = detector(contamination, random_state=3, **changed[detector])
    assert made.get_params() == own(contamination, random_state=3, **changed[detector]).get_params()
    copy = clone(made)
    assert copy.get_params() == made.get_params()
    assert copy.get_params()["contamination"] == contamination
    assert clone(made.fit(data[0])).fit(data[0]).threshold_ == made.threshold_


def test_limits_of_contamination(detector: Any, data: tuple[Any, ...]) -> None:
    """PyOD allows (0, 0.5], tamis [0, 0.5)."""
    half = detector(contamination=0.5).fit(data[0])
    assert half.labels_.sum() == 100
    for wrong in (0.0, -0.1, 0.51):
        with pytest.raises(ValueError, match="contamination must be in"):
            detector(contamination=wrong)
    with pytest.raises(TypeError, match="contamination: expected a number"):
        detector(contamination="most").fit(data[0])


def test_labels_given_to_fit_are_ignored_with_a_warning(
    detector: Any, data: tuple[Any, ...]
) -> None:
    with pytest.warns(UserWarning, match="y should not be presented"):
        found = detector().fit(data[0], data[2])
    np.testing.assert_array_equal(found.decision_scores_, detector().fit(data[0]).decision_scores_)


def test_bad_input(detector: Any, data: tuple[Any, ...]) -> None:
    X = data[0].copy()
    X[17, 2] = np.nan
    with pytest.raises(ValueError, match="in row 17, column 2"):
        detector().fit(X)
    with pytest.raises(ValueError, match="not fitted"):
        detector().predict(data[0])
    with pytest.raises(ValueError, match="X has 3 features"):
        detector().fit(data[0]).decision_function(data[1][:, :3])


def test_beside_other_detectors(detector: Any, data: tuple[Any, ...]) -> None:
    """PyOD combines detectors by standardised scores, all of one sign."""
    from pyod.models.ecod import ECOD
    from pyod.utils.utility import standardizer

    X, X_test, _, y_test = data
    detectors = [detector().fit(X), ECOD().fit(X)]
    train = np.array([d.decision_scores_ for d in detectors]).T
    test = np.array([d.decision_function(X_test) for d in detectors]).T
    _, scaled = standardizer(train, test)
    assert roc_auc_score(y_test, scaled.mean(axis=1)) > 0.9
