"""`ActivationClustering`: a baseline that splits every class in two."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis import _arrays
from tamis.backdoor import _classes
from tamis.backdoor._classes import ClassDetector, ClassFinding
from tamis.estimators._validation import seed_of, thread_number
from tamis.ops.spectral import MAX_EIGENPAIRS

__all__ = ["ActivationClustering"]

_STARTS = 10
_ROUNDS = 100
_SIZE = 0.35  # a smaller group above this share is no poison


class ActivationClustering(ClassDetector):
    """Poisoned examples, as the smaller of two clusters of their class: a baseline.

    Parameters
    ----------
    contamination, multiplier, random_state, n_jobs
        As in `SpectralSignatures`.
    n_components : int >= 1
        Directions that the rows are projected on first.

    Attributes
    ----------
    scores_ : float64 array of shape (n,)
        Distance to the centre of the larger cluster minus that to the smaller one's: positive for
        members of the smaller one.
    removed_, class_report_, suspected_classes_, classes_, n_features_in_
        As in `SpectralSignatures`. A class looks attacked where its smaller cluster has at most 35%
        of the rows and the separation along the line between the centres is above 5.

    Notes
    -----
    Source: Chen, Carvalho, Baracaldo, Ludwig, Edwards, Lee, Molloy and Srivastava 2018, "Detecting
    backdoor attacks on deep neural networks by activation clustering". Departures: principal
    instead of independent components; as many rows go as for the other detectors.

    Examples
    --------
    >>> import numpy as np
    >>> from tamis.backdoor import ActivationClustering
    >>> R = np.random.default_rng(0).standard_normal((500, 20))
    >>> R[:50] += 3.0
    >>> int(ActivationClustering(0.1).fit(R, np.zeros(500, int)).removed_[:50].sum())
    50
    """

    def __init__(
        self,
        contamination: float = 0.05,
        multiplier: float = 1.5,
        *,
        n_components: int = 10,
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        self.contamination = contamination
        self.multiplier = multiplier
        self.n_components = n_components
        self.random_state = random_state
        self.n_jobs = n_jobs

    def _check_parameters(self) -> None:
        _arrays.check_int(self.n_components, "n_components", 1, MAX_EIGENPAIRS + 1)
        super()._check_parameters()

    def _score(self, rows: NDArray[Any], members: NDArray[np.int64]) -> ClassFinding:
        seed = seed_of(self.random_state)
        mean = _classes.class_mean(rows, members)
        count = max(1, min(self.n_components, members.size - 1, rows.shape[1]))
        values, V = _classes.top_directions(
            rows, members, mean, count, seed, thread_number(self.n_jobs)
        )
        Z = _classes.projections(rows, members, mean, V)
        centres, group = two_means(Z, np.random.default_rng(seed))
        small = int(group.sum() * 2 < group.size)
        far = [np.linalg.norm(Z - centre, axis=1) for centre in centres]
        share = float((group == small).mean())
        line = centres[1] - centres[0]
        length = float(np.linalg.norm(line))
        separation, _ = _classes.split_in_two(Z @ line / length) if length > 0 else (0.0, 0.0)
        attacked = separation > _classes.SEPARATION and share <= _SIZE
        usual = values[: _classes.num_values(1)]
        return ClassFinding(far[1 - small] - far[small], usual, separation, share, attacked)


def two_means(
    Z: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Centres (2, d) and group (n,) of the best of some runs of Lloyd's algorithm."""
    best = (np.inf, Z[:2], np.zeros(len(Z), np.int64))
    for _ in range(_STARTS):
        first = Z[rng.integers(len(Z))]
        gap = np.square(Z - first).sum(axis=1)
        total = float(gap.sum())
        if total == 0.0:  # all rows coincide
            return np.stack([first, first]), np.zeros(len(Z), np.int64)
        centres = np.stack([first, Z[rng.choice(len(Z), p=gap / total)]])  # k-means++
        for _ in range(_ROUNDS):
            d2 = np.square(Z[:, None] - centres).sum(axis=2)
            group = d2.argmin(axis=1)
            moved = np.stack([
                Z[group == j].mean(axis=0) if (group == j).any() else centres[j] for j in (0, 1)
            ])  # fmt: skip
            if np.array_equal(moved, centres):
                break
            centres = moved
        cost = float(d2.min(axis=1).sum())
        if cost < best[0]:
            best = (cost, centres, group)
    return best[1], best[2]
