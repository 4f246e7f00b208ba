"""Time of the whole robust mean beside the published filter and baselines; memory; same bits."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

import _corrupted_rows
import _peak_memory
import _timing
import peers
import peers_filter
import tamis

CONTAMINATION = 0.1
SEED = 0
OPERATION, ESTIMATOR, KNOWN = "tamis.iterative_filter", "tamis.RobustMean", "tamis, identity"
PUBLISHED = "published filter, numpy"
TARGET = 15.0  # times as fast as the published filter, float64
BYTES_TARGET = 16
EXCESS = 0.01  # of tamis; a peer may be anywhere below the plain mean


def add_parser(modes: Any) -> None:
    parser = modes.add_parser("speed", help="times, memory, and the same bits on any thread count")
    parser.set_defaults(run=run)
    _timing.add_arguments(parser)
    parser.add_argument(
        "--threads", type=int, nargs="+", metavar="T", help="default: 1 2; 1 if quick"
    )
    parser.add_argument("--rows", type=int, default=99_990, metavar="N")
    parser.add_argument("--columns", type=int, default=100, metavar="D")


def calls_for(X: NDArray[Any], threads: int, *, quick: bool) -> dict[str, Any]:
    calls: dict[str, Any] = {
        OPERATION: lambda: tamis.iterative_filter(X, CONTAMINATION, num_threads=threads).mean,
        ESTIMATOR: lambda: tamis.RobustMean(CONTAMINATION, n_jobs=threads).fit(X).location_,
        KNOWN: lambda: (
            tamis.iterative_filter(X, CONTAMINATION, assume="identity", num_threads=threads).mean
        ),
        PUBLISHED: lambda: peers_filter.published_filter(X, CONTAMINATION),
        "sample mean": lambda: X.mean(axis=0),
        "coordinate median": lambda: tamis.coordinate_median(X),
        "naive pruning": lambda: tamis.naive_prune(X, CONTAMINATION)[0],
    }
    if not quick:
        calls["LRV"] = lambda: tamis.lrv_mean(X, CONTAMINATION)
        calls["geometric median"] = lambda: tamis.geometric_median(X)
        calls["RANSAC"] = lambda: tamis.ransac_mean(X, CONTAMINATION)
    return calls


def check(rows: _corrupted_rows.Rows, calls: dict[str, Any], excess: dict[str, float]) -> None:
    """Errors against the known mean; the mean of tamis against its own weights, in float64."""
    plain = rows.error(rows.X.mean(axis=0, dtype=np.float64))
    for name, call in calls.items():
        estimate = call()
        excess[name] = rows.excess(estimate)
        ours = name in (OPERATION, ESTIMATOR, KNOWN)
        limit = EXCESS + rows.sampling_error if ours else 1.05 * plain
        if not rows.error(estimate) <= limit:
            sys.exit(f"error {rows.error(estimate):.3f}, not timed: {name}")
    found: Any = tamis.iterative_filter(rows.X, CONTAMINATION)
    exact = found.weights.astype(np.float64) @ rows.X / found.weights.sum(dtype=np.float64)
    if not np.allclose(found.mean, exact, rtol=0.0, atol=1e-6 if rows.X.itemsize == 4 else 1e-12):
        sys.exit("wrong result, not timed: the mean is not the mean of the weighted rows")


def check_bits(X: NDArray[Any]) -> str:
    """The same bits on 1, 2 and 8 threads, for every rule, or the end of the run."""
    for rule in ("gaussian_tail", "bounded_covariance", "fixed_fraction", "soft", "randomized"):
        bits = set()
        run_filter: Any = tamis.iterative_filter  # the rule is text here
        for threads in (1, 2, 8):
            found = run_filter(X, CONTAMINATION, rule=rule, seed=SEED, num_threads=threads)
            arrays = (found.mean, found.weights, found.scores, found.eigenvalues, found.directions)
            bits.add(b"".join(array.tobytes() for array in arrays))
        if len(bits) != 1:
            sys.exit(f"rule {rule}: 1, 2 and 8 threads give different bits")
    return "mean, weights, scores, eigenvalues, directions: the same bits on 1, 2 and 8 threads"


def measure_memory(n: int, d: int, dtype: str, *, quick: bool) -> dict[str, Any]:
    """Growth at n rows, and between n and 4 n: what a row costs, without what is fixed."""
    results: dict[str, Any] = {}
    for call in list(_peak_memory.CALLS)[: 1 if quick else None]:
        small, large = (_peak_memory.growth(call, rows, d, dtype) for rows in (n, 4 * n))
        results[call] = {
            "bytes": small,
            "bytes_at_4n": large,
            "bytes_a_row": (large - small) / (3 * n),
            "target": BYTES_TARGET,
        }
    return {"n": n, "d": d, "dtype": dtype, "results": results}


def show_memory(measured: dict[str, Any]) -> str:
    body = [
        [
            name,
            f"{result['bytes'] / 1e6:.2f}",
            f"{result['bytes_at_4n'] / 1e6:.2f}",
            f"{result['bytes_a_row']:.1f} (of {result['target']})",
        ]
        for name, result in measured["results"].items()
    ]
    n = measured["n"]
    header = ["peak beyond X, MB", f"n = {n}", f"n = {4 * n}", "bytes a row"]
    return f"memory, d = {measured['d']}, {measured['dtype']}\n{_timing.table(header, body)}"


def measure(
    rows: _corrupted_rows.Rows, threads: int, args: argparse.Namespace, rounds: int
) -> dict[str, Any]:
    peers.set_threads(threads)
    calls = calls_for(rows.X, threads, quick=args.quick)
    excess: dict[str, float] = {}
    times = _timing.interleave(
        calls,
        check=lambda: check(rows, calls, excess),
        rounds=rounds,
        warmup=1,
        clock=_timing.clock_for(args),
    )
    dtype = str(rows.X.dtype)
    results: dict[str, Any] = {}
    for name, seconds in times.items():
        results[name] = {
            "seconds": _timing.spread(seconds),
            "ratio": _timing.spread(_timing.ratios(times, name, OPERATION)),
            "excess": excess[name],
        }
    if dtype == "float64":
        results[PUBLISHED]["target"] = TARGET
    n, d = rows.X.shape
    return {"case": f"{n} x {d}, {dtype}", "threads": threads, "results": results}


def show(measured: dict[str, Any]) -> str:
    body = []
    for name, result in measured["results"].items():
        seconds, ratio = result["seconds"], result["ratio"]
        text = ["", ""]
        if name != OPERATION:
            text = [
                f"{ratio['median']:.2f}",
                f"{ratio['quartile_1']:.2f}-{ratio['quartile_3']:.2f}",
            ]
        if "target" in result:
            text[0] = f"{text[0]} (of {result['target']:g})"
        body.append(
            [
                name,
                f"{1e3 * seconds['median']:.1f}",
                f"{1e3 * seconds['quartile_1']:.1f}-{1e3 * seconds['quartile_3']:.1f}",
                *text,
                f"{result['excess']:+.4f}",
            ]
        )
    threads = measured["threads"]
    title = f"robust mean, {measured['case']}, {threads} thread{'s' if threads > 1 else ''}"
    header = ["", "ms", "quartiles", "ratio", "quartiles", "excess error"]
    return f"{title}\n{_timing.table(header, body)}"


def run(args: argparse.Namespace) -> dict[str, Any]:
    if args.cpu_time and args.threads not in (None, [1]):
        sys.exit("--cpu-time adds up the time of all threads, so it goes with --threads 1 only")
    thread_counts = args.threads or ([1] if args.cpu_time or args.quick else [1, 2])
    rounds = args.rounds or (3 if args.quick else 11)
    measured: list[dict[str, Any]] = []
    memory: list[dict[str, Any]] = []
    if not args.json:
        print(f"seed {SEED}; {_timing.clock_name(args)}; ratio: to {OPERATION}; the mixture of the")
        print("published experiment; baselines of tamis.location use one thread\n")
    for dtype in ("float64",) if args.quick else ("float64", "float32"):
        rows = _corrupted_rows.corrupted(
            "two groups", args.rows, args.columns, CONTAMINATION, seed=SEED, dtype=dtype
        )
        bits = check_bits(rows.X)
        if not args.json:
            print(f"{dtype}: {bits}\n", flush=True)
        for threads in thread_counts:
            measured.append(measure(rows, threads, args, rounds))
            if not args.json:
                print(show(measured[-1]), end="\n\n", flush=True)
        del rows
        if sys.platform == "linux":
            memory.append(measure_memory(args.rows, args.columns, dtype, quick=args.quick))
            if not args.json:
                print(show_memory(memory[-1]), end="\n\n", flush=True)
    return {
        "clock": _timing.clock_name(args),
        "seed": SEED,
        "rounds": rounds,
        "measured": measured,
        "memory": memory,
        "same_bits": True,
    }
