"""What the detectors share: rows class by class, what is said of a class, which rows go."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis import _arrays, _rows, ops
from tamis.estimators._base import BaseEstimator
from tamis.estimators._validation import check_fitted, is_auto, seed_of, thread_number

__all__ = [
    "FEWEST",
    "SEPARATION",
    "ClassDetector",
    "ClassFinding",
    "ClassReport",
    "class_mean",
    "gathered",
    "num_values",
    "projections",
    "split_in_two",
    "top_directions",
]

_TOLERANCE = 1e-3  # of the residuals of eigenvectors: scores change in the fourth digit
_NUM_VALUES = 4  # eigenvalues looked at; twice as many cost twice the time of everything else
_BLOCK = 512  # rows copied at once: small beside a class, large beside a call
SEPARATION = 5.0  # standard deviations between the two halves of a class that looks attacked
_SMALLEST = 0.005  # share of a class that counts as a group
FEWEST = 30  # rows; fewer fall into two groups by chance (20 of 32 normal columns: 9 times of 40)


@dataclass(frozen=True)
class ClassReport:
    """What a detector says of one class.

    Attributes
    ----------
    label : int
    rows : int
    removed : int
    top_eigenvalue : float
        Largest variance of a projection.
    bulk_eigenvalue : float
        The third eigenvalue after that of the signature (after those of all k directions of
        `SpectralSignatures`): what is usual here.
    separation : float
        Between the two groups that the class falls into along the signature, in standard
        deviations within a group. Cutting a Gaussian in two gives 2.7.
    poison_share : float
        Share of the smaller group; 0 where the class does not look attacked.
    looks_attacked : bool
        ``separation`` above 5 (`Spectre`, whose rows are whitened, and `ActivationClustering` have
        rules of their own). Groups below 0.5% are not looked at, and a class of fewer than 30 rows
        never looks attacked. ``docs/backdoor.md`` has the false alarms that were counted.
    """

    label: int
    rows: int
    removed: int
    top_eigenvalue: float
    bulk_eigenvalue: float
    separation: float
    poison_share: float
    looks_attacked: bool


@dataclass(frozen=True, eq=False)
class ClassFinding:
    """Scores of the rows of one class, (m,), and what its report is made of.

    ``values`` are the top eigenvalues, largest first: the last one stands for the bulk. ``share``
    is that of the smaller group.
    """

    scores: NDArray[np.float64]
    values: NDArray[np.float64]
    separation: float
    share: float
    attacked: bool


class ClassDetector(BaseEstimator):
    """`fit` and `detect_poison`; subclasses have ``contamination``, ``multiplier`` and `_score`."""

    contamination: float
    multiplier: float
    random_state: Any
    n_jobs: int | None

    @abstractmethod
    def _score(self, rows: NDArray[Any], members: NDArray[np.int64]) -> ClassFinding:
        """Score the rows of one class, whose numbers are ``members``."""

    def _check_parameters(self) -> None:
        """Of every detector; subclasses check their own, too."""
        if is_auto(self.contamination):
            raise TypeError("contamination: expected a number in [0, 0.5), got 'auto'")
        _rows.check_contamination(self.contamination)
        multiplier = _arrays.check_real(self.multiplier, "multiplier")
        if not 1.0 <= multiplier < np.inf:
            raise ValueError(f"multiplier: expected a finite number >= 1, got {multiplier}")
        seed_of(self.random_state)
        thread_number(self.n_jobs)

    def _removed_of(self, rows: int) -> int:
        """How many of a class of so many rows go."""
        return int(float(self.multiplier) * float(self.contamination) * rows + 1e-9)

    def fit(
        self, representations: Any, labels: Any, *, classes: Sequence[int] | None = None
    ) -> Any:
        """Score the rows of every class.

        Parameters
        ----------
        representations : array of shape (n, d)
            What a layer of the network makes of every training example
            (`tamis.backdoor.representations`). float32 and float64 are read where they lie, also
            from a memory map; other types are converted class by class.
        labels : int array of shape (n,)
            The labels that the network was trained on.
        classes : sequence of int, optional
            The classes to look at; default all. Rows of other classes get the score 0 and stay.

        Raises
        ------
        TypeError, ValueError
            Labels that do not match the rows, a class with fewer than two rows, a value that is not
            finite (the row is named), a class that would lose all its rows, or a parameter out of
            range.
        """
        self._check_parameters()
        table = _table(representations)
        known = _labels(labels, table.shape[0])
        present = np.unique(known)
        chosen = present if classes is None else np.unique(np.asarray(classes))
        absent = sorted(set(chosen.tolist()) - set(present.tolist()))
        if absent or not chosen.size:
            raise ValueError(f"classes: expected classes of the labels, got {absent}")
        scores = np.zeros(table.shape[0])
        removed = np.zeros(table.shape[0], dtype=bool)
        report: dict[int, ClassReport] = {}
        for label in chosen.tolist():
            members = np.flatnonzero(known == label)
            if members.size < 2:
                raise ValueError(
                    f"labels: expected at least 2 rows in a class, got {members.size} in class "
                    f"{label} (row {members[0]})"
                )
            found = self._score(table, members)
            scores[members] = found.scores
            count = self._removed_of(members.size)
            if count >= members.size:
                raise ValueError(
                    f"multiplier: class {label} would lose all of its {members.size} rows"
                )
            removed[members[np.argsort(-found.scores, kind="stable")[:count]]] = True
            attacked = found.attacked and members.size >= FEWEST
            report[label] = ClassReport(
                label=label,
                rows=int(members.size),
                removed=count,
                top_eigenvalue=float(found.values[0]),
                bulk_eigenvalue=float(found.values[-1]),
                separation=found.separation,
                poison_share=found.share if attacked else 0.0,
                looks_attacked=attacked,
            )
        self.scores_ = scores
        self.removed_ = removed
        self.class_report_ = report
        self.classes_ = present
        self.n_features_in_ = int(table.shape[1])
        return self

    def detect_poison(self) -> tuple[dict[int, dict[str, Any]], NDArray[np.int64]]:
        """``(report, is_clean)`` as ART's defences give them, after `fit`.

        ``report`` is `class_report_` as plain dictionaries; ``is_clean`` (n,) is 1 for rows that
        stay and 0 for those in `removed_`.
        """
        check_fitted(self, "scores_")
        report = {label: asdict(entry) for label, entry in self.class_report_.items()}
        return report, np.where(self.removed_, 0, 1)

    @property
    def suspected_classes_(self) -> list[int]:
        """Labels of the classes that look attacked."""
        check_fitted(self, "scores_")
        return [label for label, entry in self.class_report_.items() if entry.looks_attacked]


def _table(representations: Any) -> NDArray[Any]:
    """The rows as NumPy has them, without a copy; half precision stays as it is."""
    half = _arrays.is_torch(representations) and representations.device.type == "cpu"
    if half and str(representations.dtype) == "torch.float16":
        representations = representations.detach().numpy()
    if isinstance(representations, np.ndarray) and representations.dtype == np.float16:
        _rows.as_rows(representations[:1], "representations")
        return representations
    if _arrays.is_torch(representations):
        representations = representations.detach()
    return _rows.as_numpy(_rows.as_rows(representations, "representations"), "representations")


def _labels(labels: Any, rows: int) -> NDArray[np.int64]:
    given = labels.detach().cpu().numpy() if _arrays.is_torch(labels) else np.asarray(labels)
    if given.ndim != 1 or given.dtype.kind not in "iu":
        raise ValueError(
            f"labels: expected integers of shape (n,), got {given.dtype} of shape {given.shape}"
        )
    if given.size != rows:
        raise ValueError(f"labels: expected {rows}, one a row, got {given.size}")
    return given.astype(np.int64)


def gathered(rows: NDArray[Any], members: NDArray[np.int64]) -> Iterator[tuple[slice, Any]]:
    """A few hundred rows of the class at a time, float32 or float64."""
    kind = np.float32 if rows.dtype == np.float16 else rows.dtype
    for start in range(0, members.size, _BLOCK):
        part = slice(start, start + _BLOCK)
        yield part, np.ascontiguousarray(rows[members[part]], dtype=kind)


def class_mean(rows: NDArray[Any], members: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean of the rows of a class, (d,), in float64; the first row that is not finite is named."""
    total = np.zeros(rows.shape[1])
    for part, block in gathered(rows, members):
        sums = block.sum(axis=0, dtype=np.float64)
        if not np.isfinite(sums).all():  # as one value is not
            bad = np.argwhere(~np.isfinite(block))
            row, column = bad[0].tolist() if bad.size else (0, 0)
            what = f"{block[row, column]}" if bad.size else "values of overflowing sums"
            raise ValueError(
                f"representations: expected finite values, got {what} in row "
                f"{members[part][row]}, column {column}"
            )
        total += sums
    return np.asarray(total / members.size)


def top_directions(
    rows: NDArray[Any],
    members: NDArray[np.int64],
    mean: NDArray[np.float64],
    k: int,
    seed: int,
    threads: int | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Top eigenvalues, largest first, and eigenvectors (d, .) of a class.

    Other rows have the weight 0 and are skipped, so that the class is not copied out, except from
    half precision.
    """
    rank = min(k, rows.shape[1], ops.spectral.MAX_EIGENPAIRS)
    weights = None
    if rows.dtype == np.float16 or members.size < rows.shape[0] // 64:
        rows = np.ascontiguousarray(
            rows[members], np.float32 if rows.dtype == np.float16 else rows.dtype
        )
    elif members.size < rows.shape[0]:
        weights = np.zeros(rows.shape[0], rows.dtype)
        weights[members] = 1.0
    found = ops.power_iteration(
        rows, rank, weights=weights, mean=mean.astype(rows.dtype), tol=_TOLERANCE, seed=seed,
        num_threads=threads,
    )  # fmt: skip
    if found.values[0] < np.finfo(rows.dtype).tiny:
        apart = rows if weights is None else rows[members]
        if (apart != apart[0]).any():
            raise ValueError(
                f"representations: expected values whose squares {rows.dtype} can hold, got "
                f"differences of {np.ptp(apart, axis=0).max():g}: rescale them"
            )
    return np.asarray(found.values, np.float64), np.asarray(found.vectors, np.float64)


def projections(
    rows: NDArray[Any],
    members: NDArray[np.int64],
    mean: NDArray[np.float64],
    V: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Rows of a class about its mean, on directions (d, k): (m, k)."""
    Z = np.empty((members.size, V.shape[1]))
    for part, block in gathered(rows, members):
        Z[part] = (block - mean) @ V
    return Z


def num_values(k: int) -> int:
    """How many eigenvalues a report needs: the last one stands for the bulk."""
    return k + _NUM_VALUES - 1


def split_in_two(projections: NDArray[np.float64]) -> tuple[float, float]:
    """Separation and share of the smaller of two groups on a line.

    The cut maximises the variance between the groups (Otsu 1979); the separation is the distance of
    the means over the standard deviation within.
    """
    x = np.sort(projections)
    n = x.size
    left = np.arange(1, n)
    sums = np.cumsum(x)[:-1]
    low, high = sums / left, (x.sum() - sums) / (n - left)
    between = left * (n - left) * np.square(high - low)
    smallest = max(int(_SMALLEST * n), 1)
    allowed = (left >= smallest) & (n - left >= smallest)
    cut = int(np.argmax(np.where(allowed, between, -1.0)))
    within = np.square(x[: cut + 1] - low[cut]).sum() + np.square(x[cut + 1 :] - high[cut]).sum()
    gap, deviation = float(high[cut] - low[cut]), float(np.sqrt(within / n))
    share = min(cut + 1, n - cut - 1) / n
    if gap <= 0.0:
        return 0.0, share
    return gap / max(deviation, 1e-9 * gap), share
