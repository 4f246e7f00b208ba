"""`SpectralOutlierDetector`: how far out a row is along the directions that give outliers away."""

from __future__ import annotations

import math
import sys
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tamis import _arrays, _rows
from tamis.estimators._base import BaseEstimator, OutlierMixin
from tamis.estimators._constant_columns import GrossValues, gross_values
from tamis.estimators._explanation import ExplainMixin
from tamis.estimators._threshold import ThresholdMixin, labels_of, offset_for
from tamis.estimators._validation import (
    check_fitted,
    checked_rows,
    filter_options,
    filter_rows,
    outlier_share,
    weighted_mean,
)

__all__ = ["SpectralOutlierDetector"]


_TIED = 1e-5  # relative difference of scores that may be rounding
_ROUNDINGS = 1e3  # of the rows: a spread of less is none


class SpectralOutlierDetector(ThresholdMixin, ExplainMixin, OutlierMixin, BaseEstimator):
    """Outliers by iterative spectral filtering, for many columns and no labels.

    The filter of `tamis.RobustMean` finds the directions along which rows lie too far out, and the
    centre and spread of clean rows along each. A row's score is its largest squared distance from
    these centres, in units of the spread: with clean rows of light tails, 9 is three standard
    deviations in the worst of a few directions.

    Parameters
    ----------
    contamination : float in (0, 0.5) or "auto"
        Share of the rows of `fit` to call outliers: sets ``offset_``. "auto": as many as the
        filter removes.
    rule, assume, prune, readmit, max_rounds, max_removed, random_state, n_jobs
        As in `tamis.RobustMean`.

    Attributes
    ----------
    offset_ : float
        ``decision_function = score_samples - offset_``. It lies half-way between the scores of the
        last row that is called an outlier and the first that is not, where
        ``floor(contamination n)`` of the rows of `fit` are outliers, or as many as the filter left
        out with "auto". Rows whose scores are tied with the first that is not are not, so ties
        make it fewer. Where there is none, it lies just below all scores.
    training_scores_ : array of shape (n,)
        `score_samples` of the rows of `fit`.
    location_ : array of shape (n_features_in_,)
        Robust mean of the rows.
    support_ : bool array of shape (n,)
        Rows that the filter kept. They define ``location_`` and the directions; what is called an
        outlier is decided by ``offset_``.
    contamination_ : float
        Share of the rows that the filter left out.
    directions_ : array of shape (n_features_in_, m)
        Unit vectors, those that gave outliers away first.
    centers_, scales_ : arrays of shape (m,)
        Centre and robust standard deviation of clean rows along each.
    n_cuts_ : int
        How many of the m directions, the first ones, define ``support_``.
    ball_center_ : array of shape (n_features_in_,)
    ball_radius_, ball_scale_ : float
        The ball outside which rows are outliers whatever their direction; an infinite radius where
        ``prune=False``.
    eigenvalues_, n_iter_, stop_reason_, n_features_in_, feature_names_in_
        As in `tamis.RobustMean`.

    See Also
    --------
    tamis.compat.pyod.SpectralOutlierDetector : with PyOD's conventions, of opposite sign.

    Notes
    -----
    Directions are found where variance is largest, so columns should have comparable units; put
    ``sklearn.preprocessing.RobustScaler`` in front where they have not.

    ``score_samples(X) = -max_j ((v_j . x - center_j) / scale_j)^2``, and outside the ball at most
    ``-(|x - ball_center| / ball_scale)^2``; computed in float64 and given in the dtype of the rows.
    A column in which at least nine tenths of the rows are at one value becomes such a direction
    where few rows are far off in it, in units of the median spread of the other columns: they add
    too little variance to be seen otherwise, and where clean rows are is known exactly. These rows
    are left out, too, within the same limit.
    The filter may always leave out one row, however small
    ``max_removed * contamination * n`` is; with less than 3 rows it looks at no direction, all
    scores are 0 and no row is an outlier.

    Examples
    --------
    >>> import numpy as np, tamis
    >>> X = np.random.default_rng(0).standard_normal((1000, 20))
    >>> X[:20] += 3.0
    >>> detector = tamis.SpectralOutlierDetector(contamination="auto").fit(X)
    >>> np.flatnonzero(detector.predict(X) == -1).tolist() == list(range(20))
    True
    """

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
        self.contamination = contamination
        self.rule = rule
        self.assume = assume
        self.prune = prune
        self.readmit = readmit
        self.max_rounds = max_rounds
        self.max_removed = max_removed
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any = None) -> SpectralOutlierDetector:
        """Find the directions and the threshold.

        Parameters
        ----------
        X : array of shape (n, d)
            NumPy array, torch tensor, data frame, or what NumPy makes an array of.
        y : ignored

        Returns
        -------
        SpectralOutlierDetector
            Itself.

        Raises
        ------
        TypeError, ValueError
            Not a table of finite numbers (the first bad row is named), or a parameter out of
            range; the message names it.
        """
        options = filter_options(self)
        rows = checked_rows(self, X, reset=True)
        n = int(rows.shape[0])
        flagged = None
        if not isinstance(self.contamination, str):
            share = outlier_share(self.contamination)
            flagged = int(share * n + 1e-9)
            if options["max_removed"] * share * n < 1.0:  # else the filter would not even look
                options["contamination"] = min((1.0 + 1e-9) / (options["max_removed"] * n), 0.4)
        found = filter_rows(rows, options)
        self.location_ = found.mean
        self.support_ = found.support
        self.contamination_ = float(found.contamination)
        self.directions_ = found.directions
        self.centers_ = found.centers
        self.scales_ = found.scales
        self.n_cuts_ = int(found.cuts)
        self.ball_center_ = found.ball_center
        self.ball_radius_ = float(found.ball_radius)
        self.ball_scale_ = float(found.ball_scale)
        self.eigenvalues_ = found.eigenvalues
        self.n_iter_ = int(found.rounds)
        self.stop_reason_ = str(found.stop_reason)
        self.training_scores_ = -found.scores
        rounding = self._keep_rounding_out(rows)
        gross = gross_values(rows)
        if gross is not None:
            self._add_gross(rows, gross, found.weights, options)
        if flagged is None:
            flagged = n - int(self.support_.sum())
        offset = offset_for(_rows.as_float64(self.training_scores_), flagged, rows)
        self.offset_ = min(offset, -rounding)
        self._fit_X = rows
        return self

    def _keep_rounding_out(self, rows: Any) -> float:
        """Where clean rows do not vary along a direction, let rounding be no deviation.

        Returns the largest score that may be one of rounding.
        """
        scales = _rows.as_float64(self.scales_)
        size = np.linalg.norm(_rows.as_float64(self.location_)) + scales.max(initial=0.0)
        least = _ROUNDINGS * float(np.finfo(_arrays.dtype_name(rows)).eps) * size
        if (scales < least).any():
            self.scales_ = _rows.in_library_of(np.maximum(scales, least), rows)
            self.training_scores_ = self._scores(rows)
        return float((least / np.maximum(scales, least)).max(initial=0.0)) ** 2

    def _add_gross(
        self, rows: Any, gross: GrossValues, weights: Any, options: dict[str, Any]
    ) -> None:
        """Columns that are otherwise constant become directions; rows far off in them go."""
        n, d = rows.shape
        axes = np.zeros((d, gross.columns.size))
        axes[gross.columns, np.arange(gross.columns.size)] = 1.0
        for name, more in (
            ("directions_", axes),
            ("centers_", gross.centers),
            ("scales_", gross.scales),
        ):
            known = getattr(self, name)
            both = np.concatenate([more, _rows.as_float64(known)], axis=-1)
            setattr(self, name, _rows.in_library_of(both, known))
        self.n_cuts_ += gross.columns.size
        self.training_scores_ = self._scores(rows)
        share = options["contamination"]
        limit = 0.5 if share == "auto" else min(options["max_removed"] * share, 0.5)
        w = _rows.as_float64(weights).copy()
        far = np.flatnonzero(gross.rows & (w > 0.5))
        allowed = max(int(limit * n + 1e-9) - int((w <= 0.5).sum()), 0)
        if far.size > allowed:  # the furthest, without those that are tied with others
            scores = -_rows.as_float64(self.training_scores_)[far]
            far = far[scores > np.sort(scores)[-allowed - 1] * (1.0 + _TIED)]
        w[far] = 0.0
        self.location_ = _rows.in_library_of(weighted_mean(rows, w), rows)
        self.support_ = _rows.in_library_of(w > 0.5, rows)
        self.contamination_ = float(1.0 - w.mean())

    def score_samples(self, X: Any) -> Any:
        """Scores of rows, higher for more normal ones; at most 0.

        Parameters
        ----------
        X : array of shape (m, d)

        Returns
        -------
        array of shape (m,)
            In the library and dtype of ``X``.

        Raises
        ------
        NotFittedError
            Before `fit`.
        TypeError, ValueError
            Not a table of finite numbers with the columns of `fit`.
        """
        check_fitted(self, "offset_")
        return self._scores(checked_rows(self, X, reset=False))

    def _scores(self, rows: Any) -> Any:
        if _arrays.is_torch(rows) and rows.device.type != "cpu":
            return _torch_scores(self, rows)
        V, c, s = (_rows.as_float64(a) for a in (self.directions_, self.centers_, self.scales_))
        center = _rows.as_float64(self.ball_center_)
        array = _rows.as_numpy(rows)
        scores = np.zeros(array.shape[0])
        for part in _rows.blocks(array):
            with np.errstate(over="ignore", invalid="ignore"):
                x = array[part].astype(np.float64, copy=False)
                worst = np.square((x @ V - c) / s).max(axis=1, initial=0.0)
                if math.isfinite(self.ball_radius_):
                    radius = np.sqrt(np.square(x - center).sum(axis=1))
                    far = np.where(radius > self.ball_radius_, radius / self.ball_scale_, 0.0)
                    worst = np.maximum(worst, np.square(far))
                np.negative(worst, out=scores[part])
        if not np.isfinite(scores).all() or not V.shape[1]:
            _rows.check_finite(array)
        lowest = -float(np.finfo(array.dtype).max)  # for finite numbers whose squares overflow
        scores = np.where(np.isnan(scores), lowest, np.maximum(scores, lowest))
        return _rows.in_library_of(scores, rows)

    def fit_predict(self, X: Any, y: Any = None) -> Any:
        """``fit(X).predict(X)``, without reading the rows again."""
        return labels_of(self.fit(X).training_scores_ - self.offset_)

    def _explained(self, x: NDArray[np.float64]) -> tuple[Any, ...]:
        """The direction of the largest squared projection, or the radius where that is larger."""
        V, c, s = (_rows.as_float64(a) for a in (self.directions_, self.centers_, self.scales_))
        out = (x @ V - c) / s
        j = int(np.argmax(np.abs(out))) if out.size else -1
        score = float(out[j] ** 2) if out.size else 0.0
        gap = x - _rows.as_float64(self.ball_center_)
        radius = float(np.linalg.norm(gap))
        if radius > self.ball_radius_ and (radius / self.ball_scale_) ** 2 > score:
            parts = np.square(gap / self.ball_scale_)
            return parts.sum(), gap / radius, radius / self.ball_scale_, 1.0, parts
        if score == 0.0:
            return 0.0, np.zeros(x.size), 0.0, 0.0, np.zeros(x.size)
        v = V[:, j]
        base = _rows.as_float64(self.location_)
        gap = x - base - v * float(c[j] - base @ v)  # from the point of the centre's plane nearest
        return score, v, out[j], 1.0, out[j] * v * gap / s[j]


def _torch_scores(detector: SpectralOutlierDetector, rows: Any) -> Any:
    """The same on the tensor's own device."""
    torch = sys.modules["torch"]
    V, c, s, center = (
        torch.from_numpy(_rows.as_float64(a)).to(rows.device)
        for a in (detector.directions_, detector.centers_, detector.scales_, detector.ball_center_)
    )
    scores = torch.zeros(rows.shape[0], dtype=torch.float64, device=rows.device)
    for part in _rows.blocks(rows):
        x = rows[part].double()
        worst = torch.zeros_like(scores[part])
        if V.shape[1]:
            worst = ((x @ V - c) / s).square().amax(dim=1)
        if math.isfinite(detector.ball_radius_):
            radius = (x - center).norm(dim=1)
            far = torch.where(radius > detector.ball_radius_, radius / detector.ball_scale_, 0.0)
            worst = torch.maximum(worst, far.square())
        scores[part] = -worst
    if not bool(torch.isfinite(rows).all()):
        _rows.check_finite(rows.cpu().numpy())
    lowest = torch.finfo(rows.dtype).min  # for finite numbers whose squares overflow
    return scores.nan_to_num(nan=lowest).clamp(min=lowest).to(rows.dtype)
