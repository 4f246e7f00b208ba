"""`RobustPCA`: principal components of rows of which a minority is arbitrary."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from tamis import _arrays, _rows
from tamis.estimators._base import BaseEstimator, TransformerMixin
from tamis.estimators._moments import principal_axes
from tamis.estimators._validation import check_fitted, checked_rows
from tamis.estimators.covariance import find_clean_rows

__all__ = ["RobustPCA"]


class RobustPCA(TransformerMixin, BaseEstimator):
    """Principal components of the rows that `tamis.RobustCovariance` keeps.

    Parameters
    ----------
    n_components : int >= 1, optional
        Default ``min(n, d)``.
    contamination : float in [0, 0.5) or "auto"
        As in `tamis.RobustCovariance`.
    assume_centered : bool
        As in `tamis.RobustCovariance`.
    rule : {"bounded", "gaussian"}
        "bounded", the default here, for clusters and populations; see `tamis.RobustCovariance`.
    max_rounds, random_state, n_jobs
        As in `tamis.RobustCovariance`.

    Attributes
    ----------
    components_ : array of shape (n_components_, n_features_in_)
        Orthonormal rows; the entry of largest absolute value is positive.
    explained_variance_, explained_variance_ratio_ : arrays of shape (n_components_,)
    mean_ : array of shape (n_features_in_,)
    support_ : bool array of shape (n,)
    n_components_, n_features_in_ : int
    contamination_ : float
    stop_reason_ : str

    Examples
    --------
    >>> import numpy as np, tamis
    >>> X = np.random.default_rng(0).standard_normal((1000, 5)) * [9, 4, 1, 1, 1]
    >>> X[:100, 4] += 50
    >>> pca = tamis.RobustPCA(2, contamination=0.1).fit(X)
    >>> bool(np.abs(pca.components_[:, 4]).max() < 0.1)
    True
    """

    def __init__(
        self,
        n_components: int | None = None,
        contamination: float | Literal["auto"] = 0.1,
        *,
        assume_centered: bool = False,
        rule: str = "bounded",
        max_rounds: int = 50,
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.contamination = contamination
        self.assume_centered = assume_centered
        self.rule = rule
        self.max_rounds = max_rounds
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any = None) -> RobustPCA:
        """Find the components of the rows of ``X``, (n, d); errors as in `RobustCovariance`."""
        rows = checked_rows(self, X, reset=True)
        array = _rows.as_numpy(rows)
        _rows.check_finite(array)
        most = min(array.shape)
        k = most
        if self.n_components is not None:
            k = _arrays.check_int(self.n_components, "n_components", 1, most + 1)
        found, _ = find_clean_rows(self, array)
        clean = found.moments
        values, vectors = principal_axes(array, found.kept, clean)
        values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1].T
        sign = np.sign(vectors[np.arange(len(vectors)), np.abs(vectors).argmax(axis=1)])
        total = float(values.sum())
        self.components_ = _rows.in_library_of((vectors * sign[:, None])[:k], rows)
        self.explained_variance_ = _rows.in_library_of(values[:k], rows)
        self.explained_variance_ratio_ = _rows.in_library_of(values[:k] / (total or 1.0), rows)
        self.mean_ = _rows.in_library_of(clean.mean, rows)
        self.support_ = _rows.in_library_of(found.kept, rows)
        self.n_components_ = k
        self.contamination_ = 1.0 - float(found.kept.mean())
        self.stop_reason_ = found.stop_reason
        return self

    def transform(self, X: Any) -> Any:
        """Scores of rows, (m, n_components_)."""
        check_fitted(self, "components_")
        return self._scores(checked_rows(self, X, reset=False))

    def _scores(self, rows: Any) -> Any:
        array = _rows.as_numpy(rows)
        _rows.check_finite(array)
        scores = (array - np.asarray(self.mean_)) @ np.asarray(self.components_).T
        return _rows.in_library_of(scores, rows)

    def inverse_transform(self, X: Any) -> Any:
        """Rows from scores: ``X @ components_ + mean_``."""
        check_fitted(self, "components_")
        rows = _rows.as_rows(X)
        if rows.shape[1] != self.n_components_:
            raise ValueError(f"X: expected {self.n_components_} columns, got {rows.shape[1]}")
        array = _rows.as_numpy(rows)
        _rows.check_finite(array)
        return _rows.in_library_of(
            array @ np.asarray(self.components_) + np.asarray(self.mean_), rows
        )

    def score_samples(self, X: Any) -> Any:
        """Minus the squared orthogonal distance of rows to the span of the components, (m,)."""
        check_fitted(self, "components_")
        rows = checked_rows(self, X, reset=False)
        gap = _rows.as_numpy(rows) - _rows.as_numpy(self.inverse_transform(self._scores(rows)))
        return _rows.in_library_of(-np.square(gap).sum(axis=1), rows)
