"""SEVER for ridge regression: the three drug attacks and the synthetic one of the paper.

    python bench/sever_ridge.py            # all eps, three repeats: about 15 minutes on one core
    python bench/sever_ridge.py --quick    # eps = 0 and .1 on the drug data, one repeat

First the protocol as published (bench/_sever_published.py): at eps = 0 its seven errors must equal
the stored ones to 1e-6. Then `tamis.sever.SeverRegressor` on the same poisoned data.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from _data import require_data_dir
from _results import Progress, ResultFile
from _sever_published import DEFENCES, defend
from tamis.sever import SeverRegressor
from tamis.sever.attacks import regression_attack

RESULTS = Path(__file__).parent / "results"
STORED = {
    "none": "noDefense",
    "l2": "l2",
    "gradient": "gradient",
    "gradient_centered": "gradientCentered",
    "loss": "loss",
    "sever": "SEVER",
}
NAMES = {1: "drug, s = 3", 2: "drug, s = 1", 3: "drug, s = 8", 4: "synthetic"}


def drug(folder: Path) -> tuple[Any, ...]:
    stored = scipy.io.loadmat(folder / "sever" / "qsar.mat")
    X, y, X_test, y_test = (
        np.asarray(stored[name], dtype=float) for name in ("X_train", "y_train", "X_test", "y_test")
    )
    return X, y.ravel(), X_test, y_test.ravel(), 5650.0


def synthetic(seed: int) -> tuple[Any, ...]:
    rng = np.random.default_rng(seed)
    theta = rng.standard_normal(500)
    theta /= np.linalg.norm(theta)
    X, X_test = rng.standard_normal((5000, 500)), rng.standard_normal((500, 500))
    y, y_test = (Z @ theta + 5.0 + 0.1 * rng.standard_normal(len(Z)) for Z in (X, X_test))
    return X, y, X_test, y_test, 0.1


def strength(setting: int, eps: float) -> float:
    return {1: 3.0, 2: 1.0, 3: 8.0}.get(setting, 4.5 - (100 * eps - 2) / 6)


def ours(X: Any, y: Any, X_test: Any, y_test: Any, penalty: float, eps: float) -> float:
    model = make_pipeline(StandardScaler(), Ridge(alpha=penalty))
    found = SeverRegressor(model, contamination=eps).fit(X, y)
    return float(np.mean((found.predict(X_test) - y_test) ** 2))


def check(folder: Path) -> None:
    """The seven errors without poison; the benchmark ends if they differ."""
    X, y, X_test, y_test, penalty = drug(folder)
    wanted = {
        row: float(value)
        for row, value in _stored(folder)[1, 0.0].items()
        if row in STORED.values()
    }
    worst = 0.0
    for kind, column in STORED.items():
        found = defend(kind, X, y, X_test, y_test, penalty, 0.0)
        print(f"eps = 0, {kind:18s} {found:.8f}  stored {wanted[column]:.6f}")
        worst = max(worst, abs(found - wanted[column]))
    if worst > 1e-6:
        raise SystemExit(f"the published protocol is not reproduced: off by {worst:.1e}")


def _stored(folder: Path) -> dict[tuple[int, float], dict[str, str]]:
    with (folder / "sever" / "reference_results" / "linreg_results.csv").open() as file:
        return {(int(r["setting"]), float(r["eps"])): r for r in csv.DictReader(file)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--again", action="store_true", help="measure everything anew")
    args = parser.parse_args()
    folder = require_data_dir()
    check(folder)
    grid = [0.1] if args.quick else [0.01 * i for i in range(1, 11)]
    settings = (1, 2, 3) if args.quick else (1, 2, 3, 4)
    repeats = 1 if args.quick else 3
    name = "sever_ridge_quick.csv" if args.quick else "sever_ridge.csv"
    path = Path("build") / name if args.quick else RESULTS / name
    fields = ("setting", "eps", "repeat", "uncorrupted", *DEFENCES, "tamis")
    file = ResultFile(path, fields, 3, lambda _: args.again or args.quick)
    cases = [(s, round(e, 3), r) for s in settings for e in grid for r in range(repeats)]
    cases = [case for case in cases if case not in file]
    progress = Progress([1.0] * len(cases))
    for setting, eps, repeat in cases:
        X, y, X_test, y_test, penalty = drug(folder) if setting < 4 else synthetic(repeat)
        clean = defend("none", X, y, X_test, y_test, penalty, 0.0)
        bad = regression_attack(
            X, y, int(eps * len(X) + 1e-9), strength=strength(setting, eps), seed=repeat
        )
        X_all, y_all = np.vstack([X, bad[0]]), np.r_[y, bad[1]]
        errors = [defend(k, X_all, y_all, X_test, y_test, penalty, eps) for k in DEFENCES]
        mine = ours(X_all, y_all, X_test, y_test, penalty, eps)
        file.add(setting, eps, repeat, clean, *errors, mine)
        progress.step(1.0, f"{NAMES[setting]}, eps {eps:g}: {mine:.4f}, clean {clean:.4f}")
    table(file, _stored(folder), settings, grid)
    if not args.quick:
        draw(file, grid)


def table(file: ResultFile, stored: Any, settings: Any, grid: Any) -> None:
    """Medians over repeats; the stored SEVER beside ours as published, and the largest gap."""
    head = ("eps", "clean", "none", "as pub.", "stored", "tamis")
    print(f"\n{'setting':12s}" + "".join(f"{name:>8s}" for name in head))
    gap = 0.0
    for setting in settings:
        for eps in (round(e, 3) for e in grid):
            where = {"setting": setting, "eps": eps}
            median = {c: float(np.median(file.numbers(c, **where))) for c in file.fields[3:]}
            known = stored[setting, eps]
            if setting < 4:
                gaps = [abs(median[k] - float(known[c])) for k, c in STORED.items()]
                gap = float(np.max([gap, *gaps]))  # NaN stays NaN, as with max() it would not
            line = (eps, median["uncorrupted"], median["none"], median["sever"])
            line = (*line, float(known["SEVER"]), median["tamis"])
            print(f"{NAMES[setting]:12s}" + "".join(f"{value:8.4f}" for value in line))
    print(f"largest gap to the stored curves of the drug data, all defences: {gap:.3f}")


def draw(file: ResultFile, grid: Any) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(16, 3.6), constrained_layout=True)
    for setting, axis in zip((4, 2, 3, 1), axes, strict=True):
        for kind in ("uncorrupted", *DEFENCES, "tamis"):
            line = [np.median(file.numbers(kind, setting=setting, eps=round(e, 3))) for e in grid]
            label = {"sever": "SEVER as published", "tamis": "tamis"}.get(kind, kind)
            axis.plot(grid, line, label=label, lw=2.5 if kind == "tamis" else 1.2)
        axis.set(title=NAMES[setting], xlabel="share of poison", ylabel="test error")
    axes[0].legend(fontsize=7)
    figure.savefig(RESULTS / "sever_ridge.png", dpi=110)


if __name__ == "__main__":
    main()
