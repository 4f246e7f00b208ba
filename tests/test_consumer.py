"""The installed C++ library as an embedder meets it: `find_package(tamis)` in another project."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.mark.slow
def test_find_package_builds_and_certifies(repo_root: Path, tmp_path: Path) -> None:
    """Oracle: the consumer's own check of its radius against the true one."""
    if shutil.which("cmake") is None or shutil.which("c++") is None:
        pytest.skip("needs cmake and a C++ compiler")

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            [str(c) for c in command], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    build, prefix, consumer = tmp_path / "build", tmp_path / "prefix", tmp_path / "consumer"
    run("cmake", "-S", repo_root, "-B", build, "-DTAMIS_CUDA=OFF", "-DCMAKE_BUILD_TYPE=Debug")
    run("cmake", "--build", build, "--parallel", "2")
    run("cmake", "--install", build, "--component", "devel", "--prefix", prefix)
    run(
        "cmake",
        "-S",
        repo_root / "tests" / "consumer",
        "-B",
        consumer,
        f"-DCMAKE_PREFIX_PATH={prefix}",
    )
    run("cmake", "--build", consumer)
    assert "certified radius 0.2" in run(consumer / "consumer")
