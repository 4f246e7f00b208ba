"""Checks an installed tamis as it would be shipped. Run with the Python that has it installed.

    python tests/wheel/check_wheel.py cpu|cuda

Both: the wheel is under 15 MB, and `import tamis` takes under 0.3 s, on this machine as it is, with
or without a driver. cuda: the CUDA runtime is linked statically, and neither it nor the driver is
needed to load the extension. cpu: there is no symbol and no section of CUDA in the extension.
Needs readelf and nm.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import re
import subprocess
import sys
import zipfile
from pathlib import Path

MAX_MEGABYTES = 15.0
MAX_SECONDS = 0.3
# Of the runtime, of what nvcc makes for it, and of the driver; not tamis::cuda::..., which says
# that there is no CUDA backend.
CUDA_SYMBOL = re.compile(r"\b(?:__)?cuda[A-Z]\w*|\bcu[A-Z]\w+|fatbin", re.ASCII)
TIMED = "from time import perf_counter as now; t = now(); import tamis; print(now() - t)"


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def wheel_megabytes() -> float:
    """Size of the installed files packed as a wheel packs them: deflated."""
    files = importlib.metadata.files("tamis") or []
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            path = Path(str(file.locate()))
            if path.is_file() and "__pycache__" not in path.parts and ".." not in file.parts:
                archive.write(path, str(file))
    return len(target.getvalue()) / 1e6


def import_seconds() -> float:
    """The best of five fresh processes: what the import takes when nothing else runs."""
    return min(float(output(sys.executable, "-c", TIMED)) for _ in range(5))


def cuda_symbols(extension: str) -> list[str]:
    text = output("nm", "-C", extension) + output("nm", "-DC", extension)
    text += output("readelf", "-SW", extension)
    return sorted(set(CUDA_SYMBOL.findall(text)))


def main() -> int:
    if sys.argv[1:] not in (["cpu"], ["cuda"]):
        print((__doc__ or "").strip())
        return 2
    kind = sys.argv[1]
    extension = importlib.util.find_spec("tamis._core")
    if extension is None or extension.origin is None:
        print("tamis is not installed for this Python")
        return 1
    size, seconds = wheel_megabytes(), import_seconds()
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", output("readelf", "-dW", extension.origin))
    symbols = cuda_symbols(extension.origin)
    fatbin = ".nv_fatbin" in output("readelf", "-SW", extension.origin)
    checks = {
        f"the wheel has {size:.2f} MB, under {MAX_MEGABYTES:g}": 0 < size < MAX_MEGABYTES,
        f"the import takes {seconds:.3f} s, under {MAX_SECONDS:g}": seconds < MAX_SECONDS,
        f"it needs {', '.join(needed)}, nothing of CUDA": not any("cuda" in n for n in needed),
    }
    if kind == "cuda":
        checks["the kernels are in the extension"] = fatbin
    else:
        checks[f"no CUDA symbol (found: {symbols[:5]})"] = not symbols and not fatbin
    for text, holds in checks.items():
        print("ok    " if holds else "FAILED", text)
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
