"""Publication-ready figures of certification logs and scores; needs matplotlib (extra ``plot``).

Figures are built as ``matplotlib.figure.Figure`` objects, without pyplot: no window system is
needed, no global backend is switched, and nothing has to be closed.
"""

from __future__ import annotations

from tamis.plotting._frame import require_matplotlib, save_figure
from tamis.plotting.logs import plot_certified_accuracy, plot_p_lower
from tamis.plotting.rows import plot_groups, plot_outlier_map, plot_scores

__all__ = [
    "plot_certified_accuracy",
    "plot_groups",
    "plot_outlier_map",
    "plot_p_lower",
    "plot_scores",
    "require_matplotlib",
    "save_figure",
]
