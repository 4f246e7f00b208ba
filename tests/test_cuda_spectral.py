"""The spectral operations on every backend, and what only the emulated device shows.

Oracles: the float64 twins for products and scores, with the tolerances of their own test files;
numpy.linalg.eigh for eigenpairs. The filter's own tests are in test_cuda_filter.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tamis
import test_covariance_apply as covariance_tests
import test_projection_scores as score_tests
from cuda_emulation.backends import Backend, EmulatedBackend
from cuda_emulation.emulator import Report
from support import BAD_ROW, NOT_FINITE, with_bad_values
from tamis import reference
from test_cuda_filter import corrupted

pytest_plugins = ["cuda_emulation.fixtures"]

DTYPES = (np.float32, np.float64)
# (n, d, k): odd sizes; more than one tile, block, slice of V, or block of partial sums
SIZES = [
    (1, 1, 1), (2, 7, 3), (9, 2, 8), (31, 33, 9), (33, 129, 1), (129, 70, 13), (65, 300, 17),
    (257, 17, 33),
]  # fmt: skip
SQUARES = (
    "covariance_apply",
    "power_iteration",
    "projection_scores",
    "iterative_filter",
    "linear_gradients",
)
OPERATIONS = (*SQUARES, "weighted_sums")

Floats = NDArray[Any]


def optional(backend: Backend, values: Floats | None) -> Any:
    return None if values is None else backend.array(values)


def covariance_apply(backend: Backend, X: Any, V: Floats, **given: Floats | None) -> Floats:
    arguments: dict[str, Any] = {name: optional(backend, value) for name, value in given.items()}
    return backend.numpy(tamis.covariance_apply(X, backend.array(V), **arguments))


def covariance(X: Floats, weights: Floats | None = None) -> Floats:
    A = X.astype(np.float64)
    return np.cov(A.T, aweights=weights, bias=True).reshape(A.shape[1], -1)


def call(operation: str, backend: Backend, X: Any) -> Any:
    """One operation on rows, everything else as plain as can be."""
    ones = np.ones((int(X.shape[1]), 1))
    if operation == "covariance_apply":
        return tamis.covariance_apply(X, backend.array(ones))
    if operation == "projection_scores":
        return tamis.projection_scores(X, backend.array(ones))
    if operation == "linear_gradients":
        y, coef = backend.array(np.ones(int(X.shape[0]))), backend.array(ones[:, 0])
        return tamis.linear_gradients(X, y, coef, 0.0, backend.array(ones)).product
    if operation == "weighted_sums":
        return tamis.weighted_sums(X, backend.array(np.ones((2, int(X.shape[0])))))
    return getattr(tamis, operation)(X)


# ---- covariance_apply --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_products(backend: Backend, dtype: Any, size: tuple[int, int, int]) -> None:
    n, d, k = size
    X, V, weights, mean = covariance_tests.data(n, d, k, dtype)
    for w, m in ((weights, None), (None, mean)) if n % 2 else ((None, None), (weights, mean)):
        result = covariance_apply(backend, backend.array(X), V, weights=w, mean=m)
        expected = reference.covariance_apply(*covariance_tests.wide(X, V), weights=w, mean=m)
        assert result.dtype == dtype
        assert result.shape == V.shape
        assert (np.abs(result - expected) <= covariance_tests.tolerance(X, V, w, m)).all()


@pytest.mark.parametrize(
    ("n", "d", "k", "dtype"), [(33, 2100, 5, np.float32), (70, 1100, 9, np.float64)]
)
def test_rows_too_wide_for_one_read(backend: Backend, n: int, d: int, k: int, dtype: Any) -> None:
    X, V, weights, mean = covariance_tests.data(n, d, k, dtype)
    for w, m in ((None, None), (weights, mean)):
        result = covariance_apply(backend, backend.array(X), V, weights=w, mean=m)
        expected = reference.covariance_apply(*covariance_tests.wide(X, V), weights=w, mean=m)
        assert (np.abs(result - expected) <= covariance_tests.tolerance(X, V, w, m)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_mean_far_away_costs_no_accuracy(backend: Backend, dtype: Any) -> None:
    """Rows and mean are moved alike by what the dtype holds exactly: nothing may change much."""
    X, V, _, mean = covariance_tests.data(300, 40, 4, dtype)
    X, mean = np.round(X * 64) / 64, np.round(mean * 64) / 64
    near, far = (
        covariance_apply(backend, backend.array(X + shift), V, mean=mean + shift)
        for shift in (dtype(0), dtype(1024))
    )
    assert (np.abs(near - far) <= covariance_tests.tolerance(X, V, None, mean)).all()


def test_rows_of_weight_zero_are_not_looked_at(backend: Backend) -> None:
    X, V, weights, mean = covariance_tests.data(300, 19, 3, np.float64)
    holes = np.where((weights == 0)[:, None], np.nan, X)
    for m in (None, mean):
        given: dict[str, Any] = {"weights": weights, "mean": m}
        with_holes, without = (
            covariance_apply(backend, backend.array(rows), V, **given) for rows in (holes, X)
        )
        assert (with_holes == without).all()


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (-1.0, "weights: finite numbers >= 0, got -1 at index 41"),
        (np.inf, "weights: finite numbers >= 0, got inf at index 41"),
        (np.nan, "weights: finite numbers >= 0, got -?nan at index 41"),
    ],
)
def test_weights_that_are_none(backend: Backend, weight: float, message: str) -> None:
    weights = np.ones(100)
    weights[41] = weight
    X = backend.array(np.random.default_rng(0).normal(size=(100, 5)))
    with pytest.raises(ValueError, match=message):
        covariance_apply(backend, X, np.ones((5, 1)), weights=weights)
    with pytest.raises(ValueError, match=message):
        tamis.power_iteration(X, weights=backend.array(weights))


def test_weights_that_are_all_zero(backend: Backend) -> None:
    X = backend.array(np.random.default_rng(0).normal(size=(100, 5)))
    with pytest.raises(ValueError, match="weights that are not all zero"):
        covariance_apply(backend, X, np.ones((5, 1)), weights=np.zeros(100))
    with pytest.raises(ValueError, match="weights that are not all zero"):
        tamis.power_iteration(X, weights=backend.array(np.zeros(100)))


# ---- projection_scores -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_scores(backend: Backend, dtype: Any, size: tuple[int, int, int]) -> None:
    X, V, mean = score_tests.data(*size, dtype)
    for m in (None, mean):
        result = backend.numpy(
            tamis.projection_scores(backend.array(X), backend.array(V), mean=optional(backend, m))
        )
        expected = reference.projection_scores(*covariance_tests.wide(X, V), mean=m)
        assert result.dtype == dtype
        assert (np.abs(result - expected) <= score_tests.tolerance(X, V, m)).all()


def test_no_rows(backend: Backend) -> None:
    X, V = backend.array(np.zeros((0, 3))), backend.array(np.ones((3, 2)))
    assert backend.numpy(tamis.projection_scores(X, V)).shape == (0,)


def test_scores_are_overwritten(backend: Backend) -> None:
    X, V, _ = score_tests.data(50, 6, 2, np.float32)
    out = backend.array(np.full(50, 99, np.float32))
    assert tamis.projection_scores(backend.array(X), backend.array(V), out=out) is out
    expected = reference.projection_scores(*covariance_tests.wide(X, V))
    assert (np.abs(backend.numpy(out) - expected) <= score_tests.tolerance(X, V)).all()


# ---- power_iteration ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "d", "k"), [(9, 3, 2), (300, 17, 3)])
def test_eigenpairs(backend: Backend, dtype: Any, n: int, d: int, k: int) -> None:
    """Residuals and values to the tolerance asked for; weights of zero hide their rows."""
    rng = np.random.default_rng([n, d])
    X = (rng.normal(size=(n, d)) * np.linspace(1, 4, d) + 3).astype(dtype)
    weights = (rng.random(n) + 0.5).astype(dtype)
    weights[::7] = 0
    for w in (None, weights):
        found = tamis.power_iteration(backend.array(X), k, weights=optional(backend, w), tol=1e-4)
        C = covariance(X, w)
        expected = np.linalg.eigvalsh(C)[::-1][:k]
        values, vectors = (backend.numpy(a).astype(float) for a in (found.values, found.vectors))
        assert found.converged
        np.testing.assert_allclose(values, expected, rtol=2e-4)
        residuals = np.linalg.norm(C @ vectors - vectors * values, axis=0)
        assert (residuals <= 2e-4 * expected[0]).all()


def test_a_start_and_a_mean_are_used(backend: Backend) -> None:
    X = np.random.default_rng(3).normal(size=(400, 20)) * np.linspace(1, 5, 20)
    mean = np.full(20, 0.5)
    C = (X - mean).T @ (X - mean) / len(X)
    top = np.ascontiguousarray(np.linalg.eigh(C)[1][:, -1:])
    for start in (top, backend.array(top)):  # on the host, and beside the rows
        found = tamis.power_iteration(backend.array(X), 1, mean=backend.array(mean), init=start)
        assert found.iterations == 1
    values = backend.numpy(found.values)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(C)[-1:], rtol=1e-6)


# ---- all of them --------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "name"), NOT_FINITE)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_first_bad_row_is_named(
    backend: Backend, operation: str, value: float, name: str
) -> None:
    for dtype in DTYPES:
        X = backend.array(with_bad_values(dtype, value))
        with pytest.raises(ValueError, match=BAD_ROW.format(name)):
            call(operation, backend, X)


@pytest.mark.parametrize("operation", SQUARES)
def test_numbers_that_overflow(backend: Backend, operation: str) -> None:
    X = backend.array(np.random.default_rng(0).normal(size=(99, 3)) * 1e200)
    with pytest.raises(ValueError, match="expected values whose squares can be summed"):
        call(operation, backend, X)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_rows_apart(backend: Backend, operation: str) -> None:
    """Room between rows: the same bits as without it."""
    X = corrupted(300, 11)
    wide = np.full((300, 14), np.nan)
    wide[:, :11] = X

    def numbers(rows: Any) -> Floats:
        result = call(operation, backend, rows)
        result = getattr(result, "vectors", getattr(result, "scores", result))
        return backend.numpy(result)

    assert (numbers(backend.array(wide)[:, :11]) == numbers(backend.array(X))).all()


# ---- the emulated device alone -----------------------------------------------------------------


@pytest.mark.parametrize("operation", OPERATIONS)
def test_order_of_blocks_does_not_matter(cuda: EmulatedBackend, operation: str) -> None:
    """Blocks and warps in other orders: the same bits."""
    X = cuda.array(corrupted(515, 5, np.float32))
    results = []
    for order in range(3):
        cuda.emulator.set_order(order)
        result = call(operation, cuda, X)
        if operation == "power_iteration":
            result = result.vectors
        if operation == "iterative_filter":
            result = result.scores
        results.append(cuda.numpy(result).tobytes())
    assert len(set(results)) == 1


def traffic(report: Report) -> int:
    return report.total("read") + report.total("written")


def test_one_launch_reads_rows_once(cuda: EmulatedBackend) -> None:
    """A product about a known mean. Besides: weights, and 4 MiB of sums where rows are few."""
    X, V, weights, mean = covariance_tests.data(3000, 100, 8, np.float32)
    given = [cuda.array(a) for a in (X, V.astype("f8"), weights, mean.astype("f8"))]
    report = cuda.measure(
        lambda: tamis.covariance_apply(given[0], given[1], weights=given[2], mean=given[3])
    )
    [launch] = report.launches
    assert launch.local == 0
    assert launch.unique_read >= X.nbytes * 4 / 5  # a fifth of the rows has no weight
    assert traffic(report) <= X.nbytes + weights.nbytes + (5 << 20)


def test_scores_read_rows_once(cuda: EmulatedBackend) -> None:
    X, V, mean = score_tests.data(2048, 128, 8, np.float32)
    given = [cuda.array(a) for a in (X, V.astype("f8"), mean.astype("f8"))]
    report = cuda.measure(lambda: tamis.projection_scores(given[0], given[1], mean=given[2]))
    assert len(report.launches) == 2
    assert report.total("local") == 0
    operands = [operand for launch in report.launches for operand in launch.operands]
    rows = sum(o.read + o.written for o in operands if o.size >= X.nbytes)
    others = sum(o.unique_read + o.unique_written for o in operands if o.size < X.nbytes)
    assert rows == X.nbytes  # directions and mean are read again and again, from the cache
    assert others <= 4 * len(X) + 8 * 4 * (V.size + mean.size)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_failing_call_is_reported(cuda: EmulatedBackend, operation: str) -> None:
    X = cuda.array(corrupted(24, 2))
    calls = cuda.fail_every_call(lambda: call(operation, cuda, X))
    assert {"cudaMallocAsync", "cudaLaunchKernel", "cudaStreamSynchronize"} <= set(calls)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_device(cuda: EmulatedBackend, operation: str) -> None:
    cuda.emulator.reset(devices=0)
    X = cuda.array(corrupted(40, 3))
    with pytest.raises(RuntimeError, match="cudaErrorNoDevice"):
        call(operation, cuda, X)


@pytest.mark.parametrize("operation", ["power_iteration", "iterative_filter"])
def test_another_device(cuda: EmulatedBackend, operation: str) -> None:
    """The second of two, whatever the current one: and that is the current one again."""
    cuda.emulator.reset(devices=2, architecture=cuda.architecture)
    values = corrupted(300, 4)
    for_second = call(operation, cuda, cuda.array(values, device=1))
    on_cpu = getattr(tamis, operation)(values)
    field = "values" if operation == "power_iteration" else "weights"
    np.testing.assert_allclose(
        cuda.numpy(getattr(for_second, field)), getattr(on_cpu, field), rtol=1e-8
    )
