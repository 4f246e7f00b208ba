"""The emulated machine as Python sees it: reset it, run kernels, inject faults, read the counts."""

from __future__ import annotations

import ctypes
import importlib.machinery
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cuda_emulation import fatbin, ptx
from cuda_emulation.lower import Program, lower

# Numbers of the CUDA runtime API, as far as tests inject or expect them.
ERRORS = {
    "cudaSuccess": 0,
    "cudaErrorInvalidValue": 1,
    "cudaErrorMemoryAllocation": 2,
    "cudaErrorInvalidConfiguration": 9,
    "cudaErrorInsufficientDriver": 35,
    "cudaErrorInvalidDeviceFunction": 98,
    "cudaErrorNoDevice": 100,
    "cudaErrorInvalidDevice": 101,
    "cudaErrorNoKernelImageForDevice": 209,
    "cudaErrorInvalidResourceHandle": 400,
    "cudaErrorIllegalAddress": 700,
    "cudaErrorLaunchOutOfResources": 701,
    "cudaErrorMisalignedAddress": 716,
    "cudaErrorLaunchFailure": 719,
    "cudaErrorUnknown": 999,
}
_NAMES = {number: name for name, number in ERRORS.items()}


class EmulationError(AssertionError):
    """What the checks found. The message holds every finding."""


class CudaError(RuntimeError):
    """A runtime call made by the test itself failed."""

    def __init__(self, number: int) -> None:
        self.name = _NAMES.get(number, str(number))
        super().__init__(self.name)


@dataclass(frozen=True)
class Operand:
    """Bytes of one allocation that a launch has moved.

    ``read``, ``written``: what the warps asked for; bytes that lanes of one access share count
    once. ``unique_*``: every byte once a launch. ``sectors_*``: as asked for, in whole sectors of
    32 bytes.
    """

    address: int
    size: int
    read: int
    written: int
    unique_read: int
    unique_written: int
    sectors_read: int
    sectors_written: int


@dataclass(frozen=True)
class Launch:
    """One kernel launch. Its counts are the sums over its operands."""

    kernel: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    dynamic_shared: int
    stream: int
    instructions: int  # of warps
    local: int  # accesses to thread-local memory
    operands: list[Operand]

    def total(self, counter: str) -> int:
        return sum(getattr(operand, counter) for operand in self.operands)

    read = property(lambda self: self.total("read"))
    written = property(lambda self: self.total("written"))
    unique_read = property(lambda self: self.total("unique_read"))
    unique_written = property(lambda self: self.total("unique_written"))
    sectors_read = property(lambda self: self.total("sectors_read"))
    sectors_written = property(lambda self: self.total("sectors_written"))


@dataclass(frozen=True)
class Call:
    """One call of the runtime library."""

    name: str
    stream: int
    bytes: int


@dataclass(frozen=True)
class Report:
    """Everything since the last `Emulator.reset` or `Emulator.clear_report`."""

    launches: list[Launch]
    calls: list[Call]
    violations: list[str]
    leaks: list[str]

    def total(self, counter: str) -> int:
        """Sum of a counter of `Launch` over all launches."""
        return sum(getattr(launch, counter) for launch in self.launches)


_LOADER = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int)
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "emu_reset": (None, [ctypes.c_int] * 3 + [ctypes.c_uint]),
    "emu_set_loader": (None, [_LOADER]),
    "emu_set_loader_message": (None, [ctypes.c_char_p]),
    "emu_set_instruction_limit": (None, [ctypes.c_uint64]),
    "emu_set_order": (None, [ctypes.c_uint]),
    "emu_set_architecture": (None, [ctypes.c_int]),
    "emu_binary": (ctypes.c_void_p, [ctypes.c_int]),
    "emu_define_kernel": (
        ctypes.c_int,
        [ctypes.c_int] * 2 + [ctypes.c_char_p] * 4 + [ctypes.c_void_p],
    ),
    "emu_define_variable": (ctypes.c_uint64, [ctypes.c_char_p, ctypes.c_uint64]),
    "emu_function": (ctypes.c_void_p, [ctypes.c_int, ctypes.c_char_p]),
    "emu_launch": (
        ctypes.c_int,
        [ctypes.c_void_p] * 4 + [ctypes.c_uint64, ctypes.c_uint64],
    ),
    "emu_allocate": (ctypes.c_uint64, [ctypes.c_uint64, ctypes.c_int, ctypes.c_char_p]),
    "emu_free": (None, [ctypes.c_uint64]),
    "emu_bytes": (ctypes.c_void_p, [ctypes.c_uint64, ctypes.c_uint64]),
    "emu_written": (ctypes.c_void_p, [ctypes.c_uint64, ctypes.c_uint64]),
    "emu_set_capacity": (None, [ctypes.c_uint64]),
    "emu_create_stream": (ctypes.c_uint64, []),
    "emu_synchronize": (ctypes.c_int, []),
    "emu_inject": (None, [ctypes.c_char_p, ctypes.c_int, ctypes.c_int]),
    "emu_report": (ctypes.c_char_p, []),
    "emu_clear_report": (None, []),
}


class Kernel:
    """A kernel of a PTX module that a test has loaded; `launch` runs it."""

    def __init__(self, emulator: Emulator, binary: int, name: str, sizes: list[int]) -> None:
        self._emulator, self._sizes = emulator, sizes
        self._handle = emulator.library.emu_function(binary, name.encode())

    def launch(
        self,
        grid: int | tuple[int, ...],
        block: int | tuple[int, ...],
        *arguments: Any,
        shared: int = 0,
        stream: int = 0,
    ) -> None:
        """Start the kernel; arguments are arrays of the device, or NumPy scalars of the right size.

        Like on a device, it runs when something waits for it: `Emulator.synchronize`, ``.numpy()``.
        """
        if len(arguments) != len(self._sizes):
            raise TypeError(f"expected {len(self._sizes)} arguments, got {len(arguments)}")
        buffers = []
        for value, size in zip(arguments, self._sizes, strict=True):
            raw = value.address if hasattr(value, "address") else value
            data = np.int64(raw).tobytes()[:size] if isinstance(raw, int) else raw.tobytes()
            if len(data) != size:
                raise TypeError(f"expected an argument of {size} bytes, got {value!r}")
            buffers.append(ctypes.create_string_buffer(data, size))
        pointers = (ctypes.c_void_p * len(buffers))(*map(ctypes.addressof, buffers))
        extents = [
            (ctypes.c_uint32 * 3)(*(*(dim if isinstance(dim, tuple) else (dim,)), 1, 1)[:3])
            for dim in (grid, block)
        ]
        status = self._emulator.library.emu_launch(self._handle, *extents, pointers, shared, stream)
        if status:
            raise CudaError(status)


class Emulator:
    """The machine: one a process, made from the library that `build.build` gives."""

    def __init__(self, library: Path) -> None:
        self.library: Any = ctypes.CDLL(str(library))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(self.library, name)
            function.restype, function.argtypes = result, arguments
        self._loader = _LOADER(self._load)
        self.library.emu_set_loader(self._loader)
        self._modules: dict[tuple[int, int], ptx.Module] = {}
        self._variables: dict[tuple[int, int, str], int] = {}
        self._texts: list[str] = []  # modules that tests have loaded: binaries -1, -2, ...
        self.generation = 0
        self.reset()

    # ---- the machine
    def reset(
        self,
        *,
        architecture: int = 90,
        devices: int = 1,
        without_device: str = "cudaErrorNoDevice",
        order: int = 0,
        memory: int = 8 << 30,
        instruction_limit: int = 1 << 32,
    ) -> None:
        """A fresh machine: no memory in use, no faults injected, counts at zero.

        ``without_device`` is what calls return where ``devices`` is 0. ``order`` 0 runs blocks,
        warps and the lanes of atomics in ascending order, 1 in descending, others shuffled: results
        that are called deterministic must not depend on it.
        """
        self.generation += 1
        self.library.emu_reset(devices, ERRORS[without_device], architecture, order)
        self.library.emu_set_capacity(memory)
        self.library.emu_set_instruction_limit(instruction_limit)

    def fail(self, call: str, error: str, k: int = 1) -> None:
        """Make the ``k``-th call of a runtime function from now on return ``error``."""
        self.library.emu_inject(call.encode(), k, ERRORS[error])

    def set_order(self, order: int) -> None:
        self.library.emu_set_order(order)

    def create_stream(self) -> int:
        return int(self.library.emu_create_stream())

    def current_device(self) -> int:
        index = ctypes.c_int(-1)
        self.library.cudaGetDevice(ctypes.byref(index))
        return index.value

    def synchronize(self) -> None:
        """Run everything that waits in streams; `EmulationError` if a check found something."""
        self.library.emu_synchronize()
        violations = self.report().violations
        if violations:
            raise EmulationError("\n".join(violations))

    def check(self) -> None:
        """`synchronize`, and no device memory of the code under test may be left."""
        self.synchronize()
        leaks = self.report().leaks
        if leaks:
            raise EmulationError(f"device memory was not freed: {', '.join(leaks)}")

    def report(self) -> Report:
        raw = json.loads(self.library.emu_report())
        launches = []
        for one in raw["launches"]:
            one["grid"], one["block"] = tuple(one["grid"]), tuple(one["block"])
            one["operands"] = [Operand(**operand) for operand in one["operands"]]
            launches.append(Launch(**one))
        calls = [Call(**one) for one in raw["calls"]]
        return Report(launches, calls, raw["violations"], raw["leaks"])

    def clear_report(self) -> None:
        self.library.emu_clear_report()

    # ---- code
    def load_extension(self, path: Path, name: str = "_core") -> Any:
        """The extension module at ``path``, whose kernels then run on this machine."""
        loader = importlib.machinery.ExtensionFileLoader(name, str(path))
        specification = importlib.util.spec_from_loader(name, loader)
        assert specification is not None
        module = importlib.util.module_from_spec(specification)
        loader.exec_module(module)
        return module

    def load_ptx(self, text: str) -> dict[str, Kernel]:
        """The kernels of a PTX text, by name."""
        self._texts.append(text)
        binary = -len(self._texts)
        module = ptx.parse(text)
        self._modules[binary, 0] = module
        return {
            name: Kernel(self, binary, name, [p.size for p in module.functions[name].parameters])
            for name in module.kernels
        }

    def _load(self, binary: int, kernel: bytes, architecture: int) -> int:
        """The runtime asks for a kernel: parse its module, hand its program over."""
        try:
            program = self._program(binary, kernel.decode(), architecture)
            return self._define(binary, architecture, program)
        except Exception as error:  # an exception cannot pass through the C++ caller
            self.library.emu_set_loader_message(f"{type(error).__name__}: {error}".encode())
            return 1

    def _program(self, binary: int, kernel: str, architecture: int) -> Program:
        key = (binary, architecture if binary >= 0 else 0)
        if key not in self._modules:
            address = self.library.emu_binary(binary)
            texts = fatbin.ptx_texts(lambda at, size: ctypes.string_at(address + at, size))
            self._modules[key] = ptx.parse(fatbin.best_for(texts, architecture))
        module = self._modules[key]
        return lower(module, kernel, lambda variable: self._variable(key, variable))

    def _variable(self, key: tuple[int, int], variable: ptx.Variable) -> int:
        name = (*key, variable.name)
        if name not in self._variables:
            initial = variable.initial.ljust(variable.size, b"\0")
            self._variables[name] = self.library.emu_define_variable(initial, len(initial))
        return self._variables[name]

    def _define(self, binary: int, architecture: int, program: Program) -> int:
        def signed(bits: int) -> int:
            return bits - (1 << 64) if bits >> 63 else bits

        numbers = [
            program.rows,
            program.predicates,
            program.shared,
            program.local,
            program.max_threads,
            len(program.constants),
            *(number for row, bits in program.constants.items() for number in (row, signed(bits))),
            len(program.specials),
            *program.specials.values(),
            len(program.parameters),
            *(number for parameter in program.parameters for number in parameter),
            len(program.steps),
        ]
        for step in program.steps:
            numbers += [step.guard, int(step.guard_negated), step.offset]
            numbers += [len(step.operands), *step.operands, len(step.targets), *step.targets]
        table = np.array(numbers, np.int64)
        return int(
            self.library.emu_define_kernel(
                binary,
                architecture,
                program.name.encode(),
                "\n".join(step.opcode for step in program.steps).encode(),
                "\n".join(step.text for step in program.steps).encode(),
                "\n".join(program.specials).encode(),
                table.ctypes.data,
            )
        )

    # ---- memory of the test
    def array(self, values: Any, *, device: int = 0, dtype: Any = None) -> Any:
        """A copy of a NumPy array in device memory: a `CudaArray`."""
        from cuda_emulation.arrays import CudaArray

        return CudaArray.copy_of(self, np.asarray(values), device, dtype)

    def empty(self, shape: int | tuple[int, ...], dtype: Any, *, device: int = 0) -> Any:
        """Uninitialised device memory: reading it before writing is a fault."""
        from cuda_emulation.arrays import CudaArray

        return CudaArray.empty(self, (shape,) if isinstance(shape, int) else shape, dtype, device)
