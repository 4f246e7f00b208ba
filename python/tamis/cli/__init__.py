"""The command ``tamis``: robust statistics, SEVER, training, certificates, a demonstration.

Each subcommand is a module here with ``add_parser(subparsers)`` and ``run(args) -> int``. Only the
module of the command that is asked for is imported, so that ``tamis --help`` stays quick.

Exit codes: 0 the command did what it was asked; 1 it could not (a file is missing or unreadable, a
model does not fit the data, the run was interrupted); 2 the command line itself is wrong. Errors
are one line on stderr; ``TAMIS_DEBUG=1`` shows the traceback instead.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final, TextIO

__all__ = ["UsageError", "main"]

_COMMANDS: Final = {
    "mean": "the mean of a table of which some rows are bad",
    "outliers": "the rows of a table that stand out, with scores",
    "sever": "a linear model of a table of which some rows are bad",
    "backdoor": "classes of a training set that look poisoned",
    "certify": "certify a classifier on a data set: a class and an l2 radius for every image",
    "train": "train a classifier for certification: Gaussian noise, SmoothAdv and others",
    "analyze": "certified accuracy by radius and more, from the logs that certify writes",
    "demo": "certify a small built-in classifier in under a minute",
    "info": "what this installation can do: version, instruction sets, CUDA, threads",
}

_EPILOG: Final = """\
A first run:   tamis demo
A real one:    tamis certify model.onnx --data images.npz --sigma 0.25 --out run.tsv
Its results:   tamis analyze run.tsv
Bad rows:      tamis outliers data.csv
Help:          tamis COMMAND --help

Exit codes: 0 done, 1 the command failed or was interrupted, 2 wrong command line.
TAMIS_DEBUG=1 in the environment shows the traceback of an error."""


class UsageError(ValueError):
    """The command line asks for something that cannot work; exit code 2."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; ``sys.argv[1:]`` by default.

    Returns
    -------
    int
        Exit code: 0 done, 1 failed or interrupted, 2 wrong command line.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = next((word for word in arguments if word in _COMMANDS), None)
    with warnings.catch_warnings():
        warnings.showwarning = _once(_show_warning)
        try:
            code = _run(arguments)
            sys.stdout.flush()
        except (Exception, KeyboardInterrupt) as error:
            if os.environ.get("TAMIS_DEBUG", "0") not in {"", "0"}:
                raise
            return _report("tamis" if name is None else f"tamis {name}", error)
    return code


def _run(arguments: list[str]) -> int:
    parser = _parser(arguments)
    try:
        args = parser.parse_args(arguments)
    except SystemExit as stop:  # --help, --version, or a wrong argument that argparse reported
        return stop.code if isinstance(stop.code, int) else 2
    if args.command is None:
        parser.print_help(sys.stderr)
        return 2
    _check_outputs(args)
    code: int = import_module(f"tamis.cli.{args.command}").run(args)
    return code


def _check_outputs(args: argparse.Namespace) -> None:
    """Say before any work that a file could not be written, or would be written over its source."""
    outputs = ("csv", "map", "plot", "plot_p_lower", "out")
    given = {name: value for name, value in vars(args).items() if isinstance(value, Path)}
    sources = [path for name, path in given.items() if name not in outputs and path.exists()]
    for name in outputs:
        path = given.get(name)
        if path is None:  # train and demo make the folder that --out names, a text
            continue
        if path.is_dir() or not path.parent.is_dir():
            what = "is a folder" if path.is_dir() else "is in no folder that exists"
            raise UsageError(f"--{name.replace('_', '-')}: {path} {what}")
        if path.exists() and any(path.samefile(source) for source in sources):
            raise UsageError(f"--{name.replace('_', '-')}: {path} is what is read, name another")


def _parser(arguments: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tamis",
        description="Randomized smoothing certificates and robust statistics.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, help="print the version and exit")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    for name, summary in _COMMANDS.items():
        if name == chosen:
            import_module(f"tamis.cli.{name}").add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=summary)
    return parser


class _Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest=argparse.SUPPRESS, nargs=0, help=help)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        from tamis import __version__

        print(f"tamis {__version__}")
        parser.exit()


def _report(who: str, error: BaseException) -> int:
    """Say in one line what went wrong; the exit code."""
    if isinstance(error, BrokenPipeError):
        # The reader of our output is gone (`tamis ... | head`). Python would complain once more
        # when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    expected = (OSError, ValueError, TypeError, ImportError, RuntimeError, MemoryError)
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        text = f"{error.filename}: {error.strerror}"
    if isinstance(error, KeyboardInterrupt):
        text = text or "interrupted"
    elif not isinstance(error, expected) or not text:
        text = f"{type(error).__name__}: {text} (TAMIS_DEBUG=1 shows where)"
    print(f"{who}: error: {text}", file=sys.stderr)
    return 2 if isinstance(error, UsageError) else 1


def _once(show: Callable[..., None]) -> Callable[..., None]:
    """The same words once a run: a model that is fitted ten times says the same ten times."""
    said: set[str] = set()

    def show_new(message: Warning | str, *more: Any, **named: Any) -> None:
        if str(message) not in said:
            said.add(str(message))
            show(message, *more, **named)

    return show_new


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    print(f"tamis: warning: {message}", file=sys.stderr if file is None else file)
