"""What a certificate costs beyond the classifier's own forward passes.

    python bench/certify.py [--quick] [--json] [--rounds R] [--cpu-time] [--threads T]
                            [--batch B] [--model FILE.onnx]

In one process and on the same session, batch by batch in turn:

- forward: the network alone on a preallocated, already normalised batch;
- model: normalisation and network on a preallocated batch, as where the model contains its
  normalisation (published classifiers do);
- tamis: ``Smooth.certify_iter`` (noise with normalisation, forward pass, votes, bounds);
- usual loop: what published certification code does with torch, ``x.repeat``, ``randn_like``,
  times sigma, add, normalise, classify, count (with ``numpy.bincount``, where that code counts in
  Python, so that the peer does not suffer from that).

Reported: the median and the quartiles of the time of a batch, and of its ratio to the forward pass
that came right after it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import _timing
import peers
import tamis
from _data import data_dir
from tamis.smoothing import Smooth, Stream, as_classifier, image_id

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
SIGMA = 0.12
SHAPE = (3, 32, 32)
TARGET = 0.03  # of the forward pass, at batch 1000


def open_session(path: Path, threads: int) -> Any:
    """Session with a free batch dimension and `threads` threads."""
    import onnx
    import onnxruntime

    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del model.graph.value_info[:]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def usual_loop_step(session: Any, x: Any, batch: int) -> Callable[[], Any]:
    """One batch of the usual torch loop, around the same session."""
    import torch

    name = session.get_inputs()[0].name
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    image = torch.from_numpy(x)

    def step() -> Any:
        with torch.no_grad():
            copies = image.repeat((batch, 1, 1, 1))
            noise = torch.randn_like(copies) * SIGMA
            normal = (copies + noise - mean) / std
            logits = session.run(None, {name: normal.numpy()})[0]
            predictions = torch.from_numpy(logits).argmax(1)
            return np.bincount(predictions.numpy(), minlength=logits.shape[1])

    return step


def check(session: Any, x: Any, threads: int) -> None:
    """Refuse to time a wrong loop: counts equal those of a loop written out by hand."""
    name = session.get_inputs()[0].name
    mean, std = (np.float32(values).reshape(3, 1, 1) for values in (MEAN, STD))
    smooth = Smooth(session, 10, SIGMA, seed=1, mean=MEAN, std=STD, num_threads=threads)
    (row,) = smooth.certify_iter([x], 33, 301, batch_size=100)
    for stream, counts in (
        (Stream.SELECTION, row.selection_counts),
        (Stream.ESTIMATION, row.counts),
    ):
        noisy = tamis.gaussian_noise(
            x, int(counts.sum()), SIGMA, seed=1, image=image_id(x), stream=int(stream)
        )
        logits = session.run(None, {name: (noisy - mean) / std})[0]
        votes = np.bincount(logits.argmax(axis=1), minlength=10)
        if (votes != counts).any():
            sys.exit(f"wrong result, not timed: {counts} votes expected {votes}")


def measure(
    session: Any, x: Any, batch: int, rounds: int, threads: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of each batch of each loop, in turn; the first round warms up and is dropped."""
    forward = as_classifier(session)
    normal = np.random.default_rng(0).standard_normal((batch, *SHAPE)).astype(np.float32)
    model = as_classifier(session, mean=MEAN, std=STD)
    noisy = tamis.gaussian_noise(x, batch, SIGMA, seed=0)
    scratch = np.empty_like(noisy)
    steps: dict[str, Callable[[], Any]] = {
        "forward": lambda: forward.logits(normal),
        "model": lambda: model.logits(scratch),
    }
    try:
        steps["usual loop"] = usual_loop_step(session, x, batch)
    except ImportError:
        print("torch is not installed: no usual loop", file=sys.stderr)
    times: dict[str, list[float]] = {name: [] for name in ("tamis", *steps)}
    began = 0.0

    def between_batches(samples: int) -> None:
        nonlocal began
        times["tamis"].append(clock() - began)
        scratch[...] = noisy  # the model normalises in place
        for name, step in steps.items():
            start = clock()
            step()
            times[name].append(clock() - start)
        began = clock()

    smooth = Smooth(session, 10, SIGMA, mean=MEAN, std=STD, num_threads=threads)
    n0 = min(100, batch - 1)
    began = clock()
    list(
        smooth.certify_iter(
            [x], n0, (rounds + 1) * batch - n0, 0.5, batch, progress=between_batches
        )
    )
    return {name: values[1:] for name, values in times.items()}


def parts(
    x: Any, batch: int, rounds: int, threads: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of what tamis adds to a forward pass, piece by piece."""
    buffer = np.empty((batch, *SHAPE), np.float32)
    logits = np.random.default_rng(0).standard_normal((batch, 10)).astype(np.float32)
    steps: dict[str, Callable[[], Any]] = {
        "noise": lambda: tamis.gaussian_noise(
            x, batch, SIGMA, seed=0, out=buffer, mean=MEAN, std=STD, num_threads=threads
        ),
        "(no mean, std)": lambda: tamis.gaussian_noise(
            x, batch, SIGMA, seed=0, out=buffer, num_threads=threads
        ),
        "votes": lambda: tamis.vote_counts(logits),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds + 1):
        for name, step in steps.items():
            start = clock()
            step()
            times[name].append(clock() - start)
    return {name: values[1:] for name, values in times.items()}


def main() -> int:
    _timing.use_full_speed_blas()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    _timing.add_arguments(parser)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--model", type=Path, default=data_dir() / "models/cifar10_resnet4b.onnx")
    args = parser.parse_args()
    clock = _timing.clock_for(args)
    if args.cpu_time:
        args.threads = 1
    if not args.model.is_file():
        sys.exit(f"{args.model} is missing: give --model, or TAMIS_DATA_DIR")
    rounds = args.rounds or (10 if args.quick else 60)
    facts = _timing.machine()
    peers.set_threads(args.threads)
    session = open_session(args.model, args.threads)
    x = np.random.default_rng(1).random(SHAPE).astype(np.float32)
    check(session, x, args.threads)
    times = measure(session, x, args.batch, rounds, args.threads, clock)
    extra = {
        base: {
            name: _timing.spread([ratio - 1.0 for ratio in _timing.ratios(times, name, base)])
            for name in times
            if name not in {"forward", "model"}
        }
        for base in ("forward", "model")
    }
    pieces = parts(x, args.batch, rounds, args.threads, clock)
    result = {
        "benchmark": "certify",
        "model": args.model.name,
        "batch": args.batch,
        "threads": args.threads,
        "rounds": rounds,
        "clock": _timing.clock_name(args),
        "machine": facts,
        "seconds_per_batch": {name: _timing.spread(values) for name, values in times.items()},
        "beyond_forward": extra["forward"],
        "beyond_model": extra["model"],
        "seconds_of_parts": {name: _timing.spread(values) for name, values in pieces.items()},
        "target": TARGET,
        "target_met": extra["forward"]["tamis"]["median"] <= TARGET,
    }
    if args.json:
        print(json.dumps(result, indent=2))
        return 0
    print(
        f"{_timing.describe(facts)}\n\n{args.model.name}, batch {args.batch}, "
        f"{args.threads} threads, {rounds} batches of each\n"
        f"{result['clock']}, median (quartiles)\n"
    )

    def line(name: str, seconds: dict[str, float]) -> None:
        low, high = 1e3 * seconds["quartile_1"], 1e3 * seconds["quartile_3"]
        print(f"  {name:<14}{1e3 * seconds['median']:9.3f} ms ({low:.3f} to {high:.3f})")

    for name, values in times.items():
        line(name, _timing.spread(values))
    for base, beyond in extra.items():
        print(f"\nbeyond {base}:")
        for name, share in beyond.items():
            ends = f"{100 * share['quartile_1']:+.2f}% to {100 * share['quartile_3']:+.2f}%"
            print(f"  {name:<14}{100 * share['median']:+9.2f}%   ({ends})")
    print("\nwhat tamis adds, piece by piece:")
    for name, values in pieces.items():
        line(name, _timing.spread(values))
    verdict = "met" if result["target_met"] else "NOT met"
    print(f"\ntarget, at most {100 * TARGET:.0f}% beyond forward: {verdict}", end="")
    usual = extra["forward"].get("usual loop")
    if usual is not None:
        ratio = usual["median"] / extra["forward"]["tamis"]["median"]
        print(f"; the usual loop adds {ratio:.1f} times as much", end="")
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
