"""Outlier scores that people use today, on rows (n, d): higher is more of an outlier."""

from __future__ import annotations

from typing import Any

import numpy as np


def neighbours(X: Any) -> Any:
    """Mean distance to the 10 nearest rows."""
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=10).fit(X).kneighbors()[0].mean(axis=1)


def local_outlier_factor(X: Any) -> Any:
    from sklearn.neighbors import LocalOutlierFactor

    return -LocalOutlierFactor().fit(X).negative_outlier_factor_


def isolation_forest(X: Any) -> Any:
    from sklearn.ensemble import IsolationForest

    return -IsolationForest(random_state=0).fit(X).score_samples(X)


def min_cov_det(X: Any) -> Any:
    """The distances that scikit-learn's elliptic envelope ranks by."""
    from sklearn.covariance import MinCovDet

    return MinCovDet(random_state=0).fit(X).dist_


def ecod(X: Any) -> Any:
    from pyod.models.ecod import ECOD

    return ECOD().fit(X).decision_scores_


def l2(X: Any) -> Any:
    return np.square(X - X.mean(axis=0)).sum(axis=1)


def naive_spectral(X: Any) -> Any:
    """Squared projection on the top eigenvector."""
    gap = X - X.mean(axis=0)
    return np.square(gap @ np.linalg.eigh(gap.T @ gap)[1][:, -1])


def que_by_full_svd(X: Any, alpha: float = 4.0) -> Any:
    """The published recipe for QUE scores: from the SVD of the rows in float64."""
    gap = X.astype(np.float64) - X.mean(axis=0)
    _, s, v = np.linalg.svd(gap, full_matrices=False)
    weights = np.exp(alpha * (np.square(s / s[0]) - 1.0))
    return np.square(gap @ v.T) @ (weights / weights.sum())
