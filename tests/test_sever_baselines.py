"""`tamis.sever.baselines` and `tamis.sever.attacks`. Oracles: dense NumPy, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse
from scipy.sparse.linalg import aslinearoperator

from tamis.sever import OuterGradients, attacks, baselines
from test_sever import location, poisoned


@pytest.mark.parametrize("kind", ["l2", "loss", "gradient", "gradient_centered"])
@pytest.mark.parametrize("sparse", [False, True])
def test_baselines_drop_what_they_say(kind: Any, sparse: bool) -> None:
    x = poisoned()
    fit, gradients = location(x)

    def values(model: Any, rows: Any) -> Any:
        if kind == "loss":
            return ((model - x[rows]) ** 2).sum(axis=1)
        table = x[rows] if kind == "l2" else gradients(model, rows)
        return scipy.sparse.csr_matrix(table) if sparse else table

    found = baselines.remove(kind, fit, values, 300, contamination=0.1, rounds=2)
    assert int(found.support.sum()) == 300 - 15 - 15
    assert not found.support[270:].any()
    assert baselines.remove("none", fit, None, 300, contamination=0.1).support.all()


def test_ransac() -> None:
    x = poisoned()
    fit, _ = location(x)
    found = baselines.ransac(
        fit, lambda m, rows: ((m - x[rows]) ** 2).sum(axis=1), 300, contamination=0.1, sample=10
    )
    assert not found.support[270:].any()
    assert int(found.support.sum()) == 270


@pytest.mark.parametrize("kind", ["l2", "gradient", "gradient_centered"])
@pytest.mark.parametrize("per_class", [None, np.arange(300) % 2])
def test_baselines_take_what_sever_takes(kind: Any, per_class: Any) -> None:
    """Oracle: the same numbers as a float64 array, whatever holds them."""
    rng = np.random.default_rng(8)
    X, a, center = rng.normal(2.0, 1.0, size=(300, 6)), rng.normal(size=(300, 2)), np.arange(6.0)
    sparse = scipy.sparse.csr_matrix(np.where(X > 2.0, X, 0.0))
    outer = [OuterGradients(a, X, intercept=True, center=center), OuterGradients(a[:, 0], sparse)]
    whole = [rows.toarray() for rows in outer]

    def removed(values: Any) -> Any:
        return baselines.remove(
            kind, len, values, 300, contamination=0.1, rounds=2, per_class=per_class
        )

    for one, table in zip(outer, whole, strict=True):
        expected = removed(lambda m, rows, table=table: table[rows])
        for given in (
            lambda m, rows, one=one: one.take(rows),
            lambda m, rows, table=table: table[rows].tolist(),
            lambda m, rows, table=table: scipy.sparse.coo_matrix(table[rows]),
            lambda m, rows, table=table: 1e200 * table[rows],  # its squares are not finite
        ):
            found = removed(given)
            np.testing.assert_array_equal(found.support, expected.support)
            unit = found.scores.max() / expected.scores.max()
            np.testing.assert_allclose(found.scores / unit, expected.scores, rtol=1e-6)


def test_losses_may_have_an_offset() -> None:
    """Log likelihoods, say: only their differences tell who goes."""
    x = poisoned()
    fit, _ = location(x)

    def values(offset: float) -> Any:
        return lambda m, rows: ((m - x[rows]) ** 2).sum(axis=1) + offset

    expected = baselines.remove("loss", fit, values(0.0), 300, contamination=0.1)
    for offset in (1e12, -1e12, -50.0):
        found = baselines.remove("loss", fit, values(offset), 300, contamination=0.1)
        assert (found.support != expected.support).sum() <= 2  # losses are rounded to 1e-4


def test_bad_input_of_baselines() -> None:
    x = poisoned()
    fit, values = location(x)
    common: dict[str, Any] = {"contamination": 0.1}
    with pytest.raises(TypeError, match="values: expected a callable for kind 'loss'"):
        baselines.remove("loss", fit, None, 300, **common)
    with pytest.raises(ValueError, match="rounds"):
        baselines.remove("l2", fit, values, 300, rounds=-1, **common)
    with pytest.raises(ValueError, match=r"fraction: expected a number in \(0, 1\)"):
        baselines.remove("l2", fit, values, 300, fraction=2.0, **common)
    spoiled = np.zeros(300)
    spoiled[7] = np.nan
    for given, message in ((spoiled, "finite losses, got nan for the example at 7"),
                           (np.zeros((300, 2)), "one loss for each of 300")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            baselines.remove("loss", fit, lambda m, rows, given=given: given, 300, **common)
        with pytest.raises(ValueError, match=message):
            baselines.ransac(fit, lambda m, rows, given=given: given, 300, sample=5, **common)
    with pytest.raises(ValueError, match="n: expected"):
        baselines.ransac(fit, lambda m, rows: np.zeros(0), 0, sample=1, **common)
    for given, error, message in (
        (lambda m, rows: x, ValueError, "values: expected one row for each of 285 examples"),
        (lambda m, rows: x[rows, 0], ValueError, "values: expected a 2D array"),
        (lambda m, rows: aslinearoperator(x[rows]), TypeError, "values: expected an array, a spar"),
    ):
        with pytest.raises(error, match=message):
            baselines.remove("l2", fit, given, 300, **common)
    with pytest.raises(TypeError, match="values: expected an array of losses, got a csr_matrix"):
        baselines.remove(
            "loss", fit, lambda m, rows: scipy.sparse.csr_matrix(x[rows, :1]), 300, **common
        )
    everything: dict[str, Any] = {"fraction": 0.9, "rounds": 9, **common}
    with pytest.raises(ValueError, match="every example would be dropped"):
        baselines.remove("l2", fit, lambda m, rows: x[rows], 300, **everything)
    labels = np.repeat([3, 7], [299, 1])
    with pytest.raises(ValueError, match="class 7 would lose all its examples"):
        baselines.remove("l2", fit, lambda m, rows: x[rows], 300, per_class=labels, **common)


def test_attacks() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(500, 40)), rng.normal(size=500)
    bad, target = attacks.regression_attack(X, y, 50, strength=2.0)
    b = X.T @ y
    # X'y of all: b minus the mean of b (1 + noise); the noise of 50 rows, five deviations
    assert np.linalg.norm(b + bad.T @ target) < 5 * np.linalg.norm(b) / (10 * np.sqrt(50))
    assert (target == -2.0).all()
    with pytest.raises(ValueError, match="X, y: expected shapes"):
        attacks.regression_attack(X, y[:-1], 50, strength=2.0)
    labels, flipped = attacks.flip_labels(np.arange(100) % 3, 0.2)
    assert len(flipped) == 20
    assert (np.flatnonzero(labels != np.arange(100) % 3) == flipped).all()
    with pytest.raises(ValueError, match="two classes"):
        attacks.flip_labels(np.zeros(5), 0.2)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"X": scipy.sparse.eye(5).tocsr()}, TypeError, "X: expected a dense array"),
        ({"X": np.full((5, 2), np.nan)}, ValueError, "X: expected finite values, got NaN in row 0"),
        ({"X": np.ones((5, 0))}, ValueError, "X: expected at least one row and one column"),
        ({"y": np.array([0, 1, np.inf, 0, 0])}, ValueError, "y: expected finite values"),
        ({"strength": np.inf}, ValueError, "strength: expected a finite number > 0"),
        ({"strength": "a"}, TypeError, "strength: expected a number"),
        ({"seed": -1}, ValueError, "seed: expected an integer"),
    ],
)
def test_bad_input_of_the_regression_attack(arguments: Any, error: Any, message: str) -> None:
    given = {"X": np.ones((5, 2)), "y": np.ones(5), "strength": 1.0, **arguments}
    with pytest.raises(error, match=message):
        attacks.regression_attack(given.pop("X"), given.pop("y"), 2, **given)


@pytest.mark.parametrize(
    ("labels", "share", "error", "message"),
    [
        ([[0, 1], [1, 0]], 0.5, ValueError, r"y: expected shape \(n,\)"),
        ([0.0, 1.0, np.nan], 0.5, ValueError, "y: expected finite values, got NaN in row 2"),
        (np.array([0, "a", None], dtype=object), 0.5, TypeError, "y: expected labels of one kind"),
        ([0, 1], "a", TypeError, "share: expected a number"),
        ([0, 1], np.nan, ValueError, "share: expected a number in"),
    ],
)
def test_bad_input_of_label_flips(labels: Any, share: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        attacks.flip_labels(labels, share)
