"""Noisy batches: tamis against torch, NumPy and the memory.

    python bench/gaussian_noise.py [--quick] [--json] [--rounds R] [--threads T ...] [--sigma S]
                                   [--cpu-time]

Every case makes about three million values. Like is compared with like: what allocates its result
with tamis into a new array, what fills a buffer with tamis into ``out``. The last line of a case is
the machine's limit, the time to write a constant over the same buffer.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import _timing
import peers
import tamis
from tamis import reference

NEW, OUT = "tamis, new array", "tamis, out="
USUAL, NORMAL = "torch repeat, randn_like", "torch normal_ alone"
NUMPY, FILL = "numpy PCG64 alone", "fill (memory limit)"
# Stated for the batch of CIFAR-10 images in float32: threads -> times as fast as the peer.
TARGETS = {USUAL: {1: 20.0, 2: 30.0}, NORMAL: {1: 7.0}}


@dataclass(frozen=True)
class Case:
    name: str
    shape: tuple[int, ...]
    n: int
    dtype: str = "float32"

    @property
    def values(self) -> int:
        return self.n * math.prod(self.shape)


MAIN = Case("1000 x 3 x 32 x 32, float32", (3, 32, 32), 1000)
CASES = (
    MAIN,
    Case("1000 x 3 x 32 x 32, float16", (3, 32, 32), 1000, "float16"),
    Case("1000 x 3 x 32 x 32, bfloat16", (3, 32, 32), 1000, "bfloat16"),
    Case("48000 x 64, float32", (64,), 48_000),
    Case("20 x 3 x 224 x 224, float32", (3, 224, 224), 20),
)


@dataclass(frozen=True)
class Work:
    """The callables of a case, and of each the tamis call that does the like."""

    calls: dict[str, Callable[[], Any]]
    like: dict[str, str]


def prepare(case: Case, sigma: float, threads: int) -> Work:
    """Inputs in torch tensors where torch is there (16-bit results need it), else in NumPy."""
    x: Any = np.linspace(0, 1, math.prod(case.shape), dtype=np.float32).reshape(case.shape)
    shape = (case.n, *case.shape)
    torch = peers.torch_or_none()
    dtype: Any = case.dtype
    buffer: Any
    scratch: Any  # of the peers, so that nobody finds another's result in the cache
    if torch is None:
        buffer, scratch = np.empty(shape, dtype), np.empty(shape, dtype)
    else:
        dtype = getattr(torch, case.dtype)
        x = torch.from_numpy(x).to(dtype)
        buffer, scratch = torch.empty(shape, dtype=dtype), torch.empty(shape, dtype=dtype)
    counter = iter(range(10**9))  # another image in every call, as in a certification

    def noise(**arguments: Any) -> Any:
        return tamis.gaussian_noise(
            x, case.n, sigma, seed=1, image=next(counter), num_threads=threads, **arguments
        )

    calls: dict[str, Callable[[], Any]] = {NEW: noise, OUT: lambda: noise(out=buffer)}
    like = {NEW: NEW, OUT: OUT}
    if torch is not None:
        calls[USUAL], like[USUAL] = peers.torch_repeat_randn(x, case.n, sigma), NEW
        calls[NORMAL], like[NORMAL] = peers.torch_normal(scratch), OUT
    if case.dtype == "float32" and threads == 1:
        calls[NUMPY], like[NUMPY] = peers.numpy_normal(np.empty(shape, np.float32)), OUT
    calls[FILL], like[FILL] = peers.fill(scratch), OUT
    return Work(calls, like)


def float32(values: Any) -> Any:
    """As a flat NumPy array, whatever it is."""
    return np.asarray(values if isinstance(values, np.ndarray) else values.float()).reshape(-1)


def check(case: Case, sigma: float, calls: dict[str, Callable[[], Any]]) -> None:
    """tamis against the float64 twin, first and last row; the peers by mean and deviation.

    The tolerance: 4 ulp of a normal (at most 2^-21 each) and half an ulp of the result.
    """
    x = np.linspace(0, 1, math.prod(case.shape), dtype=np.float32).reshape(case.shape)
    half_ulp = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}[case.dtype]
    for image, name in enumerate((NEW, OUT)):  # the first two numbers of the counter
        result = float32(calls[name]()).reshape(case.n, -1)
        twin_x = float32(rounded(case, x))
        for row in (0, case.n - 1):
            exact = reference.gaussian_noise(
                twin_x, 1, float(np.float32(sigma)), seed=1, image=image, start=row
            )[0]
            tolerance = sigma * 4 * 2.0**-21 + half_ulp * (np.abs(exact) + 2.0**-14)
            if not (np.abs(result[row] - exact) <= tolerance).all():
                sys.exit(f"wrong result, not timed: {name}, {case.name}, row {row}")
    for name, scale in ((USUAL, sigma), (NORMAL, 1.0), (NUMPY, 1.0)):
        if name not in calls:
            continue
        values = float32(calls[name]()).astype(np.float64)
        if name == USUAL:
            values = (values.reshape(case.n, -1) - float32(rounded(case, x))).reshape(-1)
        error = scale / math.sqrt(case.values)
        wrong = (
            values.size != case.values
            or abs(values.mean()) > 6 * error + half_ulp
            or abs(values.std() - scale) > 6 * error + 4 * half_ulp
        )
        if wrong:
            sys.exit(f"wrong peer, not timed: {name}, {case.name}")


def rounded(case: Case, x: Any) -> Any:
    """x as the calls see it: rounded to the type of the case."""
    torch = peers.torch_or_none()
    return x if torch is None else torch.from_numpy(x).to(getattr(torch, case.dtype))


def measure(
    case: Case, sigma: float, threads: int, rounds: int, clock: Callable[[], float]
) -> dict[str, Any]:
    peers.set_threads(threads)
    work = prepare(case, sigma, threads)
    times = _timing.interleave(
        work.calls, check=lambda: check(case, sigma, work.calls), rounds=rounds, clock=clock
    )
    results = {}
    for name, seconds in times.items():
        results[name] = {
            "seconds": _timing.spread(seconds),
            "values_per_second": case.values / _timing.spread(seconds)["median"],
            "compared_with": work.like[name],
            "ratio": _timing.spread(_timing.ratios(times, name, work.like[name])),
        }
        target = TARGETS.get(name, {}).get(threads) if case is MAIN else None
        if target is not None:
            results[name]["target"] = target
    return {"case": case.name, "threads": threads, "values": case.values, "results": results}


def show(measured: dict[str, Any]) -> str:
    rows = []
    for name, result in measured["results"].items():
        seconds, ratio = result["seconds"], result["ratio"]
        text = ["", ""]
        if result["compared_with"] != name:
            text = [
                f"{ratio['median']:.2f}",
                f"{ratio['quartile_1']:.2f}-{ratio['quartile_3']:.2f}",
            ]
        if "target" in result:
            text[0] = f"{text[0]} (of {result['target']:.0f})"
        rows.append(
            [
                name,
                f"{1e3 * seconds['median']:.2f}",
                f"{1e3 * seconds['quartile_1']:.2f}-{1e3 * seconds['quartile_3']:.2f}",
                f"{result['values_per_second'] / 1e6:.0f}",
                *text,
            ]
        )
    threads = measured["threads"]
    title = f"{measured['case']}, {threads} thread{'s' if threads > 1 else ''}"
    header = ["", "ms", "quartiles", "M/s", "ratio", "quartiles"]
    return f"{title}\n{_timing.table(header, rows)}"


def main() -> int:
    _timing.use_full_speed_blas()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    _timing.add_arguments(parser)
    parser.add_argument("--threads", type=int, nargs="+", metavar="T", help="default: 1 2")
    parser.add_argument("--sigma", type=float, default=0.25)
    args = parser.parse_args()
    if args.cpu_time and args.threads not in (None, [1]):
        parser.error("--cpu-time adds up the time of all threads, so it goes with --threads 1 only")
    thread_counts = args.threads or ([1] if args.cpu_time else [1, 2])
    rounds = args.rounds or (7 if args.quick else 31)
    facts = _timing.machine(("numpy", "torch"))
    if not args.json:
        print(
            f"{_timing.describe(facts)}\n\n"
            f"{_timing.clock_name(args)}; ratio: to that of the like tamis call\n"
        )
    measured = []
    for case in CASES[:1] if args.quick else CASES:
        if case.dtype == "bfloat16" and peers.torch_or_none() is None:
            print(f"left out, needs torch: {case.name}", file=sys.stderr)
            continue
        for threads in thread_counts:
            measured.append(measure(case, args.sigma, threads, rounds, _timing.clock_for(args)))
            if not args.json:
                print(show(measured[-1]), end="\n\n", flush=True)
    if args.json:
        result = {
            "benchmark": "gaussian_noise",
            "machine": facts,
            "clock": _timing.clock_name(args),
            "rounds": rounds,
            "measured": measured,
        }
        print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
