"""Attacks on a network and on its smoothed version: projected gradient ascent.

Images lie in [0, 1] and epsilon is in the same units. `ddn.py` has the attack that looks for the
nearest wrong point.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import torch

from tamis import _arrays
from tamis.adversarial._checks import check_batch, check_choice, check_positive, frozen
from tamis.adversarial.geometry import project, steepest
from tamis.adversarial.noise import BatchNoise
from tamis.adversarial.objective import Evaluation, evaluate
from tamis.smoothing.identity import Stream

__all__ = ["EOTPGD", "PGD", "Attack", "SmoothAdvPGD", "eot_pgd", "pgd", "smooth_adv_pgd"]

_NORMS = ("l2", "linf")


def pgd(
    model: torch.nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    epsilon: float,
    steps: int = 10,
    norm: str = "l2",
    step_size: float | None = None,
    random_start: bool = False,
    targeted: bool = False,
    seed: int = 0,
) -> torch.Tensor:
    """Projected gradient ascent on the cross-entropy of a network.

    Parameters
    ----------
    model : torch.nn.Module
        Gives logits (B, C). It is attacked in eval mode and left as it was.
    x : floating tensor of shape (B, ...), in [0, 1]
    y : int64 tensor of shape (B,)
        True classes, or those to reach where `targeted`.
    epsilon : float
        Radius of the ball, in the units of `x`; 0 returns `x`.
    steps : int
    norm : "l2" or "linf"
    step_size : float, optional
        Default ``2 * epsilon / steps``.
    random_start : bool
        Begin at a random point of the ball (of its surface for l2).
    targeted : bool
    seed : int in [0, 2**64)
        Of the random start and of steps where the gradient is zero.

    Returns
    -------
    tensor like x
        In the ball and in [0, 1], up to rounding. The same bits for the same arguments, as far as
        the network's are.

    Raises
    ------
    TypeError, ValueError
        For arguments out of contract; the message names the argument and the row.

    Notes
    -----
    Source: Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR
    2018.
    """
    check_batch(x, y)
    return _ascend(
        lambda at, _: evaluate(model, at, y, None),
        model,
        x,
        epsilon=epsilon,
        steps=steps,
        norm=norm,
        step_size=step_size,
        random_start=random_start,
        targeted=targeted,
        seed=seed,
    )


def smooth_adv_pgd(
    model: torch.nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    epsilon: float,
    steps: int,
    sigma: float,
    num_noise: int,
    seed: int,
    norm: str = "l2",
    step_size: float | None = None,
    random_start: bool = False,
    targeted: bool = False,
    direction: str = "gradient",
    objective: str = "smoothed",
    chunk: int | None = None,
    step: int = 0,
    stream: Stream = Stream.TRAINING,
) -> torch.Tensor:
    """Adversarial images for the smoothed classifier: ascent on ``-log mean_j F(x + n_j)_y``.

    Parameters
    ----------
    model, x, y, epsilon, steps, norm, step_size, random_start, targeted
        As for `pgd`.
    sigma : float
        Standard deviation of the noise, in the units of `x`.
    num_noise : int
        Noise vectors an image (m); drawn once and kept for all steps.
    seed : int in [0, 2**64)
    direction : "gradient" or "stein"
        Back-propagation, or Stein's identity, which needs forward passes only (and `num_noise`
        >= 2).
    objective : "smoothed" or "base"
        "base" attacks F under noise, ``mean_j -log F(x + n_j)_y``: for comparison only.
    chunk : int, optional
        Noisy copies of the batch in memory at once, at most; need not divide `num_noise`. The
        gradient is exact: a first pass finds the weights of the copies. Default: all.
    step : int in [0, 2**32)
        Number of the batch, so that every batch of a run has its own noise.
    stream : Stream
        Noise of the attack; `Stream.TRAINING` is what training adds too.

    Returns
    -------
    tensor like x
        As for `pgd`; the noise is not in it.

    Raises
    ------
    TypeError, ValueError
        As `pgd`.

    Notes
    -----
    Source: [Salman19] Section 2.2 and Pseudocode 2 (the published code: normalised gradient steps
    of ``2 epsilon / steps`` from delta = 0, box, then ball). Departures: no clamping of the mean
    probability at 1e-20 (logarithms do not underflow here), random directions at zero gradients
    have unit length.

    Examples
    --------
    >>> import torch
    >>> from tamis.adversarial import mlp, smooth_adv_pgd
    >>> x, y = torch.full((2, 1, 4, 4), 0.5), torch.tensor([0, 1])
    >>> options = dict(epsilon=0.5, steps=4, sigma=0.25, num_noise=8, seed=0)
    >>> found = smooth_adv_pgd(mlp((1, 4, 4), 2), x, y, **options)
    >>> bool(((found - x).flatten(1).norm(dim=1) <= 0.5 + 1e-6).all())
    True
    """
    check_batch(x, y)
    noise = check_noise(x, sigma, num_noise, chunk, seed=seed, step=step, stream=stream)
    check_choice(direction, "direction", ("gradient", "stein"))
    check_choice(objective, "objective", ("smoothed", "base"))
    if direction == "stein" and num_noise < 2:
        raise ValueError(f"num_noise: expected at least 2 for direction='stein', got {num_noise}")
    return _ascend(
        lambda at, _: evaluate(
            model, at, y, noise, num_noise, chunk=chunk, direction=direction, objective=objective
        ),
        model,
        x,
        epsilon=epsilon,
        steps=steps,
        norm=norm,
        step_size=step_size,
        random_start=random_start,
        targeted=targeted,
        seed=seed,
        step=step,
    )


def eot_pgd(
    model: torch.nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    epsilon: float,
    sigma: float,
    steps: int = 20,
    num_noise: int = 32,
    restarts: int = 1,
    seed: int = 0,
    norm: str = "l2",
    targeted: bool = False,
    chunk: int | None = None,
    step: int = 0,
) -> torch.Tensor:
    """The attack to judge a smoothed classifier with: fresh noise at every step, restarts.

    An attack that keeps its noise can find a point that is bad for these noise vectors alone; with
    fresh ones the ascent is on the expectation (expectation over transformations, Athalye et al.,
    ICML 2018). Steps shrink by a cosine from ``6 * epsilon / steps`` to 0, so that the noise of the
    last ones matters little: a higher loss than equal steps give at the same cost
    (``bench/smoothadv.py --only peers``). The first run begins at `x`, the others at random points
    of the ball; of all runs the one with the highest loss (the lowest where `targeted`) under noise
    that no run has seen is kept, image by image.

    Parameters
    ----------
    model, x, y, epsilon, sigma, norm, targeted, chunk, step
        As for `smooth_adv_pgd`.
    steps, num_noise, restarts : int
        ``restarts * steps * num_noise`` forward and backward passes an image.
    seed : int in [0, 2**64)
        Its noise is independent of that of training and of certificates with the same seed.

    Returns
    -------
    tensor like x
        As for `pgd`; the noise is not in it.

    Raises
    ------
    TypeError, ValueError
        As `pgd`.
    """
    check_batch(x, y)
    noise = check_noise(x, sigma, num_noise, chunk, seed=seed, step=step, stream=Stream.ATTACK)
    restarts = _arrays.check_int(restarts, "restarts", 1, 1 << 10)
    best, best_loss = x, None
    for run in range(restarts):
        base = (run * (steps + 1) + 1) * num_noise

        def at_step(at: torch.Tensor, t: int, base: int = base) -> Evaluation:
            return evaluate(model, at, y, noise, num_noise, chunk=chunk, first=base + t * num_noise)

        found = _ascend(
            at_step,
            model,
            x,
            epsilon=epsilon,
            steps=steps,
            norm=norm,
            step_size=None,
            random_start=run > 0,
            targeted=targeted,
            seed=seed,
            step=step,
            draw=run << 16,
            decay=True,
        )
        if restarts == 1:
            return found
        with frozen(model):
            loss = evaluate(
                model, found, y, noise, num_noise, chunk=chunk, direction=None
            ).loss  # copies 0 ... m - 1: seen by no run
        loss = -loss if targeted else loss
        if best_loss is None:
            best, best_loss = found, loss
        else:
            better = (loss > best_loss).reshape(-1, *[1] * (x.ndim - 1))
            best, best_loss = torch.where(better, found, best), torch.maximum(loss, best_loss)
    return best


def check_noise(
    x: torch.Tensor,
    sigma: float,
    num_noise: int,
    chunk: int | None,
    *,
    seed: int,
    step: int,
    stream: Stream = Stream.TRAINING,
) -> BatchNoise:
    """The batch's noise, its arguments checked."""
    sigma = check_positive(sigma, "sigma", zero=True)
    _arrays.check_int(num_noise, "num_noise", 1, 1 << 20)
    if chunk is not None:
        _arrays.check_int(chunk, "chunk", 1)
    return BatchNoise(x, sigma, seed=seed, step=step, stream=stream)


def _ascend(
    at_step: Callable[[torch.Tensor, int], Evaluation],
    model: torch.nn.Module,
    x: torch.Tensor,
    *,
    epsilon: float,
    steps: int,
    norm: str,
    step_size: float | None,
    random_start: bool,
    targeted: bool,
    seed: int,
    step: int = 0,
    draw: int = 0,
    decay: bool = False,
) -> torch.Tensor:
    """Steps along the direction that `at_step` finds, each followed by the projection.

    `decay`: steps that shrink to 0 by a cosine from ``6 * epsilon / steps``.
    """
    epsilon = check_positive(epsilon, "epsilon", zero=True)
    steps = _arrays.check_int(steps, "steps", 1, 1 << 15)
    seed = _arrays.check_int(seed, "seed", 0, 1 << 64)
    check_choice(norm, "norm", _NORMS)
    size = 2 * epsilon / steps if step_size is None else check_positive(step_size, "step_size")
    x = x.detach()
    if epsilon == 0 or not len(x):
        return x.clone()
    x = x.clamp(0, 1)
    delta = torch.zeros_like(x)
    if random_start:
        noise = BatchNoise(x, 1.0, seed=seed, step=step, stream=Stream.ATTACK)
        start = noise.copies((1 << 30) + draw, 1)[0]
        if norm == "l2":
            start = epsilon * steepest(start, norm, seed=seed, step=step, draw=draw)
        else:  # the normal distribution function makes uniform numbers of normal ones
            start = epsilon * torch.erf(start / 2**0.5)
        delta = project(x, start, epsilon, norm)
    with frozen(model):
        for t in range(steps):
            direction = at_step(x + delta, t).direction
            assert direction is not None
            move = steepest(
                -direction if targeted else direction,
                norm,
                seed=seed,
                step=step,
                draw=(1 << 31) + draw + t,
            )
            if decay:
                size = 3 * epsilon / steps * (1 + math.cos(math.pi * t / steps))
            delta = project(x, delta + size * move, epsilon, norm)
    return (x + delta).clamp(0, 1)


Found = TypeVar("Found")


@dataclass(frozen=True)
class Attack(Generic[Found]):
    """An attack with its options set once, for many batches."""

    model: torch.nn.Module
    options: dict[str, Any] = field(default_factory=dict)
    _attack: ClassVar[Callable[..., Any]]

    def __call__(self, x: torch.Tensor, y: torch.Tensor, **more: Any) -> Found:
        """The attack's result; keyword arguments override the options."""
        found: Found = self._attack(self.model, x, y, **{**self.options, **more})
        return found


class PGD(Attack[torch.Tensor]):
    """`pgd` with its options set once: ``PGD(model, {"epsilon": 1.0})(x, y)``."""

    _attack = staticmethod(pgd)


class SmoothAdvPGD(Attack[torch.Tensor]):
    """`smooth_adv_pgd` with its options set once; see `PGD`."""

    _attack = staticmethod(smooth_adv_pgd)


class EOTPGD(Attack[torch.Tensor]):
    """`eot_pgd` with its options set once; see `PGD`."""

    _attack = staticmethod(eot_pgd)
