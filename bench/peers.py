"""What tamis is compared with: the code that people write today, ready to be timed.

Each function returns a callable that does the work once. torch is optional: where it is missing,
`torch_or_none` says so and the benchmarks leave its peers out.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray


def torch_or_none() -> ModuleType | None:
    try:
        import torch
    except ImportError:
        return None
    return torch


def set_threads(count: int) -> None:
    """Threads of torch's own operations and, where threadpoolctl is installed, of NumPy's BLAS.

    NumPy's generators use one whatever is asked for.
    """
    torch = torch_or_none()
    if torch is not None:
        torch.set_num_threads(count)
    try:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
    except ImportError:
        return
    threadpool_limits(count, user_api="blas")


def torch_repeat_randn(x: Any, n: int, sigma: float) -> Callable[[], Any]:
    """The sampling step of published smoothing code: repeat, randn_like, times sigma, add."""
    import torch

    axes = (1,) * x.ndim

    def step() -> Any:
        batch = x.repeat((n, *axes))
        return batch + torch.randn_like(batch) * sigma

    return step


def torch_normal(buffer: Any) -> Callable[[], Any]:
    """Standard normals alone, into a buffer: no x, no sigma."""
    normal: Callable[[], Any] = buffer.normal_
    return normal


def numpy_normal(buffer: NDArray[np.float32]) -> Callable[[], Any]:
    """The same by NumPy's PCG64 (ziggurat), one thread."""
    rng = np.random.default_rng(0)
    return lambda: rng.standard_normal(dtype=np.float32, out=buffer)


def fill(buffer: Any) -> Callable[[], Any]:
    """Write one constant over the buffer: what the memory allows, on as many threads as torch has.

    A NumPy buffer is filled by NumPy, on one thread.
    """
    return (
        (lambda: buffer.fill(0.5)) if isinstance(buffer, np.ndarray) else lambda: buffer.fill_(0.5)
    )
