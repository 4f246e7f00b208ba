"""weighted_sums: values, layouts, refusals, determinism.

Oracle: tamis.reference.weighted_sums, the float64 twin, itself checked against NumPy's product.
Tolerances are those of `tolerance`.
"""

from __future__ import annotations

import itertools
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
from tamis import reference

ROWS = (1, 2, 7, 8, 9, 31, 33, 127, 128, 129, 1023, 3001)
COLUMNS = (1, 7, 8, 9, 17, 33, 70, 300)
SUMS = (1, 3, 4, 5, 8, 9, 33)
DTYPES = (np.float32, np.float64)
FLUSH = 128  # rows summed in the dtype of X; those sums are added in float64

Floats = NDArray[Any]


def data(n: int, d: int, j: int, dtype: Any, seed: int = 0) -> tuple[Floats, Floats]:
    """X with unequal columns away from 0; U of both signs, a fifth of the rows without weight."""
    rng = np.random.default_rng([seed, n, d, j])
    X = rng.normal(size=(n, d)) * np.linspace(0.5, 3.0, d) + rng.normal(size=d)
    U = rng.normal(size=(j, n)) * (np.arange(n) % 5 != 3)
    return X.astype(dtype), U.astype(dtype)


def tolerance(X: Floats, U: Floats) -> Floats:
    """The error that rounding explains, for every sum.

    With u the rounding unit of X's dtype, at most FLUSH fused steps round in it, each relative to a
    sum of absolute values, and so does U on its way to that dtype; the twin rounds its n products
    and sums in float64.
    """
    unit = float(np.finfo(X.dtype).eps) / 2
    size = np.abs(U.astype(np.float64)) @ np.abs(X.astype(np.float64))
    return ((FLUSH + 2) * unit + 2 * len(X) * 2.0**-53) * size


def check(X: Floats, U: Floats, **arguments: Any) -> Floats:
    """Compare one call with the twin; returns the result."""
    result = tamis.weighted_sums(X, U, **arguments)
    assert result.dtype == np.float64
    assert result.shape == (*U.shape[:-1], X.shape[1])
    expected = reference.weighted_sums(X.astype(np.float64), U.astype(np.float64))
    assert np.all(np.abs(result - expected) <= tolerance(X, U))
    return result


# ---- values ------------------------------------------------------------------------------------


def test_the_twin_is_the_product() -> None:
    """Oracle: NumPy's matrix product."""
    X, U = data(3001, 9, 4, np.float64)
    np.testing.assert_allclose(reference.weighted_sums(X, U), U @ X, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(reference.weighted_sums(X, U[0]), U[0] @ X, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", ROWS)
def test_sizes(n: int, dtype: Any) -> None:
    for i, (d, j) in enumerate(itertools.product(COLUMNS, SUMS)):
        check(*data(n, d, j, dtype), num_threads=1 + (i % 8 == 0))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "d", "j"), [(64 * FLUSH + 77, 9, 5), (3, 65536, 2), (17, 9, 256)])
def test_many_blocks_columns_and_sums(n: int, d: int, j: int, dtype: Any) -> None:
    for threads in (1, 2):
        check(*data(n, d, j, dtype), num_threads=threads)


def test_one_sum_has_the_shape_of_a_row() -> None:
    X, U = data(300, 7, 1, np.float64)
    assert same_bits(tamis.weighted_sums(X, U[0]), tamis.weighted_sums(X, U)[0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_whole_numbers_are_summed_exactly(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    X = rng.integers(-9, 10, size=(3000, 41)).astype(dtype)
    U = rng.integers(-9, 10, size=(4, 3000))
    assert (tamis.weighted_sums(X, U) == U @ X.astype(np.int64)).all()


def test_rows_without_weight_are_not_looked_at() -> None:
    for dtype in DTYPES:
        X, U = data(301, 7, 3, dtype)
        U[1, 10] = 0  # its other weights are not 0
        expected = check(X, U)
        X[(U == 0).all(axis=0)] = np.nan
        assert same_bits(tamis.weighted_sums(X, U), expected)
        X[10, 6] = np.inf
        with pytest.raises(
            ValueError, match="X: expected finite values, got inf in row 10, column 6"
        ):
            tamis.weighted_sums(X, U)


def test_no_weights_at_all() -> None:
    X = np.full((150, 3), np.nan)
    result = tamis.weighted_sums(X, np.array([[0.0], [-0.0]]) * np.ones(150))
    assert same_bits(result, np.zeros((2, 3)))


# ---- layouts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_layouts(dtype: Any) -> None:
    X, U = data(167, 9, 4, dtype)
    expected = tamis.weighted_sums(X, U)
    for name, view in layouts(X).items():
        assert same_bits(tamis.weighted_sums(view, U), expected), name
    for name, view in layouts(U).items():
        if name != "byte offset":
            assert same_bits(tamis.weighted_sums(X, view), expected), name
    assert same_bits(tamis.weighted_sums(X, U.tolist()), expected)


def test_a_column_does_not_depend_on_the_others() -> None:
    """Rows of more than 16 KB are read another way, with the same bits."""
    X, U = data(1100, 5000, 5, np.float32)
    assert X[0].nbytes > 2**14 > X[0, :60].nbytes
    few = tamis.weighted_sums(X[:, :60], U)
    for threads in (1, 2):
        assert same_bits(tamis.weighted_sums(X, U, num_threads=threads)[:, :60].copy(), few)


def test_nothing_is_modified() -> None:
    X, U = data(67, 9, 4, np.float32)
    before = X.tobytes(), U.tobytes()
    X.flags.writeable = U.flags.writeable = False
    tamis.weighted_sums(X, U)
    assert (X.tobytes(), U.tobytes()) == before


@pytest.mark.parametrize("dtype", DTYPES)
def test_torch(dtype: Any) -> None:
    torch = pytest.importorskip("torch")
    X, U = data(167, 9, 4, dtype)
    expected = tamis.weighted_sums(X, U)
    tX, tU = torch.from_numpy(X), torch.from_numpy(U)
    wider = torch.zeros(167, 20, dtype=tX.dtype)
    wider[:, 4:13] = tX
    for view in (tX, wider[:, 4:13], tX.t().contiguous().t()):
        result = tamis.weighted_sums(view, tU)
        assert isinstance(result, torch.Tensor)
        assert same_bits(result.numpy(), expected)
    assert same_bits(tamis.weighted_sums(tX, tU[0]).numpy(), tamis.weighted_sums(X, U[0]))
    with pytest.raises(ValueError, match=r"^X: expected a tensor outside autograd"):
        tamis.weighted_sums(tX.clone().requires_grad_(), tU)


# ---- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", UNFIT_ROWS)
def test_unfit_rows(case: str) -> None:
    X, error, message = UNFIT_ROWS[case]
    with pytest.raises(error, match=message):
        tamis.weighted_sums(X, np.zeros((2, 4)))


def test_no_rows() -> None:
    X, error, message = NO_ROWS
    with pytest.raises(error, match=message):
        tamis.weighted_sums(X, np.zeros((2, 0)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("value", "name"), NOT_FINITE)
def test_the_first_bad_row_is_named(dtype: Any, value: float, name: str) -> None:
    X = with_bad_values(dtype, value)
    for threads in (1, 8):
        with pytest.raises(ValueError, match=BAD_ROW.format(name)):
            tamis.weighted_sums(X, np.ones((2, 301)), num_threads=threads)


@pytest.mark.parametrize(("dtype", "size"), [(np.float32, 1e25), (np.float64, 1e200)])
def test_sums_that_overflow_are_refused(dtype: Any, size: float) -> None:
    X, U = data(33, 7, 3, dtype)
    with pytest.raises(ValueError, match=r"X: expected values whose weighted sums fit.*rescale"):
        tamis.weighted_sums(X * dtype(size), U * dtype(size))


@pytest.mark.parametrize(
    ("U", "message"),
    [
        (np.zeros(4), r"^U: expected shape \(5,\) or \(j, 5\) with 1 <= j <= 256, got \(4,\)"),
        (np.zeros((5, 2)), r"^U: expected shape .* got \(5, 2\)"),
        (np.zeros((0, 5)), r"^U: expected shape .* got \(0, 5\)"),
        (np.zeros((257, 5)), r"^U: expected shape .* got \(257, 5\)"),
        (np.zeros((1, 2, 5)), r"^U: expected shape .* got \(1, 2, 5\)"),
        (1.0, r"^U: expected shape .* got \(\)"),
        (np.array([1, 0, np.nan, 0, 0]), r"\bU: finite numbers, got nan in row 0, column 2"),
        (np.diag([1, 1, -np.inf, 1, 1]), r"\bU: finite numbers, got -inf in row 2, column 2"),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_unfit_weights(U: Any, message: str, dtype: Any) -> None:
    for X in (np.ones((5, 3), dtype), np.zeros((5, 3), dtype)):
        with pytest.raises(ValueError, match=message):
            tamis.weighted_sums(X, U)


def test_weights_beyond_float32() -> None:
    with (
        np.errstate(over="ignore"),
        pytest.raises(ValueError, match="U: finite numbers, got inf in row 0, column 1"),
    ):
        tamis.weighted_sums(np.ones((2, 3), np.float32), np.array([1.0, 1e200]))


@pytest.mark.parametrize("value", [np.full(3, 1j), np.array(["1", "x", "3"]), np.array([None] * 3)])
def test_weights_that_are_no_numbers(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        tamis.weighted_sums(np.ones((3, 3)), value)


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (1.5, TypeError), (True, TypeError)])
def test_thread_counts_out_of_contract(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^num_threads: "):
        tamis.weighted_sums(np.ones((5, 3)), np.ones(5), num_threads=value)


# ---- determinism -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [100, 3000, 20_011])
def test_the_number_of_threads_changes_nothing(n: int, dtype: Any) -> None:
    X, U = data(n, 33, 5, dtype)
    one = tamis.weighted_sums(X, U, num_threads=1)
    for threads in (2, 3, 8):
        assert same_bits(tamis.weighted_sums(X, U, num_threads=threads), one)


def test_every_instruction_set_gives_the_same_bits() -> None:
    script = """
        import hashlib, numpy as np, tamis
        digest = hashlib.sha256()
        for dtype in (np.float32, np.float64):
            for n, d, j in ((1, 1, 1), (129, 7, 3), (300, 33, 8), (67, 301, 13), (9000, 64, 4)):
                rng = np.random.default_rng([n, d])
                X, U = rng.normal(size=(n, d)).astype(dtype), rng.normal(size=(j, n))
                digest.update(tamis.weighted_sums(X, U).tobytes())
        print(tamis.info()["isa"], digest.hexdigest())
    """
    assert len(outputs_per_isa(script)) == 1
