"""Rows of ``tamis certify``, their running tally and the summary at the end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tamis.smoothing.logs import COLUMNS, CertificationLog

if TYPE_CHECKING:
    from tamis.smoothing import Certificate

__all__ = ["COLUMN_LINE", "Row", "Tally", "radii_up_to", "summary_lines"]

COLUMN_LINE = "\t".join(COLUMNS)


@dataclass(slots=True, frozen=True)
class Row:
    """What the log says about one image."""

    idx: int
    label: int
    predict: int
    radius: float
    seconds: float
    p_lower: float
    n: int
    count: int

    @classmethod
    def of(cls, idx: int, label: int, certificate: Certificate) -> Row:
        """Make the row of a fresh certificate."""
        return cls(
            idx=idx,
            label=label,
            predict=certificate.prediction,
            radius=certificate.radius,
            seconds=certificate.seconds,
            p_lower=certificate.p_lower,
            n=certificate.n,
            count=int(certificate.counts[certificate.top_class]),
        )

    @classmethod
    def read(cls, log: CertificationLog) -> list[Row]:
        """Rows of a log that ``tamis certify`` wrote."""
        columns: list[Any] = [log.idx, log.label, log.predict, log.radius]
        columns += [log.time, log.p_lower, log.n, log.count]
        return [cls(*values) for values in zip(*(c.tolist() for c in columns), strict=True)]

    @property
    def correct(self) -> bool:
        """Whether the true class was certified."""
        return self.predict >= 0 and self.predict == self.label

    def text(self) -> str:
        """Tab-separated, in the order of ``COLUMN_LINE``; time in seconds."""
        head = (self.idx, self.label, self.predict, repr(self.radius), int(self.correct))
        tail = (f"{self.seconds:.6f}", repr(self.p_lower), self.n, self.count)
        return "\t".join(str(field) for field in head + tail)


class Tally:
    """Running certified accuracy and mean certified radius."""

    def __init__(self, rows: list[Row]) -> None:
        self._rows = self._correct = 0
        self._radius = 0.0
        for row in rows:
            self.add(row)

    def add(self, row: Row) -> None:
        """Count one more image."""
        self._rows += 1
        if row.correct:
            self._correct += 1
            self._radius += row.radius

    def __str__(self) -> str:
        """Sum up in a few words."""
        accuracy = 100.0 * self._correct / self._rows
        return f"certified {accuracy:.1f}%, mean radius {self._radius / self._rows:.3f}"


def radii_up_to(largest: float) -> list[float]:
    """At most ten radii from 0 to `largest` in steps of 1, 2.5 or 5 times a power of ten."""
    if largest <= 0.0:
        return [0.0]
    power = 10.0 ** math.floor(math.log10(largest / 10))
    step = next(s * power for s in (1, 2.5, 5, 10, 25) if largest / (s * power) < 10)
    return [round(k * step, 12) for k in range(math.floor(largest / step) + 1)]


def summary_lines(rows: list[Row], best: float) -> list[str]:
    """Describe a finished run: certified accuracy by radius, abstention, mean radius.

    `best` is the largest radius that any image could have got.
    """
    from tamis import analysis

    log = CertificationLog(
        idx=[row.idx for row in rows],  # type: ignore[arg-type]
        label=[row.label for row in rows],  # type: ignore[arg-type]
        predict=[row.predict for row in rows],  # type: ignore[arg-type]
        radius=[row.radius for row in rows],  # type: ignore[arg-type]
        correct=[row.correct for row in rows],  # type: ignore[arg-type]
    )
    hint = (
        []
        if any(row.correct for row in rows)
        else [
            "No image was classified correctly: are --mean, --std and --layout those of this model?"
        ]
    )
    radii = radii_up_to(best)
    shares = (100.0 * share for share in analysis.certified_accuracy(log, radii))
    return [
        analysis.describe_subset(log),
        "",
        "  radius (l2)           " + "".join(f"{radius:>7g}" for radius in radii),
        "  certified accuracy, % " + "".join(f"{share:>7.1f}" for share in shares),
        "",
        f"abstained: {100.0 * analysis.abstention_rate(log):.1f}%",
        f"mean certified radius: {analysis.average_certified_radius(log):.4f} "
        f"(at most {best:.4f} with this sigma, n and alpha)",
        *hint,
    ]
