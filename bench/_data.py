"""Where the data of the benchmarks lies: TAMIS_DATA_DIR, else ../shared/data beside the project."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def data_dir() -> Path:
    default = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
    return Path(os.environ.get("TAMIS_DATA_DIR", default))


def require_data_dir() -> Path:
    """`data_dir`, or the end of the benchmark."""
    folder = data_dir()
    if not folder.is_dir():
        sys.exit(f"no data folder at {folder}: set TAMIS_DATA_DIR")
    return folder
