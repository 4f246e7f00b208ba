"""What several test files share, beyond the fixtures of conftest.py."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import tamis

SEED = 0xFEDCBA9876543210
KEY: dict[str, int] = {"seed": SEED, "image": 0x89ABCDEF, "stream": 3}
SIGMA = 0.37


def ramp(*shape: int, dtype: Any = np.float32) -> NDArray[Any]:
    """Values that every one of the three types holds exactly."""
    return ((np.arange(np.prod(shape, dtype=int)) % 257) / 256 - 0.5).reshape(shape).astype(dtype)


def noise(x: Any, n: int, sigma: float = SIGMA, **arguments: Any) -> Any:
    return tamis.gaussian_noise(x, n, sigma, **{**KEY, **arguments})


def same_bits(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def images(count: int, seed: int = 0, shape: tuple[int, ...] = (3, 8, 8)) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).random((count, *shape), np.float32)


def fill(classifier: Any, values: Any) -> Any:
    """Put ``values`` into the classifier's own buffer, as the noise kernel would."""
    buffer: Any = classifier.empty(values.shape)
    if isinstance(buffer, np.ndarray):
        buffer[...] = values
    else:
        import torch

        buffer.copy_(torch.from_numpy(values))
    return buffer
