"""Does every check catch its fault? Broken kernels, each beside its repaired twin.

Oracle: the fault that the source file describes. The repaired kernel must pass, so a check that
reports everything would fail here as well.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cuda_emulation.build import HERE, ptx_of
from cuda_emulation.emulator import CudaError, EmulationError, Emulator, Kernel

pytest_plugins = ["cuda_emulation.fixtures"]

N = 50
_LOADED: dict[tuple[str, bool], dict[str, Kernel]] = {}


def kernel(emulator: Emulator, file: str, name: str, repaired: bool = False) -> Kernel:
    if (file, repaired) not in _LOADED:
        options = ("-DREPAIRED",) if repaired else ()
        text = ptx_of(HERE / "broken" / f"{file}.cu", 75, *options)
        _LOADED[file, repaired] = emulator.load_ptx(text)
    return _LOADED[file, repaired][name]


def run(emulator: Emulator, file: str, name: str, repaired: bool, out: Any, blocks: int) -> None:
    emulator.reset(architecture=75, instruction_limit=100_000)
    n = N if blocks == 1 else 100
    values = emulator.array(np.arange(1, n + 1, dtype=np.float32))
    result = emulator.array(out) if isinstance(out, np.ndarray) else emulator.empty(n, out)
    kernel(emulator, file, name, repaired).launch(blocks, 64, values, result, n, shared=4 * n)
    emulator.synchronize()
    if name == "incomplete_output":
        result.numpy()


def check(
    emulator: Emulator, file: str, name: str, message: str, out: Any = np.float32, blocks: int = 1
) -> None:
    run(emulator, file, name, True, out, blocks)
    with pytest.raises(EmulationError, match=message) as caught:
        run(emulator, file, name, False, out, blocks)
    if name != "incomplete_output":  # found by the host: no instruction to name
        assert name in str(caught.value)
        assert "thread" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("read_past_the_end", r"global memory out of bounds.*byte 200 of 200.*accesses\.cu:"),
        ("write_past_the_end", r"global memory out of bounds.*byte 200 of 200.*accesses\.cu:"),
        ("write_before_the_start", r"global memory out of bounds.*accesses\.cu:"),
        ("shared_past_the_end", r"shared memory out of bounds: byte 200 of 200.*accesses\.cu:"),
        ("misaligned", r"misaligned access of 16 bytes.*accesses\.cu:"),
        ("uninitialised_shared", r"read of uninitialised shared memory, byte 196.*accesses\.cu:"),
        ("uninitialised_global", r"read of uninitialised global memory.*byte 0 of.*accesses\.cu:"),
        ("incomplete_output", r"1 elements never written, first at \(17,\)"),
        ("read_only_but_written", r"ld\.global\.nc of memory that this launch writes"),
    ],
)
def test_memory_accesses(emulator: Emulator, name: str, message: str) -> None:
    check(emulator, "accesses", name, message)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("barrier_in_a_branch", "divergent barrier: 32 of 64 threads wait, 32 have exited"),
        ("exit_before_the_barrier", "divergent barrier: 50 of 64 threads wait, 14 have exited"),
        ("two_barriers", "divergent barrier: some threads wait at .* others at"),
        ("shuffle_in_a_branch", "names lanes that (never arrive|have exited)"),
        ("shuffle_from_outside", "a shuffle reads lane 16, which its mask does not name"),
        ("mask_without_the_caller", "a warp operation whose mask leaves it out"),
        ("endless", "the kernel does not end"),
        ("trap", "trap executed"),
    ],
)
def test_synchronisation(emulator: Emulator, name: str, message: str) -> None:
    check(emulator, "synchronisation", name, message)


@pytest.mark.parametrize(
    ("name", "message", "out"),
    [
        ("shared_tree", "race: .*shared memory", np.float32),
        ("shared_within_a_warp", "race: write, then read, in shared memory", np.float32),
        ("shared_reuse", "race: read, then write, in shared memory", np.float32),
        ("plain_sum", "race: two writes, in global memory.*block .1, 0, 0.", np.zeros(1, "f4")),
        ("neighbours", "race: write, then read, in global memory", np.float32),
        ("global_within_a_block", "race: read, then write, in global", np.zeros(100, "f4")),
        ("small_elements", "race: two writes, in global memory", np.uint16),
        ("last_block_without_fence", "race: write, then read, in global", np.zeros(4, "f4")),
        ("atomic_and_plain", "race: atomic, then plain access", np.zeros(2, "f4")),
    ],
)
def test_races(emulator: Emulator, name: str, message: str, out: Any) -> None:
    check(emulator, "races", name, message, out, blocks=2)


@pytest.mark.parametrize("order", [0, 1, 2, 3, 4])
def test_races_do_not_depend_on_the_order_of_blocks(emulator: Emulator, order: int) -> None:
    """One thread's write and another's read race whichever comes first."""
    emulator.reset(order=order)
    values = emulator.array(np.arange(100, dtype=np.float32))
    out = emulator.empty(100, np.float32)
    kernel(emulator, "races", "neighbours").launch(2, 64, values, out, 100)
    with pytest.raises(EmulationError, match=r"race: (write, then read|read, then write)|uninit"):
        emulator.synchronize()


# ---- the host's side ---------------------------------------------------------------------------


class Runtime:
    """The stand-in runtime as a C program calls it."""

    def __init__(self, emulator: Emulator) -> None:
        self.library = emulator.library

    def __call__(self, name: str, *arguments: Any) -> int:
        return int(getattr(self.library, name)(*arguments))

    def allocate(self, size: int) -> ctypes.c_void_p:
        pointer = ctypes.c_void_p()
        assert self("cudaMallocAsync", ctypes.byref(pointer), ctypes.c_size_t(size), None) == 0
        return pointer


@pytest.fixture
def runtime(emulator: Emulator) -> Runtime:
    return Runtime(emulator)


def test_leaks_are_found(emulator: Emulator, runtime: Runtime) -> None:
    first, second = runtime.allocate(64), runtime.allocate(1000)
    runtime("cudaFreeAsync", first, None)
    with pytest.raises(EmulationError, match=r"not freed: cudaMallocAsync of 1000 bytes"):
        emulator.check()
    runtime("cudaFreeAsync", second, None)
    emulator.check()


def test_memory_is_freed_once(emulator: Emulator, runtime: Runtime) -> None:
    pointer = runtime.allocate(64)
    runtime("cudaFreeAsync", pointer, None)
    runtime("cudaFreeAsync", pointer, None)
    with pytest.raises(EmulationError, match="freed twice"):
        emulator.check()


def test_use_after_free(emulator: Emulator, runtime: Runtime) -> None:
    pointer = runtime.allocate(256)
    runtime("cudaMemsetAsync", pointer, 0, ctypes.c_size_t(256), None)
    runtime("cudaFreeAsync", pointer, None)
    out = emulator.empty(N, np.float32)
    good = kernel(emulator, "accesses", "incomplete_output", repaired=True)
    good.launch(1, 64, pointer.value, out, N)
    with pytest.raises(EmulationError, match=r"no longer allocated \(cudaMallocAsync, freed"):
        emulator.synchronize()


def test_memory_of_another_device(emulator: Emulator) -> None:
    emulator.reset(devices=2, architecture=75)
    values = emulator.array(np.zeros(N, np.float32), device=1)
    out = emulator.empty(N, np.float32)
    good = kernel(emulator, "accesses", "incomplete_output", repaired=True)
    good.launch(1, 64, values, out, N)
    with pytest.raises(EmulationError, match="memory of another device"):
        emulator.synchronize()


def test_results_come_only_with_synchronisation(emulator: Emulator, runtime: Runtime) -> None:
    """What runs before a copy has been waited for must not be read: here it is not there yet."""
    pointer, size = runtime.allocate(8), ctypes.c_size_t(8)
    host = ctypes.c_int64(-1)
    runtime("cudaMemsetAsync", pointer, 0, size, None)
    runtime("cudaMemcpyAsync", ctypes.byref(host), pointer, size, 2, None)
    assert host.value == -1
    runtime("cudaStreamSynchronize", None)
    assert host.value == 0
    runtime("cudaFreeAsync", pointer, None)


def test_streams_do_not_wait_for_each_other(emulator: Emulator, runtime: Runtime) -> None:
    """Unless an event says so."""
    first, second = (ctypes.c_void_p(emulator.create_stream()) for _ in range(2))
    pointer, size, host = runtime.allocate(8), ctypes.c_size_t(8), ctypes.c_int64(-1)
    event = ctypes.c_void_p()
    runtime("cudaEventCreateWithFlags", ctypes.byref(event), 0)
    runtime("cudaMemsetAsync", pointer, 0, size, first)
    runtime("cudaMemcpyAsync", ctypes.byref(host), pointer, size, 2, second)
    runtime("cudaStreamSynchronize", second)
    assert host.value != 0
    assert "uninitialised" in emulator.report().violations[0]
    runtime("cudaEventRecord", event, first)
    runtime("cudaStreamWaitEvent", second, event, 0)
    runtime("cudaMemcpyAsync", ctypes.byref(host), pointer, size, 2, second)
    runtime("cudaStreamSynchronize", second)
    assert host.value == 0
    runtime("cudaEventDestroy", event)
    runtime("cudaFreeAsync", pointer, None)


def test_copies_check_bounds_and_direction(emulator: Emulator, runtime: Runtime) -> None:
    pointer, host = runtime.allocate(8), (ctypes.c_int64 * 2)()
    assert runtime("cudaMemcpyAsync", pointer, host, ctypes.c_size_t(9), 1, None) == 1
    assert runtime("cudaMemcpyAsync", pointer, host, ctypes.c_size_t(8), 2, None) == 1
    assert runtime("cudaMemsetAsync", pointer, 0, ctypes.c_size_t(9), None) == 1
    assert runtime("cudaMemcpyAsync", host, pointer, ctypes.c_size_t(8), 2, None) == 0
    with pytest.raises(EmulationError, match="copy to the host of uninitialised global memory"):
        emulator.synchronize()
    runtime("cudaFreeAsync", pointer, None)


@pytest.mark.parametrize(
    ("grid", "block", "shared", "error"),
    [
        (1, 1025, 0, "cudaErrorInvalidConfiguration"),
        (0, 32, 0, "cudaErrorInvalidConfiguration"),
        ((1, 65536), 32, 0, "cudaErrorInvalidConfiguration"),
        (1, 32, 65 << 10, "cudaErrorInvalidValue"),  # sm_75 has 64 KiB
    ],
)
def test_impossible_launches(
    emulator: Emulator, grid: Any, block: Any, shared: int, error: str
) -> None:
    emulator.reset(architecture=75)
    out = emulator.empty(N, np.float32)
    good = kernel(emulator, "accesses", "incomplete_output", repaired=True)
    with pytest.raises(CudaError, match=error):
        good.launch(grid, block, out, out, N, shared=shared)


def test_fatal_errors_stay(emulator: Emulator, runtime: Runtime) -> None:
    """After an illegal access every call fails, as on a device, until the machine is reset."""
    values, out = emulator.array(np.zeros(1, np.float32)), emulator.empty(N, np.float32)
    good = kernel(emulator, "accesses", "incomplete_output", repaired=True)
    good.launch(1, 64, values, out, N)
    assert runtime("cudaStreamSynchronize", None) == 700
    assert runtime("cudaGetLastError") == 700
    assert runtime("cudaGetLastError") == 700
    assert runtime("cudaDeviceSynchronize") == 700
    emulator.reset()
    assert runtime("cudaGetLastError") == 0
    assert runtime("cudaDeviceSynchronize") == 0


def test_the_host_cannot_touch_device_memory(runtime_library: Path) -> None:
    """Dereferencing a device pointer on the host ends the process, as it would with a real one."""
    program = f"""
        import ctypes, sys
        from pathlib import Path
        from cuda_emulation.emulator import Emulator
        address = Emulator(Path({str(runtime_library)!r})).empty(4, "f4").address
        print("before", flush=True)
        ctypes.string_at(address, 4)
        print("after")
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=HERE.parent, check=False, timeout=60
    )
    assert done.returncode < 0, done
    assert done.stdout.strip() == "before"
