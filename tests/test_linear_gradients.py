"""linear_gradients: values, layouts, refusals, determinism.

Oracle: tamis.reference.linear_gradients, the float64 twin, itself checked against the matrix of
gradients. Tolerances are those of `tolerances`. Past the usual 400 lines by a few: one operation.
"""

from __future__ import annotations

import math
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
COLUMNS = (1, 7, 9, 33, 130)
VECTORS = (1, 4, 8, 9)
DTYPES = (np.float32, np.float64)
FLUSH = 128  # rows summed in the dtype of X; those sums are added in float64
KINDS = [
    {"epsilon": epsilon, "weighted": weighted, "center": center}
    for epsilon, weighted, center in (
        (math.inf, False, None), (0.5, True, None), (0.5, False, "mask"), (math.inf, True, "real"),
    )
]  # fmt: skip

Floats = NDArray[Any]


def data(
    n: int, d: int, k: int, dtype: Any, *, far: float = 0.0, seed: int = 0, **kind: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of a call: rows with unequal columns, about ``far``; a model that fits them."""
    rng = np.random.default_rng([seed, n, d, k])
    X = (rng.normal(size=(n, d)) * np.linspace(0.5, 2.0, d) + rng.normal(size=d) + far).astype(
        dtype
    )
    coef = rng.normal(size=d) / math.sqrt(d)
    intercept = 0.25 - far * float(coef.sum())
    y = X @ coef + intercept + rng.normal(size=n)
    given: dict[str, Any] = {"epsilon": kind.get("epsilon", math.inf)}
    if kind.get("weighted"):
        given["weights"] = rng.normal(size=n)
    if kind.get("center") == "mask":
        given["center_weights"] = (np.arange(n) % 4 != 1).astype(np.float64)
    elif kind.get("center") == "real":
        given["center_weights"] = rng.random(n)
    return (X, y, coef, intercept, rng.normal(size=(d, k))), given


def expected(arguments: tuple[Any, ...], given: dict[str, Any]) -> reference.RegressionSums:
    return reference.linear_gradients(arguments[0].astype(np.float64), *arguments[1:], **given)


def tolerances(
    arguments: tuple[Any, ...], given: dict[str, Any], flush: int = FLUSH
) -> reference.RegressionSums:
    """The errors that rounding explains.

    With u the rounding unit of X's dtype: rows are projected and summed about a point among them,
    at most their ``reach`` away. A projection takes fewer than d roundings, a sum ``flush``, each
    relative to a sum of absolute values; models and directions are rounded, too. Numbers about 0
    are multiplied in float64 by the twin and, for one point, by the operation; the twin adds n of
    them for its centre. No result has more than four sums in it.
    """
    X, y, coef, intercept, V = arguments
    n, d = X.shape
    unit = float(np.finfo(X.dtype).eps) / 2
    X = X.astype(np.float64)
    tiny = 2 * (n + d) * 2.0**-53
    reach, largest = np.ptp(X, axis=0), np.abs(X).max(axis=0)
    wide = np.abs(coef) @ largest + abs(intercept) + np.abs(y).max()
    off = (d + 4) * unit * (np.abs(coef) @ reach) + tiny * wide  # of a residual
    weights = np.abs(given.get("weights", np.ones(n)))
    share = given.get("center_weights")
    share = np.ones(n) if share is None else share
    a = np.abs(expected(arguments, given).coefficients)
    off = off * weights + 4 * unit * a
    steps = (flush + d + 8) * unit + tiny
    moved = 4 * (steps * reach + tiny * largest)  # of the centre, and what a row's distance misses
    reach = reach + moved
    once, twice = a + off, (a + off) ** 2
    along, along_moved = reach @ np.abs(V), moved @ np.abs(V)
    by_square = float((2 * once * off).sum())
    return reference.RegressionSums(
        off,
        moved,
        4 * (share @ once * moved + share @ off * reach) / share.sum(),
        4 * (once.sum() * moved + off.sum() * reach),
        4 * (twice.sum() * moved + by_square * reach),
        4
        * (
            twice.sum() * (np.multiply.outer(moved, along) + np.multiply.outer(reach, along_moved))
            + by_square * np.multiply.outer(reach, along)
        ),
    )


def sizes(
    arguments: tuple[Any, ...], given: dict[str, Any], exact: reference.RegressionSums
) -> reference.RegressionSums:
    """The largest of each result's numbers, were all terms positive."""
    X, V, n = arguments[0].astype(np.float64), arguments[4], len(arguments[0])
    share = given.get("center_weights")
    share = np.ones(n) if share is None else share
    a, rows = np.abs(exact.coefficients), np.abs(X - exact.center)
    projections = np.abs(given.get("weights", np.ones(n))) * (rows @ np.abs(arguments[2]))
    terms = projections, rows, share / share.sum() @ (a[:, None] * rows), a @ rows, a**2 @ rows
    product = rows.T @ (a[:, None] ** 2 * np.abs((X - exact.center) @ V))
    return reference.RegressionSums(*(part.max(initial=0.0) for part in (*terms, product)))


def agree(found: Any, arguments: tuple[Any, ...], given: dict[str, Any], **how: Any) -> None:
    """Compare one result with the twin's.

    Of many rows by another measure as well: roundings of either sign mostly cancel, and what is
    left is far below `tolerances`: 32 roundings of X's dtype, and 128 of float64 for numbers
    about 0. At most a third of that was seen.
    """
    exact, allowed = expected(arguments, given), tolerances(arguments, given, **how)
    X = arguments[0]
    far = float(np.abs(X).max()) / float(np.ptp(X, axis=0).min(initial=np.inf) or 1.0)
    usual = 16 * float(np.finfo(X.dtype).eps) + 64 * 2.0**-52 * far
    for name in exact._fields:
        result, wanted = getattr(found, name), getattr(exact, name)
        assert result.dtype == np.float64
        assert result.shape == wanted.shape
        error = np.abs(result - wanted)
        assert (error <= getattr(allowed, name)).all(), (name, float(error.max()))
        if len(X) > 100:
            size = getattr(sizes(arguments, given, exact), name)
            assert error.max() <= usual * size, (name, float(error.max() / size), usual)


def bits(found: Any) -> bytes:
    return b"".join(field.tobytes() for field in found)


# ---- values ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_twin_is_the_matrix_of_gradients(kind: dict[str, Any]) -> None:
    (X, y, coef, intercept, V), given = data(1500, 5, 3, np.float64, **kind)
    residual = X @ coef + intercept - y
    bound = given["epsilon"]
    a = np.where(np.abs(residual) <= bound, residual, np.sign(residual) * bound)
    a = a * given.get("weights", 1.0)
    share = given.get("center_weights", np.ones(1500))
    G = a[:, None] * (X - np.average(X, axis=0, weights=share))
    twin = reference.linear_gradients(X, y, coef, intercept, V, **given)
    for result, wanted in (
        (twin.coefficients, a),
        (twin.mean, np.average(G, axis=0, weights=share)),
        (twin.total, G.sum(axis=0)),
        (twin.squares, a @ G),
        (twin.product, G.T @ G @ V),
    ):
        np.testing.assert_allclose(result, wanted, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", ROWS)
def test_sizes(n: int, dtype: Any) -> None:
    way = n
    for d in COLUMNS:
        for k in VECTORS:
            way += 1
            if way % 2:  # half of them: every size still meets every kind
                arguments, given = data(n, d, k, dtype, **KINDS[way // 2 % 4])
                agree(tamis.linear_gradients(*arguments, **given), arguments, given)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_kinds(kind: dict[str, Any], dtype: Any) -> None:
    arguments, given = data(700, 33, 4, dtype, **kind)
    found = tamis.linear_gradients(*arguments, **given)
    agree(found, arguments, given)
    if kind["epsilon"] == 0.5 and not kind["weighted"]:
        assert (np.abs(found.coefficients) == 0.5).mean() > 0.3  # both sides of Huber's loss
        assert (np.abs(found.coefficients) < 0.5).mean() > 0.3


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("n", "d", "k"), [(64 * FLUSH + 77, 9, 5), (3, 65536, 1), (17, 9, 251), (1, 1, 1)]
)
def test_many_blocks_columns_and_vectors(n: int, d: int, k: int, dtype: Any) -> None:
    arguments, given = data(n, d, k, dtype, **KINDS[3])
    agree(tamis.linear_gradients(*arguments, **given, num_threads=2), arguments, given)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_rows_far_from_zero_cost_no_accuracy(kind: dict[str, Any], dtype: Any) -> None:
    """Spread 1 about 10^6: what `agree` allows grows with the distance as float64 rounds."""
    arguments, given = data(900, 20, 4, dtype, far=1e6, **kind)
    agree(tamis.linear_gradients(*arguments, **given), arguments, given)


def test_one_direction_has_the_shape_of_a_row() -> None:
    (X, y, coef, b, V), given = data(300, 7, 1, np.float64)
    found = tamis.linear_gradients(X, y, coef, b, V[:, 0], **given)
    assert same_bits(found.product, tamis.linear_gradients(X, y, coef, b, V, **given).product[:, 0])


def test_whole_numbers_are_summed_exactly() -> None:
    """Rows that come with their negatives have the mean 0."""
    rng = np.random.default_rng(0)
    X = rng.integers(-9, 10, size=(8, 4)).astype(np.float64)
    X = np.concatenate([X, -X])
    y, coef, V = (rng.integers(-9, 10, size=s).astype(float) for s in (16, 4, (4, 2)))
    found = tamis.linear_gradients(X, y, coef, 1.0, V)
    a = X @ coef + 1.0 - y
    assert (found.coefficients == a).all()
    assert (found.center == 0.0).all()
    assert (found.total == a @ X).all()
    assert (found.mean == a @ X / 16).all()
    assert (found.squares == a**2 @ X).all()
    assert (found.product == (X.T * a**2) @ X @ V).all()


# ---- layouts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_layouts(dtype: Any) -> None:
    (X, y, coef, b, V), given = data(167, 9, 4, dtype, **KINDS[3])
    wanted = bits(tamis.linear_gradients(X, y, coef, b, V, **given))
    for name, view in layouts(X).items():
        assert bits(tamis.linear_gradients(view, y, coef, b, V, **given)) == wanted, name
    for name, view in layouts(V).items():
        if name != "byte offset":
            assert bits(tamis.linear_gradients(X, y, coef, b, view, **given)) == wanted, name
    lists = {key: getattr(value, "tolist", lambda v=value: v)() for key, value in given.items()}
    found = tamis.linear_gradients(X, y.tolist(), coef.tolist(), b, V.tolist(), **lists)
    assert bits(found) == wanted
    strided = np.repeat(y, 3)[::3], np.repeat(coef, 2)[::2]
    assert bits(tamis.linear_gradients(X, *strided, b, V, **given)) == wanted


def test_nothing_is_modified() -> None:
    arguments, given = data(67, 9, 4, np.float32, **KINDS[3])
    arrays = [a for a in (*arguments, *given.values()) if isinstance(a, np.ndarray)]
    assert len(arrays) == 6
    before = [a.tobytes() for a in arrays]
    for a in arrays:
        a.flags.writeable = False
    tamis.linear_gradients(*arguments, **given)
    assert [a.tobytes() for a in arrays] == before


@pytest.mark.parametrize("dtype", DTYPES)
def test_torch(dtype: Any) -> None:
    torch = pytest.importorskip("torch")
    (X, y, coef, b, V), given = data(167, 9, 4, dtype, **KINDS[3])
    wanted = bits(tamis.linear_gradients(X, y, coef, b, V, **given))
    tX = torch.from_numpy(X)
    tensors = [torch.from_numpy(a) for a in (y, coef, V)]
    for rows in (tX, tX.t().contiguous().t()):
        found = tamis.linear_gradients(rows, tensors[0], tensors[1], b, tensors[2], **given)
        assert all(isinstance(field, torch.Tensor) for field in found)
        assert bits([field.numpy() for field in found]) == wanted
    with pytest.raises(ValueError, match=r"^X: expected a tensor outside autograd"):
        tamis.linear_gradients(tX.clone().requires_grad_(), y, coef, b, V)


# ---- refusals ----------------------------------------------------------------------------------


def plain(X: Any, **arguments: Any) -> Any:
    """A call with nothing special but the rows and what is given."""
    n, d = np.shape(X) if np.ndim(X) == 2 else (4, 3)
    given: dict[str, Any] = {
        "y": np.zeros(n), "coef": np.ones(d), "intercept": 0.0, "V": np.ones((d, 2))
    }  # fmt: skip
    return tamis.linear_gradients(X, **{**given, **arguments})


@pytest.mark.parametrize("case", UNFIT_ROWS)
def test_unfit_rows(case: str) -> None:
    X, error, message = UNFIT_ROWS[case]
    with pytest.raises(error, match=message):
        plain(X)


def test_no_rows() -> None:
    X, error, message = NO_ROWS
    with pytest.raises(error, match=message):
        plain(X)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("value", "name"), NOT_FINITE)
def test_the_first_bad_row_is_named(dtype: Any, value: float, name: str) -> None:
    X = with_bad_values(dtype, value)
    for threads in (1, 8):
        for epsilon in (0.5, math.inf):
            with pytest.raises(ValueError, match=BAD_ROW.format(name)):
                plain(X, num_threads=threads, epsilon=epsilon, y=np.full(301, np.nan))


BAD_ARGUMENTS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"y": np.array([0, 0, 0, np.nan, np.inf])}, ValueError, "y, weights: .*, got nan in row 3"),
    ({"y": np.array([0, 0, -np.inf, 0, 0])}, ValueError, "y, weights: .*, got nan in row 2"),
    ({"y": np.array([0, 0, np.inf, 0, 0]), "epsilon": 1.0}, ValueError, "got nan in row 2"),
    ({"weights": np.array([1, 1, 1, 1, np.nan])}, ValueError, "y, weights: .* nan in row 4"),
    ({"weights": np.array([1, -np.inf, 1, 1, 1]), "epsilon": 1.0}, ValueError, "-inf in row 1"),
    ({"coef": np.array([1, np.nan, 1])}, ValueError, "coef: finite numbers, got nan at index 1"),
    ({"V": np.array([1, 1, -np.inf])}, ValueError, r"v: finite numbers, got -inf at index 2"),
    ({"intercept": math.nan}, ValueError, "intercept: a finite number, got nan"),
    ({"intercept": "1"}, TypeError, "^intercept: expected a number"),
    ({"epsilon": 0.0}, ValueError, r"^epsilon: expected a number > 0, got 0\.0"),
    ({"epsilon": math.nan}, ValueError, r"^epsilon: expected a number > 0, got nan"),
    ({"epsilon": None}, TypeError, "^epsilon: expected a number"),
    ({"center_weights": np.array([1, 1, -1, 1, 1])}, ValueError,
     "center_weights: finite numbers >= 0, got -1 at index 2"),
    ({"center_weights": np.array([1, 1, 1, 1, np.inf])}, ValueError,
     "center_weights: finite numbers >= 0, got inf at index 4"),
    ({"center_weights": np.zeros(5)}, ValueError, "center_weights that are not all zero"),
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("given", "error", "message"), BAD_ARGUMENTS)
def test_bad_arguments(
    given: dict[str, Any], error: type[Exception], message: str, dtype: Any
) -> None:
    with pytest.raises(error, match=message):
        plain(np.arange(15.0, dtype=dtype).reshape(5, 3), **given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"y": np.zeros(4)}, r"^y: expected shape \(5,\), got \(4,\)"),
        ({"coef": np.zeros((3, 1))}, r"^coef: expected shape \(3,\), got \(3, 1\)"),
        ({"weights": np.zeros(3)}, r"^weights: expected shape \(5,\), got \(3,\)"),
        ({"center_weights": np.zeros(6)}, r"^center_weights: expected shape \(5,\), got \(6,\)"),
        ({"V": np.zeros((3, 252))}, r"^V: expected shape .* got \(3, 252\)"),
        ({"V": np.zeros((3, 0))}, r"^V: expected shape .* got \(3, 0\)"),
        ({"V": np.zeros((5, 3))}, r"^V: expected shape .* got \(5, 3\)"),
    ],
)
def test_wrong_shapes(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plain(np.ones((5, 3)), **given)


@pytest.mark.parametrize(("dtype", "size"), [(np.float32, 1e25), (np.float64, 1e200)])
def test_sums_that_overflow_are_refused(dtype: Any, size: float) -> None:
    """The residuals are finite: coefficients of the model are 0."""
    X = np.random.default_rng(0).normal(size=(33, 7)).astype(dtype) * dtype(size)
    with pytest.raises(ValueError, match=r"X: expected values whose squares .*rescale"):
        plain(X, coef=np.zeros(7), y=np.ones(33))


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (1.5, TypeError), (True, TypeError)])
def test_thread_counts_out_of_contract(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^num_threads: "):
        plain(np.ones((5, 3)), num_threads=value)


# ---- determinism -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [100, 3000, 20_011])
def test_the_number_of_threads_changes_nothing(n: int, dtype: Any) -> None:
    for kind in (KINDS[0], KINDS[3]):
        arguments, given = data(n, 33, 4, dtype, **kind)
        one = bits(tamis.linear_gradients(*arguments, **given, num_threads=1))
        for threads in (2, 3, 8):
            again = tamis.linear_gradients(*arguments, **given, num_threads=threads)
            assert bits(again) == one


def test_every_instruction_set_gives_the_same_bits() -> None:
    script = """
        import hashlib, numpy as np, tamis
        digest = hashlib.sha256()
        for dtype in (np.float32, np.float64):
            for n, d, k in ((1, 1, 1), (129, 7, 3), (300, 33, 8), (67, 301, 13), (9000, 64, 4)):
                rng = np.random.default_rng([n, d])
                X, V = rng.normal(size=(n, d)).astype(dtype), rng.normal(size=(d, k))
                y, coef, share = rng.normal(size=n), rng.normal(size=d), rng.random(n)
                for epsilon, s in ((np.inf, None), (0.5, share)):
                    for part in tamis.linear_gradients(
                        X, y, coef, 0.5, V, epsilon=epsilon, weights=y, center_weights=s
                    ):
                        digest.update(part.tobytes())
        print(tamis.info()["isa"], digest.hexdigest())
    """
    assert len(outputs_per_isa(script)) == 1
