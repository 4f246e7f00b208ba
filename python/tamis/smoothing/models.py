"""What the models of every kind share: the interface, the checks, and the NumPy ones.

A `Model` is one network: the classifier, or the denoiser in front of it.  `torch_model.py` and
`onnx_model.py` hold the other kinds; `classifiers.py` joins them into a `Classifier`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from tamis import _arrays

if TYPE_CHECKING:
    import torch

    Array: TypeAlias = npt.NDArray[Any] | torch.Tensor
else:
    Array: TypeAlias = Any


class PerformanceWarning(UserWarning):
    """The result is right, but a model could not be run in the fast way; the text says why."""


class Model(Protocol):
    """One network (the classifier, or the denoiser in front of it), whatever it is made of."""

    name: str
    num_classes: int | None

    def prepare(self, x: Any) -> Array:
        """See `Classifier.prepare`."""

    def empty(self, shape: tuple[int, ...]) -> Array:
        """See `Classifier.empty`."""

    def accept(self, batch: Any) -> Array:
        """Return ``batch`` as `forward` eats it: library, device, dtype; no copy where it fits."""

    def forward(self, batch: Any) -> Array:
        """Run the network on ``(B, ...)``; one array with ``B`` rows comes back."""


class NumpyModel:
    """What a callable and an ONNX session have in common: they eat NumPy arrays of one dtype."""

    name: str
    num_classes: int | None = None
    dtype: np.dtype[Any] = np.dtype(np.float32)

    def prepare(self, x: Any) -> Array:
        """Return ``x`` as a C-contiguous float32 array on the host."""
        return host_float32(x)

    def empty(self, shape: tuple[int, ...]) -> Array:
        """Return a buffer; models in float64 get float32, cast by `accept` after the noise."""
        half = self.dtype == np.float16
        return np.empty(shape, np.float16 if half else np.float32)

    def accept(self, batch: Any) -> npt.NDArray[Any]:
        """Return ``batch`` on the host, C-contiguous, in the model's dtype."""
        host: npt.NDArray[Any]
        if isinstance(batch, np.ndarray):
            host = batch
        else:
            batch = batch.detach().cpu()
            # NumPy has no bfloat16; float32 holds every value of it.
            host = (batch if batch.element_size() > 2 else batch.float()).numpy()
        return np.ascontiguousarray(host, self.dtype)


class CallableModel(NumpyModel):
    """A Python callable on NumPy batches."""

    def __init__(self, function: Callable[[npt.NDArray[Any]], Any], name: str) -> None:
        self.name = name
        self._function = function

    def forward(self, batch: Any) -> Array:
        return checked_output(self._function(batch), len(batch), self.name)


def host_float32(x: Any) -> npt.NDArray[np.float32]:
    """Image(s) of any library as a C-contiguous float32 NumPy array.

    Raises
    ------
    TypeError
        For integers, booleans and anything else that is not floating point: nobody can tell whether
        an integer image means 0..255 or 0..1.
    """
    if isinstance(x, (list, tuple)) and x and all(_arrays.is_torch(item) for item in x):
        x = np.stack([host_float32(item) for item in x])
    if _arrays.is_torch(x):
        refuse_integers(x)
        x = x.detach().cpu().float().numpy()
    array = np.asarray(x)
    refuse_integers(array)
    return np.require(array, np.float32, ["C"])


def refuse_integers(image: Any, name: str = "x") -> None:
    """Raise the TypeError that explains what images are, unless the array's dtype is floating."""
    # NumPy's name of a dtype leaves out the byte order, which its text does not.
    dtype = image.dtype.name if isinstance(image, np.ndarray) else _arrays.dtype_name(image)
    if not dtype.startswith(("float", "bfloat")):
        hint = "; divide by 255 first, in float32" if dtype == "uint8" else ""
        raise TypeError(
            f"{name}: expected images as floating-point numbers, in the unit that sigma is in, "
            f"got {dtype}{hint}"
        )


def checked_output(out: Any, rows: int, name: str) -> Array:
    """Check what a network returned: one array or tensor with ``rows`` rows."""
    if isinstance(out, (tuple, list, Mapping)) or out is None:
        keys = f" with keys {sorted(map(str, out))}" if isinstance(out, Mapping) else ""
        raise TypeError(
            f"{name}: expected one array or tensor as output, got {type(out).__name__}{keys}; "
            f"wrap it in a function or module that returns the logits alone"
        )
    array: Array = out.detach() if _arrays.is_torch(out) else np.asarray(out)
    if array.ndim == 0 or len(array) != rows:
        raise ValueError(
            f"{name}: expected {rows} rows of output for {rows} images, got shape "
            f"{tuple(array.shape)}"
        )
    return array


def checked_logits(out: Array, name: str) -> Array:
    """Return a network's output as contiguous ``(B, C)`` logits, C >= 2, of a floating dtype."""
    shape = tuple(out.shape)
    if len(shape) == 4 and shape[2:] == (1, 1):  # fully convolutional networks
        out = out.reshape(shape[:2])
    if out.ndim != 2:
        hint = "; labels are not enough: return a score for every class" if out.ndim == 1 else ""
        raise ValueError(f"{name}: expected logits of shape (B, C), got {shape}{hint}")
    if out.shape[1] < 2:
        raise ValueError(
            f"{name}: expected at least two logits an image, got shape {shape}; a binary model "
            f"with one output z must return two columns, such as (-z, z)"
        )
    if isinstance(out, np.ndarray):
        if out.dtype.kind not in "fiub":
            raise TypeError(f"{name}: expected floating-point logits, got dtype {out.dtype}")
        if out.dtype.kind != "f" or out.dtype.itemsize > 8:
            out = out.astype(np.float64)
        return np.ascontiguousarray(out)
    if not out.dtype.is_floating_point:
        if out.dtype.is_complex:
            raise TypeError(f"{name}: expected floating-point logits, got dtype {out.dtype}")
        out = out.double()
    return out.contiguous()


def may_share_memory(a: Array, b: Array) -> bool:
    """Say whether writing to ``a`` could change ``b``."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.may_share_memory(a, b)
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return True  # a NumPy view of a tensor or the reverse: not worth finding out
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


def in_fixed_batches(run: Callable[[Any], Array], batch: Any, size: int) -> Array:
    """Run a model that takes exactly ``size`` rows; the last chunk is padded with its last row."""
    parts = []
    for start in range(0, len(batch), size):
        part = batch[start : start + size]
        rows = len(part)
        if rows < size:
            index = np.minimum(np.arange(size), rows - 1)
            part = part[index]
        parts.append(run(part)[:rows])
    return concatenate(parts)


def concatenate(parts: Sequence[Any]) -> Array:
    """Join arrays of one library along axis 0."""
    if isinstance(parts[0], np.ndarray):
        joined: npt.NDArray[Any] = np.concatenate(parts)
        return joined
    import torch

    return torch.cat(list(parts))
