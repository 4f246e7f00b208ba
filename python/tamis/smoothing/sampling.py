"""The Monte Carlo loop: images in, class counts out, full batches in between.

The path of a batch: pixels -> ``ops.gaussian_noise`` into one reused buffer, normalised on the way
where nothing stands between the two -> the classifier -> ``ops.vote_counts`` -> counts per image
and stream.

On CUDA a batch is only enqueued; its counts follow in one transfer, and with them the range and the
number of images that lie there, which are judged then. They are taken in when the next batch is
enqueued too, so that the device never waits for the host. A stream runs in order: one buffer of
noisy copies serves both.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tamis import _arrays, ops
from tamis.smoothing.classifiers import Classifier
from tamis.smoothing.identity import Stream, facts_beside, facts_from, image_facts
from tamis.smoothing.models import host_float32, refuse_integers

__all__ = ["MAX_SAMPLES", "Job", "Plan", "VoteSampler"]

#: Smallest and largest value and number of an image; int64 of shape (3,) where they stay beside it.
_Facts: TypeAlias = tuple[float, float, int] | Any
#: Position, image, image beside the classifier -> these.
_FactsSource: TypeAlias = Callable[[int, Any, Any], _Facts]
#: Streams and the number of samples to draw from each, for every image.
Plan: TypeAlias = tuple[tuple[Stream, int], ...]
MAX_SAMPLES: Final = 1 << 32  # sample numbers are 32-bit counter words
_IDS: Final = 1 << 32  # and so are image numbers
_FACTS_ELEMENTS: Final = 1 << 22  # pixels whose range and hash are found at once
_NUM_FACTS: Final = 3


@dataclass(slots=True)
class Job:
    """One image in work; `counts` has shape (streams of the plan, classes).

    `facts` are set until a batch takes them along, where they are not known on the host yet.
    """

    position: int
    name: str
    pixels: Any
    identity: Any  # an int, or on the device of the image an int64 tensor of one
    counts: NDArray[np.int64]
    left: int
    seconds: float = 0.0
    facts: Any = None


@dataclass(slots=True, frozen=True)
class _Segment:
    """Rows of the batch from `row` on: samples from `start` on of one stream of one image."""

    job: Job
    part: int
    stream: Stream
    start: int
    row: int
    rows: int


@dataclass(slots=True, frozen=True)
class _Batch:
    """A batch that has been enqueued, or has run."""

    segments: tuple[_Segment, ...]
    counts: Callable[[], NDArray[np.int64]]  # waits; a row a segment: votes, first row of NaN or -1
    checks: list[int]  # rows that go on with the facts of their image
    on_device: bool
    began: float


@dataclass(slots=True, frozen=True)
class VoteSampler:
    """Draws noisy copies and counts the classifier's votes; holds no state.

    Parameters
    ----------
    classifier : Classifier
    num_classes : int
    sigma : float
        Standard deviation of the noise, in input units.
    seed : int
    input_range : (float, float) or None
        Images with values outside are refused.
    num_threads : int or None
        Threads for the noise.
    """

    classifier: Classifier
    num_classes: int
    sigma: float
    seed: int
    input_range: tuple[float, float] | None
    num_threads: int | None

    def votes(
        self,
        images: Iterable[Any],
        plan: Plan,
        batch_size: int,
        image_ids: Iterable[int] | None = None,
        *,
        first: int = 0,
        progress: Callable[[int], None] | None = None,
        single: str | None = None,
    ) -> Iterator[Job]:
        """Class counts of every image from `first` on, in order, each as soon as it is complete.

        All samples of all images form one sequence, which is cut into batches of `batch_size`.
        `single` is the name in messages where there is one image; else "image 0", "image 1", ...
        """
        per_image = sum(count for _, count in plan)
        if isinstance(images, Sized):
            if first >= len(images):
                return
            batch_size = min(batch_size, len(images) * per_image)  # never larger than what it holds
        # The first batch with a sample of image `first`: the image it begins in, and where in it.
        begin, skipped = divmod(first * per_image // batch_size * batch_size, per_image)
        pending: deque[Job] = deque()
        running: deque[_Batch] = deque()
        segments: list[_Segment] = []
        buffer: Any = None
        used = 0
        affine: ops.ChannelAffine | None = None
        facts_of = _facts_source(images)
        taken = 0.0  # when counts were last taken in

        def take_in(ahead: int) -> Iterator[Job]:
            """Add up all batches but the newest `ahead`; the images that are then complete."""
            nonlocal taken
            try:
                while len(running) > ahead:
                    batch = running.popleft()
                    self._take_in(batch, taken)
                    taken = perf_counter()
                    if progress is not None:
                        progress(sum(s.rows for s in batch.segments if s.job.position >= first))
                    while pending and not pending[0].left:
                        job = pending.popleft()
                        if job.position >= first:
                            yield job
            except BaseException:
                running.clear()  # nothing after the fault counts
                raise

        def evaluate() -> Iterator[Job]:
            nonlocal used
            batch = self._enqueue(buffer[:used], tuple(segments), affine)
            running.append(batch)
            segments.clear()
            used = 0
            yield from take_in(1 if batch.on_device else 0)

        try:
            for position, image, given in _numbered(images, image_ids, begin):
                name = single or f"image {position}"
                pixels, facts = self._prepared(image, name, facts_of, position)
                if buffer is None:
                    buffer = self.classifier.empty((batch_size, *pixels.shape))
                    affine = self._affine(pixels)
                elif tuple(pixels.shape) != tuple(buffer.shape[1:]):
                    raise ValueError(
                        f"{name}: expected shape {tuple(buffer.shape[1:])} like the images before "
                        f"it, got {tuple(pixels.shape)}"
                    )
                counts = np.zeros((len(plan), self.num_classes), dtype=np.int64)
                job = Job(position, name, pixels, given, counts, per_image - skipped)
                self._identify(job, facts)
                pending.append(job)
                for part, (stream, count) in enumerate(plan):
                    start = min(skipped, count)
                    skipped -= start
                    while start < count:
                        rows = min(count - start, batch_size - used)
                        segments.append(_Segment(job, part, stream, start, used, rows))
                        start += rows
                        used += rows
                        if used == batch_size:
                            yield from evaluate()
            if used:
                yield from evaluate()
        except Exception:
            # What ran before the fault comes first, as if nothing had been enqueued ahead.
            yield from take_in(0)
            raise
        yield from take_in(0)

    def _affine(self, pixels: Any) -> ops.ChannelAffine | None:
        """The classifier's mean and std beside the images, for all of them."""
        mean, std = self.classifier.mean, self.classifier.std
        return None if mean is None and std is None else ops.ChannelAffine(pixels, mean, std)

    def _enqueue(
        self, batch: Any, segments: tuple[_Segment, ...], affine: ops.ChannelAffine | None
    ) -> _Batch:
        """Fill the batch with noisy copies, classify it, count votes; on CUDA without waiting."""
        began = perf_counter()
        for part in segments:
            ops.gaussian_noise(
                part.job.pixels,
                part.rows,
                self.sigma,
                seed=self.seed,
                image=part.job.identity,
                stream=int(part.stream),
                start=part.start,
                out=batch[part.row : part.row + part.rows],
                mean=affine,
                num_threads=self.num_threads,
            )
        logits = self.classifier.logits(batch, normalized=affine is not None)
        shape = tuple(logits.shape)
        if shape != (len(batch), self.num_classes):
            raise ValueError(
                f"num_classes: expected logits of shape {(len(batch), self.num_classes)} (samples, "
                f"classes), got {shape} from the classifier"
            )
        votes = self.num_classes + 1
        with_facts = any(part.job.facts is not None for part in segments)
        columns = votes + (_NUM_FACTS if with_facts else 0)
        counts = _arrays.empty(logits, (len(segments), columns), "int64")
        checks = []
        for row, part in enumerate(segments):
            of_part = logits[part.row : part.row + part.rows]
            ops.vote_counts(of_part, out=counts[row, :votes], wait=False)
            if part.job.facts is not None:  # once an image
                counts[row, votes:] = part.job.facts
                part.job.facts = None
                checks.append(row)
        return _Batch(segments, _arrays.fetch(counts), checks, _arrays.on_cuda(counts), began)

    def _take_in(self, batch: _Batch, since: float) -> None:
        """Wait for a batch, add its votes to the images' counts. `since`: end of the last one."""
        counts = batch.counts()
        votes, facts = np.split(counts, [self.num_classes + 1], axis=1)
        for row in batch.checks:
            self._identify(batch.segments[row].job, facts_from(facts[row]))
        for part, row in zip(batch.segments, votes[:, -1].tolist(), strict=True):
            if row >= 0:
                raise self._undefined(part, row)
        total = sum(part.rows for part in batch.segments)
        share = (perf_counter() - max(batch.began, since)) / total
        for part, of_part in zip(batch.segments, votes, strict=True):
            part.job.counts[part.part] += of_part[:-1]
            part.job.left -= part.rows
            part.job.seconds += share * part.rows

    def _undefined(self, part: _Segment, row: int) -> ValueError:
        """The error of a NaN in that row of a segment."""
        sample = part.start + row
        error = ValueError(
            f"the classifier returned NaN for {part.job.name}, {part.stream.name.lower()} "
            f"sample {sample}; what it was given is tamis.gaussian_noise(x, 1, "
            f"{self.sigma!r}, seed={self.seed}, image={part.job.identity}, "
            f"stream={int(part.stream)}, start={sample})"
        )
        error.__cause__ = ops.NaNRowError(
            f"[vote_counts] expected logits without NaN, got NaN in row {row}"
        )
        error.__cause__.row = row
        return error

    def _prepared(
        self, image: Any, name: str, facts_of: _FactsSource, position: int
    ) -> tuple[Any, _Facts]:
        """The image as the float32 array or tensor that noise is added to, and its facts."""
        if not hasattr(image, "dtype"):
            image = np.asarray(image)
        refuse_integers(image, name)
        pixels = self.classifier.prepare(image)
        if math.prod(pixels.shape) == 0:
            raise ValueError(f"{name}: expected an image, got no elements in {tuple(pixels.shape)}")
        return pixels, facts_of(position, image, pixels)

    def _identify(self, job: Job, facts: _Facts) -> None:
        """Give the job its number, if it has none, and judge the range where that is known."""
        if not isinstance(facts, tuple):
            job.facts = facts
            job.identity = facts[-1:] if job.identity is None else job.identity
            return
        low, high, number = facts
        if not isinstance(job.identity, int):
            job.identity = number
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError(f"{job.name}: expected finite values, got {low} to {high}")
        allowed = self.input_range
        if allowed is not None and not allowed[0] <= low <= high <= allowed[1]:
            hint = "; divide by 255 first?" if low >= 0.0 and 2.0 < high <= 255.0 else ""
            raise ValueError(
                f"{job.name}: expected values in {list(allowed)}, got {low:g} to {high:g}{hint} "
                "(mean and std are arguments of Smooth; input_range=None allows any values)"
            )


def _facts_source(images: Any) -> _FactsSource:
    """How range and hash of an image are found while a device asks for nothing but work.

    Of images on the host they are found there. Of images on a device they stay there until counts
    come from it; of a tensor of images those of many are found at once.
    """
    known: dict[int, Any] = {}

    def one(position: int, image: Any, pixels: Any) -> _Facts:
        if not _arrays.on_cuda(pixels):
            return image_facts(pixels)
        readable = isinstance(image, np.ndarray) or _arrays.is_torch(image)
        if readable and not _arrays.on_cuda(image):
            return image_facts(host_float32(image))
        return facts_beside(pixels[None])[0]

    def many(position: int, image: Any, pixels: Any) -> _Facts:
        if not _arrays.on_cuda(pixels):
            return image_facts(pixels)
        if position not in known:
            known.clear()
            block = images[position : position + max(1, _FACTS_ELEMENTS // image.numel())]
            known.update(enumerate(facts_beside(block.float()), position))
        return known[position]

    return many if _arrays.is_torch(images) and _arrays.on_cuda(images) else one


def _numbered(
    images: Iterable[Any], image_ids: Iterable[int] | None, begin: int
) -> Iterator[tuple[int, Any, int | None]]:
    """(position, image, its given number or None) from position `begin` on."""
    if isinstance(images, Sized) and hasattr(images, "__getitem__"):
        if isinstance(image_ids, Sized) and len(image_ids) != len(images):
            raise ValueError(
                f"image_ids: expected {len(images)} numbers, one per image, got {len(image_ids)}"
            )
        items: Iterator[Any] = (images[i] for i in range(begin, len(images)))
    else:
        items = islice(iter(images), begin, None)
    ids = None if image_ids is None else islice(iter(image_ids), begin, None)
    for position, image in enumerate(items, begin):
        if ids is None:
            yield position, image, None
            continue
        given = next(ids, None)
        if given is None:
            raise ValueError(f"image_ids: expected one number per image, none for image {position}")
        yield position, image, _arrays.check_int(given, f"image_ids[{position}]", 0, _IDS)
