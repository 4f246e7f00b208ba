"""What ``tamis mean`` and ``tamis outliers`` share: options, the fit, text tables."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tamis.cli import UsageError

if TYPE_CHECKING:
    from tamis.cli.tables import Table

__all__ = [
    "add_options",
    "check_plot_name",
    "check_usage",
    "column_spread",
    "describe",
    "described_stop",
    "parameters",
    "read",
]

_RULES = ("gaussian_tail", "bounded_covariance", "fixed_fraction", "soft", "randomized")
_ASSUMPTIONS = ("none", "scale", "identity")
_MOST_EIGENVALUES = 8

_STOPS = {
    "eigenvalue_explained": "noise alone explains what is left",
    "tails_explained": "no direction has too many rows far out",
    "removal_limit": "more rows would have gone than allowed",
    "max_rounds": "the rounds were used up",
    "zero_variance": "the rows that are left coincide",
    "too_few_rows": "so few rows that none may go",
    "no_contamination": "no row may go",
    "explained": "clean rows of this number vary as much",
}


def _share(text: str) -> Any:
    if text == "auto":
        return text
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0.0 <= share < 0.5:
        raise argparse.ArgumentTypeError(f"expected a number in [0, 0.5) or auto, got {text}")
    return share


def add_options(
    parser: argparse.ArgumentParser,
    contamination: float | str,
    note: str,
    more_rules: Sequence[str] = (),
) -> None:
    """The file, its columns, and the filter.

    With ``more_rules``, of other methods, ``--rule`` has no default: the method has one.
    """
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="table of numbers: .npy, .npz, or text (.csv, .tsv, .txt, also .gz) with or without "
        "column names",
    )
    add = parser.add_argument_group("data").add_argument
    add("--key", metavar="K", help="array of an .npz file (default: X, or the only table in it)")
    add(
        "--columns",
        nargs="+",
        default=[],
        metavar="C",
        help="columns to use: names, numbers from 0 on, or ranges such as 2:5 (default: all)",
    )
    add = parser.add_argument_group("filter").add_argument
    add(
        "--contamination",
        type=_share,
        default=contamination,
        metavar="E",
        help=f"share of bad rows, below 0.5, or auto; {note} (default: {contamination})",
    )
    add(
        "--rule",
        choices=(*_RULES, *more_rules),
        default=None if more_rules else _RULES[0],
        metavar="RULE" if more_rules else None,
        help=f"{', '.join(_RULES)}; of method mahalanobis {', '.join(more_rules)} (defaults: "
        f"{_RULES[0]}, {more_rules[0]})"
        if more_rules
        else f"default: {_RULES[0]}",
    )
    add(
        "--assume",
        choices=_ASSUMPTIONS,
        default=_ASSUMPTIONS[0],
        help="covariance of clean rows: nothing known (default), a multiple of the identity, or "
        "the identity",
    )
    add("--no-prune", action="store_true", help="do not leave out very far rows first")
    add("--seed", type=int, default=0, help="0 to 2^64 - 1 (default: 0)")
    add("--num-threads", type=int, metavar="T", help="CPU threads (default: all)")


def check_usage(args: argparse.Namespace) -> None:
    """Raise UsageError for numbers out of range."""
    if not 0 <= args.seed < 1 << 64:
        raise UsageError(f"--seed expects a number from 0 to 2^64 - 1, got {args.seed}")
    if args.num_threads is not None and args.num_threads < 1:
        raise UsageError(f"--num-threads expects a number of at least 1, got {args.num_threads}")


def check_plot_name(path: Path | None, option: str = "--plot") -> None:
    """Raise UsageError for a figure in a format that is not known."""
    if path is not None and path.suffix.lower() not in {".png", ".pdf", ".svg"}:
        raise UsageError(f"{option} expects a name ending in .png, .pdf or .svg, got {path}")


def parameters(args: argparse.Namespace) -> dict[str, Any]:
    """The options as parameters of an estimator."""
    return {
        "contamination": args.contamination,
        "rule": args.rule,
        "assume": args.assume,
        "prune": not args.no_prune,
        "random_state": args.seed,
        "n_jobs": args.num_threads,
    }


def read(args: argparse.Namespace) -> Table:
    """The table that the options name."""
    from tamis.cli.tables import load_table

    return load_table(args.file, key=args.key, columns=args.columns)


def describe(args: argparse.Namespace, table: Table, settings: dict[str, Any] | None = None) -> str:
    """One line on the data and the settings; ``settings`` in place of the rule and the like."""
    n, d = table.values.shape
    if settings is None:
        settings = {"rule": args.rule, "assume": args.assume}
    text = "".join(f", {name} {value}" for name, value in settings.items() if name != "prune")
    return (
        f"{args.file.name}: {_count(n, 'row')}, {_count(d, 'column')}; contamination "
        f"{args.contamination}{text}, seed {args.seed}"
        f"{', scaled' if getattr(args, 'scale', False) else ''}"
    )


def described_stop(found: Any, n: int) -> list[str]:
    """What the filter did, for people."""
    gone = n - int(found.support_.sum())
    values = [f"{value:.4g}" for value in found.eigenvalues_[:_MOST_EIGENVALUES]]
    values += ["..."] if len(found.eigenvalues_) > _MOST_EIGENVALUES else []
    lines = [
        f"left out: {gone} of {_count(n, 'row')} ({100 * gone / n:.4g}%) in "
        f"{_count(found.n_iter_, 'round')}",
        f"it ended because {_STOPS.get(found.stop_reason_, found.stop_reason_)} "
        f"({found.stop_reason_})",
    ]
    if values:
        lines.append(f"top eigenvalue by round: {', '.join(values)}")
    if found.stop_reason_ == "removal_limit":
        print(
            "tamis: warning: the filter wanted to leave out more rows than it may: these rows are "
            "not one cloud with some outliers, or there are more than expected",
            file=sys.stderr,
        )
    return lines


def column_spread(
    values: NDArray[Any], support: NDArray[np.bool_], centre: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Standard deviation of the kept rows in each column, about ``centre``; 1 where it is 0."""
    from tamis import _rows

    total = np.zeros(values.shape[1])
    for part in _rows.blocks(values):
        difference = values[part].astype(np.float64) - centre
        total += support[part].astype(np.float64) @ np.square(difference)
    spread = np.sqrt(total / max(int(support.sum()), 1))
    return np.asarray(np.where(spread > 0.0, spread, 1.0))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
