"""weighted_sums on every backend. What it shares with other operations is in test_cuda_spectral.py.

Oracle: the float64 twin, with the tolerance of test_weighted_sums.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tamis
import test_weighted_sums as sums_tests
from cuda_emulation.backends import Backend, EmulatedBackend
from tamis import reference

pytest_plugins = ["cuda_emulation.fixtures"]

DTYPES = (np.float32, np.float64)
# (n, d, j): odd sizes; more than one tile, slice of U, group of columns, launch, block
SIZES = [
    (1, 1, 1), (2, 7, 3), (9, 2, 8), (31, 33, 9), (33, 129, 1), (70, 700, 4), (65, 300, 17),
    (257, 17, 33), (1100, 64, 4),
]  # fmt: skip

Floats = NDArray[Any]


def weighted_sums(backend: Backend, X: Floats, U: Floats) -> Floats:
    result = backend.numpy(tamis.weighted_sums(backend.array(X), backend.array(U)))
    assert result.dtype == np.float64
    return result


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_sums(backend: Backend, dtype: Any, size: tuple[int, int, int]) -> None:
    X, U = sums_tests.data(*size, dtype)
    expected = reference.weighted_sums(X.astype(np.float64), U.astype(np.float64))
    result = weighted_sums(backend, X, U)
    assert result.shape == expected.shape
    assert (np.abs(result - expected) <= sums_tests.tolerance(X, U)).all()


def test_one_sum_has_the_shape_of_a_row(backend: Backend) -> None:
    X, U = sums_tests.data(40, 6, 1, np.float32)
    assert (weighted_sums(backend, X, U[0]) == weighted_sums(backend, X, U)[0]).all()


def test_rows_without_weight_are_not_looked_at(backend: Backend) -> None:
    for dtype in DTYPES:
        X, U = sums_tests.data(300, 19, 3, dtype)
        U[:2, 7] = 0
        holes = np.where((U == 0).all(axis=0)[:, None], np.nan, X)
        assert np.isnan(holes).any()
        assert (weighted_sums(backend, holes, U) == weighted_sums(backend, X, U)).all()
        holes[7, 11] = -np.inf
        with pytest.raises(ValueError, match="got -inf in row 7, column 11"):
            weighted_sums(backend, holes, U)
    assert (weighted_sums(backend, np.full((9, 2), np.nan), np.zeros((3, 9))) == 0).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(backend: Backend, value: float) -> None:
    X, U = sums_tests.data(100, 5, 34, np.float64)
    U[33, 41] = value
    for rows in (X, np.zeros_like(X)):
        with pytest.raises(ValueError, match=r"U: finite .* got -?(nan|inf) in row 33, col.* 41"):
            weighted_sums(backend, rows, U)


def test_sums_that_overflow(backend: Backend) -> None:
    X, U = sums_tests.data(99, 3, 2, np.float64)
    with pytest.raises(ValueError, match=r"X: expected values whose weighted sums fit.*rescale"):
        weighted_sums(backend, X * 1e200, U * 1e200)


def test_one_launch_reads_rows_once(cuda: EmulatedBackend) -> None:
    """Besides the weights: to see which rows have any, and for the sums, by 2 groups of columns."""
    X, U = sums_tests.data(3000, 300, 4, np.float32)
    rows, weights = cuda.array(X), cuda.array(U)
    report = cuda.measure(lambda: tamis.weighted_sums(rows, weights))
    assert len(report.launches) == 2
    assert report.total("local") == 0
    [read] = [o.read for o in report.launches[0].operands if o.size == X.nbytes]
    assert X.nbytes * 0.79 <= read <= X.nbytes  # a fifth of the rows has no weight
    [of_weights] = [o.read for o in report.launches[0].operands if o.size == U.nbytes]
    assert of_weights <= 4 * U.nbytes


@pytest.mark.parametrize("j", [1, 5])
def test_order_of_blocks_does_not_matter(cuda: EmulatedBackend, j: int) -> None:
    X, U = sums_tests.data(2111, 40, j, np.float32)
    results = []
    for order in range(3):
        cuda.emulator.set_order(order)
        results.append(weighted_sums(cuda, X, U).tobytes())
    assert len(set(results)) == 1
