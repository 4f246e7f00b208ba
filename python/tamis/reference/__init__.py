"""Readable float64 twins of the native operations: what the tests compare with.

Written to look like the papers, in plain NumPy, with no concern for speed. Nothing in the package
calls them.
"""

from __future__ import annotations

from tamis.reference.filter import FilterResult, filter_with_state, iterative_filter
from tamis.reference.gradients import RegressionSums, linear_gradients
from tamis.reference.intervals import (
    Cut,
    Histogram,
    Reference,
    centre_and_scale,
    charge,
    pair_scale2,
    quantile,
    robust_scale,
    rows_between,
    smallest_power,
    tail_cut,
    truncated_variance,
    variance_cut,
    without_atoms,
)
from tamis.reference.noise import (
    box_muller,
    gaussian_noise,
    philox4x32_10,
    standard_normals,
    vote_counts,
)
from tamis.reference.options import Limits
from tamis.reference.quadratic import top_form
from tamis.reference.que import que_scores
from tamis.reference.rounds import FilterRun
from tamis.reference.spectral import (
    EigenResult,
    block_krylov,
    covariance_apply,
    gaussian_block,
    noise_edge,
    orthogonal_iteration,
    orthonormalise,
    power_iteration,
    projection_scores,
    rayleigh_ritz,
    row_blocks,
    sample_rows,
    subsample_start,
    uniform_hash,
    weighted_mean,
    weighted_sums,
)

__all__ = [
    "Cut",
    "EigenResult",
    "FilterResult",
    "FilterRun",
    "Histogram",
    "Limits",
    "Reference",
    "RegressionSums",
    "block_krylov",
    "box_muller",
    "centre_and_scale",
    "charge",
    "covariance_apply",
    "filter_with_state",
    "gaussian_block",
    "gaussian_noise",
    "iterative_filter",
    "linear_gradients",
    "noise_edge",
    "orthogonal_iteration",
    "orthonormalise",
    "pair_scale2",
    "philox4x32_10",
    "power_iteration",
    "projection_scores",
    "quantile",
    "que_scores",
    "rayleigh_ritz",
    "robust_scale",
    "row_blocks",
    "rows_between",
    "sample_rows",
    "smallest_power",
    "standard_normals",
    "subsample_start",
    "tail_cut",
    "top_form",
    "truncated_variance",
    "uniform_hash",
    "variance_cut",
    "vote_counts",
    "weighted_mean",
    "weighted_sums",
    "without_atoms",
]
