"""The thin typed functions: arguments are checked here, the work is done in native code.

NumPy arrays in, NumPy arrays out; torch tensors in, torch tensors out on the same device and on
torch's current CUDA stream. Nothing is copied on the way, unless a function says so.

One file, past the usual 400 lines, because most of it is the documentation of the public functions.
"""

from __future__ import annotations

import math
import sys
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tamis import _arrays, _core
from tamis._core import NaNRowError, __version__

__all__ = [
    "NaNRowError",
    "__version__",
    "binomial_test_half",
    "certified_radius",
    "clopper_pearson",
    "confidence_sequence",
    "gaussian_noise",
    "info",
    "vote_counts",
]

_NOISE_TYPES = ("float32", "float16", "bfloat16")


def info() -> dict[str, Any]:
    """What was built and what is in use.

    Returns
    -------
    dict
        ``version``; ``isas_built``, ``isas_available`` and ``isa`` (in use; ``TAMIS_FORCE_ISA``
        chooses another); ``cuda``, a dict with ``built``, ``toolkit``, ``architectures``,
        ``driver``, ``status`` and ``devices``; ``num_threads``, the default of every function
        (``TAMIS_NUM_THREADS``, else ``OMP_NUM_THREADS``, else the CPUs this process may use).
    """
    return {
        "version": __version__,
        "isas_built": _core.built_isas(),
        "isas_available": _core.available_isas(),
        "isa": _core.active_isa(),
        "cuda": _core.cuda_info(),
        "num_threads": _core.default_num_threads(),
    }


def gaussian_noise(
    x: Any,
    n: int,
    sigma: float,
    *,
    seed: int,
    image: int = 0,
    stream: int = 0,
    start: int = 0,
    out: Any = None,
    dtype: Any = None,
    mean: float | ArrayLike | None = None,
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
        Different values give independent noise.
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
        _check_apart(x, out)  # native code sees the copy only
    affine = None if mean is None and std is None else _channel_affine(x, mean, std)
    _core.gaussian_noise(
        dense,
        out,
        sigma,
        seed,
        image,
        stream,
        start,
        _thread_count(num_threads),
        _arrays.cuda_stream(x),
        affine,
    )
    return out


def _channel_affine(x: Any, mean: Any, std: Any) -> Any:
    """Rows ``1 / std`` and ``-mean / std``: float32 of shape (2, channels), beside ``x``."""
    shift, scale = np.broadcast_arrays(*_arrays.normalisation(mean, std))
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
    return affine


def vote_counts(logits: Any, num_classes: int | None = None, out: Any = None) -> Any:
    """Count, per class, the rows of ``logits`` whose largest entry it is.

    Parameters
    ----------
    logits : array of shape (B, C), any float type
        NumPy array, torch tensor or another DLPack array; rows dense, any stride between them.
    num_classes : int, optional
        Expected number of classes C; checked, so that a wrong model is noticed.
    out : int64 array of shape (C,), optional
        Overwritten with the counts; same library and device as ``logits``.

    Returns
    -------
    int64 array of shape (C,)
        Votes per class; ties go to the lowest index, ``B = 0`` gives zeros. Exact.

    Raises
    ------
    NaNRowError
        A ValueError whose ``row`` is the first row with a NaN: its vote is undefined.
    TypeError, ValueError
        Wrong types or shapes; the message names the argument.

    Examples
    --------
    >>> import numpy as np, tamis
    >>> tamis.vote_counts(np.array([[0.1, 0.9], [0.5, 0.5], [0.2, 0.8]])).tolist()
    [1, 2]
    """
    _arrays.check_array(logits, "logits")
    _arrays.check_float(logits, "logits", _arrays.FLOAT_NAMES)
    if len(logits.shape) != 2 or logits.shape[1] < 1:
        raise ValueError(f"logits: expected shape (B, C) with C >= 1, got {tuple(logits.shape)}")
    classes = int(logits.shape[1])
    if num_classes is not None and classes != _arrays.check_int(num_classes, "num_classes", 1):
        raise ValueError(f"num_classes: logits have {classes} columns, expected {num_classes}")
    if out is None:
        out = _arrays.empty(logits, (classes,), "int64")
    else:
        _arrays.check_same_library(out, logits, "out")
        if tuple(out.shape) != (classes,):
            raise ValueError(f"out: expected shape ({classes},), got {tuple(out.shape)}")
    _core.vote_counts(logits, out, _arrays.cuda_stream(logits))
    return out


Side = Literal["lower", "upper"]


def clopper_pearson(
    successes: ArrayLike, trials: ArrayLike, alpha: ArrayLike, *, side: Side = "lower"
) -> Any:
    """One-sided exact confidence bound for a Bernoulli mean.

    Parameters
    ----------
    successes, trials : int or array of int
        ``0 <= successes <= trials``, ``1 <= trials <= 2**53``; broadcast against each other and
        ``alpha``.
    alpha : float or array in (0, 1)
        Error probability of this one bound. A two-sided interval at level ``alpha`` is the lower
        and the upper bound at ``alpha / 2``.
    side : {"lower", "upper"}
        ``BetaInv(alpha; k, n - k + 1)`` (0 for k = 0) or ``BetaInv(1 - alpha; k + 1, n - k)``
        (1 for k = n).

    Returns
    -------
    float or float64 array
        Relative error below 1e-12 for up to 1e9 trials and any ``alpha``. A float for scalar
        input; empty input gives an empty array. A lower bound is always below 1. Where an upper
        bound is close to 1, the lower bound of ``trials - successes`` gives 1 minus it accurately.

    Raises
    ------
    TypeError
        Counts that are not integers, or ``alpha`` that is not real; the argument is named.
    ValueError
        A value out of range (its flat index is named), or shapes that do not broadcast.

    Notes
    -----
    Source: Clopper and Pearson, Biometrika 26, 1934. ``LowerConfBound`` of Cohen et al. 2019.

    Examples
    --------
    >>> import tamis
    >>> round(tamis.clopper_pearson(990, 1000, 0.001), 6)
    0.976036
    """
    k, n, level = _broadcast_counts(successes, trials, alpha)
    return _scalar_or_array(_core.clopper_pearson(k, n, level, _check_side(side)))


def confidence_sequence(
    successes: ArrayLike, trials: ArrayLike, alpha: ArrayLike, *, side: Side = "lower"
) -> Any:
    """One-sided bound for a Bernoulli mean that holds at every sample size at once.

    Unlike `clopper_pearson`, it stays valid when one looks after every batch and stops whenever
    the answer is good enough; the best bound seen so far is valid too.

    Parameters
    ----------
    successes, trials, alpha, side
        As in `clopper_pearson`; ``trials`` may be 0, which gives the bounds 0 and 1.

    Returns
    -------
    float or float64 array
        With probability at least ``1 - alpha`` the bound is right after every trial.

    Raises
    ------
    TypeError, ValueError
        As in `clopper_pearson`.

    Notes
    -----
    The lower bound is the mean ``p`` against which betting a uniformly mixed fraction of the wealth
    on every success has multiplied it by ``1 / alpha``; a mixture martingale. Source: Robbins 1970;
    Howard et al. 2021; Waudby-Smith and Ramdas 2024. The C++ header ``confidence.hpp`` gives the
    formula.

    Examples
    --------
    >>> import tamis
    >>> bool(tamis.confidence_sequence(990, 1000, 0.001) < tamis.clopper_pearson(990, 1000, 0.001))
    True
    """
    k, n, level = _broadcast_counts(successes, trials, alpha)
    return _scalar_or_array(_core.confidence_sequence(k, n, level, _check_side(side)))


def binomial_test_half(successes: ArrayLike, trials: ArrayLike) -> Any:
    """Two-sided exact p-value of ``successes`` heads in ``trials`` tosses of a fair coin.

    Parameters
    ----------
    successes, trials : int or array of int
        ``0 <= successes <= trials``; broadcast against each other.

    Returns
    -------
    float or float64 array
        In [0, 1] (0 by underflow only); 1 for no trials. Relative error below 1e-12.

    Raises
    ------
    TypeError, ValueError
        As in `clopper_pearson`.

    Notes
    -----
    The test of ``Predict`` in Cohen et al. 2019, with the counts of the top two classes.

    Examples
    --------
    >>> import tamis
    >>> round(tamis.binomial_test_half(2, 9), 6)
    0.179688
    """
    k, n = np.broadcast_arrays(_as_counts(successes, "successes"), _as_counts(trials, "trials"))
    return _scalar_or_array(_core.binomial_test_half(_dense(k), _dense(n)))


def certified_radius(p_lower: ArrayLike, sigma: float, p_upper: ArrayLike | None = None) -> Any:
    """The l2 radius within which a smoothed classifier cannot change its answer.

    Parameters
    ----------
    p_lower : float or array in [0, 1]
        Lower confidence bound for the probability of the top class under noise.
    sigma : float
        Standard deviation of that noise, > 0 and finite.
    p_upper : float or array in [0, 1], optional
        Upper bound for every other class. Default: ``1 - p_lower``.

    Returns
    -------
    float or float64 array
        ``sigma / 2 * (PhiInv(p_lower) - PhiInv(p_upper))``, in the units of ``sigma``; 0 where
        nothing is certified (``p_lower <= 1/2``, or ``p_lower <= p_upper``); inf for certainty.

    Raises
    ------
    TypeError
        An argument that is not real; it is named.
    ValueError
        A NaN or a value out of range (its flat index is named), or shapes that do not broadcast.

    Notes
    -----
    Source: Cohen, Rosenfeld and Kolter 2019, Theorem 1.

    Examples
    --------
    >>> import tamis
    >>> round(tamis.certified_radius(0.9, 0.5), 6)
    0.640776
    >>> tamis.certified_radius([0.4, 0.5], 0.5).tolist()
    [0.0, 0.0]
    """
    scale = _as_reals(sigma, "sigma")
    if scale.ndim:
        raise TypeError(f"sigma: expected one number, got an array of shape {scale.shape}")
    lower = _as_reals(p_lower, "p_lower")
    if p_upper is None:
        return _scalar_or_array(_core.certified_radius(_dense(lower), scale.item()))
    lower, upper = np.broadcast_arrays(lower, _as_reals(p_upper, "p_upper"))
    return _scalar_or_array(_core.certified_radius(_dense(lower), scale.item(), _dense(upper)))


def _check_side(side: str) -> str:
    if side not in ("lower", "upper"):
        raise ValueError(f"side: expected 'lower' or 'upper', got {side!r}")
    return side


def _as_reals(values: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name}: expected real numbers, got dtype {array.dtype}")
    return array.astype(np.float64, copy=False)


def _as_counts(values: ArrayLike, name: str) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.size == 0 and array.dtype.kind == "f":
        return array.astype(np.int64)  # an empty list has no integers to show its type with
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected integers, got dtype {array.dtype}")
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{name}: expected counts below 2**63, got {array.max()}")
    return array.astype(np.int64, copy=False)


def _broadcast_counts(
    successes: ArrayLike, trials: ArrayLike, alpha: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    k, n, level = np.broadcast_arrays(
        _as_counts(successes, "successes"), _as_counts(trials, "trials"), _as_reals(alpha, "alpha")
    )
    return _dense(k), _dense(n), _dense(level)


def _dense(array: NDArray[Any]) -> NDArray[Any]:
    return np.require(array, requirements=["C", "A"])


def _scalar_or_array(values: NDArray[np.float64]) -> Any:
    return values.item() if values.ndim == 0 else values


def _check_apart(x: Any, out: Any) -> None:
    (x_begin, x_end), (out_begin, out_end) = _arrays.byte_range(x), _arrays.byte_range(out)
    if x_begin < out_end and out_begin < x_end and math.prod(out.shape) > 0:
        raise ValueError("out: expected memory apart from x, got overlapping memory")


def _thread_count(num_threads: int | None) -> int:
    return 0 if num_threads is None else _arrays.check_int(num_threads, "num_threads", 1, 4097)
