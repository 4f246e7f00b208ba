"""torch tensors on the emulated device, for a torch that was built without CUDA.

A `CudaTensor` is a tensor to torch (``isinstance``, methods, autograd flags), says that it lies on
``cuda:0``, and has its elements in the emulated device's memory. torch's own functions compute with
them on the CPU; the functions of tamis see a CUDA tensor and run their kernels.

    with emulated_torch(emulator) as device:
        x = torch.ones(3, device=device)          # or torch.from_numpy(values).to(device)
        noisy = tamis.gaussian_noise(x, 10, 0.5, seed=1)
        noisy.cpu().numpy()

Not covered: modules moved by ``.to`` (make their parameters plain tensors), streams of torch's own
operations (they wait for everything), more than one library of memory.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._pytree import tree_flatten, tree_map

from cuda_emulation.arrays import CudaArray, bfloat16
from cuda_emulation.emulator import EmulationError, Emulator

_UNWRITTEN = ("empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided")
_TO_HOST = ("cpu", "tolist", "item", "__bool__", "__float__", "__int__", "__index__", "equal")
_ACROSS_DEVICES = ("copy_", "to", "cpu", "cuda", "new_tensor", "as_tensor", "tensor", "equal")
transfers: list[str] = []  # torch's calls that brought something to the host, since `clear`
_machines: list[Emulator] = []  # the one of `emulated_torch`
_memory: weakref.WeakValueDictionary[int, CudaArray] = weakref.WeakValueDictionary()  # by storage


class CudaTensor(torch.Tensor):
    """A tensor in emulated memory. Made by `on_device` and by torch functions on other such."""

    array: CudaArray  # the whole allocation

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda", self.array.index)

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    @property
    def address(self) -> int:
        return int(self.array.address + _plain(self).data_ptr() - self.array.host_address)

    def data_ptr(self) -> int:
        return self.address

    def __dlpack_device__(self) -> tuple[Any, int]:
        return (2, self.array.index)

    def __dlpack__(self, *, stream: Any = None, **rest: Any) -> Any:
        if self.requires_grad:
            raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
        return self.view_of_memory().__dlpack__(stream=stream, **rest)

    def view_of_memory(self) -> CudaArray:
        """This tensor as an array of the emulation, without a copy."""
        plain = _plain(self).detach()
        dtype: Any = None
        if plain.dtype == torch.bfloat16:
            plain, dtype = plain.view(torch.int16), bfloat16
        host = plain.numpy()
        return self.array.with_view(host, dtype or host.dtype)

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return _call(func, args, kwargs or {})


class _Mode(TorchFunctionMode):
    """Also sees calls that only name the device, such as ``torch.ones(3, device="cuda")``."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        flat = tree_flatten((args, kwargs))[0]
        ours = any(isinstance(value, CudaTensor) or _is_cuda(value) for value in flat)
        if ours and func is not torch.device:  # naming a device is no work for it
            return _call(func, args, kwargs)
        return func(*args, **kwargs)


@contextmanager
def emulated_torch(emulator: Emulator) -> Iterator[torch.device]:
    """Within it, device "cuda" is the emulated one."""

    class Stream:
        cuda_stream = 0

    class Event:
        def record(self, stream: Any) -> None: ...

        def synchronize(self) -> None:
            emulator.synchronize()

    _machines.append(emulator)
    _memory.clear()  # arrays of an earlier machine may linger while their addresses are free again
    stream = mock.patch("torch.cuda.current_stream", return_value=Stream)
    available = mock.patch("torch.cuda.is_available", return_value=True)
    event = mock.patch("torch.cuda.Event", Event)
    try:
        with stream, available, event, _Mode():
            yield torch.device("cuda:0")
    finally:
        _machines.pop()


def on_device(tensor: torch.Tensor, index: int = 0, *, written: bool = True) -> CudaTensor:
    """A copy of a CPU tensor in emulated memory."""
    machine = _machines[-1]
    contiguous = tensor.detach().contiguous()
    size = contiguous.numel() * contiguous.element_size()
    array = CudaArray.empty(machine, (size,), np.uint8, index)
    storage = torch.from_numpy(array.host_bytes()) if size else torch.empty(0, dtype=torch.uint8)
    memory = storage.view(tensor.dtype).view(contiguous.shape) if size else contiguous
    if written and size:
        memory.copy_(contiguous)
        array.mark_written()
    if size:
        _memory[memory.untyped_storage().data_ptr()] = array
    return _wrapped(memory, array)


def _wrapped(memory: torch.Tensor, array: CudaArray) -> CudaTensor:
    result: CudaTensor = memory.as_subclass(CudaTensor)  # type: ignore[arg-type]
    result.array = array
    return result


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    with torch._C.DisableTorchFunctionSubclass():
        return tensor.as_subclass(torch.Tensor)


def _is_cuda(value: Any) -> bool:
    if isinstance(value, torch.device):
        return value.type == "cuda"
    return isinstance(value, str) and (value == "cuda" or value.startswith("cuda:"))


def _call(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run a torch function on the CPU; its new tensors go where its old ones are."""
    name = (resolve_name(func) or getattr(func, "__name__", "")).rpartition(".")[2]
    with torch._C.DisableTorchFunctionSubclass(), torch._C.DisableTorchFunction():
        if name == "requires_grad_":  # of the tensor itself
            return func(*args, **kwargs)
        if name == "__get__":  # an attribute such as .shape; .T gives a tensor
            name = ""
        flat = list(tree_flatten((args, kwargs))[0])
        ours = [value for value in flat if isinstance(value, CudaTensor)]
        devices = [torch.device(value) for value in flat if _is_cuda(value)]
        index = (devices[0].index or 0) if devices else ours[0].array.index
        _machines[-1].synchronize()  # what runs on the stream comes first
        if name in ("numpy", "__array__"):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu()")
        _check_devices(name, flat, ours)
        host = name in _TO_HOST or (name == "to" and not devices and _wants_cpu(args, kwargs))
        if host:
            transfers.append(name)
            for tensor in ours:
                tensor.view_of_memory().numpy()  # EmulationError where nobody has written

        def unwrap(value: Any) -> Any:
            if isinstance(value, CudaTensor):
                return _plain(value)
            return torch.device("cpu") if _is_cuda(value) else value

        if name == "cuda":
            result = unwrap(args[0])
        else:
            result = func(*tree_map(unwrap, args), **tree_map(unwrap, kwargs))
        in_place = (name[-1:] == "_" and name[-2:] != "__") or name.startswith(("__i", "__set"))
        if in_place or "out" in kwargs:
            changed = kwargs.get("out", args[0])
            if isinstance(changed, CudaTensor):
                changed.view_of_memory().mark_written()

        def wrap(value: Any) -> Any:
            if not isinstance(value, torch.Tensor):
                return value
            if host and name in ("cpu", "to"):
                return value.clone()
            for tensor in ours:  # in place: the very tensor
                if in_place and value.data_ptr() == _plain(tensor).data_ptr():
                    return tensor
            known = _memory.get(value.untyped_storage().data_ptr()) if value.numel() else None
            if known is not None:
                return _wrapped(value, known)
            made = on_device(value, index, written=name not in _UNWRITTEN)
            return made.requires_grad_() if value.requires_grad else made

        return tree_map(wrap, result)


def _wants_cpu(args: Any, kwargs: dict[str, Any]) -> bool:
    values = (*args[1:], *kwargs.values())
    return any(str(value) == "cpu" for value in values if isinstance(value, str | torch.device))


def _check_devices(name: str, flat: list[Any], ours: list[CudaTensor]) -> None:
    strangers = [
        value
        for value in flat
        if isinstance(value, torch.Tensor) and not isinstance(value, CudaTensor) and value.dim()
    ]
    if ours and strangers and name not in _ACROSS_DEVICES:
        raise RuntimeError("Expected all tensors to be on the same device, found cpu and cuda")
    if len({tensor.array.index for tensor in ours}) > 1 and name not in _ACROSS_DEVICES:
        raise RuntimeError("Expected all tensors to be on the same device, found two cuda devices")


__all__ = ["CudaTensor", "EmulationError", "emulated_torch", "on_device", "transfers"]
