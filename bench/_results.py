"""Long benchmarks: results that survive an interruption, and how long it still takes."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

Row = dict[str, str]


class ResultFile:
    """A CSV file that grows by a row as soon as a result is there, and is read at the start.

    Parameters
    ----------
    path : Path
    fields : names of the columns
    key : how many of the first columns say what was measured
    again : which rows of an older run are dropped, to be measured anew
    """

    def __init__(
        self, path: Path, fields: Sequence[str], key: int, again: Callable[[Row], bool]
    ) -> None:
        self.path = path
        self.fields = list(fields)
        self.key = self.fields[:key]
        self.rows: list[Row] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            with path.open(encoding="utf-8", newline="") as file:
                reader = csv.DictReader(file)
                if reader.fieldnames != self.fields:
                    sys.exit(f"{path}: expected columns {','.join(fields)}; move the file away")
                # a row cut short by an interruption is measured again
                whole = [row for row in reader if all(row[name] for name in self.fields)]
            self.rows = [row for row in whole if not again(row)]
        self._rewrite()

    def __contains__(self, key: tuple[object, ...]) -> bool:
        wanted = [_text(part) for part in key]
        return any([row[name] for name in self.key] == wanted for row in self.rows)

    def add(self, *values: object) -> None:
        row = dict(zip(self.fields, map(_text, values), strict=True))
        self.rows.append(row)
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self.fields, lineterminator="\n").writerow(row)

    def select(self, **where: object) -> list[Row]:
        """The rows that match."""
        wanted = {name: _text(value) for name, value in where.items()}
        return [r for r in self.rows if all(r[name] == value for name, value in wanted.items())]

    def numbers(self, column: str, **where: object) -> list[float]:
        """One column of the rows that match."""
        return [float(row[column]) for row in self.select(**where)]

    def _rewrite(self) -> None:
        draft = self.path.with_suffix(".part")
        with draft.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self.fields, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
        draft.replace(self.path)


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


class Progress:
    """A line on stderr after every step, with the time left.

    Every step has an expected cost in any unit; the time left assumes that the rest keeps the pace
    of what was done.
    """

    def __init__(self, costs: Sequence[float]) -> None:
        self.total, self.steps = sum(costs), len(costs)
        self.done, self.count = 0.0, 0
        self.start = perf_counter()

    def step(self, cost: float, text: str) -> None:
        self.done += cost
        self.count += 1
        elapsed = perf_counter() - self.start
        left = elapsed * (self.total - self.done) / self.done if self.done else 0.0
        print(
            f"[{self.count}/{self.steps}] {text}; {duration(elapsed)} gone, "
            f"about {duration(max(left, 0.0))} left",
            file=sys.stderr,
            flush=True,
        )


def duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
