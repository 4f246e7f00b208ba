"""`tamis.que_scores` and `tamis.QUEOutlierDetector`."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pytest

import tamis
from published_mixtures import for_que
from tamis import QUEOutlierDetector, que_scores, reference


def spiked(k: int = 4, d: int = 128, seed: int = 0, ambient: float = 1.0) -> Any:
    return for_que(k, d, np.random.default_rng(seed), ambient)


def ranks(a: Any) -> Any:
    return np.argsort(np.argsort(a))


@pytest.mark.parametrize("alpha", [0.0, 4.0, 60.0])
def test_exact_scores_are_those_of_the_twin(alpha: float) -> None:
    X, _ = spiked(2, 31)
    np.testing.assert_allclose(que_scores(X, alpha), reference.que_scores(X, alpha), rtol=1e-9)
    single = que_scores(X.astype(np.float32), alpha)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, reference.que_scores(X, alpha), rtol=2e-3, atol=1e-5)


def test_limits_in_alpha() -> None:
    X, _ = spiked(3, 33)
    gap = X - X.mean(axis=0)
    assert (ranks(que_scores(X, 0.0)) == ranks(np.square(gap).sum(axis=1))).mean() > 0.999
    top = np.linalg.eigh(gap.T @ gap)[1][:, -1]
    naive = np.square(gap @ top)
    assert np.corrcoef(ranks(que_scores(X, 5000.0)), ranks(naive))[0, 1] > 0.999
    assert np.isfinite(que_scores(X, 1e9)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sketch_gets_better_with_its_rows(dtype: Any) -> None:
    """Oracle: the exact scores. All directions give those, but for rounding in products."""
    X, _ = spiked(4, 128)
    exact = que_scores(X)
    errors = []
    for count in (8, 32, 64, 128):
        s = que_scores(X.astype(dtype), method="sketch", n_rows=count)
        assert s.dtype == dtype
        errors.append(float(np.mean(np.abs(s / exact - 1))))
    assert errors[0] > errors[1] > errors[2] > errors[3]
    assert errors[0] < 0.1
    assert errors[3] < (1e-9 if dtype == np.float64 else 1e-4)
    s = que_scores(X.astype(dtype), method="sketch")
    assert np.corrcoef(ranks(exact), ranks(s))[0, 1] > 0.995


def test_sketch_where_no_direction_stands_out() -> None:
    """With 2000 x 500 Gaussian rows 64 directions miss much of it; 256 are close."""
    X = np.random.default_rng(0).standard_normal((2000, 500)).astype(np.float32)
    exact = ranks(que_scores(X))
    close = [
        np.corrcoef(exact, ranks(que_scores(X, method="sketch", n_rows=count)))[0, 1]
        for count in (64, 256)
    ]
    assert close[0] > 0.7
    assert close[1] > 0.97


def test_sketch_of_few_directions() -> None:
    """Rank 3 in 40 columns, columns that repeat: the basis ends early, and is exact."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 3)) @ rng.standard_normal((3, 40))
    np.testing.assert_allclose(que_scores(X, method="sketch"), que_scores(X), rtol=1e-6)
    np.testing.assert_allclose(
        que_scores(X[:, :1], method="sketch"), que_scores(X[:, :1]), rtol=1e-9
    )
    assert np.isfinite(que_scores(X, 1e9, method="sketch")).all()


def test_synthetic_targets() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    X, y = spiked(4)
    auc = metrics.roc_auc_score(y, que_scores(X))
    gap = X - X.mean(axis=0)
    naive = np.square(gap @ np.linalg.eigh(gap.T @ gap)[1][:, -1])
    assert auc >= 0.97
    assert auc > metrics.roc_auc_score(y, naive) + 0.25
    assert auc > metrics.roc_auc_score(y, np.square(gap).sum(axis=1))


@pytest.mark.parametrize("method", ["exact", "sketch"])
def test_bad_arguments(method: Any) -> None:
    X = np.random.default_rng(0).standard_normal((40, 3))
    for bad, match in (
        ({"alpha": -1.0}, "alpha: expected a finite number"),
        ({"alpha": np.inf}, "alpha: expected"),
        ({"n_rows": 0}, "n_rows: expected"),
        ({"seed": -1}, "seed: expected"),
    ):
        with pytest.raises(ValueError, match=match):
            que_scores(X, method=method, **bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="method: expected one of exact, sketch"):
        que_scores(X, method="fast")  # type: ignore[arg-type]
    bad_row = X.copy()
    bad_row[7, 1] = np.inf
    with pytest.raises(ValueError, match="got inf in row 7, column 1"):
        que_scores(bad_row, method=method)
    assert (que_scores(np.ones((5, 4)), method=method) == 0).all()
    with pytest.raises(ValueError, match="X: expected values whose squares"):
        que_scores(X * 1e200, method=method)


def test_detector() -> None:
    X, y = spiked(2, 40)
    X = X * 10.0 ** np.linspace(-3, 3, 40)
    given = QUEOutlierDetector(0.2, whiten=X[y == 0]).fit(X)
    assert ((given.predict(X) == -1) == (y == 1)).mean() > 0.9
    assert (given.predict(X) == -1).sum() == int(0.2 * len(X))
    cluster = np.random.default_rng(0).standard_normal((1000, 20)) * 10.0 ** np.linspace(-3, 3, 20)
    cluster[:50] += 4.0 * cluster.std(axis=0)
    robust = QUEOutlierDetector(0.05).fit_predict(cluster)
    assert (np.flatnonzero(robust == -1) < 50).all()
    found = QUEOutlierDetector(0.2, rounds=3).fit(X)
    decision = found.decision_function(X)
    np.testing.assert_allclose(found.score_samples(X), found.training_scores_, rtol=1e-9)
    np.testing.assert_array_equal(found.fit_predict(X), np.where(decision >= 0, 1, -1))
    assert found.explain(0).score == pytest.approx(-found.score_samples(X[:1])[0])
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(again.decision_function(X), decision)
    plain = QUEOutlierDetector(0.2, whiten="none").fit(X)
    np.testing.assert_array_equal(ranks(-plain.training_scores_), ranks(que_scores(X)))


@pytest.mark.parametrize(
    ("dtype", "exponent"), [(np.float32, -65), (np.float32, -100), (np.float64, -600)]
)
@pytest.mark.parametrize("contamination", [0.04, "auto"])
def test_rows_whose_squares_underflow(dtype: Any, exponent: int, contamination: Any) -> None:
    """A power of two rounds nothing, so scores may differ by one only."""
    X = np.random.default_rng(0).standard_normal((500, 8)).astype(dtype)
    X[:20] += 3.0
    small = np.ldexp(X, exponent)
    for method in ("exact", "sketch"):
        ratio = que_scores(small, method=method) / que_scores(X, method=method)
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)
        assert np.frexp(np.median(ratio))[0] == pytest.approx(0.5, rel=1e-5)
    if contamination == "auto" and dtype == np.float64:
        return  # the covariance of such rows is no number
    detector = QUEOutlierDetector(contamination, whiten="none", rounds=2)
    expected, deviations = detector.fit_predict(X), detector.explain(0).deviations
    np.testing.assert_array_equal(detector.fit(small).predict(small), expected)
    np.testing.assert_array_equal(detector.score_samples(small), detector.training_scores_)
    assert detector.explain(0).deviations == pytest.approx(deviations)
    constant = np.full((9, 3), 1e-30, dtype)
    assert not que_scores(constant).any()
    assert (detector.fit_predict(constant) == 1).all()


def test_one_far_cluster_does_not_hide_the_other_directions() -> None:
    """Oracle: the labels. As published, the mean moves and one eigenvalue takes all the weight."""
    X = np.random.default_rng(0).standard_normal((2000, 10))
    X[:60, 0] += 1000.0
    X[60:100] += 5.0
    robust = QUEOutlierDetector(0.05).fit(X).training_scores_
    assert set(np.argsort(robust)[:100].tolist()) == set(range(100))
    published = QUEOutlierDetector(0.05, whiten="none").fit(X).training_scores_
    assert len(set(np.argsort(published)[:100].tolist()) & set(range(60, 100))) < 20


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"contamination": 0.0}, "contamination: expected a number in"),
        ({"contamination": "all"}, "contamination: expected a number or 'auto'"),
        ({"contamination": 0.5}, "contamination: expected"),
        ({"alpha": -1.0}, "alpha: expected"),
        ({"rounds": 0}, "rounds: expected"),
        ({"whiten": "pca"}, "whiten: expected 'robust', 'none' or an array"),
        ({"whiten": np.ones((4, 2))}, "whiten: expected 3 columns, got 2"),
    ],
)
def test_parameters_out_of_range(parameters: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        QUEOutlierDetector(**parameters).fit(np.random.default_rng(0).standard_normal((30, 3)))


@pytest.mark.parametrize("seed", [0, 1])
def test_as_a_rule_of_the_filter(seed: int) -> None:
    """Oracle: the labels. Bad rows along six axes, 50 each; the twin alone has the rule."""
    X = np.random.default_rng(seed).standard_normal((3000, 20))
    X[np.arange(300), np.arange(300) % 6] += 6.0
    found = reference.iterative_filter(X, 0.1, rule="que", assume="scale")
    assert found.stop_reason == "eigenvalue_explained"
    assert (found.weights[:300] == 0).mean() > 0.9
    assert (found.weights[300:] == 0).mean() < 0.01
    clean = np.linalg.norm(X[300:].mean(axis=0))
    assert np.linalg.norm(found.mean) < 1.1 * clean < 0.6 * np.linalg.norm(X.mean(axis=0))
    one = reference.iterative_filter(X, 0.1, rule="que", prune=False, max_rounds=1)
    dropped = np.argsort(-reference.que_scores(X))[:75]  # a quarter of the contamination
    np.testing.assert_array_equal(np.flatnonzero(one.weights == 0), np.sort(dropped))
    with pytest.raises(ValueError, match="rule: expected"):
        tamis.iterative_filter(X, rule="que")  # type: ignore[arg-type]


def test_torch_rows() -> None:
    torch = pytest.importorskip("torch")
    X, _ = spiked(1, 8)
    assert isinstance(que_scores(torch.from_numpy(X)), torch.Tensor)
    found = QUEOutlierDetector(0.2).fit(torch.from_numpy(X))
    expected = QUEOutlierDetector(0.2).fit(X)
    np.testing.assert_array_equal(found.predict(torch.from_numpy(X)).numpy(), expected.predict(X))
    assert tamis.que_scores is que_scores


checks = pytest.importorskip("sklearn.utils.estimator_checks")


@checks.parametrize_with_checks([QUEOutlierDetector()])
def test_scikit_learn_checks(estimator: Any, check: Any) -> None:
    """Oracle: scikit-learn's own checks; none is expected to fail."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        check(estimator)
