"""Estimators in the manner of scikit-learn: `RobustMean` and `SpectralOutlierDetector`.

Where scikit-learn is installed they are its estimators (clone, pipelines, grid search); without it
they work the same on their own.
"""

from __future__ import annotations

from tamis.estimators.mean import RobustMean
from tamis.estimators.outliers import SpectralOutlierDetector

__all__ = ["RobustMean", "SpectralOutlierDetector"]
