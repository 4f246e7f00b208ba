"""SEVER: robust training of any learner, by the gradients that pull together.

`sever` is the loop for any ``fit`` and ``gradients``; `SeverRegressor` and `SeverClassifier` wrap
linear models of scikit-learn (imported when they are first used), `SeverTrainer` the training of
a torch module. `baselines` has the defences it
is compared with, `attacks` poison to test with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tamis.sever import attacks, baselines, losses
from tamis.sever.driver import SeverResult, SeverRound, sever
from tamis.sever.gradients import OuterGradients
from tamis.sever.torch_trainer import SeverTrainer

if TYPE_CHECKING:
    from tamis.sever.linear import SeverClassifier, SeverRegressor

__all__ = [
    "OuterGradients",
    "SeverClassifier",
    "SeverRegressor",
    "SeverResult",
    "SeverRound",
    "SeverTrainer",
    "attacks",
    "baselines",
    "losses",
    "sever",
]


def __getattr__(name: str) -> Any:
    if name in ("SeverClassifier", "SeverRegressor"):  # they need scikit-learn
        from tamis.sever import linear

        return getattr(linear, name)
    raise AttributeError(f"module 'tamis.sever' has no attribute {name!r}")
