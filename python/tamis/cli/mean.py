"""``tamis mean``: the mean of a table of which some rows are bad."""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tamis.cli import UsageError

if TYPE_CHECKING:
    from tamis.cli.tables import Table

__all__ = ["add_parser", "run"]

_SHOWN = 20  # columns in the table on the terminal

_DESCRIPTION = """\
The mean of the rows of a table, some of which may be arbitrarily bad.

Rows that spread the others along some direction more than clean rows could are left out, until
what is left is explained; the error then does not grow with the number of columns (Diakonikolas et
al. 2017). Columns should have comparable units."""

_EPILOG = """\
examples:
  tamis mean data.csv
  tamis mean data.npz --key embeddings --contamination auto -o mean.npy
  tamis mean data.csv --columns height weight 5:9 --rule bounded_covariance

exit status: 0 done, 1 the file could not be read, 2 wrong usage"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> argparse.ArgumentParser:
    """Add the ``mean`` command."""
    from tamis.cli.spectral import add_options

    parser: argparse.ArgumentParser = subparsers.add_parser(
        "mean",
        help="the mean of a table of which some rows are bad",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_options(parser, 0.1, "at most 2.5 times as many rows are left out")
    add = parser.add_argument_group("output").add_argument
    add("--json", action="store_true", help="print one JSON object, with all columns")
    add("-o", "--out", type=Path, metavar="OUT", help="write the mean to OUT: .npy or .csv")
    return parser


def run(args: argparse.Namespace) -> int:
    """Print the robust mean of a table; raises what ``main`` reports."""
    from tamis.cli import spectral
    from tamis.estimators import RobustMean

    spectral.check_usage(args)
    if args.out is not None and args.out.suffix.lower() not in {".npy", ".csv"}:
        raise UsageError(f"--out expects a name ending in .npy or .csv, got {args.out}")
    table = spectral.read(args)
    found = RobustMean(**spectral.parameters(args)).fit(table.values)
    plain = np.asarray(table.values.mean(axis=0, dtype=np.float64))
    robust = np.asarray(found.location_, dtype=np.float64)
    if args.out is not None:
        _write(args.out, table, found.location_, plain)
    if args.json:
        print(json.dumps(_facts(args, table, found, plain), indent=2))
        return 0
    spread = spectral.column_spread(table.values, found.support_, robust)
    print("\n".join([spectral.describe(args, table), "", *_columns(table, robust, plain, spread)]))
    print()
    print("\n".join(spectral.described_stop(found, len(table.values))))
    if args.out is not None:
        print(f"wrote {args.out}")
    return 0


def _columns(
    table: Table,
    robust: NDArray[np.float64],
    plain: NDArray[np.float64],
    spread: NDArray[np.float64],
) -> list[str]:
    """The table of means; of many columns, those where the two means differ most."""
    from tamis._text_table import text_table

    shift = (robust - plain) / spread
    shown = np.arange(robust.size)
    notes = []
    if shown.size > _SHOWN:
        shown = np.sort(np.argsort(-np.abs(shift), kind="stable")[:_SHOWN])
        notes = [f"The {_SHOWN} of {robust.size} columns where the means differ most; -o has all."]
    rows = [
        (
            table.names[j],
            f"{robust[j]:.6g}",
            f"{plain[j]:.6g}",
            f"{spread[j]:.4g}",
            f"{shift[j]:+.2f}",
        )
        for j in shown
    ]
    head = ("column", "robust mean", "plain mean", "sd of kept", "difference, sd")
    return [text_table(head, rows, left=[0]), *notes]


def _facts(
    args: argparse.Namespace, table: Table, found: Any, plain: NDArray[np.float64]
) -> dict[str, Any]:
    from tamis import __version__

    return {
        "tamis": __version__,
        "file": args.file.name,
        "rows": int(table.values.shape[0]),
        "contamination": args.contamination,
        "rule": args.rule,
        "assume": args.assume,
        "prune": not args.no_prune,
        "seed": args.seed,
        "columns": table.names,
        "mean": [float(value) for value in found.location_],
        "plain_mean": [float(value) for value in plain],
        "left_out": [int(row) for row in np.flatnonzero(~found.support_)],
        "share_left_out": found.contamination_,
        "rounds": found.n_iter_,
        "eigenvalues": [float(value) for value in found.eigenvalues_],
        "stop_reason": found.stop_reason_,
    }


def _write(path: Path, table: Table, location: Any, plain: NDArray[np.float64]) -> None:
    if path.suffix.lower() == ".npy":
        np.save(path, location)
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("column", "mean", "plain_mean"))
        writer.writerows(zip(table.names, map(float, location), map(float, plain), strict=True))
