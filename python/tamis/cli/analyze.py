"""``tamis analyze``: what one or several certification logs say, as a table, a file or a plot.

One list of ``Table`` objects feeds every format. On a terminal rich, where it is installed, adds
bold and dim; without it the same text is printed plain. The fallback is silent on purpose: nothing
is lost, and analysing a log must not need an extra. The file passes the usual 400 lines because it
holds the whole command, from the options to the five ways of showing the result.
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import re
import shutil
import sys
import textwrap
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis.analysis import (
    DEFAULT_ALPHA,
    AnalysisWarning,
    CertificationLog,
    LogSummary,
    UpperEnvelope,
    check_comparable,
    load_log,
    summary,
    upper_envelope,
)
from tamis.cli import UsageError
from tamis.cli.results import radii_up_to

__all__ = ["add_parser", "parse_radii", "run", "short_names"]

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_MAX_RADII = 10_000
_NAME_WIDTH = 18
_ENVELOPE = "envelope"

_DESCRIPTION = """\
Certified accuracy of one or several certification logs: those that 'tamis
certify' writes, and those in the published format (tab-separated columns
idx label predict radius correct [time]), plain, .xz or .gz."""

_EPILOG = """\
examples:
  tamis analyze run.tsv
  tamis analyze run.tsv --radii 0 0.25 0.5        radii one by one
  tamis analyze run.tsv --radii 0:2:0.1           or from 0 to 2 in steps of 0.1
  tamis analyze a.tsv b.tsv --plot curves.png
  tamis analyze *.tsv.xz --format csv > numbers.csv

exit status: 0 done, 1 a log could not be read or analysed, 2 wrong usage"""


def parse_radii(text: str) -> list[float]:
    """Radii from ``"0.5"``, ``"0,0.25,0.5"`` or ``"start:stop:step"`` (stop included).

    Steps are taken in decimal, so 0:1:0.1 holds the 0.3 that a log holds.

    Raises
    ------
    argparse.ArgumentTypeError
        If `text` is none of these, or a radius is negative or not finite.
    """
    wrong = argparse.ArgumentTypeError(
        f"expected radii >= 0 such as 0.5 or 0,0.25,0.5 or 0:2:0.25, got {text!r} "
        "(name the logs before the options)"
    )
    radii: list[float] = []
    for part in text.split(","):
        try:
            numbers = [Decimal(number.strip()) for number in part.split(":")]
        except InvalidOperation:
            raise wrong from None
        if not all(number.is_finite() and number >= 0 for number in numbers):
            raise wrong
        if len(numbers) == 1:
            radii.append(float(numbers[0]))
        elif len(numbers) == 3 and numbers[2] > 0 and numbers[1] >= numbers[0]:
            start, stop, step = numbers
            count = (stop - start) / step
            if count > _MAX_RADII:
                raise argparse.ArgumentTypeError(f"expected at most {_MAX_RADII} radii: {text!r}")
            radii.extend(float(start + k * step) for k in range(int(count) + 1))
        else:
            raise wrong
    return radii


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> argparse.ArgumentParser:
    """Add the ``analyze`` command."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "analyze",
        help="certified accuracy by radius and more, from the logs that certify writes",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("logs", nargs="+", metavar="LOG", help="certification logs")
    add(
        "--radii",
        nargs="+",
        type=parse_radii,
        metavar="R",
        help="l2 radii in input units: numbers, or start:stop:step "
        "(default: about ten, from 0 to the largest certified one)",
    )
    add(
        "--no-envelope",
        action="store_true",
        help="leave out the best of the logs at each radius, which is shown for two or more logs",
    )
    add(
        "--format",
        choices=("table", "md", "csv", "latex"),
        default="table",
        help="table (default) fits the terminal; csv has one row per log and radius, unrounded",
    )
    add("--plot", metavar="FILE", help="write the curves to FILE (.png, .pdf or .svg)")
    add("--plot-p-lower", metavar="FILE", help="write a histogram of p_lower to FILE")
    add(
        "--alpha",
        type=float,
        metavar="A",
        help="failure probability of one certificate, for logs that do not record it "
        f"(default: {DEFAULT_ALPHA})",
    )
    add(
        "--rho",
        type=float,
        default=0.001,
        metavar="P",
        help="failure probability of the lower bound on certified accuracy (default: 0.001)",
    )
    add(
        "--bound",
        choices=("binomial", "published"),
        default="binomial",
        help="how that bound is computed: exact binomial tail (default), or the formula of the "
        "code published with Cohen et al. 2019",
    )
    add(
        "--sigma",
        nargs="+",
        type=float,
        metavar="S",
        help="noise level of logs that record neither it nor p_lower: one for all, or one a log",
    )
    add("--strict", action="store_true", help="refuse a log whose last line is cut short")
    return parser


@dataclass(frozen=True)
class Table:
    """A title, column heads and rows of text; the first column names the row."""

    title: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]


def short_names(names: Sequence[str], width: int = _NAME_WIDTH) -> list[str]:
    """`names` without the words that all share at their ends, cut in the middle to `width`."""
    words = [re.split(r"(?<=[_\-/. ])(?![0-9])", name) for name in names]
    if len(names) > 1:
        for end in (0, -1):
            while min(map(len, words)) > 1 and len({w[end] for w in words}) == 1:
                for w in words:
                    del w[end]
    short = []
    for parts in words:
        name = "".join(parts).strip("_-/. ")
        if len(name) > width:
            left = (width - 1) // 3  # the end of a file name tells more than its beginning
            name = f"{name[:left]}~{name[len(name) - (width - 1 - left) :]}"
        short.append(name)
    return short


def _letters(count: int) -> list[str]:
    """A to Z, then AA, AB, ..."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    words = (
        "".join(w) for size in itertools.count(1) for w in itertools.product(alphabet, repeat=size)
    )
    return list(itertools.islice(words, count))


@dataclass(frozen=True)
class _Report:
    letters: list[str]
    names: list[str]
    paths: list[str]
    summaries: list[LogSummary]
    envelope: UpperEnvelope | None
    notes: list[str]

    @property
    def row_names(self) -> list[str]:
        if len(self.names) == 1:
            return [short_names(self.names, 24)[0]]
        short = short_names(self.names)
        return [f"{letter} {name}" for letter, name in zip(self.letters, short, strict=True)]

    def legend(self) -> list[tuple[str, str]]:
        """(letter, path and what is known about the run), then ("all", what all logs share)."""
        facts = [_facts(s) for s in self.summaries]
        shared = [fact for fact in facts[0] if all(fact in other for other in facts)]
        if len(facts) == 1:
            return [(self.letters[0], f"{self.paths[0]}: {_join(shared)}")]
        lines = []
        for letter, path, known in zip(self.letters, self.paths, facts, strict=True):
            own = _join([fact for fact in known if fact not in shared])
            lines.append((letter, f"{path}: {own}" if own else path))
        return [*lines, ("all", _join(shared))] if shared else lines

    def tables(self) -> list[Table]:
        radii = self.summaries[0].radii
        head = ("radius (l2)", *_radius_heads(radii))
        places = 1 if all(s.rows <= 1000 for s in self.summaries) else 2

        def percents(values: NDArray[np.float64]) -> tuple[str, ...]:
            # A bare 0 is exactly none, unlike a small share that rounds to 0.0.
            return tuple(f"{100 * value:.{places}f}" if value else "0" for value in values)

        pairs = list(zip(self.row_names, self.summaries, strict=True))
        accuracy = [(name, *percents(s.certified_accuracy)) for name, s in pairs]
        if self.envelope is not None:
            best = (self.letters[w] if w >= 0 else "-" for w in self.envelope.winner)
            accuracy.append((_ENVELOPE, *percents(self.envelope.values)))
            accuracy.append(("attained by", *best))
        bound = [(name, *percents(s.lower_bound)) for name, s in pairs]
        overall = [
            (
                name,
                *percents(np.array([s.accuracy, s.abstention_rate])),
                f"{s.average_certified_radius:.4f}",
                "-" if s.seconds_per_image is None else _seconds_text(s.seconds_per_image),
            )
            for name, s in pairs
        ]
        quantiles = [
            (name, *(_p_text(value) for value in s.p_lower.quantile(_QUANTILES)))
            for name, s in pairs
            if s.p_lower is not None
        ]
        sure = 100 * (1 - self.summaries[0].rho)
        tables = [
            Table("Certified accuracy, %", head, accuracy),
            Table(f"Certified accuracy, %, at least (with probability {sure:.6g}%)", head, bound),
            Table(
                "Overall",
                ("log", "accuracy, %", "abstains, %", "mean radius (ACR)", "s / image"),
                overall,
            ),
        ]
        if quantiles:
            names = tuple(f"{100 * q:g}%" for q in _QUANTILES)
            title = "Quantiles over the images of p_lower, the bound on the top class"
            tables.append(Table(title, ("log", *names), quantiles))
        return tables


def _facts(s: LogSummary) -> list[str]:
    known = {"sigma": s.sigma, "n": s.n, "alpha": s.alpha, "seed": s.seed}
    # Written by tamis certify only: nothing is said where they are absent.
    extra = {key: s.metadata[key] for key in ("model", "data", "bound") if key in s.metadata}
    facts = [
        *(f"{key} {value}" for key, value in extra.items()),
        s.subset,
        *(f"{key} {value}" for key, value in known.items() if value is not None),
    ]
    if s.alpha_assumed:
        facts[facts.index(f"alpha {s.alpha}")] += " (assumed)"
    return [*facts, *(key for key, value in known.items() if value is None)]


def _join(facts: Sequence[str]) -> str:
    """Facts in one line; a bare key is a setting that the log does not record."""
    unknown = [fact for fact in facts if " " not in fact]
    said = [fact for fact in facts if " " in fact]
    return "; ".join(said + ([f"{', '.join(unknown)} not recorded"] if unknown else []))


def _radius_heads(radii: NDArray[np.float64]) -> list[str]:
    plain = [f"{radius:.12g}" for radius in radii]
    places = max((len(text.partition(".")[2]) for text in plain if "e" not in text), default=0)
    return [text if "e" in text else f"{float(text):.{places}f}" for text in plain]


def _seconds_text(seconds: float) -> str:
    return f"{seconds:.3g}" if seconds < 1000 else f"{seconds:.0f}"


def _p_text(value: float) -> str:
    return "< .5" if np.isnan(value) else f"{value:.5f}"


def run(args: argparse.Namespace) -> int:
    """Analyse the logs that `args` names; returns 0, raises what ``main`` reports."""
    _check_usage(args)
    if args.plot is not None or args.plot_p_lower is not None:
        from tamis import plotting  # a missing matplotlib is said before anything is printed

        plotting.require_matplotlib()
    logs = [load_log(path, strict=args.strict) for path in args.logs]
    report = _report(args, logs)
    _print_report(report, args.format)
    _write_plots(args, logs, report)
    return 0


def _check_usage(args: argparse.Namespace) -> None:
    for name in ("alpha", "rho"):
        value = getattr(args, name)
        if value is not None and not 0 < value < 1:
            raise UsageError(f"--{name} expects a number strictly between 0 and 1, got {value}")
    if args.sigma is not None:
        if len(args.sigma) not in (1, len(args.logs)):
            several = f"1 or {len(args.logs)} numbers" if len(args.logs) > 1 else "1 number"
            raise UsageError(f"--sigma expects {several}, got {len(args.sigma)}")
        for sigma in args.sigma:
            if not (np.isfinite(sigma) and sigma > 0):
                raise UsageError(f"--sigma expects a number > 0, got {sigma}")
    for option in ("plot", "plot_p_lower"):
        path = getattr(args, option)
        if path is not None and Path(path).suffix.lower() not in {".png", ".pdf", ".svg"}:
            name = option.replace("_", "-")
            raise UsageError(f"--{name} expects a name ending in .png, .pdf or .svg, got {path}")


def _report(args: argparse.Namespace, logs: list[CertificationLog]) -> _Report:
    letters = _letters(len(logs))
    names = [log.name for log in logs]
    if len(set(names)) < len(names):  # the same file name in several folders
        names = [
            str(Path(path).parent / log.name) for path, log in zip(args.logs, logs, strict=True)
        ]
    if args.radii is None:
        radii = radii_up_to(max(float(log.radius[log.correct].max(initial=0.0)) for log in logs))
    else:
        radii = list(itertools.chain(*args.radii))
    sigmas = args.sigma if args.sigma is not None else [None]
    sigmas = sigmas * len(logs) if len(sigmas) == 1 else sigmas
    summaries = [
        summary(log, radii, alpha=args.alpha, rho=args.rho, sigma=sigma, method=args.bound)
        for log, sigma in zip(logs, sigmas, strict=True)
    ]
    envelope = None
    check_comparable(logs, letters)
    if len(logs) > 1 and not args.no_envelope:
        with warnings.catch_warnings():  # said just above, by letter
            warnings.simplefilter("ignore", AnalysisWarning)
            envelope = upper_envelope(logs, radii)

    def named(chosen: list[bool], everyone: str = "any log") -> str:
        if all(chosen):
            return everyone if len(logs) > 1 else "the log"
        return ", ".join(itertools.compress(letters, chosen))

    notes = []
    assumed = [s.alpha_assumed for s in summaries]
    if any(assumed):
        notes.append(
            f"alpha is not recorded in {named(assumed)}: the lower bound assumes {DEFAULT_ALPHA}, "
            "--alpha changes it."
        )
    unused = [args.alpha is not None and s.alpha != args.alpha for s in summaries]
    if any(unused):
        notes.append(
            f"alpha is recorded in {named(unused, 'all logs')}: --alpha was not used there."
        )
    other = [
        given is not None and given != s.sigma for given, s in zip(sigmas, summaries, strict=True)
    ]
    if any(other):
        notes.append(
            f"sigma is recorded in {named(other, 'all logs')}, and another one than --sigma: "
            "--sigma was not used there."
        )
    unknown = [s.p_lower is None for s in summaries]
    if any(unknown):
        notes.append(f"sigma is not recorded in {named(unknown)}: give --sigma to see p_lower.")
    rebuilt = [s.p_lower is not None and not s.p_lower.recorded for s in summaries]
    if any(rebuilt):
        whose = named(rebuilt, "all logs")
        notes.append(f"p_lower of {whose} is Phi(radius / sigma), as exact as the radii are.")
    if envelope is not None:
        notes.append(
            "The envelope picks the best log at each radius on the images it is scored on, which "
            "flatters it; report a single model as well."
        )
    return _Report(letters, names, list(args.logs), summaries, envelope, notes)


def _print_report(report: _Report, style: str) -> None:
    if style == "csv":
        print(_as_csv(report), end="")
    elif style == "md":
        print(_as_markdown(report))
    elif style == "latex":
        print(_as_latex(report))
    else:
        terminal = sys.stdout.isatty()
        _print_tables(report, shutil.get_terminal_size((80, 24)).columns if terminal else 80)


def _print_tables(report: _Report, width: int) -> None:
    write = _writer()
    for letter, text in report.legend():
        mark = f"{letter:<4} " if len(report.letters) > 1 else ""
        write(_wrap(mark + text, width, len(mark)), "")
    for table in report.tables():
        write("\n" + _wrap(table.title, width, 0), "bold")
        for part in _split(table, width):
            rule, head, *rows = _as_text(part)
            for line, style in ((rule, "dim"), (head, "bold"), (rule, "dim")):
                write(line, style)
            for line in rows:
                write(line, "bold" if line.startswith(_ENVELOPE) else "")
    write("", "")
    for note in report.notes:
        write(_wrap(note, width, 0), "dim")


def _writer() -> Callable[[str, str], None]:
    """A function that prints (text, style); the style shows on a terminal where rich is there."""
    if sys.stdout.isatty():
        try:
            from rich.console import Console
            from rich.text import Text
        except ImportError:
            pass
        else:
            console = Console()
            return lambda text, style: console.print(Text(text, style), soft_wrap=True)
    return lambda text, style: print(text)


def _wrap(text: str, width: int, indent: int) -> str:
    return textwrap.fill(text, width, subsequent_indent=" " * indent, break_on_hyphens=False)


def _widths(table: Table) -> list[int]:
    return [max(map(len, column)) for column in zip(table.head, *table.rows, strict=True)]


def _split(table: Table, width: int) -> list[Table]:
    """As few parts of `table` as fit `width`, even in size, each with the first column."""
    first, *others = _widths(table)
    fit = 1
    for size in range(1, len(others) + 1):
        parts = [others[at : at + size] for at in range(0, len(others), size)]
        if first + max(sum(part) + 2 * len(part) for part in parts) <= width:
            fit = size
    count = -(-len(others) // fit)
    columns = np.array_split(np.arange(1, len(others) + 1), count)

    def pick(row: tuple[str, ...], part: NDArray[np.int64]) -> tuple[str, ...]:
        return (row[0], *(row[column] for column in part))

    return [
        Table(table.title, pick(table.head, part), [pick(row, part) for row in table.rows])
        for part in columns
    ]


def _as_text(table: Table) -> list[str]:
    """Lines: a rule, the head, the rows."""
    widths = _widths(table)

    def line(row: tuple[str, ...]) -> str:
        cells = [
            row[0].ljust(widths[0]),
            *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)),
        ]
        return "  ".join(cells).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return [rule, line(table.head), *map(line, table.rows)]


def _as_csv(report: _Report) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    quantile_names = [f"p_lower_q{round(100 * q):02d}" for q in _QUANTILES]
    about_names = "log images subset sigma n alpha alpha_assumed seed rho abstention_rate"
    about_names += " average_certified_radius seconds_per_image"
    at_names = ("radius", "certified_accuracy", "lower_bound", "attained_by")
    writer.writerow([*about_names.split(), *quantile_names, *at_names])
    for path, s in zip(report.paths, report.summaries, strict=True):
        quantiles: list[Any] = [None] * len(_QUANTILES)
        if s.p_lower is not None:
            found = s.p_lower.quantile(_QUANTILES)
            quantiles = [None if np.isnan(value) else float(value) for value in found]
        about = [path, s.rows, s.subset, s.sigma, s.n, s.alpha, int(s.alpha_assumed), s.seed, s.rho]
        about += [s.abstention_rate, s.average_certified_radius, s.seconds_per_image, *quantiles]
        for at in zip(s.radii, s.certified_accuracy, s.lower_bound, strict=True):
            writer.writerow([*about, *map(float, at), ""])
    if report.envelope is not None:
        e = report.envelope
        for radius, value, winner in zip(e.radii, e.values, e.winner, strict=True):
            path = report.paths[winner] if winner >= 0 else ""
            blank = [""] * (11 + len(_QUANTILES))
            writer.writerow([_ENVELOPE, *blank, float(radius), float(value), "", path])
    return out.getvalue()


def _as_markdown(report: _Report) -> str:
    def line(row: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"

    parts = ["\n".join(f"- {letter}: {text}" for letter, text in report.legend())]
    for table in report.tables():
        rule = ["---", *(["---:"] * (len(table.head) - 1))]
        rows = [line(table.head), line(rule), *map(line, table.rows)]
        parts.append("\n".join([f"**{table.title}**", "", *rows]))
    return "\n\n".join(parts + report.notes)


def _as_latex(report: _Report) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {c: "\\" + c for c in "&%$#_{}"} | {"<": r"$<$", ">": r"$>$"}

    def escape(text: str) -> str:
        return "".join(special.get(c, c) for c in text)

    def line(row: Sequence[str]) -> str:
        return " & ".join(map(escape, row)) + r" \\"

    parts = ["\n".join(f"% {letter}: {text}" for letter, text in report.legend())]
    parts[0] += "\n% needs \\usepackage{booktabs}"
    for table in report.tables():
        head = [f"% {table.title}", rf"\begin{{tabular}}{{l{'r' * (len(table.head) - 1)}}}"]
        rows = [r"\toprule", line(table.head), r"\midrule", *map(line, table.rows), r"\bottomrule"]
        parts.append("\n".join([*head, *rows, r"\end{tabular}"]))
    return "\n\n".join([*parts, *(f"% {note}" for note in report.notes)])


def _write_plots(args: argparse.Namespace, logs: list[CertificationLog], report: _Report) -> None:
    if args.plot is None and args.plot_p_lower is None:
        return
    from tamis import plotting

    names = short_names([log.name for log in logs], 78)
    if args.plot is not None:
        best = report.envelope is not None
        figure = plotting.plot_certified_accuracy(logs, labels=names, envelope=best)
        plotting.save_figure(figure, args.plot)
    if args.plot_p_lower is not None:
        known = [s.p_lower is not None for s in report.summaries]
        if not any(known):
            raise ValueError("--plot-p-lower needs --sigma: no log records p_lower or sigma")
        figure = plotting.plot_p_lower(
            list(itertools.compress(logs, known)),
            labels=list(itertools.compress(names, known)),
            sigmas=[s.sigma for s in itertools.compress(report.summaries, known)],
        )
        plotting.save_figure(figure, args.plot_p_lower)
    for path in (args.plot, args.plot_p_lower):
        if path is not None:
            print(f"wrote {path}", file=sys.stderr)
