"""Labelled images from files.

`array_files.py` reads the bytes; here they become images: which array, which axis, which scale.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tamis.smoothing.array_files import file_kind, map_npy, npz_members, read_idx, read_npz_member

__all__ = ["ImageSet", "load_images"]

_Pathlike: TypeAlias = "str | os.PathLike[str]"

# Names under which images and labels are met together; the first complete pair wins.
_KEYS = (
    ("X", "y"),
    ("x", "y"),
    ("images", "labels"),
    ("data", "labels"),
    ("X_test", "y_test"),
    ("x_test", "y_test"),
    ("test_images", "test_labels"),
)
_LAYOUTS = ("NHWC", "NCHW", "NHW")
_CHANNELS = (1, 3, 4)
_CHECK_BYTES = 1 << 26  # float images are checked in pieces of this size


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images; each one is converted when it is asked for.

    ``len(images)`` is their number, ``images[i]`` the i-th as a C-contiguous float32 array
    ``(C, H, W)`` in [0, 1], a fresh copy; 8-bit values are divided by 255 in float32.

    Attributes
    ----------
    images
        The stored array, uint8 or floating: ``(N, H, W, C)``, ``(N, C, H, W)`` or ``(N, H, W)``.
    labels
        int64 array ``(N,)``, all >= 0.
    layout
        ``"NHWC"``, ``"NCHW"`` or ``"NHW"``.
    scaled
        Whether values are divided by 255 on access (8-bit images).
    """

    images: npt.NDArray[Any]
    labels: npt.NDArray[np.int64]
    layout: str
    scaled: bool

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def __getitem__(self, index: int) -> npt.NDArray[np.float32]:
        """Return image ``index`` (negative: from the end) as float32 ``(C, H, W)`` in [0, 1]."""
        if isinstance(index, bool) or not isinstance(index, (int, np.integer)):
            raise TypeError(f"index: expected an integer, got {type(index).__name__}")
        if not -len(self) <= index < len(self):
            raise IndexError(f"index: expected one of {len(self)} images, got {index}")
        image = self.images[index]
        if self.layout == "NHWC":
            image = np.moveaxis(image, -1, 0)
        elif self.layout == "NHW":
            image = image[np.newaxis]
        out: npt.NDArray[np.float32] = np.array(image, np.float32, order="C")
        if self.scaled:
            out /= np.float32(255)
        return out

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(C, H, W)`` of every image."""
        sizes = self.images.shape[1:]
        if self.layout == "NHW":
            return (1, sizes[0], sizes[1])
        if self.layout == "NHWC":
            return (sizes[2], sizes[0], sizes[1])
        return (sizes[0], sizes[1], sizes[2])


def load_images(
    path: _Pathlike,
    *,
    layout: str | None = None,
    labels: _Pathlike | npt.ArrayLike | None = None,
) -> ImageSet:
    """Read labelled images from a file.

    Parameters
    ----------
    path
        - ``.npz`` with images and labels under one of the pairs of names X y, x y, images labels,
          data labels, X_test y_test, x_test y_test, test_images test_labels;
        - ``.npy`` with images (mapped, not read), labels apart;
        - an idx file as of MNIST, ``.gz`` or not; its labels are found by the naming rule of MNIST
          (``...images...idx3...`` beside ``...labels...idx1...``) or given.
    layout
        ``"NHWC"``, ``"NCHW"`` or, without a channel axis, ``"NHW"``.  By default the axis of size
        1, 3 or 4 is the channel axis; where both could be, or none, this must be given.
    labels
        Labels, or the path of an ``.npy``, ``.npz`` (one array, or one named as above) or idx file
        with them.  Overrides labels found in ``path``.

    Returns
    -------
    ImageSet

    Raises
    ------
    ValueError
        With the file's name: for a file that is truncated, corrupt, suspiciously compressed,
        compressed pictures (JPEG) or of no known kind; for an ambiguous layout; for images other
        than uint8 or floats in [0, 1], naming the first bad image; for labels missing, of another
        number than the images, or not whole numbers >= 0; for no images at all.
    OSError
        Where a file cannot be opened.
    """
    path = Path(path)
    if layout is not None and (not isinstance(layout, str) or layout.upper() not in _LAYOUTS):
        raise ValueError(f"layout: expected one of {', '.join(_LAYOUTS)} or None, got {layout!r}")
    images, found, source = _read(path, want_labels=labels is None)
    layout = _layout(path, images.shape, None if layout is None else layout.upper())
    _check_values(path, images)
    if isinstance(labels, (str, os.PathLike)):
        found, source = _read_labels(Path(labels)), str(labels)
    elif labels is not None:
        found, source = np.asarray(labels), "labels"
    if found is None:
        raise ValueError(
            f"{path}: expected labels beside the images, got none; give them with labels= "
            "(--labels)"
        )
    return ImageSet(
        images=images,
        labels=_check_labels(source, found, len(images)),
        layout=layout,
        scaled=images.dtype == np.uint8,
    )


def _read(
    path: Path, *, want_labels: bool
) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None, str]:
    """Return images, labels where wanted and there, and the file that the labels are from."""
    kind = file_kind(path)
    if kind == "npy":
        return map_npy(path), None, str(path)
    if kind == "idx":
        images = read_idx(path)
        if not want_labels:
            return images, None, str(path)
        beside = _mnist_labels(path)
        return images, read_idx(beside), str(beside)
    arrays = npz_members(path)
    if {"jpeg", "offset"} <= set(arrays):
        raise ValueError(
            f"{path}: expected pixels, got compressed JPEG pictures (arrays jpeg and offset); "
            f"decode them first and save an array (N, H, W, C) of dtype uint8 as X"
        )
    pairs = [pair for pair in _KEYS if pair[0] in arrays]
    if not pairs:
        raise ValueError(
            f"{path}: expected images and labels under X and y (or x y, images labels, "
            f"x_test y_test), got arrays {sorted(arrays)}"
        )
    pairs.sort(key=lambda pair: pair[1] not in arrays)  # stable: complete pairs come first
    x, y = pairs[0]
    images = read_npz_member(path, arrays[x])
    wanted = want_labels and y in arrays
    return images, read_npz_member(path, arrays[y]) if wanted else None, str(path)


def _read_labels(path: Path) -> npt.NDArray[Any]:
    kind = file_kind(path)
    if kind == "npy":
        return map_npy(path)
    if kind == "idx":
        return read_idx(path)
    arrays = npz_members(path)
    names = [name for name in dict.fromkeys(y for _, y in _KEYS) if name in arrays]
    if not names and len(arrays) == 1:
        names = list(arrays)
    if not names:
        raise ValueError(f"{path}: expected labels under y or labels, got arrays {sorted(arrays)}")
    return read_npz_member(path, arrays[names[0]])


def _mnist_labels(path: Path) -> Path:
    """Return the label file that belongs to an idx image file by MNIST's naming rule."""
    name = path.name.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")
    plain = name.removesuffix(".gz")
    tried = [path.with_name(n) for n in dict.fromkeys((name, plain, f"{plain}.gz"))]
    for candidate in tried:
        if candidate != path and candidate.is_file():
            return candidate
    raise ValueError(
        f"{path}: expected its labels in {' or '.join(t.name for t in tried)} beside it, got no "
        f"such file; give it with labels= (--labels)"
    )


def _layout(path: Path, shape: Sequence[int], told: str | None) -> str:
    if len(shape) == 3 and told in (None, "NHW"):
        return "NHW"
    if len(shape) == 4 and told in ("NHWC", "NCHW"):
        return told
    if len(shape) != 4 or told is not None:
        raise ValueError(
            f"{path}: expected images {told or '(N, H, W), (N, H, W, C) or (N, C, H, W)'}, got "
            f"shape {tuple(shape)}"
        )
    last, second = shape[3] in _CHANNELS, shape[1] in _CHANNELS
    if last == second:
        why = "both axes could be the channels" if last else "no axis has 1, 3 or 4 channels"
        raise ValueError(
            f"{path}: expected shape (N, H, W, C) or (N, C, H, W), got {tuple(shape)}, where "
            f"{why}; say which with layout='NHWC' or layout='NCHW' (--layout)"
        )
    return "NHWC" if last else "NCHW"


def _check_values(path: Path, images: npt.NDArray[Any]) -> None:
    """Refuse images that are neither uint8 nor floats in [0, 1], naming the first bad one."""
    if images.dtype == np.uint8:
        return
    if images.dtype.kind != "f":
        hint = ""
        if images.dtype.kind in "iu":
            hint = "; where the values are 0..255, convert: X.astype('uint8')"
        raise ValueError(
            f"{path}: expected images as uint8 or as floats in [0, 1], got {images.dtype}{hint}"
        )
    step = max(1, _CHECK_BYTES * len(images) // images.nbytes)
    for start in range(0, len(images), step):
        part = images[start : start + step]
        # NaN fails both comparisons, so one test finds every kind of bad value.
        good = ((part >= 0) & (part <= 1)).reshape(len(part), -1).all(axis=1)
        if not good.all():
            first = int(np.argmin(good))
            _refuse_image(path, start + first, part[first])


def _refuse_image(path: Path, index: int, image: npt.NDArray[Any]) -> None:
    missing = np.argwhere(~np.isfinite(image))
    if len(missing):
        at = tuple(int(i) for i in missing[0])
        raise ValueError(
            f"{path}: expected floats in [0, 1], got {float(image[at])} in image {index} at {at}"
        )
    low, high = float(image.min()), float(image.max())
    if low >= 0 and high <= 255:
        hint = "if these are 0..255, store them as uint8 or divide by 255"
    else:
        hint = "if these are normalised, undo that here and give mean and std to the classifier"
    raise ValueError(
        f"{path}: expected floats in [0, 1], got {low:.6g} to {high:.6g} in image {index}; {hint}"
    )


def _check_labels(source: str, labels: npt.NDArray[Any], count: int) -> npt.NDArray[np.int64]:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]  # a column, as some collections store them
    if labels.shape != (count,):
        hint = ""
        if labels.ndim == 2 and len(labels) == count:
            hint = "; where these are one-hot rows, give labels.argmax(axis=1)"
        raise ValueError(
            f"{source}: expected {count} labels, one an image, got shape {labels.shape}{hint}"
        )
    if labels.dtype.kind not in "iuf":
        raise ValueError(f"{source}: expected whole numbers as labels, got {labels.dtype}")
    # 2^31 is far past any number of classes and keeps the conversion from float exact.
    bad = ~((labels >= 0) & (labels < 2**31) & (labels == np.floor(labels)))
    if bad.any():
        first = int(np.argmax(bad))
        raise ValueError(
            f"{source}: expected whole numbers >= 0 as labels, got {labels[first]} for image "
            f"{first}"
        )
    return labels.astype(np.int64)
