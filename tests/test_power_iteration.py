"""power_iteration: eigenpairs, stopping, warm starts.

Oracles: numpy.linalg.eigh of the dense covariance in float64 (for any k at any size), and
tamis.reference.power_iteration, the float64 twin, for the course of the iteration. Tolerances are
those of `accuracy`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tamis
from support import same_bits
from tamis import reference

ROWS = (1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 1023)
COLUMNS = (1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 70, 300)
DTYPES = (np.float32, np.float64)
METHODS = ("lanczos", "power")
FLUSH = 128  # rows summed in the dtype of X

Floats = NDArray[Any]


def data(n: int, d: int, dtype: Any = np.float64, seed: int = 0) -> Floats:
    """Unequal columns away from 0, rotated: top eigenvalues well apart."""
    rng = np.random.default_rng([seed, n, d])
    spread = 4.0 * 0.7 ** np.arange(d) + 0.1
    rotation = np.linalg.qr(rng.normal(size=(d, d)))[0]
    X: Floats = ((rng.normal(size=(n, d)) * spread) @ rotation + rng.normal(size=d)).astype(dtype)
    return X


def covariance(X: Floats, weights: Floats | None = None, mean: Floats | None = None) -> Floats:
    A = X.astype(np.float64)
    w = np.ones(len(A)) if weights is None else weights.astype(np.float64)
    centre = np.average(A, axis=0, weights=w) if mean is None else mean.astype(np.float64)
    product: Floats = (A - centre).T @ ((A - centre) * w[:, None]) / w.sum()
    return product


def accuracy(X: Floats, C: Floats) -> float:
    """What rounding does to a product with the covariance C, in norm.

    (d + FLUSH + 4) roundings of X's dtype relative to sums of absolute values (see `tolerance` in
    test_covariance_apply.py), which are at most the trace for a unit vector; and the vectors that
    are returned are rounded to that dtype as well. Where the data lie far from 0, the twin's centre
    is off by up to 1024 roundings of float64, squared.
    """
    u = float(np.finfo(X.dtype).eps) / 2
    far = 1024 * 2.0**-53 * float(np.linalg.norm(np.abs(X.astype(np.float64)).max(axis=0)))
    size = float(np.trace(C)) + (2 * u) ** 2 * float(np.square(X.astype(np.float64)).mean()) * len(
        C
    )
    return 4 * (X.shape[1] + FLUSH + 4) * u * size + 2 * far**2


def check(X: Floats, k: int, tol: float = 1e-4, **arguments: Any) -> Any:
    """Compare one converged call with the dense eigendecomposition; returns the result.

    A residual r means an eigenvalue within r (Weyl); a subspace found to r is off by the sine
    r / gap (Davis and Kahan), where there is a gap.
    """
    C = covariance(X, arguments.get("weights"), arguments.get("mean"))
    values, vectors = np.linalg.eigh(C)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    result = tamis.power_iteration(X, k, tol=tol, **arguments)
    assert result.converged
    for name in ("values", "vectors", "residuals"):
        assert getattr(result, name).dtype == X.dtype
    assert result.values.shape == result.residuals.shape == (k,)
    assert result.vectors.shape == (X.shape[1], k)
    found, V = result.values.astype(np.float64), result.vectors.astype(np.float64)
    noise = accuracy(X, C)
    assert np.all(found >= 0.0)
    assert np.all(np.diff(found) <= 0.0)
    assert np.all(result.residuals <= tol * found[0] * (1 + 1e-6) + np.finfo(X.dtype).tiny)
    assert np.all(np.abs(found - values[:k]) <= tol * found[0] + noise)
    assert np.all(np.linalg.norm(C @ V - V * found, axis=0) <= tol * found[0] + 2 * noise)
    assert np.abs(V.T @ V - np.eye(k)).max() <= 10 * np.finfo(X.dtype).eps * k
    assert np.all(V[np.abs(V).argmax(axis=0), np.arange(k)] > 0.0)
    if k < X.shape[1] and values[k - 1] - values[k] > 0.02 * values[0]:
        outside = np.linalg.norm(vectors[:, k:].T @ V)
        error = np.sqrt(k) * (tol * found[0] + 2 * noise)
        assert outside <= error / (values[k - 1] - values[k] - tol * found[0]) + 1e-6
    return result


# ---- eigenpairs --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", ROWS)
def test_sizes(n: int, dtype: Any) -> None:
    """Also n < d, one row and one column; k from 1 to d, rank or not."""
    for d in COLUMNS:
        for k in {1, min(2, d), min(5, d), d if d <= 17 else 9}:
            check(data(n, d, dtype), k)


@pytest.mark.parametrize("dtype", DTYPES)
def test_plain_power_iteration(dtype: Any) -> None:
    for n, d in ((33, 7), (1023, 17), (20, 33)):
        check(data(n, d, dtype), 1, method="power", max_iter=1000)
        check(data(n, d, dtype), 3, method="power", max_iter=1000)
    check(data(33, 1, dtype), 1, method="power")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_and_mean(dtype: Any, method: Any) -> None:
    X = data(500, 17, dtype)
    rng = np.random.default_rng(1)
    weights = (rng.random(500) * (np.arange(500) % 3 > 0)).astype(dtype)
    mean = rng.normal(size=17).astype(dtype)
    check(X, 2, weights=weights, method=method, max_iter=1000)
    check(X, 2, mean=mean, method=method, max_iter=1000)
    expected = check(X, 2, weights=weights, mean=mean, method=method, max_iter=1000)
    X[weights == 0] = np.nan  # not looked at
    result = tamis.power_iteration(X, 2, weights=weights, mean=mean, method=method, max_iter=1000)
    assert same_bits(result.vectors, expected.vectors)


def test_the_course_is_that_of_the_twin() -> None:
    """Same start, same decisions: as many passes, and numbers equal to rounding."""
    weights = np.random.default_rng(2).random(5000)
    arguments: Any
    for n, d, k, arguments in (
        (5000, 33, 1, {}),
        (5000, 33, 3, {"weights": weights}),
        (5000, 20, 2, {"tol": 1e-9, "seed": 7}),
        (300, 70, 5, {"mean": np.ones(70), "tol": 1e-8}),
        (40, 90, 2, {"tol": 1e-8}),
        (2000, 12, 2, {"method": "power", "max_iter": 500}),
        (1000, 9, 2, {"init": np.eye(9)[:, :2]}),
    ):
        X = data(n, d)
        result = tamis.power_iteration(X, k, **arguments)
        twin = reference.power_iteration(X, k, **arguments)
        assert result.iterations == twin.iterations
        assert result.converged
        assert twin.converged
        assert result.clustered == twin.clustered
        np.testing.assert_allclose(result.values, twin.values, rtol=1e-10)
        # what is left unconverged is the same, not only as small
        np.testing.assert_allclose(result.vectors, twin.vectors, atol=1e-6)
        np.testing.assert_allclose(
            result.residuals, twin.residuals, rtol=1e-3, atol=1e-10 * twin.values[0]
        )


def test_a_space_that_is_restarted() -> None:
    """30 vectors of flat noise need more than the 256 columns that are kept."""
    X = np.random.default_rng(8).normal(size=(1000, 400))
    result = check(X, 30, tol=1e-6)
    twin = reference.power_iteration(X, 30, tol=1e-6)
    assert result.iterations > 256 // (30 + 4)
    assert abs(result.iterations - twin.iterations) <= 1  # a residual may end just at tol
    np.testing.assert_allclose(result.values, twin.values, rtol=1e-9)


def test_few_passes_over_many_rows() -> None:
    """The subsample leaves little to polish: one spike above flat noise takes two passes.

    Oracle: the residual of its sample eigenvector, about sqrt(d / 2500) of the spike, against tol.
    """
    rng = np.random.default_rng(3)
    X = rng.normal(size=(20_000, 50))
    X[:, 7] *= 5.0
    assert check(X, 1).iterations <= 3
    assert check(X, 1, tol=0.1).iterations == 1


# ---- special spectra ---------------------------------------------------------------------------


def axes(lengths: list[float], dtype: Any = np.float64) -> Floats:
    """Rows +-length along every axis: the covariance is diagonal, with known eigenvalues."""
    points = np.diag(lengths)
    return np.vstack([points, -points]).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_repeated_value_is_an_invariant_subspace(dtype: Any) -> None:
    lengths = [5.0, 5.0, 5.0, 2.0, 1.0, 1.0, 0.5, 0.25, 0.2]
    X = axes(lengths, dtype)
    expected = np.square(lengths) / len(lengths)
    for k, clustered in ((1, True), (2, True), (3, False), (4, False), (5, True), (6, False)):
        result = check(X, k)
        assert result.clustered == clustered
        np.testing.assert_allclose(result.values, expected[:k], rtol=1e-4)
    top = check(X, 3).vectors.astype(np.float64)
    assert np.abs(top[3:]).max() < 1e-3  # a basis of the first three axes
    other = tamis.power_iteration(X, 2, seed=1).vectors
    first = tamis.power_iteration(X, 2, seed=0).vectors
    assert np.abs(other.T @ first).min() < 0.99  # another start, another basis


@pytest.mark.parametrize("dtype", DTYPES)
def test_all_values_equal(dtype: Any) -> None:
    result = check(axes([3.0] * 12, dtype), 2)
    assert result.clustered
    np.testing.assert_allclose(result.values, 9 / 12, rtol=1e-6)
    assert not check(axes([3.0] * 12, dtype), 12).clustered  # there is no next one


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_rank_below_k(dtype: Any, method: Any) -> None:
    """Zero values with some orthonormal vectors; never NaN."""
    rng = np.random.default_rng(4)
    line = np.outer(rng.normal(size=129), np.arange(1.0, 10.0)).astype(dtype)
    same = np.repeat(data(1, 9, dtype), 33, axis=0)
    for X, rank in ((line, 1), (same, 0), (data(1, 9, dtype), 0), (data(3, 9, dtype), 2)):
        result = tamis.power_iteration(X, 4, method=method, tol=1e-3, max_iter=300)
        size = max(float(np.square(X.astype(np.float64)).sum(axis=1).max()), 1.0)
        noise = 1e4 * float(np.finfo(dtype).eps) ** (2 if rank == 0 else 1) * size
        assert np.all(result.values[rank:] <= noise)
        assert np.all(result.values[:rank] > noise)
        V = result.vectors.astype(np.float64)
        np.testing.assert_allclose(V.T @ V, np.eye(4), atol=40 * np.finfo(dtype).eps)


def test_constant_columns_get_no_weight() -> None:
    X = data(257, 9)
    X[:, [0, 4]] = 7.0
    result = check(X, 3)
    assert np.abs(result.vectors[[0, 4]]).max() <= 1e-12


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_mean_far_away_costs_no_accuracy(dtype: Any) -> None:
    check(data(1023, 17, dtype) + dtype(1e6), 3)


@pytest.mark.parametrize("size", [1e-20, 1e30])
def test_tiny_and_huge_numbers(size: float) -> None:
    X = data(300, 9)
    result = check(X * size, 3)
    expected = tamis.power_iteration(X, 3)
    np.testing.assert_allclose(result.values, expected.values * size**2, rtol=1e-9)
    np.testing.assert_allclose(result.vectors, expected.vectors, atol=1e-9)


def test_numbers_whose_squares_overflow_are_refused() -> None:
    for X in (data(33, 7) * 1e200, data(33, 7, np.float32) * np.float32(1e25)):
        with pytest.raises(ValueError, match=r"X: expected values whose squares.*rescale"):
            tamis.power_iteration(X)


# ---- stopping, starting ------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_not_converging_is_a_warning_and_data(method: Any) -> None:
    X = np.random.default_rng(5).normal(size=(400, 60))  # flat: no gap to speak of
    with pytest.warns(tamis.ConvergenceWarning, match=r"not converged after 2 passes.*max_iter"):
        result = tamis.power_iteration(X, 2, tol=1e-12, max_iter=2, method=method)
    assert not result.converged
    assert result.iterations == 2
    assert result.residuals.max() > 1e-12 * result.values[0]
    C = covariance(X)
    actual = np.linalg.norm(C @ result.vectors - result.vectors * result.values, axis=0)
    np.testing.assert_allclose(result.residuals, actual, atol=accuracy(X, C))
    top = np.linalg.eigvalsh(C)[-1]
    assert result.values[0] <= top + accuracy(X, C)  # Ritz values lie below


def test_the_residual_is_that_of_what_is_returned() -> None:
    X = data(500, 40)
    C = covariance(X)
    for tol in (1e-1, 1e-3, 1e-6, 1e-10):
        result = tamis.power_iteration(X, 3, tol=tol)
        actual = np.linalg.norm(C @ result.vectors - result.vectors * result.values, axis=0)
        np.testing.assert_allclose(result.residuals, actual, atol=accuracy(X, C))


@pytest.mark.parametrize("method", METHODS)
def test_a_good_start_is_used(method: Any) -> None:
    X = data(600, 30)
    cold = check(X, 2, method=method, max_iter=1000, tol=1e-8)
    warm = check(X, 2, method=method, init=cold.vectors, tol=1e-6)
    assert warm.iterations == 1
    one = tamis.power_iteration(X, 1, init=cold.vectors[:, 0], tol=1e-6)  # a vector will do
    assert one.iterations == 1


def test_useless_starts_do_no_harm() -> None:
    X = data(600, 30)
    for init in (
        np.zeros((30, 2)),
        np.ones((30, 3)),
        np.linalg.eigh(covariance(X))[1][:, :2],  # the smallest
        np.random.default_rng(6).normal(size=(30, 40)),  # more than fit
    ):
        check(X, 2, init=init)


def test_seeds() -> None:
    X = data(2000, 20)
    first = tamis.power_iteration(X, 2, seed=3)
    assert same_bits(tamis.power_iteration(X, 2, seed=3).vectors, first.vectors)
    for seed in (4, 2**64 - 1):
        check(X, 2, seed=seed)


def test_k_is_at_most_252() -> None:
    with pytest.raises(ValueError, match=r"^k: expected an integer in \[1, 253\), got 253"):
        tamis.power_iteration(np.eye(300), 253)
    assert check(np.eye(300) + np.diag(np.arange(300.0)), 252).vectors.shape == (300, 252)
