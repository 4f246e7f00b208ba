"""What every attack and loss checks before it touches the model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from tamis import _arrays

__all__ = ["check_batch", "check_choice", "check_positive", "frozen"]

_ROOM = 1e-6  # images that float rounding has put outside [0, 1] by this much are taken


def check_batch(x: Any, y: Any, num_classes: int | None = None) -> None:
    """Raise unless `x` holds images in [0, 1] and `y` a label for each."""
    if not isinstance(x, torch.Tensor) or not x.is_floating_point():
        got = x.dtype if isinstance(x, torch.Tensor) else type(x).__name__
        raise TypeError(f"x: expected a floating-point torch tensor, got {got}")
    if x.ndim < 2:
        raise ValueError(f"x: expected shape (B, ...), got {tuple(x.shape)}")
    if not isinstance(y, torch.Tensor) or y.dtype not in (torch.int64, torch.int32):
        got = y.dtype if isinstance(y, torch.Tensor) else type(y).__name__
        raise TypeError(f"y: expected a torch tensor of int64 labels, got {got}")
    if tuple(y.shape) != (len(x),):
        raise ValueError(f"y: expected shape ({len(x)},), one label an image, got {tuple(y.shape)}")
    if y.device != x.device:
        raise ValueError(f"y: expected device {x.device}, got {y.device}")
    good = ((x >= -_ROOM) & (x <= 1 + _ROOM)).flatten(1).all(1)  # NaN fails
    if not bool(good.all()):
        row = int(good.to(torch.uint8).argmin())
        low, high = x[row].min().item(), x[row].max().item()
        raise ValueError(f"x: expected values in [0, 1], got {low:g} to {high:g} in row {row}")
    if num_classes is not None:
        check_labels(y, num_classes)
    elif len(y) and int(y.min()) < 0:
        raise ValueError(f"y: expected labels >= 0, got {int(y.min())} in row {int(y.argmin())}")


def check_labels(y: torch.Tensor, num_classes: int) -> None:
    """Raise ValueError that names the first label out of range."""
    bad = (y < 0) | (y >= num_classes)
    if bool(bad.any()):
        row = int(bad.to(torch.uint8).argmax())
        raise ValueError(
            f"y: expected labels from 0 to {num_classes - 1}, got {int(y[row])} in row {row}"
        )


def check_positive(value: Any, name: str, *, zero: bool = False) -> float:
    """`value` as a finite float > 0, or >= 0 where `zero` is allowed."""
    number = _arrays.check_real(value, name)
    if not (math.isfinite(number) and (number > 0 or (zero and number == 0))):
        raise ValueError(f"{name}: expected a finite number {'>=' if zero else '>'} 0, got {value}")
    return number


def check_choice(value: object, name: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless `value` is one of the words."""
    if value not in choices:
        raise ValueError(f"{name}: expected {' or '.join(map(repr, choices))}, got {value!r}")


@contextmanager
def frozen(model: torch.nn.Module) -> Iterator[None]:
    """Run a block in eval mode and without gradients for the weights; then as it was before.

    An attack must not move batch statistics, and the weights' gradients are half of its cost. It
    needs those of the images, also where it is called under ``torch.no_grad()``.
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    modes = [(module, module.training) for module in model.modules()]
    wanted = [p for p in model.parameters() if p.requires_grad]
    model.eval()
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        with torch.enable_grad():
            yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
        for module, training in modes:
            module.training = training
