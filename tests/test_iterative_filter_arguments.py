"""iterative_filter: the arrays and numbers it takes, and those it refuses.

Oracle: calls on plain contiguous arrays, which test_iterative_filter.py checks; for refusals, the
docstring.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tamis
from support import (
    BAD_ROW,
    NO_ROWS,
    NOT_FINITE,
    UNFIT_ROWS,
    filter_rows,
    layouts,
    same_bits,
    same_filter_result,
    with_bad_values,
)

DTYPES = (np.float32, np.float64)


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch")


# ---- layouts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_layouts(dtype: Any) -> None:
    X = filter_rows(301, 9, dtype)
    expected = tamis.iterative_filter(X)
    for name, view in layouts(X).items():
        assert same_filter_result(tamis.iterative_filter(view), expected), name


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", ["gaussian_tail", "soft"])
def test_torch(torch: Any, dtype: Any, rule: Any) -> None:
    X = filter_rows(301, 9, dtype)
    expected = tamis.iterative_filter(X, rule=rule)
    tX = torch.from_numpy(X)
    for view in (tX, tX.t().contiguous().t(), torch.nn.functional.pad(tX, (3, 2))[:, 3:12]):
        r = tamis.iterative_filter(view, rule=rule)
        for name in ("mean", "weights", "scores", "eigenvalues", "directions", "centers", "scales"):
            array = getattr(r, name)
            assert isinstance(array, torch.Tensor)
            assert same_bits(array.numpy(), getattr(expected, name))
        assert r.support.dtype == torch.bool
        assert r.stop_reason == expected.stop_reason
    for bad, error, message in (
        (tX.int(), TypeError, "^X: expected dtype float32 or float64, got int32"),
        (tX.half(), TypeError, "^X: expected dtype float32 or float64, got float16"),
        (tX.clone().requires_grad_(), ValueError, "^X: expected a tensor outside autograd"),
        (tX.to_sparse(), ValueError, "^X: expected a dense tensor"),
        (tX[:0], ValueError, "^X: expected at least one row"),
    ):
        with pytest.raises(error, match=message):
            tamis.iterative_filter(bad)


# ---- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", UNFIT_ROWS)
def test_unfit_rows(case: str) -> None:
    X, error, message = UNFIT_ROWS[case]
    with pytest.raises(error, match=message):
        tamis.iterative_filter(X)


def test_no_rows() -> None:
    X, error, message = NO_ROWS
    with pytest.raises(error, match=message):
        tamis.iterative_filter(X)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("value", "name"), NOT_FINITE)
def test_the_first_bad_row_is_named(dtype: Any, value: float, name: str) -> None:
    """Whatever the rule, and also where nothing would have been filtered."""
    X = with_bad_values(dtype, value)
    arguments: Any
    for arguments in (
        {},
        {"contamination": 0.0},
        {"contamination": "auto", "prune": False},
        {"rule": "soft", "assume": "identity", "num_threads": 8},
    ):
        with pytest.raises(ValueError, match=BAD_ROW.format(name)):
            tamis.iterative_filter(X, **arguments)


@pytest.mark.parametrize(("value", "name"), NOT_FINITE)
def test_one_bad_number_among_many(value: float, name: str) -> None:
    """Wherever it is: in the first, the last or a row that no sample looks at."""
    for row in (0, 1, 9_998, 9_999):
        X = filter_rows(10_000, 3)
        X[row, 1] = value
        with pytest.raises(ValueError, match=f"got {name} in row {row}, column 1"):
            tamis.iterative_filter(X)


@pytest.mark.parametrize(
    "value",
    [
        *(-0.1, -1e-300, 0.5, 0.7, 1, -1, 10.0, np.nan, np.inf, -np.inf),
        *(True, False, np.True_, None, "0.1", "Auto", "", b"auto", 0.1j, [0.1], np.ones(2) / 9),
    ],
)
def test_contamination_outside_its_range(value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^contamination: expected "):
        tamis.iterative_filter(filter_rows(33, 3), value)


def test_contamination_of_other_types() -> None:
    X = filter_rows(301, 3)
    expected = tamis.iterative_filter(X, 0.25)
    assert same_filter_result(tamis.iterative_filter(X, np.float32(0.25)), expected)
    assert same_filter_result(tamis.iterative_filter(X, contamination=np.float64(0.25)), expected)
    assert same_filter_result(tamis.iterative_filter(X, 0), tamis.iterative_filter(X, 0.0))


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("rule", "gaussian", ValueError),
        ("rule", None, ValueError),
        ("rule", 1, ValueError),
        ("assume", "Identity", ValueError),
        ("assume", None, ValueError),
        ("prune", 1, TypeError),
        ("prune", None, TypeError),
        ("readmit", "no", TypeError),
        ("max_rounds", 0, ValueError),
        ("max_rounds", -1, ValueError),
        ("max_rounds", 2.0, TypeError),
        ("max_rounds", True, TypeError),
        ("max_removed", 0.5, ValueError),
        ("max_removed", -1.0, ValueError),
        ("max_removed", np.nan, ValueError),
        ("max_removed", np.inf, ValueError),
        ("max_removed", "2", TypeError),
        ("seed", -1, ValueError),
        ("seed", 2**64, ValueError),
        ("seed", 1.0, TypeError),
        ("seed", None, TypeError),
        ("num_threads", 0, ValueError),
        ("num_threads", 1.5, TypeError),
    ],
)
def test_unfit_arguments(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=rf"^{name}: expected "):
        tamis.iterative_filter(filter_rows(33, 3), **{name: value})


def test_options_must_be_given_by_name() -> None:
    call: Any = tamis.iterative_filter
    with pytest.raises(TypeError, match="positional"):
        call(filter_rows(33, 3), 0.1, "soft")
