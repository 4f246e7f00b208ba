"""The constants of a network's first step, ``(x - mean) / std``, as users give them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis import _arrays


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
    try:
        if _arrays.is_torch(value):
            value = value.detach().double()  # NumPy has no bfloat16
        constants = np.asarray(_arrays.on_host(value), np.float64)
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
