"""The published mixtures of good and bad rows, for tests and benchmarks alike.

Robust covariance: Diakonikolas et al. 2017. QUE scores: Dong, Hopkins and Li 2019. As their
authors' code draws them; bad rows come first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Generator = np.random.Generator


def for_covariance(panel: str, d: int, rng: Generator) -> tuple[Any, Any, int]:
    """Rows, the diagonal of the true covariance, the number of bad rows.

    ``panel``: "isotropic", bad rows at zero, or "spiked", bad rows on a grid that is turned.
    """
    n, bad = 200 * d, 10 * d
    diagonal = np.ones(d)
    if panel == "isotropic":
        X = rng.standard_normal((n, d))
        X[:bad] = 0.0
        return X, diagonal, bad
    diagonal[0] = 100.0
    X = rng.standard_normal((n, d)) * np.sqrt(diagonal)
    parts = (
        0.5 * rng.integers(-1, 2, (bad, d // 2)),
        0.8 * rng.integers(-2, 3, (bad, d // 2 - 1)),
        rng.integers(-100, 101, (bad, 1)),
    )
    X[:bad] = np.hstack(parts) @ np.linalg.qr(rng.standard_normal((d, d)))[0]
    return X, diagonal, bad


def for_que(k: int, d: int, rng: Generator, ambient: float = 1.0) -> tuple[Any, Any]:
    """Rows with two-sided outliers in k directions, and their labels: 1 for outliers, a fifth.

    ``ambient``: noise of the outliers; the authors' code has 0.1.
    """
    groups = []
    for i in range(k):
        group = ambient * rng.standard_normal((int(520 * 1.1**i), d))
        group[:, i * ((d - 1) // k)] += np.sqrt(k / 0.2)
        group[len(group) // 2 :] *= -1.0
        groups.append(group)
    bad = np.vstack(groups)
    X = np.vstack([bad, rng.standard_normal((4 * len(bad), d))])
    return X, (np.arange(len(X)) < len(bad)).astype(int)
