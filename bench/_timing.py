"""Fair timing of a few callables side by side: all that a benchmark here needs.

    times = interleave({"tamis": f, "peer": g}, check=check, rounds=21)   # seconds, round by round
    spread(times["tamis"])                        # median and quartiles
    spread(ratios(times, "peer", "tamis"))        # how many times as long the peer takes
    machine(), table(header, rows)                # what to print around it

The rules: a wrong result is never timed; all callables run in every round, in random order, so that
a slow moment of the machine falls on all alike; a ratio is formed within a round, and the median is
taken after that. Benchmarks call `use_full_speed_blas` first of all and take their common options
from `add_arguments`. On a busy machine, CPU time on one thread (``--cpu-time``) is fairer.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import random
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import quantiles
from time import perf_counter, process_time
from typing import Any

import tamis

Times = dict[str, list[float]]


def use_full_speed_blas() -> None:
    """Start this process again without OPENBLAS_CORETYPE, where the environment sets it.

    The variable holds NumPy's BLAS to one CPU type, often an old one, and would slow the peers. It
    is read when NumPy is loaded, so a fresh process is the only cure. The arguments stay the same.
    """
    if "OPENBLAS_CORETYPE" in os.environ:
        environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"}
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--quick, --json, --rounds and --cpu-time, the same in every benchmark."""
    parser.add_argument("--quick", action="store_true", help="a few rounds of the main case only")
    parser.add_argument("--json", action="store_true", help="print one JSON object, no table")
    parser.add_argument("--rounds", type=int, help="how often each callable runs")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="CPU time on one thread, not wall time: for a machine that others use too",
    )


def clock_for(args: argparse.Namespace) -> Callable[[], float]:
    """Wall time or, for --cpu-time, the CPU time of this process, all its threads together."""
    return process_time if args.cpu_time else perf_counter


def clock_name(args: argparse.Namespace) -> str:
    return "CPU time" if args.cpu_time else "wall time"


def interleave(
    callables: Mapping[str, Callable[[], object]],
    *,
    check: Callable[[], None],
    rounds: int,
    warmup: int = 2,
    clock: Callable[[], float] = perf_counter,
    measure: Callable[[Callable[[], object]], float] | None = None,
    seed: int = 0,
) -> Times:
    """Seconds of every callable in every round.

    ``check`` runs first and raises (or exits) where a result is wrong: then nothing is timed.
    ``clock`` comes from `clock_for`; ``measure``, where given, runs a call and returns its seconds
    by a clock of its own (CUDA events).
    """
    check()

    def by_clock(call: Callable[[], object]) -> float:
        start = clock()
        call()
        return clock() - start

    seconds_of = measure or by_clock
    order = list(callables)
    shuffle = random.Random(seed).shuffle
    times: Times = {name: [] for name in order}
    for count in range(warmup + rounds):
        shuffle(order)
        for name in order:
            seconds = seconds_of(callables[name])
            if count >= warmup:
                times[name].append(seconds)
    return times


def ratios(times: Times, name: str, base: str) -> list[float]:
    """Time of ``name`` over that of ``base``, round by round."""
    return [a / b for a, b in zip(times[name], times[base], strict=True)]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles; of a single value, that value three times."""
    if len(values) == 1:
        low = middle = high = values[0]
    else:
        low, middle, high = quantiles(values, n=4, method="inclusive")
    return {"median": middle, "quartile_1": low, "quartile_3": high}


def cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def machine(packages: Iterable[str] = ("numpy", "torch", "onnxruntime")) -> dict[str, Any]:
    """Where the numbers come from: processor, cores, load, instruction set, versions."""
    versions = {"python": platform.python_version(), "tamis": tamis.__version__}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": round(os.getloadavg()[0], 2),
        "isa": tamis.info()["isa"],
        "versions": versions,
    }


def describe(facts: Mapping[str, Any]) -> str:
    """`machine` in two or three lines."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    text = f"{facts['cpu']}, {facts['cores']} cores, {facts['isa']}\n{versions}"
    if facts["load_average"] > 0.5:
        text += (
            f"\nload average {facts['load_average']} before the start: others used the machine too,"
            "\nso trust the ratios more than the times"
        )
    return text


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """As `table`, for a file that is read in a browser."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their contents, the first to the left, the others to the right."""
    widths = [max(len(line[k]) for line in (header, *rows)) for k in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        rest = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
        return "  ".join([cells[0].ljust(widths[0]), *rest]).rstrip()

    return "\n".join([line(header), "  ".join("-" * width for width in widths), *map(line, rows)])
