"""A stand-in for CuPy on the emulated device, with what tamis uses of it and CuPy's own limits.

    with emulated_cupy(emulator) as cupy:
        x = cupy.asarray(np.ones(3, np.float32))
        tamis.gaussian_noise(x, 10, 0.5, seed=1).get()

Like CuPy 14: arrays have no ``__array_namespace__``, ``asarray`` and ``empty`` take no device but
use the current one, a device is a context manager, and ``np.asarray`` of an array is refused.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from cuda_emulation.arrays import CudaArray
from cuda_emulation.emulator import Emulator

_current = [0]  # the device


class Device:
    """``cupy.cuda.Device``."""

    def __init__(self, id: int) -> None:
        self.id = id

    def __enter__(self) -> Device:
        _current.append(self.id)
        return self

    def __exit__(self, *_: object) -> None:
        _current.pop()

    def __str__(self) -> str:
        return f"<CUDA Device {self.id}>"


class ndarray:  # noqa: N801 -- CuPy's name
    """``cupy.ndarray``."""

    def __init__(self, array: CudaArray) -> None:
        self._array = array

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    @property
    def ndim(self) -> int:
        return self._array.ndim

    @property
    def dtype(self) -> Any:
        return self._array.dtype

    @property
    def itemsize(self) -> int:
        return int(self.dtype.itemsize)

    @property
    def strides(self) -> tuple[int, ...]:
        return tuple(step * self.itemsize for step in self._array.strides)

    @property
    def device(self) -> Device:
        return Device(self._array.index)

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self._array.address)

    @property
    def T(self) -> ndarray:  # noqa: N802 -- CuPy's name
        return ndarray(self._array.with_view(self._array.host_bytes().T, self.dtype))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> ndarray:
        return ndarray(self._array[key])

    def reshape(self, *shape: int) -> ndarray:
        return ndarray(self._array.reshape(*shape))

    def astype(self, dtype: Any, copy: bool = True) -> ndarray:
        return self if not copy and self.dtype == dtype else _made(self.get().astype(dtype))

    def get(self) -> NDArray[Any]:
        return self._array.numpy()

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Use `.get()`")

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()

    def __dlpack__(self, **arguments: Any) -> Any:
        return self._array.__dlpack__(**arguments)


_machines: list[Emulator] = []


def _made(values: NDArray[Any]) -> ndarray:
    return ndarray(CudaArray.copy_of(_machines[-1], values, _current[-1]))


def _empty(shape: Any, dtype: Any = float) -> ndarray:
    return ndarray(CudaArray.empty(_machines[-1], tuple(shape), np.dtype(dtype), _current[-1]))


def _asarray(a: Any, dtype: Any = None) -> ndarray:
    if isinstance(a, ndarray) and dtype in (None, a.dtype):
        return a
    values = a.get() if isinstance(a, ndarray) else np.asarray(a)
    return _made(values.astype(dtype or values.dtype))


def _ascontiguousarray(a: ndarray, dtype: Any = None) -> ndarray:
    a = _asarray(a, dtype)
    dense = a._array.host_bytes().flags.c_contiguous
    return a if dense else _made(np.ascontiguousarray(a.get()))


@contextmanager
def emulated_cupy(emulator: Emulator, stream: int = 0) -> Iterator[Any]:
    """Within it, ``cupy`` is this stand-in; ``stream`` is the handle of its current stream."""
    module: Any = ModuleType("cupy")
    module.ndarray, module.empty = ndarray, _empty
    module.asarray, module.ascontiguousarray = _asarray, _ascontiguousarray
    current = SimpleNamespace(ptr=stream)
    module.cuda = SimpleNamespace(Device=Device, get_current_stream=lambda: current)
    _machines.append(emulator)
    try:
        with mock.patch.dict(sys.modules, {"cupy": module}):
            yield module
    finally:
        _machines.pop()
