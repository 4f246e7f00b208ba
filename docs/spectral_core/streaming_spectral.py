"""The robust mean for data that is read in chunks: re-readable (fit_iter) or seen once.

Both keep a reservoir of rows, run the in-memory filter on it, and carry its intervals (directions,
bounds, ball) to the stream. `fit_iter` then corrects them on all rows, one pass a round; a stream
that is seen once can only improve them for the rows to come. Results do not depend on how the
rows are cut into chunks: the reservoir keeps the rows whose hashed row number is smallest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

import reference_spectral as ref
from reference_spectral import Array, Assume, Histogram, Rule


@dataclass
class Reservoir:
    """A uniform sample without replacement of the rows seen so far."""

    capacity: int
    seed: int
    seen: int = 0
    rows: Array = field(default_factory=lambda: np.zeros((0, 0)))
    keys: Array = field(default_factory=lambda: np.zeros(0))

    def add(self, chunk: Array) -> None:
        """Offer the next rows."""
        index = np.arange(self.seen, self.seen + chunk.shape[0], dtype=np.uint64)
        keys = ref.uniform_hash(self.seed, 40, index)
        self.seen += chunk.shape[0]
        if self.keys.size >= self.capacity:  # most rows of a long stream fail here: cheap
            chunk, keys = chunk[keys < self.keys.max()], keys[keys < self.keys.max()]
        rows = np.vstack([self.rows, chunk]) if self.rows.size else chunk.copy()
        keys = np.concatenate([self.keys, keys])
        if keys.size > self.capacity:
            keep = np.sort(np.argpartition(keys, self.capacity - 1)[: self.capacity])
            rows, keys = rows[keep], keys[keep]
        self.rows, self.keys = rows, keys


def _capacity(d: int) -> int:
    return max(20 * d, min(32768, 2**24 // d))


@dataclass
class _Sieve:
    """The intervals found on the reservoir, and the sums of the rows that pass them."""

    run: ref._Filter
    block: Array
    count: float = 0.0
    total: Array = field(init=False)

    def __post_init__(self) -> None:
        self.total = np.zeros(self.run.X.shape[1])

    def keep(self, chunk: Array) -> npt.NDArray[np.bool_]:
        """Return which rows lie in the ball and in every interval."""
        run = self.run
        inside = np.square(chunk - run.ball_centre).sum(axis=1) <= run.ball_radius2
        if run.cuts:
            Z = run.projections(chunk)
            for j, cut in enumerate(run.cuts):
                inside &= cut.keeps(Z[:, j])
        return np.asarray(inside)


def _fit_reservoir(
    rows: Array, contamination: float | Literal["auto"], rule: Rule, assume: Assume, seed: int
) -> _Sieve:
    result, run, block = ref.filter_with_state(
        rows, contamination, rule=rule, assume=assume, seed=seed
    )
    del result
    return _Sieve(run, block)


def fit_iter(
    read: Callable[[], Iterable[Array]],
    contamination: float | Literal["auto"] = 0.1,
    *,
    rule: Literal["gaussian_tail", "bounded_covariance"] = "gaussian_tail",
    assume: Assume = "none",
    max_passes: int = 12,
    seed: int = 0,
) -> tuple[Array, int, float]:
    """Return (mean, passes, share removed) of rows that `read()` yields in chunks, each time anew.

    Pass 1 fills the reservoir. Every later pass applies the current intervals, sums the rows that
    stay, fills one histogram per direction (all rows, charged as in memory), and multiplies the
    covariance of the survivors into a block of BLOCK_SIZE candidate directions: one step of
    subspace iteration. The intervals are then found anew from the histograms, and a candidate
    with an unexplained tail is recorded. Stops when the survivors settle and no candidate is new.
    """
    reservoir: Reservoir | None = None
    for chunk in read():
        chunk = np.asarray(chunk, dtype=np.float64)
        if reservoir is None:
            reservoir = Reservoir(_capacity(chunk.shape[1]), seed)
        reservoir.add(chunk)
    if reservoir is None:
        raise ValueError("read() expected to yield at least one chunk, got none")
    n = reservoir.seen
    sieve = _fit_reservoir(reservoir.rows, contamination, rule, assume, seed)
    run = sieve.run
    if n <= reservoir.capacity or sieve.block.shape[1] == 0:
        return run.mean, 1, 1.0 - run.mass / reservoir.rows.shape[0]
    passes, mean, kept, last = 1, run.mean, 0.0, -1.0
    block = sieve.block
    while passes < max_passes:
        fresh = [run.new_cut(v) for v in block.T]
        chain = run.cuts + fresh
        histograms = [Histogram(c.origin, c.width) for c in chain]
        V = np.array([c.direction for c in chain]).T
        first = len(run.cuts)
        total, square, kept = np.zeros(V.shape[0]), 0.0, 0.0
        image = np.zeros_like(block)
        centre = run.mean
        for raw in read():
            for rows in ref._blocks(raw.shape[0]):
                x = np.asarray(raw[rows], dtype=np.float64)
                Z = (x - run.origin) @ V
                ball = np.square(x - run.ball_centre).sum(axis=1) <= run.ball_radius2
                counted = ref.charge(Z, chain)
                for j, h in enumerate(histograms):
                    h.add(Z[:, j], (ball & counted[:, j]).astype(np.float64))
                inside = ball.copy()
                for j, c in enumerate(chain[:first]):
                    inside &= c.keeps(Z[:, j])
                y = x[inside] - centre
                kept += float(y.shape[0])
                total += y.sum(axis=0)
                square += float(np.square(y).sum())
                image += y.T @ (y @ block)
        passes += 1
        shift = total / kept
        image = image / kept - np.outer(shift, shift @ block)
        mean = centre + shift
        run.mean, run.mass = mean, kept
        run.trace = max(square / kept - float(shift @ shift), 0.0)
        values = np.maximum(np.einsum("dj,dj->j", block, image), 0.0)
        limit = run.reference()
        threshold = limit.variance * ref.noise_edge(kept, V.shape[0])
        if assume == "none" and run.tail_family:
            threshold = 0.0
        found = [run.find(h, c, limit) for h, c in zip(histograms, chain, strict=True)]
        new = [c for c, v in zip(found[first:], values, strict=True) if c.active and v > threshold]
        settled = abs(kept - last) <= ref.SETTLED * n and not new
        last = kept
        if settled or n - kept > sieve.run.share_limit * n:
            break
        run.cuts = [c for c in found[:first] if c.active] + new
        block = ref.orthonormalise(image, None)
        if block.shape[1] == 0:
            break
    return mean, passes, 1.0 - kept / n


@dataclass
class PartialMean:
    """Robust mean of rows seen once (`partial_fit`).

    Exact (the in-memory filter) until the reservoir is full. From then on each chunk is sieved
    once, with intervals refitted on the reservoir whenever the number of rows seen has doubled.
    """

    contamination: float | Literal["auto"] = 0.1
    rule: Rule = "gaussian_tail"
    assume: Assume = "none"
    seed: int = 0
    reservoir: Reservoir | None = None
    sieve: _Sieve | None = None
    fitted_at: int = 0
    count: float = 0.0
    total: Array = field(default_factory=lambda: np.zeros(0))

    def partial_fit(self, chunk: Array) -> PartialMean:
        """Take the next rows, (m, d)."""
        chunk = np.asarray(chunk, dtype=np.float64)
        d = chunk.shape[1]
        if self.reservoir is None:
            self.reservoir = Reservoir(_capacity(d), self.seed)
            self.total = np.zeros(d)
        pending = chunk
        if self.sieve is None:
            room = self.reservoir.capacity - self.reservoir.seen
            self.reservoir.add(chunk[:room])
            pending = chunk[room:]
            if pending.shape[0] == 0:
                return self
            self._refit()
            self._sum(self.reservoir.rows)
        self.reservoir.add(pending)
        if self.reservoir.seen >= 2 * self.fitted_at:
            self._refit()
        self._sum(pending)
        return self

    def _refit(self) -> None:
        assert self.reservoir is not None
        self.sieve = _fit_reservoir(
            self.reservoir.rows, self.contamination, self.rule, self.assume, self.seed
        )
        self.fitted_at = self.reservoir.seen

    def _sum(self, rows: Array) -> None:
        assert self.sieve is not None
        inside = self.sieve.keep(rows)
        self.count += float(np.count_nonzero(inside))
        self.total += rows[inside].sum(axis=0)

    @property
    def location(self) -> Array:
        """The estimate from all rows so far, (d,)."""
        if self.reservoir is None:
            raise ValueError("location expected a call of partial_fit first")
        if self.sieve is None or self.count == 0.0:
            return ref.iterative_filter(
                self.reservoir.rows,
                self.contamination,
                rule=self.rule,
                assume=self.assume,
                seed=self.seed,
            ).mean
        return self.total / self.count
