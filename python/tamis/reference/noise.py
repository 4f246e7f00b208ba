"""Twins of `gaussian_noise` and `vote_counts`, and of the generator beneath the noise."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_MASK = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def philox4x32_10(counter: ArrayLike, key: int) -> NDArray[np.uint32]:
    """Philox4x32-10 of Salmon et al., SC 2011.

    Parameters
    ----------
    counter : array of shape (..., 4)
        32-bit words.
    key : int
        64 bits; the low half is key word 0.

    Returns
    -------
    uint32 array of shape (..., 4)
    """
    c = np.asarray(counter, dtype=np.uint64)
    c0, c1, c2, c3 = (c[..., k] for k in range(4))
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        p0 = np.uint64(0xD2511F53) * c0
        p1 = np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (
            (p1 >> _SHIFT) ^ c1 ^ np.uint64(k0),
            p1 & _MASK,
            (p0 >> _SHIFT) ^ c3 ^ np.uint64(k1),
            p0 & _MASK,
        )
        k0 = (k0 + 0x9E3779B9) & 0xFFFFFFFF
        k1 = (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def box_muller(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two normals from two 32-bit words, with the uniforms that ``csrc/.../normal.hpp`` defines.

    Source: Box and Muller 1958. The uniforms are float32 values, everything after is float64.
    """
    a = np.asarray(a, dtype=np.uint32)
    b = np.asarray(b, dtype=np.uint32)
    shifted = (a >> np.uint32(1)).astype(np.int32).astype(np.float32).astype(np.float64)
    u = (shifted * 2.0**-31 + 2.0**-32).astype(np.float32).astype(np.float64)
    t = ((b << np.uint32(2)) | np.uint32(2)).view(np.int32).astype(np.float32) * 2.0**-31
    angle = np.pi / 4 * t.astype(np.float64) + np.pi / 2 * (b >> np.uint32(30))
    r = np.sqrt(-2 * np.log(u))
    return r * np.cos(angle), r * np.sin(angle)


def standard_normals(
    seed: int, samples: ArrayLike, size: int, *, image: int = 0, stream: int = 0
) -> NDArray[np.float64]:
    """``z(seed, image, stream, sample, element)`` for elements 0 .. size - 1 of each sample.

    Returns
    -------
    float64 array of shape (len(samples), size)
    """
    rows = np.atleast_1d(np.asarray(samples, dtype=np.uint64))
    blocks = np.arange((size + 3) // 4, dtype=np.uint64)
    counter = np.empty((rows.size, blocks.size, 4), dtype=np.uint64)
    counter[..., 0] = blocks
    counter[..., 1] = rows[:, None]
    counter[..., 2] = image
    counter[..., 3] = stream
    words = philox4x32_10(counter, seed)
    z = np.empty(words.shape)
    z[..., 0], z[..., 1] = box_muller(words[..., 0], words[..., 1])
    z[..., 2], z[..., 3] = box_muller(words[..., 2], words[..., 3])
    return z.reshape(rows.size, 4 * blocks.size)[:, :size]


def gaussian_noise(
    x: ArrayLike,
    n: int,
    sigma: float,
    *,
    seed: int,
    image: int = 0,
    stream: int = 0,
    start: int = 0,
    mean: ArrayLike = 0.0,
    std: ArrayLike = 1.0,
) -> NDArray[np.float64]:
    """``SampleUnderNoise`` of Cohen et al. 2019, Algorithm 1: ``n`` copies of ``x`` plus noise.

    Less ``mean``, by ``std``: numbers, or one number for each entry along axis 0 of ``x``.
    """
    x = np.asarray(x, dtype=np.float64)
    z = standard_normals(seed, np.arange(start, start + n), x.size, image=image, stream=stream)
    noisy = x + sigma * z.reshape(n, *x.shape)
    column = (-1,) + (1,) * (x.ndim - 1) if x.ndim else ()
    normal: NDArray[np.float64] = (noisy - np.reshape(mean, column)) / np.reshape(std, column)
    return normal


def vote_counts(logits: ArrayLike) -> NDArray[np.int64]:
    """Votes per class of a (B, C) block, ties to the lowest index."""
    values: NDArray[Any] = np.asarray(logits)
    return np.bincount(values.argmax(axis=1), minlength=values.shape[1]).astype(np.int64)
