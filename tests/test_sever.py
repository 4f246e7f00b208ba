"""`tamis.sever.sever`, its gradients and losses. Oracles: dense NumPy, by hand.

Past 400 lines by a few: every way to the spectrum has its test.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse
from scipy.sparse.linalg import aslinearoperator

from tamis.sever import OuterGradients, SeverRound, losses, sever
from tamis.sever._sets import RowBuffer
from tamis.sever._spectrum import spectrum
from tamis.sever.gradients import RegressionGradients


def location(x: Any) -> tuple[Any, Any]:
    """The mean as a learner: ``(mean - x)^2 / 2``."""
    return lambda rows: x[rows].mean(axis=0), lambda mean, rows: mean - x[rows]


def poisoned(n: int = 300, bad: int = 30, d: int = 7) -> Any:
    x = np.random.default_rng(3).normal(size=(n, d))
    x[-bad:] = 6.0 + 0.1 * x[-bad:]
    return x


@pytest.mark.parametrize("m", [1, 3])
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
def test_outer_gradients_are_the_matrix_they_stand_for(
    m: int, intercept: bool, sparse: bool
) -> None:
    rng = np.random.default_rng(m)
    n, d = 31, 9
    X, a, c = rng.normal(size=(n, d)), rng.normal(size=(n, m)), rng.normal(size=d)
    Z = np.hstack([X - c, np.ones((n, 1))]) if intercept else X - c
    whole = np.einsum("im,iq->imq", a, Z).reshape(n, -1)
    given = scipy.sparse.csr_matrix(X) if sparse else X
    rows = OuterGradients(a, given, intercept=intercept, center=c)
    assert rows.shape == whole.shape
    V, U = rng.normal(size=(whole.shape[1], 2)), rng.normal(size=(n, 2))
    np.testing.assert_allclose(rows.matmat(V), whole @ V, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(rows.rmatmat(U), whole.T @ U, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(rows.rmatvec(U[:, 0]), whole.T @ U[:, 0], rtol=1e-12, atol=1e-12)
    some = np.array([4, 30, 0])
    np.testing.assert_allclose(rows.take(some).matvec(V[:, 0]), whole[some] @ V[:, 0], rtol=1e-12)
    np.testing.assert_allclose(rows.toarray(), whole, rtol=1e-12, atol=1e-12)
    found = spectrum(rows)
    values = np.linalg.svd(whole - whole.mean(axis=0))[1]
    assert found.eigenvalue == pytest.approx(values[0] ** 2 / n, rel=1e-8)
    left, sizes, _ = np.linalg.svd(whole - whole.mean(axis=0), full_matrices=False)
    for k in (1, 3):
        lengths = np.sqrt(np.square(left[:, :k] * sizes[:k]).sum(axis=1))
        for given in (rows, whole):
            np.testing.assert_allclose(spectrum(given, k).lengths, lengths, atol=1e-3 * sizes[0])


@pytest.mark.parametrize("sparse", [False, True])
def test_a_centre_by_weights_is_the_mean_whoever_asks_first(sparse: bool) -> None:
    rng = np.random.default_rng(5)
    X, a, share = rng.normal(3.0, 1.0, size=(700, 401)), rng.normal(size=700), rng.random(700)
    given = scipy.sparse.csr_matrix(X) if sparse else X
    share /= share.sum()
    known = OuterGradients(a, given, intercept=True, center=share @ X)
    U = rng.normal(size=(3, 700))
    whole = np.hstack([a[:, None] * (X - share @ X), a[:, None]])
    for first in (lambda rows: rows.sums(U), lambda rows: rows.center):
        rows = OuterGradients(a, given, intercept=True, center_weights=share)
        first(rows)
        np.testing.assert_allclose(rows.center, share @ X, rtol=1e-12)
        np.testing.assert_allclose(rows.sums(U), U @ whole, rtol=1e-10, atol=1e-10)
    found = spectrum(OuterGradients(a, given, intercept=True, center_weights=share)).lengths
    np.testing.assert_allclose(found, spectrum(known).lengths, rtol=1e-6, atol=1e-9)
    with pytest.raises(ValueError, match="only one"):
        OuterGradients(a, given, center=share @ X, center_weights=share)
    with pytest.raises(ValueError, match="center_weights: expected shape"):
        OuterGradients(a, given, center_weights=share[:-1])


def test_row_buffer_gives_the_rows_after_any_others() -> None:
    """In its own order; rows that it holds stay where they are, if there is room."""
    rng = np.random.default_rng(2)
    table = rng.normal(size=(900, 300))
    buffer = RowBuffer(table)
    before = np.zeros(0, dtype=int)
    for size in (880, 700, 699, 300, 300, 500, 499, 900, 1, 900):
        rows = rng.choice(900, size, replace=False)
        for some in (rows, rows, rows[: size * 9 // 10 + 1], np.sort(rows)[: size // 2 + 1], rows):
            examples, order = buffer.take(some)
            np.testing.assert_array_equal(np.sort(order), np.sort(some))
            np.testing.assert_array_equal(examples, table[order])
            place = np.arange(min(len(before), len(order)))
            stays = np.isin(before[place], some)
            np.testing.assert_array_equal(order[place][stays], before[place][stays])
            before = order


@pytest.mark.parametrize(("n", "p"), [(1, 5), (2, 2), (5, 1), (2, 400), (33, 3)])
def test_spectrum_at_the_edges(n: int, p: int) -> None:
    G = np.random.default_rng(n + p).normal(size=(n, p))
    expected = np.linalg.svd(G - G.mean(axis=0))[1][0] ** 2 / n
    for given in (G, OuterGradients(np.ones(n), G)):
        assert spectrum(given).eigenvalue == pytest.approx(expected, rel=1e-6, abs=1e-25)
    flat = spectrum(OuterGradients(np.zeros(n), G))
    assert flat.eigenvalue == 0.0
    assert not flat.lengths.any()


@pytest.mark.parametrize("case", ["tall", "wide", "mostly zero", "sparse", "sampled", "strided"])
@pytest.mark.parametrize("intercept", [False, True])
def test_every_way_to_the_spectrum_agrees_with_lapack(case: str, intercept: bool) -> None:
    """Outer products of one coefficient, about the mean of some of the rows."""
    n, d = {"wide": (90, 301), "sampled": (4 * 1033, 1031)}.get(case, (400, 70))
    rng = np.random.default_rng(n + d)
    X = rng.normal(size=(n, 2 * d))[:, ::2] if case == "strided" else rng.normal(size=(n, d))
    a = rng.normal(size=n)
    X[: n // 10, 3] += 9.0
    if case == "mostly zero":
        a[rng.permutation(n)[: 3 * n // 5]] = 0.0
    some = rng.random(n) < 0.6
    center = X.mean(axis=0)
    whole = a[:, None] * np.hstack([X - center, np.ones((n, 1))] if intercept else [X - center])
    whole -= whole[some].mean(axis=0)
    values, vectors = np.linalg.eigh(whole.T @ whole)
    given = scipy.sparse.csr_matrix(X) if case == "sparse" else X
    found = spectrum(OuterGradients(a, given, intercept=intercept, center=center), center_rows=some)
    assert found.eigenvalue == pytest.approx(values[-1] / n, rel=1e-3)
    error = np.abs(found.lengths - np.abs(whole @ vectors[:, -1]))
    assert error.max() < 2e-2 * np.sqrt(values[-1])


@pytest.mark.parametrize("spike", [1.5, 4.0])
@pytest.mark.parametrize("k", [1, 3])
def test_a_start_that_knows_nothing_does_not_end_the_search(spike: float, k: int) -> None:
    """What the round before saw may be gone: all its directions are then in the null space."""
    rng = np.random.default_rng(6)
    n, d = 2000, 400
    X = rng.normal(size=(n, d))
    X[:, :20] *= 30.0
    a = rng.normal(size=n)
    before = spectrum(OuterGradients(a, X), k)
    X[:, :20] = 0.0
    X[:, 100] *= spike
    X[:, 200] *= 1.4 * spike
    whole = a[:, None] * X
    whole -= whole.mean(axis=0)
    top = np.linalg.eigvalsh(whole.T @ whole)[-1] / n
    found = spectrum(OuterGradients(a, X), k, start=before.block)
    assert found.eigenvalue > 0.98 * top


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("epsilon", [np.inf, 0.7])
def test_one_look_at_a_regression_is_what_separate_reads_are(epsilon: float, masked: bool) -> None:
    """Oracles: the gradients formed, and the spectrum of the same without the look."""
    rng = np.random.default_rng(5)
    n, d = 300, 60
    X = rng.normal(size=(n, d)) + 3.0
    X[:9, 4] += 9.0
    coef, weights = rng.normal(size=d), rng.random(n) + 0.5
    y = X @ coef + rng.normal(size=n)
    y[:9] -= 20.0
    center_rows = np.arange(n) % 5 > 0 if masked else None
    share = None if center_rows is None else center_rows / center_rows.sum()

    def gradients() -> RegressionGradients:
        return RegressionGradients(
            X, y, coef, 0.5, epsilon=epsilon, weights=weights, center_weights=share
        )

    outer = gradients().outer()
    formed, a = outer.toarray(), outer.coefficients[:, 0]
    V = rng.normal(size=(d + 1, 4))
    moments, product = gradients().look(V[:-1], None)
    slopes = formed[:, :d]
    np.testing.assert_allclose(product, slopes.T @ (slopes @ V[:-1]), rtol=1e-9, atol=1e-8)
    np.testing.assert_allclose(moments.squares, a**2, rtol=1e-10, atol=1e-10)
    mean = formed.mean(axis=0) if share is None else share @ formed
    np.testing.assert_allclose(moments.mean, mean, rtol=1e-9, atol=1e-9)
    centred = formed - mean
    for images in (moments(V), moments(V, product)):
        np.testing.assert_allclose(images, centred.T @ (centred @ V), rtol=1e-9, atol=1e-7)
    start = spectrum(outer, 2, center_rows=center_rows).block
    for k in (1, 2):
        given: dict[str, Any] = {"center_rows": center_rows, "start": start}
        with_look = spectrum(gradients(), k, **given)
        without = spectrum(gradients().outer(), k, **given)
        assert with_look.eigenvalue == pytest.approx(without.eigenvalue, rel=1e-9)
        np.testing.assert_allclose(with_look.lengths, without.lengths, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("rule", ["top", "randomized", "filter"])
def test_poison_is_found(rule: Any) -> None:
    x = poisoned()
    fit, gradients = location(x)
    result = sever(fit, gradients, len(x), contamination=0.1, rule=rule)
    assert np.flatnonzero(~result.support).tolist() == list(range(270, 300))
    np.testing.assert_allclose(result.model, x[:270].mean(axis=0))
    assert result.scores[270:].min() > result.scores[:270].max()
    assert result.stop_reason == "stable"
    assert all(isinstance(entry, SeverRound) for entry in result.history)


def test_without_readmission_exactly_the_rounds_fractions_go() -> None:
    x = poisoned()
    fit, gradients = location(x)
    result = sever(fit, gradients, 300, contamination=0.1, rounds=3, fraction=0.05, readmit=False)
    sizes = [300]
    for _ in range(3):
        sizes.append(sizes[-1] - int(np.ceil(0.05 * sizes[-1] - 1e-9)))
    assert [entry.n_active for entry in result.history] == sizes[1:]
    assert int(result.support.sum()) == sizes[-1]


@pytest.mark.parametrize("kind", ["sparse", "operator", "weights", "torch"])
def test_every_kind_of_gradients(kind: str) -> None:
    x = poisoned()
    fit, gradients = location(x)
    other: dict[str, Any] = {}
    if kind == "sparse":
        given = lambda model, rows: scipy.sparse.coo_matrix(gradients(model, rows))  # noqa: E731
    elif kind == "operator":
        given = lambda model, rows: OuterGradients(  # noqa: E731
            np.ones(len(rows)), gradients(model, rows)
        )
    elif kind == "torch":
        torch = pytest.importorskip("torch")
        given = lambda model, rows: torch.tensor(  # noqa: E731
            gradients(model, rows), requires_grad=True
        )
    else:
        given = gradients
        fit = lambda w: (w[:, None] * x).sum(axis=0) / w.sum()  # noqa: E731
        other = {"fit_weights": True}
    result = sever(fit, given, 300, contamination=0.1, **other)
    assert not result.support[270:].any()
    assert result.support[:270].all()


def test_ties_do_not_follow_the_order_and_a_block_of_equal_scores_is_not_dropped_whole() -> None:
    x = np.r_[np.zeros(200), np.ones(200)][:, None]
    fit, gradients = location(x)
    kept = sever(fit, gradients, 400, contamination=0.1, rounds=1, readmit=False).support
    assert int((~kept).sum()) == 30  # ceil(.075 * 400), of 400 equal scores
    assert 0 < int((~kept)[:200].sum()) < 30
    again = sever(fit, gradients, 400, contamination=0.1, rounds=1, readmit=False).support
    assert (kept == again).all()


def test_nothing_left_contamination_zero_and_callback() -> None:
    x = np.ones((20, 3))
    fit, gradients = location(x)
    assert sever(fit, gradients, 20, contamination=0.2).stop_reason == "nothing_left"
    plain = sever(fit, gradients, 20, contamination=0.0)
    assert plain.support.all()
    assert plain.stop_reason == "contamination"
    x = poisoned()
    fit, gradients = location(x)
    seen: list[SeverRound] = []
    stopped = sever(
        fit,
        gradients,
        300,
        contamination=0.1,
        callback=lambda entry: seen.append(entry) or len(seen) == 2,
    )
    assert stopped.stop_reason == "callback"
    assert len(stopped.history) == len(seen) == 2
    np.testing.assert_allclose(stopped.model, x[stopped.support].mean(axis=0))


def test_classes_are_filtered_one_by_one() -> None:
    x = poisoned(400, 40)
    labels = np.arange(400) % 2
    fit, gradients = location(x)
    result = sever(
        fit, gradients, 400, contamination=0.1, rounds=1, per_class=labels, readmit=False
    )
    assert [int((~result.support)[labels == c].sum()) for c in (0, 1)] == [15, 15]


def test_bad_input() -> None:
    x = poisoned()
    fit, gradients = location(x)
    for contamination in (0.5, -0.1, np.nan):
        with pytest.raises(ValueError, match="contamination"):
            sever(fit, gradients, 300, contamination=contamination)
    with pytest.raises(ValueError, match="rule"):
        sever(fit, gradients, 300, contamination=0.1, rule="best")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="fraction"):
        sever(fit, gradients, 300, contamination=0.1, fraction=1.0)
    with pytest.raises(ValueError, match="per_class"):
        sever(fit, gradients, 300, contamination=0.1, per_class=np.zeros(3))
    labels = np.repeat([3, 7], [298, 2])
    with pytest.raises(ValueError, match="class 7 would lose all"):
        sever(fit, gradients, 300, contamination=0.1, per_class=labels, fraction=0.9)
    with pytest.raises(ValueError, match="one row for each of 300"):
        sever(fit, lambda m, rows: x[:5], 300, contamination=0.1)

    def spoiled(model: Any, rows: Any) -> Any:
        table = gradients(model, rows).copy()
        table[17, 2] = np.nan
        return table

    X = np.ones((300, 60))
    X[17, 2] = np.inf
    for broken in (X, scipy.sparse.csr_matrix(X)):
        with pytest.raises(ValueError, match="row 17"):
            spectrum(OuterGradients(np.arange(300.0), broken))
    with pytest.raises(ValueError, match="row 17"):
        sever(fit, spoiled, 300, contamination=0.1)
    with pytest.raises(ValueError, match="row 1"):
        OuterGradients(np.array([1.0, np.inf]), np.ones((2, 3)))
    with pytest.raises(TypeError, match="rule 'filter' needs an array"):
        sever(
            fit,
            lambda m, rows: aslinearoperator(x[rows]),
            300,
            contamination=0.1,
            rule="filter",
        )


def test_an_exception_in_fit_passes() -> None:
    x = poisoned()
    calls = []

    def fit(rows: Any) -> Any:
        calls.append(len(rows))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return x[rows].mean(axis=0)

    with pytest.raises(KeyboardInterrupt):
        sever(fit, location(x)[1], 300, contamination=0.1)


@pytest.mark.parametrize(
    ("loss", "derivative"),
    [
        (lambda z, y: (z - y) ** 2 / 2, losses.squared),
        (lambda z, y: np.maximum(0, 1 - y * z), losses.hinge),
        (lambda z, y: np.maximum(0, 1 - y * z) ** 2, losses.squared_hinge),
        (lambda z, y: np.logaddexp(0, -y * z), losses.logistic),
        (
            lambda z, y: np.where(y * z < -1, -4 * y * z, np.maximum(0, 1 - y * z) ** 2),
            losses.modified_huber,
        ),
        (
            lambda z, y: np.where(abs(z - y) < 1, (z - y) ** 2 / 2, abs(z - y) - 0.5),
            lambda z, y: losses.huber(z, y, 1.0),
        ),
    ],
)
def test_derivatives_equal_finite_differences(loss: Any, derivative: Any) -> None:
    z = np.random.default_rng(0).normal(scale=2, size=200)
    y = np.where(np.arange(200) % 2, 1.0, -1.0)
    h = 1e-6
    expected = (loss(z + h, y) - loss(z - h, y)) / (2 * h)
    np.testing.assert_allclose(derivative(z, y), expected, atol=1e-6)


def test_multinomial_derivative() -> None:
    z = np.random.default_rng(0).normal(size=(20, 4))
    labels = np.arange(20) % 4
    h = 1e-6

    def loss(z: Any) -> Any:
        return np.log(np.exp(z).sum(axis=1)) - z[np.arange(20), labels]

    found = losses.multinomial(z, labels)
    for j in range(4):
        step = h * (np.arange(4) == j)
        np.testing.assert_allclose(
            found[:, j], (loss(z + step) - loss(z - step)) / (2 * h), atol=1e-8
        )


def test_the_filter_drops_no_more_than_the_contamination_a_round() -> None:
    """What heavy tails look like to it is not poison."""
    rng = np.random.default_rng(5)
    x = rng.standard_t(2.0, size=(300, 5))
    fit, gradients = location(x)
    found = sever(fit, gradients, 300, contamination=0.1, rounds=2, rule="filter", readmit=False)
    assert found.support.sum() >= 300 - 30 - 27


def test_a_learner_may_write_to_its_indices() -> None:
    x = poisoned()

    def fit(rows: Any) -> Any:
        mean = x[rows].mean(axis=0)
        rows[:] = 0
        return mean

    found = sever(fit, location(x)[1], len(x), contamination=0.1)
    assert not found.support[-30:].any()
    assert found.support.sum() == 270


def test_huge_gradients_and_lists() -> None:
    x = poisoned()
    for scale in (1e200, 1.0):
        found = sever(
            location(x)[0],
            lambda mean, rows, scale=scale: (scale * (mean - x[rows])).tolist(),
            len(x),
            contamination=0.1,
        )
        assert not found.support[-30:].any()
