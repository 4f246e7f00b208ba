"""The thin typed functions: arguments are checked here, the work is done in native code.

NumPy arrays in, NumPy arrays out; torch tensors in, torch tensors out on the same device and on
torch's current CUDA stream. Nothing is copied on the way, unless a function says so.
"""

from __future__ import annotations

from tamis._core import NaNRowError, __version__
from tamis.ops.build import info
from tamis.ops.confidence import (
    binomial_test_half,
    certified_radius,
    clopper_pearson,
    confidence_sequence,
)
from tamis.ops.gradients import LinearGradients, linear_gradients
from tamis.ops.noise import ChannelAffine, gaussian_noise
from tamis.ops.results import ConvergenceWarning, EigenResult, FilterResult
from tamis.ops.spectral import (
    covariance_apply,
    iterative_filter,
    power_iteration,
    projection_scores,
    weighted_sums,
)
from tamis.ops.stream import FilterStream
from tamis.ops.votes import vote_counts

__all__ = [
    "ChannelAffine",
    "ConvergenceWarning",
    "EigenResult",
    "FilterResult",
    "FilterStream",
    "LinearGradients",
    "NaNRowError",
    "__version__",
    "binomial_test_half",
    "certified_radius",
    "clopper_pearson",
    "confidence_sequence",
    "covariance_apply",
    "gaussian_noise",
    "info",
    "iterative_filter",
    "linear_gradients",
    "power_iteration",
    "projection_scores",
    "vote_counts",
    "weighted_sums",
]
