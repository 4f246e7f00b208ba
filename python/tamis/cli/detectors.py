"""The methods of ``tamis outliers``, and why a row has its score, as text."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from tamis.cli import UsageError

if TYPE_CHECKING:
    from tamis.cli.tables import Table
    from tamis.estimators._explanation import Explanation

__all__ = [
    "METHODS",
    "RULES",
    "XLABELS",
    "check_method",
    "explained_facts",
    "explained_text",
    "facts_of",
    "make",
]

METHODS = {
    "spectral": "standardised distance along the directions that give outliers away",
    "que": "quantum entropy score of the robustly whitened row",
    "mahalanobis": "Mahalanobis distance by the robust covariance",
}
XLABELS = {
    "spectral": "distance from the centre (standard deviations)",
    "que": "square root of the QUE score (1 for an average clean row)",
    "mahalanobis": "robust Mahalanobis distance",
}
RULES = ("gaussian", "bounded")  # of the Mahalanobis method; the first one is its default
_ALPHA = 4.0
_SHOWN = 8  # features


def check_method(args: argparse.Namespace) -> None:
    """Raise UsageError for options of another method."""
    spectral = args.method == "spectral"
    for option, given in (("--assume", args.assume != "none"), ("--no-prune", args.no_prune)):
        if given and not spectral:
            raise UsageError(f"{option} is for --method spectral, not {args.method}")
    if args.alpha is not None and args.method != "que":
        raise UsageError(f"--alpha is for --method que, not {args.method}")
    if args.alpha is not None and not 0.0 <= args.alpha < float("inf"):
        raise UsageError(f"--alpha expects a number of at least 0, got {args.alpha}")
    if args.rule is None:
        return
    if args.method == "que":
        raise UsageError("--rule is for --method spectral or mahalanobis, not que")
    if (args.rule in RULES) == spectral:
        raise UsageError(f"--rule {args.rule} is not one of --method {args.method}")


def make(args: argparse.Namespace) -> Any:
    """The estimator, not yet fitted."""
    from tamis import estimators
    from tamis.cli.spectral import parameters

    if args.method == "spectral":
        options = parameters(args)
        if args.rule is None:
            del options["rule"]
        return estimators.SpectralOutlierDetector(**options)
    common = {"random_state": args.seed, "n_jobs": args.num_threads}
    if args.method == "que":
        alpha = _ALPHA if args.alpha is None else args.alpha
        return estimators.QUEOutlierDetector(args.contamination, alpha, **common)
    rule = RULES[0] if args.rule is None else args.rule
    return estimators.RobustCovariance(args.contamination, rule=rule, **common)


def facts_of(args: argparse.Namespace, found: Any) -> dict[str, Any]:
    """The method and its own settings, for JSON and for the line of settings."""
    if args.method == "que":
        return {"method": "que", "alpha": found.alpha}
    if args.method == "mahalanobis":
        return {"method": "mahalanobis", "rule": found.rule}
    return {
        "method": "spectral",
        "rule": found.rule,
        "assume": args.assume,
        "prune": not args.no_prune,
    }


def explained_facts(table: Table, row: int, why: Explanation) -> dict[str, Any]:
    """One explanation for JSON: contributions of all features, by name."""
    return {
        "row": row,
        "score": why.score,
        "outlier": why.outlier,
        "deviations": why.deviations,
        "share_of_direction": why.share,
        "direction": dict(zip(table.names, map(float, why.direction), strict=True)),
        "contributions": dict(zip(table.names, map(float, why.contributions), strict=True)),
    }


def explained_text(table: Table, row: int, why: Explanation) -> str:
    """One explanation for people: the features that add most to the score."""
    from tamis._text_table import text_table

    line = f" (line {table.lines([row])[0]})" if table.text else ""
    head = (
        f"row {row}{line}: score {why.score:.4g}, threshold {why.threshold:.4g}, "
        f"{'an outlier' if why.outlier else 'not an outlier'}"
    )
    if why.share == 0.0:
        return f"{head}\nno direction makes it stand out"
    cells = []
    for j in (-why.contributions).argsort(kind="stable")[:_SHOWN]:
        cells.append(
            [
                table.names[j],
                f"{float(table.values[row, j]):.6g}",
                f"{why.direction[j]:+.3f}",
                f"{100 * why.contributions[j] / why.score:.1f}%",
            ]
        )
    return (
        f"{head}\n{why.deviations:.3g} standard deviations out along one direction, which gives "
        f"{100 * why.share:.0f}% of the score\n\n"
        + text_table(["column", "value", "in direction", "of the score"], cells, left=[0])
    )
