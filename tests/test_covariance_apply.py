"""covariance_apply: values, layouts, refusals, determinism.

Oracle: tamis.reference.covariance_apply, the float64 twin, which is itself checked against
numpy.cov here. Tolerances are those of `tolerance`. Past the usual 400 lines by a few: one
operation.
"""

from __future__ import annotations

import itertools
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
from tamis import reference

ROWS = (1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 127, 128, 129, 1023)
COLUMNS = (1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 70, 300)
VECTORS = (1, 2, 3, 7, 8, 9, 13)
DTYPES = (np.float32, np.float64)
FLUSH = 128  # rows summed in the dtype of X; those sums are added in float64

Floats = NDArray[Any]


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch")


def data(
    n: int, d: int, k: int, dtype: Any, seed: int = 0
) -> tuple[Floats, Floats, Floats, Floats]:
    """X with unequal columns away from 0; V; weights, a fifth of them 0; a centre."""
    rng = np.random.default_rng([seed, n, d, k])
    X = rng.normal(size=(n, d)) * np.linspace(0.5, 3.0, d) + rng.normal(size=d)
    weights = rng.random(n) * (np.arange(n) % 5 != 3)
    arrays = X, rng.normal(size=(d, k)), weights, rng.normal(size=d)
    return tuple(a.astype(dtype) for a in arrays)  # type: ignore[return-value]


def wide(*arrays: Floats | None) -> list[Any]:
    return [None if a is None else a.astype(np.float64) for a in arrays]


def tolerance(
    X: Floats, V: Floats, weights: Floats | None = None, mean: Floats | None = None
) -> Floats:
    """The error that rounding explains, for every entry of the product.

    With u the rounding unit of X's dtype, a projection takes d + 2 roundings, its product with the
    weight one, the sum over FLUSH rows FLUSH, and the result one; sums of blocks are float64. Each
    is relative to a sum of absolute values, S. Rows are taken about a point near the centre, known
    to a relative u, at most a deviation away: (|x| + s)(|x'| + s) sums to at most 4 S. The twin
    finds its mean by sums of at most 1024 rows; what that misses by enters squared.
    """
    u = float(np.finfo(X.dtype).eps) / 2
    A, B, w, centre = wide(X, V, weights, mean)
    w = np.ones(len(A)) if w is None else w
    A = np.where(w[:, None] > 0, A, 0.0)
    centre = reference.weighted_mean(A, w) if centre is None else centre
    size = np.abs(A - centre) + 2 * u * np.abs(centre)
    block = np.abs(B.reshape(len(B), -1))
    total = size.T @ (w[:, None] * (size @ block)) / w.sum()
    missed = min(len(A) + 2, 1024) * 2.0**-53 * np.abs(A).max(axis=0)
    drift = np.outer(missed, missed @ block)
    return (4 * (X.shape[1] + FLUSH + 4) * u * total + 2 * drift).reshape(V.shape)


def check(X: Floats, V: Floats, **arguments: Any) -> Floats:
    """Compare one call with the twin; returns the result."""
    result = tamis.covariance_apply(X, V, **arguments)
    assert result.dtype == X.dtype
    assert result.shape == V.shape
    weights, mean = arguments.get("weights"), arguments.get("mean")
    A, B, w, centre = wide(X, V, weights, mean)
    if w is not None:
        A[w == 0] = 0.0  # what is not looked at may be anything
    expected = reference.covariance_apply(A, B, weights=w, mean=centre)
    assert np.all(np.abs(result - expected) <= tolerance(X, V, weights, mean))
    return result


# ---- values ------------------------------------------------------------------------------------


def test_the_twin_is_the_covariance() -> None:
    """Oracle: numpy.cov, whose aweights normalise alike."""
    X, V, weights, _ = data(301, 9, 4, np.float64)
    expected = np.cov(X.T, aweights=weights, bias=True) @ V
    result = reference.covariance_apply(X, V, weights=weights)
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", ROWS)
def test_sizes(n: int, dtype: Any) -> None:
    for (i, d), (weighted, centred) in itertools.product(
        enumerate(COLUMNS), itertools.product((False, True), repeat=2)
    ):
        k = VECTORS[(i + n) % len(VECTORS)]
        X, V, weights, mean = data(n, d, k, dtype)
        check(X, V, weights=weights if weighted else None, mean=mean if centred else None)


@pytest.mark.parametrize("dtype", DTYPES)
def test_many_blocks(dtype: Any) -> None:
    """More rows than fit one task of each of 64."""
    X, V, weights, mean = data(64 * FLUSH + 77, 9, 5, dtype)
    check(X, V)
    check(X, V, weights=weights, mean=mean)


def test_one_vector_has_the_shape_of_a_vector() -> None:
    X, V, _, _ = data(33, 7, 1, np.float64)
    assert same_bits(tamis.covariance_apply(X, V[:, 0]), tamis.covariance_apply(X, V)[:, 0].copy())


def test_most_columns_of_v() -> None:
    X, V, _, _ = data(17, 9, 256, np.float32)
    check(X, V)


@pytest.mark.parametrize("dtype", DTYPES)
def test_whole_weights_are_copies_of_rows(dtype: Any) -> None:
    X, V, _, _ = data(57, 8, 3, dtype)
    counts = np.arange(57) % 4
    many = np.repeat(X, counts, axis=0)
    difference = tamis.covariance_apply(X, V, weights=counts) - tamis.covariance_apply(many, V)
    assert np.all(np.abs(difference) <= 2 * tolerance(many, V))


def test_rows_of_weight_zero_are_not_looked_at() -> None:
    X, V, weights, mean = data(301, 7, 3, np.float64)
    expected = tamis.covariance_apply(X, V, weights=weights)
    X[weights == 0] = np.nan
    assert same_bits(tamis.covariance_apply(X, V, weights=weights), expected)
    check(X, V, weights=weights, mean=mean)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 33, 500])
def test_equal_rows_have_no_covariance(n: int, dtype: Any) -> None:
    """A single row as well: only the rounding of their mean is left, squared."""
    X, V, _, _ = data(1, 7, 3, dtype)
    X = np.repeat(X, n, axis=0)
    result = check(X, V)
    rounding = n * np.finfo(dtype).eps * np.abs(X[0].astype(np.float64))
    assert np.all(np.abs(result) <= np.outer(rounding, rounding @ np.abs(V)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_constant_columns_and_rank_one(dtype: Any) -> None:
    X, V, _, _ = data(257, 9, 3, dtype)
    X[:, 2] = 5.0
    assert np.all(check(X, V)[2] == 0.0)  # exact: 5 - 5
    line = np.outer(X[:, 0], np.arange(1, 10)).astype(dtype)
    result = check(line, V)
    smallest = np.linalg.svd(result.astype(np.float64), compute_uv=False)[1]
    assert smallest <= 3 * np.linalg.norm(tolerance(line, V))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_mean_far_away_costs_no_accuracy(dtype: Any) -> None:
    """Relative to 1e6 the float32 data keep 4 bits after the point: those are exact."""
    X, V, weights, _ = data(1023, 17, 3, dtype)
    check(X + dtype(1e6), V)
    check(X + dtype(1e6), V, weights=weights, mean=np.full(17, 1e6 + 1, dtype))


def test_tiny_numbers() -> None:
    X, V, weights, mean = data(129, 9, 3, np.float64)
    tiny = check(X * 1e-20, V)
    np.testing.assert_allclose(tiny, tamis.covariance_apply(X, V) * 1e-40, rtol=1e-10)
    check(X * 1e-20, V, weights=weights, mean=mean * 1e-20)


def test_tiny_and_huge_weights() -> None:
    X, V, weights, _ = data(129, 9, 3, np.float64)
    expected = tamis.covariance_apply(X, V, weights=weights)
    for factor in (2.0**-500, 2.0**500):  # a power of two: nothing is rounded
        assert same_bits(tamis.covariance_apply(X, V, weights=weights * factor), expected)


@pytest.mark.parametrize(("dtype", "size"), [(np.float32, 1e25), (np.float64, 1e200)])
def test_numbers_whose_squares_overflow_are_refused(dtype: Any, size: float) -> None:
    X, V, _, _ = data(33, 7, 3, dtype)
    with pytest.raises(ValueError, match=r"X: expected values whose squares.*rescale"):
        tamis.covariance_apply(X * dtype(size), V)


# ---- layouts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_layouts(dtype: Any) -> None:
    X, V, weights, mean = data(67, 9, 4, dtype)
    expected = tamis.covariance_apply(X, V, weights=weights, mean=mean)
    for name, view in layouts(X).items():
        result = tamis.covariance_apply(view, V, weights=weights, mean=mean)
        assert same_bits(result, expected), name
    other = tamis.covariance_apply(
        X,
        np.asfortranarray(V),
        weights=np.repeat(weights, 2)[::2],
        mean=mean[::-1].copy()[::-1],
    )
    assert same_bits(other, expected)


def test_rows_that_are_one_row() -> None:
    """A broadcast row has stride 0."""
    X = np.broadcast_to(np.arange(5.0), (40, 5))
    assert not tamis.covariance_apply(X, np.eye(5)).any()


def test_nothing_is_modified() -> None:
    arrays = data(67, 9, 4, np.float32)
    before = [a.tobytes() for a in arrays]
    for array in arrays:
        array.flags.writeable = False
    X, V, weights, mean = arrays
    tamis.covariance_apply(X, V, weights=weights, mean=mean)
    assert [a.tobytes() for a in arrays] == before


@pytest.mark.parametrize("dtype", DTYPES)
def test_torch(torch: Any, dtype: Any) -> None:
    arrays = data(67, 9, 4, dtype)
    X, V, weights, mean = arrays
    expected = tamis.covariance_apply(X, V, weights=weights, mean=mean)
    tX, tV, tweights, tmean = (torch.from_numpy(a) for a in arrays)
    result = tamis.covariance_apply(tX, tV, weights=tweights, mean=tmean)
    assert isinstance(result, torch.Tensor)
    assert same_bits(result.numpy(), expected)
    wider = torch.zeros(67, 20, dtype=tX.dtype)
    wider[:, 4:13] = tX
    for view in (wider[:, 4:13], tX.t().contiguous().t()):
        assert not view.is_contiguous()
        result = tamis.covariance_apply(view, tV, weights=tweights, mean=tmean)
        assert same_bits(result.numpy(), expected)
    vector = tamis.covariance_apply(tX, tV[:, 0], weights=tweights, mean=tmean)
    assert same_bits(vector.numpy(), expected[:, 0].copy())


def test_torch_refusals(torch: Any) -> None:
    X, V = torch.zeros(5, 3), torch.zeros(3, 2)
    for bad, error, message in (
        (X.int(), TypeError, "^X: expected dtype float32 or float64, got int32"),
        (X.bfloat16(), TypeError, "^X: expected dtype float32 or float64, got bfloat16"),
        (X.clone().requires_grad_(), ValueError, "^X: expected a tensor outside autograd"),
        (X.to_sparse(), ValueError, "^X: expected a dense tensor"),
        (X.to("meta"), ValueError, "^X: expected .*meta"),
        (X[0], ValueError, r"^X: expected shape \(n, d\), got \(3,\)"),
        (X[:0], ValueError, "^X: expected at least one row"),
    ):
        with pytest.raises(error, match=message):
            tamis.covariance_apply(bad, V)


# ---- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", UNFIT_ROWS)
def test_unfit_rows(case: str) -> None:
    X, error, message = UNFIT_ROWS[case]
    with pytest.raises(error, match=message):
        tamis.covariance_apply(X, np.zeros((3, 2)))


def test_no_rows() -> None:
    X, error, message = NO_ROWS
    with pytest.raises(error, match=message):
        tamis.covariance_apply(X, np.zeros((3, 2)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("value", "name"), NOT_FINITE)
def test_the_first_bad_row_is_named(dtype: Any, value: float, name: str) -> None:
    X = with_bad_values(dtype, value)
    for arguments in ({}, {"mean": np.zeros(7)}, {"weights": np.ones(301)}, {"num_threads": 8}):
        with pytest.raises(ValueError, match=BAD_ROW.format(name)):
            tamis.covariance_apply(X, np.zeros((7, 2)), **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("V", np.zeros((4, 2)), r"^V: expected shape \(3,\) or \(3, k\)"),
        ("V", np.zeros((3, 0)), r"^V: expected shape .* got \(3, 0\)"),
        ("V", np.zeros((3, 257)), r"^V: expected shape .* got \(3, 257\)"),
        ("V", np.zeros((3, 2, 1)), r"^V: expected shape .* got \(3, 2, 1\)"),
        ("V", np.zeros((2, 3)), r"^V: expected shape .* got \(2, 3\)"),
        ("V", 1.0, r"^V: expected shape .* got \(\)"),
        ("V", np.full((3, 2), np.nan), r"\bv: finite|\bV: "),
        ("V", np.full(3, np.inf), r"\bv: finite|\bV: "),
        ("mean", np.zeros(4), r"^mean: expected shape \(3,\), got \(4,\)"),
        ("mean", np.zeros((1, 3)), r"^mean: expected shape \(3,\), got \(1, 3\)"),
        ("mean", 0.0, r"^mean: expected shape"),
        ("mean", np.array([0, np.nan, 0]), r"\bmean: "),
        ("mean", np.array([0, 0, -np.inf]), r"\bmean: "),
        ("weights", np.ones(4), r"^weights: expected shape \(5,\), got \(4,\)"),
        ("weights", np.ones((5, 1)), r"^weights: expected shape \(5,\), got \(5, 1\)"),
        ("weights", 1.0, r"^weights: expected shape"),
        ("weights", np.array([1, 1, -1, 1, 1]), r"\bweights: .*-1 at index 2"),
        ("weights", np.array([1, 1, np.nan, 1, 1]), r"\bweights: .*nan at index 2"),
        ("weights", np.array([1, 1, 1, 1, np.inf]), r"\bweights: .*inf at index 4"),
        ("weights", np.zeros(5), r"\bweights .*not all zero|\bweights: .*not all zero"),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_unfit_arguments(name: str, value: Any, message: str, dtype: Any) -> None:
    arguments: dict[str, Any] = {"V": np.ones((3, 2), dtype), name: value}
    with pytest.raises(ValueError, match=message):
        tamis.covariance_apply(np.ones((5, 3), dtype), **arguments)


@pytest.mark.parametrize("name", ["V", "weights", "mean"])
@pytest.mark.parametrize("value", [np.full(3, 1j), np.array(["1", "x", "3"]), np.array([None] * 3)])
def test_arguments_that_are_no_numbers(name: str, value: Any) -> None:
    arguments: dict[str, Any] = {"V": np.ones((3, 2)), name: value}
    with pytest.raises((TypeError, ValueError)):
        tamis.covariance_apply(np.ones((3, 3)), **arguments)


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (1.5, TypeError), (True, TypeError)])
def test_thread_counts_out_of_contract(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^num_threads: "):
        tamis.covariance_apply(np.ones((5, 3)), np.ones(3), num_threads=value)


def test_options_must_be_given_by_name() -> None:
    call: Any = tamis.covariance_apply
    with pytest.raises(TypeError, match="positional"):
        call(np.ones((5, 3)), np.ones(3), np.ones(5))


# ---- determinism -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_number_of_threads_changes_nothing(dtype: Any) -> None:
    X, V, weights, mean = data(20_011, 33, 5, dtype)
    arguments: Any
    for arguments in ({}, {"weights": weights}, {"mean": mean}):
        one = tamis.covariance_apply(X, V, num_threads=1, **arguments)
        for threads in (2, 8):
            many = tamis.covariance_apply(X, V, num_threads=threads, **arguments)
            assert same_bits(many, one)


def test_large_tables_are_read_another_way_with_the_same_bits() -> None:
    """Beyond 32 MB few short columns are projected row by row; many columns are not."""
    X, V, weights, _ = data(90_001, 100, 12, np.float32)
    assert X.nbytes > 2**25
    together = tamis.covariance_apply(X, V, weights=weights)
    for k in (1, 2, 3, 8):
        for threads in (1, 2):
            alone = tamis.covariance_apply(X, V[:, :k], weights=weights, num_threads=threads)
            assert same_bits(alone, together[:, :k])


def test_every_instruction_set_gives_the_same_bits() -> None:
    script = """
        import hashlib, numpy as np, tamis
        digest = hashlib.sha256()
        for dtype in (np.float32, np.float64):
            for n, d, k in ((1, 1, 1), (129, 7, 3), (300, 33, 8), (67, 301, 13), (5000, 64, 4)):
                rng = np.random.default_rng([n, d])
                X, V = rng.normal(size=(n, d)).astype(dtype), rng.normal(size=(d, k))
                weights = rng.random(n)
                for arguments in ({}, {"weights": weights}, {"mean": X[0]}):
                    digest.update(tamis.covariance_apply(X, V, **arguments).tobytes())
        print(tamis.info()["isa"], digest.hexdigest())
    """
    assert len(outputs_per_isa(script)) == 1


def test_calls_from_many_threads_and_a_forked_child() -> None:
    X, V, _, _ = data(5_000, 33, 3, np.float32)
    expected = tamis.covariance_apply(X, V, num_threads=1)
    with ThreadPoolExecutor(8) as executor:
        results = executor.map(lambda _: tamis.covariance_apply(X, V, num_threads=2), range(32))
        assert all(same_bits(result, expected) for result in results)
    child = os.fork()
    if child == 0:
        os._exit(0 if same_bits(tamis.covariance_apply(X, V, num_threads=2), expected) else 3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
