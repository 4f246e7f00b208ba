"""What the thin functions need to know about NumPy arrays, torch tensors and other DLPack arrays.

torch is never imported here: a tensor brings its own methods along.
"""

from __future__ import annotations

import math
import operator
import sys
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def dense_rows(x: Any) -> Any:
    """A matrix ``x``, or a C-contiguous copy of it where its rows are not dense or overlap."""
    rows, columns = (int(extent) for extent in x.shape)
    if isinstance(x, np.ndarray):
        down, across = (step / x.itemsize for step in x.strides)
        native = x.flags.aligned and x.dtype.isnative
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
    return x.contiguous()


def beside(x: Any, values: Any, name: str, dtype: str) -> Any:
    """``values`` as a dense array of ``x``'s library and device; copied where that is needed."""
    if isinstance(values, complex) or (not is_torch(values) and np.iscomplexobj(values)):
        raise TypeError(f"{name}: expected real numbers, got complex ones")
    try:
        if is_torch(x):
            torch = sys.modules["torch"]
            if is_torch(values) and values.device != x.device:
                raise ValueError(f"{name}: expected device {x.device}, got {values.device}")
            return torch.as_tensor(
                values.detach() if is_torch(values) else np.asarray(values, np.float64),
                dtype=getattr(torch, dtype),
                device=x.device,
            ).contiguous()
        if isinstance(x, np.ndarray):
            if is_torch(values):
                values = values.detach().cpu().numpy()
            return np.ascontiguousarray(values, dtype=dtype)
    except TypeError as error:
        raise TypeError(f"{name}: expected an array of numbers, got {type(values).__name__}") from (
            error
        )
    namespace = x.__array_namespace__()
    return namespace.asarray(values, dtype=getattr(namespace, dtype), device=x.device)


def on_host(x: Any) -> NDArray[np.float64]:
    """A float64 NumPy array of the numbers of ``x``."""
    return np.asarray(x.cpu().numpy() if is_torch(x) else x, np.float64)


def cast(array: Any, x: Any) -> Any:
    """``array``, of ``x``'s library, in ``x``'s dtype."""
    if isinstance(x, np.ndarray):
        return array.astype(x.dtype, copy=False)
    if is_torch(x):
        return array.to(x.dtype)
    return x.__array_namespace__().astype(array, x.dtype, copy=False)


def like(values: NDArray[np.float64], x: Any, dtype: str | None = None) -> Any:
    """NumPy numbers as an array of ``x``'s library and device, in ``dtype`` or that of ``x``."""
    name = dtype or dtype_name(x)
    if isinstance(x, np.ndarray):
        return values.astype(name)
    if is_torch(x):
        torch = sys.modules["torch"]
        return torch.as_tensor(values, dtype=getattr(torch, name), device=x.device)
    namespace = x.__array_namespace__()
    return namespace.asarray(values, dtype=getattr(namespace, name), device=x.device)


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


def normalisation(mean: Any, std: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Check ``mean`` and ``std``: numbers, or one number a channel. None is 0 and 1.

    Returns
    -------
    (float64 array, float64 array)
        Each of shape () or (channels,); a sequence of one number is that number.

    Raises
    ------
    TypeError, ValueError
        Not numbers, not finite, ``std <= 0``, or two different numbers of channels.
    """
    shift = _channel_constants("mean", 0.0 if mean is None else mean)
    scale = _channel_constants("std", 1.0 if std is None else std)
    if (scale <= 0).any():
        raise ValueError(f"std: expected numbers > 0, got {scale.tolist()}")
    if shift.ndim and scale.ndim and shift.size != scale.size:
        raise ValueError(
            f"std: expected as many numbers as mean has ({shift.size}), got {scale.size}"
        )
    return shift, scale


def _channel_constants(name: str, value: Any) -> NDArray[np.float64]:
    if is_torch(value):
        value = value.detach().cpu().double().numpy()
    try:
        constants = np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name}: expected a number or one number a channel, got {value!r}"
        ) from error
    if constants.size == 1:
        constants = constants.reshape(())
    elif constants.size != max(constants.shape, default=1):
        raise ValueError(
            f"{name}: expected a number or one number a channel, got shape {constants.shape}"
        )
    else:  # (C, 1, 1), as normalisation layers keep it
        constants = constants.reshape(-1)
    if not constants.size or not np.isfinite(constants).all():
        raise ValueError(f"{name}: expected finite numbers, got {constants.tolist()}")
    return constants


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
