"""projection_scores: values, layouts, the output, refusals, determinism.

Oracle: tamis.reference.projection_scores, the float64 twin. Tolerances are those of `tolerance`.
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
    NOT_FINITE,
    UNFIT_ROWS,
    layouts,
    outputs_per_isa,
    same_bits,
    with_bad_values,
)
from tamis import reference

ROWS = (1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 127, 128, 129, 1023)
COLUMNS = (1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 70, 300)
VECTORS = (1, 2, 3, 7, 8, 9, 13)
DTYPES = (np.float32, np.float64)
FLUSH = 128  # rows summed in the dtype of X where the mean is found

Floats = NDArray[Any]


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch")


def data(n: int, d: int, k: int, dtype: Any) -> tuple[Floats, Floats, Floats]:
    """X with unequal columns away from 0; V; a centre."""
    rng = np.random.default_rng([n, d, k])
    X = rng.normal(size=(n, d)) * np.linspace(0.5, 3.0, d) + rng.normal(size=d)
    return X.astype(dtype), rng.normal(size=(d, k)).astype(dtype), rng.normal(size=d).astype(dtype)


def tolerance(X: Floats, V: Floats, mean: Floats | None = None) -> Floats:
    """The error that rounding explains, for every row.

    With u the rounding unit of X's dtype, a projection takes d + 4 roundings relative to
    ``|x - mu| . |v|``, its square and the sum over k columns k + 2. A mean that is not given is
    found from sums over FLUSH rows of differences to the first, at most twice the largest from the
    mean; what it misses by is projected as well.
    """
    u = float(np.finfo(X.dtype).eps) / 2
    A, B = X.astype(np.float64), np.abs(V.astype(np.float64).reshape(len(V), -1))
    centre = A.mean(axis=0) if mean is None else mean.astype(np.float64)
    size = np.abs(A - centre)
    missed = np.zeros(X.shape[1])
    if mean is None:
        missed = 2 * (FLUSH + 2) * u * size.max(axis=0) + 2.0**-50 * np.abs(A).max(axis=0)
    z = np.abs((A - centre) @ V.astype(np.float64).reshape(len(V), -1))
    dz = (X.shape[1] + 4) * u * (size @ B) + missed @ B
    bound: Floats = (2 * z * dz + dz**2).sum(axis=1) + (B.shape[1] + 2) * u * (z**2).sum(axis=1)
    return bound


def check(X: Floats, V: Floats, mean: Floats | None = None) -> Floats:
    """Compare one call with the twin; returns the result."""
    result = tamis.projection_scores(X, V, mean=mean)
    assert result.dtype == X.dtype
    assert result.shape == X.shape[:1]
    centre = None if mean is None else mean.astype(np.float64)
    expected = reference.projection_scores(X.astype(np.float64), V.astype(np.float64), mean=centre)
    assert np.all(np.abs(result - expected) <= tolerance(X, V, mean))
    return result  # type: ignore[no-any-return]


# ---- values ------------------------------------------------------------------------------------


def test_a_case_by_hand() -> None:
    X = np.array([[0.0, 3.0], [2.0, 3.0], [4.0, 9.0]])
    V = np.array([[1.0, 0.0], [0.0, 2.0]])
    assert tamis.projection_scores(X, V).tolist() == [4 + 16, 0 + 16, 4 + 64]
    assert tamis.projection_scores(X, V[:, 1], mean=[0.0, 3.0]).tolist() == [0, 0, 144]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", ROWS)
def test_sizes(n: int, dtype: Any) -> None:
    for i, d in enumerate(COLUMNS):
        X, V, mean = data(n, d, VECTORS[(i + n) % len(VECTORS)], dtype)
        check(X, V)
        check(X, V, mean)


def test_no_rows() -> None:
    for dtype in DTYPES:
        for mean in (None, np.zeros(3)):
            result = tamis.projection_scores(np.zeros((0, 3), dtype), np.ones((3, 2)), mean=mean)
            assert same_bits(result, np.zeros(0, dtype))
    out = np.zeros(0)
    assert tamis.projection_scores(np.zeros((0, 3)), np.ones(3), out=out) is out


def test_most_columns_of_v() -> None:
    X, V, _ = data(17, 9, 256, np.float32)
    check(X, V)


def test_one_vector_is_a_column() -> None:
    X, V, _ = data(33, 7, 1, np.float32)
    assert same_bits(tamis.projection_scores(X, V[:, 0]), tamis.projection_scores(X, V))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_score_does_not_depend_on_the_other_rows(dtype: Any) -> None:
    """The header promises the bits for any grouping of rows, once the centre is given."""
    X, V, mean = data(301, 33, 5, dtype)
    expected = tamis.projection_scores(X, V, mean=mean)
    parts = [X[:1], X[1:8], X[8:137], X[137:]]
    result = np.concatenate([tamis.projection_scores(part, V, mean=mean) for part in parts])
    assert same_bits(result, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_equal_rows_and_constant_columns(dtype: Any) -> None:
    X, V, _ = data(129, 9, 3, dtype)
    assert not tamis.projection_scores(X, V, mean=X[0])[0]
    X[:, 4] = 3.0
    only_it = np.zeros((9, 1), dtype)
    only_it[4] = 1.0
    assert not tamis.projection_scores(X, only_it).any()
    check(np.repeat(X[:1], 33, axis=0), V)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_mean_far_away_costs_no_accuracy(dtype: Any) -> None:
    X, V, _ = data(301, 17, 3, dtype)
    far = X + dtype(1e6)
    check(far, V)
    check(far, V, np.full(17, 1e6, dtype))


def test_a_mean_between_two_float32_numbers_counts_in_full() -> None:
    """Oracle: the twin; 0.03 is half a unit in the last place of the data."""
    X = np.full((33, 5), 1e6, np.float32)
    mean, V = np.full(5, 1e6 + 0.03), np.eye(5)
    scores = tamis.projection_scores(X, V, mean=mean)
    np.testing.assert_allclose(scores, 5 * 0.03**2, rtol=1e-5)


def test_tiny_numbers() -> None:
    X, V, mean = data(33, 9, 3, np.float64)
    check(X * 1e-20, V)
    check(X * 1e-20, V, mean * 1e-20)


@pytest.mark.parametrize(("dtype", "size"), [(np.float32, 1e25), (np.float64, 1e200)])
def test_numbers_whose_squares_overflow_are_refused(dtype: Any, size: float) -> None:
    X, V, mean = data(33, 7, 3, dtype)
    X[20] *= dtype(size)
    with pytest.raises(ValueError, match=r"X: expected values whose squares.*rescale"):
        tamis.projection_scores(X, V, mean=mean)


# ---- layouts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_layouts(dtype: Any) -> None:
    X, V, mean = data(67, 9, 4, dtype)
    expected = tamis.projection_scores(X, V, mean=mean)
    for name, view in layouts(X).items():
        assert same_bits(tamis.projection_scores(view, V, mean=mean), expected), name
    reversed_mean = mean[::-1].copy()[::-1]
    other = tamis.projection_scores(X, np.asfortranarray(V), mean=reversed_mean)
    assert same_bits(other, expected)


def test_nothing_is_modified() -> None:
    arrays = data(67, 9, 4, np.float32)
    before = [a.tobytes() for a in arrays]
    for array in arrays:
        array.flags.writeable = False
    X, V, mean = arrays
    tamis.projection_scores(X, V, mean=mean)
    tamis.projection_scores(X, V)
    assert [a.tobytes() for a in arrays] == before


@pytest.mark.parametrize("dtype", DTYPES)
def test_torch(torch: Any, dtype: Any) -> None:
    X, V, mean = data(67, 9, 4, dtype)
    expected = tamis.projection_scores(X, V, mean=mean)
    tX, tV, tmean = (torch.from_numpy(a) for a in (X, V, mean))
    out = torch.empty(67, dtype=tX.dtype)
    for view in (tX, tX.t().contiguous().t(), torch.nn.functional.pad(tX, (3, 2))[:, 3:12]):
        result = tamis.projection_scores(view, tV, mean=tmean)
        assert isinstance(result, torch.Tensor)
        assert same_bits(result.numpy(), expected)
        assert tamis.projection_scores(view, tV, mean=tmean, out=out) is out
        assert same_bits(out.numpy(), expected)
    with pytest.raises(TypeError, match=r"^out: expected the array library of the input"):
        tamis.projection_scores(tX, tV, out=np.empty(67, dtype))
    with pytest.raises(TypeError, match=r"^out: expected the array library of the input"):
        tamis.projection_scores(X, V, out=out)
    with pytest.raises(ValueError, match=r"^X: expected a tensor outside autograd"):
        tamis.projection_scores(tX.clone().requires_grad_(), tV)


# ---- out ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_out_is_filled_and_returned(dtype: Any) -> None:
    X, V, _ = data(33, 7, 3, dtype)
    buffer = np.full(40, -7.0, dtype)
    assert tamis.projection_scores(X, V, out=buffer[3:36]).base is buffer
    assert same_bits(buffer[3:36].copy(), tamis.projection_scores(X, V))
    assert np.all(buffer[[0, 1, 2, 36, 37, 38, 39]] == -7.0)


def test_unfit_out_is_refused() -> None:
    X, V, _ = data(5, 3, 2, np.float64)
    locked = np.zeros(5)
    locked.flags.writeable = False
    for out, error, message in (
        ([0.0] * 5, TypeError, r"^out: expected a NumPy array"),
        (np.zeros(5, np.float32), TypeError, r"^out: expected dtype float64, got float32"),
        (np.zeros(5, int), TypeError, r"^out: expected dtype float64, got int64"),
        (np.zeros(4), ValueError, r"^out: expected shape \(5,\), got \(4,\)"),
        (np.zeros((5, 1)), ValueError, r"^out: expected shape \(5,\), got \(5, 1\)"),
        (np.zeros(10)[::2], ValueError, r"^out: "),
        (np.zeros(5)[::-1], ValueError, r"^out: "),
        (np.broadcast_to(np.zeros(1), (5,)), ValueError, r"^out: "),
        (locked, ValueError, r"^out: expected a writable array"),
    ):
        with pytest.raises(error, match=message):
            tamis.projection_scores(X, V, out=out)
    assert not locked.any()


def test_out_that_overlaps_x_is_refused(torch: Any) -> None:
    memory = np.arange(40.0)
    before = memory.tobytes()
    V = np.ones((3, 2))
    rows = memory[8:23].reshape(5, 3)
    columns = memory[8:23].reshape(3, 5).T  # is copied first: X would change all the same
    for X in (rows, columns):
        for start in (4, 8, 12, 18, 22):
            with pytest.raises(ValueError, match="overlapping memory"):
                tamis.projection_scores(X, V, out=memory[start : start + 5])
    tensor = torch.from_numpy(memory)
    with pytest.raises(ValueError, match="overlapping memory"):
        tamis.projection_scores(tensor[8:23].view(5, 3), torch.ones(3, 2), out=tensor[20:25])
    assert memory.tobytes() == before
    tamis.projection_scores(rows, V, out=memory[23:28])  # side by side is not overlap
    tamis.projection_scores(rows, V, out=memory[3:8])
    assert memory[8:23].tobytes() == np.arange(8.0, 23.0).tobytes()


# ---- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", UNFIT_ROWS)
def test_unfit_rows(case: str) -> None:
    X, error, message = UNFIT_ROWS[case]
    with pytest.raises(error, match=message):
        tamis.projection_scores(X, np.zeros((3, 2)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("value", "name"), NOT_FINITE)
def test_the_first_bad_row_is_named(dtype: Any, value: float, name: str) -> None:
    """Also where V does not look at its column."""
    X = with_bad_values(dtype, value)
    for mean in (None, np.zeros(7)):
        for threads in (1, 8):
            with pytest.raises(ValueError, match=BAD_ROW.format(name)):
                tamis.projection_scores(X, np.eye(7)[:, :2], mean=mean, num_threads=threads)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("V", np.zeros((4, 2)), r"^V: expected shape \(3,\) or \(3, k\)"),
        ("V", np.zeros((3, 0)), r"^V: expected shape .* got \(3, 0\)"),
        ("V", np.zeros((3, 257)), r"^V: expected shape .* got \(3, 257\)"),
        ("V", np.zeros((1, 3, 2)), r"^V: expected shape .* got \(1, 3, 2\)"),
        ("V", np.full((3, 2), np.nan), r"\bv: finite|\bV: "),
        ("mean", np.zeros(4), r"^mean: expected shape \(3,\), got \(4,\)"),
        ("mean", np.zeros((3, 1)), r"^mean: expected shape \(3,\), got \(3, 1\)"),
        ("mean", np.array([0, np.nan, 0]), r"\bmean: "),
        ("mean", np.array([0, 0, np.inf]), r"\bmean: "),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_unfit_arguments(name: str, value: Any, message: str, dtype: Any) -> None:
    arguments: dict[str, Any] = {"V": np.ones((3, 2), dtype), name: value}
    with pytest.raises(ValueError, match=message):
        tamis.projection_scores(np.ones((5, 3), dtype), **arguments)


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (1.5, TypeError), (True, TypeError)])
def test_thread_counts_out_of_contract(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^num_threads: "):
        tamis.projection_scores(np.ones((5, 3)), np.ones(3), num_threads=value)


# ---- determinism -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_number_of_threads_changes_nothing(dtype: Any) -> None:
    X, V, mean = data(20_011, 33, 5, dtype)
    for centre in (None, mean):
        one = tamis.projection_scores(X, V, mean=centre, num_threads=1)
        for threads in (2, 8):
            many = tamis.projection_scores(X, V, mean=centre, num_threads=threads)
            assert same_bits(many, one)


def test_every_instruction_set_gives_the_same_bits() -> None:
    script = """
        import hashlib, numpy as np, tamis
        digest = hashlib.sha256()
        for dtype in (np.float32, np.float64):
            for n, d, k in ((1, 1, 1), (129, 7, 3), (300, 33, 8), (67, 301, 13), (5000, 64, 4)):
                rng = np.random.default_rng([n, d])
                X, V = rng.normal(size=(n, d)).astype(dtype), rng.normal(size=(d, k))
                digest.update(tamis.projection_scores(X, V).tobytes())
                digest.update(tamis.projection_scores(X, V, mean=V[:, 0]).tobytes())
        print(tamis.info()["isa"], digest.hexdigest())
    """
    assert len(outputs_per_isa(script)) == 1


def test_calls_from_many_threads_and_a_forked_child() -> None:
    X, V, _ = data(5_000, 33, 3, np.float32)
    expected = tamis.projection_scores(X, V, num_threads=1)
    with ThreadPoolExecutor(8) as executor:
        results = executor.map(lambda _: tamis.projection_scores(X, V, num_threads=2), range(32))
        assert all(same_bits(result, expected) for result in results)
    child = os.fork()
    if child == 0:
        os._exit(0 if same_bits(tamis.projection_scores(X, V, num_threads=2), expected) else 3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
