"""The outlier detectors as PyOD detectors; needs PyOD.

The sign is PyOD's, opposite to scikit-learn's: ``decision_scores_`` and `decision_function` are
higher for more abnormal rows, labels are 1 for outliers and 0 for the rest. ``detector_`` is the
fitted detector behind each, with its `explain`.
"""

from __future__ import annotations

import copy
from typing import Any, ClassVar, Literal

import numpy as np
from pyod.models.base import BaseDetector
from sklearn.utils.validation import check_is_fitted

from tamis import _arrays, estimators

__all__ = ["QUEOutlierDetector", "RobustCovariance", "SpectralOutlierDetector"]


class _Adapter(BaseDetector):  # type: ignore[misc]
    """PyOD's conventions around the estimator ``_behind``, which has the same parameters."""

    _behind: ClassVar[type[Any]]

    def fit(self, X: Any, y: Any = None) -> Any:
        """Fit to the rows of ``X``, (n, d); ``y`` is ignored, with a warning, as PyOD does."""
        self._set_n_classes(y)
        params = self.get_params()
        if self.contamination != "auto":  # PyOD allows 0.5, where the filter is told a bit less
            share = _arrays.check_real(self.contamination, "contamination")
            params["contamination"] = min(share, float(np.nextafter(0.5, 0.0)))
        self.detector_ = self._behind(**params).fit(X)
        self.decision_scores_ = np.asarray(self._training_scores())
        self._process_decision_scores()
        return self

    def _training_scores(self) -> Any:
        return -self.detector_.training_scores_

    def decision_function(self, X: Any) -> Any:
        """Scores of the rows of ``X``, (m,): higher is more abnormal."""
        check_is_fitted(self, ["decision_scores_", "threshold_", "labels_"])
        return -np.asarray(self.detector_.score_samples(X))

    def predict(self, X: Any, return_confidence: bool = False) -> Any:
        """1 for outliers, 0 for the rest; with ``return_confidence`` also PyOD's confidence."""
        return BaseDetector.predict(self._as_number(), X, return_confidence)

    def predict_confidence(self, X: Any) -> Any:
        """PyOD's confidence in each prediction."""
        return BaseDetector.predict_confidence(self._as_number(), X)

    def _as_number(self) -> Any:
        """A copy whose contamination is the number that was found, for PyOD's own code."""
        check_is_fitted(self, ["decision_scores_", "threshold_", "labels_"])
        if self.contamination != "auto":
            return self
        twin = copy.copy(self)
        twin.contamination = float(np.mean(self.labels_))
        return twin

    def _process_decision_scores(self) -> Any:
        if self.contamination != "auto":
            super()._process_decision_scores()
            return self
        self.threshold_ = -self.detector_.offset_
        self.labels_ = (self.decision_scores_ > self.threshold_).astype(int)
        self._mu = np.mean(self.decision_scores_)  # what PyOD's predict_proba reads
        self._sigma = np.std(self.decision_scores_)
        return self


class SpectralOutlierDetector(_Adapter):
    """`tamis.SpectralOutlierDetector` for PyOD.

    Parameters
    ----------
    contamination : float in (0, 0.5] or "auto"
        As PyOD has it: the threshold is this quantile of ``decision_scores_``. "auto": as many
        rows as the filter removes are outliers.
    rule, assume, prune, readmit, max_rounds, max_removed, random_state, n_jobs
        As in `tamis.RobustMean`.

    Attributes
    ----------
    decision_scores_ : float array of shape (n,)
        The largest squared standardised projection of each row of `fit`; higher is more abnormal.
    threshold_ : float
        Rows with larger scores are outliers.
    labels_ : int array of shape (n,)
        1 for outliers, 0 for the rest.
    detector_ : tamis.SpectralOutlierDetector
        The fitted detector behind it.

    Examples
    --------
    >>> import numpy as np
    >>> from tamis.compat.pyod import SpectralOutlierDetector
    >>> X = np.random.default_rng(0).standard_normal((1000, 20))
    >>> X[:20] += 3.0
    >>> int(SpectralOutlierDetector(contamination=0.02).fit(X).labels_[:20].sum())
    20
    """

    _behind = estimators.SpectralOutlierDetector

    def __init__(
        self,
        contamination: float | Literal["auto"] = 0.1,
        *,
        rule: str = "gaussian_tail",
        assume: str = "none",
        prune: bool = True,
        readmit: bool = True,
        max_rounds: int = 50,
        max_removed: float = 2.5,
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        super().__init__(contamination=contamination)
        self.rule = rule
        self.assume = assume
        self.prune = prune
        self.readmit = readmit
        self.max_rounds = max_rounds
        self.max_removed = max_removed
        self.random_state = random_state
        self.n_jobs = n_jobs


class QUEOutlierDetector(_Adapter):
    """`tamis.QUEOutlierDetector` for PyOD.

    Parameters
    ----------
    contamination : float in (0, 0.5] or "auto"
        As in `SpectralOutlierDetector`; "auto": as many as the whitening leaves out.
    alpha, whiten, rounds, random_state, n_jobs
        As in `tamis.QUEOutlierDetector`.

    Attributes
    ----------
    decision_scores_ : float array of shape (n,)
        Quantum entropy scores of the rows of `fit`; higher is more abnormal.
    threshold_ : float
        Rows with larger scores are outliers.
    labels_ : int array of shape (n,)
        1 for outliers, 0 for the rest.
    detector_ : tamis.QUEOutlierDetector
        The fitted detector behind it.

    Examples
    --------
    >>> import numpy as np
    >>> from tamis.compat.pyod import QUEOutlierDetector
    >>> X = np.random.default_rng(0).standard_normal((1000, 20))
    >>> X[:20] += 3.0
    >>> int(QUEOutlierDetector(contamination=0.02).fit(X).labels_[:20].sum())
    20
    """

    _behind = estimators.QUEOutlierDetector

    def __init__(
        self,
        contamination: float | Literal["auto"] = 0.1,
        alpha: float = 4.0,
        *,
        whiten: Any = "robust",
        rounds: int = 1,
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        super().__init__(contamination=contamination)
        self.alpha = alpha
        self.whiten = whiten
        self.rounds = rounds
        self.random_state = random_state
        self.n_jobs = n_jobs


class RobustCovariance(_Adapter):
    """`tamis.RobustCovariance` for PyOD: squared robust Mahalanobis distances.

    Parameters
    ----------
    contamination : float in (0, 0.5] or "auto"
        As in `SpectralOutlierDetector`. It also bounds how many rows the filter may leave out, as
        in `tamis.RobustCovariance`.
    assume_centered, rule, max_rounds, random_state, n_jobs
        As in `tamis.RobustCovariance`.

    Attributes
    ----------
    decision_scores_ : float array of shape (n,)
        Squared distances of the rows of `fit`; higher is more abnormal.
    threshold_ : float
        Rows with larger scores are outliers.
    labels_ : int array of shape (n,)
        1 for outliers, 0 for the rest.
    detector_ : tamis.RobustCovariance
        The fitted detector behind it.

    Examples
    --------
    >>> import numpy as np
    >>> from tamis.compat.pyod import RobustCovariance
    >>> X = np.random.default_rng(0).standard_normal((1000, 20))
    >>> X[:20] += 3.0
    >>> int(RobustCovariance(contamination=0.02).fit(X).labels_[:20].sum())
    20
    """

    _behind = estimators.RobustCovariance

    def __init__(
        self,
        contamination: float | Literal["auto"] = 0.1,
        *,
        assume_centered: bool = False,
        rule: str = "gaussian",
        max_rounds: int = 50,
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        super().__init__(contamination=contamination)
        self.assume_centered = assume_centered
        self.rule = rule
        self.max_rounds = max_rounds
        self.random_state = random_state
        self.n_jobs = n_jobs

    def _training_scores(self) -> Any:
        return self.detector_.dist_
