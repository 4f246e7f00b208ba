"""CUDA on a real GPU: is it right, and how fast is it beside torch?

    python bench/gpu.py [--quick] [--json] [--write] [--only NAME ...] [--rounds R]

Every operation is checked first (noise: the CPU's bits; everything else: float64 on the GPU, by
torch) and then timed with CUDA events, in turn with its torch peers. Without a GPU it says so and
ends with status 1.

limit    what the memory allows: the bytes that the operation must move, at the speed of a copy,
         a fill or a read (torch's sum) of the same card in the same rounds
ratio    time of the peer over that of tamis, round by round: median and quartiles

``--write`` puts the table into bench/results/gpu.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import _timing
import tamis
from _gpu_cases import CASES, TAMIS, Call, Case, WrongError, card

GB = 1 << 30


def event_seconds(call: Call) -> float:
    """Seconds between two events around the call; host work inside it counts where it delays."""
    torch = card()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    call()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) * 1e-3


def memory_limits(rounds: int) -> dict[str, float]:
    """Bytes a second: of a copy (read and written), a fill and a read, on 2 GiB."""
    torch = card()
    a, b = (torch.ones(GB // 2, device="cuda") for _ in range(2))
    calls = {"copy": lambda: b.copy_(a), "fill": lambda: b.fill_(0.5), "read": a.sum}
    times = _timing.interleave(calls, check=lambda: None, rounds=rounds, measure=event_seconds)
    moved = {"copy": 2 * a.nbytes, "fill": a.nbytes, "read": a.nbytes}
    return {name: moved[name] / _timing.spread(times[name])["median"] for name in calls}


def measure(case: Case, limits: dict[str, float], rounds: int) -> dict[str, Any]:
    work = case.prepare()
    times = _timing.interleave(work.calls, check=work.check, rounds=rounds, measure=event_seconds)
    result: dict[str, Any] = {
        "operation": case.operation,
        "size": case.size,
        "necessary": work.necessary,
        "seconds": {name: _timing.spread(seconds) for name, seconds in times.items()},
        "ratios": {
            name: _timing.spread(_timing.ratios(times, name, TAMIS))
            for name in times
            if name != TAMIS
        },
    }
    if work.limit:
        result["limit"] = work.limit
        allowed = work.necessary / limits[work.limit]
        result["share_of_limit"] = allowed / result["seconds"][TAMIS]["median"]
    return result


HEADER = ["operation, size", "tamis ms", "of the limit", "peer", "times as long", "quartiles"]


def lines(measured: dict[str, Any]) -> list[list[str]]:
    share = measured.get("share_of_limit")
    first = [
        f"{measured['operation']}, {measured['size']}",
        f"{1e3 * measured['seconds'][TAMIS]['median']:.3f}",
        "" if share is None else f"{100 * share:.0f}% ({measured['limit']})",
    ]
    out = []
    for name, ratio in measured["ratios"].items():
        quartiles = f"{ratio['quartile_1']:.2f}-{ratio['quartile_3']:.2f}"
        out.append([*first, name, f"{ratio['median']:.2f}", quartiles])
        first = ["", "", ""]
    return out


def markdown(head: str, rows: list[list[str]]) -> str:
    table = ["| " + " | ".join(row) + " |" for row in [HEADER, *rows]]
    table.insert(1, "| --- | ---: | ---: | --- | ---: | ---: |")
    command = " ".join(["python bench/gpu.py", *(a for a in sys.argv[1:] if a != "--write")])
    return "\n".join(["# On a GPU", "", f"Made by `{command}`. {head}", "", *table, ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    _timing.add_arguments(parser)
    parser.add_argument("--write", action="store_true", help="write bench/results/gpu.md")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="operations; default: all")
    args = parser.parse_args()
    torch = card()
    rounds = args.rounds or (5 if args.quick else 15)
    facts = _timing.machine(("numpy", "torch"))
    facts["gpu"] = torch.cuda.get_device_name()
    limits = memory_limits(rounds)
    head = (
        f"{facts['gpu']}, torch {torch.__version__}, CUDA {tamis.info()['cuda']['toolkit']}, "
        f"{rounds} rounds. Memory: "
        + ", ".join(f"{name} {speed / 1e12:.2f} TB/s" for name, speed in limits.items())
        + "."
    )
    if not args.json:
        print(head, end="\n\n", flush=True)
    measured, failed = [], 0
    for case in CASES:
        wanted = not args.only or case.operation in args.only
        if not wanted or (args.quick and not case.quick):
            continue
        try:
            measured.append(measure(case, limits, rounds))
        except WrongError as wrong:
            failed += 1
            print(f"wrong, not timed: {case.operation}, {case.size}: {wrong}", file=sys.stderr)
            continue
        finally:
            torch.cuda.empty_cache()
        if not args.json:
            print(_timing.table(HEADER, lines(measured[-1])), end="\n\n", flush=True)
    if args.json:
        print(json.dumps({"benchmark": "gpu", "machine": facts, "limits": limits,
                          "rounds": rounds, "measured": measured}, indent=2))  # fmt: skip
    if args.write:
        target = Path(__file__).resolve().parent / "results" / "gpu.md"
        target.write_text(
            markdown(head, [row for one in measured for row in lines(one)]), encoding="utf-8"
        )
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
