"""Progress of a long run on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
from time import perf_counter
from typing import Any, Final, Protocol, TextIO

__all__ = ["Display", "duration", "open_display"]

_LINE_EVERY: Final = 15.0  # seconds between two lines where stderr is not a terminal


class Display(Protocol):
    """Where a run's progress is shown."""

    def advance(self, samples: int) -> None:
        """Count noisy samples that were classified."""

    def image(self, done: int, status: str) -> None:
        """Say that `done` images are certified; `status` sums them up."""

    def row(self, text: str) -> None:
        """Print one row of results to stdout without breaking what is shown."""

    def close(self) -> None:
        """End the display; what was shown last stays."""


def open_display(
    total: int,
    finished: int,
    samples: int,
    *,
    quiet: bool,
    who: str = "tamis certify",
    what: str = "images",
) -> Display:
    """Make the display for `total` images, `finished` of them before, and `samples` to come.

    `who` begins a line of a log, and `what` is counted instead of images.
    """
    if quiet:
        return _Silent()
    if sys.stderr.isatty():
        try:
            return _Bar(total, finished, samples, what)
        except ImportError:
            print(
                f"{who}: a progress bar needs rich: python -m pip install 'tamis[cli]'",
                file=sys.stderr,
            )
    return _Lines(total, finished, samples, who=who, what=what)


def duration(seconds: float) -> str:
    """``"8.1 s"``, ``"5 min 02 s"``, ``"3 h 07 min"``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class _Silent:
    def advance(self, samples: int) -> None:
        pass

    def image(self, done: int, status: str) -> None:
        pass

    def row(self, text: str) -> None:
        print(text, flush=True)

    def close(self) -> None:
        pass


class _Lines(_Silent):
    """Plain lines for logs of batch systems: one every `_LINE_EVERY` seconds at most."""

    def __init__(
        self,
        total: int,
        finished: int,
        samples: int,
        stream: TextIO | None = None,
        *,
        who: str = "tamis certify",
        what: str = "images",
    ) -> None:
        self._who, self._what = who, what
        self._total, self._done, self._samples = total, finished, samples
        self._classified = 0
        self._status = ""
        self._began = self._last = perf_counter()
        self._stream = stream

    def advance(self, samples: int) -> None:
        self._classified += samples
        now = perf_counter()
        if now - self._last >= _LINE_EVERY:
            self._last = now
            left = (self._samples / self._classified - 1.0) * (now - self._began)
            status = f", {self._status}" if self._status else ""
            print(
                f"{self._who}: {self._done} of {self._total} {self._what}{status}, about "
                f"{duration(left)} left",
                file=self._stream or sys.stderr,
                flush=True,
            )

    def image(self, done: int, status: str) -> None:
        self._done, self._status = done, status


class _Bar(_Silent):
    def __init__(self, total: int, finished: int, samples: int, what: str = "images") -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._total, self._what = total, what
        self._bar: Any = Progress(
            TextColumn("{task.fields[images]}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f}%, ETA"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}"),
            console=Console(stderr=True),
            redirect_stdout=False,  # stdout may be a file
        )
        self._task = self._bar.add_task(
            "", total=samples, images=f"{finished}/{total} {what}", status=""
        )
        self._bar.start()

    def advance(self, samples: int) -> None:
        self._bar.advance(self._task, samples)

    def image(self, done: int, status: str) -> None:
        self._bar.update(self._task, images=f"{done}/{self._total} {self._what}", status=status)

    def row(self, text: str) -> None:
        if sys.stdout.isatty():  # the same terminal, as a rule: above the bar
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            super().row(text)

    def close(self) -> None:
        self._bar.stop()
