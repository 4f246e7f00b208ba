"""CuPy arrays: results, devices, streams, refusals. On a GPU, and through a stand-in without one.

Oracle: the CPU result; bit for bit where the operation promises it.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tamis
from cuda_emulation.backends import EmulatedBackend
from cuda_emulation.cupy_arrays import emulated_cupy
from cuda_emulation.fixtures import no_gpu, skip
from support import filter_rows, noise, ramp, run_python, same_bits

pytest_plugins = ["cuda_emulation.fixtures"]


@pytest.fixture(params=["stand_in", "gpu"])
def cupy(request: pytest.FixtureRequest) -> Iterator[Any]:
    """CuPy on a GPU, and its stand-in on the emulated device."""
    if request.param == "gpu":
        reason = no_gpu()
        if not reason and importlib.util.find_spec("cupy") is None:
            reason = "no GPU test of CuPy: cupy is not installed"
        if reason:
            skip(reason, gpu=True)
        yield importlib.import_module("cupy")
    else:
        backend = request.getfixturevalue("emulated_90")
        with emulated_cupy(backend.emulator) as module:
            yield module


def is_beside(cupy: Any, result: Any, x: Any) -> bool:
    return isinstance(result, cupy.ndarray) and result.device.id == x.device.id


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("constants", [{}, {"mean": [0.1, 0.2, 0.3], "std": 0.5}])
def test_gaussian_noise(cupy: Any, dtype: str, constants: Any) -> None:
    x = ramp(3, 5, 7, dtype=dtype)
    given = cupy.asarray(x)
    result = noise(given, 4, **constants)
    assert is_beside(cupy, result, given)
    assert same_bits(result.get(), noise(x, 4, **constants))
    out = cupy.empty((4, 3, 5, 7), dtype=dtype)
    assert noise(given, 4, out=out, **constants) is out
    assert same_bits(out.get(), result.get())


def test_constants_of_any_library(cupy: Any) -> None:
    x, mean = ramp(3, 4), np.array([0.1, 0.2, 0.3])
    expected = noise(x, 2, mean=mean)
    assert same_bits(noise(cupy.asarray(x), 2, mean=cupy.asarray(mean)).get(), expected)
    assert same_bits(noise(x, 2, mean=cupy.asarray(mean)), expected)


def test_strided_input_is_copied(cupy: Any) -> None:
    x = ramp(6, 10)
    turned = np.ascontiguousarray(x[:, ::2].T)
    given = cupy.asarray(x)[:, ::2].T
    assert same_bits(noise(given, 4).get(), noise(turned, 4))
    X, V = turned.astype(float), np.ones(turned.shape[1])
    product = tamis.covariance_apply(cupy.asarray(x.astype(float))[:, ::2].T, V)
    np.testing.assert_allclose(product.get(), tamis.covariance_apply(X, V), rtol=1e-12)


def test_vote_counts(cupy: Any) -> None:
    logits = np.random.default_rng(0).standard_normal((50, 7)).astype(np.float32)
    counts = tamis.vote_counts(cupy.asarray(logits))
    assert isinstance(counts, cupy.ndarray)
    assert counts.get().tolist() == tamis.vote_counts(logits).tolist()
    logits[30, 2] = np.nan
    with pytest.raises(tamis.NaNRowError, match="row 30"):
        tamis.vote_counts(cupy.asarray(logits))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("of", ["NumPy", "CuPy"])
def test_products_and_scores(cupy: Any, dtype: str, of: str) -> None:
    """The other arguments come from either library."""
    rng = np.random.default_rng(1)
    X, V = rng.normal(size=(300, 9)).astype(dtype), rng.normal(size=(9, 2))
    mean, weights = rng.normal(size=9), rng.random(300)
    given = cupy.asarray(X)
    move = cupy.asarray if of == "CuPy" else np.asarray
    tolerance = {"rtol": 1e-4 if dtype == "float32" else 1e-11, "atol": 1e-5}
    product = tamis.covariance_apply(given, move(V), weights=move(weights), mean=move(mean))
    expected = tamis.covariance_apply(X, V, weights=weights, mean=mean)
    assert (is_beside(cupy, product, given), product.dtype) == (True, X.dtype)
    np.testing.assert_allclose(product.get(), expected, **tolerance)
    scores = tamis.projection_scores(given, move(V), mean=move(mean))
    assert (is_beside(cupy, scores, given), scores.dtype) == (True, X.dtype)
    np.testing.assert_allclose(scores.get(), tamis.projection_scores(X, V, mean=mean), **tolerance)
    sums = tamis.weighted_sums(given, move(weights))
    assert (is_beside(cupy, sums, given), sums.dtype) == (True, np.float64)
    np.testing.assert_allclose(sums.get(), tamis.weighted_sums(X, weights), **tolerance)
    looked = tamis.linear_gradients(given, move(weights), move(mean), 0.5, move(V))
    wanted = tamis.linear_gradients(X, weights, mean, 0.5, V)
    tolerance["atol"] = 1e-2 if dtype == "float32" else 1e-9  # sums that cancel
    for part, exact in zip(looked, wanted, strict=True):
        assert (is_beside(cupy, part, given), part.dtype) == (True, np.float64)
        np.testing.assert_allclose(part.get(), exact, **tolerance)
    found = tamis.power_iteration(given, 1, init=move(V[:, :1]), mean=move(mean), tol=1e-3)
    assert is_beside(cupy, found.vectors, given)
    values = tamis.power_iteration(X, 1, init=V[:, :1], mean=mean, tol=1e-3).values
    np.testing.assert_allclose(found.values.get(), values, rtol=1e-2)


def test_iterative_filter(cupy: Any) -> None:
    X = filter_rows(200, 4)
    given = cupy.asarray(X)
    result, expected = tamis.iterative_filter(given), tamis.iterative_filter(X)
    for name in ("mean", "weights", "scores", "directions"):
        assert is_beside(cupy, getattr(result, name), given)
    assert (result.weights.get() == expected.weights).all()
    np.testing.assert_allclose(result.mean.get(), expected.mean, rtol=1e-9, atol=1e-12)


def test_refusals(cupy: Any) -> None:
    x = cupy.asarray(np.ones(8, np.float32))
    with pytest.raises(TypeError, match=r"out: expected the array library of the input.*ndarray"):
        noise(x, 3, out=np.empty((3, 8), np.float32))
    with pytest.raises(TypeError, match=r"out: expected the array library of the input"):
        noise(np.ones(8, np.float32), 3, out=cupy.empty((3, 8), dtype="float32"))
    with pytest.raises(TypeError, match="CuPy has no bfloat16"):
        noise(x, 3, dtype="bfloat16")
    with pytest.raises(TypeError, match="x: expected dtype"):
        noise(cupy.asarray(np.ones(8)), 3)


def test_mixed_devices(emulated_90: EmulatedBackend) -> None:
    """Two devices, of which the second is used throughout; mixing them is refused."""
    emulated_90.emulator.reset(devices=2, architecture=90)
    X = np.random.default_rng(0).normal(size=(30, 3))
    with emulated_cupy(emulated_90.emulator) as cupy:
        first = cupy.asarray(X)
        with cupy.cuda.Device(1):
            second = cupy.asarray(X)
        scores = tamis.projection_scores(second, np.ones(3))
        assert scores.device.id == 1
        with pytest.raises(ValueError, match="weights: expected device cuda:0, got cuda:1"):
            tamis.covariance_apply(first, np.ones(3), weights=second[:, 0])
        with pytest.raises(ValueError, match="out: expected device cuda:1, got cuda:0"):
            tamis.projection_scores(second, np.ones(3), out=cupy.empty((30,), dtype=float))


def test_work_goes_to_the_current_stream(emulated_90: EmulatedBackend) -> None:
    stream = emulated_90.emulator.create_stream()
    with emulated_cupy(emulated_90.emulator, stream) as cupy:
        x = cupy.asarray(ramp(100))
        report = emulated_90.measure(lambda: noise(x, 3))
    assert {launch.stream for launch in report.launches} == {stream}


def test_a_device_that_is_not_there(emulated_90: EmulatedBackend) -> None:
    with emulated_cupy(emulated_90.emulator) as cupy, cupy.cuda.Device(5):
        x = cupy.asarray(ramp(100))
        with pytest.raises(RuntimeError, match="cudaErrorInvalidDevice"):
            noise(x, 3)


def test_other_producers_reach_the_host(emulated_90: EmulatedBackend) -> None:
    """A start and constants on the device, from a library that only speaks DLPack."""
    X = np.random.default_rng(3).normal(size=(100, 4)) * [1, 1, 1, 3]
    start = emulated_90.array(np.eye(4)[:, 3:])
    on_cpu = tamis.power_iteration(X, 1, init=start)
    on_device = tamis.power_iteration(emulated_90.array(X), 1, init=start)
    np.testing.assert_allclose(emulated_90.numpy(on_device.values), on_cpu.values, rtol=1e-6)
    np.testing.assert_allclose(
        on_cpu.values, tamis.power_iteration(X, 1, init=np.eye(4)[:, 3:]).values
    )


def test_cupy_is_never_imported() -> None:
    script = """
        import sys, numpy as np, tamis
        tamis.vote_counts(np.ones((3, 2)))
        print("cupy" in sys.modules)
    """
    assert run_python(script).strip() == "False"
