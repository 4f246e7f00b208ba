"""Small kernels of known results, by which the tests judge the emulator itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cuda_emulation.build import HERE, ptx_of
from cuda_emulation.emulator import Emulator, Kernel

_LOADED: dict[tuple[str, int], dict[str, Kernel]] = {}


class Probes:
    """The kernels of one file under probes/, for one architecture."""

    def __init__(self, emulator: Emulator, architecture: int) -> None:
        self.emulator, self.architecture = emulator, architecture
        emulator.reset(architecture=architecture)

    def __call__(self, file: str, kernel: str) -> Kernel:
        key = (file, self.architecture)
        if key not in _LOADED:
            text = ptx_of(HERE / "probes" / f"{file}.cu", self.architecture)
            _LOADED[key] = self.emulator.load_ptx(text)
        return _LOADED[key][kernel]

    def rows(self, file: str, kernel: str, columns: int, dtype: Any, *inputs: Any) -> NDArray[Any]:
        """Runs a kernel that turns each element of the inputs into a row of results."""
        count = len(inputs[0])
        out = self.emulator.empty((count, columns), dtype)
        arrays = [self.emulator.array(values) for values in inputs]
        self(file, kernel).launch((count + 63) // 64, 64, *arrays, out, count)
        result: NDArray[Any] = out.numpy()
        return result


def wrapped(value: int, dtype: Any) -> int:
    """``value`` modulo the range of an integer type."""
    bits = 8 * np.dtype(dtype).itemsize
    value &= (1 << bits) - 1
    return value - (1 << bits) if np.dtype(dtype).kind == "i" and value >> (bits - 1) else value


def edges(dtype: Any, random: np.random.Generator, count: int = 40) -> NDArray[Any]:
    """Random integers over the whole range, and the ends of it."""
    info = np.iinfo(dtype)
    values = random.integers(info.min, info.max, count, dtype, endpoint=True)
    values[:4] = [info.min, info.max, 1, info.max // 2]
    return values
