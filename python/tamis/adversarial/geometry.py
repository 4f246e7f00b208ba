"""Steps and projections: what a perturbation is normalised with, and where it has to stay."""

from __future__ import annotations

import torch

from tamis.adversarial.noise import BatchNoise
from tamis.smoothing.identity import Stream

__all__ = ["lengths", "project", "steepest"]


def lengths(delta: torch.Tensor) -> torch.Tensor:
    """l2 norm of every image's perturbation, in a shape that broadcasts against it."""
    wide = delta if delta.dtype == torch.float64 else delta.float()
    norms: torch.Tensor = wide.flatten(1).norm(dim=1).reshape(-1, *[1] * (delta.ndim - 1))
    return norms.to(delta.dtype)


def steepest(
    direction: torch.Tensor, norm: str, *, seed: int, step: int, draw: int
) -> torch.Tensor:
    """The unit step along which the loss rises most; a random one where the gradient is zero.

    A zero (or NaN) gradient says nothing, and an attack that stood still there would call a
    network robust that only hides its gradient. `draw` numbers the random directions of an attack.
    """
    size = lengths(direction)
    lost = ~(size > 0)
    if bool(lost.any()):
        noise = BatchNoise(direction, 1.0, seed=seed, step=step, stream=Stream.ATTACK)
        direction = torch.where(lost, noise.copies(draw, 1)[0], direction)
        size = lengths(direction)
    return direction.sign() if norm == "linf" else direction / size


def project(x: torch.Tensor, delta: torch.Tensor, epsilon: float, norm: str) -> torch.Tensor:
    """`delta` within the box (x + delta in [0, 1]) and the ball, both at once.

    First the box, then the ball: the ball's projection shrinks `delta` towards 0, which cannot
    leave the box because x lies in it.
    Source: [Salman19], the published attack. Not always the nearest point of the intersection.
    """
    if norm == "linf":
        delta = delta.clamp(-epsilon, epsilon)
    delta = (x + delta).clamp(0, 1) - x
    if norm == "l2":
        size = lengths(delta)
        delta = delta * (epsilon / size.clamp_min(torch.finfo(x.dtype).tiny)).clamp_max(1.0)
    return delta
