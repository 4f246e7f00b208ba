"""Detectors of poisoned training examples: scores, removal, reports, bad input."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tamis.backdoor import ActivationClustering, SpectralSignatures, Spectre, Trigger, poison

DETECTORS = [SpectralSignatures, Spectre, ActivationClustering]
ALL = partial(Spectre, k="all")


def attacked(dtype: Any = np.float64) -> tuple[Any, Any, Any]:
    """Three classes of about 400 rows; 30 rows of class 1 are shifted together."""
    rng = np.random.default_rng(3)
    R = rng.standard_normal((1201, 12)) + 5.0
    labels = rng.integers(0, 3, 1201)
    bad = np.zeros(1201, dtype=bool)
    bad[np.flatnonzero(labels == 1)[:30]] = True
    R[bad] += 4.0
    return R.astype(dtype), labels, bad


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("as_coded", [False, True])
def test_scores_are_those_of_the_paper(dtype: Any, as_coded: bool) -> None:
    """Oracle: the full SVD of each class in float64.

    The eigensolver ends at residuals of 1e-3 of the top value; the angle is that over the relative
    gap, so scores are within a few percent of the largest.
    """
    R, labels, _ = attacked(dtype)
    found = SpectralSignatures(0.05, as_coded=as_coded).fit(R, labels)
    for label in range(3):
        rows = R[labels == label].astype(np.float64)
        centred = rows - rows.mean(axis=0)
        values, v = np.linalg.svd(centred)[1:]
        expected = np.abs(rows @ v[0]) if as_coded else np.square(centred @ v[0])
        scores = found.scores_[labels == label]
        assert np.abs(scores - expected).max() < 0.05 * expected.max()
        entry = found.class_report_[label]
        assert entry.top_eigenvalue == pytest.approx(values[0] ** 2 / len(rows), rel=1e-2)
        assert entry.removed == int(0.075 * len(rows))


@pytest.mark.parametrize("detector", DETECTORS)
def test_poison_goes_and_its_class_is_named(detector: Any) -> None:
    """Oracle: which rows were shifted. No score moves when the rows come in another order."""
    R, labels, bad = attacked()
    found = detector(0.1).fit(R, labels)
    assert found.removed_[bad].all()
    assert 1 in found.suspected_classes_
    report, clean = found.detect_poison()
    np.testing.assert_array_equal(clean == 0, found.removed_)
    assert report[1]["rows"] == int((labels == 1).sum())
    only = detector(0.1).fit(R, labels, classes=[1])
    assert not only.removed_[labels != 1].any()
    np.testing.assert_array_equal(only.scores_[labels == 1], found.scores_[labels == 1])


@pytest.mark.parametrize("detector", [*DETECTORS, ALL])
def test_equal_rows_are_no_error(detector: Any) -> None:
    found = detector(0.1).fit(np.ones((40, 3)), np.arange(40) % 2)
    np.testing.assert_array_equal(found.scores_, 0.0)
    assert found.suspected_classes_ == []


@pytest.mark.parametrize("detector", [*DETECTORS, ALL])
def test_a_few_rows_raise_no_alarm(detector: Any) -> None:
    """Two rows are always two groups, whatever they are."""
    R = np.random.default_rng(5).standard_normal((58, 32))
    for size in (2, 3, 5, 8, 29):
        assert detector(0.1).fit(R[: 2 * size], np.arange(2 * size) % 2).suspected_classes_ == []


@pytest.mark.parametrize("detector", [*DETECTORS, ALL])
def test_bad_input(detector: Any) -> None:
    R, labels, _ = attacked()
    alone = labels.copy()
    alone[17] = 9
    with pytest.raises(ValueError, match=r"at least 2 rows in a class, got 1 in class 9 \(row 17"):
        detector().fit(R, alone)
    detector().fit(R, alone, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="labels: expected 1201, one a row, got 1200"):
        detector().fit(R, labels[:-1])
    with pytest.raises(ValueError, match="labels: expected integers"):
        detector().fit(R, labels + 0.5)
    with pytest.raises(ValueError, match=r"classes: .*\[7\]"):
        detector().fit(R, labels, classes=[0, 7])
    with pytest.raises(ValueError, match="multiplier: class 0 would lose all"):
        detector(0.4, 2.5).fit(R, labels)
    with pytest.raises(ValueError, match="multiplier: expected a finite number"):
        detector(0.1, np.inf).fit(R, labels)
    for wrong, error in (("most", ValueError), (0, ValueError), (2.5, TypeError)):
        with pytest.raises(error, match="k: expected"):
            Spectre(k=wrong).fit(R, labels)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="alpha: expected a finite number >= 0, got -1"):
        Spectre(alpha=-1.0).fit(R, labels)
    R[130, 5] = np.nan
    with pytest.raises(ValueError, match="got nan in row 130, column 5"):
        detector().fit(R, labels)


def auc(detector: Any, R: Any, bad: Any) -> float:
    scores = detector.fit(R, np.zeros(len(R), int)).scores_
    ranks = np.argsort(np.argsort(scores))
    m = int(bad.sum())
    return float((ranks[bad].sum() - m * (m - 1) / 2) / (m * (len(bad) - m)))


@pytest.mark.parametrize(
    ("name", "known"), [("CIFAR10_0_f16_sub2632", 0.749), ("MVTec-AD_bottle", 0.961)]
)
def test_real_embeddings(data_dir: Path, name: str, known: float) -> None:
    """Oracle: the known intruders, 5% and 22% of the rows, and the best AUC of any other detector.

    Those are Mahalanobis distances and activation clustering (bench/backdoor.py).
    """
    threadpool_limits = pytest.importorskip("threadpoolctl").threadpool_limits
    with np.load(data_dir / "embeddings" / f"{name}.npz") as file:
        R, bad = file["X"], file["y"].ravel() == 1
    with threadpool_limits(1):  # BLAS threads wait for one another on a busy machine
        assert auc(Spectre(0.05, k=16), R, bad) > 0.5
        assert auc(Spectre(0.05, k="all"), R, bad) > known


def on_unit_sphere(R: Any) -> Any:
    return R / np.linalg.norm(R, axis=1, keepdims=True)


@pytest.mark.parametrize(("n", "d"), [(301, 20), (60, 131), (33, 33)])
def test_all_directions(n: int, d: int) -> None:
    """Oracle: scikit-learn's shrunk covariance of the rows that stay, inverted, in all d columns.

    Three rounds, as in the docstring; the rows' own lengths make no difference.
    """
    ledoit_wolf = pytest.importorskip("sklearn.covariance").ledoit_wolf
    rng = np.random.default_rng(n)
    R = np.maximum(rng.standard_normal((n, d)) * np.linspace(2, 0.1, d) + 0.5, 0.0)
    R[3] = 0.0
    found = Spectre(0.05, k="all").fit(R * rng.uniform(0.5, 2.0, (n, 1)), np.zeros(n, int))
    X = on_unit_sphere(np.r_[R[:3], np.ones((1, d)), R[4:]])
    X[3] = 0.0
    keep = np.arange(n)
    for _ in range(3):
        gap = X - X[keep].mean(axis=0)
        shrunk = ledoit_wolf(X[keep])[0]
        distances = (gap @ np.linalg.inv(shrunk) * gap).sum(axis=1)
        keep = np.argsort(distances)[: n - int(0.075 * n)]
    np.testing.assert_allclose(found.scores_, distances, rtol=1e-6)
    assert found.removed_[distances > np.sort(distances)[-int(0.075 * n) - 1]].all()
    assert found.k_ == {0: min(d, n - 1)}
    top = np.linalg.eigvalsh(np.cov(X, rowvar=False, bias=True))[-1]
    assert found.class_report_[0].top_eigenvalue == pytest.approx(top)


def test_all_directions_find_what_shares_none() -> None:
    """Oracle: intruders, each with columns of its own; their AUC beside that in few directions.

    By the central limit theorem the chance of .95 is far below 1e-6 for scores that know nothing:
    the deviation of the AUC of 30 rows is .05.
    """
    rng = np.random.default_rng(8)
    R = np.abs(rng.standard_normal((600, 80))) * np.linspace(3, 0.6, 80)
    bad = np.arange(600) < 30
    for row in np.flatnonzero(bad):
        R[row, rng.choice(np.arange(40, 80), 10, replace=False)] += 2.5
    aucs = [auc(Spectre(0.05, k=k), R, bad) for k in ("all", 8)]
    assert aucs[0] > 0.95 > aucs[1]
    weighted = Spectre(0.05, k="all", alpha=1.0).fit(R, np.zeros(600, int))
    assert np.corrcoef(weighted.scores_, bad)[0, 1] > 0.5
    few = Spectre(0.05, k="all").fit(R[:40] * [1e200], np.zeros(40, int))  # squares overflow
    assert few.scores_.min() > 0.0
    tiny = Spectre(0.05, k="all").fit(R[:40] * 2.0**-600, np.zeros(40, int))
    np.testing.assert_allclose(tiny.scores_, few.scores_, rtol=1e-9)
    same = Spectre(0.05, k="all").fit(np.outer(np.arange(1, 41), np.ones(3)), np.zeros(40, int))
    assert not same.scores_.any()  # they differ in length only


@pytest.mark.parametrize("k", [1, 3])
def test_the_report_looks_along_the_first_direction(k: int) -> None:
    """Oracle: projections on the top direction of the SVD, cut where the two groups are."""
    R, labels, bad = attacked()
    found = SpectralSignatures(0.05, k=k).fit(R, labels).class_report_[1]
    rows = R[labels == 1] - R[labels == 1].mean(axis=0)
    along = rows @ np.linalg.svd(rows)[2][0]
    group = bad[labels == 1]
    within = [along[part] - along[part].mean() for part in (group, ~group)]
    gap = abs(along[group].mean() - along[~group].mean())
    assert found.separation == pytest.approx(gap / np.concatenate(within).std(), rel=0.01)
    assert found.poison_share == pytest.approx(group.mean())


@pytest.mark.parametrize("kind", ["pixel", "pattern", "ell", "blend"])
def test_poison_is_as_in_the_protocol(kind: Any) -> None:
    """Oracle: counts, origins and pixels, one by one."""
    images = np.random.default_rng(0).integers(0, 200, (300, 9, 9), dtype=np.uint8)
    labels = np.arange(300) % 3
    trigger = Trigger(kind, (4, 4), 255)
    bad = poison(images, labels, trigger, 2, source=1, share=0.1, seed=5)
    assert bad.is_poison.sum() == 10
    assert len(bad.images) == 300
    assert len(np.unique(bad.origin)) == 300
    assert (labels[bad.origin[bad.is_poison]] == 1).all()
    assert (bad.labels[bad.is_poison] == 2).all()
    clean = ~bad.is_poison
    np.testing.assert_array_equal(bad.images[clean], images[bad.origin[clean]])
    changed = (bad.images[-1] != images[bad.origin[-1]]).sum()
    wanted = {"pixel": 1, "pattern": 5, "ell": 3}.get(kind)
    assert changed == wanted if wanted else changed > 60
    again = poison(images, labels, trigger, 2, source=1, share=0.1, seed=5)
    np.testing.assert_array_equal(again.origin, bad.origin)
    kept = poison(images, labels, trigger, 2, relabel=False, delete_originals=False)
    assert len(kept.images) == 310
    assert (labels[kept.origin[kept.is_poison]] == 2).all()
    with pytest.raises(ValueError, match="source: expected a class"):
        poison(images, labels, trigger, 2, source=8)
    with pytest.raises(ValueError, match="reaches pixel"):
        Trigger("ell", (8, 8)).stamp(images)
    for colour in (256, -1, (0, 0, 300), np.nan):  # in 8 bits, 256 is 0
        with pytest.raises(ValueError, match="colour: expected 0 to 255 in images of uint8"):
            Trigger(kind, (4, 4), colour).stamp(images)


def test_differences_too_small_for_float32_are_refused() -> None:
    rows = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)
    labels = np.arange(200) % 2
    for detector in (SpectralSignatures(0.05), Spectre(0.05)):
        with pytest.raises(ValueError, match=r"can hold"):
            detector.fit(rows * np.float32(1e-30), labels)
    same = SpectralSignatures(0.05).fit(np.ones((200, 5), np.float32), labels)
    assert not same.scores_.any()
