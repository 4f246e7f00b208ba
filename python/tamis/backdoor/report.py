"""What a detector says of the classes, as a table for people."""

from __future__ import annotations

from collections.abc import Mapping

from tamis.backdoor._classes import ClassReport

__all__ = ["report_table"]


def report_table(report: Mapping[int, ClassReport]) -> str:
    """A line a class, those that look attacked marked."""
    from tamis._text_table import text_table

    head = ("class", "rows", "removed", "top/bulk", "separation", "poison", "looks attacked")
    rows = [
        (
            str(entry.label),
            str(entry.rows),
            str(entry.removed),
            f"{entry.top_eigenvalue / entry.bulk_eigenvalue:.1f}"
            if entry.bulk_eigenvalue > 0.0
            else "-",
            f"{entry.separation:.2f}",
            f"{100 * entry.poison_share:.1f}%" if entry.looks_attacked else "-",
            "yes" if entry.looks_attacked else "no",
        )
        for entry in report.values()
    ]
    return text_table(head, rows, left=[])
