"""`tamis.outlier_map` and its figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tamis import RobustCovariance, outlier_map, plotting


def rows() -> Any:
    """Two components; row 5 is off them, row 9 far out within them, row 13 both."""
    X = np.random.default_rng(2).standard_normal((1000, 5)) * [9.0, 6.0, 1.0, 1.0, 1.0]
    X[5, 4], X[9, 0], X[13] = 20.0, 90.0, [90.0, 0.0, 20.0, 0.0, 0.0]
    return X


def test_distances_are_those_of_the_components() -> None:
    """Oracle: NumPy's covariance of the clean rows."""
    X = rows()
    support = np.ones(1000, dtype=bool)
    support[[5, 9, 13]] = False
    found = outlier_map(X, support)
    assert found.n_components == 2  # 117 of 120
    gap = X - X[support].mean(axis=0)
    w, U = np.linalg.eigh(np.cov(X[support].T, bias=True))
    scores = gap @ U[:, -2:]
    np.testing.assert_allclose(
        found.robust_distances, np.sqrt((scores**2 / w[-2:]).sum(axis=1)), rtol=1e-9
    )
    np.testing.assert_allclose(
        found.orthogonal_distances, np.linalg.norm(gap @ U[:, :-2], axis=1), rtol=1e-8
    )
    far = found.robust_distances > 2 * found.robust_cutoff
    off = found.orthogonal_distances > 2 * found.orthogonal_cutoff
    assert np.flatnonzero(far).tolist() == [9, 13]
    assert np.flatnonzero(off).tolist() == [5, 13]


def test_cutoffs_hold_for_gaussian_rows() -> None:
    """2.5% of 20,000 lie beyond each; the standard error of that share is .11%."""
    X = np.random.default_rng(0).standard_normal((20_000, 8)) * [4, 3, 2, 1, 1, 1, 1, 1]
    found = outlier_map(X, np.ones(20_000, dtype=bool), n_components=3)
    for distances, cutoff in (
        (found.robust_distances, found.robust_cutoff),
        (found.orthogonal_distances, found.orthogonal_cutoff),
    ):
        assert (distances > cutoff).mean() == pytest.approx(0.025, abs=0.006)


def test_clean_rows_are_looked_for() -> None:
    X = rows()
    expected = outlier_map(X, RobustCovariance("auto").fit(X).support_)
    np.testing.assert_array_equal(outlier_map(X).robust_distances, expected.robust_distances)


def test_components() -> None:
    X = rows()
    everything = np.ones(1000, dtype=bool)
    assert outlier_map(X, everything, n_components=4).n_components == 4
    assert (outlier_map(X, everything, n_components=5).orthogonal_distances == 0).all()
    line = np.arange(6.0)[:, None]
    for table in (line, np.hstack([line, line]), np.ones((6, 3)), rows()[:1]):
        found = outlier_map(table, np.ones(len(table), dtype=bool))
        assert found.n_components <= 1
        for distances in (found.robust_distances, found.orthogonal_distances):
            assert np.isfinite(distances).all()
        pytest.importorskip("matplotlib")
        plotting.plot_outlier_map(found).draw_without_rendering()


def test_bad_arguments() -> None:
    X = rows()
    with pytest.raises(ValueError, match="support: expected 1000 booleans"):
        outlier_map(X, np.ones(1000))
    with pytest.raises(ValueError, match="support: expected 1000 booleans"):
        outlier_map(X, np.ones(9, dtype=bool))
    with pytest.raises(ValueError, match="support: expected at least one clean row"):
        outlier_map(X, np.zeros(1000, dtype=bool))
    with pytest.raises(ValueError, match="n_components: expected"):
        outlier_map(X, n_components=6)
    X[3, 1] = np.nan
    with pytest.raises(ValueError, match="got NaN in row 3, column 1"):
        outlier_map(X)


def test_figure(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    X = rows()
    found = outlier_map(X)
    outlier = found.robust_distances > found.robust_cutoff
    figure = plotting.plot_outlier_map(found, outlier=outlier, title="some rows", named=3)
    (axes,) = figure.axes
    good, bad = axes.collections
    assert len(good.get_offsets()) + len(bad.get_offsets()) == 1000
    assert len(bad.get_offsets()) == outlier.sum()
    assert {text.get_text() for text in axes.texts} == {"5", "9", "13"}
    assert axes.get_xlim()[0] == axes.get_ylim()[0] == 0
    plotting.save_figure(figure, tmp_path / "map.svg")
    assert (tmp_path / "map.svg").stat().st_size > 5000
    assert len(plotting.plot_outlier_map(found).axes[0].collections) == 1
    with pytest.raises(ValueError, match="outlier: expected 1000 values"):
        plotting.plot_outlier_map(found, outlier=[True])
    with pytest.raises(ValueError, match="named: expected"):
        plotting.plot_outlier_map(found, named=-1)
