"""The robust mean of rows that come in chunks: read again and again, or seen once.

Both keep a uniform sample of the rows (`Reservoir`), run the filter on it in memory, and carry the
intervals that it finds to all rows (`tamis.ops.FilterStream`). A source that can be read again
corrects them with one pass a round; rows that are seen once only profit from better intervals
later. Results do not depend on how rows are cut into chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis import _arrays, _rows, ops

__all__ = ["Chunks", "PartialMean", "Reservoir", "StreamResult", "filter_chunks", "map_table"]

_SAMPLE_STREAM = 40  # of the counter-based generator; the filter itself uses those below
_CHUNK_NUMBERS = 1 << 20
_RESERVOIR_ROWS = 32768
_RESERVOIR_NUMBERS = 1 << 24  # 64 MiB of float32
_MOST_NUMBERS = 1 << 28  # 1 GiB of float32, where 20 rows a column would be more


def uniform_hash(seed: int, stream: int, index: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Numbers in [0, 1), one for each counter: the splitmix64 finaliser, as in the native code.

    Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    golden, mask = 0x9E3779B97F4A7C15, (1 << 64) - 1
    start = np.uint64((seed * golden + (stream + 1) * 0xD1B54A32D192ED03) & mask)
    with np.errstate(over="ignore"):
        z = start + (index + np.uint64(1)) * np.uint64(golden)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
        z ^= z >> np.uint64(31)
    numbers: NDArray[np.float64] = (z >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return numbers


class Reservoir:
    """A uniform sample without replacement of the rows seen so far, and their order.

    The rows with the smallest hashes of their row numbers: a function of (rows, seed) alone.

    Parameters
    ----------
    capacity : int >= 1
    seed : int in [0, 2**64)

    Attributes
    ----------
    seen : int
        Rows offered so far.
    """

    def __init__(self, capacity: int, seed: int) -> None:
        self.capacity = capacity
        self.seen = 0
        self._seed = seed
        self._bound = 1.0  # no row with a larger key can be in the sample
        self._parts: list[NDArray[Any]] = []
        self._keys: list[NDArray[np.float64]] = []
        self._held = 0

    def add(self, chunk: NDArray[Any]) -> None:
        """Offer the next rows, (m, d); those that stay are copied."""
        index = np.arange(self.seen, self.seen + len(chunk), dtype=np.uint64)
        keys = uniform_hash(self._seed, _SAMPLE_STREAM, index)
        self.seen += len(chunk)
        low = keys < self._bound  # of a long stream most rows fail here, before they are copied
        if low.any():
            self._parts.append(chunk[low])
            self._keys.append(keys[low])
            self._held += int(np.count_nonzero(low))
        if self._held > self.capacity + max(self.capacity // 4, 1024):
            self._settle()

    def rows(self) -> NDArray[Any]:
        """The sample, (min(seen, capacity), d), in the order in which its rows came."""
        self._settle()
        return self._parts[0]

    def _settle(self) -> None:
        if len(self._parts) > 1:
            self._parts = [np.concatenate(self._parts)]
            self._keys = [np.concatenate(self._keys)]
        if self._held > self.capacity:
            keys = self._keys[0]
            chosen = np.sort(np.argpartition(keys, self.capacity - 1)[: self.capacity])
            self._parts, self._keys = [self._parts[0][chosen]], [keys[chosen]]
            self._bound = float(self._keys[0].max())
            self._held = self.capacity


def capacity_for(columns: int) -> int:
    """Rows of the reservoir: some for each column, but never more than memory is for."""
    wanted = max(20 * columns, min(_RESERVOIR_ROWS, _RESERVOIR_NUMBERS // columns))
    return max(min(wanted, _MOST_NUMBERS // columns), 1)


def for_streams(options: dict[str, Any]) -> dict[str, Any]:
    """Those arguments of `tamis.ops.iterative_filter` that `tamis.ops.FilterStream` takes."""
    return {key: options[key] for key in options if key not in ("readmit", "max_rounds")}


class Chunks:
    """A source of rows that can be read more than once, in chunks (m, d) of one floating dtype.

    Parameters
    ----------
    source : callable, iterable or sequence
        See `tamis.RobustMean.fit_iter`.

    Attributes
    ----------
    like : array or tensor or None
        The first chunk that was read, in its own library.
    """

    def __init__(self, source: Any) -> None:
        if isinstance(source, Iterator):
            raise TypeError(
                f"source: expected rows that can be read again, got a {type(source).__name__}, "
                "which can be read once; pass a function that returns a new one at every call"
            )
        self._open = _opener(source)
        self.like: Any = None

    def read(self, *, check: bool = False) -> Iterator[NDArray[Any]]:
        """One pass; with ``check``, a NaN is an error that names its row."""
        start = 0
        for number, chunk in enumerate(_in_chunks(self._open())):
            table = _rows.as_rows(chunk, f"source: chunk {number}")
            if self.like is None:
                self.like = table[:0]
            rows = _rows.as_numpy(table, "source")
            if rows.shape[1] != self.like.shape[1]:
                raise ValueError(
                    f"source: expected {self.like.shape[1]} columns as in the first chunk, got "
                    f"{rows.shape[1]} in chunk {number}"
                )
            if check:
                _rows.check_finite(rows, "source", start)
            start += len(rows)
            yield rows.astype(_arrays.dtype_name(self.like), copy=False)


def _opener(source: Any) -> Callable[[], Any]:
    if isinstance(source, np.ndarray) or _arrays.is_torch(source):
        if len(source.shape) == 2:
            step = max(_CHUNK_NUMBERS // max(int(source.shape[1]), 1), 1)
            starts = range(0, int(source.shape[0]), step)
            return lambda: (source[at : at + step] for at in starts)
        if len(source.shape) < 2:
            _rows.as_rows(source, "source")  # says what is expected
        return lambda: source
    if hasattr(source, "__iter__"):
        return lambda: source
    if hasattr(source, "__getitem__") and hasattr(source, "__len__"):  # a map-style Dataset
        return lambda: (source[index] for index in range(len(source)))
    if callable(source):
        return lambda: _opened(source())
    raise TypeError(
        "source: expected a path, a function that returns chunks of rows, or an iterable of them, "
        f"got {type(source).__name__}"
    )


def _opened(chunks: Any) -> Any:
    if not hasattr(chunks, "__iter__"):
        raise TypeError(
            f"source: expected a function that returns an iterable, got {type(chunks).__name__}"
        )
    return [chunks] if hasattr(chunks, "shape") else chunks


def _in_chunks(items: Any) -> Iterator[Any]:
    """The rows of each item; single rows are gathered into chunks."""
    gathered: list[Any] = []
    numbers = 0
    for item in items:
        # (rows, labels), as a Dataset or a DataLoader gives them; a list of rows is a chunk
        paired = isinstance(item, tuple) or (
            isinstance(item, list) and item and len(getattr(item[0], "shape", ())) >= 2
        )
        chunk = item[0] if paired and len(item) else item
        if len(getattr(chunk, "shape", (0, 0))) == 1:
            gathered.append(chunk)
            numbers += int(chunk.shape[0])
        if gathered and (numbers >= _CHUNK_NUMBERS or chunk is not gathered[-1]):
            yield _stacked(gathered)
            gathered, numbers = [], 0
        if len(getattr(chunk, "shape", (0, 0))) != 1:
            yield chunk
    if gathered:
        yield _stacked(gathered)


def _stacked(rows: list[Any]) -> Any:
    if _arrays.is_torch(rows[0]):
        import torch

        return torch.stack(rows)
    return np.stack(rows)


def map_table(path: Path) -> NDArray[Any]:
    """Map the array of an .npy file, read-only, shape (n, d)."""
    from tamis.smoothing.array_files import map_npy

    array = map_npy(path)
    if array.ndim != 2:
        raise ValueError(f"{path}: expected an array (rows, columns), got shape {array.shape}")
    return array


@dataclass
class StreamResult:
    """What `filter_chunks` finds.

    Attributes
    ----------
    rows : (n, d) array or None
        All rows, where the reservoir holds them all; then nothing else is set but ``seen``.
    mean : (d,) float64 array
    contamination : float
        Share of the rows that was left out in the last pass.
    seen, passes : int
    stop_reason : str
        "settled", "removal_limit" or "max_passes".
    """

    seen: int
    rows: NDArray[Any] | None = None
    mean: NDArray[np.float64] | None = None
    contamination: float = 0.0
    passes: int = 1
    stop_reason: str = "max_passes"


def filter_chunks(chunks: Chunks, options: dict[str, Any], max_passes: int) -> StreamResult:
    """Pass 1 fills the reservoir, every later pass corrects what was found on it."""
    reservoir: Reservoir | None = None
    for chunk in chunks.read(check=True):
        if reservoir is None:
            reservoir = Reservoir(capacity_for(chunk.shape[1]), options["seed"])
        reservoir.add(chunk)
    if reservoir is None:
        raise ValueError("source: expected at least one chunk of rows, got none")
    n, sample = reservoir.seen, reservoir.rows()
    if n <= reservoir.capacity:
        return StreamResult(n, rows=sample)
    stream = ops.FilterStream(**for_streams(options))
    stream.fit(sample)
    result = StreamResult(n)
    while result.passes < max_passes:
        seen = 0
        for chunk in chunks.read():
            stream.absorb(chunk)
            seen += len(chunk)
        if seen != n:
            raise ValueError(
                f"source: expected the same rows in every pass, got {n} and then {seen}; a "
                "function must return a new iterable at every call"
            )
        result.passes += 1
        settled = bool(stream.finish_pass())
        if settled or stream.limited:
            result.stop_reason = "removal_limit" if stream.limited else "settled"
            break
    result.mean = np.asarray(stream.mean, dtype=np.float64)
    result.contamination = 1.0 - float(stream.kept) / n
    return result


class PartialMean:
    """The robust mean of rows that are seen once.

    Exact, the filter in memory, until the reservoir is full. From then on every row is sieved
    once, by intervals that are found anew on the reservoir whenever twice as many rows were seen.

    Parameters
    ----------
    options : dict
        Arguments of `tamis.ops.iterative_filter`.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._reservoir: Reservoir | None = None
        self._stream: Any = None
        self._next_fit = 0
        self._kept = 0
        self._total: Any = 0.0
        self._known: tuple[NDArray[np.float64], float] | None = None

    def add(self, chunk: NDArray[Any]) -> None:
        """Take the next rows, (m, d), all finite."""
        if self._reservoir is None:
            self._reservoir = Reservoir(capacity_for(chunk.shape[1]), self._options["seed"])
            self._next_fit = self._reservoir.capacity
        reservoir = self._reservoir
        self._known = None
        while len(chunk):
            piece = chunk[: self._next_fit - reservoir.seen]
            chunk = chunk[len(piece) :]
            reservoir.add(piece)
            if self._stream is not None:
                self._sum(piece)
            if reservoir.seen == self._next_fit:
                first = self._stream is None
                self._stream = ops.FilterStream(**for_streams(self._options))
                self._stream.fit(reservoir.rows())
                self._next_fit *= 2
                if first:
                    self._sum(reservoir.rows())

    def estimate(self) -> tuple[NDArray[np.float64], float]:
        """(mean, share left out) of all rows so far."""
        if self._reservoir is None:
            raise ValueError("estimate: expected rows first, got none")
        if self._known is None:
            if self._kept:
                self._known = self._total / self._kept, 1.0 - self._kept / self._reservoir.seen
            else:
                found = ops.iterative_filter(self._reservoir.rows(), **self._options)
                self._known = np.asarray(found.mean, np.float64), float(found.contamination)
        return self._known

    def _sum(self, rows: NDArray[Any]) -> None:
        keep = np.asarray(self._stream.keep(rows), dtype=bool)
        self._kept += int(np.count_nonzero(keep))
        self._total = self._total + np.add.reduce(
            rows, axis=0, dtype=np.float64, where=keep[:, None]
        )
