"""The noise of attacks and training: counter-based, like that of certificates, on other streams."""

from __future__ import annotations

import torch

from tamis import _arrays, ops
from tamis.smoothing.identity import Stream

__all__ = ["BatchNoise"]


class BatchNoise:
    """Noise for one batch: copy j is the same whenever, and in whatever chunks, it is asked for.

    Parameters
    ----------
    x : tensor of shape (B, ...)
        Whose shape, device and dtype the noise gets.
    sigma : float
        Standard deviation, in input units.
    seed : int in [0, 2**64)
    step : int in [0, 2**32)
        Number of the batch. Every optimiser step of a training run has its own, so that no noise
        is ever seen twice.
    stream : Stream
        Noise of different streams is independent; certificates use none of those used here.

    Notes
    -----
    Element (j, b, e) is ``sigma * z(seed, step, stream, j, b * d + e)`` of
    ``tamis.gaussian_noise``: a function of its place, the same on every device. float64 gets the
    float32 values.
    """

    def __init__(
        self,
        x: torch.Tensor,
        sigma: float,
        *,
        seed: int,
        step: int = 0,
        stream: Stream = Stream.TRAINING,
    ) -> None:
        self.sigma = sigma
        self.seed = _arrays.check_int(seed, "seed", 0, 1 << 64)
        self.step = _arrays.check_int(step, "step", 0, 1 << 32)
        self.stream = stream
        self._dtype, self._device = x.dtype, x.device
        kind = torch.float32 if x.dtype == torch.float64 else x.dtype
        place = x.device if x.device.type in {"cpu", "cuda"} else "cpu"  # where the kernel writes
        self._zero = torch.zeros(x.shape, dtype=kind, device=place)

    def copies(self, start: int, count: int) -> torch.Tensor:
        """Noise of copies start, ..., start + count - 1: shape (count, B, ...)."""
        drawn = ops.gaussian_noise(
            self._zero,
            count,
            self.sigma,
            seed=self.seed,
            image=self.step,
            stream=int(self.stream),
            start=start,
        )
        noise: torch.Tensor = drawn.to(self._device, self._dtype)
        return noise
