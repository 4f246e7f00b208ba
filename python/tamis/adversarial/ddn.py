"""DDN: the nearest point that is classified wrongly, by decoupling direction and norm.

[Rony19] = Rony et al., "Decoupling direction and norm for efficient gradient-based l2 adversarial
attacks and defenses", CVPR 2019.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from tamis import _arrays
from tamis.adversarial._checks import check_batch, check_positive, frozen
from tamis.adversarial.attacks import Attack, check_noise
from tamis.adversarial.geometry import lengths, project, steepest
from tamis.adversarial.noise import BatchNoise
from tamis.adversarial.objective import evaluate
from tamis.smoothing.identity import Stream

__all__ = ["DDN", "DDNResult", "SmoothAdvDDN", "ddn", "smooth_adv_ddn"]


@dataclass(frozen=True)
class DDNResult:
    """What `ddn` and `smooth_adv_ddn` found.

    Attributes
    ----------
    adversarial : tensor like x
        The nearest wrong image found. Where none was found, the last image tried: never the clean
        one.
    success : bool tensor of shape (B,)
        Whether `adversarial` is classified wrongly (as the target, where targeted).
    norm : tensor of shape (B,)
        l2 distance of `adversarial` from x.
    """

    adversarial: torch.Tensor
    success: torch.Tensor
    norm: torch.Tensor


def ddn(
    model: torch.nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    steps: int = 100,
    gamma: float = 0.1,
    final_gamma: float | None = 0.001,
    init_norm: float = 1.0,
    epsilon: float | None = None,
    levels: int | None = None,
    targeted: bool = False,
    seed: int = 0,
) -> DDNResult:
    """The nearest image, in l2, that a network gets wrong.

    Parameters
    ----------
    model, x, y, targeted, seed
        As for `pgd`.
    steps : int
    gamma : float in (0, 1)
        The radius is multiplied by 1 - gamma where the image is wrong already, by 1 + gamma where
        it is not.
    final_gamma : float in (0, 1), optional
        What gamma becomes by the last step, along a cosine; None: it stays.
    init_norm : float
        Radius of the first step.
    epsilon : float, optional
        Never go further than this; 0 returns the clean images, with `success` where they are wrong.
    levels : int, optional
        Round pixels to this many values, 256 for 8-bit images.

    Returns
    -------
    DDNResult

    Raises
    ------
    TypeError, ValueError
        As `pgd`.

    Notes
    -----
    Source: [Rony19] Algorithm 1, step size from 1 to .01 by cosine. Departures: gamma shrinks where
    the paper has .05 throughout, an idea of Pintor et al., "Fast minimum-norm adversarial attacks
    through adaptive norm constraints", NeurIPS 2021: quickly to the boundary, then close to it
    (``bench/smoothadv.py --only peers``); no rounding of pixels unless asked for; the point after
    the last step is judged too; an image without success comes back as the last point tried, with
    `success` False, where the published code gives the clean image without a word. An image that
    is wrong from the start has norm 0.
    """
    check_batch(x, y)
    return _search(
        model,
        x,
        y,
        noise=None,
        num_noise=1,
        chunk=None,
        steps=steps,
        gamma=gamma,
        final_gamma=final_gamma,
        init_norm=init_norm,
        epsilon=epsilon,
        levels=levels,
        targeted=targeted,
        seed=seed,
        step=0,
        objective="smoothed",
    )


def smooth_adv_ddn(
    model: torch.nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    sigma: float,
    num_noise: int,
    seed: int,
    epsilon: float | None = None,
    steps: int = 4,
    gamma: float = 0.05,
    final_gamma: float | None = None,
    init_norm: float = 1.0,
    levels: int | None = None,
    targeted: bool = False,
    objective: str = "smoothed",
    chunk: int | None = None,
    step: int = 0,
    stream: Stream = Stream.TRAINING,
) -> DDNResult:
    """The nearest image that the majority of noisy copies gets wrong.

    Parameters
    ----------
    model, x, y, sigma, num_noise, seed, objective, chunk, step, stream
        As for `smooth_adv_pgd`.
    epsilon, steps, gamma, final_gamma, init_norm, levels, targeted
        As for `ddn`, but for gamma, which is the published one: few steps leave it no time to
        shrink.

    Returns
    -------
    DDNResult
        `success` speaks of the votes of these noisy copies, ties to the lowest class.

    Notes
    -----
    Source: [Salman19] (SmoothAdv-DDN) with the departures of `ddn`.
    """
    check_batch(x, y)
    noise = check_noise(x, sigma, num_noise, chunk, seed=seed, step=step, stream=stream)
    return _search(
        model,
        x,
        y,
        noise=noise,
        num_noise=num_noise,
        chunk=chunk,
        steps=steps,
        gamma=gamma,
        final_gamma=final_gamma,
        init_norm=init_norm,
        epsilon=epsilon,
        levels=levels,
        targeted=targeted,
        seed=seed,
        step=step,
        objective=objective,
    )


def _search(
    model: torch.nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    noise: BatchNoise | None,
    num_noise: int,
    chunk: int | None,
    steps: int,
    gamma: float,
    final_gamma: float | None,
    init_norm: float,
    epsilon: float | None,
    levels: int | None,
    targeted: bool,
    seed: int,
    step: int,
    objective: str,
) -> DDNResult:
    """The search, on a batch that has been checked."""
    steps = _arrays.check_int(steps, "steps", 1, 1 << 15)
    gamma = _check_share(gamma, "gamma")
    final_gamma = gamma if final_gamma is None else _check_share(final_gamma, "final_gamma")
    init_norm = check_positive(init_norm, "init_norm")
    farthest = math.inf if epsilon is None else check_positive(epsilon, "epsilon", zero=True)
    if levels is not None:
        levels = _arrays.check_int(levels, "levels", 2)
    x = x.detach().clamp(0, 1)
    if not len(x):
        return DDNResult(x, torch.zeros(0, dtype=torch.bool), x.new_zeros(0))
    delta = torch.zeros_like(x)
    best = torch.zeros_like(x)
    best_norm = torch.full_like(lengths(x), math.inf)
    radius = torch.full_like(best_norm, min(init_norm, farthest))
    tiny = float(torch.finfo(x.dtype).tiny)
    with frozen(model):
        for t in range(steps + 1 if farthest > 0 else 1):
            last = t == steps or farthest == 0
            seen = evaluate(
                model,
                x + delta,
                y,
                noise,
                num_noise,
                chunk=chunk,
                direction=None if last else "gradient",
                objective=objective,
                votes=True,
            )
            assert seen.votes is not None
            wrong = seen.votes.argmax(1) != y
            fooled = (~wrong if targeted else wrong).reshape(radius.shape)
            norm = lengths(delta)
            nearer = fooled & (norm < best_norm)
            best, best_norm = (
                torch.where(nearer, delta, best),
                torch.where(nearer, norm, best_norm),
            )
            if last:
                break
            assert seen.direction is not None
            late = (1 - math.cos(math.pi * t / steps)) / 2
            now = gamma + (final_gamma - gamma) * late
            radius = torch.where(fooled, radius * (1 - now), radius * (1 + now))
            radius = radius.clamp(min=tiny, max=farthest)
            move = steepest(
                -seen.direction if targeted else seen.direction,
                "l2",
                seed=seed,
                step=step,
                draw=(1 << 31) + t,
            )
            delta = delta + (1 - 0.99 * late) * move
            delta = delta * (radius / lengths(delta).clamp_min(tiny))
            delta = (x + delta).clamp(0, 1)
            if levels is not None:
                delta = (delta * (levels - 1)).round() / (levels - 1)
            delta = delta - x
            if farthest < math.inf:  # rounding may have gone past it
                delta = project(x, delta, farthest, "l2")
    success = best_norm.isfinite()
    delta = torch.where(success, best, delta)
    return DDNResult((x + delta).clamp(0, 1), success.flatten(), lengths(delta).flatten())


def _check_share(value: float, name: str) -> float:
    share = check_positive(value, name)
    if share >= 1:
        raise ValueError(f"{name}: expected a number in (0, 1), got {value}")
    return share


class DDN(Attack[DDNResult]):
    """`ddn` with its options set once: ``DDN(model, {"steps": 50})(x, y)``."""

    _attack = staticmethod(ddn)


class SmoothAdvDDN(Attack[DDNResult]):
    """`smooth_adv_ddn` with its options set once; see `DDN`."""

    _attack = staticmethod(smooth_adv_ddn)
