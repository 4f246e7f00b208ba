"""Small networks to train, and any other by its import name."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence

import torch
from torch import nn

from tamis import _arrays

__all__ = ["build", "last_layer", "mlp", "small_cnn"]


def small_cnn(shape: Sequence[int], num_classes: int) -> nn.Sequential:
    """Two strided convolutions and two linear layers: 110k weights on 1 x 28 x 28.

    Parameters
    ----------
    shape : (C, H, W)
        Of an image, at least 4 x 4 pixels.
    num_classes : int
    """
    channels, height, width = _shape(shape)
    if min(height, width) < 4:
        raise ValueError(f"shape: expected at least 4 x 4 pixels, got {height} x {width}")
    # a 4 x 4 kernel with stride 2 and padding 1 halves the picture
    return nn.Sequential(
        nn.Conv2d(channels, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * (height // 4) * (width // 4), 64),
        nn.ReLU(),
        nn.Linear(64, num_classes),
    )


def mlp(shape: Sequence[int], num_classes: int, hidden: int = 128) -> nn.Sequential:
    """One hidden layer.

    Parameters
    ----------
    shape : sequence of int
        Of an image.
    num_classes, hidden : int
    """
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(math.prod(_sizes(shape)), hidden),
        nn.ReLU(),
        nn.Linear(hidden, num_classes),
    )


def build(name: str, shape: Sequence[int], num_classes: int, *, seed: int = 0) -> nn.Module:
    """A network by name, its weights decided by the seed.

    Parameters
    ----------
    name : str
        ``"small_cnn"``, ``"mlp"``, or ``"package.module:function"`` for a function of
        (shape, num_classes) that returns a module.
    shape : sequence of int
        Of an image.
    num_classes : int
    seed : int in [0, 2**63)
        torch's own generator is as before afterwards.

    Raises
    ------
    ValueError
        If there is no such function.
    """
    known = {"small_cnn": small_cnn, "mlp": mlp}
    if name in known:
        make = known[name]
    else:
        module, colon, function = name.partition(":")
        if not colon:
            raise ValueError(
                f"name: expected 'small_cnn', 'mlp' or 'package.module:function', got {name!r}"
            )
        try:
            make = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError) as error:
            raise ValueError(f"name: expected an importable function, got {name!r}: {error}") from (
                error
            )
    seed = _arrays.check_int(seed, "seed", 0, 1 << 63)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make(shape, _arrays.check_int(num_classes, "num_classes", 2))
    if not isinstance(model, nn.Module):
        raise ValueError(f"name: expected a function that returns a module, got {name!r}")
    return model


def last_layer(model: nn.Module) -> tuple[str, nn.Linear]:
    """Name and module of the last linear layer, in the order of registration."""
    found = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear)]
    if not found:
        raise ValueError("model: expected a linear layer at its end, got none")
    return found[-1]


def _sizes(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(_arrays.check_int(size, "shape", 1) for size in shape)


def _shape(shape: Sequence[int]) -> tuple[int, int, int]:
    sizes = _sizes(shape)
    if len(sizes) != 3:
        raise ValueError(f"shape: expected (C, H, W), got {sizes}")
    return sizes[0], sizes[1], sizes[2]
