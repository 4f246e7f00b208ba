"""Estimators in the manner of scikit-learn: means, covariances, components, outlier detectors.

Where scikit-learn is installed they are its estimators (clone, pipelines, grid search); without it
they work the same on their own.
"""

from __future__ import annotations

from tamis.estimators.covariance import RobustCovariance
from tamis.estimators.mean import RobustMean
from tamis.estimators.outliers import SpectralOutlierDetector
from tamis.estimators.pca import RobustPCA
from tamis.estimators.que import QUEOutlierDetector

__all__ = [
    "QUEOutlierDetector",
    "RobustCovariance",
    "RobustMean",
    "RobustPCA",
    "SpectralOutlierDetector",
]
