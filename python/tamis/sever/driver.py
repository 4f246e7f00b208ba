"""SEVER: fit, drop the examples whose gradients pull together, fit again; for any learner."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from tamis import _arrays, _rows, ops
from tamis.estimators._validation import seed_of
from tamis.sever._sets import (
    Arranged,
    Indices,
    check_fraction,
    check_left,
    class_numbers,
    drop_largest,
    mask_of,
    number_of,
    parts_of,
)
from tamis.sever._spectrum import spectrum
from tamis.sever.gradients import (
    OuterGradients,
    RegressionGradients,
    as_operator,
    take_rows,
)

__all__ = ["SeverResult", "SeverRound", "sever"]

Rule = Literal["top", "randomized", "filter"]
RULES = ("top", "randomized", "filter")
Model = TypeVar("Model")
_MAX_READMISSIONS = 30
_READMISSION_DIRECTIONS = 5
_BESIDE = 1.0 / 3.0  # of the top variance: then the next direction counts as well
_RUNAWAY = 100.0  # times the least top variance of all gradients; 54 is the most that was right
_DEFAULT_SHARE = 0.75  # of the contamination, dropped a round; see docs/sever.md


@dataclasses.dataclass(frozen=True)
class SeverRound:
    """One round: what was looked at and what went.

    ``phase`` is "filter" or "readmit"; ``eigenvalue`` the largest variance of the gradients (of all
    classes); ``n_active`` the examples of the next fit; ``n_changed`` how many left or came back.
    """

    round: int
    phase: str
    eigenvalue: float
    n_active: int
    n_changed: int


@dataclasses.dataclass(frozen=True)
class SeverResult(Generic[Model]):
    """What `sever` found.

    Attributes
    ----------
    model : what ``fit`` returned for the survivors
    support : bool array of shape (n,)
        Examples that the model was fitted on.
    scores : array of shape (n,)
        How far every example's gradient lies from the survivors' mean gradient, along the top
        directions, at ``model``; in units of the gradient, per class with ``per_class``. With
        ``readmit`` directions are weighed as it does.
    history : tuple of SeverRound
    stop_reason : str
        "rounds", "stable" (readmission changed nothing), "cycle" (it came back to an earlier set),
        "limit" (it still changed the set after 30 rounds of its own),
        "diverged" (it made gradients ever larger; the set at which they were least is returned),
        "nothing_left" (no gradient differs), "callback", or "contamination" (it is 0).
    """

    model: Model
    support: NDArray[np.bool_]
    scores: NDArray[np.float64]
    history: tuple[SeverRound, ...]
    stop_reason: str


def sever(
    fit: Callable[[Any], Model],
    gradients: Callable[[Model, Indices], Any],
    n: int,
    *,
    contamination: float,
    rounds: int = 4,
    fraction: float | None = None,
    rule: Rule = "top",
    per_class: Any = None,
    readmit: bool = True,
    n_directions: int = 1,
    fit_weights: bool = False,
    callback: Callable[[SeverRound], Any] | None = None,
    random_state: Any = None,
    num_threads: int | None = None,
) -> SeverResult[Model]:
    """Fit a model to examples of which a minority is arbitrary.

    Parameters
    ----------
    fit : callable
        ``fit(indices) -> model``: fits to these examples, an increasing array of integers below
        ``n``; with ``fit_weights``, ``fit(weights)`` with n numbers, 1 for those and 0 for others.
    gradients : callable
        ``gradients(model, indices)``: the gradient of every example's loss at the model, (m, p) for
        m indices. A NumPy array or torch tensor, a scipy.sparse matrix, or a
        `scipy.sparse.linalg.LinearOperator` such as `OuterGradients`, which is never formed.
    n : int
        Number of examples.
    contamination : float in [0, 0.5)
        Share of bad examples. 0 gives the plain fit.
    rounds : int
        Filters, each followed by a fit.
    fraction : float in (0, 1), optional
        Share of the examples at hand that a round drops (of a class, with ``per_class``). Default
        ``0.75 * contamination``: four such rounds drop far more than is bad, and readmission brings
        the good ones back. The published code has ``contamination / 2``.
    rule : {"top", "randomized", "filter"}
        ``"top"`` drops the ``ceil(fraction * m)`` examples of largest score; ``"randomized"`` those
        whose squared score is above a uniform threshold between 0 and the largest, but no more
        than that; ``"filter"`` asks `tamis.iterative_filter`, which drops what no clean gradients
        explain, at most the contamination's worth a round; `OuterGradients` and sparse ones are
        formed for it, other operators refused.
    per_class : array of shape (n,), optional
        Labels: every class is centred, scored and filtered on its own.
    readmit : bool
        After the rounds, score *all* examples along the top direction of all gradients about the
        survivors' mean (where it does not stand out, along five, each weighed by how far all spread
        beyond the survivors there), drop ``ceil(contamination * n)``, fit, until the set is stable.
        Right where the loss is smooth; with a hinge, whose gradients at most examples are 0,
        directions cannot tell the good from the bad, and readmission lets bad ones back
        (docs/sever.md).
    n_directions : int
        Top directions that a score is measured along; the published number is 1. Where clean
        gradients vary a lot along one direction, poison hides behind it.
    fit_weights : bool
        What ``fit`` takes.
    callback : callable, optional
        Called with every `SeverRound`; a true result ends the loop with the model at hand.
    random_state : int, Generator or RandomState, optional
        Breaks ties between equal scores (so that the order of the examples means nothing) and
        draws the thresholds. None is 0.
    num_threads : int, optional
        Of the native kernels.

    Returns
    -------
    SeverResult
        A function of the arguments. Where ``fit`` raises or is interrupted, the exception passes.

    Raises
    ------
    TypeError, ValueError
        An argument out of range, a gradient that is not finite (its row is named), a class that
        would lose all its examples.

    Notes
    -----
    Source: Diakonikolas, Kamath, Kane, Li, Steinhardt and Stewart, "Sever: a robust meta-algorithm
    for stochastic optimization", ICML 2019, Algorithms 1 and 2. Departures: readmission; exactly
    ``ceil`` examples go where the published code cuts at a quantile and may drop a whole block of
    equal scores; scores are absolute projections, of the same order as the paper's squares.

    Examples
    --------
    >>> import numpy as np
    >>> from tamis.sever import sever
    >>> x = np.r_[np.linspace(-1, 1, 90), np.full(10, 9.0)]  # the mean, as a learner
    >>> result = sever(
    ...     lambda rows: x[rows].mean(),
    ...     lambda mean, rows: (mean - x[rows])[:, None],
    ...     len(x),
    ...     contamination=0.1,
    ... )
    >>> round(abs(float(result.model)), 6), np.flatnonzero(~result.support).tolist()[:3]
    (0.0, [90, 91, 92])
    """
    n = _arrays.check_int(n, "n", 1, 2**48)
    share = _rows.check_contamination(contamination)
    rounds = _arrays.check_int(rounds, "rounds", 0, 2**31)
    if rule not in RULES:
        raise ValueError(f"rule: expected one of {RULES}, got {rule!r}")
    dropped = check_fraction(fraction, _DEFAULT_SHARE * share)
    n_directions = _arrays.check_int(
        n_directions, "n_directions", 1, ops.spectral.MAX_EIGENPAIRS + 1
    )
    classes = class_numbers(per_class, n)
    generator = np.random.default_rng(seed_of(random_state))
    order = generator.permutation(n)

    everyone = np.arange(n)

    def fitted(rows: Indices) -> tuple[Model, Indices]:
        """The model, and its examples in the order of their gradients there."""
        found = fit(mask_of(rows, n).astype(np.float64) if fit_weights else rows.copy())
        return found, found.rows if isinstance(found, Arranged) else rows

    model, active = fitted(everyone)
    alive = np.ones(n, dtype=bool)  # true of the active
    starts: dict[int, Any] = {}  # by class: the directions of the round before
    again: dict[int, Any] = {}  # and of the readmission before
    if share == 0.0:
        return SeverResult(model, alive, np.zeros(n), (), "contamination")
    history: list[SeverRound] = []

    def record(phase: str, eigenvalue: float, before: NDArray[np.bool_]) -> bool:
        changed = int(np.count_nonzero(alive ^ before))
        entry = SeverRound(len(history) + 1, phase, eigenvalue, len(active), changed)
        history.append(entry)
        return bool(callback(entry)) if callback is not None else False

    def scored() -> tuple[NDArray[np.float64], float]:
        given = gradients(model, everyone)
        wide = again if readmit else None
        return _scores(given, alive, classes, starts, wide, n_directions, num_threads)

    reason = "rounds"
    scores = None  # of the model and the examples at hand
    for _ in range(rounds):
        table = as_operator(gradients(model, active), len(active))
        kept, top = [], 0.0
        for label, members in enumerate(parts_of(classes, active)):
            part = take_rows(table, members)
            rows = active[members]
            if rule == "filter":
                stay, eigenvalue = _iterative_filter(part, share, rows, order, num_threads)
            else:
                found = spectrum(
                    part, n_directions, start=starts.get(label), num_threads=num_threads
                )
                starts[label], eigenvalue = found.block, found.eigenvalue
                number = _number(found.lengths, dropped, rule, generator)
                stay = drop_largest(found.lengths, rows, order, number)
            kept.append(rows[stay])
            top = max(top, eigenvalue)
        after = np.sort(np.concatenate(kept)) if len(kept) > 1 else kept[0]
        if len(after) == len(active):
            reason = "nothing_left"
            record("filter", top, alive)
            break
        check_left(classes, per_class, after)
        model, active = fitted(after)
        before, alive = alive, mask_of(after, n)
        if record("filter", top, before):
            reason = "callback"
            break
    if readmit and reason != "callback":
        seen = {alive.tobytes()}
        least, best = np.inf, (model, alive)
        for turn in range(_MAX_READMISSIONS):
            scores, top = scored()
            if turn and top > _RUNAWAY * least:
                reason, scores = "diverged", None
                model, alive = best
                break
            if turn == 1 or top < least:  # the first readmitted set, or a better one
                least, best = min(top, least), (model, alive)
            after = _best(scores, share, classes, order)
            check_left(classes, per_class, after)
            before, alive = alive, mask_of(after, n)
            if np.array_equal(before, alive):
                reason = "stable" if scores.any() else "nothing_left"
                break
            model, active = fitted(after)
            scores = None
            if record("readmit", top, before):
                reason = "callback"
                break
            if alive.tobytes() in seen:
                reason = "cycle"
                break
            seen.add(alive.tobytes())
        else:
            reason = "limit"
    if scores is None:
        scores, _ = scored()
    return SeverResult(model, alive, scores, tuple(history), reason)


def _iterative_filter(
    part: Any, contamination: float, rows: Indices, order: Indices, num_threads: int | None
) -> tuple[NDArray[np.bool_], float]:
    """Which rows of one class stay, and the top variance of their gradients, by rule "filter"."""
    if isinstance(part, RegressionGradients):
        part = part.outer()
    if isinstance(part, OuterGradients):
        part = part.toarray()
    if not isinstance(part, np.ndarray):
        raise TypeError(
            "gradients: rule 'filter' needs an array, a sparse matrix or OuterGradients, got "
            f"{type(part).__name__}; the other rules take any LinearOperator"
        )
    found = ops.iterative_filter(part, contamination, num_threads=num_threads)
    values = np.asarray(found.eigenvalues)
    stay = np.asarray(found.weights) > 0
    most = number_of(contamination, len(stay))
    if np.count_nonzero(~stay) > most:  # gradients with heavier tails than it takes for clean
        scores = np.where(stay, 0.0, np.asarray(found.scores, dtype=np.float64))
        stay = drop_largest(scores, rows, order, most)
    return stay, float(values[0]) if values.size else 0.0


def _number(
    scores: NDArray[np.float64], fraction: float, rule: str, generator: np.random.Generator
) -> int:
    """How many of one class go, by the other rules."""
    if not scores.any():
        return 0
    number = number_of(fraction, len(scores))
    if rule == "randomized":
        squares = np.square(scores / scores.max())
        number = min(number, int((squares > generator.uniform()).sum()))
    return number


def _scores(
    gradients: Any,
    alive: NDArray[np.bool_],
    classes: Indices | None,
    starts: dict[int, Any],
    again: dict[int, Any] | None,
    n_directions: int,
    num_threads: int | None,
) -> tuple[NDArray[np.float64], float]:
    """Scores of all examples, about the mean of those that are alive.

    ``again``: five directions where none stands out, and what to start those from.
    """
    n = len(alive)
    table = as_operator(gradients, n)
    scores, top = np.zeros(n), 0.0
    for label, members in enumerate(parts_of(classes, np.arange(n))):
        look = functools.partial(
            spectrum,
            take_rows(table, members),
            center_rows=alive[members],
            num_threads=num_threads,
        )
        if again is None or label not in again:
            found = look(n_directions, start=starts.get(label))
            starts[label] = found.block
        if again is not None and (label in again or found.following > _BESIDE * found.eigenvalue):
            wide = max(n_directions, _READMISSION_DIRECTIONS)
            found = look(wide, start=again.get(label), weigh=True)
            again[label] = found.block
        scores[members] = found.lengths
        top = max(top, found.eigenvalue)
    return scores, top


def _best(
    scores: NDArray[np.float64], share: float, classes: Indices | None, order: Indices
) -> Indices:
    """All examples but the contamination's worth."""
    rows = np.arange(len(scores))
    kept = []
    for members in parts_of(classes, rows):
        own = rows[members]
        number = number_of(share, len(own)) if scores[own].any() else 0
        kept.append(own[drop_largest(scores[own], own, order, number)])
    return np.sort(np.concatenate(kept)) if len(kept) > 1 else kept[0]
