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
from tamis.cli.tables import Table

__all__ = ["add_parser", "run"]

_DESCRIPTION = """\
Fits a linear model to the rows of a table of which some may be arbitrarily bad (SEVER: Diakonikolas
et al. 2019): ridge regression on standardised columns, or logistic regression. Rows whose gradients
pull together are dropped until the set is stable. The contamination's worth of rows goes, of every
class, even where none is bad: then the plain fit is the better one. Classes are whole numbers or
words."""

_EPILOG = """\
examples:
  tamis sever regress data.csv --target price --contamination 0.1 --report
  tamis sever classify mails.csv --target kind    (ham and spam, say)
  tamis sever classify data.npz --target label -o scores.csv    (arrays X and label)

Rows count from 0. Scores are lengths along the direction in which gradients spread most, and only
comparable within one fit. Weights are per unit of their column.

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
    add(
        "--target",
        required=True,
        metavar="NAME",
        help="column to predict: its name or number; of an .npz file also an array",
    )
    add(
        "--columns", nargs="+", default=[], metavar="C", help="columns to predict from [all others]"
    )
    add("--key", help="array of an .npz file")
    add("--contamination", type=float, default=0.1, metavar="SHARE", help="of bad rows [0.1]")
    add("--alpha", type=float, default=1.0, help="penalty of the ridge, or 1/C [1.0]")
    add("--seed", type=int, default=0, help="settles ties between equal scores [0]")
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
    if not 0.0 < args.alpha < np.inf:
        raise UsageError(f"--alpha: expected a finite number > 0, got {args.alpha}")
    if not 0 <= args.seed < 2**64:
        raise UsageError(f"--seed: expected an integer in [0, 2^64), got {args.seed}")
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
    facts = _facts(args, found, plain, X, y, table)
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
    table: Table,
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

    def weights(model: Any) -> NDArray[np.float64]:  # in the units of the table
        return np.asarray(np.atleast_2d(model[-1].coef_) / model[0].scale_)

    def intercepts(model: Any) -> list[float]:
        there = np.atleast_1d(model[-1].intercept_) - weights(model) @ model[0].mean_
        return [float(value) for value in there]

    lines = table.lines([int(row) for row in gone]) if table.text else [None] * len(gone)
    answers = found.estimator_.predict(X[gone]) if len(gone) else []
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
        "columns": table.names,
        **({} if args.task == "regress" else {"classes": found.classes_.tolist()}),
        "weights": {
            "plain": weights(plain).tolist(),
            "sever": weights(found.estimator_).tolist(),
        },
        "intercepts": {"plain": intercepts(plain), "sever": intercepts(found.estimator_)},
        "dropped": [
            {
                "row": int(row),
                **({} if line is None else {"line": line}),
                "score": float(found.outlier_scores_[row]),
                "target": y[row].item(),
                "predicted": answer.item(),
            }
            for row, line, answer in zip(gone, lines, answers, strict=True)
        ],
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
    lines += ["", _weights_text(facts)]
    if dropped:
        lines += ["", _dropped_text(dropped)]
    if len(dropped) > _SHOWN:
        lines.append(f"and {len(dropped) - _SHOWN} more; --json or -o has all.")
    return "\n".join(lines)


def _weights_text(facts: dict[str, Any]) -> str:
    """The weights that change most, with their class where there are several."""
    from tamis._text_table import text_table

    plain, robust = (np.asarray(facts["weights"][kind]) for kind in ("plain", "sever"))
    before, after = (facts["intercepts"][kind] for kind in ("plain", "sever"))
    most = np.argmax(np.abs(robust - plain), axis=0)
    columns = np.arange(plain.shape[1])
    change = np.abs(robust - plain)[most, columns]
    shown = np.sort(np.argsort(-change, kind="stable")[:_SHOWN])
    rows = [
        [facts["columns"][j], f"{plain[most[j], j]:.4g}", f"{robust[most[j], j]:.4g}"]
        for j in shown
    ]
    head = ["weight of", "plain fit", "SEVER"]
    if len(plain) == 1:
        rows.append(["(intercept)", f"{before[0]:.4g}", f"{after[0]:.4g}"])
        if "classes" in facts:
            head[0] = f"weight for {_shown(facts['classes'][1])} of"
        return text_table(head, rows, left=[0])
    for row, j in zip(rows, shown, strict=True):
        row.insert(1, _shown(facts["classes"][most[j]]))
    return text_table([head[0], "for class", *head[1:]], rows, left=[0, 1])


def _dropped_text(dropped: list[dict[str, Any]]) -> str:
    from tamis._text_table import text_table

    names = [name for name in ("row", "line", "score", "target", "predicted") if name in dropped[0]]
    rows = [[_shown(entry[name]) for name in names] for entry in dropped[:_SHOWN]]
    words = [k for k, name in enumerate(names) if isinstance(dropped[0][name], str)]
    return text_table([f"dropped {names[0]}", *names[1:]], rows, left=words)


def _shown(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return str(int(value)) if value.is_integer() and abs(value) < 1e9 else f"{value:.4g}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")
