"""``tamis outliers``: the rows of a table that stand out."""

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
    from tamis.diagnostics import OutlierMap

__all__ = ["add_parser", "run"]

_DESCRIPTION = """\
Scores for the rows of a table; the higher, the more a row stands out.

Method spectral: the largest squared distance of the row from the centre of the clean rows, in units
of their spread, over the directions that give outliers away; of a bell curve 9 is three standard
deviations. Columns should have comparable units; --scale brings them to the same spread.
Method mahalanobis: the squared distance by the covariance of the clean rows. Method que: between
the two, after whitening by the clean rows. Neither depends on the units of the columns."""

_EPILOG = """\
examples:
  tamis outliers data.csv
  tamis outliers data.csv --scale --top 50 --csv scores.csv
  tamis outliers data.npz --contamination 0.05 --plot scores.png
  tamis outliers data.csv --method que --map map.png --csv scores.csv
  tamis outliers data.csv --method mahalanobis --explain 17

exit status: 0 done, 1 the file could not be read, 2 wrong usage"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> argparse.ArgumentParser:
    """Add the ``outliers`` command."""
    from tamis.cli.detectors import METHODS, RULES
    from tamis.cli.spectral import add_options

    parser: argparse.ArgumentParser = subparsers.add_parser(
        "outliers",
        help="the rows of a table that stand out, with scores",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_options(parser, "auto", "auto: as many as the filter leaves out", RULES)
    parser.add_argument(
        "--method",
        choices=tuple(METHODS),
        default="spectral",
        help="; ".join(f"{name}: {text}" for name, text in METHODS.items())
        + " (default: spectral)",
    )
    parser.add_argument(
        "--alpha", type=float, metavar="A", help="of method que: 0 or more (default: 4)"
    )
    parser.add_argument(
        "--scale",
        action="store_true",
        help="first divide each column by its robust standard deviation (copies the table)",
    )
    add = parser.add_argument_group("output").add_argument
    add("--top", type=int, default=20, metavar="N", help="rows to print (default: 20)")
    add("--csv", type=Path, metavar="OUT", help="write the scores of all rows to OUT")
    add("--plot", type=Path, metavar="OUT", help="plot them to OUT: .png, .pdf or .svg")
    add(
        "--map",
        type=Path,
        metavar="OUT",
        help="plot an outlier map to OUT: robust distance within the leading components of the "
        "clean rows against the distance from them; with --csv both are in the file too",
    )
    add("--components", type=int, metavar="K", help="of the map (default: 80%% of the variance)")
    add(
        "--explain",
        type=int,
        nargs="+",
        default=[],
        metavar="ROW",
        help="which direction makes these rows (from 0 on) stand out, and which columns carry it",
    )
    add("--json", action="store_true", help="print one JSON object instead of the table")
    return parser


def run(args: argparse.Namespace) -> int:
    """Print the rows of a table that stand out; raises what ``main`` reports."""
    from tamis.cli import detectors, spectral

    spectral.check_usage(args)
    spectral.check_plot_name(args.plot)
    spectral.check_plot_name(args.map, "--map")
    _check_usage(args)
    detectors.check_method(args)
    if args.plot is not None or args.map is not None:
        from tamis import plotting  # a missing matplotlib is said before anything is read

        plotting.require_matplotlib()
    table = spectral.read(args)
    _check_rows(args, table)
    values = _scaled(table.values) if args.scale else table.values
    found = detectors.make(args).fit(values)
    settings = detectors.facts_of(args, found)
    ranked = found.dist_ if args.method == "mahalanobis" else -found.training_scores_
    scores = np.asarray(ranked, dtype=np.float64)
    outlier = scores > -found.offset_
    order = np.argsort(-scores, kind="stable")[: args.top]
    distances = None
    if args.map is not None:
        from tamis.diagnostics import outlier_map

        distances = outlier_map(values, found.support_, n_components=args.components)
        title = spectral.describe(args, table, settings).replace("; ", "\n", 1)
        figure = plotting.plot_outlier_map(distances, outlier=outlier, title=title)
        plotting.save_figure(figure, args.map)
    if args.csv is not None:
        _write(args.csv, table, scores, outlier, distances)
    if args.plot is not None:
        figure = plotting.plot_scores(
            scores,
            threshold=-found.offset_,
            support=found.support_,
            eigenvalues=found.eigenvalues_,
            title=spectral.describe(args, table, settings).replace("; ", "\n", 1),
            xlabel=detectors.XLABELS[args.method],
        )
        plotting.save_figure(figure, args.plot)
    spread = spectral.column_spread(values, found.support_, np.asarray(found.location_, float))
    z = (np.asarray(values[order], dtype=np.float64) - found.location_) / spread
    reasons = [(row, found.explain(row)) for row in args.explain]
    if args.json:
        facts = _facts(args, table, found, scores, outlier) | settings
        facts["top"] = _top(table, order, scores, outlier, z)
        if reasons:
            facts["explained"] = [detectors.explained_facts(table, *reason) for reason in reasons]
        print(json.dumps(facts, indent=2))
        return 0
    print(spectral.describe(args, table, settings))
    if order.size:
        print(f"\n{_text(table, _top(table, order, scores, outlier, z))}")
    count = int(outlier.sum())
    print(f"\noutliers: {count} of {len(scores)} rows, with scores above {-found.offset_:.4g}")
    print("\n".join(spectral.described_stop(found, len(scores))))
    for reason in reasons:
        print(f"\n{detectors.explained_text(table, *reason)}")
    for path in (args.csv, args.plot, args.map):
        if path is not None:
            print(f"wrote {path}")
    return 0


def _check_usage(args: argparse.Namespace) -> None:
    if args.top < 0:
        raise UsageError(f"--top expects a number of at least 0, got {args.top}")
    if args.contamination == 0.0:
        raise UsageError("--contamination expects a number above 0 or auto, got 0")
    if args.components is not None and (args.map is None or args.components < 1):
        raise UsageError("--components expects a number of at least 1, beside --map")


def _check_rows(args: argparse.Namespace, table: Table) -> None:
    n, d = table.values.shape
    for row in args.explain:
        if not 0 <= row < n:
            raise UsageError(f"--explain expects rows from 0 to {n - 1}, got {row}")
    if args.components is not None and args.components > d:
        raise UsageError(f"--components expects at most {d}, got {args.components}")


def _scaled(values: NDArray[Any]) -> NDArray[Any]:
    """Columns over their robust deviation: 60% of the distances to the median over .8416.

    As the filter measures the spread along a direction; columns of which most is one value are
    divided by their standard deviation, and constant ones left alone.
    """
    from tamis.location import coordinate_median

    centre = np.asarray(coordinate_median(values), dtype=np.float64)
    out = values.astype(np.float64)
    for column in range(out.shape[1]):
        distance = np.abs(out[:, column] - centre[column])
        spread = float(np.quantile(distance, 0.6)) / 0.8416212335729143
        out[:, column] /= spread or float(out[:, column].std()) or 1.0
    return out.astype(values.dtype)


def _top(
    table: Table,
    order: NDArray[np.int64],
    scores: NDArray[np.float64],
    outlier: NDArray[np.bool_],
    z: NDArray[np.float64],
) -> list[dict[str, Any]]:
    """The rows that are shown: number, line, score, and the column that is furthest out."""
    lines: list[int | None] = [None] * order.size
    if table.text:
        lines = list(table.lines([int(row) for row in order]))
    top = []
    for row, line, deviations in zip(order.tolist(), lines, z, strict=True):
        column = int(np.argmax(np.abs(deviations)))
        top.append(
            {
                "row": row,
                **({} if line is None else {"line": line}),
                "score": float(scores[row]),
                "outlier": bool(outlier[row]),
                "column": table.names[column],
                "value": float(table.values[row, column]),
                "deviations": float(deviations[column]),
            }
        )
    return top


def _text(table: Table, top: list[dict[str, Any]]) -> str:
    from tamis._text_table import text_table

    head = ["row", "score", "outlier", "furthest column", "value", "sd from mean"]
    rows = [
        [
            str(entry["row"]),
            f"{entry['score']:.4g}",
            "yes" if entry["outlier"] else "no",
            entry["column"],
            f"{entry['value']:.6g}",
            f"{entry['deviations']:+.3g}",
        ]
        for entry in top
    ]
    if table.text:
        head.insert(1, "line")
        for cells, entry in zip(rows, top, strict=True):
            cells.insert(1, str(entry["line"]))
    return text_table(head, rows, left=[head.index("furthest column")])


def _facts(
    args: argparse.Namespace,
    table: Table,
    found: Any,
    scores: NDArray[np.float64],
    outlier: NDArray[np.bool_],
) -> dict[str, Any]:
    from tamis import __version__

    return {
        "tamis": __version__,
        "file": args.file.name,
        "rows": len(scores),
        "columns": table.names,
        "contamination": args.contamination,
        "scale": args.scale,
        "seed": args.seed,
        "threshold": -found.offset_,
        "outliers": [int(row) for row in np.flatnonzero(outlier)],
        "share_left_out": found.contamination_,
        "rounds": found.n_iter_,
        "eigenvalues": [float(value) for value in found.eigenvalues_],
        "stop_reason": found.stop_reason_,
    }


def _write(
    path: Path,
    table: Table,
    scores: NDArray[np.float64],
    outlier: NDArray[np.bool_],
    distances: OutlierMap | None,
) -> None:
    columns: dict[str, list[Any]] = {"row": list(range(len(scores)))}
    if table.text:
        columns["line"] = table.lines(range(len(scores)))
    columns["score"] = [repr(score) for score in scores.tolist()]
    columns["outlier"] = [int(out) for out in outlier]
    if distances is not None:
        columns["robust_distance"] = distances.robust_distances.tolist()
        columns["orthogonal_distance"] = distances.orthogonal_distances.tolist()
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
