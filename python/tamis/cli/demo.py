"""``tamis demo``: a first certification, with a classifier and images that ship in the package.

The demo runs ``tamis certify`` on its own files and says so: the certificate, the log, resuming and
the summary are those of the real command. Here are the story around it and the plot.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import textwrap
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from tamis.cli import certify

__all__ = ["add_parser", "run"]

_FILES: Final = Path(__file__).resolve().parents[1] / "demo"
_MODEL, _IMAGES, _RECORD = "digits.onnx", "digits.npz", "training.json"
_NEEDED: Final = ("onnxruntime", "matplotlib")  # without rich there are lines instead of a bar
_SIGMA: Final = 0.25
_COPIES: Final = 5000
_WIDTH: Final = 79

_DESCRIPTION = """\
Certify a small classifier of handwritten digits that ships with tamis, in about
20 seconds on two cores and without a network. The folder gets the model, the
images, the log and the plot, so that they can be tried with other commands."""

_EPILOG = """\
Given again, the command goes on where it was interrupted; what is finished is
shown again. Another --sigma or --n gets a log and a plot of its own.

exit status: 0 done, 1 failed or interrupted, 2 wrong usage"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> argparse.ArgumentParser:
    """Add the ``demo`` command."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "demo",
        help="certify a small built-in classifier in under a minute",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--out", metavar="DIR", default="tamis-demo", help="folder (default: ./tamis-demo)")
    add(
        "--sigma",
        type=float,
        default=_SIGMA,
        metavar="S",
        help=f"standard deviation of the noise; pixels are 0 to 1 (default: {_SIGMA})",
    )
    add("--n", type=int, default=_COPIES, help=f"noisy copies an image (default: {_COPIES})")
    return parser


def run(args: argparse.Namespace) -> int:
    """Run the demo; returns the exit status (0 or 1), raises what ``main`` reports."""
    out = Path(args.out)
    name = f"sigma{args.sigma:.12g}-n{args.n}"
    log_path, plot_path = out / f"{name}.tsv", out / f"{name}.png"
    command = ["tamis", "certify", str(out / _MODEL), "--data", str(out / _IMAGES)]
    command += ["--sigma", f"{args.sigma!r}", "--n", str(args.n), "--out", str(log_path)]
    subparsers = argparse.ArgumentParser().add_subparsers()
    wanted = certify.add_parser(subparsers).parse_args(command[2:])
    certify.check_usage(wanted)  # before anything is written
    missing = [package for package in _NEEDED if find_spec(package) is None]
    if missing:
        raise ImportError(f"needs {' and '.join(missing)}: python -m pip install 'tamis[demo]'")
    from tamis import plotting
    from tamis.smoothing.logs import LogConfigError, load_log

    out.mkdir(parents=True, exist_ok=True)
    for file in (_MODEL, _IMAGES):
        _place(_FILES / file, out / file)
    record = json.loads((_FILES / _RECORD).read_text())
    total = int(record["held_out_images"])
    wanted.quiet = _rows(log_path) == total
    print(_introduction(args, record, total))
    if wanted.quiet:
        print(f"\n{log_path} is finished already. Its results:\n")
    else:
        print(f"\nThe command, which the demo now runs:\n{_broken(command)}\n", flush=True)
    try:
        code = certify.run(wanted)
    except LogConfigError as error:
        raise ValueError(f"{error}; choose another folder with --out") from error
    if code:
        return code
    log = load_log(log_path)
    title = f"certified accuracy of {total} handwritten digits, {args.n} noisy copies each"
    figure = plotting.plot_certified_accuracy(
        [log], labels=[f"sigma = {args.sigma:g}"], title=title
    )
    plotting.save_figure(figure, plot_path)
    print(f"plot: {plot_path}\n\n{_reading(args, log, wanted.alpha)}\n\n{_next_steps(args, out)}")
    return 0


def _place(source: Path, target: Path) -> None:
    """Copy a file of the package, whole or not at all; leave what is there."""
    content = source.read_bytes()
    if not target.exists():
        part = target.with_name(f".{target.name}.{os.getpid()}")
        part.write_bytes(content)
        part.replace(target)
    elif target.read_bytes() != content:
        raise ValueError(
            f"{target} exists and is not the file of this demo; it was left as it is, choose "
            "another folder with --out"
        )


def _rows(log_path: Path) -> int:
    """Whole lines of results in the log; what they say is for ``tamis certify`` to judge."""
    if not log_path.is_file():
        return 0
    return max(0, log_path.read_bytes().count(b"\n") - 2)  # a comment and the column names


def _introduction(args: argparse.Namespace, record: dict[str, Any], total: int) -> str:
    recipe = record["recipe"]
    facts = {
        "images": f"{total} handwritten digits, 8 x 8 pixels between 0 and 1, none trained on",
        "model": f"a convolutional network of {record['parameters']} weights, trained on "
        f"{recipe['train_images']} other digits with Gaussian noise of sigma "
        f"{recipe['sigma_lowest']:g} to {recipe['sigma_highest']:g} added",
        "method": f"randomized smoothing: {args.n} copies of each image get Gaussian noise of "
        f"sigma {args.sigma:g}, the network classifies each, and the majority is the answer. The "
        "clearer the majority, the larger the certified radius: no change of the image with an "
        "l2 norm below it changes the answer.",
    }
    title = "tamis demo: how far may an image change before the answer can?\n"
    return "\n".join([title, *(_filled(f"{name:<8}", text) for name, text in facts.items())])


def _reading(args: argparse.Namespace, log: Any, alpha: float) -> str:
    from tamis import analysis

    radius = args.sigma
    share = 100.0 * float(analysis.certified_accuracy(log, [radius])[0])
    return _filled(
        "",
        f"How to read it: at radius {radius:g}, {share:.1f}% of the images are classified "
        f"correctly and certified to stay so under every change of l2 norm below {radius:g}. That "
        f"norm is one pixel changed by {radius:g}, or all 64 by {radius / 8:.2g}. Certificates "
        f"rest on random noise: each may be wrong with probability {alpha:g} (alpha).",
    )


def _filled(head: str, text: str) -> str:
    """`text` in lines of at most `_WIDTH` characters, indented under `head`."""
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _next_steps(args: argparse.Namespace, out: Path) -> str:
    """Commands that work as they are shown."""
    other = 0.5 if args.sigma < 0.5 else _SIGMA
    again = ["tamis", "demo", "--sigma", f"{other:g}"]
    if args.n != _COPIES:
        again += ["--n", str(args.n)]
    if str(out) != "tamis-demo":
        again += ["--out", str(out)]
    logs = f"{shlex.quote(str(out))}/*.tsv"
    plot = shlex.quote(str(out / "compare.png"))
    trade = "more noise, larger radii, fewer images" if other > args.sigma else "less noise"
    return "\n".join(
        [
            "Next:",
            f"  {shlex.join(again)}",
            f"      {trade}",
            f"  tamis analyze {logs} --plot {plot}",
            "      all runs in this folder side by side",
            "  tamis certify MODEL.onnx --data IMAGES.npz --sigma 0.25 --out run.tsv",
            "      your own model; 'tamis certify --help' tells which files it reads",
        ]
    )


def _broken(command: list[str]) -> str:
    """`command` for a shell, a line for the files and one for the options."""
    at = command.index("--sigma")
    return f"  {shlex.join(command[:at])} \\\n      {shlex.join(command[at:])}"
