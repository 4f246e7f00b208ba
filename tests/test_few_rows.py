"""Fewer rows than columns: eigenpairs from the space of the rows, the same as from (d, d)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tamis
from tamis import que
from tamis._eigenpairs import product_eigenpairs
from tamis.estimators import _moments


def rows(n: int, d: int, kind: str = "plain") -> Any:
    X = np.random.default_rng(n).standard_normal((n, d)) * np.linspace(1.0, 3.0, d)
    X[: n // 8] += 2.0
    if kind == "degenerate":  # constant columns, one that others add up to, rows that are repeated
        X[:, 1] = 0.1
        X[:, 2] = 2.0
        X[0, 2] = 5.0
        X[:, 3] = X[:, 4] - X[:, 5]
        X[n // 2 :] = X[n // 2]
    return X


@pytest.mark.parametrize(("n", "d"), [(1, 1), (1, 7), (7, 31), (31, 33), (40, 300)])
def test_eigenpairs_are_those_of_the_products(n: int, d: int) -> None:
    """Oracle: numpy.linalg.eigvalsh; both are off by a few eps d of the largest."""
    Y = rows(n, d)
    Y[n // 2 :] = Y[n // 2] if n > 2 else Y[n // 2 :]  # and of less than full rank
    values, vectors = product_eigenpairs(Y)
    largest = values[-1]
    np.testing.assert_allclose(values, np.linalg.eigvalsh(Y.T @ Y), atol=1e-13 * d * largest)
    assert (np.diff(values) >= 0.0).all()
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(d), atol=1e-13 * d)
    np.testing.assert_allclose(vectors * values @ vectors.T, Y.T @ Y, atol=1e-13 * d * largest)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("kind", ["plain", "degenerate"])
@pytest.mark.parametrize("centred", [False, True])
def test_estimates_are_those_of_the_eigenvectors_of_the_covariance(
    dtype: Any, kind: str, centred: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the same with `numpy.linalg.eigh` of (d, d) matrices."""
    X = rows(20, 90, kind).astype(dtype)
    tol = {"rtol": 1e-6 if dtype == np.float64 else 1e-3, "atol": 1e-9}

    def results() -> list[Any]:
        found = tamis.RobustCovariance("auto", assume_centered=centred).fit(X)
        bounded = tamis.RobustCovariance(rule="bounded", assume_centered=centred).fit(X)
        score = tamis.QUEOutlierDetector(0.1).fit(X).training_scores_
        given = tamis.QUEOutlierDetector(0.1, whiten=X[5:]).fit(X).training_scores_
        pca = tamis.RobustPCA(3, assume_centered=centred).fit(X)
        projector = pca.components_.T @ pca.components_
        distances = tamis.outlier_map(X, found.support_, n_components=2).robust_distances
        return [
            *(found.support_, found.dist_, found.covariance_, found.precision_),
            *(bounded.dist_, score, given, que.que_scores(X)),
            *(pca.explained_variance_, projector, distances),
        ]

    few = results()
    for module in (_moments, que):
        monkeypatch.setattr(module, "few_rows", lambda n, d: False)
    for number, (a, b) in enumerate(zip(few, results(), strict=True)):
        if a.dtype == bool:
            np.testing.assert_array_equal(a, b)
        else:
            np.testing.assert_allclose(a, b, **tol, err_msg=str(number))


def test_no_large_matrix_is_decomposed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 10 rows of 400 columns, whatever is decomposed has a side of 10."""
    plain = np.linalg.eigh

    def small(A: Any) -> Any:
        assert min(np.shape(A)) <= 10
        return plain(A)

    monkeypatch.setattr(np.linalg, "eigh", small)
    X = rows(10, 400)
    assert np.isfinite(tamis.RobustCovariance().fit(X).precision_).all()
    tamis.QUEOutlierDetector().fit(X)
    tamis.RobustPCA(2).fit(X)
