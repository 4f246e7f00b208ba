"""What the thin functions need to know about NumPy arrays, torch tensors and other DLPack arrays.

torch is never imported here: a tensor brings its own methods along.
"""

from __future__ import annotations

import operator
import sys
from numbers import Real
from typing import Any

import numpy as np

FLOAT_NAMES = ("float32", "float16", "bfloat16", "float64")


def is_torch(x: object) -> bool:
    """Is ``x`` a torch tensor? False, without an import, where torch was never loaded."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


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
    return str(x.dtype).rpartition(".")[2]


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
    return x.contiguous() if is_torch(x) else x


def empty(like: Any, shape: tuple[int, ...], dtype: str) -> Any:
    """An uninitialised array of ``like``'s library and device; ``dtype`` is a bare name."""
    if isinstance(like, np.ndarray):
        if dtype == "bfloat16":
            raise TypeError("dtype: expected float32 or float16, NumPy has no bfloat16")
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
    if isinstance(out, np.ndarray) != isinstance(x, np.ndarray) or is_torch(out) != is_torch(x):
        raise TypeError(
            f"{name}: expected the array library of the input ({type(x).__name__}), "
            f"got {type(out).__name__}"
        )
    if not isinstance(x, np.ndarray) and device(out) != device(x):
        raise ValueError(f"{name}: expected device {device(x)}, got {device(out)}")


def device(x: Any) -> str:
    """Device of an array that is not NumPy's, for comparing and for messages."""
    return str(x.device) if is_torch(x) else f"{tuple(x.__dlpack_device__())} (DLPack)"


def byte_range(x: Any) -> tuple[int, int]:
    """First address and the one after the last that the elements of ``x`` may occupy."""
    if isinstance(x, np.ndarray):
        start, item, steps = x.ctypes.data, x.itemsize, x.strides
    else:
        start, item = x.data_ptr(), x.element_size()
        steps = tuple(step * item for step in x.stride())
    reach = [(extent - 1) * step for extent, step in zip(x.shape, steps, strict=True)]
    low = start + sum(r for r in reach if r < 0)
    return low, start + sum(r for r in reach if r > 0) + item


def cuda_stream(x: Any) -> int:
    """Handle of the stream that work on ``x`` belongs to: torch's current one, else the default."""
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
