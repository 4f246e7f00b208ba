"""pytest fixtures. A test file asks for them with ``pytest_plugins = ["cuda_emulation.fixtures"]``.

``backend``   the CPU, the emulated device as sm_75 and as sm_90 (with arrays that speak DLPack, and
              as sm_90 with torch tensors), and a GPU where there is one
``cuda``      only the emulated device, for tests of what only it can show (counts, faults, leaks)
``emulator``  the machine alone, without the extension: for PTX that a test brings along

What cannot run is skipped by name. ``TAMIS_REQUIRE_CUDA=1`` turns these skips into failures;
``TAMIS_REQUIRE_CUDA=emulated`` does so for all but the missing GPU.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tamis
from cuda_emulation import build
from cuda_emulation.backends import (
    Backend,
    EmulatedBackend,
    EmulatedTorchBackend,
    GpuBackend,
    NumpyBackend,
)
from cuda_emulation.emulator import Emulator
from cuda_emulation.probing import Probes

ARCHITECTURES = (75, 90)


def skip(reason: str, *, gpu: bool = False) -> Any:
    """Skip, or fail where CUDA is required."""
    required = os.environ.get("TAMIS_REQUIRE_CUDA", "")
    if required == "1" or (required == "emulated" and not gpu):
        pytest.fail(f"TAMIS_REQUIRE_CUDA={required}: {reason}")
    pytest.skip(reason)


def build_or_skip(target: str) -> build.Built:
    try:
        return build.build(target)
    except build.MissingToolError as missing:
        return skip(str(missing))
    except build.BuildError as failed:
        return pytest.fail(str(failed), pytrace=False)


@pytest.fixture(scope="session")
def runtime_library() -> Path:
    return build_or_skip("cudart_emulation").runtime


@pytest.fixture(scope="session")
def machine(runtime_library: Path) -> Emulator:
    return Emulator(runtime_library)


@pytest.fixture(scope="session")
def extension(machine: Emulator) -> Any:
    return machine.load_extension(build_or_skip("_core").extension)


@pytest.fixture
def emulator(machine: Emulator) -> Iterator[Emulator]:
    machine.reset()
    yield machine
    machine.reset()


@pytest.fixture(params=ARCHITECTURES, ids=lambda architecture: f"sm_{architecture}")
def probes(request: pytest.FixtureRequest, emulator: Emulator) -> Probes:
    """The kernels under probes/, which test the emulator itself."""
    return Probes(emulator, request.param)


def exchange(old: Any, new: Any) -> None:
    """Make every module of the package use the native core ``new`` instead of ``old``.

    Also what was imported from it by name, such as its exceptions.
    """
    known = {id(old): new}
    for name, value in vars(old).items():
        if isinstance(value, type) and hasattr(new, name):
            known[id(value)] = getattr(new, name)
    for name, module in list(sys.modules.items()):
        if module is not None and (name == "tamis" or name.startswith("tamis.")):
            for attribute, value in list(vars(module).items()):
                if id(value) in known and module is not old:
                    setattr(module, attribute, known[id(value)])
    sys.modules["tamis._core"] = new


def _emulated(request: pytest.FixtureRequest, architecture: int) -> Iterator[EmulatedBackend]:
    """The public functions, on the emulated device, for one test."""
    machine: Emulator = request.getfixturevalue("machine")
    core = request.getfixturevalue("extension")
    installed = sys.modules["tamis._core"]
    exchange(installed, core)
    try:
        machine.reset(architecture=architecture)
        backend = EmulatedBackend(machine, architecture)
        yield backend
        backend.finish()
    finally:
        machine.reset()
        exchange(core, installed)


@pytest.fixture(params=ARCHITECTURES, ids=lambda architecture: f"sm_{architecture}")
def cuda(request: pytest.FixtureRequest) -> Iterator[EmulatedBackend]:
    """The emulated device. Faults and leaks found during the test make it fail."""
    yield from _emulated(request, request.param)


@pytest.fixture
def emulated_90(request: pytest.FixtureRequest) -> Iterator[EmulatedBackend]:
    """The same as sm_90 alone, for what no kernel has a part in."""
    yield from _emulated(request, 90)


@pytest.fixture(params=["cpu", *(f"sm_{a}" for a in ARCHITECTURES), "torch_sm_90", "gpu"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Every place where an operation can run."""
    if request.param == "cpu":
        yield NumpyBackend()
    elif request.param == "gpu":
        reason = no_gpu()
        if reason:
            skip(reason, gpu=True)
        gpu = GpuBackend()
        yield gpu
        gpu.finish()
    elif request.param.startswith("torch"):
        pytest.importorskip("torch")
        from cuda_emulation.torch_arrays import emulated_torch

        for plain in _emulated(request, 90):
            backend = EmulatedTorchBackend(plain.emulator, plain.architecture)
            with emulated_torch(plain.emulator):
                yield backend
    else:
        yield from _emulated(request, int(request.param[3:]))


def no_gpu() -> str:
    """Why there is no GPU to run on, or "" where there is one."""
    cuda_info = tamis.info()["cuda"]
    if not cuda_info["built"]:
        return "no GPU: the installed tamis was built without CUDA"
    if not cuda_info["devices"]:
        return f"no GPU: {cuda_info['status']}"
    try:
        import torch
    except ImportError:
        return "no GPU: torch is not installed"
    return "" if torch.cuda.is_available() else "no GPU: this torch has no CUDA"
