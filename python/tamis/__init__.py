"""tamis: robust machine learning at both ends.

It *filters* what a model is trained on (robust statistics, outlier scores) and *smooths* what a
model answers (randomized smoothing with certified radii), on native C++ and CUDA kernels.

The functions below take NumPy arrays and give NumPy arrays, or take torch tensors and give torch
tensors on the same device. `tamis.smoothing` certifies classifiers, `tamis.analysis` reads
certification logs, and the command ``tamis`` does both from a shell.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tamis.ops import (
    NaNRowError,
    __version__,
    binomial_test_half,
    certified_radius,
    clopper_pearson,
    confidence_sequence,
    gaussian_noise,
    info,
    vote_counts,
)

if TYPE_CHECKING:
    from tamis import analysis, plotting, smoothing

_SUBMODULES = ("analysis", "plotting", "smoothing")

__all__ = [
    "NaNRowError",
    "__version__",
    "analysis",
    "binomial_test_half",
    "certified_radius",
    "clopper_pearson",
    "confidence_sequence",
    "gaussian_noise",
    "info",
    "plotting",
    "smoothing",
    "vote_counts",
]


def __getattr__(name: str) -> Any:
    # Submodules load on first use, so that `import tamis` stays quick inside an inference server.
    if name in _SUBMODULES:
        return importlib.import_module(f"tamis.{name}")
    raise AttributeError(f"module 'tamis' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
