"""The defences SEVER is compared with: each scores the examples, drops some, fits again.

All have the interface of `tamis.sever.sever`; none resists an attack that knows it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from tamis import _arrays, _rows
from tamis.estimators._validation import seed_of
from tamis.sever._sets import (
    check_fraction,
    class_numbers,
    drop_largest,
    mask_of,
    number_of,
    parts_of,
)
from tamis.sever.driver import SeverResult, SeverRound
from tamis.sever.gradients import as_operator

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
        "loss", (m,); their gradients for the others, (m, p). Not used by "none".

    Returns
    -------
    SeverResult
        ``scores`` are those of the last round; 0 for examples dropped before.

    Raises
    ------
    TypeError, ValueError
        An argument out of range, no ``values``, or values of the wrong shape or not finite.
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
        found = values(model, active)
        if kind == "loss":
            found = _losses(found, len(active), "values")
        scores = np.zeros(n)
        kept = []
        for members in parts_of(classes, active):
            own = active[members]
            scores[own] = _score(kind, found, members)
            size = number_of(dropped, len(own))
            kept.append(own[drop_largest(scores[own], own, order, size)])
        after = np.sort(np.concatenate(kept))
        model = fit(after)
        gone = len(active) - len(after)
        history.append(SeverRound(number + 1, "filter", float("nan"), len(after), gone))
        active = after
    return SeverResult(model, mask_of(active, n), scores, tuple(history), "rounds")


def _score(kind: str, found: Any, members: Any) -> NDArray[np.float64]:
    if kind == "loss":
        return found[members]  # type: ignore[no-any-return]
    table = found[members] if not isinstance(members, slice) else found
    rows = as_operator(table, table.shape[0])
    if not isinstance(rows, np.ndarray):
        matrix = table.tocsr() if hasattr(table, "tocsr") else None
        if matrix is None:
            name = type(found).__name__
            raise TypeError(f"values: expected an array or a sparse matrix, got {name}")
        squares = np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel()
        if kind == "gradient":
            return np.asarray(np.sqrt(squares))
        mean = np.asarray(matrix.mean(axis=0)).ravel()
        return np.asarray(np.sqrt(np.maximum(squares - 2.0 * (matrix @ mean) + mean @ mean, 0.0)))
    center = np.zeros(rows.shape[1]) if kind == "gradient" else rows.mean(axis=0, dtype=np.float64)
    return np.asarray(np.sqrt(_rows.squared_distances(rows, center)))


def _losses(given: Any, number: int, name: str) -> NDArray[np.float64]:
    """What a user's callable returned, checked: one finite number an example."""
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
