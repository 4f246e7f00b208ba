"""What decides the weights of a run beside its data: checked once, stored in checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch

from tamis import _arrays
from tamis.adversarial import losses
from tamis.adversarial._checks import check_choice, check_positive

__all__ = ["METHODS", "Recipe", "check_recipe"]

METHODS: Final = ("gaussian", "adversarial", "smoothadv", "stability", "macer", "consistency")


@dataclass(frozen=True)
class Recipe:
    """Everything beside the data that decides the weights; made by `check_recipe`."""

    method: str
    sigma: float
    epsilon: float
    steps: int
    num_noise: int
    warmup: int
    attack: str
    objective: str
    lr: float
    lr_step: int
    lr_gamma: float
    momentum: float
    weight_decay: float
    batch_size: int
    accumulate: int
    amp: str
    seed: int

    def rate(self, epoch: int) -> float:
        return self.lr * self.lr_gamma ** (epoch // self.lr_step if self.lr_step else 0)

    def radius(self, epoch: int) -> float:
        """Radius of the attack in an epoch, counted from 0: linear warm-up ([Salman19] code)."""
        return min(self.epsilon, (epoch + 1) * self.epsilon / max(1, self.warmup))

    def loss(
        self, model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, epoch: int, step: int
    ) -> torch.Tensor:
        place: dict[str, Any] = {"seed": self.seed, "step": step}
        if self.method == "gaussian":
            return losses.gaussian_loss(
                model, x, y, sigma=self.sigma, num_noise=self.num_noise, **place
            )
        if self.method == "adversarial":
            return losses.adversarial_loss(
                model, x, y, epsilon=self.radius(epoch), steps=self.steps, **place
            )
        if self.method == "smoothadv":
            return losses.smoothadv_loss(
                model,
                x,
                y,
                epsilon=self.radius(epoch),
                sigma=self.sigma,
                steps=self.steps,
                num_noise=self.num_noise,
                attack=self.attack,
                objective=self.objective,
                **place,
            )
        if self.method == "stability":
            return losses.stability_loss(model, x, y, sigma=self.sigma, **place)
        other = losses.macer_loss if self.method == "macer" else losses.consistency_loss
        return other(model, x, y, sigma=self.sigma, num_noise=self.num_noise, **place)


def check_recipe(*, amp: str | None, **values: Any) -> Recipe:
    """Make the recipe, or raise what `train` promises."""
    check_choice(values["method"], "method", METHODS)
    check_choice(values["attack"], "attack", ("pgd", "ddn"))
    check_choice(values["objective"], "objective", ("smoothed", "base"))
    if amp is not None:
        check_choice(amp, "amp", ("bfloat16", "float16"))
    for name in ("sigma", "epsilon", "momentum", "weight_decay"):
        values[name] = check_positive(values[name], name, zero=True)
    for name in ("lr", "lr_gamma"):
        values[name] = check_positive(values[name], name)
    for name in ("steps", "num_noise", "batch_size", "accumulate"):
        values[name] = _arrays.check_int(values[name], name, 1)
    for name in ("warmup", "lr_step"):
        values[name] = _arrays.check_int(values[name], name, 0)
    values["seed"] = _arrays.check_int(values["seed"], "seed", 0, 1 << 64)
    return Recipe(amp=amp or "", **values)
