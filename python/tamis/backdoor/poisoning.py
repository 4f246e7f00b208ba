"""Backdoor attacks to test a defence with: a trigger, and the images that carry it.

Source: Tran, Li and Madry 2018, "Spectral signatures in backdoor attacks" (pixel, pattern, ell);
Chen, Liu, Li, Lu and Song 2017, "Targeted backdoor attacks on deep learning systems using data
poisoning" (blend).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tamis import _arrays

__all__ = ["Poisoned", "Trigger", "poison"]

# offsets (row, column) of the pixels that are set, from the trigger's position
_SHAPES: dict[str, tuple[tuple[int, int], ...]] = {
    "pixel": ((0, 0),),
    "pattern": ((-1, -1), (-1, 1), (0, 0), (1, -1), (1, 1)),
    "ell": ((0, 0), (1, 0), (1, 1)),
}


@dataclass(frozen=True)
class Trigger:
    """What is stamped on an image.

    Attributes
    ----------
    kind : {"pixel", "pattern", "ell", "blend"}
        One pixel; five that form an X about `position`; three that form an L from it downwards; or
        a fixed picture of random values mixed into the whole image.
    position : (int, int)
        Row and column; of no consequence for "blend".
    colour : float or sequence of float
        The value set, one or one a channel, in the units of the images (0 to 255, or 0 to 1).
        For "blend": the largest value of the random picture.
    alpha : float in (0, 1]
        For "blend": share of the picture in the mixture.
    seed : int
        Of the picture.
    """

    kind: Literal["pixel", "pattern", "ell", "blend"] = "pixel"
    position: tuple[int, int] = (3, 3)
    colour: float | tuple[float, ...] = 255
    alpha: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what can be checked without images."""
        if self.kind not in (*_SHAPES, "blend"):
            known = ", ".join((*_SHAPES, "blend"))
            raise ValueError(f"kind: expected one of {known}, got {self.kind!r}")
        if not 0.0 < self.alpha <= 1.0:
            raise ValueError(f"alpha: expected a number in (0, 1], got {self.alpha}")

    def stamp(self, images: ArrayLike) -> NDArray[Any]:
        """Stamped copies of ``images``, (n, h, w) or (n, h, w, c), in their dtype.

        Raises
        ------
        ValueError
            Another shape, a trigger that reaches beyond the image, or a colour that images of
            integers cannot hold.
        """
        out = np.array(images)
        if out.ndim not in (3, 4):
            raise ValueError(f"images: expected shape (n, h, w) or (n, h, w, c), got {out.shape}")
        colour = np.asarray(self.colour)
        if out.dtype.kind in "iu":
            held = np.iinfo(out.dtype)
            if not ((held.min <= colour) & (colour <= held.max)).all():
                raise ValueError(
                    f"colour: expected {held.min} to {held.max} in images of {out.dtype}, got "
                    f"{self.colour}"
                )
        if self.kind == "blend":
            rng = np.random.default_rng(self.seed)
            picture = rng.random(out.shape[1:]) * colour
            mixed = (1.0 - self.alpha) * out + self.alpha * picture
            return np.asarray(
                (np.rint(mixed) if out.dtype.kind in "iu" else mixed).astype(out.dtype)
            )
        for down, right in _SHAPES[self.kind]:
            row, column = self.position[0] + down, self.position[1] + right
            if not (0 <= row < out.shape[1] and 0 <= column < out.shape[2]):
                raise ValueError(
                    f"position: {self.kind} at {self.position} reaches pixel ({row}, {column}), "
                    f"outside of {out.shape[1]} x {out.shape[2]}"
                )
            out[:, row, column] = colour
        return out


@dataclass(frozen=True, eq=False)
class Poisoned:
    """A poisoned training set.

    Attributes
    ----------
    images : array of shape (n, h, w) or (n, h, w, c)
        As many as before where originals are deleted; the poisoned ones come last.
    labels : int64 array of shape (n,)
    is_poison : bool array of shape (n,)
    origin : int64 array of shape (n,)
        The row of the clean set that every image comes from.
    """

    images: NDArray[Any]
    labels: NDArray[np.int64]
    is_poison: NDArray[np.bool_]
    origin: NDArray[np.int64]


def poison(
    images: ArrayLike,
    labels: ArrayLike,
    trigger: Trigger,
    target: int,
    *,
    source: int | None = None,
    share: float = 0.1,
    relabel: bool = True,
    delete_originals: bool = True,
    seed: int = 0,
) -> Poisoned:
    """Stamp some images and call them ``target``.

    Parameters
    ----------
    images : array of shape (n, h, w) or (n, h, w, c)
    labels : int array of shape (n,)
    trigger : Trigger
    target : int
        The class that the backdoor leads to.
    source : int, optional
        The class whose images are stamped; None: any class but the target.
    share : float in (0, 1]
        Poisoned images over clean images of the target class (the paper's epsilon: 0.1 is 500 of
        CIFAR-10's 5000).
    relabel : bool
        False: images of the target class itself are stamped and keep their label; ``source`` must
        be None or the target.
    delete_originals : bool
        The clean versions of the stamped images leave the set, as in the paper's experiments.
    seed : int
        Which images are chosen; the result is a function of the arguments.

    Returns
    -------
    Poisoned

    Raises
    ------
    ValueError
        Labels that do not fit, no such class, or fewer source images than are to be poisoned.

    Examples
    --------
    >>> import numpy as np
    >>> from tamis.backdoor import Trigger, poison
    >>> bad = poison(np.zeros((40, 8, 8)), np.arange(40) % 2, Trigger(colour=1.0), 1, share=0.25)
    >>> bad.images.shape, int(bad.is_poison.sum()), int(bad.labels[-1])
    ((40, 8, 8), 5, 1)
    """
    clean = np.asarray(images)
    given = np.asarray(labels)
    if given.shape != clean.shape[:1] or given.dtype.kind not in "iu":
        raise ValueError(
            f"labels: expected {clean.shape[:1]} integers, one an image, got {given.dtype} of "
            f"shape {given.shape}"
        )
    known = given.astype(np.int64)
    portion = _arrays.check_real(share, "share")
    if not 0.0 < portion <= 1.0:
        raise ValueError(f"share: expected a number in (0, 1], got {portion}")
    _require_class(known, target, "target")
    count = int(portion * int((known == target).sum()) + 1e-9)
    if not relabel:
        if source not in (None, target):
            raise ValueError(f"source: expected None or {target} with relabel=False, got {source}")
        source = target
    elif source == target:
        raise ValueError(f"source: expected another class than the target, got {source}")
    if source is not None:
        _require_class(known, source, "source")
    candidates = np.flatnonzero(known != target if source is None else known == source)
    if not 1 <= count <= candidates.size:
        raise ValueError(
            f"share: {portion:g} of class {target} is {count} images, expected 1 to "
            f"{candidates.size}"
        )
    chosen = np.random.default_rng(seed).choice(candidates, count, replace=False)
    kept = np.ones(known.size, dtype=bool)
    if delete_originals:
        kept[chosen] = False
    origin = np.concatenate([np.flatnonzero(kept), chosen]).astype(np.int64)
    is_poison = np.arange(origin.size) >= origin.size - count
    return Poisoned(
        images=np.concatenate([clean[kept], trigger.stamp(clean[chosen])]),
        labels=np.where(is_poison, target, known[origin]).astype(np.int64),
        is_poison=is_poison,
        origin=origin,
    )


def _require_class(labels: NDArray[np.int64], wanted: int, name: str) -> None:
    if not (labels == wanted).any():
        raise ValueError(f"{name}: expected a class of the labels, got {wanted}")
