"""Losses against float64 computations from the papers' formulas, image by image, class by class.

The oracles use Python's own arithmetic on the logits and nothing of torch; their gradients are
central differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import pytest
import torch
from torch import nn

from tamis import adversarial
from tamis.adversarial.noise import BatchNoise

pytestmark = pytest.mark.usefixtures("one_torch_thread")
PLACE: dict[str, Any] = {"sigma": 0.3, "seed": 5, "step": 7}
COPIES = 5
Logits = list[list[float]]  # of one image: (copies, classes)


def network(scale: float = 2.0) -> nn.Module:
    """float64, with answers that are neither flat nor certain."""
    model = adversarial.build("mlp", (1, 4, 4), 3, seed=2).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    return model


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Most labels are what the network answers, some are not."""
    x = torch.rand((12, 1, 4, 4), generator=torch.Generator().manual_seed(4)).double()
    y = network()(x).argmax(1)
    y[::4] = (y[::4] + 1) % 3
    return x, y


def softmax(values: list[float], sharpness: float = 1.0) -> list[float]:
    weights = [math.exp(sharpness * (value - max(values))) for value in values]
    return [weight / math.fsum(weights) for weight in weights]


def mean_softmax(copies: Logits, sharpness: float = 1.0) -> list[float]:
    answers = [softmax(row, sharpness) for row in copies]
    return [math.fsum(column) / len(copies) for column in zip(*answers, strict=True)]


def stability(clean: list[float], copies: Logits, y: int) -> float:
    """-log F(x)_y - 2 sum_c F(x)_c log F(x + n)_c: Zheng et al. 2016, Li et al. 2019."""
    at, moved = softmax(clean), softmax(copies[0])
    apart = -math.fsum(p * math.log(q) for p, q in zip(at, moved, strict=True))
    return -math.log(at[y]) + 2 * apart


def consistency(clean: list[float], copies: Logits, y: int) -> float:
    """mean_j -log F_j,y + 10 mean_j KL(mean F || F_j) + .5 H(mean F): Jeong and Shin 2020."""
    answers, mean = [softmax(row) for row in copies], mean_softmax(copies)
    natural = -math.fsum(math.log(answer[y]) for answer in answers) / len(answers)
    apart = math.fsum(
        p * math.log(p / q) for answer in answers for p, q in zip(mean, answer, strict=True)
    )
    return natural + 10 * apart / len(answers) - 0.5 * math.fsum(p * math.log(p) for p in mean)


def macer(clean: list[float], copies: Logits, y: int) -> float:
    """-log (mean F)_y + 12 sigma / 2 max(0, 3 - PhiInv(pA) + PhiInv(pB)) where right: Zhai 2020."""
    natural = -math.log(mean_softmax(copies)[y])
    soft = mean_softmax(copies, 16.0)
    second, first = sorted(soft)[-2:]
    if soft[y] != first:
        return natural
    return natural + 12 * 0.3 / 2 * max(0.0, 3.0 - gap_of(first, second))


def gap_of(first: float, second: float) -> float:
    return NormalDist().inv_cdf(first) - NormalDist().inv_cdf(second)


Oracle = Callable[[list[float], Logits, int], float]
CASES: dict[str, tuple[Callable[..., torch.Tensor], Oracle, dict[str, Any]]] = {
    "stability": (adversarial.stability_loss, stability, {}),
    "consistency": (adversarial.consistency_loss, consistency, {"num_noise": COPIES}),
    "macer": (adversarial.macer_loss, macer, {"num_noise": COPIES, "margin": 3.0}),
}


def logits_of(model: nn.Module, x: torch.Tensor) -> tuple[list[list[float]], list[Logits]]:
    """Of the clean images, and of the noisy copies of each."""
    noise = BatchNoise(x, 0.3, seed=5, step=7).copies(0, COPIES)
    with torch.no_grad():
        noisy = model((x + noise).flatten(0, 1)).reshape(COPIES, len(x), -1)
        return model(x).tolist(), noisy.transpose(0, 1).tolist()


def expected(oracle: Oracle, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    rows = zip(*logits_of(model, x), y.tolist(), strict=True)
    return math.fsum(oracle(clean, copies, label) for clean, copies, label in rows) / len(x)


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name: str) -> None:
    loss, oracle, options = CASES[name]
    model, (x, y) = network(), batch()
    got = loss(model, x, y, **PLACE, **options)
    assert got.item() == pytest.approx(expected(oracle, model, x, y), rel=1e-12)
    got.backward()
    weight = list(model.parameters())[-2]  # of the last layer
    assert weight.grad is not None
    for place in ((0, 3), (1, 70), (2, 127)):
        value = float(weight.data[place])
        sides = []
        for side in (1e-6, -1e-6):
            weight.data[place] = value + side
            sides.append(expected(oracle, model, x, y))
        weight.data[place] = value
        slope = (sides[0] - sides[1]) / 2e-6
        assert float(weight.grad[place]) == pytest.approx(slope, rel=1e-5, abs=1e-8)


def test_the_batch_has_every_kind_of_image() -> None:
    """Otherwise the test of MACER would not see its hinge: wrong, below the margin, above it."""
    _, noisy = logits_of(network(), batch()[0])
    kinds = set()
    for copies, label in zip(noisy, batch()[1].tolist(), strict=True):
        soft = mean_softmax(copies, 16.0)
        second, first = sorted(soft)[-2:]
        kinds.add("wrong" if soft[label] != first else gap_of(first, second) < 3)
    assert kinds == {"wrong", True, False}


@pytest.mark.parametrize("margin", [8.0, 50.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_macer_of_a_network_that_is_certain(dtype: torch.dtype, margin: float) -> None:
    """Probabilities of exactly 0 and 1: an infinite radius pays nothing, no gradient is NaN."""
    model, (x, y) = network(30.0).to(dtype), batch()
    options = {**PLACE, "sigma": 0.0, "num_noise": 2}
    loss = adversarial.macer_loss(model, x.to(dtype), y, margin=margin, **options)
    plain = adversarial.macer_loss(model, x.to(dtype), y, weight=0.0, **options)
    torch.testing.assert_close(loss, plain)
    loss.backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
