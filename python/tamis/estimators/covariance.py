"""`RobustCovariance`: mean and covariance of rows of which a minority is arbitrary."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tamis import _arrays, _rows
from tamis.estimators._base import BaseEstimator
from tamis.estimators._covariance_filter import Found, filter_covariance
from tamis.estimators._explanation import ExplainMixin, parts_of_form
from tamis.estimators._moments import Moments, shrunk
from tamis.estimators._threshold import ThresholdMixin, offset_for
from tamis.estimators._validation import (
    check_fitted,
    checked_rows,
    is_auto,
    seed_of,
    squared_lengths,
    thread_number,
)

__all__ = ["RobustCovariance"]

RULES = ("gaussian", "bounded")


class RobustCovariance(ThresholdMixin, ExplainMixin, BaseEstimator):
    """Mean and covariance of rows of which a minority is arbitrary.

    Parameters
    ----------
    contamination : float in [0, 0.5) or "auto"
        An upper bound for the share of bad rows: at most ``min(2.5 contamination, .5)`` of the
        rows go. "auto": up to half. 0 gives the plain covariance.
    assume_centered : bool
        The mean is known to be 0. Rule "bounded" finds a centre of its own to judge rows by, and
        only the estimates from the rows kept are about 0.
    rule : {"gaussian", "bounded"}
        "gaussian": good rows are Gaussian, of any covariance; bad rows are found along quadratic
        forms (the degree-2 filter), even where they lie closer to the centre than good ones; in
        tables of fewer than 50 rows a column, by the half of smallest determinant.
        "bounded": good rows may be anything of bounded covariance, such as several populations;
        only rows that pull the covariance are found.
    max_rounds : int >= 1
        Rounds of the filter, at most.
    random_state : int, numpy RandomState or Generator, optional
        Chooses starting vectors; None is 0.
    n_jobs : int, optional
        CPU threads of native code ("bounded"); dense products have those of NumPy's BLAS.

    Attributes
    ----------
    location_ : array of shape (n_features_in_,)
    covariance_ : array of shape (n_features_in_, n_features_in_)
        Of the rows kept, divided by their number, times `consistency_factor_`. Singular where the
        rows are; never NaN. With fewer than 5 rows kept a column, correlations are shrunk to the
        identity (Ledoit and Wolf 2004).
    precision_ : array of shape (n_features_in_, n_features_in_)
        Its inverse; the pseudo-inverse of Moore and Penrose where it is singular.
    support_ : bool array of shape (n,)
        Rows kept.
    weights_ : array of shape (n,)
        The same as 0 and 1.
    dist_ : array of shape (n,)
        Squared Mahalanobis distances of the rows of `fit`, as scikit-learn has them.
    offset_ : float
        ``predict`` calls rows with ``-mahalanobis(X) < offset_`` outliers.
    consistency_factor_ : float
        Makes up for the tail that was cut off: 1 unless the distance itself was cut.
    eigenvalues_ : float64 array of shape (n_iter_,)
        The largest variance of a quadratic form ("gaussian"; 2 for Gaussian rows without end) or
        of a projection ("bounded") in every round.
    n_iter_ : int
    contamination_ : float
        Share of the rows left out.
    stop_reason_ : str
        "explained", "removal_limit" (distrust the result), "max_rounds", "zero_variance",
        "no_contamination", or those of `tamis.iterative_filter`.
    n_features_in_ : int
    feature_names_in_ : object array, where the rows had names of columns

    Notes
    -----
    Fewer than 5 rows a column: the filter looks at the leading ``n / 5`` directions only, and where
    these show nothing, at the variance along single directions.

    Source: Diakonikolas, Kamath, Kane, Li, Moitra and Stewart 2017, the covariance filter;
    departures in ``docs/robust_covariance.md``.

    Examples
    --------
    >>> import numpy as np, tamis
    >>> X = np.random.default_rng(0).standard_normal((4000, 20))
    >>> X[:200] = 0.0
    >>> found = tamis.RobustCovariance(contamination=0.05).fit(X)
    >>> int(found.support_[:200].sum())
    0
    """

    def __init__(
        self,
        contamination: float | Literal["auto"] = 0.05,
        *,
        assume_centered: bool = False,
        rule: str = "gaussian",
        max_rounds: int = 50,
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        self.contamination = contamination
        self.assume_centered = assume_centered
        self.rule = rule
        self.max_rounds = max_rounds
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any = None) -> RobustCovariance:
        """Estimate from the rows of ``X``, (n, d); ``y`` is ignored.

        Raises
        ------
        TypeError, ValueError
            Not a table of finite numbers (the first bad row is named), a tensor on a GPU (pass
            ``X.cpu()``), or a parameter out of range.
        """
        rows = checked_rows(self, X, reset=True)
        array = _rows.as_numpy(rows)
        _rows.check_finite(array)
        found, flagged = find_clean_rows(self, array)
        count = int(found.kept.sum())
        full = shrunk(array, found.kept, found.moments)
        distances = squared_lengths(array, full.mean, full.whiten)
        factor = _consistency(found, array, distances)
        self.consistency_factor_ = factor
        self._root = full.whiten / np.sqrt(factor)
        self._mean, self._scale = full.mean, full.sd
        self.location_ = _rows.in_library_of(full.mean, rows)
        covariance = full.covariance * factor
        precision = _inverse(covariance, full, self._root)
        _require_room(covariance, precision, _arrays.dtype_name(rows))
        self.covariance_ = _rows.in_library_of(covariance, rows)
        self.precision_ = _rows.in_library_of(precision, rows)
        self.support_ = _rows.in_library_of(found.kept, rows)
        self.weights_ = _rows.in_library_of(found.kept.astype(np.float64), rows)
        self.eigenvalues_ = np.array(found.values)
        self.n_iter_ = found.rounds
        self.contamination_ = 1.0 - count / array.shape[0]
        self.stop_reason_ = found.stop_reason
        distances /= factor
        self.dist_ = _rows.in_library_of(distances, rows)
        self.offset_ = offset_for(-distances, flagged, rows)
        self._fit_X = rows
        return self

    def mahalanobis(self, X: Any) -> Any:
        """Squared Mahalanobis distances of rows, (m,).

        By `precision_` within the span of the rows kept; rows that leave it, as some of `fit` did,
        are further out by what the second moment of all rows of `fit` says.
        """
        check_fitted(self, "offset_")
        rows = checked_rows(self, X, reset=False)
        distances = squared_lengths(_rows.as_numpy(rows), self._mean, self._root)
        return _rows.in_library_of(distances, rows)

    def score_samples(self, X: Any) -> Any:
        """``-mahalanobis(X)``: higher for more normal rows."""
        return -self.mahalanobis(X)

    def _explained(self, x: NDArray[np.float64]) -> tuple[Any, ...]:
        """The one direction along which the row is all of its distance out: precision times gap."""
        gap = x - self._mean
        along = gap @ self._root
        score, direction = float(along @ along), self._root @ along
        length = float(np.linalg.norm(direction)) or 1.0
        parts = parts_of_form(gap, self._root, self._scale)
        return score, direction / length, score**0.5, float(score > 0.0), parts


def _require_room(covariance: Any, precision: Any, dtype: str) -> None:
    most = float(np.finfo(dtype).max)
    if max(np.abs(covariance).max(), np.abs(precision).max()) > most:
        raise ValueError(
            f"X: expected values whose covariance and its inverse {dtype} can hold; rescale the "
            "columns or pass float64"
        )


def find_clean_rows(estimator: Any, array: NDArray[Any]) -> tuple[Found, int]:
    """Check the parameters and run the filter; also how many rows to call outliers."""
    n = array.shape[0]
    contamination = estimator.contamination
    automatic = is_auto(contamination)
    share = 0.5 if automatic else _rows.check_contamination(contamination)
    if estimator.rule not in RULES:
        raise ValueError(f"rule: expected one of {', '.join(RULES)}, got {estimator.rule!r}")
    if not isinstance(estimator.assume_centered, bool | np.bool_):
        raise TypeError(
            f"assume_centered: expected a bool, got {type(estimator.assume_centered).__name__}"
        )
    rounds = _arrays.check_int(estimator.max_rounds, "max_rounds", 1)
    seed = seed_of(estimator.random_state)
    threads = thread_number(estimator.n_jobs)
    found = filter_covariance(
        array,
        int(min(2.5 * share, 0.5) * n + 1e-9),
        centred=bool(estimator.assume_centered),
        rule=estimator.rule,
        options={
            "contamination": contamination,
            "rule": "bounded_covariance",
            "max_rounds": rounds,
            "seed": seed,
            "num_threads": threads,
        },
    )
    flagged = n - int(found.kept.sum()) if automatic else int(share * n + 1e-9)
    return found, flagged


def _inverse(
    C: NDArray[np.float64], found: Moments, root: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The inverse of the covariance, or its pseudo-inverse on the leading directions.

    Columns that do not vary are zeros in either; the others may well have an inverse, whose root
    is known (``root``).
    """
    varies = found.sd > 0.0
    if found.rank == found.inside == int(varies.sum()):
        inner = root[:, : found.inside]
        return np.asarray(inner @ inner.T)
    out = np.zeros_like(C)
    some = np.ix_(varies, varies)
    w, U = np.linalg.eigh(C[some])
    good = np.arange(w.size) >= w.size - found.rank
    out[some] = (U[:, good] / np.maximum(w[good], np.finfo(float).tiny)) @ U[:, good].T
    return out


def _consistency(found: Found, array: NDArray[Any], distances: NDArray[np.float64]) -> float:
    """Covariance of a Gaussian over that of it cut at the largest distance kept.

    ``distances`` are those in all directions; where the filter looked at fewer, they are found
    anew. ``F_d(q) / F_(d+2)(q)`` with the chi-squared distribution functions (Croux and Haesbroeck
    1999).
    """
    from scipy.special import chdtr

    d = found.moments.inside
    if not found.radius_cut or d == 0:
        return 1.0
    if d < found.moments.rank:
        distances = squared_lengths(array, found.moments.mean, found.moments.whiten)
    q = float(distances[found.kept].max())
    below = float(chdtr(d + 2, q))
    return float(chdtr(d, q)) / below if below > 0.5 else 1.0
