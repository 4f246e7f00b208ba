"""Detectors of poisoned training examples: scores, removal, reports, bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tamis.backdoor import ActivationClustering, SpectralSignatures, Spectre, Trigger, poison

DETECTORS = [SpectralSignatures, Spectre, ActivationClustering]


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


@pytest.mark.parametrize("detector", DETECTORS)
def test_equal_rows_are_no_error(detector: Any) -> None:
    found = detector(0.1).fit(np.ones((40, 3)), np.arange(40) % 2)
    np.testing.assert_array_equal(found.scores_, 0.0)
    assert found.suspected_classes_ == []


@pytest.mark.parametrize("detector", DETECTORS)
def test_a_few_rows_raise_no_alarm(detector: Any) -> None:
    """Two rows are always two groups, whatever they are."""
    R = np.random.default_rng(5).standard_normal((58, 32))
    for size in (2, 3, 5, 8, 29):
        assert detector(0.1).fit(R[: 2 * size], np.arange(2 * size) % 2).suspected_classes_ == []


@pytest.mark.parametrize("detector", DETECTORS)
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
    R[130, 5] = np.nan
    with pytest.raises(ValueError, match="got nan in row 130, column 5"):
        detector().fit(R, labels)


def test_a_real_class_of_embeddings(data_dir: Path) -> None:
    """Oracle: the known intruders, 5% of the rows, rank above chance."""
    threadpool_limits = pytest.importorskip("threadpoolctl").threadpool_limits
    with np.load(data_dir / "embeddings" / "CIFAR10_0_f16_sub2632.npz") as file:
        R, bad = file["X"], file["y"].ravel() == 1

    def auc(detector: Any) -> float:
        scores = detector.fit(R, np.zeros(len(R), int)).scores_
        ranks = np.argsort(np.argsort(scores))
        m = int(bad.sum())
        return float((ranks[bad].sum() - m * (m - 1) / 2) / (m * (len(bad) - m)))

    with threadpool_limits(1):  # BLAS threads wait for one another on a busy machine
        plain = auc(Spectre(0.05, k=16))
        assert plain > 0.5
        assert auc(Spectre(0.05, k=16, complement=True)) > plain


def test_complement() -> None:
    """Oracle: the weights by hand, for two directions; nothing changes where nothing is outside.

    A good row far out in many directions that are not among the first shows only with it.
    """
    rng = np.random.default_rng(2)
    R = rng.standard_normal((500, 30)) * np.r_[9.0, 6.0, np.ones(28)]
    R[17, 2:] = 4.0
    labels = np.zeros(500, int)
    plain = Spectre(0.02, k=2).fit(R, labels).scores_
    with_rest = Spectre(0.02, k=2, complement=True).fit(R, labels).scores_
    assert with_rest.argmax() == 17 != plain.argmax()
    # without a signature all 30 whitened variances are 1 and weigh the same: (2 p + r) / 30, with
    # r of mean 28 (median: 27.3) from the other 28; k = 2 is estimated from 500 rows, to 10%
    others = np.arange(500) != 17
    r = 30.0 * with_rest[others] - 2.0 * plain[others]
    assert np.median(r) == pytest.approx(28.0, rel=0.1)
    whole = [Spectre(0.02, k=30, complement=c).fit(R, labels).scores_ for c in (False, True)]
    np.testing.assert_array_equal(*whole)


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


def test_differences_too_small_for_float32_are_refused() -> None:
    rows = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)
    labels = np.arange(200) % 2
    for detector in (SpectralSignatures(0.05), Spectre(0.05)):
        with pytest.raises(ValueError, match=r"can hold"):
            detector.fit(rows * np.float32(1e-30), labels)
    same = SpectralSignatures(0.05).fit(np.ones((200, 5), np.float32), labels)
    assert not same.scores_.any()
