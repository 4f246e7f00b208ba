"""The robust mean: accuracy, other corruptions, speed, scaling.

    python bench/robust_mean.py accuracy     the figure of the published experiment, and its table
    python bench/robust_mean.py corruptions  other corruptions; every rule and assumption
    python bench/robust_mean.py speed        times, memory, the same bits on any number of threads
    python bench/robust_mean.py scaling      time against rows and columns, up to a mapped file

Each has --quick, --json and --help. `accuracy` and `corruptions` take long (an hour or more) and
may be stopped at any time: results are added to a CSV file one by one, and the next run goes on
from there. What they measure is in `_corrupted_rows.py`; the modes are in `_robust_mean_*.py`.
"""

from __future__ import annotations

import argparse
import json
import sys

import _robust_mean_accuracy
import _robust_mean_corruptions
import _robust_mean_scaling
import _robust_mean_speed
import _timing


def main() -> int:
    _timing.use_full_speed_blas()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    modes = parser.add_subparsers(dest="mode", required=True, metavar="MODE")
    _robust_mean_accuracy.add_parser(modes)
    _robust_mean_corruptions.add_parser(modes)
    _robust_mean_speed.add_parser(modes)
    _robust_mean_scaling.add_parser(modes)
    args = parser.parse_args()
    facts = _timing.machine(("numpy", "scipy", "torch", "threadpoolctl"))
    if not args.json:
        print(_timing.describe(facts), flush=True)
    result = args.run(args)
    if args.json:
        named = {"benchmark": "robust_mean", "mode": args.mode, "machine": facts}
        print(json.dumps({**named, **result}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
