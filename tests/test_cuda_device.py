"""What tamis says about devices, and which code it takes for them.

Oracle: the emulated machine as the test has set it up.
"""

from __future__ import annotations

import ctypes

import pytest

import tamis
from cuda_emulation import fatbin
from cuda_emulation.backends import EmulatedBackend
from cuda_emulation.emulator import EmulationError
from support import noise, ramp

pytest_plugins = ["cuda_emulation.fixtures"]


def test_devices_are_listed(cuda: EmulatedBackend) -> None:
    cuda.emulator.reset(devices=2, architecture=cuda.architecture)
    info = tamis.info()["cuda"]
    capability = f"{cuda.architecture // 10}.{cuda.architecture % 10}"
    assert (info["built"], info["driver"], info["status"]) == (True, True, "ok")
    assert info["devices"] == [
        f"{index}: Emulated device, compute capability {capability}, 8192 MiB" for index in (0, 1)
    ]


@pytest.mark.parametrize(
    ("error", "driver"), [("cudaErrorNoDevice", True), ("cudaErrorInsufficientDriver", False)]
)
def test_no_device_is_an_answer(cuda: EmulatedBackend, error: str, driver: bool) -> None:
    """And leaves no error behind for other users of the runtime."""
    cuda.emulator.reset(devices=0, without_device=error)
    info = tamis.info()["cuda"]
    assert (info["built"], info["driver"], info["devices"]) == (True, driver, [])
    assert info["status"].startswith(error)
    assert cuda.emulator.library.cudaGetLastError() == 0


def test_a_device_that_does_not_answer(cuda: EmulatedBackend) -> None:
    cuda.emulator.fail("cudaGetDeviceProperties", "cudaErrorUnknown")
    assert tamis.info()["cuda"]["devices"] == ["0: cudaErrorUnknown"]
    assert cuda.emulator.library.cudaGetLastError() == 0


def test_a_failed_call_is_not_blamed_on_the_next(cuda: EmulatedBackend) -> None:
    """The runtime keeps the last error: whoever reports it must clear it."""
    x = cuda.array(ramp(8))
    cuda.emulator.fail("cudaLaunchKernel", "cudaErrorLaunchOutOfResources")
    with pytest.raises(RuntimeError, match="cudaErrorLaunchOutOfResources"):
        noise(x, 3)
    assert cuda.emulator.library.cudaGetLastError() == 0
    noise(x, 3)


def test_newer_devices_take_the_newest_code(cuda: EmulatedBackend) -> None:
    """Two texts are built in, for 75 and 90: as the driver does, the best not newer is taken."""
    x = ramp(8)
    for architecture in (75, 80, 89, 90, 120):
        cuda.emulator.reset(architecture=architecture)
        assert (cuda.numpy(noise(cuda.array(x), 3)) == noise(x, 3)).all()
    texts = {75: "old", 90: "new"}
    assert [fatbin.best_for(texts, a) for a in (75, 89, 90, 120)] == ["old", "old", "new", "new"]


def test_older_devices_have_no_code(cuda: EmulatedBackend) -> None:
    cuda.emulator.reset(architecture=70)
    with pytest.raises(RuntimeError, match="cudaErrorNoKernelImageForDevice"):
        noise(cuda.array(ramp(8)), 3)
    with pytest.raises(EmulationError, match="no PTX for architecture 70"):
        cuda.emulator.synchronize()
    cuda.emulator.clear_report()


def test_the_stand_in_is_what_the_extension_uses(cuda: EmulatedBackend) -> None:
    version = ctypes.c_int()
    assert cuda.emulator.library.cudaRuntimeGetVersion(ctypes.byref(version)) == 0
    major, minor = version.value // 1000, version.value % 1000 // 10
    assert tamis.info()["cuda"]["toolkit"].startswith(f"{major}.{minor}.")
