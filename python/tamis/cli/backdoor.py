"""``tamis backdoor scan``: which classes look attacked, by what a network makes of its examples."""

from __future__ import annotations

import argparse
import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis.cli import UsageError

__all__ = ["add_parser", "run"]

_DESCRIPTION = """\
Looks for poisoned training examples in the representations that a network has of them, class by
class (spectral signatures: Tran et al. 2018; SPECTRE: Hayase et al. 2021). The file holds a row and
a label for every example: tamis.backdoor.representations makes such rows."""

_EPILOG = """\
examples:
  tamis backdoor scan embeddings.npz
  tamis backdoor scan rows.npy --labels labels.npy --detector signatures --plot scores.png
  tamis backdoor scan embeddings.npz --contamination 0.1 -o scores.csv --json
  tamis backdoor scan embeddings.npz --detector outliers    (rows that share no signature)

exit status: 0 done, whether or not a class looks attacked; 1 the file could not be read, 2 wrong
usage"""

_LABELS = ("y", "labels", "label", "targets", "y_train")
_DETECTORS: dict[str, tuple[str, dict[str, Any]]] = {
    "spectre": ("Spectre", {}),
    "outliers": ("Spectre", {"k": "all"}),
    "signatures": ("SpectralSignatures", {}),
    "clustering": ("ActivationClustering", {}),
}
_PANELS = 12


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> argparse.ArgumentParser:
    """Add the ``backdoor`` command."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "backdoor",
        help="classes of a training set that look poisoned",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("task", choices=("scan",))
    add("file", type=Path, metavar="EMBEDDINGS", help=".npz with rows and labels, or .npy of rows")
    add("--key", metavar="K", help="array of rows in an .npz file [X, or the only table in it]")
    add("--labels", type=Path, metavar="FILE", help="labels in a file of their own: .npy or .npz")
    add("--labels-key", metavar="K", help=f"array of labels [{', '.join(_LABELS)}]")
    add("--detector", choices=tuple(_DETECTORS), default="spectre", help="[spectre]")
    add("--contamination", type=float, default=0.05, metavar="E", help="share of poison [0.05]")
    add("--multiplier", type=float, default=1.5, metavar="M", help="M * E of a class goes [1.5]")
    add("--classes", type=int, nargs="+", metavar="C", help="look at these classes only")
    add("--seed", type=int, default=0)
    add("--num-threads", type=int, metavar="T", help="CPU threads [all]")
    add("-o", "--csv", type=Path, metavar="OUT", help="write every example's score to OUT")
    add("--plot", type=Path, metavar="OUT", help=f"{_PANELS} classes at most: .png, .pdf or .svg")
    add("--json", action="store_true", help="print one JSON object instead of the table")
    return parser


def run(args: argparse.Namespace) -> int:
    """Score the rows and report on the classes; raises what ``main`` reports."""
    from tamis.cli.spectral import check_plot_name, check_usage

    check_usage(args)
    check_plot_name(args.plot)
    if not 0.0 <= args.contamination < 0.5:
        raise UsageError(f"--contamination expects a number in [0, 0.5), got {args.contamination}")
    if not 1.0 <= args.multiplier < float("inf"):
        raise UsageError(f"--multiplier expects a finite number >= 1, got {args.multiplier}")
    from tamis import backdoor
    from tamis.cli.tables import load_table

    if args.plot is not None:
        from tamis import plotting  # a missing matplotlib is said before anything is read

        plotting.require_matplotlib()
    table = load_table(args.file, key=args.key)
    labels = _labels(args)
    name, options = _DETECTORS[args.detector]
    detector = getattr(backdoor, name)(
        args.contamination, args.multiplier, random_state=args.seed, n_jobs=args.num_threads,
        **options,
    )  # fmt: skip
    found = detector.fit(table.values, labels, classes=args.classes)
    if args.csv is not None:
        _write(args.csv, found, labels)
    if args.plot is not None:
        plotting.save_figure(_figure(args, found, labels), args.plot)
    suspected = found.suspected_classes_
    if args.json:
        print(json.dumps(_facts(args, found), indent=2))
        return 0
    n, d = table.values.shape
    print(
        f"{args.file.name}: {n} rows, {d} columns, {len(found.classes_)} classes; "
        f"{args.detector}, contamination {args.contamination:g}, seed {args.seed}\n"
    )
    print(backdoor.report_table(found.class_report_))
    kind = "no class" if not suspected else "class" if len(suspected) == 1 else "classes"
    names = "".join(f" {label}" for label in suspected)
    print(f"\n{kind}{names} {'look' if len(suspected) > 1 else 'looks'} attacked")
    print(f"{int(found.removed_.sum())} rows have the largest scores of their classes")
    for path in (args.csv, args.plot):
        if path is not None:
            print(f"wrote {path}")
    return 0


def _labels(args: argparse.Namespace) -> NDArray[np.int64]:
    """Labels from their own file, or from the .npz file of the rows."""
    from tamis.smoothing.array_files import file_kind, map_npy, npz_members, read_npz_member

    path = args.file if args.labels is None else args.labels
    if args.labels is None and path.suffix.lower() != ".npz":
        raise UsageError(f"--labels FILE is needed: {path.name} is no .npz file with labels in it")
    if args.labels is not None and file_kind(path) == "npy":
        given = np.asarray(map_npy(path))
    else:
        members = npz_members(path)
        if args.labels_key is not None and args.labels_key not in members:
            raise UsageError(
                f"--labels-key: {path.name} has no array {args.labels_key!r}, but "
                f"{', '.join(members)}"
            )
        name = args.labels_key or next((key for key in _LABELS if key in members), None)
        if name is None:
            raise ValueError(
                f"{path}: expected labels under one of {', '.join(_LABELS)}, got "
                f"{', '.join(members)}; name them by --labels-key"
            )
        given = read_npz_member(path, members[name])
    flat = given[:, 0] if given.ndim == 2 and given.shape[1] == 1 else given
    if flat.ndim != 1 or flat.dtype.kind not in "iuf" or not np.array_equal(flat, np.rint(flat)):
        raise ValueError(
            f"{path}: expected whole numbers of shape (n,) as labels, got {given.dtype} of shape "
            f"{given.shape}"
        )
    return flat.astype(np.int64)


def _write(path: Path, found: Any, labels: NDArray[np.int64]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("row", "label", "score", "removed"))
        rows = zip(labels.tolist(), found.scores_.tolist(), found.removed_.tolist(), strict=True)
        for row, (label, score, removed) in enumerate(rows):
            writer.writerow((row, label, f"{score:.9g}", int(removed)))


def _figure(args: argparse.Namespace, found: Any, labels: NDArray[np.int64]) -> Any:
    """A panel for every class, those that look attacked first; at most a dozen."""
    from tamis import plotting

    signed = args.detector == "clustering"
    values = found.scores_ if signed else np.sqrt(found.scores_)
    report = found.class_report_
    order = sorted(report, key=lambda k: (not report[k].looks_attacked, -report[k].separation))
    panels = []
    for label in order[:_PANELS]:
        members = labels == label
        edges = np.histogram_bin_edges(values[members], 40)
        counts = {
            name: np.histogram(values[members & rows], edges)[0]
            for name, rows in (("kept", ~found.removed_), ("largest scores", found.removed_))
        }
        said = "looks attacked" if report[label].looks_attacked else "does not look attacked"
        panels.append((f"class {label}: {said}", edges, counts))
    what = "distance to the larger cluster beyond that to the smaller" if signed else None
    return plotting.plot_groups(panels, xlabel=what or "square root of the score", ylabel="rows")


def _facts(args: argparse.Namespace, found: Any) -> dict[str, Any]:
    from tamis import __version__

    return {
        "tamis": __version__,
        "file": args.file.name,
        "rows": len(found.scores_),
        "columns": found.n_features_in_,
        "detector": args.detector,
        "contamination": args.contamination,
        "multiplier": args.multiplier,
        "seed": args.seed,
        "suspected": found.suspected_classes_,
        "classes": [asdict(entry) for entry in found.class_report_.values()],
        "removed": np.flatnonzero(found.removed_).tolist(),
    }
