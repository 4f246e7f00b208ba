"""power_iteration: the arrays and numbers it takes, those it refuses, and what changes nothing.

Oracle: calls on plain contiguous arrays on one thread of this process, which
test_power_iteration.py compares with dense eigendecompositions; for refusals, the docstring.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tamis
from support import (
    BAD_ROW,
    NO_ROWS,
    NOT_FINITE,
    UNFIT_ROWS,
    layouts,
    outputs_per_isa,
    same_bits,
    with_bad_values,
)

DTYPES = (np.float32, np.float64)
METHODS = ("lanczos", "power")


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch")


def data(n: int, d: int, dtype: Any = np.float64, seed: int = 0) -> NDArray[Any]:
    """Unequal columns away from 0, rotated: top eigenvalues well apart."""
    rng = np.random.default_rng([seed, n, d])
    spread = 4.0 * 0.7 ** np.arange(d) + 0.1
    rotation = np.linalg.qr(rng.normal(size=(d, d)))[0]
    X: NDArray[Any] = ((rng.normal(size=(n, d)) * spread) @ rotation + rng.normal(size=d)).astype(
        dtype
    )
    return X


# ---- layouts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_layouts(dtype: Any) -> None:
    X = data(300, 9, dtype)
    before = X.tobytes()
    expected = tamis.power_iteration(X, 2)
    for name, view in layouts(X).items():
        result = tamis.power_iteration(view, 2)
        assert same_bits(result.vectors, expected.vectors), name
        assert same_bits(result.values, expected.values), name
    assert X.tobytes() == before


@pytest.mark.parametrize("dtype", DTYPES)
def test_torch(torch: Any, dtype: Any) -> None:
    X = data(300, 9, dtype)
    weights, mean = np.linspace(0, 1, 300).astype(dtype), X[5].copy()
    expected = tamis.power_iteration(X, 2, weights=weights, mean=mean)
    tX = torch.from_numpy(X)
    for view in (tX, tX.t().contiguous().t(), torch.nn.functional.pad(tX, (3, 2))[:, 3:12]):
        result = tamis.power_iteration(
            view,
            2,
            weights=torch.from_numpy(weights),
            mean=torch.from_numpy(mean),
            init=None,
        )
        for name in ("values", "vectors", "residuals"):
            array = getattr(result, name)
            assert isinstance(array, torch.Tensor)
            assert same_bits(array.numpy(), getattr(expected, name))
    warm = tamis.power_iteration(tX, 2, init=result.vectors)
    assert warm.converged
    with pytest.raises(ValueError, match=r"^X: expected a tensor outside autograd"):
        tamis.power_iteration(tX.clone().requires_grad_())


# ---- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", UNFIT_ROWS)
def test_unfit_rows(case: str) -> None:
    X, error, message = UNFIT_ROWS[case]
    with pytest.raises(error, match=message):
        tamis.power_iteration(X)


def test_no_rows() -> None:
    X, error, message = NO_ROWS
    with pytest.raises(error, match=message):
        tamis.power_iteration(X)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("value", "name"), NOT_FINITE)
def test_the_first_bad_row_is_named(dtype: Any, value: float, name: str) -> None:
    X = with_bad_values(dtype, value)
    arguments: Any
    for arguments in ({}, {"mean": np.zeros(7)}, {"weights": np.ones(301)}, {"method": "power"}):
        with pytest.raises(ValueError, match=BAD_ROW.format(name)):
            tamis.power_iteration(X, 2, **arguments)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("k", 0, ValueError),
        ("k", 4, ValueError),
        ("k", -1, ValueError),
        ("k", 1.0, TypeError),
        ("k", True, TypeError),
        ("tol", 0.0, ValueError),
        ("tol", -1e-3, ValueError),
        ("tol", np.nan, ValueError),
        ("tol", np.inf, ValueError),
        ("tol", "1e-4", TypeError),
        ("max_iter", 0, ValueError),
        ("max_iter", 1.5, TypeError),
        ("method", "arnoldi", ValueError),
        ("method", None, ValueError),
        ("seed", -1, ValueError),
        ("seed", 2**64, ValueError),
        ("seed", 0.5, TypeError),
        ("num_threads", 0, ValueError),
        ("init", np.ones((4, 1)), ValueError),
        ("init", np.ones((3, 0)), ValueError),
        ("init", np.ones((3, 1, 1)), ValueError),
        ("init", np.full(3, np.nan), ValueError),
        ("mean", np.ones(4), ValueError),
        ("mean", np.full(3, np.nan), ValueError),
        ("weights", np.ones(4), ValueError),
        ("weights", np.array([1, 1, -1, 1, 1]), ValueError),
        ("weights", np.array([1, 1, np.nan, 1, 1]), ValueError),
        ("weights", np.array([1, 1, np.inf, 1, 1]), ValueError),
        ("weights", np.zeros(5), ValueError),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_unfit_arguments(name: str, value: Any, error: type[Exception], dtype: Any) -> None:
    with pytest.raises(error, match=rf"\b{name}\b"):
        tamis.power_iteration(data(5, 3, dtype), **{name: value})


# ---- determinism -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_number_of_threads_changes_nothing(dtype: Any, method: Any) -> None:
    X = data(9_001, 33, dtype)
    one = tamis.power_iteration(X, 2, method=method, tol=1e-3, num_threads=1)
    for threads in (2, 8):
        many = tamis.power_iteration(X, 2, method=method, tol=1e-3, num_threads=threads)
        assert same_bits(many.values, one.values)
        assert same_bits(many.vectors, one.vectors)
        assert same_bits(many.residuals, one.residuals)
        assert many.iterations == one.iterations


def test_every_instruction_set_gives_the_same_bits() -> None:
    script = """
        import hashlib, numpy as np, tamis
        digest = hashlib.sha256()
        for dtype in (np.float32, np.float64):
            for n, d, k in ((2, 1, 1), (129, 7, 3), (300, 33, 8), (67, 301, 2), (5000, 64, 4)):
                rng = np.random.default_rng([n, d])
                X = (rng.normal(size=(n, d)) * 0.8 ** np.arange(d)).astype(dtype)
                for method in ("lanczos", "power"):
                    r = tamis.power_iteration(X, k, method=method, tol=1e-2, max_iter=500)
                    for array in (r.values, r.vectors, r.residuals):
                        digest.update(array.tobytes())
        print(tamis.info()["isa"], digest.hexdigest())
    """
    assert len(outputs_per_isa(script)) == 1


def test_calls_from_many_threads_and_a_forked_child() -> None:
    X = data(2_000, 33)
    expected = tamis.power_iteration(X, 2, num_threads=1).vectors
    with ThreadPoolExecutor(8) as executor:
        results = executor.map(lambda _: tamis.power_iteration(X, 2, num_threads=2), range(16))
        assert all(same_bits(result.vectors, expected) for result in results)
    child = os.fork()
    if child == 0:
        result = tamis.power_iteration(X, 2, num_threads=2)
        os._exit(0 if same_bits(result.vectors, expected) else 3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
