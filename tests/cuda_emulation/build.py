"""Builds the stand-in runtime and the extension that runs on it, under build/, and keeps them.

    python tests/cuda_emulation/build.py

The build is incremental: a second call takes about a second where no source has changed.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


class MissingToolError(RuntimeError):
    """A tool that the build needs is not on this machine; the message names it."""


class BuildError(RuntimeError):
    """The build failed; the message has the first errors and the path of the log."""


@dataclass(frozen=True)
class Built:
    runtime: Path
    extension: Path


def nvcc() -> str:
    """Path of nvcc, from CUDACXX or the PATH."""
    found = shutil.which(os.environ.get("CUDACXX", "nvcc"))
    if found is None:
        raise MissingToolError("nvcc not found: the CUDA backend cannot be built here")
    return found


def build(*targets: str) -> Built:
    """Build what is not built yet. Processes that come at the same time wait for each other.

    ``targets``: "cudart_emulation", the stand-in alone, or "_core", the extension; default both.
    """
    compiler = nvcc()
    cmake = shutil.which("cmake")
    if cmake is None:
        raise MissingToolError("cmake not found: the CUDA emulation cannot be built here")
    if importlib.util.find_spec("pybind11") is None:
        raise MissingToolError("pybind11 not found: the CUDA emulation cannot be built here")
    import pybind11

    folder = ROOT / "build" / f"cuda_emulation-{sysconfig.get_config_var('SOABI')}"
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"build-{'-'.join(targets) or 'all'}.log"
    configure = [
        cmake, "-S", str(HERE), "-B", str(folder),
        f"-DCMAKE_CUDA_COMPILER={compiler}",
        f"-DPython_EXECUTABLE={sys.executable}",
        f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
    ]  # fmt: skip
    ninja = shutil.which("ninja")
    if ninja is not None:
        configure += ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
    make = [cmake, "--build", str(folder), "--parallel", str(len(os.sched_getaffinity(0)))]
    if targets:
        make += ["--target", *targets]
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _run(configure, log):  # a cache of another checkout or CMake
            (folder / "CMakeCache.txt").unlink(missing_ok=True)
            shutil.rmtree(folder / "CMakeFiles", ignore_errors=True)
            if not _run(configure, log):
                raise BuildError(_end_of(log))
        if not _run(make, log):
            raise BuildError(_end_of(log))
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    return Built(folder / "libcudart_emulation.so", folder / f"_core{suffix}")


def ptx_of(source: Path, architecture: int, *options: str) -> str:
    """The PTX that nvcc makes of a .cu file, kept under build/ until the file changes."""
    folder = ROOT / "build" / "cuda_emulation_ptx"
    folder.mkdir(parents=True, exist_ok=True)
    name = "-".join((source.stem, str(architecture), *options)).replace("/", "_")
    target = folder / f"{name}.ptx"
    if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
        temporary = folder / f"{name}.{os.getpid()}.ptx"
        command = [
            nvcc(), "-ptx", "-std=c++20", "-lineinfo", f"-arch=compute_{architecture}",
            *options, "-o", str(temporary), str(source),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BuildError(done.stdout + done.stderr)
        temporary.replace(target)
    return target.read_text()


def _run(command: list[str], log: Path) -> bool:
    with log.open("w") as output:
        return subprocess.run(command, stdout=output, stderr=output, check=False).returncode == 0


def _end_of(log: Path) -> str:
    """The first errors in a log: every test of the session will show them."""
    lines = log.read_text(errors="replace").splitlines()
    errors = [line for line in lines if "error" in line.lower()] or lines[-5:]
    return "\n".join([f"the CUDA emulation does not build ({log}):", *errors[:5]])


if __name__ == "__main__":
    print(build())
