"""`Spectre`: quantum entropy scores after a whitening that poison does not reach."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tamis import _arrays
from tamis.backdoor import _classes
from tamis.backdoor._classes import ClassDetector, ClassFinding
from tamis.backdoor._shrinkage import ShrunkWhitening, spanned, unit_rows
from tamis.estimators._validation import seed_of, thread_number
from tamis.estimators.covariance import RobustCovariance
from tamis.ops.spectral import MAX_EIGENPAIRS
from tamis.que import que_scores

__all__ = ["Spectre"]

_LADDER = (2, 4, 8, 16, 32, 64)  # what "auto" tries
SEPARATION = 13.0  # as `_classes.SEPARATION`; whitened, small groups of good rows stand out more,
_SMALLEST = 0.25  # so that those below this part of the contamination raise no alarm
_ROWS_A_DIRECTION = 10  # a robust covariance of fewer rows says little
_ALPHA = 4.0  # with one direction in mind; in all directions, the top one is any group's


class Spectre(ClassDetector):
    """Poisoned examples, by quantum entropy scores of robustly whitened representations.

    The rows of a class are projected on their top k directions, whitened by
    `tamis.RobustCovariance`, which poison cannot inflate, and scored by `tamis.que_scores`: a weak
    signature shows once the large variances of good rows are out of the way.

    Parameters
    ----------
    contamination, multiplier, random_state, n_jobs
        As in `SpectralSignatures`.
    k : int >= 1, "auto" or "all"
        Directions. "auto": of 2, 4, 8, ... 64 (at most the columns and a tenth of the rows, which
        number is tried too), the one for which the rows that would go stand out most: their mean
        score minus that of the others, in standard deviations of the others. "all": for outliers
        that share no signature, such as other images among those of a class; see the notes.
    alpha : float >= 0, optional
        See `tamis.que_scores`. Default 4; 0 with ``k="all"``, where the scores are squared
        distances then.

    Attributes
    ----------
    scores_, removed_, class_report_, suspected_classes_, classes_, n_features_in_
        As in `SpectralSignatures`. A class looks attacked where the separation along the top
        direction of the whitened rows is above 13 and the smaller group has at least a quarter of
        the contamination's share. With ``k="all"``, where the rows of largest score are far out by
        construction, the direction is that of the rows of unit length and the limit 5.
    k_ : dict of int to int
        The number of directions of every class.

    Notes
    -----
    Source: Hayase, Kong, Somani and Oh 2021, "SPECTRE: defending against backdoor attacks using
    robust statistics". Departures: the covariance filter is that of this package, k is chosen by
    the rule above, and ``k="all"`` is an addition.

    With ``k="all"``, every row is divided by its length first: the length of a representation says
    how much is in an image, the direction what. The mean and the covariance are those of the rows
    that stay (three rounds), and the covariance is shrunk as Ledoit and Wolf 2004 have it, so that
    fewer rows than columns will do. It takes a copy of a class in float64 and time that grows with
    the cube of its rows or columns, whichever are fewer. ``docs/backdoor.md`` has on which data
    this was chosen.

    Examples
    --------
    >>> import numpy as np
    >>> from tamis.backdoor import Spectre
    >>> rng = np.random.default_rng(0)
    >>> R = rng.standard_normal((1000, 20)) * np.linspace(5, 1, 20)
    >>> R[:50, 19] += 6.0
    >>> found = Spectre(0.05).fit(R, np.zeros(1000, int))
    >>> int(found.removed_[:50].sum()) > 45
    True
    """

    def __init__(
        self,
        contamination: float = 0.05,
        multiplier: float = 1.5,
        k: int | Literal["auto", "all"] = "auto",
        *,
        alpha: float | None = None,
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        self.contamination = contamination
        self.multiplier = multiplier
        self.k = k
        self.alpha = alpha
        self.random_state = random_state
        self.n_jobs = n_jobs

    def _check_parameters(self) -> None:
        if isinstance(self.k, str):
            if self.k not in ("auto", "all"):
                raise ValueError(f"k: expected a number, 'auto' or 'all', got {self.k!r}")
        else:
            _arrays.check_int(self.k, "k", 1, MAX_EIGENPAIRS + 1)
        if self.alpha is not None:
            alpha = _arrays.check_real(self.alpha, "alpha")
            if not 0.0 <= alpha < np.inf:
                raise ValueError(f"alpha: expected a finite number >= 0, got {alpha}")
        super()._check_parameters()

    def fit(self, representations: Any, labels: Any, *, classes: Any = None) -> Spectre:
        """See `SpectralSignatures.fit`."""
        self._chosen: list[int] = []  # numbers of directions, in the order of the classes
        super().fit(representations, labels, classes=classes)
        self.k_ = dict(zip(self.class_report_, self._chosen, strict=True))
        return self

    def _score(self, rows: NDArray[Any], members: NDArray[np.int64]) -> ClassFinding:
        gone = max(self._removed_of(members.size), 1)  # what stands out is looked for in any case
        if self.k == "all":
            return self._in_all_directions(rows, members, gone)
        seed = seed_of(self.random_state)
        n, d = members.size, rows.shape[1]
        most = max(1, min(d, MAX_EIGENPAIRS, n - 1))
        room = max(1, min(most, n // _ROWS_A_DIRECTION))
        if self.k == "auto":
            top = min(room, _LADDER[-1])
            ladder = [*(k for k in _LADDER if k < top), top]
        else:
            ladder = [min(int(self.k), most)]
        mean = _classes.class_mean(rows, members)
        wanted = min(max(ladder[-1], _classes.num_values(1)), most)
        values, V = _classes.top_directions(
            rows, members, mean, wanted, seed, thread_number(self.n_jobs)
        )
        Z = _classes.projections(rows, members, mean, V)
        best, chosen, scores, whitened = -np.inf, ladder[0], np.zeros(n), np.zeros((n, 1))
        for k in ladder:
            found, white = self._whitened_scores(Z[:, :k], seed)
            contrast = _contrast(found, gone)
            if contrast > best:
                best, chosen, scores, whitened = contrast, k, found, white
        self._chosen.append(chosen)
        gap = whitened - whitened.mean(axis=0)
        along = gap @ np.linalg.eigh(gap.T @ gap)[1][:, -1]
        separation, share = _classes.split_in_two(along)
        attacked = separation > SEPARATION and share >= _SMALLEST * float(self.contamination)
        usual = values[: _classes.num_values(1)]
        return ClassFinding(scores, usual, separation, share, attacked)

    def _whitened_scores(
        self, Z: NDArray[np.float64], seed: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Scores of rows on the top directions, (n,), and these rows whitened."""
        share = min(float(self.contamination), 0.2)
        fit = RobustCovariance(share, random_state=seed, n_jobs=self.n_jobs).fit(Z)
        w, U = np.linalg.eigh(np.asarray(fit.covariance_, np.float64))
        good = w > 1e-12 * max(float(w[-1]), np.finfo(np.float64).tiny)
        if not good.any():
            return np.zeros(Z.shape[0]), np.zeros((Z.shape[0], 1))
        whitened = (Z - fit.location_) @ (U[:, good] / np.sqrt(w[good]))
        alpha = _ALPHA if self.alpha is None else float(self.alpha)
        return np.asarray(que_scores(whitened, alpha)), whitened

    def _in_all_directions(
        self, rows: NDArray[Any], members: NDArray[np.int64], gone: int
    ) -> ClassFinding:
        _classes.class_mean(rows, members)  # a value that is not finite is an error here
        Z = spanned(unit_rows(rows, members))
        self._chosen.append(Z.shape[1])
        if not Z.shape[1]:  # all rows point the same way
            return ClassFinding(np.zeros(members.size), np.zeros(1), 0.0, 0.0, False)
        fit = ShrunkWhitening(Z, rows.shape[1], gone)
        if self.alpha:
            scores = np.asarray(que_scores(fit.rows, float(self.alpha)))
        else:
            scores = np.square(fit.rows).sum(axis=1)
        separation, share = _classes.split_in_two(Z @ fit.top)
        usual = fit.values[: _classes.num_values(1)]
        return ClassFinding(scores, usual, separation, share, separation > _classes.SEPARATION)


def _contrast(scores: NDArray[np.float64], gone: int) -> float:
    """How far the rows of largest score are from the others, in deviations of the others."""
    ordered = np.sort(scores)
    rest = ordered[:-gone]
    spread = float(rest.std()) if rest.size else 0.0
    return float(ordered[-gone:].mean() - rest.mean()) / spread if spread > 0.0 else 0.0
