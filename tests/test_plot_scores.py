"""`tamis.plotting.plot_scores`: what is drawn, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from tamis import plotting


@pytest.fixture
def scores() -> Any:
    """Chi-squared scores with 20 of 400 rows far out."""
    z = np.random.default_rng(0).standard_normal(400)
    z[:20] += 30.0
    return z**2


def bars(axes: Any) -> list[Any]:
    """Counts and edges of each histogram."""
    return [patch.get_data() for patch in axes.patches]


def test_the_histogram_counts_all_rows(scores: Any) -> None:
    """Oracle: numbers of rows, kept and left out, and the square roots of their scores."""
    support = np.arange(400) >= 20
    figure = plotting.plot_scores(scores, threshold=100.0, support=support, bins=37)
    (axes,) = figure.axes
    kept, gone = bars(axes)
    assert (kept.values.sum(), gone.values.sum()) == (380, 20)
    assert len(kept.edges) == 38
    first = int(np.flatnonzero(gone.values)[0])
    assert gone.edges[first] <= np.sqrt(scores[:20].min()) <= gone.edges[first + 1]
    (line,) = axes.get_lines()
    assert line.get_xdata()[0] == pytest.approx(10.0)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["kept: 380", "left out: 20", "threshold"]
    assert axes.get_xlim()[1] > np.sqrt(scores.max())
    assert axes.get_ylim()[1] > kept.values.max()


def test_scores_alone(scores: Any) -> None:
    (axes,) = plotting.plot_scores(scores, title="some rows").axes
    (all_rows,) = bars(axes)
    assert all_rows.values.sum() == 400
    assert axes.get_legend() is None
    assert axes.get_title(loc="left") == "some rows"


def test_eigenvalues_have_a_panel_of_their_own(scores: Any) -> None:
    """Oracle: the numbers given, over rounds 1, 2, ...; logarithmic where they fall far."""
    figure = plotting.plot_scores(scores, eigenvalues=[900.0, 7.0, 1.1])
    _, axes = figure.axes
    (line,) = axes.get_lines()
    np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
    np.testing.assert_array_equal(line.get_ydata(), [900.0, 7.0, 1.1])
    assert axes.get_yscale() == "log"
    for flat in ([3.0, 2.0], [2.0, 0.0], [0.0, 0.0]):
        _, axes = plotting.plot_scores(scores, eigenvalues=flat).axes
        assert axes.get_yscale() == "linear"
    assert len(plotting.plot_scores(scores, eigenvalues=[3.0]).axes) == 1  # nothing to compare
    assert len(plotting.plot_scores(scores, eigenvalues=[]).axes) == 1


@pytest.mark.parametrize(
    "scores",
    [[0.0], [0.0, 0.0, 0.0], [5.0], [0.0, 0.0, 1e300], [1e-300, 1.0], np.full(9, 4.0, np.float32)],
)
@pytest.mark.parametrize("threshold", [None, 0.0, 2.0])
def test_odd_scores_can_be_drawn(scores: Any, threshold: float | None, tmp_path: Any) -> None:
    figure = plotting.plot_scores(scores, threshold=threshold, support=np.ones(len(scores), bool))
    plotting.save_figure(figure, tmp_path / "x.png")  # ticks are computed when it is drawn
    assert bars(figure.axes[0])[0].values.sum() == len(scores)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"scores": []}, r"scores: expected shape \(n,\) with n >= 1, got \(0,\)"),
        ({"scores": [[1.0]]}, r"scores: expected shape"),
        ({"scores": [1.0, np.nan]}, "scores: expected finite numbers >= 0"),
        ({"scores": [-1.0]}, "scores: expected finite numbers >= 0"),
        ({"scores": [1.0], "support": [True, False]}, "support: expected 1 values"),
        ({"scores": [1.0], "eigenvalues": [np.inf]}, "eigenvalues: expected finite"),
        ({"scores": [1.0], "bins": 0}, "bins: expected an integer >= 1, got 0"),
    ],
)
def test_what_cannot_be_drawn(arguments: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        plotting.plot_scores(**arguments)


def test_groups_are_drawn_over_one_another() -> None:
    """Oracle: the counts given; panels without data are hidden."""
    edges = np.arange(5.0)
    counts = {"clean": np.array([9, 4, 1, 0]), "poison": np.array([0, 0, 1, 3])}
    figure = plotting.plot_groups([(f"class {k}", edges, counts) for k in range(3)], xlabel="x")
    assert [axes.get_visible() for axes in figure.axes] == [True, True, True, False]
    drawn = bars(figure.axes[2])
    np.testing.assert_array_equal(drawn[-1].values, counts["poison"])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["clean", "poison"]
    assert figure.axes[1].get_title(loc="left") == "class 1"
    with pytest.raises(ValueError, match="panels: expected at least one"):
        plotting.plot_groups([], xlabel="x")
