"""SEVER on tables and kinds of poison that its defaults were not chosen on, and on clean tables.

    python bench/sever_families.py         # all of it, about 1 minute on one core

scikit-learn's own tables and a few synthetic ones: correlated, heavy-tailed, skewed, one-hot, noise
that grows with a column. Every table is split three times. Errors are on the clean rows left
out, as multiples of the error of the plain fit without poison: 1.00 is what a defence should reach
with poison, and what it costs without shows in the row "clean".
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_iris,
    load_wine,
    make_friedman1,
    make_regression,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from _results import Progress, ResultFile
from tamis.sever import SeverClassifier, SeverRegressor
from tamis.sever.attacks import flip_labels, regression_attack

PATH = Path(__file__).parent / "results" / "sever_families.csv"
SHARE = 0.1
DEFENCES = ("none", "sever", "no_readmission")
CLASSES = {
    "breast cancer": load_breast_cancer,
    "wine": load_wine,
    "iris": load_iris,
    "digits": load_digits,
}
REGRESSIONS = (
    "clean",
    "published",
    "one point",
    "two points",
    "leverage",
    "shifted y",
    "negated y",
)
FLIPS = ("clean", "any class", "one class", "one point", "leverage")


def numbers(name: str) -> tuple[Any, Any]:
    """A table to predict numbers from."""
    rng = np.random.default_rng(0)
    if name == "diabetes":
        return load_diabetes(return_X_y=True)
    if name == "friedman":
        return make_friedman1(1000, 10, noise=1.0, random_state=0)
    if name == "normal, d = 30":
        return make_regression(800, 30, noise=20.0, random_state=1)
    if name == "correlated, d = 40":
        Z = rng.normal(size=(600, 5))
        X = Z @ rng.normal(size=(5, 40)) + 0.1 * rng.normal(size=(600, 40))
        return X, 3.0 * Z[:, 0] + rng.normal(size=600)
    if name == "heavy tails":
        X = rng.standard_t(2.5, size=(800, 10))
        return X, X @ np.arange(10.0) + rng.standard_t(2.5, size=800)
    if name == "one-hot, d = 60":
        levels = rng.integers(0, 20, size=(1500, 3))
        X = np.hstack([np.eye(20)[column] for column in levels.T])
        return X, X @ rng.normal(size=60) + 0.3 * rng.normal(size=1500)
    X = rng.normal(size=(800, 8))
    noise = rng.normal(size=800)
    if name == "skewed":
        return np.exp(X), np.exp(X).sum(axis=1) + noise
    return X, X.sum(axis=1) + noise * (1.0 + 3.0 * np.abs(X[:, 0]))  # "uneven noise"


TABLES = ("diabetes", "friedman", "normal, d = 30", "correlated, d = 40", "heavy tails",
          "one-hot, d = 60", "skewed", "uneven noise")  # fmt: skip


def spoil_numbers(kind: str, X: Any, y: Any, seed: int) -> tuple[Any, Any]:
    """The table and a tenth as many rows of poison."""
    if kind == "clean":
        return X, y
    rng = np.random.default_rng(seed)
    n, d = X.shape
    m = int(SHARE * n)
    mean, sd = X.mean(axis=0), X.std(axis=0) + 1e-12
    center, unit = y.mean(), y.std()
    point, side = rng.normal(size=d), np.where(rng.random(m) < 0.5, 1.0, -1.0)
    some = rng.integers(0, n, m)
    if kind == "published":
        Z, target = regression_attack((X - mean) / sd, (y - center) / unit, m, strength=2.0)
        bad = mean + sd * Z, center + unit * target
    elif kind == "one point":
        bad = np.tile(mean + 3.0 * sd * point, (m, 1)), np.full(m, center - 5.0 * unit)
    elif kind == "two points":
        bad = mean + side[:, None] * 4.0 * sd * point, center - side * 6.0 * unit
    elif kind == "leverage":
        bad = mean + 10.0 * sd * rng.normal(size=(m, d)), center - 10.0 * unit * rng.random(m)
    elif kind == "shifted y":
        bad = X[some], np.full(m, center + 8.0 * unit)
    else:
        bad = X[some], center - 3.0 * (y[some] - center)
    return np.vstack([X, bad[0]]), np.r_[y, bad[1]]


def spoil_labels(kind: str, X: Any, y: Any, seed: int) -> tuple[Any, Any]:
    """Flipped labels, or rows beyond the mean of class 0 that are called class 1."""
    if kind == "clean":
        return X, y
    if kind == "any class":
        return X, flip_labels(y, SHARE, seed=seed)[0]
    rng = np.random.default_rng(seed)
    if kind == "one class":
        labels = y.copy()
        members = np.flatnonzero(y == 0)
        labels[rng.choice(members, int(SHARE * len(members)), replace=False)] = 1
        return X, labels
    m = int(SHARE * (y == 1).sum())
    mean, sd = X.mean(axis=0), X.std(axis=0)
    beyond = X[y == 0].mean(axis=0) - mean
    far, spread = (3.0, 0.0) if kind == "one point" else (8.0, 1.0)
    bad = mean + far * beyond + spread * sd * rng.normal(size=(m, X.shape[1]))
    return np.vstack([X, bad]), np.r_[y, np.ones(m, dtype=y.dtype)]


def errors(task: str, table: str, kind: str, seed: int) -> list[float]:
    """Of the plain fit without poison, of the plain fit, of SEVER with and without readmission."""
    scaled = StandardScaler()
    if task == "ridge":
        X, y = numbers(table)
        base, driver, spoil = make_pipeline(scaled, Ridge()), SeverRegressor, spoil_numbers
    else:
        X, y = CLASSES[table](return_X_y=True)
        last = LogisticRegression(max_iter=1000) if task == "logistic" else LinearSVC()
        base, driver, spoil = make_pipeline(scaled, last), SeverClassifier, spoil_labels
    parts = train_test_split(
        X, y, test_size=0.4, random_state=seed, stratify=None if task == "ridge" else y
    )
    X_train, X_test, y_train, y_test = parts
    given = spoil(kind, X_train, y_train, seed)

    def error(model: Any, rows: Any, target: Any) -> float:
        answer = model.fit(rows, target).predict(X_test)
        return float(np.mean((answer - y_test) ** 2 if task == "ridge" else answer != y_test))

    clean = error(clone(base), X_train, y_train)
    robust = [driver(base, contamination=SHARE, readmit=readmit) for readmit in (True, False)]
    return [clean, error(clone(base), *given), *(error(model, *given) for model in robust)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--again", action="store_true", help="measure everything anew")
    args = parser.parse_args()
    fields = ("task", "table", "kind", "seed", "clean", *DEFENCES)
    file = ResultFile(PATH, fields, 4, lambda _: args.again)
    cases = [("ridge", table, kind, seed)
             for table in TABLES for kind in REGRESSIONS for seed in range(3)]  # fmt: skip
    cases += [(task, table, kind, seed) for task in ("logistic", "svc")
              for table in CLASSES for kind in FLIPS for seed in range(3)]  # fmt: skip
    cases = [case for case in cases if case not in file]
    progress = Progress([1.0] * len(cases))
    for case in cases:
        file.add(*case, *errors(*case))
        progress.step(1.0, ", ".join(map(str, case)))
    for task in ("ridge", "logistic", "svc"):
        show(file, task, REGRESSIONS if task == "ridge" else FLIPS)


def show(file: ResultFile, task: str, kinds: tuple[str, ...]) -> None:
    """By kind of poison, over tables: the geometric mean, and the worst and its table."""
    tables = TABLES if task == "ridge" else tuple(CLASSES)
    print(
        f"\n{task}: error, in errors of the clean fit: geometric mean over tables (worst of them)"
    )
    print(f"{'':12s}" + "".join(f"{name:>34s}" for name in DEFENCES))
    for kind in kinds:
        cells = []
        for name in DEFENCES:
            where = {"task": task, "kind": kind}
            ratios = [
                np.mean(file.numbers(name, table=table, **where))
                / np.mean(file.numbers("clean", table=table, **where))
                for table in tables
            ]
            worst = int(np.argmax(ratios))
            mean = np.exp(np.mean(np.log(ratios)))
            cells.append(f"{mean:8.2f} ({ratios[worst]:6.2f} {tables[worst]:>16.16s})")
        print(f"{kind:12s}" + "".join(cells))


if __name__ == "__main__":
    main()
