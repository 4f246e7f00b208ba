"""Tables of numbers, as the estimators take them: two axes, float32 or float64, finite.

NumPy arrays and torch tensors stay what they are. Whatever else holds a table of numbers (lists,
data frames, integers, half precision) is converted, which copies it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis import _arrays

__all__ = [
    "as_float64",
    "as_numpy",
    "as_rows",
    "blocks",
    "check_contamination",
    "check_finite",
    "in_library_of",
    "squared_distances",
    "squared_projections",
]

_BLOCK_NUMBERS = 1 << 18  # float64 numbers of one block: it stays in the second-level cache


def as_rows(X: Any, name: str = "X") -> Any:
    """``X`` as a NumPy array or torch tensor of shape (n, d), float32 or float64.

    Parameters
    ----------
    X : array of shape (n, d), or what NumPy makes one of
        float32 and float64 are taken as they are. float16 and bfloat16 become float32; integers,
        booleans, longer floats and objects that are numbers become float64.
    name : str
        What errors call it.

    Returns
    -------
    NumPy array or torch tensor
        ``X`` itself, or a converted copy. Not checked for NaN.

    Raises
    ------
    TypeError
        Not numbers, or a sparse matrix.
    ValueError
        Complex numbers, masked entries, not two axes, or no rows or columns.
    """
    table = _torch_rows(X, name) if _arrays.is_torch(X) else _numpy_rows(X, name)
    shape = tuple(table.shape)
    if len(shape) != 2:
        fix = f". Reshape your data: {name}.reshape(-1, 1) is one column, reshape(1, -1) one row"
        raise ValueError(
            f"{name}: expected a 2D array (rows, columns), got shape {shape}"
            + (fix if len(shape) == 1 else "")
        )
    if shape[0] < 1:
        raise ValueError(f"{name}: expected at least one row, got shape {shape}")
    if shape[1] < 1:
        raise ValueError(
            f"{name}: got 0 feature(s) (shape={shape}) while a minimum of 1 is required."
        )
    return table


def _torch_rows(X: Any, name: str) -> Any:
    _arrays.check_array(X, name)
    kind = _arrays.dtype_name(X)
    if kind in ("float32", "float64"):
        return X
    if kind.startswith("complex"):
        raise ValueError(f"{name}: Complex data not supported, got {kind}")
    return X.float() if kind in ("float16", "bfloat16") else X.double()


def _numpy_rows(X: Any, name: str) -> NDArray[Any]:
    if hasattr(X, "nnz") and hasattr(X, "toarray"):
        raise TypeError(
            f"{name}: expected a dense array, got a sparse one ({type(X).__name__}); "
            f"pass {name}.toarray() if it fits in memory"
        )
    if isinstance(X, np.ma.MaskedArray) and np.ma.is_masked(X):
        raise ValueError(
            f"{name}: expected no masked entries, got {np.count_nonzero(np.ma.getmaskarray(X))}"
        )
    try:
        table = np.asarray(X)
    except ValueError as error:  # rows of unequal length
        raise ValueError(f"{name}: expected rows of equal length: {error}") from error
    kind, size = table.dtype.kind, table.dtype.itemsize
    if kind == "c":
        raise ValueError(f"{name}: Complex data not supported, got {table.dtype}")
    if kind == "O":
        try:
            return table.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: expected numbers, got objects: {error}") from error
    if kind not in "fiub":
        raise TypeError(f"{name}: expected numbers, got dtype {table.dtype}")
    if kind == "f" and size in (4, 8) and table.dtype.isnative:
        return table
    return table.astype(np.float32 if kind == "f" and size <= 4 else np.float64)


def as_numpy(table: Any, name: str = "X") -> NDArray[Any]:
    """Look at the rows of `as_rows` as a NumPy array, without a copy."""
    if isinstance(table, np.ndarray):
        return table
    if table.device.type != "cpu":
        raise ValueError(
            f"{name}: expected a tensor on the CPU, got one on {table.device}; pass {name}.cpu()"
        )
    array: NDArray[Any] = table.numpy()
    return array


def as_float64(values: Any) -> NDArray[np.float64]:
    """A NumPy array or a tensor on any device as a NumPy array; a copy where it has to be one."""
    return np.asarray(_arrays.on_host(values), dtype=np.float64)


def in_library_of(result: NDArray[Any], like: Any) -> Any:
    """A NumPy result as a tensor where ``like`` is one; floats take the dtype of ``like``."""
    if isinstance(like, np.ndarray):
        return result.astype(like.dtype, copy=False) if result.dtype.kind == "f" else result
    tensor = sys.modules["torch"].from_numpy(np.ascontiguousarray(result))
    return tensor.to(like.device, like.dtype) if result.dtype.kind == "f" else tensor


def batches(count: int, size: int) -> list[slice]:
    """Slices of ``size`` to train on. What is left over joins those before if under a quarter.

    Batch normalisation takes the moments of a few rows for those of all, and its averages keep them
    longest where they come last: an epoch's last batch of 3 or 5 in place of 128 cost .4 points of
    accuracy on MNIST (``docs/backdoor.md``). One row by itself it may refuse.
    """
    ends = list(range(size, count, size))
    if ends and size > 1 and count - ends[-1] < max(2, size / 4):
        ends.pop()
    return [slice(start, end) for start, end in zip([0, *ends], [*ends, count], strict=True)]


def blocks(X: Any, numbers: int = _BLOCK_NUMBERS, least: int = 1) -> Iterator[slice]:
    """Slices of rows, each small enough for a float64 copy to stay in cache.

    ``numbers``: of one block; fewer where it is multiplied twice. ``least``: rows of one block.
    """
    n, d = X.shape
    step = max(numbers // d, least)
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def check_finite(X: NDArray[Any], name: str = "X", first: int = 0) -> None:
    """Raise ValueError naming the first NaN or infinity; ``first`` is the number of row 0."""
    for rows in blocks(X):
        block = X[rows]
        with np.errstate(over="ignore", invalid="ignore"):
            total = np.add.reduce(block, axis=None, dtype=np.float64)
        if np.isfinite(total):
            continue
        bad = np.argwhere(~np.isfinite(block))
        if bad.size:
            row, column = (int(number) for number in bad[0])
            value = block[row, column]
            what = "NaN" if np.isnan(value) else str(value)
            raise ValueError(
                f"{name}: expected finite values, got {what} in row {first + rows.start + row}, "
                f"column {column}"
            )


def squared_distances(X: NDArray[Any], point: NDArray[np.float64]) -> NDArray[np.float64]:
    """``||x_i - point||^2`` for every row, (n,); differences are taken first, in float64."""
    out = np.empty(X.shape[0])
    for rows in blocks(X):
        difference = X[rows] - point
        out[rows] = np.einsum("ij,ij->i", difference, difference)
    return out


def squared_projections(
    X: NDArray[Any], center: NDArray[Any], root: NDArray[Any]
) -> NDArray[np.float64]:
    """``|| root' (x_i - center) ||^2`` for every row, (n,), in the dtype that the three give."""
    out = np.empty(X.shape[0])
    for rows in blocks(X):
        y = (X[rows] - center) @ root
        out[rows] = np.einsum("ij,ij->i", y, y, dtype=np.float64)
    return out


def check_contamination(value: Any, name: str = "contamination") -> float:
    """``value`` as a float in [0, 0.5)."""
    share = _arrays.check_real(value, name)
    if not 0.0 <= share < 0.5:
        raise ValueError(f"{name}: expected a number in [0, 0.5), got {share}")
    return share
