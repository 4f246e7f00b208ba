"""Twin of the degree-2 directions: all products of all rows, formed and decomposed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["top_form"]


def top_form(Z: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """The symmetric V of Frobenius norm 1 for which ``z' V z`` varies most over the rows.

    Forms an (n, d^2) array; the matrix-free code is `tamis.estimators._quadratic.top_forms`.
    """
    n, d = Z.shape
    products = (Z[:, :, None] * Z[:, None, :]).reshape(n, d * d)
    centred = products - products.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred / n)
    form = vectors[:, -1].reshape(d, d)
    return float(values[-1]), np.asarray((form + form.T) / 2)
