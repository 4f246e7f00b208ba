"""``tamis info``: what this installation was built with and what it uses on this machine."""

from __future__ import annotations

import argparse
import json
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

__all__ = ["add_parser", "run"]

_DESCRIPTION = """\
What this installation was built with and what it uses on this machine. Put it into bug reports."""

_EPILOG = """\
environment: TAMIS_FORCE_ISA=NAME uses another instruction set, TAMIS_NUM_THREADS=T another number
of threads; neither changes any result."""

# What each package is for, in the order it is asked for.
_PACKAGES: Final = {
    "numpy": "required",
    "scipy": "required",
    "torch": "torch models; extra 'torch'",
    "onnx": "ONNX models; extra 'onnx'",
    "onnxruntime": "ONNX models; extra 'onnx'",
    "rich": "progress bars; extra 'cli'",
    "matplotlib": "plots; extra 'plot'",
    "scikit-learn": "clone, pipelines, searches; extra 'sklearn'",
}


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> argparse.ArgumentParser:
    """Add the ``info`` command."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "info",
        help="what this installation can do: version, instruction sets, CUDA, threads",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def run(args: argparse.Namespace) -> int:
    """Print what ``tamis.info`` knows, and the versions of the packages around it."""
    from tamis import ops

    facts = ops.info()
    facts["python"] = platform.python_version()
    facts["platform"] = platform.platform()
    facts["packages"] = {name: _version(name) for name in _PACKAGES}
    if args.json:
        print(json.dumps(facts, indent=2))
        return 0
    lines = [
        ("tamis", facts["version"]),
        ("python", f"{facts['python']} on {facts['platform']}"),
        ("instruction set", f"{facts['isa']} in use"),
        ("", f"built: {', '.join(facts['isas_built'])}"),
        ("", f"this CPU: {', '.join(facts['isas_available'])}"),
        ("threads", str(facts["num_threads"])),
        *_cuda(facts["cuda"]),
    ]
    for name, purpose in _PACKAGES.items():
        lines.append((name, facts["packages"][name] or f"not installed ({purpose})"))
    for name, text in lines:
        print(f"{name:<17}{text}".rstrip())
    return 0


def _cuda(cuda: dict[str, Any]) -> list[tuple[str, str]]:
    if not cuda["built"]:
        return [("CUDA", "not built in"), ("", f"status: {cuda['status']}")]
    return [
        ("CUDA", f"built with toolkit {cuda['toolkit']} for {cuda['architectures']}"),
        ("", f"status: {cuda['status']}"),
        ("", f"driver: {'found' if cuda['driver'] else 'none found'}"),
        *(("", f"device {i}: {name}") for i, name in enumerate(cuda["devices"])),
    ]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
