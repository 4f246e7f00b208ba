"""linear_gradients on every backend. What it shares with others is in test_cuda_spectral.py.

Oracle: the float64 twin, with the tolerances of test_linear_gradients.py; on CUDA sums in the
dtype of X have up to 2048 terms.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import tamis
import test_linear_gradients as gradient_tests
from cuda_emulation.backends import Backend, EmulatedBackend
from tamis.ops.gradients import LinearGradients

pytest_plugins = ["cuda_emulation.fixtures"]

DTYPES = (np.float32, np.float64)
LONGEST = 2048
# (n, d, k): odd sizes; more than one tile, slice of columns, group of columns, launch, block
SIZES = [
    (1, 1, 1), (2, 7, 4), (9, 2, 8), (31, 33, 9), (33, 129, 1), (70, 300, 4), (65, 90, 17),
    (129, 17, 33), (1100, 64, 4),
]  # fmt: skip


def linear_gradients(backend: Backend, *arguments: Any, **given: Any) -> LinearGradients:
    def there(value: Any) -> Any:
        return backend.array(value) if isinstance(value, np.ndarray) else value

    found = tamis.linear_gradients(
        *(there(value) for value in arguments),
        **{name: there(value) for name, value in given.items()},
    )
    return LinearGradients(*(backend.numpy(field) for field in found))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_values(backend: Backend, dtype: Any, size: tuple[int, int, int]) -> None:
    for kind in gradient_tests.KINDS[size[0] % 2 :: 2]:
        arguments, given = gradient_tests.data(*size, dtype, **kind)
        found = linear_gradients(backend, *arguments, **given)
        gradient_tests.agree(found, arguments, given, flush=LONGEST)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_far_from_zero_cost_no_accuracy(backend: Backend, dtype: Any) -> None:
    for kind in gradient_tests.KINDS[::3]:
        arguments, given = gradient_tests.data(300, 20, 4, dtype, far=1e6, **kind)
        found = linear_gradients(backend, *arguments, **given)
        gradient_tests.agree(found, arguments, given, flush=LONGEST)


def test_rows_apart_and_one_direction(backend: Backend) -> None:
    """Rows with room between them; a vector in place of a block."""
    (X, y, coef, b, V), given = gradient_tests.data(150, 10, 1, np.float32)
    room = np.full((150, 13), np.nan, np.float32)
    room[:, :10] = X
    wanted = linear_gradients(backend, X, y, coef, b, V, **given)
    view = backend.array(room)[:, :10]
    found = tamis.linear_gradients(
        view, backend.array(y), backend.array(coef), b, backend.array(V[:, 0]), **given
    )
    assert (backend.numpy(found.product) == wanted.product[:, 0]).all()
    assert (backend.numpy(found.mean) == wanted.mean).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (given, message)
        for given, error, message in gradient_tests.BAD_ARGUMENTS
        if error is ValueError
    ],
)
def test_bad_arguments(backend: Backend, given: dict[str, Any], message: str) -> None:
    wide = {"y": np.zeros(5), "coef": np.ones(3), "intercept": 0.0, "V": np.ones(3), **given}
    X = np.arange(15.0).reshape(5, 3)
    with pytest.raises(ValueError, match=message.replace("nan", "-?nan")):
        linear_gradients(backend, X, **wide)


def test_a_bad_row_comes_first(backend: Backend) -> None:
    X = np.ones((40, 3), np.float32)
    X[31, 1] = np.inf
    for epsilon in (0.5, math.inf):
        with pytest.raises(ValueError, match=r"X: expected finite .* inf in row 31, column 1"):
            linear_gradients(
                backend, X, np.full(40, np.nan), np.ones(3), 0.0, np.ones(3), epsilon=epsilon
            )


def test_arrays_that_lie_elsewhere_are_brought(cuda: EmulatedBackend) -> None:
    (X, y, coef, b, V), given = gradient_tests.data(60, 5, 2, np.float32, **gradient_tests.KINDS[3])
    found = tamis.linear_gradients(cuda.array(X), y, coef, b, V, **given)
    wanted = linear_gradients(cuda, X, y, coef, b, V, **given)
    assert all((cuda.numpy(a) == b).all() for a, b in zip(found, wanted, strict=True))
    far = cuda.array(y, device=1)
    with pytest.raises((TypeError, ValueError), match="y"):
        tamis.linear_gradients(cuda.array(X), far, coef, b, V)


@pytest.mark.parametrize("shared", [False, True])
def test_rows_are_read_twice(cuda: EmulatedBackend, shared: bool) -> None:
    """And a few of them once more, for a point near their mean."""
    kind = gradient_tests.KINDS[3 if shared else 0]
    (X, y, coef, b, V), given = gradient_tests.data(3000, 300, 4, np.float32, **kind)
    there = [cuda.array(a) for a in (X, y, coef, V)]
    options = {k: cuda.array(a) if isinstance(a, np.ndarray) else a for k, a in given.items()}
    report = cuda.measure(lambda: tamis.linear_gradients(*there[:3], b, there[3], **options))
    assert len(report.launches) == 8
    assert report.total("local") == 0
    read = sum(o.read for launch in report.launches for o in launch.operands if o.size == X.nbytes)
    assert 2 * X.nbytes <= read <= 2.02 * X.nbytes + 300 * X[0].nbytes


def test_more_rows_than_factors_have_room_for(cuda: EmulatedBackend) -> None:
    """8 MiB of float64 in 32 columns: of 33,000 rows a few are left, fewer than blocks."""
    arguments, given = gradient_tests.data(33_000, 1, 28, np.float64, **gradient_tests.KINDS[3])
    found = linear_gradients(cuda, *arguments, **given)
    gradient_tests.agree(found, arguments, given, flush=LONGEST)


def test_order_of_blocks_does_not_matter(cuda: EmulatedBackend) -> None:
    arguments, given = gradient_tests.data(811, 270, 3, np.float32, **gradient_tests.KINDS[3])
    results = []
    for order in range(3):
        cuda.emulator.set_order(order)
        results.append(gradient_tests.bits(linear_gradients(cuda, *arguments, **given)))
    assert len(set(results)) == 1
