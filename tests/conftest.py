"""Shared fixtures. Real data is read where it lies and never copied into the package."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repo_root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real images, models and logs; tests that need it are skipped without it.

    ``TAMIS_REQUIRE_DATA=1`` turns those skips into failures.
    """
    folder = Path(os.environ.get("TAMIS_DATA_DIR", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        reason = f"real data not found at {folder} (set TAMIS_DATA_DIR)"
        if os.environ.get("TAMIS_REQUIRE_DATA") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture
def python_handles_sigint() -> Iterator[None]:
    """A process started in the background inherits an ignored SIGINT, and would not be stopped."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.fixture
def one_torch_thread() -> Iterator[None]:
    """Small networks only lose by more threads, most of all on a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
