"""Which noise an image gets: stream numbers and the content hash that stands for the image.

Every noise value is a pure function of (seed, image, stream, sample, element), see
``tamis.gaussian_noise``. This file decides `image` and `stream`; nothing else may.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Stream", "facts_beside", "facts_from", "image_facts", "image_id"]

_MASK: Final = (1 << 64) - 1
# The constants of SplitMix64. Source: Steele, Lea and Flood, "Fast splittable pseudorandom number
# generators", OOPSLA 2014, Figure 17; the variant 13 finaliser is D. Stafford's.
_GAMMA: Final = 0x9E3779B97F4A7C15
_MIX_1: Final = 0xBF58476D1CE4E5B9
_MIX_2: Final = 0x94D049BB133111EB


class Stream(IntEnum):
    """Noise streams; samples of different streams are independent. The numbers never change."""

    SELECTION = 0
    ESTIMATION = 1
    PREDICTION = 2
    TRAINING = 3  # noise that a network is trained with
    ATTACK = 4  # of attacks that judge a finished network, and random directions


def _mix(z: Any) -> Any:
    """SplitMix64 finaliser of uint64 arrays; each step is a bijection."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(_MIX_1)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(_MIX_2)
    return z ^ (z >> np.uint64(31))


@lru_cache(maxsize=8)
def _weights(size: int) -> NDArray[np.int64]:
    """One odd 64-bit weight per position: odd, so that a change of one element always shows."""
    positions = np.arange(1, size + 1, dtype=np.uint64) * np.uint64(_GAMMA)
    weights: NDArray[np.int64] = (_mix(positions) | np.uint64(1)).view(np.int64)
    weights.setflags(write=False)
    return weights


@lru_cache(maxsize=8)
def _torch_weights(size: int, device: str) -> Any:
    import torch

    return torch.from_numpy(_weights(size).copy()).to(device)


def image_id(image: Any) -> int:
    """32-bit number that stands for an image in the noise counter: a hash of its float32 bits.

    Because the number depends on the pixels alone, the noise that an image gets, and with it the
    certificate, does not depend on the image's place in a data set, the batch it is packed into,
    the process that works on it or the device.

    Parameters
    ----------
    image : NumPy array or torch tensor, float32, any shape
        One image. The sum is formed on the tensor's own device; one scalar leaves it.

    Returns
    -------
    int
        0 <= id < 2**32, the same for a NumPy array and a tensor that hold the same numbers. The
        shape enters through the number of elements only; no elements is a valid image.

    Raises
    ------
    TypeError
        If `image` is not float32.

    Notes
    -----
    Why this is sound. A certificate's guarantee [Cohen19, Theorem 1 and Proposition 2] speaks of
    one fixed image and noise drawn independently of it. The generator's seed is that independent
    randomness: for any value of the counter words the outputs behave as independent standard
    normals, and a hash only says which counter values are used. The guarantee holds image by
    image whether or not two images share a number. When they do (probability 2**-32 a pair, about
    0.01 expected pairs in a set of 10,000 images) their certificates rest on the same noise, so
    that their errors are correlated, while each keeps its error rate; this is also the case for
    two copies of one image, which get the same answer. -0.0 and 0.0 count as different. What
    would break the guarantee is an image chosen with knowledge of the seed: where images come from
    an adversary, keep the seed secret.
    """
    if not isinstance(image, np.ndarray):
        import torch

        if not isinstance(image, torch.Tensor):
            kind = type(image).__name__
            raise TypeError(f"image: expected a float32 array or tensor, got {kind}")
        return int(_numbers(image.detach().contiguous().reshape(1, -1))[0])
    if image.dtype != np.float32:
        raise TypeError(f"image: expected float32, got {image.dtype}")
    bits = np.ascontiguousarray(image).reshape(-1).view(np.int32).astype(np.int64)
    total = int(np.dot(bits, _weights(bits.size)))  # integers: wraps modulo 2**64
    start = np.array([(total + bits.size * _GAMMA) & _MASK], dtype=np.uint64)
    return int(_mix(start)[0] >> np.uint64(32))


def image_facts(image: Any) -> tuple[float, float, int]:
    """Smallest and largest value of an image that is not empty, and its `image_id`.

    From a tensor on a device all three come in one transfer. NaN anywhere makes both values NaN.
    """
    if isinstance(image, np.ndarray):
        return float(image.min()), float(image.max()), image_id(image)
    return facts_from(facts_beside(image[None])[0].cpu().numpy())


def facts_beside(images: Any) -> Any:
    """The same of tensors (N, *shape) where they lie, int64 (N, 3): nothing is waited for.

    `facts_from` reads a row. The last column is the number as `tamis.gaussian_noise` takes it.
    """
    import torch

    flat = images.detach().contiguous().reshape(len(images), -1)
    # The bits of float64 travel as integers.
    limits = torch.stack([flat.amin(dim=1), flat.amax(dim=1)], dim=1).double()
    return torch.cat([limits.view(torch.int64), _numbers(flat)[:, None]], dim=1)


def facts_from(row: NDArray[np.int64]) -> tuple[float, float, int]:
    """Smallest value, largest value and number out of a row of `facts_beside` on the host."""
    low, high = np.ascontiguousarray(row[:2]).view(np.float64).tolist()
    return low, high, int(row[2])


def _numbers(flat: Any) -> Any:
    """`image_id` of the rows of a tensor where it lies, int64 (N,)."""
    import torch

    if flat.dtype != torch.float32:
        raise TypeError(f"image: expected a float32 array or tensor, got {flat.dtype}")
    size = flat.shape[1]
    words = flat.view(torch.int32).to(torch.int64)
    z = (words * _torch_weights(size, str(flat.device))).sum(dim=1) + _signed(size * _GAMMA)
    # `_mix`; shifts of int64 repeat the sign, products wrap
    z = (z ^ (z >> 30 & (1 << 34) - 1)) * _signed(_MIX_1)
    z = (z ^ (z >> 27 & (1 << 37) - 1)) * _signed(_MIX_2)
    return (z ^ (z >> 31 & (1 << 33) - 1)) >> 32 & 0xFFFFFFFF


def _signed(word: int) -> int:
    """The int64 of the same 64 bits."""
    return ((word & _MASK) ^ 1 << 63) - (1 << 63)
