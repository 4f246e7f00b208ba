"""The smoothed classifier: certificates and predictions by Monte Carlo.

``sampling`` draws and counts, ``certificate`` concludes; here is what users call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tamis import _arrays, ops
from tamis.smoothing.certificate import (
    Bound,
    Certificate,
    Certificates,
    check_bound,
    check_level,
    conclude,
    samples_needed,
)
from tamis.smoothing.classifiers import as_classifier
from tamis.smoothing.identity import Stream
from tamis.smoothing.logs import ABSTAIN as _ABSTAIN
from tamis.smoothing.sampling import MAX_SAMPLES, Job, Plan, VoteSampler

__all__ = ["Smooth"]

_SMALLEST: Final = float(np.finfo(np.float32).tiny)  # that is normal
_LARGEST: Final = float(np.finfo(np.float32).max)


class Smooth:
    """A classifier smoothed with Gaussian noise: g(x) = argmax_c P(f(x + N(0, sigma^2 I)) = c).

    A drop-in for the class of the same name of [Cohen19]: the constructor's first three arguments,
    ``certify``, ``predict`` and ``ABSTAIN`` are the same. What differs is said in the notes.

    Parameters
    ----------
    base_classifier : torch module, ONNX file, onnxruntime session or callable
        f, mapping a batch (B, *shape) to logits (B, num_classes); see ``as_classifier``.
    num_classes : int
        Number of logits, at least 2.
    sigma : float
        Standard deviation of the noise in the units of the input (pixels in [0, 1]), positive, a
        normal number in float32 too (1.2e-38 to 3.4e38). The noise is added before `mean` and `std`
        are applied, and noisy pixels are not clipped.
    seed : int, default 0
        0 <= seed < 2**64. Same seed, same noise, bit for bit.
    mean, std : float or sequence of one float per channel, optional
        The classifier is given (x + noise - mean) / std.
    bound : {"one-sided", "two-sided"}, default "one-sided"
        How the error probability alpha is spent; see ``tamis.smoothing.certificate.conclude``.
    denoiser : optional
        Stands in front of the classifier, between the noise and `mean`; as `base_classifier`.
    input_range : (float, float) or None, default (0.0, 1.0)
        Images outside are refused. None allows any finite values.
    num_threads : int, optional
        Threads for the noise on the CPU; default as for ``tamis.gaussian_noise``.

    Raises
    ------
    TypeError, ValueError
        For arguments that cannot work; the message names the argument.

    Notes
    -----
    Source: Cohen, Rosenfeld and Kolter, "Certified adversarial robustness via randomized
    smoothing", ICML 2019, functions Certify and Predict of Section 3.2.

    Noise is counter-based and an image's counter is a hash of its pixels (``identity.image_id``
    says why that is sound; pass `image_id` or `image_ids` to choose it yourself). So results do not
    depend on batch size, threads, the order of the images, which method asked, or the device, as
    far as the classifier's answer for a row does not depend on the other rows of its batch: where a
    network rounds differently at different batch sizes, two logits that agree to the last bits can
    swap, and a vote with them. Calling a method twice gives the same answer twice: use another seed
    for independent repetitions.

    The noise has the standard deviation float32(sigma), which may be a little below `sigma`; radii
    are computed from the smaller of the two, so that rounding never overstates one, and are what
    ``tamis.certified_radius(p_lower, sigma)`` gives to a relative 1e-7.

    Pairs of normals are drawn with a radius of at most 6.66, which leaves out 2**-32 of the
    probability of a pair (3e-11 at each normal by itself). A noisy copy of d elements thereby
    differs from an exactly Gaussian one with probability at most d * 1.2e-10 (in total variation,
    the rounding to float32 aside): 4e-7 for 3 x 32 x 32, 2e-5 for 3 x 224 x 224. Certificates do
    not account for it. The smallest 1 - p_lower that alpha = 0.001 allows, where all votes agree,
    is 7e-5 for n = 1e5 and 7e-6 for n = 1e6: beside that it is negligible for small images, while
    for large ones and n = 1e6 it is not in the worst case.

    At most one batch of noisy copies exists at a time. Methods keep no state on the object, so it
    may be used from several threads (if the classifier may) and after any exception.

    Examples
    --------
    >>> import numpy as np
    >>> from tamis.smoothing import Smooth
    >>> def brightness(batch):
    ...     total = batch.reshape(len(batch), -1).sum(axis=1) - 4.0
    ...     return np.stack([-total, total], axis=1)
    >>> smooth = Smooth(brightness, num_classes=2, sigma=0.25)
    >>> x = np.full((1, 3, 3), 0.6, dtype=np.float32)
    >>> prediction, radius = smooth.certify(x, n0=10, n=1000, alpha=0.001, batch_size=500)
    >>> prediction, 0.3 < radius < (9 * 0.6 - 4) / 3  # the true margin
    (1, True)
    """

    ABSTAIN: Final = _ABSTAIN

    def __init__(
        self,
        base_classifier: Any,
        num_classes: int,
        sigma: float,
        *,
        seed: int = 0,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        bound: Bound = "one-sided",
        denoiser: Any = None,
        input_range: tuple[float, float] | None = (0.0, 1.0),
        num_threads: int | None = None,
    ) -> None:
        self.num_classes = _arrays.check_int(num_classes, "num_classes", 2)
        self.sigma = _arrays.check_real(sigma, "sigma")
        if not _SMALLEST <= _radius_sigma(self.sigma) <= _LARGEST:
            raise ValueError(
                f"sigma: expected a positive finite number, normal in float32 too (1.2e-38 to "
                f"3.4e38), got {sigma}"
            )
        self.seed = _arrays.check_int(seed, "seed", 0, 1 << 64)
        self.bound: Bound = check_bound(bound)
        if input_range is not None:
            try:
                low, high = input_range
            except (TypeError, ValueError):
                raise TypeError(
                    f"input_range: expected a pair (low, high) or None, got {input_range!r}"
                ) from None
            low, high = (_arrays.check_real(value, "input_range") for value in (low, high))
            if not low < high:
                raise ValueError(
                    f"input_range: expected (low, high) with low < high, got {input_range}"
                )
            input_range = (low, high)
        self.input_range = input_range
        if num_threads is not None:
            num_threads = _arrays.check_int(num_threads, "num_threads", 1)
        self.num_threads = num_threads
        self.classifier = as_classifier(base_classifier, mean=mean, std=std, denoiser=denoiser)
        known = self.classifier.num_classes
        if known is not None and known != self.num_classes:
            raise ValueError(
                f"num_classes: expected {known}, the classifier's outputs, got {num_classes}"
            )

    def certify(
        self,
        x: Any,
        n0: int = 100,
        n: int = 100_000,
        alpha: float = 0.001,
        batch_size: int = 1000,
        *,
        image_id: int | None = None,
    ) -> tuple[int, float]:
        """Class and certified l2 radius of one image.

        With probability at least 1 - alpha over the noise, the smoothed classifier gives the
        returned class to every input closer than `radius`, or ``ABSTAIN`` is returned.

        Parameters
        ----------
        x : NumPy array or torch tensor, floating point, shape of one image (no batch dimension)
        n0 : int
            Samples to select the candidate class.
        n : int
            Samples to estimate its probability, independent of the first.
        alpha : float
            Allowed probability of a wrong certificate, in (0, 1).
        batch_size : int
            Noisy copies given to the classifier at once.
        image_id : int, optional
            Number of the image in the noise counter, instead of the hash of its pixels.

        Returns
        -------
        (int, float)
            Class or ``ABSTAIN`` (-1), and the radius in input units (0.0 when abstained).

        Raises
        ------
        TypeError, ValueError
            If x is not floating point, out of `input_range` or not finite; if `n` is so small that
            no certificate can exist at this `alpha`; if logits have the wrong shape or hold NaN.
        """
        ids = None if image_id is None else [image_id]
        plan = self._certify_plan(n0, n, alpha)
        (job,) = self._sampler().votes([x], plan, _rows(batch_size), ids, single="x")
        row = self._certificate(job, float(alpha))
        return row.prediction, row.radius

    def certify_iter(
        self,
        images: Iterable[Any],
        n0: int = 100,
        n: int = 100_000,
        alpha: float = 0.001,
        batch_size: int = 1000,
        *,
        image_ids: Iterable[int] | None = None,
        first: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[Certificate]:
        """Certificates of many images, one by one and in order, from full batches.

        The samples of all images form one long sequence that is cut into batches, so a batch may
        hold the end of one image, several whole ones and the beginning of another. Images are
        fetched as they are needed; a certificate is yielded as soon as its last sample is counted.

        Parameters
        ----------
        images : iterable or sequence of images, all of one shape
            For example an array (N, *shape) or an ``ImageSet``.
        n0, n, alpha, batch_size
            As for ``certify``.
        image_ids : iterable of int, optional
            One number per image for the noise counter, instead of the hash of its pixels.
        first : int, default 0
            Position of the first image to certify. Batches are cut as if the images before it had
            been certified too, so that a resumed run gives the classifier the very same batches
            (less than one batch of samples is evaluated again for that).
        progress : callable, optional
            Called after each batch with the number of samples it advanced the images from `first`
            on; these add up to (n0 + n) per image.

        Yields
        ------
        Certificate
            One per image from `first` on; none if there are no images.

        Raises
        ------
        TypeError, ValueError
            As ``certify``; arguments are checked at the call, images as they are reached. The
            message names the image by its position.
        """
        plan = self._certify_plan(n0, n, alpha)
        first = _arrays.check_int(first, "first", 0)
        jobs = self._sampler().votes(
            images, plan, _rows(batch_size), image_ids, first=first, progress=progress
        )
        return (self._certificate(job, float(alpha)) for job in jobs)

    def certify_batch(
        self,
        X: Any,
        n0: int = 100,
        n: int = 100_000,
        alpha: float = 0.001,
        batch_size: int = 1000,
        *,
        image_ids: Iterable[int] | None = None,
    ) -> Certificates:
        """Certificates of many images as arrays; see ``certify_iter``.

        Parameters
        ----------
        X : array, tensor or sequence, shape (N, *shape)
        n0, n, alpha, batch_size, image_ids
            As for ``certify_iter``.

        Returns
        -------
        Certificates
            Arrays with N rows; N = 0 is valid.
        """
        rows = self.certify_iter(X, n0, n, alpha, batch_size, image_ids=image_ids)
        return Certificates.stack(list(rows), self.num_classes)

    def predict(
        self,
        x: Any,
        n: int = 1000,
        alpha: float = 0.001,
        batch_size: int = 1000,
        *,
        image_id: int | None = None,
    ) -> int:
        """The smoothed classifier's class at one image, or ``ABSTAIN``.

        With probability at least 1 - alpha over the noise the returned class is g(x) or
        ``ABSTAIN`` is returned: the two classes with most votes are told apart by a two-sided
        binomial test at level alpha ([Cohen19] Predict).

        Parameters
        ----------
        x, n, alpha, batch_size, image_id
            As for ``certify``; `n` noisy samples in all.

        Returns
        -------
        int
            Class or ``ABSTAIN`` (-1).

        Raises
        ------
        TypeError, ValueError
            As ``certify``; in particular if even `n` equal votes could not pass the test.
        """
        ids = None if image_id is None else [image_id]
        plan = self._predict_plan(n, alpha)
        (job,) = self._sampler().votes([x], plan, _rows(batch_size), ids, single="x")
        return self._answer(job, alpha)

    def predict_batch(
        self,
        X: Any,
        n: int = 1000,
        alpha: float = 0.001,
        batch_size: int = 1000,
        *,
        image_ids: Iterable[int] | None = None,
    ) -> NDArray[np.int64]:
        """``predict`` for many images, packed into full batches.

        Returns
        -------
        array of int64, shape (N,)
            Class or ``ABSTAIN`` for each image; empty for N = 0.
        """
        plan = self._predict_plan(n, alpha)
        jobs = self._sampler().votes(X, plan, _rows(batch_size), image_ids)
        return np.array([self._answer(job, alpha) for job in jobs], dtype=np.int64)

    def _sampler(self) -> VoteSampler:
        return VoteSampler(
            self.classifier,
            self.num_classes,
            self.sigma,
            self.seed,
            self.input_range,
            self.num_threads,
        )

    def _certify_plan(self, n0: int, n: int, alpha: float) -> Plan:
        n0 = _arrays.check_int(n0, "n0", 1, MAX_SAMPLES + 1)
        n = _arrays.check_int(n, "n", 1, MAX_SAMPLES + 1)
        check_level(alpha)
        least = samples_needed(alpha, self.bound)
        if n < least:
            raise ValueError(
                f"n: expected at least {least} samples at alpha = {alpha:g} ({self.bound} bound), "
                f"got {n}: even if all of them agreed, no certificate could exist"
            )
        return ((Stream.SELECTION, n0), (Stream.ESTIMATION, n))

    def _certificate(self, job: Job, alpha: float) -> Certificate:
        selection, counts = job.counts
        top = int(selection.argmax())
        sigma = _radius_sigma(self.sigma)
        result = conclude(top, counts, sigma=sigma, alpha=alpha, bound=self.bound)
        return Certificate(
            *result,
            top_class=top,
            counts=counts,
            selection_counts=selection,
            n=int(counts.sum()),
            n0=int(selection.sum()),
            seconds=job.seconds,
        )

    def _predict_plan(self, n: int, alpha: float) -> Plan:
        n = _arrays.check_int(n, "n", 1, MAX_SAMPLES + 1)
        check_level(alpha)
        least = math.ceil(1.0 - math.log2(alpha))  # n equal votes have the p-value 2 / 2 ** n
        if n < least:
            raise ValueError(
                f"n: expected at least {least} samples at alpha = {alpha:g}, got {n}: even if all "
                "of them agreed, predict would abstain"
            )
        return ((Stream.PREDICTION, n),)

    def _answer(self, job: Job, alpha: float) -> int:
        counts = job.counts[0]
        best, second = (int(c) for c in np.argsort(-counts, kind="stable")[:2])
        votes, rivals = int(counts[best]), int(counts[second])
        return best if ops.binomial_test_half(votes, votes + rivals) <= alpha else self.ABSTAIN


def _rows(batch_size: int) -> int:
    return _arrays.check_int(batch_size, "batch_size", 1)


def _radius_sigma(sigma: float) -> float:
    """`sigma`, or what the noise has instead of it, float32(sigma), where that is smaller."""
    with np.errstate(all="ignore"):  # out of float32's range: the constructor refuses it
        return min(sigma, float(np.float32(sigma)))
