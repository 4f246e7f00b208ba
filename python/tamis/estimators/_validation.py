"""What the estimators check before and after the native filter runs."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis import _arrays, _rows, ops
from tamis.estimators._base import NotFittedError
from tamis.estimators._order import Order, order_by_value

__all__ = [
    "check_fitted",
    "checked_rows",
    "filter_options",
    "filter_rows",
    "is_auto",
    "outlier_share",
    "seed_of",
    "squared_lengths",
    "stream_options",
    "thread_number",
    "weighted_mean",
]

_COPIED = 1 << 22  # numbers of a table that may be copied to put it in order
_SHOWN = 5  # names of columns in one message


def checked_rows(estimator: Any, X: Any, *, reset: bool) -> Any:
    """``X`` as a table (`tamis._rows.as_rows`) whose columns are those of the estimator.

    With ``reset``, they become those of the estimator (``n_features_in_``, ``feature_names_in_``);
    else ValueError where their number or their names differ.
    """
    names = _column_names(X)
    rows = _rows.as_rows(X)
    columns = int(rows.shape[1])
    if reset:
        estimator.n_features_in_ = columns
        if names is not None:
            estimator.feature_names_in_ = names
        elif hasattr(estimator, "feature_names_in_"):
            del estimator.feature_names_in_
        return rows
    known = getattr(estimator, "feature_names_in_", None)
    if names is not None and known is not None:
        _check_names(list(known), list(names))
    elif (names is None) != (known is None):
        with_names, without = ("X", "fit") if known is None else ("fit", "X")
        warnings.warn(
            f"{type(estimator).__name__}: {with_names} has column names, {without} has none; "
            "columns are taken in order",
            UserWarning,
            stacklevel=3,
        )
    if columns != estimator.n_features_in_:
        raise ValueError(
            f"X has {columns} features, but {type(estimator).__name__} is expecting "
            f"{estimator.n_features_in_} features as input"
        )
    return rows


def _column_names(X: Any) -> Any:
    """Names of the columns of a data frame, an object array; None unless all are strings."""
    columns = getattr(X, "columns", None)
    if columns is None or callable(columns) or not isinstance(columns, Iterable):
        return None
    names = list(columns)
    strings = sum(isinstance(name, str) for name in names)
    if 0 < strings < len(names):
        raise TypeError("X: expected column names that are all strings or none, got both")
    return np.array(names, dtype=object) if strings else None


def _check_names(known: list[str], names: list[str]) -> None:
    """Raise ValueError unless both lists are equal; worded as scikit-learn's users know it."""
    if known == names:
        return
    faults = []
    for what, found in (
        ("Feature names unseen at fit time:", sorted(set(names) - set(known))),
        ("Feature names seen at fit time, yet now missing:", sorted(set(known) - set(names))),
    ):
        if found:
            more = ["- ..."] if len(found) > _SHOWN else []
            faults += [what, *(f"- {name}" for name in found[:_SHOWN]), *more]
    if not faults:
        faults = ["Feature names must be in the same order as they were in fit."]
    faults.insert(0, "The feature names should match those that were passed during fit.")
    raise ValueError("\n".join(faults) + "\n")


def check_fitted(estimator: Any, attribute: str) -> None:
    """Raise NotFittedError unless the estimator has this attribute."""
    if not hasattr(estimator, attribute):
        raise NotFittedError(f"this {type(estimator).__name__} is not fitted yet: call fit first")


def is_auto(contamination: Any) -> bool:
    """Is it "auto"? ValueError for any other text."""
    if isinstance(contamination, str) and contamination != "auto":
        raise ValueError(f"contamination: expected a number or 'auto', got {contamination!r}")
    return isinstance(contamination, str)


def outlier_share(contamination: Any) -> float:
    """A detector's contamination that is a number, in (0, 0.5): some rows are to be outliers."""
    share = _rows.check_contamination(contamination)
    if share == 0.0:
        raise ValueError("contamination: expected a number in (0, 0.5) or 'auto', got 0")
    return share


def squared_lengths(
    array: NDArray[Any], center: NDArray[np.float64], root: NDArray[np.float64]
) -> NDArray[np.float64]:
    """``|| root' (x_i - center) ||^2``, (n,): never NaN, nor more than the dtype of rows can hold.

    Rows that are not finite are a ValueError that names the first.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        out = _rows.squared_projections(array, center, root)
    if not np.isfinite(out).all():
        _rows.check_finite(array)
    most = float(np.finfo(array.dtype).max)
    return np.minimum(np.nan_to_num(out, nan=most), most)


def filter_options(estimator: Any) -> dict[str, Any]:
    """The parameters of an estimator as arguments of `tamis.ops.iterative_filter`."""
    return {
        "contamination": estimator.contamination,
        "rule": estimator.rule,
        "assume": estimator.assume,
        "prune": estimator.prune,
        "readmit": estimator.readmit,
        "max_rounds": estimator.max_rounds,
        "max_removed": estimator.max_removed,
        "seed": seed_of(estimator.random_state),
        "num_threads": thread_number(estimator.n_jobs),
    }


def stream_options(estimator: Any) -> dict[str, Any]:
    """The same, checked at once: not when the rows have been read."""
    options = filter_options(estimator)
    ops.iterative_filter(np.zeros((1, 1)), **options)
    return options


def filter_rows(rows: Any, options: dict[str, Any]) -> Any:
    """`tamis.ops.iterative_filter`, with advice where values are missing.

    Small tables that are full of ties are filtered in an order that their values determine.
    """
    try:
        order = order_by_value(rows) if rows.shape[0] * rows.shape[1] <= _COPIED else None
        if order is not None:
            return _filter_in_order(rows, options, order)
        return ops.iterative_filter(rows, **options)
    except ValueError as error:
        if "finite values" not in str(error):
            raise
        raise ValueError(
            f"{error}; NaN is not taken for a missing value: drop or fill it"
        ) from error


def _filter_in_order(rows: Any, options: dict[str, Any], order: Order) -> Any:
    """The same; of equal rows, all that the budget splits come back."""
    table = rows[order.rows]
    found = ops.iterative_filter(table, **options)
    weights = _rows.as_float64(found.weights)
    alike = order.alike(weights)
    if (alike != weights).any():
        mean = weighted_mean(table, alike)
        found = replace(
            found,
            mean=_rows.in_library_of(mean, rows),
            weights=_rows.in_library_of(alike, rows),
            contamination=float(1.0 - alike.mean()),
        )
    return replace(found, weights=order.back(found.weights), scores=order.back(found.scores))


def weighted_mean(rows: Any, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """``weights @ rows / weights.sum()``, summed in float64."""
    total = np.zeros(int(rows.shape[1]))
    for part in _rows.blocks(rows):
        total += weights[part] @ _rows.as_float64(rows[part])
    return np.asarray(total / weights.sum())


def seed_of(random_state: Any) -> int:
    """A 64-bit seed. None is 0: an estimate that changes from run to run helps nobody."""
    if random_state is None:
        return 0
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**63, dtype=np.uint64))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**63))
    return _arrays.check_int(random_state, "random_state", 0, 2**64)


def thread_number(n_jobs: Any) -> int | None:
    """Threads for ``n_jobs``: None is the default of tamis, -1 all of them, -2 all but one."""
    if n_jobs is None:
        return None
    try:
        jobs = operator.index(n_jobs)
    except TypeError:
        raise TypeError(f"n_jobs: expected an integer, got {type(n_jobs).__name__}") from None
    if jobs == 0:
        raise ValueError("n_jobs: expected None, a number >= 1 or a negative one, got 0")
    if jobs > 0:
        return jobs
    return max(1, int(ops.info()["num_threads"]) + 1 + jobs)
