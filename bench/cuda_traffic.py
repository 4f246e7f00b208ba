"""How many bytes do the CUDA kernels move, and how many must they? Counted, without a GPU.

    python bench/cuda_traffic.py [--json] [--architecture 90] [--write] [--only NAME ...]

Needs nvcc. The public functions run on the emulated device of tests/cuda_emulation, which counts
launches and bytes of global memory. For an operation:

necessary   every input byte read once, every output byte written once
moved       operands of 1 MiB and more: every byte that a warp asks for; smaller ones: every byte
            once a launch, since they stay in the cache (4 MiB of L2 on the smallest GPU meant)
ratio       moved / necessary; the targets are those of the project
launches    of a call; of iterative_filter those of a round, and the few that belong to none
in sectors  the same for large operands in whole 32-byte sectors: what scattered access would cost

``--write`` puts the table into bench/results/cuda_traffic.md. ``--expected`` prints instead what
the necessary bytes take at 3 TB/s, an H100's rate: computed, not measured (docs/cuda.md).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import _timing
import tamis

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from cuda_emulation.arrays import bfloat16  # noqa: E402
from cuda_emulation.build import MissingToolError, build  # noqa: E402
from cuda_emulation.emulator import Emulator, Launch, Report  # noqa: E402
from cuda_emulation.fixtures import exchange  # noqa: E402

LARGE = 1 << 20
H100_BYTES_PER_SECOND = 3e12


@dataclass(frozen=True)
class Work:
    """A call ready to run, and the bytes that it cannot avoid."""

    call: Callable[[], Any]
    necessary: int


@dataclass(frozen=True)
class Case:
    """One line of the table; ``prepare`` makes its arrays on the emulated device."""

    operation: str
    size: str
    prepare: Callable[[Emulator], Work]
    target: float | None = None
    rounds: Callable[[Any], int] | None = None  # of the result: launches are then given a round
    once: int = 0  # launches that belong to no round


def noise(n: int, shape: tuple[int, ...], dtype: Any) -> Callable[[Emulator], Work]:
    def prepare(machine: Emulator) -> Work:
        values = np.linspace(0, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)
        if dtype is bfloat16:
            x = machine.array((values.view(np.uint32) >> 16).astype(np.uint16), dtype=bfloat16)
        else:
            x = machine.array(values.astype(dtype))
        size = values.size * x.dtype.itemsize
        return Work(lambda: tamis.gaussian_noise(x, n, 0.25, seed=1), size + n * size)

    return prepare


def votes(rows: int, classes: int, dtype: Any) -> Callable[[Emulator], Work]:
    def prepare(machine: Emulator) -> Work:
        values = np.random.default_rng(0).standard_normal((rows, classes)).astype(dtype)
        logits = machine.array(values)
        return Work(lambda: tamis.vote_counts(logits), values.nbytes + classes * 8)

    return prepare


def rows(n: int, d: int, dtype: Any) -> Any:
    return np.random.default_rng(0).standard_normal((n, d), dtype)


def product(n: int, d: int, k: int, dtype: Any, given: bool) -> Callable[[Emulator], Work]:
    """covariance_apply, about a given mean or the one it finds."""

    def prepare(machine: Emulator) -> Work:
        values, block = rows(n, d, dtype), rows(d, k, np.float64)
        X, V = machine.array(values), machine.array(block)
        mean = machine.array(np.zeros(d)) if given else None
        necessary = values.nbytes + 2 * block.nbytes + (8 * d if given else 0)
        return Work(lambda: tamis.covariance_apply(X, V, mean=mean), necessary)

    return prepare


def scores(n: int, d: int, k: int, dtype: Any) -> Callable[[Emulator], Work]:
    def prepare(machine: Emulator) -> Work:
        values, block = rows(n, d, dtype), rows(d, k, np.float64)
        X, V, mean = (machine.array(a) for a in (values, block, np.zeros(d)))
        necessary = values.nbytes + block.nbytes + 8 * d + n * values.itemsize
        return Work(lambda: tamis.projection_scores(X, V, mean=mean), necessary)

    return prepare


def sums(n: int, d: int, j: int, dtype: Any) -> Callable[[Emulator], Work]:
    def prepare(machine: Emulator) -> Work:
        values, weights = rows(n, d, dtype), rows(j, n, dtype)
        X, U = machine.array(values), machine.array(weights)
        necessary = values.nbytes + weights.nbytes + 8 * j * d
        return Work(lambda: tamis.weighted_sums(X, U), necessary)

    return prepare


def gradients(n: int, d: int, k: int, dtype: Any) -> Callable[[Emulator], Work]:
    """Necessary is one read of the rows; on CUDA there are two, so the target is twice 1.15."""

    def prepare(machine: Emulator) -> Work:
        values, y, coef, block = (
            rows(n, d, dtype),
            rows(1, n, "f8")[0],
            np.ones(d),
            rows(d, k, "f8"),
        )
        X, targets, slopes, V = (machine.array(a) for a in (values, y, coef, block))
        necessary = values.nbytes + 2 * y.nbytes + 2 * block.nbytes + 8 * 5 * d
        return Work(lambda: tamis.linear_gradients(X, targets, slopes, 0.0, V), necessary)

    return prepare


def filtered(n: int, d: int, rule: Any) -> Callable[[Emulator], Work]:
    """A tenth of the rows in a cluster. Necessary is one read of the rows."""

    def prepare(machine: Emulator) -> Work:
        values = rows(n, d, np.float32)
        values[: n // 10] += 6 * rows(1, d, np.float32) / np.sqrt(d)
        X = machine.array(values.astype(np.float32))
        return Work(lambda: tamis.iterative_filter(X, rule=rule), values.nbytes)

    return prepare


def rounds(result: Any) -> int:
    return int(result.rounds)


CASES = [
    Case("gaussian_noise", "480 x 3 x 32 x 32, float32", noise(480, (3, 32, 32), "f4"), 1.05),
    Case("gaussian_noise", "480 x 3 x 32 x 32, float16", noise(480, (3, 32, 32), "f2"), 1.05),
    Case("gaussian_noise", "480 x 3 x 32 x 32, bfloat16", noise(480, (3, 32, 32), bfloat16), 1.05),
    Case("gaussian_noise", "24 x 3 x 224 x 224, float32", noise(24, (3, 224, 224), "f4"), 1.05),
    Case("gaussian_noise", "48 x 3 x 320 x 320, float32", noise(48, (3, 320, 320), "f4"), 1.05),
    Case("gaussian_noise", "8000 x 64, float32", noise(8000, (64,), "f4"), 1.05),
    Case("vote_counts", "30000 x 10, float32", votes(30000, 10, "f4")),
    Case("vote_counts", "1000 x 1000, float16", votes(1000, 1000, "f2")),
    *(
        Case("covariance_apply", "20000 x 512, " + label, product(20000, 512, *how), 1.15)
        for label, how in {
            "k = 1, float32, mean found": (1, "f4", False),
            "k = 8, float32, mean found": (8, "f4", False),
            "k = 8, float32": (8, "f4", True),
            "k = 32, float32": (32, "f4", True),
            "k = 8, float64": (8, "f8", True),
        }.items()
    ),
    *(
        Case("projection_scores", "20000 x 512, " + label, scores(20000, 512, *how), 1.05)
        for label, how in {
            "k = 1, float32": (1, "f4"),
            "k = 8, float32": (8, "f4"),
            "k = 32, float32": (32, "f4"),
            "k = 8, float64": (8, "f8"),
        }.items()
    ),
    *(
        Case("weighted_sums", "20000 x 512, " + label, sums(20000, 512, *how), target)
        for label, how, target in (
            ("j = 1, float32", (1, "f4"), 1.15),
            ("j = 4, float32", (4, "f4"), 1.15),
            ("j = 32, float32", (32, "f4"), None),  # U is small, and read again from the cache
            ("j = 4, float64", (4, "f8"), 1.15),
        )
    ),
    *(
        Case("linear_gradients", "20000 x 512, " + label, gradients(20000, 512, *how), 2.3)
        for label, how in {
            "k = 4, float32": (4, "f4"),
            "k = 16, float32": (16, "f4"),
            "k = 4, float64": (4, "f8"),
        }.items()
    ),
    # Medians; distances and first weights; the ball; rows that repeat; the last scores: once.
    *(
        Case("iterative_filter", f"20000 x 64, {rule}", filtered(20000, 64, rule), None, rounds, 5)
        for rule in ("gaussian_tail", "bounded_covariance")
    ),
]


@contextmanager
def emulated() -> Iterator[Emulator]:
    """The public functions, on the emulated device."""
    built = build()
    machine = Emulator(built.runtime)
    core, installed = machine.load_extension(built.extension), sys.modules["tamis._core"]
    exchange(installed, core)
    try:
        yield machine
    finally:
        exchange(core, installed)


def moved(launch: Launch, kind: str) -> int:
    """Bytes of one launch; ``kind`` is "" or "sectors_" and applies to large operands."""
    total = 0
    for operand in launch.operands:
        way = kind if operand.size >= LARGE else "unique_"
        total += getattr(operand, f"{way}read") + getattr(operand, f"{way}written")
    return total


def measure(machine: Emulator, architecture: int, case: Case) -> dict[str, Any]:
    machine.reset(architecture=architecture)
    work = case.prepare(machine)
    machine.clear_report()
    result = work.call()
    machine.check()
    report: Report = machine.report()
    launches = float(len(report.launches))
    line: dict[str, Any] = {
        "operation": case.operation,
        "size": case.size,
        "launches": (launches - case.once) / case.rounds(result) if case.rounds else launches,
        "launches_once": case.once,
        "launches_are": "a round" if case.rounds else "a call",
        "necessary": work.necessary,
        "moved": sum(moved(launch, "") for launch in report.launches),
        "moved_in_sectors": sum(moved(launch, "sectors_") for launch in report.launches),
        "target": case.target,
    }
    line["ratio"] = line["moved"] / line["necessary"]
    line["ratio_in_sectors"] = line["moved_in_sectors"] / line["necessary"]
    return line


HEADER = ["operation", "size", "launches", "necessary", "moved", "ratio", "in sectors", "target"]


EXPECTED_HEADER = ["operation", "size", "necessary", "computed time"]


def expected(line: dict[str, Any]) -> list[str]:
    """Computed from bytes alone: no launch, no latency, no arithmetic."""
    seconds = line["necessary"] / H100_BYTES_PER_SECOND
    return [
        line["operation"],
        line["size"],
        f"{line['necessary'] / 1e6:.2f} MB",
        f"{1e6 * seconds:.1f} us",
    ]


def cells(line: dict[str, Any]) -> list[str]:
    launches = f"{line['launches']:g}"
    if line["launches_are"] == "a round":
        launches += f" a round, {line['launches_once']} once"
    return [
        line["operation"],
        line["size"],
        launches,
        f"{line['necessary'] / 1e6:.2f} MB",
        f"{line['moved'] / 1e6:.2f} MB",
        f"{line['ratio']:.3f}",
        f"{line['ratio_in_sectors']:.3f}",
        "" if line["target"] is None else f"{line['target']:.2f}",
    ]


def markdown(lines: list[dict[str, Any]], architecture: int, command: str) -> str:
    rows = ["| " + " | ".join(row) + " |" for row in [HEADER, *map(cells, lines)]]
    rows.insert(1, "| --- | --- |" + " ---: |" * (len(HEADER) - 2))
    return "\n".join(
        [
            "# Bytes moved by the CUDA kernels",
            "",
            f"Made by `{command}`.",
            f"Counted on the emulated device (sm_{architecture}), not measured on a GPU. The head",
            "of that file explains the columns; launches are those of one call, unless marked.",
            "",
            *rows,
            "",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object, no table")
    parser.add_argument("--architecture", type=int, default=90, choices=(75, 90))
    parser.add_argument("--write", action="store_true", help="write bench/results/cuda_traffic.md")
    parser.add_argument("--expected", action="store_true", help="times of an H100, computed")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="operations; default: all")
    args = parser.parse_args()
    cases = [case for case in CASES if not args.only or case.operation in args.only]
    try:
        with emulated() as machine:
            lines = [measure(machine, args.architecture, case) for case in cases]
    except MissingToolError as missing:
        print(missing, file=sys.stderr)
        return 1
    if args.json:
        facts = {"benchmark": "cuda_traffic", "architecture": args.architecture, "measured": lines}
        print(json.dumps(facts, indent=2))
    elif args.expected:
        print(_timing.table(EXPECTED_HEADER, [expected(line) for line in lines]))
    else:
        print(_timing.table(HEADER, [cells(line) for line in lines]))
    if args.write:
        command = " ".join(["python bench/cuda_traffic.py", *sys.argv[1:]])
        target = ROOT / "bench" / "results" / "cuda_traffic.md"
        target.parent.mkdir(exist_ok=True)
        target.write_text(markdown(lines, args.architecture, command), encoding="utf-8")
    missed = [x for x in lines if x["target"] is not None and x["ratio"] > x["target"]]
    return 2 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
