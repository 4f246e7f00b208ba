"""The defences SEVER is compared with: each scores the examples, drops some, fits again.

All have the interface of `tamis.sever.sever`; none resists an attack that knows it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from tamis import _arrays, _rows
from tamis.estimators._validation import seed_of
from tamis.sever._sets import (
    check_fraction,
    check_left,
    class_numbers,
    drop_largest,
    mask_of,
    number_of,
    parts_of,
)
from tamis.sever.driver import SeverResult, SeverRound
from tamis.sever.gradients import OuterGradients, as_operator, take_rows

__all__ = ["KINDS", "ransac", "remove"]

Model = TypeVar("Model")
Kind = Literal["none", "l2", "loss", "gradient", "gradient_centered"]
KINDS = ("none", "l2", "loss", "gradient", "gradient_centered")


def remove(
    kind: Kind,
    fit: Callable[[NDArray[np.intp]], Model],
    values: Callable[[Model, NDArray[np.intp]], Any] | None,
    n: int,
    *,
    contamination: float,
    rounds: int = 4,
    fraction: float | None = None,
    per_class: Any = None,
    random_state: Any = None,
) -> SeverResult[Model]:
    """Drop the examples of largest score every round, and fit.

    Parameters
    ----------
    kind : {"none", "l2", "loss", "gradient", "gradient_centered"}
        Score: none (the plain fit); distance of the example from the mean of those at hand; its
        loss; the length of its gradient; the distance of its gradient from their mean.
    fit, n, contamination, rounds, fraction, per_class, random_state
        As in `tamis.sever.sever`; ``fraction`` is ``contamination / 2`` by default.
    values : callable
        ``values(model, indices)``: the examples themselves for "l2", (m, d); their losses for
        "loss", (m,); their gradients for the others, (m, p), of which `OuterGradients` are not
        formed. Arrays, torch tensors or scipy.sparse matrices. Not used by "none".

    Returns
    -------
    SeverResult
        ``scores`` are those of the last round; 0 for examples dropped before.

    Raises
    ------
    TypeError, ValueError
        An argument out of range, no ``values``, values of the wrong shape or not finite, a class
        that would lose all its examples.
    """
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {KINDS}, got {kind!r}")
    if kind != "none" and values is None:
        raise TypeError(f"values: expected a callable for kind {kind!r}, got None")
    n = _arrays.check_int(n, "n", 1, 2**48)
    rounds = _arrays.check_int(rounds, "rounds", 0, 2**31)
    share = _rows.check_contamination(contamination)
    dropped = check_fraction(fraction, share / 2)
    active, scores = np.arange(n), np.zeros(n)
    model = fit(active)
    if kind == "none" or share == 0.0 or values is None:
        return SeverResult(model, np.ones(n, bool), scores, (), "contamination")
    classes = class_numbers(per_class, n)
    order = np.random.default_rng(seed_of(random_state)).permutation(n)
    history = []
    for number in range(rounds):
        found = _scores(kind, values(model, active), classes, active)
        scores = np.zeros(n)
        scores[active] = found
        kept = []
        for members in parts_of(classes, active):
            own = active[members]
            size = number_of(dropped, len(own))
            # only differences count: an offset would drown them where equal scores are told
            kept.append(own[drop_largest(scores[own] - scores[own].min(), own, order, size)])
        after = np.sort(np.concatenate(kept))
        check_left(classes, per_class, after)
        model = fit(after)
        gone = len(active) - len(after)
        history.append(SeverRound(number + 1, "filter", float("nan"), len(after), gone))
        active = after
    return SeverResult(model, mask_of(active, n), scores, tuple(history), "rounds")


def _scores(kind: str, given: Any, classes: Any, active: NDArray[np.intp]) -> NDArray[np.float64]:
    """What examples are dropped by, (m,), from what ``values`` returned for them."""
    if kind == "loss":
        return _losses(given, len(active), "values")
    try:
        table = as_operator(given, len(active))
    except (TypeError, ValueError) as error:
        raise type(error)(f"values: {str(error).removeprefix('gradients: ')}") from error
    if isinstance(table, np.ndarray):
        unit = float(np.abs(table).max(initial=0.0))  # their squares may leave float64
        table = table / unit if unit > 0.0 else table
    elif not isinstance(table, OuterGradients):
        raise TypeError(
            "values: expected an array, a sparse matrix or OuterGradients, got "
            f"{type(given).__name__}"
        )
    else:
        unit = 1.0
    out = np.zeros(len(active))
    for members in parts_of(classes, active):
        out[members] = _lengths(take_rows(table, members), centered=kind != "gradient")
    return out * unit


def _lengths(rows: Any, *, centered: bool) -> NDArray[np.float64]:
    """Of every row, or of its difference from their mean, (m,)."""
    if isinstance(rows, np.ndarray):
        center = rows.mean(axis=0, dtype=np.float64) if centered else np.zeros(rows.shape[1])
        return np.asarray(np.sqrt(_rows.squared_distances(rows, center)))
    squares = np.square(rows.coefficients).sum(axis=1) * _squares(rows)
    if centered:
        mean = rows.rmatvec(np.full(rows.shape[0], 1.0 / rows.shape[0]))
        squares = squares - 2.0 * rows.matvec(mean) + mean @ mean
    return np.asarray(np.sqrt(np.maximum(squares, 0.0)))


def _squares(rows: OuterGradients) -> NDArray[np.float64]:
    """``|x_i - center|^2``, and 1 with an intercept, (m,)."""
    X: Any = rows.X
    center = np.asarray(rows.center)
    if scipy.sparse.issparse(X):
        own = np.asarray(X.multiply(X).sum(axis=1)).ravel() - 2.0 * (X @ center) + center @ center
    else:
        own = _rows.squared_distances(X, center)
    return np.asarray(np.maximum(own, 0.0) + rows.intercept)


def _losses(given: Any, number: int, name: str) -> NDArray[np.float64]:
    """What a user's callable returned, checked: one finite number an example."""
    if scipy.sparse.issparse(given):
        raise TypeError(f"{name}: expected an array of losses, got a {type(given).__name__}")
    if _arrays.is_torch(given):
        given = given.detach().cpu()
    losses = np.asarray(given, dtype=np.float64)
    if losses.shape != (number,):
        raise ValueError(
            f"{name}: expected one loss for each of {number} examples, got shape {losses.shape}"
        )
    bad = np.flatnonzero(~np.isfinite(losses))
    if bad.size:
        raise ValueError(
            f"{name}: expected finite losses, got {losses[bad[0]]} for the example at {bad[0]}"
        )
    return losses


def ransac(
    fit: Callable[[NDArray[np.intp]], Model],
    losses: Callable[[Model, NDArray[np.intp]], Any],
    n: int,
    *,
    contamination: float,
    sample: int,
    trials: int = 100,
    random_state: Any = None,
) -> SeverResult[Model]:
    """Fit to random samples; keep the fit whose ``(1 - contamination) n`` best losses are least.

    Parameters
    ----------
    losses : callable
        ``losses(model, indices) -> (m,)``.
    sample : int
        Examples of one trial.
    trials : int

    Returns
    -------
    SeverResult
        The model is fitted again to those examples; ``scores`` are the losses of the best trial.
    """
    n = _arrays.check_int(n, "n", 1, 2**48)
    share = _rows.check_contamination(contamination)
    sample = _arrays.check_int(sample, "sample", 1, n + 1)
    trials = _arrays.check_int(trials, "trials", 1, 2**31)
    generator = np.random.default_rng(seed_of(random_state))
    everyone = np.arange(n)
    size = n - number_of(share, n)
    best, found = np.inf, np.zeros(n)
    for _ in range(trials):
        model = fit(np.sort(generator.choice(n, sample, replace=False)))
        loss = _losses(losses(model, everyone), n, "losses")
        total = float(np.partition(loss, size - 1)[:size].sum())
        if total < best:
            best, found = total, loss
    kept = np.sort(np.argsort(found, kind="stable")[:size])
    return SeverResult(fit(kept), mask_of(kept, n), found, (), "rounds")
