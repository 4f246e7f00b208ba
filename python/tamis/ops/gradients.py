"""What SEVER asks of the gradients of a linear regression, in one read of its examples."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from tamis import _arrays, _core
from tamis.ops.spectral import check_numbers, check_rows, check_vectors

MAX_PRODUCTS = 251  # a column of the block is the model's


class LinearGradients(NamedTuple):
    """Of gradients ``a_i (x_i - c)``: float64 arrays of the library and device of ``X``.

    Attributes
    ----------
    coefficients : array of shape (n,)
        ``a_i = w_i min(max(x_i . coef + intercept - y_i, -epsilon), epsilon)``.
    center : array of shape (d,)
        ``c``: the mean of the examples, by ``center_weights``.
    mean : array of shape (d,)
        The mean of the gradients, by ``center_weights``.
    total : array of shape (d,)
        ``sum_i a_i (x_i - c)``.
    squares : array of shape (d,)
        ``sum_i a_i^2 (x_i - c)``.
    product : array of the shape of ``V``
        ``sum_i a_i^2 (x_i - c) (x_i - c)^T V``.
    """

    coefficients: Any
    center: Any
    mean: Any
    total: Any
    squares: Any
    product: Any


def linear_gradients(
    X: Any,
    y: Any,
    coef: Any,
    intercept: float,
    V: Any,
    *,
    epsilon: float = math.inf,
    weights: Any = None,
    center_weights: Any = None,
    num_threads: int | None = None,
) -> LinearGradients:
    """Gradients of a linear regression's loss and the first product of their second moments.

    The loss is Huber's: squared up to a residual of ``epsilon``, linear beyond. Neither gradients
    nor their covariance are formed, and ``X`` is read once: what SEVER does after every fit.

    Parameters
    ----------
    X : array of shape (n, d), float32 or float64
        As in `covariance_apply`.
    y : array of shape (n,)
    coef : array of shape (d,)
    intercept : float
    V : array of shape (d,) or (d, k), k <= 251
    epsilon : float > 0
        Infinite for the squared loss.
    weights : array of shape (n,), optional
        Sample weights w, finite numbers. Default ones.
    center_weights : array of shape (n,), optional
        Finite, >= 0, not all zero. Default ones.
    num_threads : int, optional
        CPU threads; never changes the result. Default: see `tamis.info`.

    Returns
    -------
    LinearGradients
        Sums as in `covariance_apply`: the same bits for any number of threads and any instruction
        set.

    Raises
    ------
    TypeError, ValueError
        As in `covariance_apply`; a residual that is not finite is named by its row.

    Examples
    --------
    >>> import numpy as np, tamis
    >>> X = np.array([[0.0], [2.0], [4.0]])
    >>> y = np.array([0.0, 1.0, 5.0])
    >>> found = tamis.linear_gradients(X, y, np.ones(1), 0.0, np.ones(1))
    >>> found.coefficients.tolist(), found.center.tolist(), found.total.tolist()
    ([0.0, 1.0, -1.0], [2.0], [-2.0])
    """
    X = check_rows(X)
    n, d = (int(extent) for extent in X.shape)
    block, shape = check_vectors(X, V, "V", MAX_PRODUCTS)
    limit = _arrays.check_real(epsilon, "epsilon")
    if not limit > 0.0:
        raise ValueError(f"epsilon: expected a number > 0, got {limit}")
    at_zero = _arrays.check_real(intercept, "intercept")
    coefficients = _arrays.empty(X, (n,), "float64")
    center = _arrays.empty(X, (d,), "float64")
    sums = _arrays.empty(X, (3, d), "float64")
    product = _arrays.empty(X, tuple(block.shape), "float64")
    _core.linear_gradients(
        X,
        check_numbers(X, coef, "coef", (d,)),
        at_zero,
        check_numbers(X, y, "y", (n,)),
        limit,
        check_numbers(X, weights, "weights", (n,)),
        check_numbers(X, center_weights, "center_weights", (n,)),
        block,
        coefficients,
        center,
        sums,
        product,
        _arrays.thread_count(num_threads),
        _arrays.cuda_stream(X),
    )
    return LinearGradients(coefficients, center, sums[0], sums[1], sums[2], product.reshape(shape))
