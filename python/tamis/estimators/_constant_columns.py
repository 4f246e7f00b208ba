"""Gross values in columns that are otherwise constant, which no top eigenvector shows.

One row that is 10 off in such a column of 400 rows adds 1/4 to its variance: less than any other
column has. But no clean row is off there at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis import _arrays, _rows
from tamis.estimators._concentration import MAD, medians
from tamis.estimators._moments import rounding_about

__all__ = ["GrossValues", "gross_values"]

Array = NDArray[np.float64]
_FEW = 250  # rows that say which columns may be meant
_LIKELY = 0.6  # of them as the one before: nine tenths of all rows may be at one value
_SAMPLE = 500  # rows that say what value, and what spread is usual
_ELSEWHERE = 0.1  # of the rows at most: the column is "otherwise constant", the values are gross
_MOST = 256  # columns that become directions, those with the furthest values
_FAR = 4.0  # of the units below: nearer values are not gross


@dataclass
class GrossValues:
    """Rows with gross values, and the columns they have them in."""

    rows: NDArray[np.bool_]  # (n,)
    columns: NDArray[np.intp]  # (m,)
    centers: Array  # (m,) the value of the other rows
    scales: Array  # (m,) what gaps from it are measured by


def gross_values(X: Any) -> GrossValues | None:
    """Rows that are far off in columns where at least nine tenths are at one value; None: no row.

    Columns have comparable units, so a gap is measured by the median spread of those columns that
    have one; but at least by the root mean square of the gaps of all rows, so that a value which a
    share p of the rows has is at most ``1 / sqrt(p)`` off. Values more than 4 of these units off
    are gross. Where more than a tenth of the rows has one, the columns are features that some rows
    have, and no row is told from the others by them.
    """
    n = int(X.shape[0])
    if n < 3:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        eps = float(np.finfo(_arrays.dtype_name(X)).eps)
        few = _rows.as_float64(X[:: max(n // _FEW, 1)])
        steps = np.abs(np.diff(few, axis=0))
        columns = np.flatnonzero((steps <= rounding_about(few[1:], eps)).mean(axis=0) >= _LIKELY)
        if not columns.size:
            return None
        sample = _rows.as_float64(X[:: max(n // _SAMPLE, 1)])
        middle = medians(sample)
        spread = MAD * medians(np.abs(sample - middle))
    rounding = rounding_about(middle, eps)
    off, largest = np.zeros(columns.size), np.zeros(columns.size)
    for _, gaps in _gaps(X, columns, middle, rounding):
        off += np.count_nonzero(gaps, axis=0)
        largest = np.maximum(largest, gaps.max(axis=0))
    some = (off > 0.0) & (off <= _ELSEWHERE * n)
    if not some.any():
        return None
    columns, largest = columns[some], largest[some]
    total = np.zeros(columns.size)
    for _, gaps in _gaps(X, columns, middle, rounding):
        total += np.square(gaps / largest).sum(axis=0)
    scales = largest * np.sqrt(total / n)
    if (spread > rounding).any():
        scales = np.maximum(scales, np.median(spread[spread > rounding]))
    worst = np.zeros(n)
    for rows, gaps in _gaps(X, columns, middle, rounding):
        np.max(gaps / scales, axis=1, out=worst[rows])
    bad = worst > _FAR
    if not 0 < bad.sum() <= _ELSEWHERE * n:
        return None
    peaks = largest / scales
    used = np.argsort(-peaks, kind="stable")[:_MOST]
    used = np.sort(used[peaks[used] > _FAR])
    return GrossValues(bad, columns[used], middle[columns[used]], scales[used])


def _gaps(X: Any, columns: Any, middle: Array, rounding: Array) -> Iterator[tuple[slice, Array]]:
    """Blocks of rows, and how far they are from the middles of these columns, in float64."""
    for rows in _rows.blocks(X):
        with np.errstate(over="ignore"):
            gaps = np.abs(_rows.as_float64(X[rows][:, columns]) - middle[columns])
        gaps[gaps <= rounding[columns]] = 0.0
        yield rows, np.minimum(gaps, np.finfo(np.float64).max, out=gaps)
