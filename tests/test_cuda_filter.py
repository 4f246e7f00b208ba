"""iterative_filter on every backend, and what only the emulated device shows of it.

Oracle: the CPU, whose results test_iterative_filter.py compares with the twin. Decisions are made
on counts, so in float64 both keep the same rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tamis
from cuda_emulation.backends import Backend, EmulatedBackend

pytest_plugins = ["cuda_emulation.fixtures"]

RULES = ("gaussian_tail", "bounded_covariance", "fixed_fraction", "soft", "randomized")

Floats = NDArray[Any]


def corrupted(n: int, d: int, dtype: Any = np.float64, share: float = 0.1) -> Floats:
    """Gaussian rows, the first of them a cluster a few deviations away."""
    rng = np.random.default_rng([n, d])
    X = rng.normal(size=(n, d))
    X[: int(share * n)] += 7 * rng.normal(size=d) / np.sqrt(d)
    return X.astype(dtype)


def check_filter(backend: Backend, X: Floats, contamination: Any = 0.1, **options: Any) -> Any:
    """One call against the CPU."""
    expected = tamis.iterative_filter(X, contamination, **options)
    found = tamis.iterative_filter(backend.array(X), contamination, **options)
    exact = X.dtype == np.float64
    rtol = 1e-8 if exact else 2e-3
    weights, scores = backend.numpy(found.weights), backend.numpy(found.scores)
    assert (found.stop_reason, found.rounds) == (expected.stop_reason, expected.rounds)
    assert (weights.dtype, scores.dtype) == (X.dtype, X.dtype)
    assert ((weights > 0.5) == (expected.weights > 0.5)).all()
    np.testing.assert_allclose(weights, expected.weights, atol=rtol)
    np.testing.assert_allclose(scores, expected.scores, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(
        backend.numpy(found.mean), expected.mean, rtol=rtol, atol=rtol * np.median(np.abs(X))
    )
    return found


@pytest.mark.parametrize("rule", RULES)
def test_rules(backend: Backend, rule: Any) -> None:
    check_filter(backend, corrupted(301, 9), rule=rule)


def test_many_rows(backend: Backend) -> None:
    """So many that the rounds are sweeps: here of several launches each."""
    assert check_filter(backend, corrupted(16384, 1)).rounds >= 2


@pytest.mark.parametrize("rule", RULES)
def test_a_budget_that_binds(backend: Backend, rule: Any) -> None:
    """Rows come back in the order of their severity, ties in row order."""
    X = corrupted(151, 5, share=0.3)
    X[20:40] = X[20]  # ties
    found = check_filter(backend, X, 0.05, rule=rule, max_rounds=2)
    assert float(backend.numpy(found.weights).sum()) >= 151 - np.floor(2.5 * 0.05 * 151) - 1e-6


@pytest.mark.parametrize("assume", ["identity", "scale"])
def test_assumptions(backend: Backend, assume: Any) -> None:
    check_filter(backend, corrupted(300, 12), assume=assume)


@pytest.mark.parametrize(
    "options",
    [{"contamination": "auto"}, {"prune": False}, {"readmit": False}, {"max_rounds": 1}],
    ids=str,
)
def test_options(backend: Backend, options: dict[str, Any]) -> None:
    check_filter(backend, corrupted(301, 11), **options)


@pytest.mark.parametrize("n", [1, 2, 3, 8, 33, 257])
def test_few_rows(backend: Backend, n: int) -> None:
    check_filter(backend, np.random.default_rng(n).normal(size=(n, 3)))


def test_float32(backend: Backend) -> None:
    """The rows that go are far from the border."""
    found = check_filter(backend, corrupted(401, 20, np.float32))
    assert not (backend.numpy(found.weights)[:40] > 0.5).any()


def test_gross_outliers(backend: Backend) -> None:
    """Outside the ball, one of them so far that its square overflows."""
    X = corrupted(400, 8, share=0)
    X[5] = 1e3
    X[50, 3] = 1e200
    found = check_filter(backend, X)
    assert (backend.numpy(found.weights)[[5, 50]] == 0).all()


def test_many_directions(backend: Backend) -> None:
    """More than one pass of 32 projections at the end, and scratch memory for them."""
    rng = np.random.default_rng(8)
    X = rng.normal(size=(400, 40))
    for group in range(36):
        X[3 * group : 3 * group + 3] += 30 * np.eye(40)[group] + rng.normal(size=40)
    found = check_filter(backend, X, 0.3, rule="bounded_covariance", prune=False)
    assert found.directions.shape[1] > 32


# ---- the emulated device alone -----------------------------------------------------------------


def test_rows_and_scores_stay_on_the_device(cuda: EmulatedBackend) -> None:
    """What crosses does not grow with n; launches are few."""

    def run(n: int) -> float:
        """Bytes that cross in a round."""
        X = cuda.array(np.resize(corrupted(4200, 3), (n, 3)))
        results: list[Any] = []
        report = cuda.measure(lambda: results.append(tamis.iterative_filter(X)))
        rounds = results[0].rounds
        assert report.total("local") == 0
        setup = 5  # medians; distances and first weights; the ball; repeated rows; last scores
        assert len(report.launches) <= setup + 12 * rounds
        crossed: int = sum(c.bytes for c in report.calls if "Memcpy" in c.name)
        return crossed / float(rounds)

    assert run(8400) <= 1.3 * run(4200)


def test_failing_calls_of_a_budget_that_binds(cuda: EmulatedBackend) -> None:
    X = cuda.array(corrupted(60, 2, share=0.3))
    cuda.fail_every_call(lambda: tamis.iterative_filter(X, 0.05, rule="soft", max_rounds=1))
