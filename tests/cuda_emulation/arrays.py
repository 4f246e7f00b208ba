"""Arrays in the memory of the emulated device, as a CUDA array library would hold them.

They speak DLPack and ``__cuda_array_interface__`` and have just enough of the array API for
`tamis.ops` to make its results. The host sees their memory only through `CudaArray.numpy`.
"""

from __future__ import annotations

import ctypes
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from cuda_emulation.emulator import Emulator

_CPU, _CUDA = 1, 2  # DLDeviceType kDLCPU, kDLCUDA
_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}
_BFLOAT = 4


class DType:
    """A dtype with the name that NumPy lacks; its elements are held as ``np.uint16`` bits."""

    def __init__(self, name: str, storage: Any) -> None:
        self.name, self.storage, self.itemsize = name, np.dtype(storage), np.dtype(storage).itemsize

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return self.name


bfloat16 = DType("bfloat16", np.uint16)


class _Device(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int32), ("index", ctypes.c_int32))


class _DataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Managed(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _DELETER))


_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_exported: dict[int, Any] = {}  # tensors that a consumer holds, by address


class CudaArray:
    """A strided view of device memory. Slices share it; the last view frees it."""

    dlpack_streams: list[Any] = []  # noqa: RUF012 -- what consumers passed, for the tests to read

    def __init__(
        self, emulator: Emulator, base: int, host: NDArray[Any], dtype: Any, device: int, owner: Any
    ) -> None:
        self._emulator, self._base, self._owner = emulator, base, owner
        self._host = host  # the same bytes as the process sees them
        self._generation = emulator.generation
        self.dtype, self.index = dtype, device

    @classmethod
    def empty(
        cls, emulator: Emulator, shape: tuple[int, ...], dtype: Any, device: int
    ) -> CudaArray:
        dtype = dtype if isinstance(dtype, DType) else np.dtype(dtype)
        storage = dtype.storage if isinstance(dtype, DType) else dtype
        count = int(np.prod(shape, dtype=np.int64)) * storage.itemsize
        base = emulator.library.emu_allocate(max(count, 1), device, b"an array of the test")
        if not base:
            raise MemoryError("the emulated device has no memory left")
        memory = (ctypes.c_uint8 * max(count, 1)).from_address(
            emulator.library.emu_bytes(base, max(count, 1))
        )
        host = np.frombuffer(memory, np.uint8)[:count].view(storage).reshape(shape)
        owner = _Allocation(emulator, base, max(count, 1), ctypes.addressof(memory))
        return cls(emulator, base, host, dtype, device, owner)

    @classmethod
    def copy_of(
        cls, emulator: Emulator, values: NDArray[Any], device: int, dtype: Any = None
    ) -> CudaArray:
        array = cls.empty(emulator, values.shape, dtype or values.dtype, device)
        array._host[...] = values
        array.mark_written()
        return array

    # ---- what array libraries offer
    @property
    def shape(self) -> tuple[int, ...]:
        return self._host.shape

    @property
    def ndim(self) -> int:
        return self._host.ndim

    @property
    def device(self) -> str:
        return f"cuda:{self.index}"

    @property
    def address(self) -> int:
        """Of the first element, on the device."""
        return int(self._base + self._host.ctypes.data - self._owner.host)

    @property
    def strides(self) -> tuple[int, ...]:
        """In elements."""
        return tuple(step // self._host.itemsize for step in self._host.strides)

    @property
    def host_address(self) -> int:
        """Of the same element as the process sees it."""
        return int(self._host.ctypes.data)

    def host_bytes(self) -> NDArray[Any]:
        """The memory itself; only what stands in for the device may touch it."""
        return self._host

    def with_view(self, host: NDArray[Any], dtype: Any) -> CudaArray:
        """Another view of this allocation, given as the process sees it."""
        return CudaArray(self._emulator, self._base, host, dtype, self.index, self._owner)

    def mark_written(self) -> None:
        """Something other than a kernel has written all elements."""
        self._marks()[...] = _all_written(self._host.itemsize)

    def __getitem__(self, key: Any) -> CudaArray:
        host = self._host[key]
        if not isinstance(host, np.ndarray):
            raise IndexError("single elements stay on the device: take a slice, or .numpy()")
        return self.with_view(host, self.dtype)

    def reshape(self, *shape: int) -> CudaArray:
        host = self._host.reshape(*shape)
        if not np.shares_memory(host, self._host) and host.size:
            raise ValueError("reshape would copy")
        return self.with_view(host, self.dtype)

    def __array_namespace__(self, *, api_version: str | None = None) -> Namespace:
        return Namespace(self._emulator)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (_CUDA, self.index)

    def __dlpack__(
        self, *, stream: Any = None, dl_device: tuple[int, int] | None = None, **rest: Any
    ) -> Any:
        """A capsule of the unversioned protocol, kept alive until its consumer lets go.

        With the CPU as ``dl_device``: of a copy on the host.
        """
        if dl_device is not None and dl_device[0] == _CPU:
            if rest.get("copy") is False:
                raise BufferError("an array on the device cannot be had on the host without a copy")
            return self.numpy().__dlpack__(**rest)
        CudaArray.dlpack_streams.append(stream)
        kind = self._host.dtype.kind
        code = _BFLOAT if self.dtype is bfloat16 else _CODES[kind]
        shape = (ctypes.c_int64 * self.ndim)(*self.shape)
        strides = (ctypes.c_int64 * self.ndim)(*self.strides)
        managed = _Managed()
        managed.tensor = _Tensor(
            self.address,
            _Device(_CUDA, self.index),
            self.ndim,
            _DataType(code, 8 * self._host.itemsize, 1),
            shape,
            strides,
            0,
        )
        key = ctypes.addressof(managed)
        managed.deleter = _DELETER(_forget)
        _exported[key] = (managed, shape, strides, self)
        return _new_capsule(key, b"dltensor", None)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "strides": self._host.strides,
            "typestr": self._host.dtype.str,
            "data": (self.address, False),
            "stream": 1,
            "version": 3,
        }

    # ---- for the tests
    def numpy(self) -> NDArray[Any]:
        """A copy on the host, after everything before it has run.

        `EmulationError` if a check found something, or if elements were never written.
        """
        from cuda_emulation.emulator import EmulationError

        if self._generation != self._emulator.generation:
            raise RuntimeError("this array belongs to the machine before its reset")
        self._emulator.synchronize()
        missing = self._marks() != _all_written(self._host.itemsize)
        if missing.any():
            first = tuple(int(k) for k in np.argwhere(missing)[0])
            raise EmulationError(f"{int(missing.sum())} elements never written, first at {first}")
        return self._host.copy()

    def _marks(self) -> NDArray[Any]:
        """An integer an element, whose bytes are 1 where the element's bytes were written."""
        size = self._owner.size
        marks = (ctypes.c_uint8 * size).from_address(
            self._emulator.library.emu_written(self._base, size)
        )
        return np.ndarray(
            self.shape,
            f"u{self._host.itemsize}",
            marks,
            self._host.ctypes.data - self._owner.host if self._host.size else 0,
            self._host.strides,
        )


class Namespace:
    """The part of an array API namespace that `tamis.ops` uses to make its results."""

    bfloat16 = bfloat16

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    def __getattr__(self, name: str) -> Any:
        try:
            return np.dtype(name)
        except TypeError:
            raise AttributeError(name) from None

    def empty(self, shape: int | tuple[int, ...], *, dtype: Any, device: str) -> CudaArray:
        extents = (shape,) if isinstance(shape, int) else shape
        return CudaArray.empty(self._emulator, extents, dtype, int(device.partition(":")[2]))

    def asarray(self, values: Any, *, dtype: Any, device: str) -> CudaArray:
        index = int(device.partition(":")[2])
        if isinstance(values, CudaArray):
            if values.index != index:
                raise ValueError(f"an array on {values.device}, wanted on {device}")
            return values if values.dtype == dtype else self.astype(values, dtype)
        return CudaArray.copy_of(self._emulator, np.asarray(values).astype(dtype), index)

    def astype(self, array: CudaArray, dtype: Any, *, copy: bool = True) -> CudaArray:
        """Through the host, which a real library would not do; for the tests it is the same."""
        if not copy and array.dtype == dtype:
            return array
        return CudaArray.copy_of(self._emulator, array.numpy().astype(dtype), array.index)


class _Allocation:
    """Frees device memory when the last array on it is gone."""

    def __init__(self, emulator: Emulator, base: int, size: int, host: int) -> None:
        self.host = host
        self.size = size
        weakref.finalize(self, emulator.library.emu_free, base)


def _all_written(itemsize: int) -> Any:
    return np.frombuffer(b"\1" * itemsize, f"u{itemsize}")[0]


def _forget(address: int) -> None:
    _exported.pop(address, None)
