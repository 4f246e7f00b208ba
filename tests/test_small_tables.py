"""RobustCovariance on small tables, where bad rows mask each other.

Oracles: the outliers that the literature names in the classic tables (Rousseeuw and Leroy 1987 for
hbk, wood and starsCYG; Maronna and Yohai 1995 for bushfire); the generator for drawn rows; the
definition of the determinant for the start.
"""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tamis
from tamis.estimators import _concentration as concentration

TABLES: dict[str, tuple[bool, set[int], set[int]]] = {
    # is the last column a response, the known bad rows, those that may be missed; from 1
    "hbk": (True, set(range(1, 15)), set()),
    "wood": (True, {4, 6, 8, 19}, set()),
    "starsCYG": (False, {7, 9, 11, 20, 30, 34}, {9}),  # 9 lies between the giants and the rest
    "bushfire": (False, {*range(7, 12), *range(32, 39)}, set()),
}


def table(folder: Path, name: str) -> np.ndarray[Any, Any]:
    with gzip.open(folder / "robust_classics" / f"{name}.csv.gz", "rt", newline="") as file:
        rows = list(csv.reader(file))
    columns = [k for k, title in enumerate(rows[0]) if title not in ("", "rownames")]
    X = np.array([[float(row[k]) for k in columns] for row in rows[1:]])
    return X[:, :-1] if TABLES[name][0] else X


@pytest.mark.parametrize("name", TABLES)
def test_classic_tables(data_dir: Path, name: str) -> None:
    """All known outliers, and at most one row more."""
    _, known, may_stay = TABLES[name]
    found = tamis.RobustCovariance("auto").fit(table(data_dir, name))
    gone = {int(row) + 1 for row in np.flatnonzero(~found.support_)}
    assert known - may_stay <= gone
    assert len(gone - known) <= 1


@pytest.mark.parametrize(("n", "d"), [(40, 2), (60, 15), (100, 10), (400, 10)])
def test_clean_rows_stay(n: int, d: int) -> None:
    """On average over 20 draws hardly more than 2%, the false discovery rate, is left out."""
    shares = []
    for seed in range(20):
        X = np.random.default_rng([seed, n]).normal(size=(n, d)) * np.arange(1, d + 1) + 7
        shares.append(1 - tamis.RobustCovariance("auto").fit(X).support_.mean())
    assert np.mean(shares) <= 0.03


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("share", [0.1, 0.3])
def test_a_cluster_that_masks_itself(share: float, centred: bool) -> None:
    """Rows in a cluster 8 deviations out: none is kept, and clean ones are."""
    for seed in range(5):
        X = np.random.default_rng(seed).normal(size=(120, 6))
        bad = int(share * 120)
        X[:bad] = 8 / np.sqrt(6) + 0.8 * X[:bad]
        found = tamis.RobustCovariance("auto", assume_centered=centred).fit(X)
        assert not found.support_[:bad].any()
        assert found.support_[bad:].mean() > 0.9
        assert not centred or (found.location_ == 0).all()


def test_degenerate_tables() -> None:
    """A constant column, repeated rows, more than half of a column equal: nothing is NaN."""
    X = np.random.default_rng(0).normal(size=(60, 4))
    for change in ("constant", "repeated", "mostly zero"):
        Y = X.copy()
        if change == "constant":
            Y[:, 1] = 3.0
        elif change == "repeated":
            Y[:40] = Y[0]
        else:
            Y[:40, 2] = 0.0
        found = tamis.RobustCovariance("auto").fit(Y)
        assert np.isfinite(found.covariance_).all()
        assert np.isfinite(found.dist_).all()
        assert found.support_.sum() >= 30


def test_the_layout_of_the_rows_is_of_no_consequence() -> None:
    """Fortran order gives what C order gives, and is not written to."""
    X = np.random.default_rng(0).normal(size=(100, 6))
    X[:20] += 8
    fortran = np.asfortranarray(X)
    before = fortran.copy()
    expected = tamis.RobustCovariance("auto").fit(X)
    found = tamis.RobustCovariance("auto").fit(fortran)
    np.testing.assert_array_equal(found.support_, expected.support_)
    assert not found.support_[:20].any()
    np.testing.assert_array_equal(fortran, before)


def test_the_budget_is_kept() -> None:
    X = np.random.default_rng(1).normal(size=(100, 4))
    X[:30] += 9
    found = tamis.RobustCovariance(0.05).fit(X)
    assert (~found.support_).sum() <= 0.125 * 100
    assert found.stop_reason_ == "removal_limit"


def test_concentration_lowers_the_determinant() -> None:
    """A step never raises it (Rousseeuw and Van Driessen 1999, theorem 1)."""
    Z = np.random.default_rng(2).normal(size=(80, 5))
    Z[:20] += 5
    half = 43
    before = np.arange(half)
    chosen, log_determinant = concentration._descend(
        Z, Z.astype(np.float32), np.arange(80, dtype=float), half, centred=False, seen=set()
    )
    start = np.cov(Z[before].T, bias=True)
    assert chosen.size == half
    assert log_determinant < np.linalg.slogdet(start)[1]
    np.testing.assert_allclose(
        log_determinant, np.linalg.slogdet(np.cov(Z[chosen].T, bias=True))[1], rtol=1e-12
    )


def test_what_is_small() -> None:
    answers = [concentration.is_small(n, 10) for n in (39, 40, 499, 500)]
    assert answers == [False, True, True, False]
    assert [concentration.is_small(n, 100) for n in (799, 800)] == [False, True]
