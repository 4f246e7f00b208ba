"""gaussian_noise on every backend, and what only the emulated device shows.

Oracle: the CPU result, bit for bit. NaNs are compared as NaNs: a GPU knows one NaN only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tamis
from cuda_emulation.backends import Backend, EmulatedBackend
from support import KEY, SIGMA, ramp

pytest_plugins = ["cuda_emulation.fixtures"]

TYPES = ("float32", "float16", "bfloat16")
SIZES = (1, 3, 4, 7, 8, 9, 31, 33, 1023, 3001)


def as_type(x: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    """Rounded to nearest even; bfloat16 as the upper halves of the rounded float32."""
    if dtype != "bfloat16":
        return x.astype(dtype)
    bits = x.view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def expected(x: NDArray[np.float32], n: int, dtype: str = "float32", **rest: Any) -> NDArray[Any]:
    """The CPU's float32 result, rounded."""
    return as_type(tamis.gaussian_noise(x, n, SIGMA, **{**KEY, **rest}), dtype)


def noise(backend: Backend, x: NDArray[Any], n: int, dtype: str, **rest: Any) -> NDArray[Any]:
    array = backend.array(x, dtype)
    return backend.numpy(tamis.gaussian_noise(array, n, SIGMA, **{**KEY, **rest}))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", SIZES)
def test_equals_the_cpu_bit_for_bit(backend: Backend, dtype: str, size: int) -> None:
    x = ramp(size)
    result = noise(backend, as_type(x, dtype), 3, dtype)
    assert result.tobytes() == expected(x, 3, dtype).tobytes()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(3, 5, 7), (3, 4, 4), (1, 9), (4, 1)])
def test_normalised(backend: Backend, dtype: str, shape: tuple[int, ...]) -> None:
    """Channels of odd sizes, so that a pack of elements lies in two of them."""
    x = ramp(*shape)
    channels = shape[0]
    constants = {"mean": np.linspace(0.1, 0.4, channels), "std": np.linspace(0.2, 0.6, channels)}
    result = noise(backend, as_type(x, dtype), 2, dtype, **constants)
    assert result.tobytes() == expected(x, 2, dtype, **constants).tobytes()


@pytest.mark.parametrize("n", [1, 23, 24, 25, 49])
def test_numbers_of_samples(backend: Backend, n: int) -> None:
    """A thread writes 24 samples; any number may remain. The numbering starts anywhere."""
    x = ramp(3, 11)
    result = noise(backend, x, n, "float32", start=2**32 - n)
    assert result.tobytes() == expected(x, n, start=2**32 - n).tobytes()


@pytest.mark.parametrize("number", [0, 7, 2**32 - 1, 2**40 + 7, -1])
def test_number_of_the_image_on_the_device(backend: Backend, number: int) -> None:
    """One int64 beside x; its low half counts. On the host it is an integer like any other."""
    x = ramp(3, 11)
    where = backend.array(np.array([number]), "int64")
    if isinstance(where, np.ndarray) and not 0 <= number < 2**32:
        with pytest.raises(ValueError, match="image"):
            noise(backend, x, 5, "float32", image=where[0])
        return
    given = where[0] if isinstance(where, np.ndarray) else where
    result = noise(backend, x, 5, "float32", image=given)
    assert result.tobytes() == expected(x, 5, image=number % 2**32).tobytes()


def test_what_is_no_number_of_an_image(emulated_90: EmulatedBackend) -> None:
    x = emulated_90.array(ramp(8), "float32")
    for values, dtype, error in (
        (np.arange(2), "int64", ValueError),
        (np.arange(0), "int64", ValueError),
        (np.arange(1), "int32", TypeError),
        (np.ones(1, np.float32), "float32", TypeError),
    ):
        with pytest.raises(error, match="image"):
            tamis.gaussian_noise(x, 2, SIGMA, seed=1, image=emulated_90.array(values, dtype))
    number = emulated_90.array(np.arange(1), "int64")
    with pytest.raises(ValueError, match="image"):
        tamis.gaussian_noise(ramp(8), 2, SIGMA, seed=1, image=number)


@pytest.mark.parametrize("target", TYPES)
def test_result_type(backend: Backend, target: str) -> None:
    x = ramp(13)
    array = backend.array(x)
    if isinstance(array, np.ndarray) and target == "bfloat16":
        with pytest.raises(TypeError, match="bfloat16"):
            tamis.gaussian_noise(array, 2, SIGMA, **KEY, dtype=target)
        return
    result = backend.numpy(tamis.gaussian_noise(array, 2, SIGMA, **KEY, dtype=target))
    assert result.tobytes() == expected(x, 2, target).tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("gap", [0, 1, 2, 4, 5, 8])
def test_rows_apart(backend: Backend, dtype: str, gap: int) -> None:
    """Rows that start on 16 bytes and rows that do not; what lies between stays as it was."""
    x = ramp(37)
    space = np.full((4, 37 + gap), 9, dtype)
    batch = backend.array(space)
    tamis.gaussian_noise(backend.array(x.astype(dtype)), 4, SIGMA, **KEY, out=batch[:, :37])
    result = backend.numpy(batch)
    assert result[:, :37].tobytes() == expected(x, 4, dtype).tobytes()
    assert (result[:, 37:] == 9).all()


def test_nothing_to_do(backend: Backend) -> None:
    assert noise(backend, ramp(5), 0, "float32").shape == (0, 5)
    assert noise(backend, ramp(0, 5), 3, "float32").shape == (3, 0, 5)


def test_nan_and_infinity_stay(backend: Backend) -> None:
    x = np.array([np.nan, np.inf, -np.inf, 0, 1], np.float32)
    result = noise(backend, x, 2, "float32")
    assert np.isnan(result[:, 0]).all()
    np.testing.assert_array_equal(result, expected(x, 2))


# ---- the emulated device alone -----------------------------------------------------------------


@pytest.mark.parametrize("order", [1, 2, 3])
def test_order_of_blocks_does_not_matter(cuda: EmulatedBackend, order: int) -> None:
    cuda.emulator.set_order(order)
    x = ramp(1500)
    assert noise(cuda, x, 30, "float32").tobytes() == expected(x, 30).tobytes()


@pytest.mark.parametrize("dtype", TYPES)
def test_traffic(cuda: EmulatedBackend, dtype: str) -> None:
    """One launch; every output byte once, in whole sectors; x once in 24 samples: 1.05 in all."""
    x, n = cuda.array(as_type(ramp(3, 32, 32), dtype), dtype), 48
    report = cuda.measure(lambda: tamis.gaussian_noise(x, n, SIGMA, **KEY))
    [launch] = report.launches
    item = 4 if dtype == "float32" else 2
    size = 3072 * item
    assert launch.written == launch.unique_written == launch.sectors_written == n * size
    assert launch.unique_read == size
    assert launch.read + launch.written <= 1.05 * (size + n * size)
    assert launch.local == 0


def test_enqueues_and_does_not_wait(cuda: EmulatedBackend) -> None:
    x = cuda.array(ramp(100))
    report = cuda.measure(lambda: tamis.gaussian_noise(x, 3, SIGMA, **KEY))
    assert [call.name for call in report.calls] == ["cudaGetDevice", "cudaLaunchKernel"]


def test_every_failing_call_is_reported(cuda: EmulatedBackend) -> None:
    x = cuda.array(ramp(100))
    cuda.fail_every_call(lambda: tamis.gaussian_noise(x, 3, SIGMA, **KEY), "cudaErrorUnknown")


@pytest.mark.parametrize("error", ["cudaErrorNoDevice", "cudaErrorInsufficientDriver"])
def test_no_device(cuda: EmulatedBackend, error: str) -> None:
    cuda.emulator.reset(devices=0, without_device=error)
    with pytest.raises(RuntimeError, match=rf"\[gaussian_noise\] cudaGetDevice failed: {error}"):
        tamis.gaussian_noise(cuda.array(ramp(8)), 3, SIGMA, **KEY)


def test_failed_launch(cuda: EmulatedBackend) -> None:
    x = cuda.array(ramp(8))
    cuda.emulator.fail("cudaLaunchKernel", "cudaErrorLaunchOutOfResources")
    with pytest.raises(RuntimeError, match="kernel launch failed: cudaErrorLaunchOutOfResources"):
        tamis.gaussian_noise(x, 3, SIGMA, **KEY)


def test_device_that_is_not_there(cuda: EmulatedBackend) -> None:
    x = cuda.array(ramp(8), device=3)
    with pytest.raises(RuntimeError, match="cudaSetDevice failed: cudaErrorInvalidDevice"):
        tamis.gaussian_noise(x, 3, SIGMA, **KEY)


def test_second_device(cuda: EmulatedBackend) -> None:
    """Runs where the array is, and leaves the caller's device current."""
    cuda.emulator.reset(devices=2, architecture=cuda.architecture)
    x = ramp(8)
    result = tamis.gaussian_noise(cuda.array(x, device=1), 3, SIGMA, **KEY)
    assert result.device == "cuda:1"
    assert cuda.numpy(result).tobytes() == expected(x, 3).tobytes()
    assert cuda.emulator.current_device() == 0


def test_arrays_on_two_devices(cuda: EmulatedBackend) -> None:
    cuda.emulator.reset(devices=2, architecture=cuda.architecture)
    x, out = cuda.array(ramp(8)), cuda.emulator.empty((3, 8), np.float32, device=1)
    with pytest.raises(ValueError, match="out: expected device"):
        tamis.gaussian_noise(x, 3, SIGMA, **KEY, out=out)


def test_array_of_another_kind(cuda: EmulatedBackend) -> None:
    with pytest.raises((TypeError, ValueError), match="out: expected"):
        tamis.gaussian_noise(cuda.array(ramp(8)), 3, SIGMA, **KEY, out=np.empty((3, 8), np.float32))
