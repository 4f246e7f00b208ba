"""What SmoothAdv maximises, ``-log mean_j softmax(f(x + n_j))_y``, and its exact gradient.

[Salman19] = Salman et al., "Provably robust deep learning via adversarially trained smoothed
classifiers", NeurIPS 2019. The smoothed classifier's probability of y is E[F(x + n)_y]; its
negative logarithm is attacked, not the mean of negative logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional

from tamis.adversarial._checks import check_labels
from tamis.adversarial.noise import BatchNoise

__all__ = ["Evaluation", "evaluate", "smoothed_cross_entropy"]


def smoothed_cross_entropy(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """``-log mean_j softmax(logits[j])_y`` for every image, without underflow.

    Parameters
    ----------
    logits : tensor of shape (m, B, C)
        Of the m noisy copies of each image.
    y : int64 tensor of shape (B,)

    Returns
    -------
    tensor of shape (B,)
        Differentiable; the ordinary cross-entropy where m = 1. Source: [Salman19] equation (6).

    Examples
    --------
    >>> import torch
    >>> from tamis.adversarial import smoothed_cross_entropy
    >>> logits = torch.tensor([[[0.0, 0.0]], [[2.0, 0.0]]])  # two copies of one image
    >>> value = smoothed_cross_entropy(logits, torch.tensor([0]))
    >>> bool(torch.isclose(value.exp().reciprocal(), logits.softmax(2)[:, :, 0].mean()))
    True
    """
    logp = _log_probability(logits, y)
    return math.log(len(logits)) - logp.logsumexp(0)


def _log_probability(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Log softmax(logits)_y of shape (m, B), in float32 at least."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    index = y.long().expand(len(logits), -1).unsqueeze(2)
    return wide.log_softmax(2).gather(2, index).squeeze(2)


@dataclass(frozen=True)
class Evaluation:
    """A batch under noise: loss (B,), direction of its ascent like x, votes for each class (B, C).

    `direction` is the gradient, or Stein's estimate of its direction, or None if not asked for;
    `votes` likewise.
    """

    loss: torch.Tensor
    direction: torch.Tensor | None
    votes: torch.Tensor | None


def evaluate(
    model: torch.nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    noise: BatchNoise | None,
    num_noise: int = 1,
    *,
    chunk: int | None = None,
    direction: str | None = "gradient",
    objective: str = "smoothed",
    votes: bool = False,
    first: int = 0,
) -> Evaluation:
    """Loss, ascent direction and votes at ``x``; never more than `chunk` noisy copies in memory.

    Parameters
    ----------
    direction : "gradient", "stein" or None
    objective : "smoothed" or "base"
        ``-log mean_j p_j``, or the mean of ``-log p_j``: attacking F under noise, for comparison.
    votes : bool
        Count them, ties of the logits to the lowest class.
    first : int
        Number of the first copy of the noise to use.

    Notes
    -----
    The gradient of ``-log mean_j p_j`` is ``-sum_j w_j grad log p_j`` with ``w_j = p_j / sum p``.
    Where the copies do not fit in one chunk, a pass without gradients finds the weights and a
    second one adds up the gradients, chunk by chunk: exact, and memory does not grow with m.
    Stein: the gradient of E[p(x + n)] is ``E[p n] / sigma^2``; the mean of p is subtracted from p,
    which leaves the direction's expectation and lowers its variance (a departure from [Salman19]).
    """
    m = num_noise if noise is not None else 1
    size = m if chunk is None else min(chunk, m)
    wants_gradient = direction == "gradient"
    whole = size >= m
    logps: list[torch.Tensor] = []
    counted: torch.Tensor | None = None
    moments = [torch.zeros_like(x), torch.zeros_like(x)] if direction == "stein" else []
    point = x.detach().requires_grad_(wants_gradient and whole)
    with torch.set_grad_enabled(wants_gradient and whole):
        for copies in _noisy(noise, m, size, first):
            logits = _logits(model, point, copies, y)
            logps.append(_log_probability(logits, y))
            if votes:
                one_hot = functional.one_hot(logits.detach().argmax(2), logits.shape[2]).sum(0)
                counted = one_hot if counted is None else counted + one_hot
            if direction == "stein":  # without gradients, all of this
                assert copies is not None
                p = logps[-1].exp().reshape(*logps[-1].shape, *[1] * (x.ndim - 1)).to(x)
                moments[0] += (p * copies).sum(0)
                moments[1] += copies.sum(0)
    logp = logps[0] if len(logps) == 1 else torch.cat(logps)
    if m == 1:
        loss = -logp[0]
    else:
        loss = math.log(m) - logp.logsumexp(0) if objective == "smoothed" else -logp.mean(0)
    found: torch.Tensor | None = None
    if direction == "stein":
        mean = logp.exp().mean(0).reshape(-1, *[1] * (x.ndim - 1)).to(x)
        found = mean * moments[1] - moments[0]  # the loss rises where p falls
    elif wants_gradient and whole:
        (found,) = torch.autograd.grad(loss.sum(), point)
    elif wants_gradient:
        weights = logp.softmax(0) if objective == "smoothed" else torch.full_like(logp, 1 / m)
        found = torch.zeros_like(x)
        row = 0
        for copies in _noisy(noise, m, size, first):
            point = x.detach().requires_grad_(True)
            part = _log_probability(_logits(model, point, copies, y), y)
            total = -(weights[row : row + len(part)] * part).sum()
            found += torch.autograd.grad(total, point)[0]
            row += len(part)
    return Evaluation(loss.detach(), found, counted)


def _noisy(
    noise: BatchNoise | None, m: int, size: int, first: int
) -> Iterator[torch.Tensor | None]:
    if noise is None:
        yield None
        return
    for start in range(0, m, size):
        yield noise.copies(first + start, min(size, m - start))


def _logits(
    model: torch.nn.Module, x: torch.Tensor, noise: torch.Tensor | None, y: torch.Tensor
) -> torch.Tensor:
    """Logits (copies, B, C) of the noisy copies of a batch."""
    batch = x.unsqueeze(0) if noise is None else x + noise
    out = model(batch.flatten(0, 1))
    if not isinstance(out, torch.Tensor) or out.ndim != 2 or len(out) != batch.shape[0] * len(x):
        shape = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
        raise ValueError(f"model: expected logits of shape (batch, classes), got {shape}")
    check_labels(y, out.shape[1])
    return out.reshape(batch.shape[0], len(x), out.shape[1])
