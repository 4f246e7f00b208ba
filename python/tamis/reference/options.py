"""What a run of `iterative_filter` is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Rule: TypeAlias = Literal[
    "gaussian_tail", "bounded_covariance", "fixed_fraction", "soft", "randomized", "que"
]
Assume: TypeAlias = Literal["identity", "scale", "none"]


@dataclass(frozen=True)
class Limits:
    """The arguments of a run. `share` is the contamination as stated, 0.3 for "auto"."""

    rule: Rule
    assume: Assume
    seed: int
    budget: int  # rows that may go, in weight
    readmit: bool
    share: float
    step: float  # share of the rows that "fixed_fraction" and "que" drop in one round
