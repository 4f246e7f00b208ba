"""Why a row has its score: the direction that gave it away, and the features that carry it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis import _arrays, _rows
from tamis.estimators._validation import check_fitted

__all__ = ["ExplainMixin", "Explanation", "parts_of_form"]

_SHOWN = 5  # features in the text


@dataclass(frozen=True, eq=False)
class Explanation:
    """What makes up the outlier score of one row.

    Attributes
    ----------
    score : float
        Minus `score_samples`: higher is more outlying.
    threshold : float
        Rows with larger scores are outliers: minus ``offset_``.
    direction : float64 array of shape (d,)
        Unit vector v; along ``v . x`` the row stands out most. Zeros where there is none. Where
        features nearly repeat one another its entries are large without much effect, so read
        features off the contributions.
    deviations : float
        How far out the row lies along it, in standard deviations of clean rows; >= 0, for the
        direction points to the row.
    share : float
        Part of the score that this direction alone accounts for, 0 to 1.
    contributions : float64 array of shape (d,)
        What each feature adds to the score; their sum is the score. Negative ones occur in
        `tamis.SpectralOutlierDetector` alone, where a feature pulls the row back along the
        direction; squared distances are split by `parts_of_form`.
    names : tuple of str
        Names of the features: those of the columns in `fit`, else their numbers.
    """

    score: float
    threshold: float
    direction: NDArray[np.float64]
    deviations: float
    share: float
    contributions: NDArray[np.float64]
    names: tuple[str, ...]

    @property
    def outlier(self) -> bool:
        """Is the row called an outlier?"""
        return self.score > self.threshold

    def top(self, k: int = _SHOWN) -> list[tuple[str, float]]:
        """The k features that add most to the score, with what they add."""
        order = np.argsort(-self.contributions, kind="stable")[:k]
        return [(self.names[j], float(self.contributions[j])) for j in order]

    def __str__(self) -> str:
        """A line on the score, one on the direction, and one for each of a few features."""
        called = "an outlier" if self.outlier else "not an outlier"
        lines = [
            f"score {self.score:.4g}, threshold {self.threshold:.4g}: {called}",
            f"{self.deviations:.3g} standard deviations out along one direction, "
            f"{100 * self.share:.0f}% of the score",
        ]
        width = max(len(name) for name, _ in self.top())
        for name, part in self.top():
            percent = 100 * part / self.score if self.score > 0.0 else 0.0
            lines.append(f"  {name.ljust(width)}  {percent:4.0f}% of the score")
        return "\n".join(lines)


class ExplainMixin:
    """`explain` of a detector, from its ``_explained(row)`` and its ``_fit_X``, the rows of fit."""

    def explain(self, row: Any) -> Explanation:
        """Why a row has its score.

        Parameters
        ----------
        row : int or array of shape (n_features_in_,)
            The number of a row of `fit` (which are referred to, not copied, and not pickled), or
            any row.

        Returns
        -------
        Explanation
            The direction that gave it away, and what each feature adds to the score.

        Raises
        ------
        NotFittedError
            Before `fit`.
        IndexError
            No row of this number.
        TypeError, ValueError
            Not a row of finite numbers with the columns of `fit`, one whose score overflows, or a
            number where the rows of `fit` are no longer known.

        Examples
        --------
        >>> import numpy as np, tamis
        >>> X = np.random.default_rng(0).standard_normal((1000, 5))
        >>> X[7, 3] += 9.0
        >>> why = tamis.SpectralOutlierDetector("auto").fit(X).explain(7)
        >>> why.outlier, [name for name, part in why.top(1)]
        (True, ['3'])
        """
        detector: Any = self
        check_fitted(detector, "offset_")
        x = np.array(self._row(row), dtype=np.float64)
        with np.errstate(over="ignore", invalid="ignore"):  # refused below
            score, direction, deviations, share, contributions = detector._explained(x)
        if not np.isfinite([score, deviations, share, *contributions]).all():
            raise ValueError(
                f"row: expected values whose squares are finite, got up to {np.abs(x).max():g}"
            )
        names = getattr(detector, "feature_names_in_", range(detector.n_features_in_))
        if deviations < 0.0:
            direction, deviations = -direction, -deviations
        return Explanation(
            score=float(score),
            threshold=-float(detector.offset_),
            direction=np.asarray(direction, np.float64),
            deviations=float(deviations),
            share=float(min(max(share, 0.0), 1.0)),
            contributions=np.asarray(contributions, np.float64),
            names=tuple(str(name) for name in names),
        )

    def _row(self, row: Any) -> Any:
        detector: Any = self
        if _arrays.is_torch(row):
            row = row.detach().cpu().numpy()
        values = np.asarray(row)
        if values.ndim == 0 and values.dtype.kind in "iu":
            known = getattr(detector, "_fit_X", None)
            if known is None:
                raise ValueError(
                    f"row: the rows of fit are not kept with a saved "
                    f"{type(detector).__name__}; give the row itself, of shape "
                    f"({detector.n_features_in_},)"
                )
            number, n = int(values), int(known.shape[0])
            if not -n <= number < n:
                raise IndexError(f"row: expected a number below {n}, got {number}")
            found = known[number]
            return found.detach().cpu().numpy() if _arrays.is_torch(found) else found
        if values.ndim != 1:
            raise ValueError(
                f"row: expected an integer or shape ({detector.n_features_in_},), got shape "
                f"{values.shape}"
            )
        if values.size != detector.n_features_in_:  # as for tables, whatever the names
            raise ValueError(f"row: expected {detector.n_features_in_} numbers, got {values.size}")
        table = _rows.as_rows(values[None], "row")
        _rows.check_finite(table, "row")
        return table[0]

    def __getstate__(self) -> dict[str, Any]:
        """Leave the rows of fit out of a saved detector."""
        before: Any = getattr(super(), "__getstate__", None)
        state = before() if before is not None else None
        state = dict(self.__dict__ if state is None else state)
        state.pop("_fit_X", None)
        return state


def parts_of_form(
    gap: NDArray[np.float64], root: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Split ``|| root' gap ||^2`` over the features, (d,); nothing negative, and the sum is it.

    The corr-max transformation of Garthwaite and Koch 2016, "Evaluating the contributions of
    individual variables to a quadratic form", Aust. N. Z. J. Stat. 58: squares of the symmetric
    root of the form, of features divided by ``scale``. With a diagonal form the parts are the terms
    of the sum; two features that agree everywhere but here get equal shares.
    """
    unit = np.where(scale > 0.0, scale, 1.0)
    U, s, _ = np.linalg.svd(unit[:, None] * root, full_matrices=False)
    return np.asarray(np.square(U @ (s * (U.T @ (gap / unit)))))
