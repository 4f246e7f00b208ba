"""`QUEOutlierDetector`: quantum entropy scores of robustly whitened rows."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tamis import _arrays, _rows
from tamis.estimators._base import BaseEstimator, OutlierMixin
from tamis.estimators._covariance_filter import Found
from tamis.estimators._explanation import ExplainMixin, parts_of_form
from tamis.estimators._moments import Moments, mean_of, moments, shrunk
from tamis.estimators._threshold import ThresholdMixin, labels_of, offset_for
from tamis.estimators._validation import (
    check_fitted,
    checked_rows,
    is_auto,
    outlier_share,
    squared_lengths,
)
from tamis.estimators.covariance import RobustCovariance, find_clean_rows
from tamis.que import enlargement, exact_root, scores_of

__all__ = ["QUEOutlierDetector"]

ENOUGH = 2.0  # variance of whitened rows; a direction with more gains no more weight


class QUEOutlierDetector(ThresholdMixin, ExplainMixin, OutlierMixin, BaseEstimator):
    """Outliers by quantum entropy scores, after a whitening that outliers do not reach.

    Parameters
    ----------
    contamination : float in (0, 0.5) or "auto"
        Share of the rows of `fit` to call outliers: sets ``offset_``. "auto": as many as the
        covariance filter (of `tamis.RobustCovariance`, ``contamination="auto"``) leaves out.
    alpha : float >= 0
        See `tamis.que_scores`.
    whiten : {"robust", "none"} or array of shape (m, n_features_in_)
        "robust": by the mean and covariance of the rows that `tamis.RobustCovariance` keeps. An
        array: by those of these reference rows, known to be good. "none": as published, about the
        mean of all rows; where their squares would underflow, rows are in other units.
    rounds : int >= 1
        Rounds of scores; between them the rows of ``contamination / rounds`` largest scores go and
        the weights of the directions are found anew. The scores of the last round count.
    random_state : int, numpy RandomState or Generator, optional
    n_jobs : int, optional
        CPU threads of native code.

    Attributes
    ----------
    offset_ : float
        ``decision_function = score_samples - offset_``; see `tamis.SpectralOutlierDetector`.
    training_scores_ : array of shape (n,)
        `score_samples` of the rows of `fit`.
    location_ : array of shape (n_features_in_,)
    root_ : float64 array of shape (n_features_in_, m)
        A row's score is ``-|| root_' (x - location_) ||^2``.
    support_ : bool array of shape (n,)
        Rows that define the whitening; all where they are not looked for, which is where
        ``whiten`` is an array, or "none" and ``contamination`` is a number.
    contamination_, eigenvalues_, n_iter_, stop_reason_
        Of the search for these rows, as in `tamis.RobustCovariance`; "given" where there was none.
    n_features_in_ : int
    feature_names_in_ : object array, where the rows had names of columns

    Notes
    -----
    Departures from the paper where rows are whitened: distances are from the clean centre, not from
    the mean, and eigenvalues above 2 weigh like 2 (good rows have 1). With one direction of
    eigenvalue 1000 the published weights would see that direction alone, although rows so far out
    need no weight to be found. ``docs/robust_covariance.md`` has what either is worth.

    Examples
    --------
    >>> import numpy as np, tamis
    >>> X = np.random.default_rng(0).standard_normal((1000, 20))
    >>> X[:50] += 3
    >>> labels = tamis.QUEOutlierDetector(0.05).fit_predict(X)
    >>> int((labels[:50] == -1).sum())
    50
    """

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
        self.contamination = contamination
        self.alpha = alpha
        self.whiten = whiten
        self.rounds = rounds
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any = None) -> QUEOutlierDetector:
        """Find the whitening, the scores and the threshold; ``X`` (n, d), ``y`` ignored.

        Raises
        ------
        TypeError, ValueError
            Not a table of finite numbers (the first bad row is named), a tensor on a GPU (pass
            ``X.cpu()``), or a parameter out of range.
        """
        rows = checked_rows(self, X, reset=True)
        array = _rows.as_numpy(rows)
        _rows.check_finite(array)
        share, alpha, rounds = self._parameters()
        n = array.shape[0]
        W, found, centre = self._whitening(array)
        flagged = int(share * n + 1e-9)
        if self.contamination == "auto":
            flagged = n - int(found.kept.sum())
        kept = np.ones(n, dtype=bool)
        for number in range(rounds):
            base = mean_of(array, kept) if centre is None else centre
            Z = (array - base) @ W
            if self._raw() and number == 0:
                exponent = enlargement(Z, array.dtype)
                Z, W = np.ldexp(Z, exponent), np.ldexp(W, exponent)
            zero = np.zeros(Z.shape[1])
            cap = np.inf if self._raw() else ENOUGH
            left = Z if kept.all() else Z[kept]
            root = exact_root(left, zero, alpha, cap) if Z.shape[1] else np.zeros((0, 1))
            if number + 1 < rounds:
                scores = scores_of(Z, zero, root) if Z.shape[1] else np.zeros(n)
                gone = (flagged * (number + 1)) // rounds
                kept = -scores >= offset_for(-scores, gone, rows)
        self.root_ = W @ root
        self._center = base
        # of clean rows, whose covariance whitens to the identity; raw: of all rows
        self._deviations = np.linalg.norm(root, axis=0)
        if self._raw():
            self._deviations = np.sqrt(np.mean(np.square(Z @ root), axis=0))
        self._scale = found.moments.sd
        self.location_ = _rows.in_library_of(base, rows)
        self.support_ = _rows.in_library_of(found.kept, rows)
        self.contamination_ = 1.0 - float(found.kept.mean())
        self.eigenvalues_ = np.array(found.values)
        self.n_iter_ = max(found.rounds, 1)
        self.stop_reason_ = found.stop_reason
        scores = squared_lengths(array, base, self.root_)
        self.training_scores_ = _rows.in_library_of(-scores, rows)
        self.offset_ = offset_for(-scores, flagged, rows)
        self._fit_X = rows
        return self

    def _parameters(self) -> tuple[float, float, int]:
        share = 0.0 if is_auto(self.contamination) else outlier_share(self.contamination)
        alpha = _arrays.check_real(self.alpha, "alpha")
        if not (np.isfinite(alpha) and alpha >= 0.0):
            raise ValueError(f"alpha: expected a finite number >= 0, got {alpha}")
        return share, alpha, _arrays.check_int(self.rounds, "rounds", 1)

    def _raw(self) -> bool:
        return isinstance(self.whiten, str) and self.whiten == "none"

    def _whitening(
        self, array: NDArray[Any]
    ) -> tuple[NDArray[np.float64], Found, NDArray[np.float64] | None]:
        """(d, r), the rows that were used for it, and the centre, where it is known."""
        n, d = array.shape
        everything = np.ones(n, dtype=bool)
        if not isinstance(self.whiten, str):
            given = _rows.as_numpy(_rows.as_rows(self.whiten, "whiten"), "whiten")
            _rows.check_finite(given, "whiten")
            if given.shape[1] != d:
                raise ValueError(f"whiten: expected {d} columns, got {given.shape[1]}")
            all_given = np.ones(len(given), dtype=bool)
            good = moments(given, all_given, False, others=array)
            clean = shrunk(given, all_given, good)
            return clean.whiten, Found(good, everything, 0, stop_reason="given"), good.mean
        if self.whiten not in ("robust", "none"):
            raise ValueError(f"whiten: expected 'robust', 'none' or an array, got {self.whiten!r}")
        if self._raw() and self.contamination != "auto":
            eye = np.eye(d)
            plain = Moments(np.zeros(d), eye, eye, eye, d, np.ones(d))
            return plain.whiten, Found(plain, everything, 0, stop_reason="given"), None
        filter_by = RobustCovariance("auto", random_state=self.random_state, n_jobs=self.n_jobs)
        found, _ = find_clean_rows(filter_by, array)
        if self._raw():
            return np.eye(d), found, None
        clean = shrunk(array, found.kept, found.moments)
        return clean.whiten, found, clean.mean

    def score_samples(self, X: Any) -> Any:
        """Minus the QUE score of rows, (m,): higher for more normal ones."""
        check_fitted(self, "offset_")
        rows = checked_rows(self, X, reset=False)
        array = _rows.as_numpy(rows)
        scores = squared_lengths(array, self._center, self.root_)
        return _rows.in_library_of(-scores, rows)

    def fit_predict(self, X: Any, y: Any = None) -> Any:
        """``fit(X).predict(X)``, without reading the rows again."""
        return labels_of(self.fit(X).training_scores_ - self.offset_)

    def _explained(self, x: NDArray[np.float64]) -> tuple[Any, ...]:
        """The eigenvector of the whitened rows along which most of the score lies."""
        along = (x - self._center) @ self.root_
        score = float(along @ along)
        if score <= 0.0:
            return 0.0, np.zeros(x.size), 0.0, 0.0, np.zeros(x.size)
        j = int(np.argmax(np.abs(along)))
        direction = self.root_[:, j] / np.linalg.norm(self.root_[:, j])
        deviations = along[j] / self._deviations[j]
        parts = parts_of_form(x - self._center, self.root_, self._scale)
        return score, direction, deviations, along[j] ** 2 / score, parts
