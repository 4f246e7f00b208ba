"""The progress of a run on stderr: epochs, loss and the time left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tamis.adversarial.trainer import Run, Trainer

if TYPE_CHECKING:
    from tamis._progress import Display

__all__ = ["Shown", "shown"]


class Shown:
    """A run on the display that the commands have; `by_batch` or, less finely, by epoch."""

    def __init__(self, display: Display, by_batch: bool) -> None:
        self._display, self._by_batch = display, by_batch

    def batches(self, count: int) -> None:
        """Count batches that are done."""
        if self._by_batch:
            self._display.advance(count)

    def epoch(self, run: Run) -> None:
        """Say that an epoch is complete."""
        self._display.image(run.epoch, f"loss {run.history[-1]['loss']:.4f}")
        if not self._by_batch:
            self._display.advance(1)


@contextmanager
def shown(trainer: Trainer, batches: int | None, epochs: int) -> Iterator[Shown]:
    """Show the rest of a run with `batches` an epoch; None: a loader that does not say."""
    from tamis._progress import open_display  # the commands' display, only where asked for

    done = trainer.run.epoch
    left = max(0, epochs - done)
    if batches is not None:
        left = max(0, left * batches - trainer.done_in_epoch)
    display = open_display(epochs, done, left, quiet=False, who="tamis train", what="epochs")
    try:
        yield Shown(display, batches is not None)
    finally:
        display.close()
