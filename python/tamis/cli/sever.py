"""``tamis sever``: a linear model of a table of which some rows are bad."""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis.cli import UsageError

__all__ = ["add_parser", "run"]

_DESCRIPTION = """\
Fits a linear model to the rows of a table of which some may be arbitrarily bad (SEVER: Diakonikolas
et al. 2019): ridge regression on standardised columns, or logistic regression. Rows whose gradients
pull together are dropped until the set is stable. Classes are numbers or, in a text file, words."""

_EPILOG = """\
examples:
  tamis sever regress data.csv --target price --contamination 0.1 --report
  tamis sever classify mails.csv --target kind    (ham and spam, say)
  tamis sever classify data.npz --target label -o scores.csv

exit status: 0 done, 1 the file could not be read, 2 wrong usage"""

_SHOWN = 20  # rows and columns in the report on the terminal


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> argparse.ArgumentParser:
    """Add the ``sever`` command."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "sever",
        help="a linear model of a table of which some rows are bad",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("task", choices=("regress", "classify"))
    add("file", type=Path, metavar="FILE", help="table: .csv, .tsv, .txt, .npy or .npz")
    add("--target", required=True, metavar="NAME", help="column to predict: its name or number")
    add(
        "--columns", nargs="+", default=[], metavar="C", help="columns to predict from [all others]"
    )
    add("--key", help="array of an .npz file")
    add("--contamination", type=float, default=0.1, metavar="SHARE", help="of bad rows [0.1]")
    add("--alpha", type=float, default=1.0, help="penalty of the ridge, or 1/C [1.0]")
    add("--seed", type=int, default=0)
    add("--report", action="store_true", help="list the dropped rows, and both fits")
    add("--json", action="store_true", help="print one JSON object")
    add("-o", "--out", type=Path, metavar="CSV", help="write every row's score")
    return parser


def run(args: argparse.Namespace) -> int:
    """Fit with and without SEVER and compare; raises what ``main`` reports."""
    if not 0.0 <= args.contamination < 0.5:
        raise UsageError(
            f"--contamination: expected a number in [0, 0.5), got {args.contamination}"
        )
    if not args.alpha > 0.0:
        raise UsageError(f"--alpha: expected a number > 0, got {args.alpha}")
    from sklearn.base import clone
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from tamis.cli.target_column import load_with_target
    from tamis.sever import SeverClassifier, SeverRegressor

    regress = args.task == "regress"
    table, y = load_with_target(
        args.file, args.target, key=args.key, columns=args.columns, words=not regress
    )
    _check_target(args, y)
    X = np.asarray(table.values, dtype=np.float64)
    last = Ridge(alpha=args.alpha) if regress else LogisticRegression(C=1.0 / args.alpha)
    base = make_pipeline(StandardScaler(), last)
    driver = SeverRegressor if regress else SeverClassifier
    found = driver(base, contamination=args.contamination, random_state=args.seed).fit(X, y)
    plain = clone(base).fit(X, y)
    facts = _facts(args, found, plain, X, y, table.names)
    if args.out is not None:
        with args.out.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("row", "score", "kept"))
            for row in range(len(y)):
                kept = int(found.support_[row])
                writer.writerow((row, f"{found.outlier_scores_[row]:.9g}", kept))
    if args.json:
        print(json.dumps(facts, indent=2))
    else:
        print(_text(args, facts))
    return 0


def _check_target(args: argparse.Namespace, y: NDArray[Any]) -> None:
    """Raise ValueError for a target that no model can be fitted to, before one is."""
    where = f"{args.file}, column {args.target}"
    if len(y) < 2:
        raise ValueError(f"{args.file}: expected at least 2 rows, got {len(y)}")
    if args.task == "regress":
        return
    if y.dtype.kind == "f" and (y != np.round(y)).any():
        row = int(np.argmax(y != np.round(y)))
        raise ValueError(
            f"{where}: expected classes (words or whole numbers), got {y[row]:.6g} in row {row}; "
            "`tamis sever regress` predicts numbers"
        )
    if len(np.unique(y)) < 2:
        raise ValueError(f"{where}: expected at least 2 classes, got only {y[0]}")


def _facts(
    args: argparse.Namespace,
    found: Any,
    plain: Any,
    X: NDArray[np.float64],
    y: NDArray[Any],
    names: list[str],
) -> dict[str, Any]:
    from tamis import __version__

    kept = found.support_
    gone = np.flatnonzero(~kept)
    gone = gone[np.argsort(-found.outlier_scores_[gone], kind="stable")]

    def error(model: Any, rows: Any) -> float | None:
        if not rows.any():
            return None  # which JSON has, and NaN it has not
        answer = model.predict(X[rows])
        if args.task == "classify":
            return float((answer != y[rows]).mean())
        return float(np.sqrt(np.mean((answer - y[rows]) ** 2)))

    def weights(model: Any) -> list[list[float]]:  # in the units of the table
        last, scale = model[-1], model[0].scale_
        return [[float(w) for w in row / scale] for row in np.atleast_2d(last.coef_)]

    return {
        "tamis": __version__,
        "file": args.file.name,
        "task": args.task,
        "rows": len(y),
        "contamination": args.contamination,
        "seed": args.seed,
        "measure": "rms error" if args.task == "regress" else "error rate",
        "error_on_kept": {"plain": error(plain, kept), "sever": error(found.estimator_, kept)},
        "error_on_dropped": {"plain": error(plain, ~kept), "sever": error(found.estimator_, ~kept)},
        "columns": names,
        "weights": {"plain": weights(plain), "sever": weights(found.estimator_)},
        "dropped": [{"row": int(i), "score": float(found.outlier_scores_[i])} for i in gone],
        "rounds": len(found.history_),
        "stop_reason": found.stop_reason_,
    }


def _text(args: argparse.Namespace, facts: dict[str, Any]) -> str:
    from tamis._text_table import text_table

    dropped = facts["dropped"]
    errors = [
        (where, f"{facts[key]['plain']:.4g}", f"{facts[key]['sever']:.4g}")
        for where, key in (("kept rows", "error_on_kept"), ("dropped rows", "error_on_dropped"))
        if facts[key]["plain"] is not None
    ]
    lines = [
        f"{facts['file']}: {_count(facts['rows'], 'row')}, "
        f"{_count(len(facts['columns']), 'column')}; {_count(len(dropped), 'row')} dropped "
        f"in {_count(facts['rounds'], 'round')} ({facts['stop_reason']})",
        "",
        text_table((facts["measure"], "plain fit", "SEVER"), errors, left=[0]),
    ]
    if not args.report:
        return "\n".join([*lines, "", "--report lists the dropped rows and the weights."])
    plain, robust = (np.asarray(facts["weights"][kind]) for kind in ("plain", "sever"))
    change = np.abs(robust - plain).max(axis=0)
    shown = np.sort(np.argsort(-change, kind="stable")[:_SHOWN])
    # of several classes, the weight that changes most
    most = np.argmax(np.abs(robust - plain), axis=0)
    rows = [
        (facts["columns"][j], f"{plain[most[j], j]:.4g}", f"{robust[most[j], j]:.4g}")
        for j in shown
    ]
    lines += ["", text_table(("weight of", "plain fit", "SEVER"), rows, left=[0])]
    scores = [(str(entry["row"]), f"{entry['score']:.4g}") for entry in dropped[:_SHOWN]]
    if scores:
        lines += ["", text_table(("dropped row", "score"), scores, left=[])]
    if len(dropped) > _SHOWN:
        lines.append(f"and {len(dropped) - _SHOWN} more; --json or -o has all.")
    return "\n".join(lines)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")
