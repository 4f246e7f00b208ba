"""Every kind of classifier behind one small interface.

The certification loop knows nothing about torch or ONNX.  It asks a `Classifier` for a buffer, lets
the noise kernel fill it, and hands it back for logits::

    x ── prepare ──► noise kernel ──► empty() buffer ──► [denoiser] ─► (b - mean) / std ─► logits

Without a denoiser the noise kernel normalises too, while the values are in registers: the loop
gives it the classifier's `mean` and `std`, and asks for ``logits(batch, normalized=True)``.

`as_classifier` makes one from a torch module, an ONNX file or session, a TorchScript or
ExportedProgram file, or any callable on a NumPy batch.  torch lives in `torch_model.py` and
onnxruntime in `onnx_model.py`: neither is imported before a model of its kind turns up.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from tamis import _arrays
from tamis._normalisation import normalisation
from tamis.smoothing.models import (
    Array,
    CallableModel,
    Model,
    PerformanceWarning,
    checked_logits,
    concatenate,
    may_share_memory,
)

__all__ = ["Array", "Classifier", "PerformanceWarning", "as_classifier"]

ONNX_SUFFIXES = (".onnx", ".ort")

# NumPy normalises in blocks, so that the second pass (divide) finds what the first one wrote in
# cache: 4.2 ms instead of 4.5 to 5 for 1000 x 3 x 32 x 32 float32 (one thread, 512 KiB of L2).
_BLOCK_BYTES = 1 << 18


@runtime_checkable
class Classifier(Protocol):
    """What the certification loop needs from a classifier."""

    num_classes: int | None
    """Number of logits where the model itself says so (an ONNX output shape), else None."""
    mean: npt.NDArray[np.float64] | None
    std: npt.NDArray[np.float64] | None
    """The first step of `logits` is ``(batch - mean) / std``, which the noise kernel can do in its
    place: arrays of shape () or (channels,).  Both None where that is not the first step."""

    def prepare(self, x: Any) -> Array:
        """Image(s) of the user as the noise kernel reads them: float32, C-contiguous, detached.

        NumPy, or a torch tensor on the model's device.  May share memory with ``x``: read only.
        """

    def empty(self, shape: tuple[int, ...]) -> Array:
        """Return an uninitialised buffer for noisy images, of the model's device and dtype."""

    def logits(self, batch: Array, *, normalized: bool = False) -> Array:
        """Classify noisy images ``(B, ...)``; ``batch`` is scratch and may be overwritten.

        ``normalized`` says that ``(batch - mean) / std`` has been done already.

        Returns ``(B, C)`` logits of a floating dtype, C-contiguous, NumPy or torch.
        """


def as_classifier(
    model: Any,
    *,
    mean: float | Sequence[float] | npt.ArrayLike | None = None,
    std: float | Sequence[float] | npt.ArrayLike | None = None,
    denoiser: Any = None,
    batch_limit: int | None = None,
    providers: Sequence[Any] | None = None,
    device: Any = None,
) -> Classifier:
    """Wrap a classifier of any supported kind.

    Parameters
    ----------
    model
        One of

        - ``torch.nn.Module`` (TorchScript too) or ``torch.export.ExportedProgram``: its device and
          dtype are followed, also when it is moved later; channels_last weights get channels_last
          batches; the caller's autocast holds; it runs in eval mode under ``inference_mode``, and
          the training mode of every submodule is restored afterwards;
        - the path of an ``.onnx`` file, or an ``onnxruntime.InferenceSession``; a batch dimension
          fixed in the file is freed where that provably changes nothing, else the model runs in
          chunks of that size, with a `PerformanceWarning`;
        - the path of a TorchScript or ExportedProgram file.  Files of pickled objects are refused.
          A model file is a program all the same: load only what you trust;
        - any callable from a float32 NumPy batch ``(B, ...)`` to ``(B, C)`` logits, NumPy or torch.
          Its argument is reused for the next batch: it may overwrite it and must not keep it.
    mean, std
        Numbers, or one number a channel (axis 1), in input units: the model sees
        ``(noisy - mean) / std``, in certification from the noise kernel (float32, rounded to the
        model's dtype once), else computed in its own dtype.  Noise is added before, so sigma is in
        input units.  A sequence of one number is that number.
    denoiser
        Model of any of these kinds, from a noisy batch to a clean batch of the same shape, in input
        units; it stands between the noise and the normalisation.
    batch_limit
        Largest number of rows handed over in one call; larger batches are split.
    providers
        For ONNX files: execution providers of onnxruntime, default ``["CPUExecutionProvider"]``.
    device
        For TorchScript and ExportedProgram files: where the model is put, default CPU.

    Returns
    -------
    Classifier
        ``num_classes`` is set where the model tells.  A `Classifier` given as ``model`` comes back
        as it is.

    Raises
    ------
    TypeError, ValueError
        For a model, mean, std or batch_limit that cannot work, with what was expected.
    ImportError
        Where torch or onnxruntime is needed and missing.

    Notes
    -----
    A model is expected to treat the rows of a batch independently.  Logits then depend on how rows
    are grouped only by the rounding of the model's own matrix products.
    """
    if batch_limit is not None:
        batch_limit = _arrays.check_int(batch_limit, "batch_limit", 1)
    files = [Path(part) for part in (model, denoiser) if isinstance(part, (str, os.PathLike))]
    onnx = [path.suffix.lower() in ONNX_SUFFIXES for path in files]
    if providers is not None and not any(onnx):
        raise ValueError(f"providers: expected None without an ONNX file, got {providers!r}")
    if device is not None and all(onnx):
        raise ValueError(
            f"device: expected None without a TorchScript or ExportedProgram file, got {device!r}; "
            f"a module is followed to its own device, an ONNX file is given providers"
        )
    normalise = None if mean is None and std is None else _Normalisation(mean, std)
    if isinstance(model, Classifier) and not _is_torch_module(model):
        if normalise is not None or denoiser is not None or batch_limit is not None:
            raise ValueError(
                "model: expected a plain model beside mean, std, denoiser or batch_limit, got a "
                "Classifier, which has its own"
            )
        return model
    classifier = _as_model(model, "model", providers, device)
    cleaner = None if denoiser is None else _as_model(denoiser, "denoiser", providers, device)
    return _Pipeline(classifier, cleaner, normalise, batch_limit)


def _as_model(model: Any, name: str, providers: Sequence[Any] | None, device: Any) -> Model:
    """Recognise what ``model`` is and wrap it; ``name`` is the argument named in messages."""
    if isinstance(model, (str, os.PathLike)):
        path = Path(model)
        if not path.is_file():
            raise FileNotFoundError(f"{name}: expected a model file, got {path}, which is none")
        if path.suffix.lower() in ONNX_SUFFIXES:
            from tamis.smoothing.onnx_model import OnnxModel

            return OnnxModel(path, name=name, providers=providers)
        from tamis.smoothing.torch_model import load_model_file

        return load_model_file(path, name=name, device=device)
    if _is_torch_module(model) or _is_exported_program(model):
        from tamis.smoothing.torch_model import TorchModel

        return TorchModel(model, name=name)
    if hasattr(model, "get_inputs") and hasattr(model, "run"):
        from tamis.smoothing.onnx_model import OnnxModel

        return OnnxModel(model, name=name, providers=providers)
    if isinstance(model, type) or not callable(model):
        hint = ""
        if hasattr(model, "predict_proba"):
            hint = f"; pass its method: {name}.predict_proba"
        elif isinstance(model, Mapping):
            hint = "; a state dict holds weights only: load it into its module first"
        raise TypeError(
            f"{name}: expected a torch module, an ONNX file or session, a TorchScript or "
            f"ExportedProgram file, or a callable on a NumPy batch, got {_describe(model)}{hint}"
        )
    return CallableModel(model, name)


def _is_torch_module(value: Any) -> bool:
    """Say whether ``value`` is a torch module, without importing torch: then it could not be."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def _is_exported_program(value: Any) -> bool:
    # By name: torch.export is slow to import, and whoever made one has imported it already.
    return any(
        base.__name__ == "ExportedProgram" and base.__module__.startswith("torch.export")
        for base in type(value).__mro__
    )


class _Normalisation:
    """``(batch - mean) / std`` with constants along axis 1, in the dtype of the batch."""

    def __init__(self, mean: Any, std: Any) -> None:
        self.mean, self.std = normalisation(mean, std)
        self._channels = max((c.size for c in (self.mean, self.std) if c.ndim), default=None)
        self._cache: dict[tuple[Any, ...], tuple[Any, Any]] = {}

    def apply(self, batch: Any, *, in_place: bool) -> Array:
        """Normalise ``(B, channels, ...)``; a new array unless ``in_place``."""
        if self._channels is not None and (batch.ndim < 2 or batch.shape[1] != self._channels):
            raise ValueError(
                f"mean, std: expected one number a channel (axis 1) of a batch of shape "
                f"{tuple(batch.shape)}, got {self._channels}"
            )
        mean, std = self._constants_like(batch)
        if not isinstance(batch, np.ndarray):
            tensor: Array = batch.sub_(mean).div_(std) if in_place else (batch - mean) / std
            return tensor
        out: npt.NDArray[Any] = batch if in_place else np.empty_like(batch)
        rows = max(1, _BLOCK_BYTES * len(batch) // max(1, batch.nbytes))
        for start in range(0, len(batch), rows):
            part = out[start : start + rows]
            np.subtract(batch[start : start + rows], mean, out=part)
            np.divide(part, std, out=part)
        return out

    def _constants_like(self, batch: Any) -> tuple[Any, Any]:
        """Mean and std in the dtype, on the device and with the axes of ``batch``."""
        key = (batch.dtype, getattr(batch, "device", None), batch.ndim)
        if key not in self._cache:
            shape = (-1,) + (1,) * (batch.ndim - 2)
            mean, std = (c.reshape(shape) if c.ndim else c for c in (self.mean, self.std))
            pair: tuple[Any, Any] = (mean, std)
            if isinstance(batch, np.ndarray):
                pair = (mean.astype(batch.dtype), std.astype(batch.dtype))
            else:
                pair = (batch.new_tensor(mean), batch.new_tensor(std))
            if not bool((pair[1] > 0).all()):
                raise ValueError(f"std: expected numbers > 0 in {batch.dtype}, got {self.std}")
            self._cache[key] = pair
        return self._cache[key]


class _Pipeline:
    """Denoiser, normalisation and model, one after the other: the `Classifier` handed out."""

    def __init__(
        self,
        model: Model,
        denoiser: Model | None,
        normalise: _Normalisation | None,
        batch_limit: int | None,
    ) -> None:
        self._model = model
        self._denoiser = denoiser
        self._first = model if denoiser is None else denoiser
        self._normalise = normalise
        self._batch_limit = batch_limit
        self.num_classes = model.num_classes
        first = normalise if denoiser is None else None
        self.mean = None if first is None else first.mean
        self.std = None if first is None else first.std

    def prepare(self, x: Any) -> Array:
        return self._first.prepare(x)

    def empty(self, shape: tuple[int, ...]) -> Array:
        return self._first.empty(shape)

    def logits(self, batch: Array, *, normalized: bool = False) -> Array:
        if normalized and self.mean is None:
            raise ValueError(
                "normalized: expected False, got True: no mean and std, or a denoiser before them"
            )
        if len(batch) == 0:
            raise ValueError("batch: expected at least one image, got none")
        size = self._batch_limit or len(batch)
        parts = [
            self._logits(batch[start : start + size], normalized)
            for start in range(0, len(batch), size)
        ]
        return parts[0] if len(parts) == 1 else concatenate(parts)

    def _logits(self, batch: Array, normalized: bool) -> Array:
        mine = True  # is `batch` the caller's scratch or a copy of ours, free to be overwritten?
        if self._denoiser is not None:
            clean = self._denoiser.forward(self._denoiser.accept(batch))
            if tuple(clean.shape) != tuple(batch.shape):
                raise ValueError(
                    f"denoiser: expected an output of the shape of its input "
                    f"{tuple(batch.shape)}, got {tuple(clean.shape)}"
                )
            batch = self._model.accept(clean)
            mine = not may_share_memory(batch, clean)  # a denoiser may keep what it returns
        else:
            batch = self._model.accept(batch)
        if self._normalise is not None and not normalized:
            batch = self._normalise.apply(batch, in_place=mine)
        return checked_logits(self._model.forward(batch), self._model.name)


def _describe(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__} (an instance is needed)"
    return f"{type(value).__module__}.{type(value).__qualname__}"
