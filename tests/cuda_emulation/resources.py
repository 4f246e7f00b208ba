"""Registers, spills and local memory of every kernel, as ptxas reports them.

The PTX comes out of the extension that the emulation builds, so nothing but ptxas has to run; what
it says is kept under build/ for as long as the PTX stays the same.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cuda_emulation import fatbin
from cuda_emulation.build import ROOT, BuildError, MissingToolError, nvcc

_KERNEL = re.compile(r"Compiling entry function '(\w+)' for")
_USE = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_REGISTERS = re.compile(r"Used (\d+) registers")


@dataclass(frozen=True)
class Use:
    """What one kernel takes: bytes a thread, except for registers."""

    kernel: str
    registers: int
    stack: int
    spill_stores: int
    spill_loads: int


def modules(extension: Path) -> Iterator[dict[int, str]]:
    """PTX by architecture, of every CUDA source linked into the extension."""
    data = extension.read_bytes()
    magic = fatbin.MAGIC.to_bytes(4, "little")
    at = data.find(magic)
    while at >= 0:
        if at % 8 == 0 and data[at + 4 : at + 6] == b"\x01\x00":  # a header, not a constant
            start = at

            def read(offset: int, size: int, start: int = start) -> bytes:
                return data[start + offset : start + offset + size]

            yield fatbin.ptx_texts(read)
        at = data.find(magic, at + 1)


def measure(text: str, architecture: int) -> list[Use]:
    """What ptxas says of one module."""
    report = _report(text, architecture)
    uses = []
    for part in re.split(r"(?=Compiling entry function)", report)[1:]:
        name, use, registers = _KERNEL.search(part), _USE.search(part), _REGISTERS.search(part)
        if name is None or use is None or registers is None:
            raise BuildError(f"ptxas reports in another way than expected: {part}")
        uses.append(Use(name[1], int(registers[1]), *(int(number) for number in use.groups())))
    return uses


def _report(text: str, architecture: int) -> str:
    ptxas = shutil.which("ptxas", path=str(Path(nvcc()).resolve().parent)) or shutil.which("ptxas")
    if ptxas is None:
        raise MissingToolError("ptxas not found beside nvcc: registers cannot be counted here")
    folder = ROOT / "build" / "cuda_resources"
    folder.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(f"{ptxas} {architecture}\n{text}".encode()).hexdigest()[:24]
    kept = folder / f"{key}.txt"
    if not kept.exists():
        source = folder / f"{key}.ptx"
        source.write_text(text)
        command = [ptxas, "-v", f"-arch=sm_{architecture}", "-o", "/dev/null", str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        source.unlink()
        if done.returncode != 0:
            raise BuildError(done.stdout + done.stderr)
        kept.write_text(done.stdout + done.stderr)
    return kept.read_text()
