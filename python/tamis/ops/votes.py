"""vote_counts: how many rows of a logits block vote for each class."""

from __future__ import annotations

from typing import Any

from tamis import _arrays, _core


def vote_counts(
    logits: Any, num_classes: int | None = None, out: Any = None, *, wait: bool = True
) -> Any:
    """Count, per class, the rows of ``logits`` whose largest entry it is.

    Parameters
    ----------
    logits : array of shape (B, C), any float type
        NumPy array, torch tensor or another DLPack array; rows dense, any stride between them.
    num_classes : int, optional
        Expected number of classes C; checked, so that a wrong model is noticed.
    out : int64 array of shape (C,), optional
        Overwritten with the counts; same library and device as ``logits``.
    wait : bool, default True
        False: the result has C + 1 elements, the last of which is the first row with a NaN, or -1,
        in place of an error (the counts are then unspecified). On CUDA nothing is waited for: the
        result is complete when its stream gets there.

    Returns
    -------
    int64 array of shape (C,), or (C + 1,) without `wait`
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
    size = classes if wait else classes + 1
    if out is None:
        out = _arrays.empty(logits, (size,), "int64")
    else:
        _arrays.check_same_library(out, logits, "out")
        if tuple(out.shape) != (size,):
            raise ValueError(f"out: expected shape ({size},), got {tuple(out.shape)}")
    _core.vote_counts(logits, out, _arrays.cuda_stream(logits), wait)
    return out
