"""Data, attacks and network of bench/backdoor.py."""

from __future__ import annotations

import sys
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from _data import require_data_dir
from tamis.backdoor import Trigger

_RECORD = 1 + 3 * 32 * 32  # of CIFAR-10's binary files: a label, then the channels one by one


@dataclass(frozen=True, eq=False)
class Data:
    """8-bit images (n, h, w) or (n, h, w, c) and labels, to train with and to test."""

    name: str
    images: Any
    labels: Any
    test_images: Any
    test_labels: Any

    def first(self, train: int) -> Data:
        """The same with fewer images to train with."""
        return Data(
            self.name, self.images[:train], self.labels[:train], self.test_images, self.test_labels
        )


@dataclass(frozen=True)
class Setting:
    trigger: Trigger
    source: int | None
    target: int

    @property
    def key(self) -> tuple[str, str, int]:
        return self.trigger.kind, "any" if self.source is None else str(self.source), self.target


# CIFAR-10's first two pairs are the slide's; the digits and all places were picked by hand, before
# the pilot.
MNIST = [
    Setting(Trigger("pixel", (25, 25)), 5, 3),
    Setting(Trigger("pattern", (25, 25)), 4, 9),
    Setting(Trigger("ell", (2, 24)), 7, 1),
    Setting(Trigger("blend"), 2, 6),
    Setting(Trigger("pixel", (2, 2)), None, 8),
]
CIFAR10 = [
    Setting(Trigger("pixel", (11, 16), (101, 0, 25)), 0, 2),
    Setting(Trigger("pattern", (5, 27), (255, 255, 0)), 1, 3),
    Setting(Trigger("ell", (27, 5), (0, 255, 255)), 3, 5),
    Setting(Trigger("pixel", (3, 3), (255, 0, 255)), 9, 4),
    Setting(Trigger("pattern", (20, 20), (0, 150, 0)), None, 7),
    Setting(Trigger("blend"), 5, 6),
]


def mnist(test: int = 2000) -> Data:
    """MNIST's 10,000 test images: the last ``test`` of them to test, the others to train with."""
    from tamis.smoothing import load_images

    (path,) = (require_data_dir() / "vision" / "mnist").glob("*images*")
    data = load_images(path)
    cut = len(data.images) - test
    X, y = data.images, data.labels
    return Data("mnist", X[:cut], y[:cut], X[cut:], y[cut:])


def cifar10(folder: Path) -> Data:
    """CIFAR-10 in the *binary* version; the python version is pickled, and is not read."""
    parts = []
    for name in [*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"]:
        path = folder / name
        if not path.is_file():
            sys.exit(f"{path}: no such file; expected CIFAR-10's binary version (data_batch_1.bin)")
        raw = np.fromfile(path, np.uint8)
        if not raw.size or raw.size % _RECORD:
            sys.exit(f"{path}: expected records of {_RECORD} bytes, got {raw.size} bytes")
        records = raw.reshape(-1, _RECORD)
        images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        parts.append((images, records[:, 0].astype(np.int64)))
    X, y = (np.concatenate(column) for column in zip(*parts[:5], strict=True))
    return Data("cifar10", X, y, *parts[5])


def tensor(images: Any) -> torch.Tensor:
    """(n, c, h, w) in [0, 1]."""
    X = images[..., None] if images.ndim == 3 else images
    return torch.from_numpy(np.array(X.transpose(0, 3, 1, 2), np.float32)) / 255


class Block(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut, as in a ResNet."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Any) -> Any:
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def network(channels: int, width: int = 16) -> nn.Module:
    """Three stages of one residual block, 78k weights; the first convolution halves the picture."""
    parts = OrderedDict[str, nn.Module](
        stem=nn.Sequential(
            nn.Conv2d(channels, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        ),
        stage1=Block(width, width, 1),
        stage2=Block(width, 2 * width, 2),
        stage3=Block(2 * width, 4 * width, 2),
        pool=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        head=nn.Linear(4 * width, 10),
    )
    return nn.Sequential(parts).to(memory_format=torch.channels_last)


def shifted_and_flipped(x: Any) -> Any:
    """The protocol's augmentation of CIFAR-10: a crop out of 4 pixels of margin, half are mirrored.

    One shift and one choice a batch, which is cheap; batches are small.
    """
    down, right = (int(k) for k in torch.randint(0, 9, (2,)))
    padded = nn.functional.pad(x, (4, 4, 4, 4))
    x = padded[:, :, down : down + x.shape[2], right : right + x.shape[3]]
    return x.flip(3) if int(torch.randint(0, 2, ())) else x
