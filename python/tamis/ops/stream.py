"""FilterStream: the filter for rows that come in chunks."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tamis import _arrays, _core
from tamis.ops.spectral import (
    ASSUMPTIONS,
    RULES,
    Assume,
    Rule,
    check_choice,
    check_contamination,
    check_flag,
    check_max_removed,
    check_rows,
)


class FilterStream:
    """Finds intervals on a sample of the rows, and carries them to rows that come in chunks.

    ``fit(sample)``, then for each pass ``absorb`` every chunk and call ``finish_pass`` until it
    returns True. `tamis.RobustMean.fit_iter` does all of that; this is the core below it.

    Parameters
    ----------
    contamination, rule, assume, prune, max_removed, seed, num_threads
        As in `tamis.iterative_filter`. The rules that weigh rows against one another act on the
        sample; of the rows that follow each is kept or not by the intervals found.

    Attributes
    ----------
    mean : float64 array of shape (d,)
        Of the rows kept in the last pass; before the first, of those kept of the sample.
    kept, seen : float
        Rows of that pass that stayed, and all of them.
    passes : int
        Finished.
    limited : bool
        More rows would have gone than `max_removed` allows; the passes ended there.
    stop_reason : str
        Of the filter on the sample.

    Notes
    -----
    Chunks are (m, d) arrays of the dtype of the sample, which is kept alive and must not change.
    NaN or infinity in a chunk is a ValueError that names its row within the chunk; the pass is then
    lost. How rows are cut into chunks changes results by rounding only.
    """

    def __init__(
        self,
        contamination: float | Literal["auto"] = 0.1,
        *,
        rule: Rule = "gaussian_tail",
        assume: Assume = "none",
        prune: bool = True,
        max_removed: float = 2.5,
        seed: int = 0,
        num_threads: int | None = None,
    ) -> None:
        automatic, share = check_contamination(contamination)
        check_choice(rule, "rule", RULES)
        check_choice(assume, "assume", ASSUMPTIONS)
        check_flag(prune, "prune")
        self._native = _core.FilterStream(
            share,
            automatic,
            rule,
            assume,
            prune,
            check_max_removed(max_removed),
            _arrays.check_int(seed, "seed", 0, 2**64),
            _arrays.thread_count(num_threads),
        )
        self.stop_reason = ""

    def fit(self, rows: Any) -> FilterStream:
        """Run the filter on a sample, (n, d)."""
        self.stop_reason = self._native.fit(check_rows(rows))
        return self

    def keep(self, chunk: Any) -> NDArray[np.bool_]:
        """Which rows of a chunk are in the ball and in every interval, (m,)."""
        return self._native.keep(check_rows(chunk, min_rows=0)).astype(bool)

    def absorb(self, chunk: Any) -> None:
        """Take one chunk of the present pass."""
        self._native.absorb(check_rows(chunk, min_rows=0))

    def finish_pass(self) -> bool:
        """End the pass and find the intervals anew; True when nothing is left to correct."""
        return self._native.finish_pass()

    @property
    def mean(self) -> NDArray[np.float64]:
        return self._native.mean

    @property
    def kept(self) -> float:
        return self._native.kept

    @property
    def seen(self) -> float:
        return self._native.seen

    @property
    def passes(self) -> int:
        return self._native.passes

    @property
    def limited(self) -> bool:
        return self._native.limited
