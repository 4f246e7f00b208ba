"""Bounds for a Bernoulli mean, and the certified radius they give."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tamis import _core

Side = Literal["lower", "upper"]


def clopper_pearson(
    successes: ArrayLike, trials: ArrayLike, alpha: ArrayLike, *, side: Side = "lower"
) -> Any:
    """One-sided exact confidence bound for a Bernoulli mean.

    Parameters
    ----------
    successes, trials : int or array of int
        ``0 <= successes <= trials``, ``1 <= trials <= 2**53``; broadcast against each other and
        ``alpha``.
    alpha : float or array in (0, 1)
        Error probability of this one bound. A two-sided interval at level ``alpha`` is the lower
        and the upper bound at ``alpha / 2``.
    side : {"lower", "upper"}
        ``BetaInv(alpha; k, n - k + 1)`` (0 for k = 0) or ``BetaInv(1 - alpha; k + 1, n - k)``
        (1 for k = n).

    Returns
    -------
    float or float64 array
        Relative error below 1e-12 for up to 1e9 trials and any ``alpha``. A float for scalar
        input; empty input gives an empty array. A lower bound is always below 1. Where an upper
        bound is close to 1, the lower bound of ``trials - successes`` gives 1 minus it accurately.

    Raises
    ------
    TypeError
        Counts that are not integers, or ``alpha`` that is not real; the argument is named.
    ValueError
        A value out of range (its flat index is named), or shapes that do not broadcast.

    Notes
    -----
    Source: Clopper and Pearson, Biometrika 26, 1934. ``LowerConfBound`` of Cohen et al. 2019.

    Examples
    --------
    >>> import tamis
    >>> round(tamis.clopper_pearson(990, 1000, 0.001), 6)
    0.976036
    """
    k, n, level = _broadcast_counts(successes, trials, alpha)
    return _scalar_or_array(_core.clopper_pearson(k, n, level, _check_side(side)))


def confidence_sequence(
    successes: ArrayLike, trials: ArrayLike, alpha: ArrayLike, *, side: Side = "lower"
) -> Any:
    """One-sided bound for a Bernoulli mean that holds at every sample size at once.

    Unlike `clopper_pearson`, it stays valid when one looks after every batch and stops whenever
    the answer is good enough; the best bound seen so far is valid too.

    Parameters
    ----------
    successes, trials, alpha, side
        As in `clopper_pearson`; ``trials`` may be 0, which gives the bounds 0 and 1.

    Returns
    -------
    float or float64 array
        With probability at least ``1 - alpha`` the bound is right after every trial.

    Raises
    ------
    TypeError, ValueError
        As in `clopper_pearson`.

    Notes
    -----
    The lower bound is the mean ``p`` against which betting a uniformly mixed fraction of the wealth
    on every success has multiplied it by ``1 / alpha``; a mixture martingale. Source: Robbins 1970;
    Howard et al. 2021; Waudby-Smith and Ramdas 2024. The C++ header ``confidence.hpp`` gives the
    formula.

    Examples
    --------
    >>> import tamis
    >>> bool(tamis.confidence_sequence(990, 1000, 0.001) < tamis.clopper_pearson(990, 1000, 0.001))
    True
    """
    k, n, level = _broadcast_counts(successes, trials, alpha)
    return _scalar_or_array(_core.confidence_sequence(k, n, level, _check_side(side)))


def binomial_test_half(successes: ArrayLike, trials: ArrayLike) -> Any:
    """Two-sided exact p-value of ``successes`` heads in ``trials`` tosses of a fair coin.

    Parameters
    ----------
    successes, trials : int or array of int
        ``0 <= successes <= trials``; broadcast against each other.

    Returns
    -------
    float or float64 array
        In [0, 1] (0 by underflow only); 1 for no trials. Relative error below 1e-12.

    Raises
    ------
    TypeError, ValueError
        As in `clopper_pearson`.

    Notes
    -----
    The test of ``Predict`` in Cohen et al. 2019, with the counts of the top two classes.

    Examples
    --------
    >>> import tamis
    >>> round(tamis.binomial_test_half(2, 9), 6)
    0.179688
    """
    k, n = np.broadcast_arrays(_as_counts(successes, "successes"), _as_counts(trials, "trials"))
    return _scalar_or_array(_core.binomial_test_half(_dense(k), _dense(n)))


def certified_radius(p_lower: ArrayLike, sigma: float, p_upper: ArrayLike | None = None) -> Any:
    """The l2 radius within which a smoothed classifier cannot change its answer.

    Parameters
    ----------
    p_lower : float or array in [0, 1]
        Lower confidence bound for the probability of the top class under noise.
    sigma : float
        Standard deviation of that noise, > 0 and finite.
    p_upper : float or array in [0, 1], optional
        Upper bound for every other class. Default: ``1 - p_lower``.

    Returns
    -------
    float or float64 array
        ``sigma / 2 * (PhiInv(p_lower) - PhiInv(p_upper))``, in the units of ``sigma``; 0 where
        nothing is certified (``p_lower <= 1/2``, or ``p_lower <= p_upper``); inf for certainty.

    Raises
    ------
    TypeError
        An argument that is not real; it is named.
    ValueError
        A NaN or a value out of range (its flat index is named), or shapes that do not broadcast.

    Notes
    -----
    Source: Cohen, Rosenfeld and Kolter 2019, Theorem 1.

    Examples
    --------
    >>> import tamis
    >>> round(tamis.certified_radius(0.9, 0.5), 6)
    0.640776
    >>> tamis.certified_radius([0.4, 0.5], 0.5).tolist()
    [0.0, 0.0]
    """
    scale = _as_reals(sigma, "sigma")
    if scale.ndim:
        raise TypeError(f"sigma: expected one number, got an array of shape {scale.shape}")
    lower = _as_reals(p_lower, "p_lower")
    if p_upper is None:
        return _scalar_or_array(_core.certified_radius(_dense(lower), scale.item()))
    lower, upper = np.broadcast_arrays(lower, _as_reals(p_upper, "p_upper"))
    return _scalar_or_array(_core.certified_radius(_dense(lower), scale.item(), _dense(upper)))


def _check_side(side: str) -> str:
    if side not in ("lower", "upper"):
        raise ValueError(f"side: expected 'lower' or 'upper', got {side!r}")
    return side


def _as_reals(values: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name}: expected real numbers, got dtype {array.dtype}")
    return array.astype(np.float64, copy=False)


def _as_counts(values: ArrayLike, name: str) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.size == 0 and array.dtype.kind == "f":
        return array.astype(np.int64)  # an empty list has no integers to show its type with
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected integers, got dtype {array.dtype}")
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{name}: expected counts below 2**63, got {array.max()}")
    return array.astype(np.int64, copy=False)


def _broadcast_counts(
    successes: ArrayLike, trials: ArrayLike, alpha: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    k, n, level = np.broadcast_arrays(
        _as_counts(successes, "successes"), _as_counts(trials, "trials"), _as_reals(alpha, "alpha")
    )
    return _dense(k), _dense(n), _dense(level)


def _dense(array: NDArray[Any]) -> NDArray[Any]:
    return np.require(array, requirements=["C", "A"])


def _scalar_or_array(values: NDArray[np.float64]) -> Any:
    return values.item() if values.ndim == 0 else values
