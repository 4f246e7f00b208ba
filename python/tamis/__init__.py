"""tamis: robust machine learning at both ends.

It *filters* what a model is trained on (robust statistics, outlier scores) and *smooths* what a
model answers (randomized smoothing with certified radii), on native C++ and CUDA kernels.

The functions below take NumPy arrays and give NumPy arrays, or take torch tensors and give torch
tensors on the same device. `tamis.RobustMean` and `tamis.SpectralOutlierDetector` filter,
`tamis.smoothing` certifies classifiers, `tamis.analysis` reads certification logs, and the command
``tamis`` does all of it from a shell.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tamis.ops import (
    ConvergenceWarning,
    EigenResult,
    FilterResult,
    LinearGradients,
    NaNRowError,
    __version__,
    binomial_test_half,
    certified_radius,
    clopper_pearson,
    confidence_sequence,
    covariance_apply,
    gaussian_noise,
    info,
    iterative_filter,
    linear_gradients,
    power_iteration,
    projection_scores,
    vote_counts,
    weighted_sums,
)

if TYPE_CHECKING:
    from tamis import (
        adversarial,
        analysis,
        backdoor,
        compat,
        estimators,
        location,
        plotting,
        sever,
        smoothing,
    )
    from tamis.diagnostics import outlier_map
    from tamis.estimators import (
        QUEOutlierDetector,
        RobustCovariance,
        RobustMean,
        RobustPCA,
        SpectralOutlierDetector,
    )
    from tamis.location import (
        coordinate_median,
        geometric_median,
        lrv_mean,
        median_of_means,
        naive_prune,
        ransac_mean,
        trimmed_mean,
    )
    from tamis.que import que_scores

_SUBMODULES = (
    "adversarial",
    "analysis",
    "backdoor",
    "compat",
    "estimators",
    "location",
    "plotting",
    "sever",
    "smoothing",
)
_LATER = {  # name -> the module that has it
    "QUEOutlierDetector": "estimators",
    "RobustCovariance": "estimators",
    "RobustMean": "estimators",
    "RobustPCA": "estimators",
    "SpectralOutlierDetector": "estimators",
    "coordinate_median": "location",
    "geometric_median": "location",
    "lrv_mean": "location",
    "median_of_means": "location",
    "naive_prune": "location",
    "outlier_map": "diagnostics",
    "que_scores": "que",
    "ransac_mean": "location",
    "trimmed_mean": "location",
}

__all__ = [
    "ConvergenceWarning",
    "EigenResult",
    "FilterResult",
    "LinearGradients",
    "NaNRowError",
    "QUEOutlierDetector",
    "RobustCovariance",
    "RobustMean",
    "RobustPCA",
    "SpectralOutlierDetector",
    "__version__",
    "adversarial",
    "analysis",
    "backdoor",
    "binomial_test_half",
    "certified_radius",
    "clopper_pearson",
    "compat",
    "confidence_sequence",
    "coordinate_median",
    "covariance_apply",
    "estimators",
    "gaussian_noise",
    "geometric_median",
    "info",
    "iterative_filter",
    "linear_gradients",
    "location",
    "lrv_mean",
    "median_of_means",
    "naive_prune",
    "outlier_map",
    "plotting",
    "power_iteration",
    "projection_scores",
    "que_scores",
    "ransac_mean",
    "sever",
    "smoothing",
    "trimmed_mean",
    "vote_counts",
    "weighted_sums",
]


def __getattr__(name: str) -> Any:
    # Submodules load on first use, so that `import tamis` stays quick inside an inference server.
    if name in _SUBMODULES:
        return importlib.import_module(f"tamis.{name}")
    if name in _LATER:
        return getattr(importlib.import_module(f"tamis.{_LATER[name]}"), name)
    raise AttributeError(f"module 'tamis' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
