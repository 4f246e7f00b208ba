"""`RobustMean`: the mean of rows of which a minority is arbitrary."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tamis import _arrays, _rows
from tamis.estimators._base import BaseEstimator
from tamis.estimators._streaming import Chunks, PartialMean, filter_chunks, map_table
from tamis.estimators._validation import (
    check_fitted,
    checked_rows,
    filter_options,
    filter_rows,
    stream_options,
)

__all__ = ["RobustMean"]

_RESULTS = (
    "weights_",
    "scores_",
    "eigenvalues_",
    "n_iter_",
    "n_passes_",
    "stop_reason_",
    "_location",
    "_contamination",
    "_partial",
    "_like",
)


class RobustMean(BaseEstimator):
    """Mean of rows of which a minority is arbitrary, by iterative spectral filtering.

    Rows that make the variance along some direction larger than clean rows could are found from
    the top eigenvectors of the covariance, which is never formed, and left out, until what is left
    is explained. The error then does not grow with the number of columns, unlike that of medians.

    Parameters
    ----------
    contamination : float in [0, 0.5) or "auto"
        An upper bound for the share of bad rows; sets how many rows may go at most. "auto" finds
        it: up to half of the rows may go. 0 gives the plain mean.
    rule : {"gaussian_tail", "bounded_covariance", "fixed_fraction", "soft", "randomized"}
        How rows are left out. "gaussian_tail" is for clean rows with light tails,
        "bounded_covariance" for heavy ones; see `tamis.iterative_filter`.
    assume : {"none", "scale", "identity"}
        What is known of the covariance of clean rows: nothing, a multiple of the identity, or the
        identity. A wrong claim costs good rows.
    prune : bool
        Leave out rows that are far from everything first.
    readmit : bool
        Score all rows again once the survivors are clean, so that good rows come back.
    max_rounds : int >= 1
        Rounds at most, each with its own eigenvectors.
    max_removed : float > 0
        At most ``min(max_removed * contamination, 0.5)`` of the rows go.
    random_state : int in [0, 2**64), numpy RandomState or Generator, optional
        Chooses subsamples and starting vectors. None is 0: the same result every time. A generator
        is asked for a seed at every fit.
    n_jobs : int, optional
        CPU threads; never changes the result. None: the default of tamis (see `tamis.info`);
        -1: all of these, -2: all but one.

    Attributes
    ----------
    location_ : array of shape (n_features_in_,)
        The estimate: ``weights_ @ X / weights_.sum()``. A NumPy array, or a torch tensor where the
        rows were one; of their dtype.
    weights_ : array of shape (n,)
        0 (left out) to 1; other values only with the rule "soft". After `fit`, and after
        `fit_iter` where the rows were in memory or mapped; as the next three.
    support_ : bool array of shape (n,)
        ``weights_ > 0.5``.
    scores_ : array of shape (n,)
        Larger is more outlying: the largest squared standardised projection of the row over the
        directions that were looked at.
    eigenvalues_ : array of shape (n_iter_,)
        Top eigenvalue of the covariance of the surviving rows at each round.
    n_iter_ : int
        Rounds; in a stream, passes that corrected what was found on a sample.
    n_passes_ : int
        Reads of the rows. Not after `partial_fit`.
    contamination_ : float
        Share of the rows that was left out: the estimate of it with ``contamination="auto"``.
    stop_reason_ : str
        "eigenvalue_explained" or "tails_explained" (nothing suspicious is left), "removal_limit"
        (more would have gone than allowed: distrust the result), "max_rounds", "zero_variance",
        "too_few_rows", "no_contamination"; in a stream "settled", "removal_limit" or "max_passes".
    n_features_in_ : int
    feature_names_in_ : object array of shape (n_features_in_,)
        Where the rows were a data frame whose columns have names.

    See Also
    --------
    tamis.iterative_filter : the operation itself.
    tamis.location : medians and other classical estimates.

    Notes
    -----
    float32 and float64 rows are read in place, never copied or modified, but for tables of at most
    four million numbers that are full of ties, such as one-hot columns: these are copied, for an
    order of rows that does not depend on theirs. Integers and half precision are converted first.
    Columns should have comparable units: those with the largest numbers are looked at first.

    Source: Diakonikolas, Kamath, Kane, Li, Moitra and Stewart 2017, "Being robust (in high
    dimensions) can be practical"; Dong, Hopkins and Li 2019 (soft weights).

    Examples
    --------
    >>> import numpy as np, tamis
    >>> X = np.random.default_rng(0).standard_normal((1000, 20))
    >>> X[:100] += 3.0
    >>> mean = tamis.RobustMean(contamination=0.1).fit(X)
    >>> bool(np.linalg.norm(mean.location_) < 0.2 < np.linalg.norm(X.mean(axis=0)))
    True
    >>> int(mean.support_[:100].sum())
    0
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

    def fit(self, X: Any, y: Any = None) -> RobustMean:
        """Estimate the mean of the rows of ``X``.

        Parameters
        ----------
        X : array of shape (n, d)
            NumPy array, torch tensor, data frame, or what NumPy makes an array of.
        y : ignored

        Returns
        -------
        RobustMean
            Itself.

        Raises
        ------
        TypeError, ValueError
            Not a table of finite numbers (the first bad row is named), or a parameter out of
            range; the message names it.
        """
        rows = checked_rows(self, X, reset=True)
        self._take(filter_rows(rows, filter_options(self)))
        return self

    def fit_iter(self, source: Any, *, max_passes: int = 12) -> RobustMean:
        """Estimate the mean of rows that do not fit in memory.

        Parameters
        ----------
        source
            - the path of an ``.npy`` file, float32 or float64 in C order: it is mapped and read in
              place, and everything is as after `fit`; other numbers are read in chunks;
            - a function without arguments that returns an iterable of chunks, each time from the
              start;
            - an iterable that can be read again (a list, a torch DataLoader), or a sequence (a
              torch Dataset).

            A chunk is an array (m, d), or a pair of one and its labels, which are dropped; single
            rows (d,) are gathered. All chunks are read in the dtype of the first. Errors about a
            row give its number in the whole.
        max_passes : int >= 2
            Reads of the source at most; 3 to 6 are usual.

        Returns
        -------
        RobustMean
            Itself. ``location_``, ``n_passes_``, ``contamination_`` and ``stop_reason_`` are set;
            weights, support and scores, one number a row, only where the rows were in memory or
            mapped. Chunks may be cut anywhere: up to rounding, only the rows and their order
            matter.

        Raises
        ------
        TypeError, ValueError
            As `fit`; also for a source that can be read only once, such as a generator, or that
            changes from one pass to the next.

        Notes
        -----
        The filter runs in memory on a uniform sample of the rows (at least 20 a column as far as
        1 GiB goes, and all of them where they are few), and its intervals are then found anew on
        all rows, one pass a round, until the rows they keep settle.
        """
        limit = _arrays.check_int(max_passes, "max_passes", 2)
        options = stream_options(self)
        if isinstance(source, str | os.PathLike):
            mapped = map_table(Path(source))
            if mapped.flags.c_contiguous and mapped.dtype in (np.float32, np.float64):
                return self.fit(mapped)
            source = mapped
        chunks = Chunks(source)
        found = filter_chunks(chunks, options, limit)
        self._forget()
        self.n_features_in_ = int(chunks.like.shape[1])
        if found.rows is not None:
            rows = _rows.in_library_of(found.rows, chunks.like)
            self._take(filter_rows(rows, options))
            return self
        self.location_ = _rows.in_library_of(np.asarray(found.mean), chunks.like)
        self.n_passes_ = found.passes
        self.n_iter_ = found.passes - 1
        self.contamination_ = found.contamination
        self.stop_reason_ = found.stop_reason
        return self

    def partial_fit(self, X: Any, y: Any = None) -> RobustMean:
        """Take the next rows of a stream that is seen once.

        Exact (as `fit` on all rows so far) while the rows fit into a sample of a few ten thousand
        rows. From then on each row is kept or left out as it comes, by what the sample, which
        stays uniform, says; so an early chunk that is all bad does harm. Only ``location_``,
        ``contamination_``, ``n_features_in_`` and ``feature_names_in_`` are set, the first two
        when they are asked for. The first call after `fit` or `fit_iter` starts a new stream.

        Parameters
        ----------
        X : array of shape (m, d)
        y : ignored

        Returns
        -------
        RobustMean
            Itself.

        Raises
        ------
        TypeError, ValueError
            As `fit`; the columns must be those of the first call.
        """
        partial: PartialMean | None = getattr(self, "_partial", None)
        rows = checked_rows(self, X, reset=partial is None)
        array = _rows.as_numpy(rows)
        _rows.check_finite(array)
        if partial is None:
            options = stream_options(self)
            self._forget()
            partial = PartialMean(options)
            self._like = rows[:0]
        partial.add(array.astype(_arrays.dtype_name(self._like), copy=False))
        self._partial = partial
        return self

    @property
    def location_(self) -> Any:
        """The estimate, (n_features_in_,)."""
        partial: PartialMean | None = getattr(self, "_partial", None)
        if partial is not None:
            return _rows.in_library_of(partial.estimate()[0], self._like)
        check_fitted(self, "_location")
        return self._location

    @location_.setter
    def location_(self, value: Any) -> None:
        self._location = value

    @property
    def contamination_(self) -> float:
        """Share of the rows that was left out."""
        partial: PartialMean | None = getattr(self, "_partial", None)
        if partial is not None:
            return partial.estimate()[1]
        check_fitted(self, "_contamination")
        return float(self._contamination)

    @contamination_.setter
    def contamination_(self, value: float) -> None:
        self._contamination = value

    @property
    def support_(self) -> Any:
        """Which rows were kept: worked out at each access, so that it costs no memory."""
        check_fitted(self, "weights_")
        return self.weights_ > 0.5

    def _take(self, found: Any) -> None:
        self._forget()
        self.location_ = found.mean
        self.weights_ = found.weights
        self.scores_ = found.scores
        self.eigenvalues_ = found.eigenvalues
        self.n_iter_ = int(found.rounds)
        self.n_passes_ = int(found.passes)
        self.contamination_ = float(found.contamination)
        self.stop_reason_ = str(found.stop_reason)

    def _forget(self) -> None:
        """Drop what an earlier call of another kind left behind."""
        for name in _RESULTS:
            self.__dict__.pop(name, None)
