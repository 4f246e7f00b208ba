"""Losses that give certificates, each a function for any training loop.

All take images in [0, 1] and return the mean over the batch, ready for ``backward()``. `step` is
the number of the batch in the run: the noise is a function of ``(seed, step)``, so give every batch
its own.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from tamis.adversarial._checks import check_batch, check_choice, check_labels, check_positive
from tamis.adversarial.attacks import check_noise, pgd, smooth_adv_pgd
from tamis.adversarial.ddn import smooth_adv_ddn
from tamis.adversarial.objective import smoothed_cross_entropy

__all__ = [
    "adversarial_loss",
    "consistency_loss",
    "gaussian_loss",
    "macer_loss",
    "smoothadv_loss",
    "stability_loss",
]


def gaussian_loss(
    model: torch.nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    sigma: float,
    num_noise: int = 1,
    seed: int = 0,
    step: int = 0,
) -> torch.Tensor:
    """Cross-entropy on noisy images, the training of Cohen et al., ICML 2019.

    Parameters
    ----------
    model : torch.nn.Module
    x : floating tensor of shape (B, ...), in [0, 1]
    y : int64 tensor of shape (B,)
    sigma : float
        Standard deviation of the noise, in the units of `x`.
    num_noise : int
        Noisy copies an image.
    seed, step : int

    Returns
    -------
    tensor of shape ()
    """
    logits = _noisy_logits(model, x, y, sigma=sigma, num_noise=num_noise, seed=seed, step=step)
    return _cross_entropy(logits, y)


def adversarial_loss(
    model: torch.nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    epsilon: float,
    steps: int = 7,
    norm: str = "l2",
    seed: int = 0,
    step: int = 0,
) -> torch.Tensor:
    """Cross-entropy on the adversarial images of `pgd` with a random start (Madry et al., 2018)."""
    found = pgd(
        model,
        x,
        y,
        epsilon=epsilon,
        steps=steps,
        norm=norm,
        random_start=epsilon > 0,
        seed=(seed + step) % (1 << 64),
    )
    logits = _wide(model(found))
    check_labels(y, logits.shape[1])
    return functional.cross_entropy(logits, y.long())


def smoothadv_loss(
    model: torch.nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    epsilon: float,
    sigma: float,
    steps: int = 4,
    num_noise: int = 4,
    attack: str = "pgd",
    norm: str = "l2",
    objective: str = "smoothed",
    outer: str = "cross-entropy",
    chunk: int | None = None,
    seed: int = 0,
    step: int = 0,
) -> torch.Tensor:
    """Loss on adversarial images of the smoothed classifier, under the attack's own noise.

    Parameters
    ----------
    model, x, y, sigma, seed, step
        As for `gaussian_loss`.
    epsilon : float
        Radius of the attack, in the units of `x`; 0 gives `gaussian_loss`.
    steps, num_noise : int
        Of the attack; the loss averages over the same noise vectors.
    attack : "pgd" or "ddn"
        DDN stops at the nearest wrong point and starts with radius `epsilon`.
    norm : "l2" or "linf"
        Of "pgd".
    objective : "smoothed" or "base"
        What the attack maximises: see `smooth_adv_pgd`.
    outer : "cross-entropy" or "smoothed"
        The mean over the copies of ``-log p``, which the published code trains with, or
        ``-log`` of the mean.
    chunk : int, optional
        Copies at once in the attack.

    Returns
    -------
    tensor of shape ()

    Notes
    -----
    Source: [Salman19] Pseudocode 1. The published code takes one optimiser step for each of m parts
    of a batch, here it is one step a batch.

    Examples
    --------
    >>> import torch
    >>> from tamis.adversarial import mlp, smoothadv_loss
    >>> model = mlp((1, 4, 4), 2)
    >>> x, y = torch.full((2, 1, 4, 4), 0.5), torch.tensor([0, 1])
    >>> loss = smoothadv_loss(model, x, y, epsilon=0.5, sigma=0.25, seed=0, step=0)
    >>> loss.backward()
    """
    check_choice(attack, "attack", ("pgd", "ddn"))
    check_choice(outer, "outer", ("cross-entropy", "smoothed"))
    epsilon = check_positive(epsilon, "epsilon", zero=True)
    if attack == "pgd":
        found = smooth_adv_pgd(
            model,
            x,
            y,
            epsilon=epsilon,
            steps=steps,
            sigma=sigma,
            num_noise=num_noise,
            seed=seed,
            norm=norm,
            objective=objective,
            chunk=chunk,
            step=step,
        )
    elif epsilon == 0:
        found = x
    else:
        check_choice(norm, "norm", ("l2",))
        found = smooth_adv_ddn(
            model,
            x,
            y,
            epsilon=epsilon,
            steps=steps,
            sigma=sigma,
            num_noise=num_noise,
            seed=seed,
            init_norm=epsilon,
            objective=objective,
            chunk=chunk,
            step=step,
        ).adversarial
    logits = _noisy_logits(model, found, y, sigma=sigma, num_noise=num_noise, seed=seed, step=step)
    if outer == "smoothed":
        return smoothed_cross_entropy(logits, y).mean()
    return _cross_entropy(logits, y)


def stability_loss(
    model: torch.nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    sigma: float,
    weight: float = 2.0,
    seed: int = 0,
    step: int = 0,
) -> torch.Tensor:
    """Cross-entropy on clean images, plus `weight` times that between clean and noisy answers.

    Source: Li et al., "Certified adversarial robustness with additive noise", NeurIPS 2019, after
    Zheng et al., "Improving the robustness of deep neural networks via stability training", CVPR
    2016. The clean answer of the second term is differentiated too.
    """
    weight = check_positive(weight, "weight", zero=True)
    noisy = _noisy_logits(model, x, y, sigma=sigma, num_noise=1, seed=seed, step=step)[0]
    clean = _wide(model(x))
    moved = -(clean.softmax(1) * noisy.log_softmax(1)).sum(1).mean()
    return functional.cross_entropy(clean, y.long()) + weight * moved


def macer_loss(
    model: torch.nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    sigma: float,
    num_noise: int = 16,
    weight: float = 12.0,
    margin: float = 8.0,
    sharpness: float = 16.0,
    seed: int = 0,
    step: int = 0,
) -> torch.Tensor:
    """Cross-entropy of the smoothed answer plus a hinge on a soft certified radius.

    Parameters
    ----------
    weight, margin, sharpness : float
        lambda, gamma and beta of the paper, with its values for CIFAR-10 as defaults.

    Notes
    -----
    Source: Zhai et al., "MACER: attack-free and scalable robust training via maximizing certified
    radius", ICLR 2020: images that the soft classifier gets right, with a radius below the margin,
    pay ``sigma / 2 * (margin - (PhiInv(pA) - PhiInv(pB)))``. Those whose radius is infinite in
    floating point pay nothing.
    """
    weight = check_positive(weight, "weight", zero=True)
    margin, sharpness = check_positive(margin, "margin"), check_positive(sharpness, "sharpness")
    logits = _noisy_logits(model, x, y, sigma=sigma, num_noise=num_noise, seed=seed, step=step)
    loss = smoothed_cross_entropy(logits, y).mean()
    soft = (sharpness * logits).softmax(2).mean(0)
    top, classes = soft.topk(2, dim=1)
    with torch.no_grad():
        gap = torch.special.ndtri(top[:, 0]) - torch.special.ndtri(top[:, 1])
        counted = (classes[:, 0] == y) & (gap < margin)
    # chosen before it is differentiated: PhiInv has an infinite slope at 0 and 1
    first, second = torch.special.ndtri(top[counted]).unbind(1)
    hinge: torch.Tensor = (margin - (first - second)).sum() / len(x)
    return loss + weight * sigma / 2 * hinge


def consistency_loss(
    model: torch.nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    sigma: float,
    num_noise: int = 2,
    weight: float = 10.0,
    entropy: float = 0.5,
    seed: int = 0,
    step: int = 0,
) -> torch.Tensor:
    """Cross-entropy under noise, plus how far the copies' answers are from their mean.

    Parameters
    ----------
    weight, entropy : float
        Of the mean KL divergence from the mean answer to each copy's, and of the entropy of the
        mean answer.

    Notes
    -----
    Source: Jeong and Shin, "Consistency regularization for certified robustness of smoothed
    classifiers", NeurIPS 2020.
    """
    weight = check_positive(weight, "weight", zero=True)
    entropy = check_positive(entropy, "entropy", zero=True)
    logits = _noisy_logits(model, x, y, sigma=sigma, num_noise=num_noise, seed=seed, step=step)
    logp = logits.log_softmax(2)
    mean = logp.exp().mean(0)
    log_mean = mean.clamp_min(1e-20).log()
    apart = (mean * (log_mean - logp)).sum(2).mean()
    spread = -(mean * log_mean).sum(1).mean()
    return _cross_entropy(logits, y) + weight * apart + entropy * spread


def _noisy_logits(
    model: torch.nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    sigma: float,
    num_noise: int,
    seed: int,
    step: int,
) -> torch.Tensor:
    """Logits (num_noise, B, C), float32 at least."""
    check_batch(x, y)
    noise = check_noise(x, sigma, num_noise, None, seed=seed, step=step)
    logits = _wide(model((x + noise.copies(0, num_noise)).flatten(0, 1)))
    check_labels(y, logits.shape[1])
    return logits.reshape(num_noise, len(x), -1)


def _cross_entropy(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(logits.flatten(0, 1), y.long().repeat(len(logits)))


def _wide(logits: torch.Tensor) -> torch.Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()
