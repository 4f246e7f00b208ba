"""Where the same test body runs: on the CPU, on the emulated device, on a GPU.

A backend makes arrays of its library from NumPy ones and brings results back:

    def test_it(backend):
        result = tamis.vote_counts(backend.array(logits))
        assert (backend.numpy(result) == expected).all()

bfloat16 travels as ``np.uint16`` bit patterns with ``dtype="bfloat16"``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cuda_emulation.arrays import bfloat16
from cuda_emulation.emulator import Emulator, Report


def as_torch(values: NDArray[Any], dtype: str | None) -> Any:
    """A torch tensor on the CPU."""
    import torch

    if dtype == "bfloat16":
        return torch.from_numpy(values.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(np.array(values, dtype))


def as_numpy(tensor: Any) -> NDArray[Any]:
    """The same back."""
    import torch

    bits = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
    result: NDArray[Any] = bits.numpy()
    return result if bits is tensor else result.view(np.uint16)


class NumpyBackend:
    """The CPU: NumPy arrays, and torch tensors for bfloat16."""

    name = "cpu"

    def array(self, values: NDArray[Any], dtype: str | None = None) -> Any:
        return as_torch(values, dtype) if dtype == "bfloat16" else np.asarray(values, dtype)

    def numpy(self, array: Any) -> NDArray[Any]:
        return array if isinstance(array, np.ndarray) else as_numpy(array)

    def finish(self) -> None:
        """Nothing to check."""


class EmulatedBackend:
    """The emulated device, with all its checks on."""

    def __init__(self, emulator: Emulator, architecture: int) -> None:
        self.name, self.emulator, self.architecture = f"sm_{architecture}", emulator, architecture

    def array(self, values: NDArray[Any], dtype: str | None = None, *, device: int = 0) -> Any:
        kind = bfloat16 if dtype == "bfloat16" else dtype
        return self.emulator.array(values, dtype=kind, device=device)

    def numpy(self, array: Any) -> NDArray[Any]:
        result: NDArray[Any] = array.numpy()
        return result

    def finish(self) -> None:
        """Raise `EmulationError` for faults found and for memory not freed."""
        self.emulator.check()

    def measure(self, action: Callable[[], object]) -> Report:
        """The launches and calls of ``action`` alone, after it has run on the device."""
        self.finish()
        self.emulator.clear_report()
        result = action()  # held until it has run
        self.finish()
        report = self.emulator.report()
        del result
        return report

    def fail_every_call(
        self, action: Callable[[], object], error: str = "cudaErrorUnknown"
    ) -> list[str]:
        """Run ``action`` once for every runtime call it makes, and let that one call fail.

        Each time it must raise RuntimeError with the error's name, leave no device memory behind,
        and work again afterwards. Calls that clean up are left out: their errors have nowhere to
        go. Returns the names of the calls, in order.
        """
        calls = [call.name for call in self.measure(action).calls]
        seen: Counter[str] = Counter()
        for name in calls:
            seen[name] += 1
            if name in ("cudaFree", "cudaFreeAsync", "cudaEventDestroy", "cudaFreeHost"):
                continue
            self.emulator.fail(name, error, seen[name])
            try:
                action()
            except RuntimeError as raised:
                if error not in str(raised):
                    raise AssertionError(
                        f"expected {error} from call {seen[name]} of {name}, got: {raised}"
                    ) from raised
            else:
                raise AssertionError(f"nobody noticed that call {seen[name]} of {name} failed")
            self.finish()
        self.measure(action)
        return calls


class EmulatedTorchBackend(EmulatedBackend):
    """The same device through torch tensors; within `emulated_torch`."""

    def __init__(self, emulator: Emulator, architecture: int) -> None:
        super().__init__(emulator, architecture)
        self.name = f"torch_{self.name}"

    def array(self, values: NDArray[Any], dtype: str | None = None, *, device: int = 0) -> Any:
        from cuda_emulation.torch_arrays import on_device

        return on_device(as_torch(values, dtype), device)

    def numpy(self, array: Any) -> NDArray[Any]:
        return as_numpy(array.cpu())


class GpuBackend:
    """A real GPU, through torch."""

    name = "gpu"

    def array(self, values: NDArray[Any], dtype: str | None = None) -> Any:
        return as_torch(values, dtype).cuda()

    def numpy(self, array: Any) -> NDArray[Any]:
        return as_numpy(array.cpu())

    def finish(self) -> None:
        import torch

        torch.cuda.synchronize()


Backend = NumpyBackend | EmulatedBackend | GpuBackend
