"""`SpectralSignatures`: poisoned examples show along the top direction of their class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis import _arrays, ops
from tamis.backdoor import _classes
from tamis.backdoor._classes import ClassDetector, ClassFinding
from tamis.estimators._validation import seed_of, thread_number
from tamis.ops.spectral import MAX_EIGENPAIRS

__all__ = ["SpectralSignatures"]


class SpectralSignatures(ClassDetector):
    """Poisoned examples, by the squared projection on the top directions of their class.

    Parameters
    ----------
    contamination : float in [0, 0.5)
        An upper bound for the share of poison in a class.
    multiplier : float >= 1
        ``multiplier * contamination`` of every class that is looked at goes.
    k : int >= 1
        Directions; the paper has one.
    as_coded : bool
        As the authors' code has it: the absolute value of the projection of *uncentred* rows, which
        ranks differently where the mean of the class has a part along the direction. Needs k = 1.
    random_state : int, numpy RandomState or Generator, optional
        Of the eigensolver's start.
    n_jobs : int, optional
        CPU threads of native code; they never change the result.

    Attributes
    ----------
    scores_ : float64 array of shape (n,)
        In the order of the rows given; higher is more suspicious.
    removed_ : bool array of shape (n,)
        The ``int(multiplier * contamination * m)`` rows of largest score of every class of m rows.
    class_report_ : dict of int to `ClassReport`
    suspected_classes_ : list of int
        Classes that look attacked.
    classes_ : int64 array
        All labels.
    n_features_in_ : int

    Notes
    -----
    Source: Tran, Li and Madry 2018, Algorithm 1. A class is centred, its top directions come from
    `tamis.power_iteration` and the scores from `tamis.projection_scores`: the representations are
    read a few times and never copied as a whole.

    Examples
    --------
    >>> import numpy as np
    >>> from tamis.backdoor import SpectralSignatures
    >>> R = np.random.default_rng(0).standard_normal((2000, 20))
    >>> labels = np.arange(2000) % 2
    >>> R[:100:2] += 3.0
    >>> found = SpectralSignatures(0.05).fit(R, labels)
    >>> int(found.removed_[:100:2].sum()), found.suspected_classes_
    (50, [0])
    """

    def __init__(
        self,
        contamination: float = 0.05,
        multiplier: float = 1.5,
        k: int = 1,
        *,
        as_coded: bool = False,
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        self.contamination = contamination
        self.multiplier = multiplier
        self.k = k
        self.as_coded = as_coded
        self.random_state = random_state
        self.n_jobs = n_jobs

    def _check_parameters(self) -> None:
        k = _arrays.check_int(self.k, "k", 1, MAX_EIGENPAIRS + 1)
        if self.as_coded and k != 1:
            raise ValueError(f"k: expected 1 with as_coded=True, got {k}")
        super()._check_parameters()

    def _score(self, rows: NDArray[Any], members: NDArray[np.int64]) -> ClassFinding:
        threads = thread_number(self.n_jobs)
        mean = _classes.class_mean(rows, members)
        seed = seed_of(self.random_state)
        values, vectors = _classes.top_directions(
            rows, members, mean, _classes.num_values(self.k), seed, threads
        )
        V = np.ascontiguousarray(vectors[:, : self.k])
        scores = np.empty(members.size)
        along = np.empty(members.size)
        for part, block in _classes.gathered(rows, members):
            center, axes = mean.astype(block.dtype), V.astype(block.dtype)
            scores[part] = ops.projection_scores(block, axes, mean=center, num_threads=threads)
            first = scores[part]
            if self.k > 1:
                one = np.ascontiguousarray(axes[:, :1])
                first = ops.projection_scores(block, one, mean=center, num_threads=threads)
            # the kernel subtracts the mean without a copy; here only the side is asked for
            side = block @ axes[:, 0] >= center @ axes[:, 0]
            along[part] = np.where(side, 1.0, -1.0) * np.sqrt(first)
        if self.as_coded:
            scores = np.abs(along + float(mean @ V[:, 0]))
        separation, share = _classes.split_in_two(along)
        attacked = separation > _classes.SEPARATION
        return ClassFinding(scores, values, separation, share, attacked)
