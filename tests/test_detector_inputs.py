"""What the detectors, `RobustPCA`, `que_scores` and `outlier_map` take and refuse, all alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tamis
from support import BAD_ROW, NOT_FINITE, layouts, with_bad_values

ESTIMATORS: dict[str, Callable[[], Any]] = {
    "SpectralOutlierDetector": lambda: tamis.SpectralOutlierDetector(0.1),
    "RobustCovariance": lambda: tamis.RobustCovariance(0.1),
    "RobustCovariance, bounded": lambda: tamis.RobustCovariance(0.1, rule="bounded"),
    "RobustPCA": lambda: tamis.RobustPCA(2, contamination=0.1),
    "QUEOutlierDetector": lambda: tamis.QUEOutlierDetector(0.1),
    "QUEOutlierDetector, raw": lambda: tamis.QUEOutlierDetector(0.1, whiten="none"),
}
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "que_scores": tamis.que_scores,
    "que_scores, sketch": lambda X: tamis.que_scores(X, method="sketch", n_rows=3),
    "outlier_map": lambda X: tamis.outlier_map(X, n_components=2).robust_distances,
}
CALLS: dict[str, Callable[[Any], Any]] = {
    **{name: lambda X, make=make: make().fit(X) for name, make in ESTIMATORS.items()},
    **{
        f"{name}, scores": lambda X, make=make: make().fit(rows(7)).score_samples(X)
        for name, make in ESTIMATORS.items()
    },
    **FUNCTIONS,
}
IN_CORE = "SpectralOutlierDetector"  # its rows may lie on a GPU


def rows(d: int = 7) -> Any:
    """301 rows of d columns; those in which every tenth lies far out."""
    X = np.random.default_rng(0).standard_normal((301, d))
    X[::10] += 6.0
    return X


GOOD = rows(3)
REFUSED: dict[str, tuple[Any, type[Exception] | tuple[type[Exception], ...], str]] = {
    "None": (None, (TypeError, ValueError), "^X: expected"),
    "text": (GOOD.astype(str), TypeError, "^X: expected numbers, got dtype <U"),
    "names": ([["a", "b"], ["c", "d"]], TypeError, "^X: expected numbers"),
    "complex": (GOOD.astype(complex), ValueError, "^X: Complex data not supported"),
    "one axis": (GOOD[0], ValueError, r"^X: expected a 2D array .*reshape\(-1, 1\)"),
    "three axes": (GOOD[None], ValueError, r"^X: expected a 2D array .*got shape \(1, 301, 3\)"),
    "no axis": (np.array(1.0), ValueError, r"^X: expected a 2D array .*got shape \(\)"),
    "no rows": (GOOD[:0], ValueError, r"^X: expected at least one row, got shape \(0, 3\)"),
    "no columns": (GOOD[:, :0], ValueError, r"0 feature\(s\) \(shape=\(301, 0\)\)"),
    "rows of unequal length": ([[1.0, 2.0], [3.0]], ValueError, "^X: expected rows of equal"),
    "masked": (np.ma.masked_greater(GOOD, 5.0), ValueError, "^X: expected no masked entries"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("call", CALLS)
def test_what_is_no_table_is_refused(call: str, case: str) -> None:
    X, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        CALLS[call](X)


@pytest.mark.parametrize(("value", "name"), NOT_FINITE)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("call", CALLS)
def test_the_first_bad_row_is_named(call: str, dtype: Any, value: float, name: str) -> None:
    with pytest.raises(ValueError, match=BAD_ROW.format(name)):
        CALLS[call](with_bad_values(dtype, value))


@pytest.mark.parametrize("call", CALLS)
def test_sparse_rows_are_refused_with_advice(call: str) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match=r"^X: expected a dense array.*pass X\.toarray\(\)"):
        CALLS[call](sparse.csr_matrix(GOOD))


@pytest.mark.parametrize("call", CALLS)
def test_tensors_elsewhere_are_refused_with_advice(call: str) -> None:
    """A tensor that says it is on a GPU: a real one is not needed to be refused."""
    torch = pytest.importorskip("torch")

    class OnGpu(torch.Tensor):  # type: ignore[misc]
        device = property(lambda self: torch.device("cuda", 0))

    if not call.startswith(IN_CORE):
        with pytest.raises(
            ValueError, match=r"^X: expected a tensor on the CPU, .*pass X\.cpu\(\)"
        ):
            CALLS[call](torch.from_numpy(rows()).as_subclass(OnGpu))
    with pytest.raises(ValueError, match=r"^X: expected a tensor on the CPU or a CUDA device"):
        CALLS[call](torch.empty((30, 7), device="meta"))
    with pytest.raises(ValueError, match=r"outside autograd.*pass X\.detach\(\)"):
        CALLS[call](torch.from_numpy(rows()).requires_grad_())


@pytest.mark.parametrize("name", [*ESTIMATORS, *FUNCTIONS])
def test_the_layout_of_the_rows_is_of_no_consequence(name: str) -> None:
    """Oracle: the same rows in C order, up to the rounding of products; nothing is written to."""
    X = rows()

    def scores(rows: Any) -> Any:
        if name in FUNCTIONS:
            return FUNCTIONS[name](rows)
        return ESTIMATORS[name]().fit(rows).score_samples(rows)

    expected = scores(X)
    for layout, other in layouts(X).items():
        before = other.copy()
        np.testing.assert_allclose(scores(other), expected, rtol=1e-6, atol=1e-9, err_msg=layout)
        np.testing.assert_array_equal(other, before)


@pytest.mark.parametrize("name", [*ESTIMATORS, *FUNCTIONS])
def test_other_kinds_of_numbers_are_converted(name: str) -> None:
    X = np.round(4 * rows())
    for kind, dtype in ((np.int64, np.float64), (np.float16, np.float32), (">f8", np.float64)):
        result = CALLS[name if name in FUNCTIONS else f"{name}, scores"](X.astype(kind))
        assert result.dtype == (np.float64 if name == "outlier_map" else dtype)
        assert result.shape == (301,)
