"""What a call keeps in memory beyond its rows, measured in a process of its own (Linux only).

    python bench/_peak_memory.py CALL N D DTYPE

prints the growth of the peak resident memory in bytes. The rows are written first, and the call
runs once on few rows, so that code, threads and small buffers are there before the counting starts.
"""

from __future__ import annotations

import ctypes
import gc
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import peers_filter
import tamis
from tamis.backdoor import SpectralSignatures

CALLS: dict[str, Callable[[Any], Any]] = {
    "iterative_filter": lambda X: tamis.iterative_filter(X, 0.1),
    "RobustMean.fit": lambda X: tamis.RobustMean(0.1).fit(X),
    "RobustCovariance.fit": lambda X: tamis.RobustCovariance(0.1).fit(X),
    "SpectralSignatures.fit": lambda X: SpectralSignatures(0.05).fit(X, np.arange(len(X)) % 10),
    "published filter": lambda X: peers_filter.published_filter(X, 0.1),
}


def growth(call: str, n: int, d: int, dtype: str) -> int:
    """In a fresh interpreter."""
    command = [sys.executable, __file__, call, str(n), str(d), dtype]
    # big blocks go straight back to the system: a free block of the start hides nothing
    environment = {
        **os.environ,
        "MALLOC_MMAP_THRESHOLD_": "65536",
        "MALLOC_TRIM_THRESHOLD_": "65536",
    }
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return int(done.stdout)


def status(name: str) -> int:
    """A field of /proc/self/status in bytes."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    if found is None:
        raise OSError(f"/proc/self/status has no {name}")
    return 1024 * int(found.group(1))


def mixture(n: int, d: int, dtype: str) -> Any:
    """Two groups of bad rows, made in place: the peak stays at the size of the table."""
    rng = np.random.default_rng(0)
    X = np.empty((n, d), dtype)
    for start in range(0, n, 4096):
        X[start : start + 4096] = 1.0 + rng.standard_normal(
            X[start : start + 4096].shape, np.float32
        )
    X[::20] = 0.0
    X[::20, :2] = (12.0, -2.0)
    X[1::20, ::2] = 0.0
    X[1::20, 1::2] = 1.0
    return X


def main() -> int:
    name, n, d, dtype = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    call = CALLS[name]
    call(mixture(2000, d, dtype))
    X = mixture(n, d, dtype)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # free blocks of the warm-up must not hide what the call needs
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # peak := now
    before = status("VmRSS")
    result = call(X)
    print(status("VmHWM") - before)
    del result
    return 0


if __name__ == "__main__":
    sys.exit(main())
