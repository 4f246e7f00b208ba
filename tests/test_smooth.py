"""The smoothed classifier: certificates, predictions, packing, refusals.

One file, past the usual 400 lines: one class, and every test shares its classifiers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special, stats

import tamis
from tamis.smoothing import (
    ABSTAIN,
    Certificates,
    Smooth,
    Stream,
    conclude,
    image_id,
    samples_needed,
)

Batch = NDArray[np.float32]
SHAPE = (3, 3, 5)  # 45 elements: no multiple of the 4 that one Philox block gives


def linear(classes: int = 5, scale: float = 1.0) -> Callable[[Batch], Batch]:
    """Random linear classifier; row sums are formed row by row, so rows never influence another."""
    weights = scale * np.random.default_rng(7).standard_normal((classes, 45)).astype(np.float32)

    def classify(batch: Batch) -> Batch:
        flat = batch.reshape(len(batch), 1, -1)
        return (flat * weights).sum(axis=2, dtype=np.float32)

    return classify


def half_space(direction: NDArray[np.float64], offset: float) -> Callable[[Batch], Batch]:
    """Class 1 where direction . x > offset: the smoothed margin is known exactly."""

    def classify(batch: Batch) -> Batch:
        score = batch.reshape(len(batch), -1).astype(np.float64) @ direction - offset
        return np.stack([-score, score], axis=1).astype(np.float32)

    return classify


def images(count: int, seed: int = 1) -> Batch:
    return np.random.default_rng(seed).random((count, *SHAPE)).astype(np.float32)


def assert_same(a: Certificates, b: Certificates) -> None:
    """Equal to the bit, time aside."""
    for name in ("prediction", "radius", "p_lower", "p_upper", "top_class", "counts"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    np.testing.assert_array_equal(a.selection_counts, b.selection_counts)
    np.testing.assert_array_equal(a.samples, b.samples)


# --- exactness ------------------------------------------------------------------------------------


def test_certify_is_cohens_procedure_done_by_hand() -> None:
    """Oracle: [Cohen19] Certify written out with NumPy and SciPy on the documented noise."""
    classify = linear()
    smooth = Smooth(classify, 5, 0.3, seed=11)
    n0, n, alpha = 31, 1023, 0.01
    for x in images(5):

        def votes(stream: Stream, count: int, x: Batch = x) -> NDArray[np.int64]:
            noisy = tamis.gaussian_noise(
                x, count, 0.3, seed=11, image=image_id(x), stream=int(stream)
            )
            return np.bincount(classify(noisy).argmax(axis=1), minlength=5)

        selection, counts = votes(Stream.SELECTION, n0), votes(Stream.ESTIMATION, n)
        top = int(selection.argmax())
        k = int(counts[top])
        p_lower = float(special.betaincinv(k, n - k + 1, alpha)) if k else 0.0
        expected = (top, 0.3 * special.ndtri(p_lower)) if p_lower >= 0.5 else (ABSTAIN, 0.0)

        prediction, radius = smooth.certify(x, n0, n, alpha, batch_size=100)
        assert type(prediction) is int
        assert type(radius) is float
        assert prediction == expected[0]
        assert radius == pytest.approx(expected[1], rel=1e-9)
        (row,) = smooth.certify_iter([x], n0, n, alpha, batch_size=100)
        np.testing.assert_array_equal(row.selection_counts, selection)
        np.testing.assert_array_equal(row.counts, counts)
        assert (row.n0, row.n, row.top_class) == (n0, n, top)
        assert row.p_lower == pytest.approx(p_lower, rel=1e-11)
        assert row.p_upper == 1.0 - row.p_lower
        assert row.abstained == (prediction == ABSTAIN)
        assert row.seconds > 0.0


def test_predict_is_cohens_procedure_done_by_hand() -> None:
    """Oracle: [Cohen19] Predict with scipy.stats.binomtest; n small enough that some abstain."""
    classify = linear()
    smooth = Smooth(classify, 5, 0.5, seed=3)
    X = images(20)
    expected = []
    for x in X:
        noisy = tamis.gaussian_noise(
            x, 33, 0.5, seed=3, image=image_id(x), stream=int(Stream.PREDICTION)
        )
        counts = np.bincount(classify(noisy).argmax(axis=1), minlength=5)
        first, second = np.argsort(-counts, kind="stable")[:2]
        test = stats.binomtest(int(counts[first]), int(counts[first] + counts[second]), 0.5)
        expected.append(int(first) if test.pvalue <= 0.05 else ABSTAIN)
    assert ABSTAIN in expected
    assert max(expected) > ABSTAIN
    np.testing.assert_array_equal(smooth.predict_batch(X, 33, 0.05, batch_size=100), expected)
    assert [smooth.predict(x, 33, 0.05, batch_size=7) for x in X] == expected


def test_radius_is_below_the_true_margin_as_often_as_promised() -> None:
    """Oracle: for a half-space the smoothed margin is the distance to the plane ([Cohen19] App. B).

    A certificate errs with probability at most alpha = 0.05, so errors among m = 300 images exceed
    q with probability at most 1e-6 for q the binomial quantile. Far more slack than alpha promises
    would show too: the bound is exact, so with 1e-6 at least one radius in 300 is above the margin
    (0.95 ** 300 = 2e-7).
    """
    rng = np.random.default_rng(5)
    direction = rng.standard_normal(45)
    direction /= np.linalg.norm(direction)
    X = images(300)
    scores = X.reshape(300, -1) @ direction
    offset = float(np.median(scores))
    smooth = Smooth(half_space(direction, offset), 2, 0.5, seed=17)
    result = smooth.certify_batch(X, n0=50, n=2000, alpha=0.05, batch_size=5000)
    margin = np.where(result.prediction == 1, scores - offset, offset - scores)
    certified = result.prediction != ABSTAIN
    wrong = certified & (result.radius > margin)
    assert wrong.sum() <= stats.binom.isf(1e-6, 300, 0.05)
    assert wrong.sum() >= 1
    # Counts follow Binomial(n, Phi(score / sigma)); |z| of the sum stays below the 1e-6 quantile.
    p = stats.norm.cdf((scores - offset) / 0.5)
    z = (result.counts[:, 1].sum() - 2000 * p.sum()) / np.sqrt(2000 * (p * (1 - p)).sum())
    assert abs(z) < stats.norm.isf(0.5e-6)


def test_selection_and_estimation_are_independent() -> None:
    """Correlation of the two counts over 400 images at equal n is 0; |r| sqrt(m) < 4.9 (1e-6)."""
    direction = np.zeros(45)
    direction[0] = 1.0
    X = np.full((400, *SHAPE), 0.5, dtype=np.float32)
    smooth = Smooth(half_space(direction, 0.5), 2, 0.5)
    result = smooth.certify_batch(X, 100, 100, 0.01, 10_000, image_ids=range(400))
    r = np.corrcoef(result.selection_counts[:, 1], result.counts[:, 1])[0, 1]
    assert abs(r) * 20.0 < 4.9


# --- what results must not depend on --------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 7, 33, 130, 131, 1000])
@pytest.mark.parametrize("num_threads", [1, 3])
def test_batch_size_and_threads_do_not_matter(batch_size: int, num_threads: int) -> None:
    X = images(9)
    reference = Smooth(linear(), 5, 0.3).certify_batch(X, 31, 100, 0.01, batch_size=131)
    smooth = Smooth(linear(), 5, 0.3, num_threads=num_threads)
    assert_same(smooth.certify_batch(X, 31, 100, 0.01, batch_size), reference)


def test_order_company_and_method_do_not_matter() -> None:
    X = images(9)
    smooth = Smooth(linear(), 5, 0.3)
    result = smooth.certify_batch(X, 31, 100, 0.01, 64)
    assert len(set(result.prediction.tolist())) > 1  # else the comparison below says little
    order = np.random.default_rng(0).permutation(9)
    shuffled = smooth.certify_batch(X[order], 31, 100, 0.01, 64)
    np.testing.assert_array_equal(shuffled.counts, result.counts[order])
    np.testing.assert_array_equal(shuffled.radius, result.radius[order])
    singles = [smooth.certify(x, 31, 100, 0.01, 64) for x in X]
    assert singles == list(zip(result.prediction, result.radius, strict=True))
    rows = list(smooth.certify_iter((x for x in X), 31, 100, 0.01, 64))
    assert_same(Certificates.stack(rows, 5), result)


def test_seed_and_image_ids_do_matter() -> None:
    x = images(1)
    smooth = Smooth(linear(), 5, 0.3)
    base = smooth.certify_batch(x, 100, 1000)
    assert_same(smooth.certify_batch(x, 100, 1000), base)
    other = Smooth(linear(), 5, 0.3, seed=1).certify_batch(x, 100, 1000)
    assert (other.counts != base.counts).any()
    assert_same(smooth.certify_batch(x, 100, 1000, image_ids=[image_id(x[0])]), base)
    assert (smooth.certify_batch(x, 100, 1000, image_ids=[5]).counts != base.counts).any()
    expected = smooth.certify_batch(x, 100, 1000, image_ids=[5]).radius[0]
    assert smooth.certify(x[0], 100, 1000, image_id=5)[1] == expected


def test_torch_and_numpy_give_the_same_image_number_and_counts() -> None:
    """The torch module does the same float32 arithmetic as the NumPy one: an exact comparison."""
    torch = pytest.importorskip("torch")

    class FirstElements(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, batch: Any) -> Any:
            return batch.flatten(1)[:, :5]

    X = images(4)
    for x in (*X, X[0][:, ::2], X[0, 0, 0, :0], -X[1]):
        assert image_id(torch.from_numpy(np.ascontiguousarray(x))) == image_id(x)
        assert 0 <= image_id(x) < 2**32
    by_numpy = Smooth(lambda b: b.reshape(len(b), -1)[:, :5], 5, 0.3)
    by_torch = Smooth(FirstElements(), 5, 0.3)
    result = by_numpy.certify_batch(X, 31, 100, 0.01, 50)
    assert_same(by_torch.certify_batch(X, 31, 100, 0.01, 50), result)
    assert_same(by_torch.certify_batch(torch.from_numpy(X), 31, 100, 0.01, 50), result)
    assert_same(by_numpy.certify_batch(torch.from_numpy(X), 31, 100, 0.01, 50), result)


def test_image_numbers_spread() -> None:
    """One changed bit changes the number; 20,000 images collide less than 1e-6 allows.

    Expected pairs 20000 ** 2 / 2 / 2 ** 32 = 0.047; 5 or more have a probability of 2e-9.
    """
    base = images(1)[0]
    seen = {image_id(base)}
    for e in range(base.size):
        for bit in (0, 7, 22, 31):
            words = base.copy().reshape(-1)
            words.view(np.uint32)[e] ^= np.uint32(1 << bit)
            seen.add(image_id(words.reshape(base.shape)))
    assert len(seen) == 1 + 4 * base.size
    many = np.random.default_rng(2).random((20_000, 7)).astype(np.float32)
    assert len({image_id(x) for x in many}) > 20_000 - 5
    assert image_id(base.reshape(-1)) == image_id(base)
    assert image_id(np.zeros(3, np.float32)) != image_id(np.zeros(4, np.float32))
    with pytest.raises(TypeError, match="image: expected float32, got float64"):
        image_id(base.astype(np.float64))


def test_input_precision_follows_float32() -> None:
    """float64 and float16 images are certified as the float32 images they are rounded to."""
    X = images(3).astype(np.float16)
    smooth = Smooth(linear(), 5, 0.3)
    reference = smooth.certify_batch(X.astype(np.float32), 31, 100, 0.01)
    assert_same(smooth.certify_batch(X, 31, 100, 0.01), reference)
    assert_same(smooth.certify_batch(X.astype(np.float64), 31, 100, 0.01), reference)


# --- packing --------------------------------------------------------------------------------------


def test_batches_are_full_and_share_one_buffer() -> None:
    """9 images of 131 samples in batches of 100: 11 full ones and one of 79, in the same memory."""
    sizes, places = [], set()
    classify = linear()

    def spy(batch: Batch) -> Batch:
        sizes.append(len(batch))
        places.add(batch.__array_interface__["data"][0])
        batch_logits = classify(batch)
        batch[:] = np.nan  # batches are scratch: what is left in them must not matter
        return batch_logits

    progress: list[int] = []
    smooth = Smooth(spy, 5, 0.3)
    rows = list(smooth.certify_iter(images(9), 31, 100, 0.01, 100, progress=progress.append))
    assert sizes == [100] * 11 + [79]
    assert progress == sizes
    assert len(places) == 1
    reference = Smooth(classify, 5, 0.3).certify_batch(images(9), 31, 100, 0.01, 10_000)
    assert_same(Certificates.stack(rows, 5), reference)


def test_images_are_fetched_when_needed_and_yielded_when_done() -> None:
    """131 samples an image, batches of 100: certificate k is out before image k + 3 is in."""
    fetched = 0

    def stream() -> Any:
        nonlocal fetched
        for x in images(9):
            fetched += 1
            yield x

    for done, _ in enumerate(Smooth(linear(), 5, 0.3).certify_iter(stream(), 31, 100, 0.01, 100)):
        assert done + 1 <= fetched <= done + 3


@pytest.mark.parametrize("batch_size", [10, 100, 131, 500])
@pytest.mark.parametrize("first", [0, 1, 4, 8, 9, 12])
def test_resuming_repeats_the_very_same_batches(batch_size: int, first: int) -> None:
    X = images(9)
    seen: list[bytes] = []
    classify = linear()

    def spy(batch: Batch) -> Batch:
        seen.append(batch.tobytes())
        return classify(batch)

    smooth = Smooth(spy, 5, 0.3)
    rows = list(smooth.certify_iter(X, 31, 100, 0.01, batch_size))
    whole, progress = seen[:], []
    for source in (X, iter(X)):
        seen.clear()
        progress.clear()
        rest = list(
            smooth.certify_iter(
                source, 31, 100, 0.01, batch_size, first=first, progress=progress.append
            )
        )
        expected = Certificates.stack(rows[first:], 5)
        assert_same(Certificates.stack(rest, 5), expected)
        assert sum(progress) == 131 * len(rest)
        assert seen == whole[len(whole) - len(seen) :]
        assert len(seen) * batch_size < 131 * len(rest) + 2 * batch_size


def test_normalisation_and_denoiser_come_after_the_noise() -> None:
    """Oracle: the noisy batch rebuilt with gaussian_noise, then the formula in NumPy."""
    seen: list[Batch] = []

    def spy(batch: Batch) -> Batch:
        seen.append(batch.copy())
        return batch.reshape(len(batch), -1)[:, :5].copy()

    x = images(1)[0]
    mean, std = np.float32([0.4, 0.5, 0.6]), np.float32([0.2, 0.3, 0.25])
    smooth = Smooth(
        spy, 5, 0.3, mean=mean.tolist(), std=std.tolist(), denoiser=lambda batch: 0.5 * batch
    )
    smooth.certify(x, 7, 20, 0.01, batch_size=27)
    noisy = np.concatenate(
        [
            tamis.gaussian_noise(x, n, 0.3, seed=0, image=image_id(x), stream=stream)
            for n, stream in ((7, 0), (20, 1))
        ]
    )
    expected = (np.float32(0.5) * noisy - mean[:, None, None]) / std[:, None, None]
    np.testing.assert_array_equal(np.concatenate(seen), expected)


@pytest.mark.parametrize("mean", [None, 0.45, (0.4, 0.5, 0.6)])
def test_normalisation_in_the_noise_kernel(mean: Any) -> None:
    """What the classifier sees is what gaussian_noise makes of mean and std, across two images."""
    seen: list[Batch] = []

    def spy(batch: Batch) -> Batch:
        seen.append(batch.copy())
        return batch.reshape(len(batch), -1)[:, :5].copy()

    X, std = images(2), (0.2, 0.3, 0.25)
    Smooth(spy, 5, 0.3, mean=mean, std=std).certify_batch(X, 7, 20, 0.01, batch_size=17)
    parts: list[Batch] = [
        tamis.gaussian_noise(
            x, n, 0.3, seed=0, image=image_id(x), stream=stream, mean=mean, std=std
        )
        for x in X
        for n, stream in ((7, 0), (20, 1))
    ]
    np.testing.assert_array_equal(np.concatenate(seen), np.concatenate(parts))


def test_flat_images_with_one_number_an_element() -> None:
    X = images(2).reshape(2, 45)
    mean = np.linspace(0.2, 0.7, 45)
    smooth = Smooth(lambda batch: batch[:, :5].copy(), 5, 0.3, mean=mean.tolist(), std=0.5)
    counts = smooth.certify_batch(X, 7, 200, 0.01).counts
    for x, got in zip(X, counts, strict=True):
        noisy = tamis.gaussian_noise(x, 200, 0.3, seed=0, image=image_id(x), stream=1)
        votes = (noisy - np.float32(mean))[:, :5].argmax(axis=1)
        np.testing.assert_array_equal(got, np.bincount(votes, minlength=5))


def test_no_images() -> None:
    smooth = Smooth(linear(), 5, 0.3)
    result = smooth.certify_batch(np.zeros((0, *SHAPE), np.float32), 31, 100, 0.01)
    assert len(result) == 0
    assert result.counts.shape == (0, 5)
    assert result.radius.dtype == np.float64
    assert list(smooth.certify_iter(iter([]), 31, 100, 0.01)) == []
    predictions = smooth.predict_batch([], 100)
    assert (predictions.shape, predictions.dtype) == ((0,), np.int64)


# --- the two-sided bound --------------------------------------------------------------------------


def test_two_sided_bound_by_hand() -> None:
    """Oracle: the levels of the docstring, with scipy.special."""
    counts = np.array([700, 250, 30, 20])
    n, alpha, sigma = 1000, 0.01, 0.5
    low = special.betaincinv(700, n - 700 + 1, alpha / 2)
    high = special.betaincinv(250 + 1, n - 250, 1 - alpha / 6)
    got = conclude(0, counts, sigma=sigma, alpha=alpha, bound="two-sided")
    assert got.prediction == 0
    assert got.p_lower == pytest.approx(low, rel=1e-9)
    assert got.p_upper == pytest.approx(high, rel=1e-9)
    expected = sigma / 2 * (special.ndtri(low) - special.ndtri(high))
    assert got.radius == pytest.approx(expected, rel=1e-9)
    # A rest spread over many classes certifies below one half, where one-sided abstains ...
    spread = np.array([450] + [55] * 10)
    assert conclude(0, spread, sigma=1, alpha=alpha, bound="one-sided").prediction == ABSTAIN
    assert conclude(0, spread, sigma=1, alpha=alpha, bound="two-sided").radius > 0.5
    # ... a rest in one class is bounded by 1 - p_lower, and never worse.
    pair = conclude(0, np.array([700, 300]), sigma=1, alpha=alpha, bound="two-sided")
    assert pair.p_upper <= 1.0 - pair.p_lower
    # The class is the one that was selected, even if another got more votes.
    assert conclude(1, counts, sigma=1, alpha=alpha, bound="two-sided").prediction == ABSTAIN
    assert conclude(3, np.array([5, 0, 0, 0]), sigma=1, alpha=0.1, bound="one-sided").p_lower == 0


def test_two_sided_certificates_err_no_more_than_promised() -> None:
    """Oracle: class probabilities and the true radius of three intervals of a line, by Phi.

    Class 1 is a < t < b for one coordinate t. [Cohen19] Theorem 1 certifies
    sigma / 2 (PhiInv(pA) - PhiInv(pB)) for the true probabilities; a certificate above that, or for
    a class that is not the top one, is an error, at most alpha = 0.05 of them. 1e-6 quantile.
    """
    sigma, m = 0.25, 300

    def bands(batch: Batch) -> Batch:
        t = batch.reshape(len(batch), -1)[:, 0]
        return np.stack([0.35 - t, 0.15 - np.abs(t - 0.5), t - 0.65], axis=1)

    X = images(m)
    t = X.reshape(m, -1)[:, 0].astype(np.float64)
    low, high = stats.norm.cdf((0.35 - t) / sigma), stats.norm.sf((0.65 - t) / sigma)
    p = np.stack([low, 1 - low - high, high], axis=1)
    ordered = np.sort(p, axis=1)
    true_radius = sigma / 2 * (stats.norm.ppf(ordered[:, 2]) - stats.norm.ppf(ordered[:, 1]))
    allowed = stats.binom.isf(1e-6, m, 0.05)
    radii = {}
    for bound in ("one-sided", "two-sided"):
        smooth = Smooth(bands, 3, sigma, bound=bound, seed=23)  # type: ignore[arg-type]
        result = smooth.certify_batch(X, 50, 1000, 0.05, 5000)
        certified = result.prediction != ABSTAIN
        wrong = (result.prediction != p.argmax(axis=1)) | (result.radius > true_radius)
        assert (certified & wrong).sum() <= allowed
        radii[bound] = result.radius
        assert (result.p_upper + result.p_lower <= 1.0 + 1e-15).all()
    assert ((radii["two-sided"] > 0) & (radii["one-sided"] == 0)).sum() > 10


def test_abstention_follows_the_published_rule() -> None:
    """Abstain if p_lower < 1/2; p_lower = 1/2 exactly would certify radius 0."""
    below = conclude(0, np.array([55, 45]), sigma=1, alpha=0.1, bound="one-sided")
    assert below.prediction == ABSTAIN
    assert below.radius == 0.0
    assert 0.4 < below.p_lower < 0.5
    above = conclude(0, np.array([65, 35]), sigma=1, alpha=0.1, bound="one-sided")
    assert above.prediction == 0
    assert above.radius == pytest.approx(special.ndtri(above.p_lower), rel=1e-9)


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alpha", "bound", "least"),
    [
        (0.001, "one-sided", 10),
        (0.001, "two-sided", 11),
        (0.05, "one-sided", 5),
        (0.6, "one-sided", 1),
    ],
)
def test_refuses_n_that_cannot_certify(alpha: float, bound: Any, least: int) -> None:
    """Oracle: alpha ** (1 / n), the best possible p_lower, against 1/2."""
    assert samples_needed(alpha, bound) == least
    level = alpha if bound == "one-sided" else alpha / 2
    assert level ** (1 / least) >= 0.5
    assert least == 1 or level ** (1 / (least - 1)) < 0.5
    called = []

    def never(batch: Batch) -> Batch:
        called.append(batch)
        return np.tile(np.float32([1, 0]), (len(batch), 1))

    smooth = Smooth(never, 2, 0.5, bound=bound)
    if least > 1:
        with pytest.raises(ValueError, match=f"n: expected at least {least} samples"):
            smooth.certify(images(1)[0], 10, least - 1, alpha)
        with pytest.raises(ValueError, match="no certificate could exist"):
            smooth.certify_iter(images(1), 10, least - 1, alpha)  # at the call, not at next()
    assert not called
    prediction, radius = smooth.certify(images(1)[0], 10, least, alpha)
    assert prediction == 0
    assert radius >= 0.0


@pytest.mark.parametrize(
    ("alpha", "bound", "error", "match"),
    [
        (0.001, "onesided", ValueError, "^bound: expected one of .*got 'onesided'"),
        (0.001, "x", ValueError, "^bound: expected one of"),
        (0, "one-sided", ValueError, "^alpha: expected a probability strictly between 0 and 1"),
        (1.0, "two-sided", ValueError, "^alpha: expected a probability"),
        (2, "one-sided", ValueError, "^alpha: expected a probability"),
        (float("nan"), "one-sided", ValueError, "^alpha: expected a probability"),
        ("0.1", "one-sided", TypeError, "^alpha: expected a number, got str"),
    ],
)
def test_conclude_and_samples_needed_refuse(
    alpha: Any, bound: Any, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        samples_needed(alpha, bound)
    with pytest.raises(error, match=match):
        conclude(0, np.array([9, 1]), sigma=1.0, alpha=alpha, bound=bound)


@pytest.mark.parametrize("sigma", [0.1, 0.12, 0.25, 0.7])
def test_radius_is_not_overstated_where_float32_rounds_sigma(sigma: float) -> None:
    """Oracle: certified_radius with the noise's own standard deviation, float32(sigma), and with
    sigma: the radius is the smaller one. float32 rounds 0.1 up and 0.12 and 0.7 down."""
    smooth = Smooth(linear(), 5, sigma)
    got = smooth.certify_batch(images(9), 31, 1000, 0.1)
    assert smooth.sigma == sigma
    as_asked = tamis.certified_radius(got.p_lower, sigma)
    as_drawn = tamis.certified_radius(got.p_lower, float(np.float32(sigma)))
    np.testing.assert_array_equal(got.radius, np.minimum(as_asked, as_drawn))
    np.testing.assert_allclose(got.radius, as_asked, rtol=1e-7, atol=0)
    assert (got.radius > 0).any()


def test_predict_refuses_n_that_cannot_answer() -> None:
    smooth = Smooth(lambda b: np.tile(np.float32([1, 0]), (len(b), 1)), 2, 0.5)
    with pytest.raises(ValueError, match="n: expected at least 11 samples"):
        smooth.predict(images(1)[0], 10, 0.001)
    assert smooth.predict(images(1)[0], 11, 0.001) == 0


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"sigma": 0.0}, ValueError, "sigma: expected a positive finite number"),
        ({"sigma": -0.5}, ValueError, "sigma: expected a positive"),
        ({"sigma": float("nan")}, ValueError, "sigma: expected a positive"),
        ({"sigma": float("inf")}, ValueError, "sigma: expected a positive"),
        ({"sigma": 1e-40}, ValueError, "sigma: expected .* normal in float32"),
        ({"sigma": 1e39}, ValueError, "sigma: expected .* normal in float32"),
        ({"sigma": "0.5"}, TypeError, "sigma: expected a number, got str"),
        ({"num_classes": 1}, ValueError, "num_classes: expected"),
        ({"num_classes": 5.0}, TypeError, "num_classes: expected an integer"),
        ({"seed": -1}, ValueError, "seed: expected"),
        ({"seed": 2**64}, ValueError, "seed: expected"),
        ({"bound": "three-sided"}, ValueError, "bound: expected one of"),
        ({"input_range": (1, 0)}, ValueError, "input_range: expected"),
        ({"input_range": 3}, TypeError, r"input_range: expected a pair \(low, high\) .*got 3"),
        ({"input_range": (0, 1, 2)}, TypeError, "input_range: expected a pair"),
        ({"input_range": (0, "1")}, TypeError, "input_range: expected a number, got str"),
        ({"num_threads": 0}, ValueError, "num_threads: expected"),
    ],
)
def test_constructor_refuses(change: dict[str, Any], error: type[Exception], match: str) -> None:
    arguments = {"base_classifier": linear(), "num_classes": 5, "sigma": 0.5, **change}
    with pytest.raises(error, match=match):
        Smooth(**arguments)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"n0": 0}, ValueError, "n0: expected"),
        ({"n": 0}, ValueError, "n: expected"),
        ({"n": 100.0}, TypeError, "n: expected an integer"),
        ({"n": 2**32 + 1}, ValueError, "n: expected"),
        ({"alpha": 0.0}, ValueError, "alpha: expected a probability"),
        ({"alpha": 1.0}, ValueError, "alpha: expected a probability"),
        ({"alpha": "0.1"}, TypeError, "alpha: expected a number"),
        ({"batch_size": 0}, ValueError, "batch_size: expected"),
        ({"image_ids": [2**32, 0]}, ValueError, r"image_ids\[0\]: expected"),
        ({"image_ids": [1]}, ValueError, "image_ids: expected 2 numbers"),
        ({"image_ids": iter([1])}, ValueError, "image_ids: expected one number per image"),
    ],
)
def test_certify_refuses(change: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        Smooth(linear(), 5, 0.5).certify_batch(images(2), **{"n": 100, **change})


@pytest.mark.parametrize(
    ("bad", "error", "match"),
    [
        (lambda x: (255 * x).astype(np.uint8), TypeError, "got uint8; divide by 255"),
        (lambda x: (255 * x).astype(np.int64), TypeError, "floating-point numbers, .*got int64"),
        (lambda x: x > 0.5, TypeError, "got bool"),
        (lambda x: 255 * x, ValueError, r"expected values in \[0.0, 1.0\], got .*divide by 255"),
        (lambda x: x - 0.5, ValueError, r"expected values in \[0.0, 1.0\], got -0.4.* to 0.4"),
        (lambda x: np.where(x > 0.9, np.nan, x), ValueError, "expected finite values, got nan"),
        (lambda x: np.where(x > 0.9, np.inf, x), ValueError, "expected finite values, got .* inf"),
        (lambda x: x[:, :2], ValueError, r"expected shape \(3, 3, 5\) like the images before"),
        (lambda x: x[:0], ValueError, "expected an image, got no elements"),
    ],
)
def test_refuses_images_by_position(
    bad: Callable[[Batch], Any], error: type[Exception], match: str
) -> None:
    """Whatever is wrong with image 2 is said of image 2, and the first two are certified."""
    smooth = Smooth(linear(), 5, 0.5)
    X: list[Any] = list(images(4))
    expected = smooth.certify_batch(X[:2], 31, 100, 0.01, 10)
    X[2] = bad(X[2])
    rows = smooth.certify_iter(X, 31, 100, 0.01, 10)
    got = [next(rows)]
    with pytest.raises(error, match=f"^image 2: .*{match}"):
        got.extend(rows)
    assert_same(Certificates.stack(got, 5), smooth.certify_batch(X[: len(got)], 31, 100, 0.01, 10))
    assert_same(smooth.certify_batch(X[:2], 31, 100, 0.01, 10), expected)
    if X[2].ndim and "like the images before" not in match:
        with pytest.raises(error, match=f"^x: .*{match}"):
            smooth.certify(X[2], 31, 100, 0.01)


def test_input_range_can_be_widened() -> None:
    x = 4.0 * images(1)[0] - 2.0
    with pytest.raises(ValueError, match="input_range=None allows any values"):
        Smooth(linear(), 5, 0.5).certify(x, 31, 100, 0.01)
    free = Smooth(linear(), 5, 0.5, input_range=None).certify(x, 31, 100, 0.01)
    assert Smooth(linear(), 5, 0.5, input_range=(-2, 2)).certify(x, 31, 100, 0.01) == free


def test_wrong_number_of_classes() -> None:
    with pytest.raises(ValueError, match=r"logits of shape \(131, 4\).*got \(131, 5\)"):
        Smooth(linear(), 4, 0.5).certify(images(1)[0], 31, 100, 0.01)


def test_nan_logits_name_image_and_sample_and_how_to_repeat_it() -> None:
    """The 400th row is the one that fails: image 3 (131 samples each), its 7th, of selection."""
    classify = linear()
    seen: list[Batch] = []

    def broken(batch: Batch) -> Batch:
        logits = classify(batch)
        at = 399 - sum(map(len, seen))
        if 0 <= at < len(logits):
            logits[at, 2] = np.nan
        seen.append(batch.copy())
        return logits

    X = images(5)
    smooth = Smooth(broken, 5, 0.5, seed=9)
    rows = smooth.certify_iter(X, 31, 100, 0.01, batch_size=50)
    with pytest.raises(ValueError, match=r"NaN for image 3, selection sample 6;") as caught:
        list(rows)
    assert isinstance(caught.value.__cause__, tamis.NaNRowError)
    recipe = str(caught.value).partition("given is ")[2]
    assert recipe.startswith("tamis.gaussian_noise(x, 1, 0.5, seed=9, image=")
    repeated = eval(recipe, {"tamis": tamis, "x": X[3]})
    np.testing.assert_array_equal(repeated[0], np.concatenate(seen)[399])
    # Estimation samples count from 0 again, and the object still works.
    seen[:] = [np.empty((325, *SHAPE), np.float32)]
    with pytest.raises(ValueError, match="NaN for x, estimation sample 43;"):
        smooth.certify(X[0], 31, 100, 0.01, batch_size=50)
    seen[:] = [np.empty((10**6, 0), np.float32)]
    assert smooth.certify(X[0], 31, 100, 0.01) == Smooth(classify, 5, 0.5, seed=9).certify(
        X[0], 31, 100, 0.01
    )


# --- use by several at once, and after trouble ----------------------------------------------------


def test_an_interrupted_call_leaves_the_object_usable() -> None:
    classify, calls = linear(), []

    def interrupted(batch: Batch) -> Batch:
        calls.append(0)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return classify(batch)

    smooth = Smooth(interrupted, 5, 0.3)
    with pytest.raises(KeyboardInterrupt):
        smooth.certify_batch(images(9), 31, 100, 0.01, 64)
    again = smooth.certify_batch(images(9), 31, 100, 0.01, 64)
    assert_same(again, Smooth(classify, 5, 0.3).certify_batch(images(9), 31, 100, 0.01, 64))


def test_two_iterators_of_one_object_do_not_mix() -> None:
    smooth = Smooth(linear(), 5, 0.3)
    X, Y = images(5), images(5, seed=2)
    pairs = list(
        zip(
            smooth.certify_iter(X, 31, 100, 0.01, 64),
            smooth.certify_iter(Y, 31, 100, 0.01, 50),
            strict=True,
        )
    )
    for k, Z in enumerate((X, Y)):
        expected = smooth.certify_batch(Z, 31, 100, 0.01)
        assert_same(Certificates.stack([pair[k] for pair in pairs], 5), expected)


def test_threads_may_share_one_object() -> None:
    smooth = Smooth(linear(), 5, 0.3)
    sets = [images(9, seed) for seed in range(4)]
    expected = [smooth.certify_batch(X, 31, 100, 0.01, 64) for X in sets]
    got: dict[int, Certificates] = {}

    def work(k: int) -> None:
        got[k] = smooth.certify_batch(sets[k], 31, 100, 0.01, 64)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(4):
        assert_same(got[k], expected[k])
