"""Twin of the QUE scores: the matrix exponential as in the paper (Dong, Hopkins and Li 2019)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import expm

__all__ = ["que_scores"]


def que_scores(
    X: NDArray[np.float64], alpha: float = 4.0, *, weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """``(x_i - mu)' U (x_i - mu)``, ``U = exp(alpha S / lambda_1) / trace``.

    ``weights`` (n,) are those of the rows in mu and S; every row gets a score.
    """
    w = np.ones(len(X)) if weights is None else weights
    gap = X - w @ X / w.sum()
    S = (w[:, None] * gap).T @ gap / w.sum()
    U = expm(alpha * S / np.linalg.eigvalsh(S)[-1])
    return np.asarray(np.einsum("ij,jk,ik->i", gap, U / np.trace(U), gap))
