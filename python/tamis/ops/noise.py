"""gaussian_noise: noisy copies of an input, a pure function of their coordinates."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tamis import _arrays, _core
from tamis._normalisation import normalisation

_NOISE_TYPES = ("float32", "float16", "bfloat16")


def gaussian_noise(
    x: Any,
    n: int,
    sigma: float,
    *,
    seed: int,
    image: Any = 0,
    stream: int = 0,
    start: int = 0,
    out: Any = None,
    dtype: Any = None,
    mean: float | ArrayLike | ChannelAffine | None = None,
    std: float | ArrayLike | None = None,
    num_threads: int | None = None,
) -> Any:
    """``n`` noisy copies of ``x``, written in one pass: ``out[s] = x + sigma * z[start + s]``.

    ``z`` is standard normal and a pure function of ``(seed, image, stream, sample, element)``: the
    same bits for any split of the samples over calls, any number of threads, any instruction set
    and any device. A certificate made from it can be repeated, resumed, sharded and audited.

    Parameters
    ----------
    x : array of shape (...), float32, float16 or bfloat16
        NumPy array, torch tensor or another DLPack array. Never modified. A strided ``x`` is
        copied once; NaN and Inf propagate.
    n : int
        Number of copies; 0 gives an empty array.
    sigma : float
        Standard deviation of the noise, in the units of ``x``; finite and >= 0.
    seed : int in [0, 2**64)
        Key of the generator.
    image, stream : int in [0, 2**32)
        Further coordinates of the noise, for example which image, and what the noise is for.
        Different values give independent noise. ``image`` may also be an int64 array of one number
        on the CUDA device of ``x``, which the host then does not wait for; of a number outside of
        the range the low 32 bits count.
    start : int
        Number of the first sample; ``start + n <= 2**32``.
    out : array of shape (n, ...), optional
        Where to write: same library and device as ``x``, dense rows. A slice of a larger batch
        will do. Must not overlap ``x``.
    dtype : dtype, optional
        float32, float16 or bfloat16 of the array's library; default that of ``out`` or ``x``.
        The sum is one float32 fma; 16-bit results are that float32 rounded to nearest even.
    mean, std : float or one float a channel, optional
        What a network normalises with, in the units of ``x``: the result is then
        ``(x + sigma * z - mean) / std``, in the same pass. Channels lie along axis 0 of ``x``.
        Finite, ``std > 0``; None is 0 and 1. Computed as one further float32 fma with
        ``1 / std`` and ``-mean / std``, each rounded to float32, before a 16-bit result is rounded.
        A `ChannelAffine` as `mean` stands for both, checked and on the device once for many calls.
    num_threads : int, optional
        CPU threads; never changes the result. Default: see `info`.

    Returns
    -------
    array of shape (n, ...)
        ``out`` if given, else a new array. No other memory is used.

    Raises
    ------
    TypeError
        Not an array, or a dtype other than the three (float64 is refused, not rounded).
    ValueError
        A value, shape or device out of contract; the message names the argument.

    Notes
    -----
    Source: ``SampleUnderNoise`` of Cohen, Rosenfeld and Kolter, "Certified adversarial robustness
    via randomized smoothing", ICML 2019; Philox4x32-10 of Salmon et al., SC 2011; Box and Muller,
    1958. Normals lie within 4 ulp of the exact transform and reach at most 6.66 in magnitude
    (a probability of 3e-11 is cut off).

    Examples
    --------
    >>> import numpy as np, tamis
    >>> x = np.zeros(4, dtype=np.float32)
    >>> tamis.gaussian_noise(x, 2, 0.5, seed=1).shape
    (2, 4)
    >>> both = tamis.gaussian_noise(x, 2, 0.5, seed=1)
    >>> second = tamis.gaussian_noise(x, 1, 0.5, seed=1, start=1)
    >>> bool((both[1] == second[0]).all())
    True
    """
    _arrays.check_array(x, "x")
    _arrays.check_float(x, "x", _NOISE_TYPES)
    n = _arrays.check_int(n, "n", 0, 2**32 + 1)
    seed = _arrays.check_int(seed, "seed", 0, 2**64)
    if not _arrays.on_cuda(image):
        image = _arrays.check_int(image, "image", 0, 2**32)
    stream = _arrays.check_int(stream, "stream", 0, 2**32)
    start = _arrays.check_int(start, "start", 0, 2**32 - n + 1)
    sigma = _arrays.check_real(sigma, "sigma")
    if not (math.isfinite(sigma) and sigma >= 0):
        raise ValueError(f"sigma: expected a finite number >= 0, got {sigma}")
    shape = (n, *x.shape)
    wanted = None if dtype is None else _arrays.type_name(dtype)
    if wanted is not None and wanted not in _NOISE_TYPES:
        raise TypeError(f"dtype: expected {' or '.join(_NOISE_TYPES)}, got {dtype!r}")
    if out is None:
        out = _arrays.empty(x, shape, wanted or _arrays.dtype_name(x))
    else:
        _arrays.check_same_library(out, x, "out")
        _arrays.check_float(out, "out", _NOISE_TYPES)
        if tuple(out.shape) != shape:
            raise ValueError(f"out: expected shape {shape}, got {tuple(out.shape)}")
        if wanted not in (None, _arrays.dtype_name(out)):
            raise TypeError(f"dtype: expected that of out ({out.dtype}), got {dtype!r}")
    dense = _arrays.contiguous(x)
    if dense is not x:
        _arrays.check_apart(x, out)  # native code sees the copy only
    affine = None
    if isinstance(mean, ChannelAffine):
        affine = mean.beside(x, std)
    elif mean is not None or std is not None:
        affine = _channel_affine(x, mean, std)
    _core.gaussian_noise(
        dense,
        out,
        sigma,
        seed,
        image,
        stream,
        start,
        _arrays.thread_count(num_threads),
        _arrays.cuda_stream(x),
        affine,
    )
    return out


class ChannelAffine:
    """``mean`` and ``std`` for inputs like ``x``: checked, and copied to its device, once.

    Parameters
    ----------
    x : array
        Library, device and number of channels that the inputs will have.
    mean, std
        As in `gaussian_noise`, and the same errors.
    """

    def __init__(self, x: Any, mean: Any, std: Any) -> None:
        self._values = _channel_affine(x, mean, std)

    def beside(self, x: Any, std: Any) -> Any:
        """The constants, if they are for inputs like ``x``."""
        if std is not None:
            raise TypeError("std: expected None beside a ChannelAffine, which has its own")
        channels = int(self._values.shape[1])
        if channels > 1 and (not x.shape or int(x.shape[0]) != channels):
            raise ValueError(
                f"mean: expected {channels} channels (axis 0) of x, got shape {tuple(x.shape)}"
            )
        return self._values


def _channel_affine(x: Any, mean: Any, std: Any) -> Any:
    """Rows ``1 / std`` and ``-mean / std``: float32 of shape (2, channels), beside ``x``."""
    shift, scale = np.broadcast_arrays(*normalisation(mean, std))
    if shift.ndim and (not x.shape or x.shape[0] != shift.size):
        raise ValueError(
            f"mean, std: expected one number a channel (axis 0) of x of shape {tuple(x.shape)}, "
            f"got {shift.size}"
        )
    with np.errstate(all="ignore"):  # judged by the result
        affine = np.stack([1.0 / scale, -shift / scale]).astype(np.float32).reshape(2, -1)
    if not (np.isfinite(affine).all() and (affine[0] > 0).all()):
        raise ValueError(
            f"mean, std: expected 1 / std and mean / std within the range of float32, got mean "
            f"{shift.tolist()} and std {scale.tolist()}"
        )
    if _arrays.is_torch(x) and x.is_cuda:
        return x.new_tensor(affine, dtype=sys.modules["torch"].float32)
    if _arrays.on_cuda(x):
        return _arrays.like(affine.astype(np.float64), x, "float32")
    return affine
