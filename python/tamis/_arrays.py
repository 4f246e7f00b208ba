"""What the thin functions need to know about arrays: NumPy's, torch's, CuPy's, other DLPack ones.

torch and CuPy are never imported here: whoever holds one of their arrays has done so.
"""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DLPACK_CUDA = (2, 13)  # kDLCUDA, kDLCUDAManaged
FLOAT_NAMES = ("float32", "float16", "bfloat16", "float64")
# Of NumPy's own, in native byte order: asking a dtype for its text takes microseconds.
_NUMPY_FLOATS = {np.dtype(name): name for name in ("float32", "float16", "float64")}


def is_torch(x: object) -> bool:
    """Is ``x`` a torch tensor? False, without an import, where torch was never loaded."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def is_cupy(x: object) -> bool:
    """Is ``x`` a CuPy array? False, without an import, where CuPy was never loaded."""
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(x, cupy.ndarray)


def _library(x: object) -> str:
    for name, known in (("NumPy", _is_numpy), ("torch", is_torch), ("CuPy", is_cupy)):
        if known(x):
            return name
    return "DLPack"


def _is_numpy(x: object) -> bool:
    return isinstance(x, np.ndarray)


def on_cuda(x: Any) -> bool:
    """Does ``x`` lie on a CUDA device? What is no array does not."""
    if isinstance(x, np.ndarray) or not hasattr(x, "__dlpack_device__"):
        return False
    return int(x.__dlpack_device__()[0]) in _DLPACK_CUDA


def check_array(x: object, name: str) -> None:
    """Raise TypeError unless ``x`` is an array the native core can read in place."""
    if isinstance(x, np.ndarray):
        return
    if is_torch(x):
        if x.requires_grad:  # type: ignore[attr-defined]
            raise ValueError(
                f"{name}: expected a tensor outside autograd, got requires_grad=True; "
                f"pass {name}.detach()"
            )
        tensor: Any = x
        if str(tensor.layout) != "torch.strided":
            raise ValueError(f"{name}: expected a dense tensor, got {tensor.layout}")
        if tensor.device.type not in ("cpu", "cuda"):
            raise ValueError(
                f"{name}: expected a tensor on the CPU or a CUDA device, got {tensor.device}"
            )
        return
    if not (hasattr(x, "__dlpack__") and hasattr(x, "__dlpack_device__")):
        raise TypeError(
            f"{name}: expected a NumPy array, a torch tensor or another DLPack producer, "
            f"got {type(x).__name__}"
        )


def dtype_name(x: Any) -> str:
    """The element type as a bare name, ``"float32"`` for both ``np.float32`` and torch's."""
    known = _NUMPY_FLOATS.get(x.dtype) if isinstance(x, np.ndarray) else None
    return known or str(x.dtype).rpartition(".")[2]


def type_name(dtype: Any) -> str:
    """The same for a dtype, a scalar type or a name."""
    text = dtype if isinstance(dtype, str) else str(getattr(dtype, "__name__", dtype))
    return text.rpartition(".")[2]


def check_float(x: Any, name: str, allowed: tuple[str, ...]) -> None:
    """Raise TypeError unless the elements of ``x`` are one of the ``allowed`` float types."""
    if dtype_name(x) not in allowed:
        fix = f"{name}.float()" if is_torch(x) else f"{name}.astype(np.float32)"
        raise TypeError(
            f"{name}: expected dtype {' or '.join(allowed)}, got {dtype_name(x)}; "
            f"convert it yourself, for example {fix}"
        )


def contiguous(x: Any) -> Any:
    """``x``, or a C-contiguous copy of it where it is strided."""
    if isinstance(x, np.ndarray):
        return np.ascontiguousarray(x)
    if is_cupy(x):
        return _cupy_on(x.device, "ascontiguousarray", x)
    return x.contiguous() if is_torch(x) else x


def dense_rows(x: Any) -> Any:
    """A matrix ``x``, or a C-contiguous copy of it where its rows are not dense or overlap."""
    rows, columns = (int(extent) for extent in x.shape)
    if isinstance(x, np.ndarray):
        down, across = (step / x.itemsize for step in x.strides)
        native = x.flags.aligned and x.dtype.isnative
    elif is_cupy(x):
        down, across = (step / x.itemsize for step in x.strides)
        native = True
    elif is_torch(x):
        down, across = x.stride()
        native = True
    else:
        return x  # the core says what it cannot read
    dense = (columns <= 1 or across == 1) and (rows <= 1 or (down >= columns and down % 1 == 0))
    if dense and native:
        return x
    if isinstance(x, np.ndarray):
        return np.array(x, dtype=x.dtype.newbyteorder("="), order="C")
    return contiguous(x)


def beside(x: Any, values: Any, name: str, dtype: str) -> Any:
    """``values`` as a dense array of ``x``'s library and device; copied where that is needed."""
    if isinstance(values, complex) or (not is_torch(values) and np.iscomplexobj(values)):
        raise TypeError(f"{name}: expected real numbers, got complex ones")
    try:
        if is_torch(x):
            return _torch_beside(x, values, name, dtype)
        if isinstance(x, np.ndarray):
            return np.ascontiguousarray(on_host(values), dtype=dtype)
        if is_cupy(x) and not is_cupy(values):
            return _cupy_on(x.device, "asarray", np.ascontiguousarray(on_host(values), dtype=dtype))
    except TypeError as error:
        raise TypeError(f"{name}: expected an array of numbers, got {type(values).__name__}") from (
            error
        )
    if is_cupy(x):
        if device(values) != device(x):
            raise ValueError(f"{name}: expected device {device(x)}, got {device(values)}")
        return _cupy_on(x.device, "ascontiguousarray", values, dtype=dtype)
    namespace = x.__array_namespace__()
    if not hasattr(values, "__array_namespace__") or isinstance(values, np.ndarray):
        values = np.asarray(on_host(values))
    return namespace.asarray(values, dtype=getattr(namespace, dtype), device=x.device)


def _torch_beside(x: Any, values: Any, name: str, dtype: str) -> Any:
    torch = sys.modules["torch"]
    if is_torch(values) and values.device != x.device:
        raise ValueError(f"{name}: expected device {x.device}, got {values.device}")
    return torch.as_tensor(
        values.detach() if is_torch(values) else np.asarray(on_host(values), np.float64),
        dtype=getattr(torch, dtype),
        device=x.device,
    ).contiguous()


def _cupy_on(place: Any, function: str, *arguments: Any, **named: Any) -> Any:
    """A CuPy function on a device: memory of its allocator, work of its current stream there."""
    with place:
        return getattr(sys.modules["cupy"], function)(*arguments, **named)


def on_host(x: Any) -> Any:
    """``x`` as NumPy can read it: arrays on a device are copied, everything else is returned."""
    if is_torch(x):
        return x.detach().cpu().numpy()
    if is_cupy(x):
        return x.get()
    if on_cuda(x):
        return np.from_dlpack(x, device="cpu")
    return x


def fetch(x: Any) -> Callable[[], NDArray[Any]]:
    """Start a copy of ``x`` to the host; the function returned waits for it.

    It waits for what was enqueued before this call only, not for what came after. Arrays of other
    libraries than torch are there at once.
    """
    if not (is_torch(x) and x.is_cuda):
        host = np.asarray(on_host(x))
        return lambda: host
    copy = x.to("cpu", non_blocking=True)  # torch gives it pinned memory
    cuda = sys.modules["torch"].cuda
    event = cuda.Event()
    event.record(cuda.current_stream(x.device))

    def wait() -> NDArray[Any]:
        event.synchronize()
        return np.asarray(copy)

    return wait


def cast(array: Any, x: Any) -> Any:
    """``array``, of ``x``'s library, in ``x``'s dtype."""
    if isinstance(x, np.ndarray):
        return array.astype(x.dtype, copy=False)
    if is_torch(x):
        return array.to(x.dtype)
    if is_cupy(x):
        with x.device:
            return array.astype(x.dtype, copy=False)
    return x.__array_namespace__().astype(array, x.dtype, copy=False)


def like(values: NDArray[np.float64], x: Any, dtype: str | None = None) -> Any:
    """NumPy numbers as an array of ``x``'s library and device, in ``dtype`` or that of ``x``."""
    name = dtype or dtype_name(x)
    if isinstance(x, np.ndarray):
        return values.astype(name)
    if is_torch(x):
        torch = sys.modules["torch"]
        return torch.as_tensor(values, dtype=getattr(torch, name), device=x.device)
    if is_cupy(x):
        return _cupy_on(x.device, "asarray", values.astype(name))
    namespace = x.__array_namespace__()
    return namespace.asarray(values, dtype=getattr(namespace, name), device=x.device)


def empty(like: Any, shape: tuple[int, ...], dtype: str) -> Any:
    """An uninitialised array of ``like``'s library and device; ``dtype`` is a bare name."""
    if isinstance(like, np.ndarray) or is_cupy(like):
        if dtype == "bfloat16":
            raise TypeError(f"dtype: expected float32 or float16, {_library(like)} has no bfloat16")
        if is_cupy(like):
            return _cupy_on(like.device, "empty", shape, dtype=dtype)
        return np.empty(shape, dtype=dtype)
    if is_torch(like):
        return like.new_empty(shape, dtype=getattr(sys.modules["torch"], dtype))
    namespace = getattr(like, "__array_namespace__", lambda: None)()
    if namespace is None:
        raise TypeError(
            f"out: expected a preallocated array for inputs of type {type(like).__name__}"
        )
    return namespace.empty(shape, dtype=getattr(namespace, dtype), device=like.device)


def check_same_library(out: Any, x: Any, name: str) -> None:
    """Raise TypeError or ValueError unless ``out`` belongs beside ``x``."""
    check_array(out, name)
    if _library(out) != _library(x):
        raise TypeError(
            f"{name}: expected the array library of the input ({type(x).__name__}), "
            f"got {type(out).__name__}"
        )
    if not isinstance(x, np.ndarray) and device(out) != device(x):
        raise ValueError(f"{name}: expected device {device(x)}, got {device(out)}")


def device(x: Any) -> str:
    """Device of an array that is not NumPy's, for comparing and for messages."""
    if is_torch(x):
        return str(x.device)
    if is_cupy(x):
        return f"cuda:{x.device.id}"
    kind, index = x.__dlpack_device__()
    return f"({int(kind)}, {int(index)}) (DLPack)"


def byte_range(x: Any) -> tuple[int, int]:
    """First address and the one after the last that the elements of ``x`` may occupy."""
    if isinstance(x, np.ndarray):
        start, item, steps = x.ctypes.data, x.itemsize, x.strides
    elif is_cupy(x):
        start, item, steps = x.data.ptr, x.itemsize, x.strides
    else:
        start, item = x.data_ptr(), x.element_size()
        steps = tuple(step * item for step in x.stride())
    reach = [(extent - 1) * step for extent, step in zip(x.shape, steps, strict=True)]
    low = start + sum(r for r in reach if r < 0)
    return low, start + sum(r for r in reach if r > 0) + item


def cuda_stream(x: Any) -> int:
    """Handle of the stream for work on ``x``: torch's or CuPy's current one, else the default."""
    if is_cupy(x):
        with x.device:
            return int(sys.modules["cupy"].cuda.get_current_stream().ptr)
    if is_torch(x) and x.is_cuda:
        return int(sys.modules["torch"].cuda.current_stream(x.device).cuda_stream)
    return 0


def check_int(value: Any, name: str, low: int, high: int | None = None) -> int:
    """``value`` as an int in ``[low, high)``; TypeError for non-integers, ValueError outside."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an integer, got {type(value).__name__}") from None
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected an integer, got bool")
    if number < low or (high is not None and number >= high):
        limits = f">= {low}" if high is None else f"in [{low}, {high})"
        raise ValueError(f"{name}: expected an integer {limits}, got {number}")
    return number


def check_real(value: Any, name: str) -> float:
    """``value`` as a float; TypeError for anything but a real number."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    return float(value)


def check_apart(x: Any, out: Any) -> None:
    """Raise ValueError where ``out`` and ``x`` share memory."""
    (x_begin, x_end), (out_begin, out_end) = byte_range(x), byte_range(out)
    if x_begin < out_end and out_begin < x_end and math.prod(out.shape) > 0:
        raise ValueError("out: expected memory apart from x, got overlapping memory")


def thread_count(num_threads: int | None) -> int:
    """What the core takes for `num_threads`: 0 is its own default."""
    return 0 if num_threads is None else check_int(num_threads, "num_threads", 1, 4097)
