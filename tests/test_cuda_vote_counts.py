"""vote_counts on every backend, and what only the emulated device shows.

Oracle: tamis.reference.vote_counts, NumPy's argmax.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tamis
from cuda_emulation.backends import Backend, EmulatedBackend
from tamis import reference

pytest_plugins = ["cuda_emulation.fixtures"]

TYPES = ("float64", "float32", "float16", "bfloat16")
SHAPES = [(1, 1), (7, 2), (8, 3), (9, 31), (31, 32), (33, 33), (5, 100), (1023, 10), (2, 3001)]


def random_logits(rows: int, classes: int, dtype: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """What the backend gets, and the same values as NumPy understands them. With ties."""
    values = np.random.default_rng(classes).integers(-40, 40, (rows, classes)) / 8
    if dtype != "bfloat16":
        return values.astype(dtype), values
    exact = values.astype(np.float32)  # few digits: bfloat16 holds them
    return (exact.view(np.uint32) >> 16).astype(np.uint16), values


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_numpy(backend: Backend, dtype: str, shape: tuple[int, int]) -> None:
    given, values = random_logits(*shape, dtype)
    counts = backend.numpy(tamis.vote_counts(backend.array(given, dtype)))
    assert counts.dtype == np.int64
    assert (counts == reference.vote_counts(values)).all()


@pytest.mark.parametrize("classes", [1, 2, 3, 4, 5, 8, 16, 17, 31, 32, 33, 64, 1000, 4096, 4097])
def test_numbers_of_classes(backend: Backend, classes: int) -> None:
    """Around the ways a row is read: lanes a row, 16-byte loads, counters of the block or none."""
    for dtype in ("float32", "float16"):
        given, values = random_logits(37 if classes < 1000 else 5, classes, dtype)
        counts = backend.numpy(tamis.vote_counts(backend.array(given, dtype)))
        assert (counts == reference.vote_counts(values)).all()


@pytest.mark.parametrize("dtype", TYPES)
def test_rows_that_begin_anywhere(backend: Backend, dtype: str) -> None:
    """Every distance of a row from a 16-byte boundary; values beyond it would win."""
    given, values = random_logits(17, 51, dtype)
    given[:, [0, 1, 50]] = 0x7F80 if dtype == "bfloat16" else np.inf
    counts = backend.numpy(tamis.vote_counts(backend.array(given, dtype)[:, 2:50]))
    assert (counts == reference.vote_counts(values[:, 2:50])).all()


def test_rows_of_minus_infinity(backend: Backend) -> None:
    for classes in (2, 5, 40):
        counts = tamis.vote_counts(backend.array(np.full((3, classes), -np.inf, np.float32)))
        assert backend.numpy(counts).tolist() == [3] + [0] * (classes - 1)


@pytest.mark.parametrize("classes", [3, 40, 4100])
def test_without_waiting(backend: Backend, classes: int) -> None:
    """The counts and -1; or the first row with a NaN."""
    given, values = random_logits(30, classes, "float32")
    out = backend.array(np.full(classes + 1, 99, np.int64))
    assert tamis.vote_counts(backend.array(given), out=out, wait=False) is out
    assert backend.numpy(out).tolist() == [*reference.vote_counts(values).tolist(), -1]
    given[[20, 25], [0, classes - 1]] = np.nan
    result = tamis.vote_counts(backend.array(given), wait=False)
    assert backend.numpy(result)[-1] == 20
    assert backend.numpy(tamis.vote_counts(backend.array(given)[:0], wait=False))[-1] == -1


@pytest.mark.parametrize("classes", [2, 31, 33, 100])
def test_ties_go_to_the_lowest_index(backend: Backend, classes: int) -> None:
    for first, second in [(0, 1), (0, classes - 1), (classes // 2, classes - 1)]:
        logits = np.full((5, classes), -1, np.float32)
        logits[:, [first, second]] = 2
        counts = backend.numpy(tamis.vote_counts(backend.array(logits)))
        assert counts[first] == counts.sum() == 5


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("column", [0, 9, 40])
def test_the_first_row_with_a_nan_is_named(backend: Backend, dtype: str, column: int) -> None:
    given, _ = random_logits(30, 41, dtype)
    nan = 0x7FC0 if dtype == "bfloat16" else np.nan
    given[17, column] = given[23, 5] = nan
    with pytest.raises(tamis.NaNRowError, match="17") as caught:
        tamis.vote_counts(backend.array(given, dtype))
    assert caught.value.row == 17


def test_no_rows(backend: Backend) -> None:
    counts = tamis.vote_counts(backend.array(np.zeros((0, 5), np.float32)))
    assert backend.numpy(counts).tolist() == [0] * 5


def test_rows_apart(backend: Backend) -> None:
    given, values = random_logits(50, 13, "float32")
    counts = tamis.vote_counts(backend.array(given)[::2])
    assert (backend.numpy(counts) == reference.vote_counts(values[::2])).all()


def test_counts_are_overwritten(backend: Backend) -> None:
    given, values = random_logits(50, 13, "float32")
    out = backend.array(np.full(13, 99, np.int64))
    assert tamis.vote_counts(backend.array(given), out=out) is out
    assert (backend.numpy(out) == reference.vote_counts(values)).all()


# ---- the emulated device alone -----------------------------------------------------------------


@pytest.mark.parametrize("order", [1, 2, 3])
def test_order_of_blocks_does_not_matter(cuda: EmulatedBackend, order: int) -> None:
    cuda.emulator.set_order(order)
    given, values = random_logits(200, 10, "float32")
    assert (cuda.numpy(tamis.vote_counts(cuda.array(given))) == reference.vote_counts(values)).all()


def test_traffic(cuda: EmulatedBackend) -> None:
    """One launch; every logit is read once."""
    given, _ = random_logits(256, 100, "float32")
    logits = cuda.array(given)
    [launch] = cuda.measure(lambda: tamis.vote_counts(logits)).launches
    assert launch.unique_read <= given.nbytes + 100 * 8 + 8  # and counters
    assert launch.read <= 1.05 * given.nbytes + 256 * 8
    assert launch.local == 0


def test_nothing_waits(cuda: EmulatedBackend) -> None:
    """No synchronisation, no transfer, no memory: and every failing call is reported."""
    logits = cuda.array(random_logits(20, 10, "float32")[0])
    out = cuda.emulator.empty(11, np.int64)
    calls = cuda.fail_every_call(lambda: tamis.vote_counts(logits, out=out, wait=False))
    assert "cudaLaunchKernel" in calls
    assert not [c for c in calls if "Synchronize" in c or "Memcpy" in c or "Malloc" in c]


def test_every_failing_call_is_reported(cuda: EmulatedBackend) -> None:
    logits = cuda.array(random_logits(20, 10, "float32")[0])
    calls = cuda.fail_every_call(lambda: tamis.vote_counts(logits))
    assert {"cudaMallocAsync", "cudaLaunchKernel", "cudaStreamSynchronize"} <= set(calls)


def test_out_of_memory(cuda: EmulatedBackend) -> None:
    logits = cuda.array(random_logits(20, 10, "float32")[0])
    cuda.emulator.fail("cudaMallocAsync", "cudaErrorMemoryAllocation")
    with pytest.raises(RuntimeError, match="cudaMallocAsync failed: cudaErrorMemoryAllocation"):
        tamis.vote_counts(logits)


def test_no_device(cuda: EmulatedBackend) -> None:
    cuda.emulator.reset(devices=0)
    logits = cuda.array(random_logits(20, 10, "float32")[0])
    with pytest.raises(RuntimeError, match="cudaErrorNoDevice"):
        tamis.vote_counts(logits)


def test_device_that_is_not_there(cuda: EmulatedBackend) -> None:
    logits = cuda.array(random_logits(20, 10, "float32")[0], device=2)
    with pytest.raises(RuntimeError, match="cudaErrorInvalidDevice"):
        tamis.vote_counts(logits)


def test_stream(cuda: EmulatedBackend, extension: Any) -> None:
    """All work goes to the caller's stream; one that does not exist is reported."""
    logits = cuda.array(random_logits(20, 10, "float32")[0])
    out = cuda.emulator.empty(10, np.int64)
    stream = cuda.emulator.create_stream()
    report = cuda.measure(lambda: extension.vote_counts(logits, out, stream))
    elsewhere = ("Device", "MemPool")  # calls that have no stream
    streams = {c.stream for c in report.calls if not any(word in c.name for word in elsewhere)}
    assert streams == {stream}
    with pytest.raises(RuntimeError, match="cudaErrorInvalidResourceHandle"):
        extension.vote_counts(logits, out, 0xBAD)
