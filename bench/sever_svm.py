"""SEVER for a linear SVM on the Enron spam data with the paper's own stored poison.

    python bench/sever_svm.py              # ten attack files, about 4 minutes on one core

The clean error must be 31 of 1035. Per attack file: no defence, and every other one; the stored
errors of the authors' code beside them.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import scipy.sparse
from sklearn.svm import SVC

from _data import require_data_dir
from _results import Progress, ResultFile
from tamis.sever import SeverClassifier, baselines, losses, sever

RESULTS = Path(__file__).parent / "results"
DECAY = 0.09
DEFENCES = ("none", "l2", "loss", "gradient", "gradient_centered", "sever_one_direction", "tamis")
STORED = {"none": "none", "l2": "xCentered", "loss": "loss", "sever_one_direction": "SVD"}


def load(folder: Path) -> tuple[Any, Any, Any, Any]:
    stored = scipy.io.loadmat(folder / "sever" / "enron_data.mat")
    X, X_test = (scipy.sparse.csr_matrix(stored[f"X_{k}"]).astype(float) for k in ("train", "test"))
    y, y_test = (np.asarray(stored[f"y_{k}"]).ravel().astype(int) for k in ("train", "test"))
    return X, y, X_test, y_test


def svm(n: int) -> SVC:
    """``decay / 2 |w|^2`` + mean hinge, the bias free: C = 1 / (n decay)."""
    return SVC(kernel="linear", C=1.0 / (n * DECAY))


def errors(X: Any, y: Any, X_test: Any, y_test: Any, eps: float, clean: Any) -> dict[str, float]:
    """Test error of every defence; ``eps`` bad examples a clean one, by the published fractions."""
    share = len(clean) / min((clean == 1).sum(), (clean == -1).sum()) * eps

    products, test_products = (X @ X.T).toarray(), (X_test @ X.T).toarray()

    def fit(rows: Any) -> Any:
        """Values at all examples and at the test's, from the products of examples."""
        model = SVC(kernel="precomputed", C=1.0 / (len(rows) * DECAY))
        model.fit(products[np.ix_(rows, rows)], y[rows])
        own = rows[model.support_]
        dual, level = model.dual_coef_[0], model.intercept_[0]
        return products[:, own] @ dual + level, test_products[:, own] @ dual + level

    def hinge(model: Any, rows: Any) -> Any:
        return np.maximum(0.0, 1.0 - y[rows] * model[0][rows])

    def gradients(model: Any, rows: Any) -> Any:
        a = losses.hinge(model[0][rows], y[rows].astype(float))
        return scipy.sparse.csr_matrix(scipy.sparse.diags(a) @ X[rows])

    def error(model: Any) -> float:
        return float((np.sign(model[1]) != y_test).mean())

    common: dict[str, Any] = {
        "contamination": share, "rounds": 2, "fraction": share / 2, "per_class": y,
    }  # fmt: skip
    out = {"none": error(fit(np.arange(len(y))))}
    values = {"l2": lambda _, rows: X[rows], "loss": hinge}
    for kind in ("l2", "loss", "gradient", "gradient_centered"):
        found = baselines.remove(kind, fit, values.get(kind, gradients), len(y), **common)
        out[kind] = error(found.model)
    one = sever(fit, gradients, len(y), readmit=False, **common)
    out["sever_one_direction"] = error(one.model)
    ours = SeverClassifier(svm(len(y)), contamination=share).fit(X, y)
    out["tamis"] = float((ours.predict(X_test) != y_test).mean())
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two attack files, nothing written")
    parser.add_argument("--again", action="store_true", help="measure everything anew")
    args = parser.parse_args()
    folder = require_data_dir()
    X, y, X_test, y_test = load(folder)
    wrong = int((svm(len(y)).fit(X, y).predict(X_test) != y_test).sum())
    print(f"no poison: {wrong} of {len(y_test)} wrong")
    if wrong != 31:
        raise SystemExit("expected 31: this is not the published SVM")
    files = sorted((folder / "sever" / "enron_attacks").glob("*.mat"))
    files = files[2:4] if args.quick else files
    path = Path("build/sever_svm_quick.csv") if args.quick else RESULTS / "sever_svm.csv"
    known = _stored(folder)
    file = ResultFile(path, ("attack", *DEFENCES), 1, lambda _: args.again or args.quick)
    todo = [f for f in files if (f.stem,) not in file]
    progress = Progress([1.0] * len(todo))
    for source in todo:
        attack = scipy.io.loadmat(source)
        X_all = scipy.sparse.vstack([X, scipy.sparse.csr_matrix(attack["X_attack"])]).tocsr()
        y_all = np.r_[y, np.asarray(attack["y_attack"]).ravel().astype(int)]
        eps = float(source.stem.split("-")[1].split("_")[0]) / 1000
        found = errors(X_all, y_all, X_test, y_test, eps, y)
        file.add(source.stem, *(found[name] for name in DEFENCES))
        progress.step(1.0, f"{source.stem}: {found['tamis']:.4f}, no defence {found['none']:.4f}")
    print(f"\n{'attack':18s}" + "".join(f"{name[:12]:>14s}" for name in DEFENCES))
    for row in file.rows:
        print(f"{row['attack']:18s}" + "".join(f"{float(row[name]):14.4f}" for name in DEFENCES))
    means = {name: np.mean(file.numbers(name)) for name in DEFENCES}
    print(f"{'mean':18s}" + "".join(f"{means[name]:14.4f}" for name in DEFENCES))
    stored = {
        n: np.mean([float(known[r["attack"]][c]) for r in file.rows]) for n, c in STORED.items()
    }
    print("stored means: " + ", ".join(f"{name} {value:.4f}" for name, value in stored.items()))
    for name in ("none", "l2", "loss"):
        gaps = [abs(float(r[name]) - float(known[r["attack"]][STORED[name]])) for r in file.rows]
        print(f"largest gap to the stored errors, {name}: {max(gaps) * len(y_test):.1f} of 1035")
    if not args.quick:
        draw(file)


def _stored(folder: Path) -> dict[str, dict[str, str]]:
    """Rows of the stored table by the names of the attack files."""
    with (folder / "sever" / "reference_results" / "svm_attack_scores.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["dataset"] == "enron"]
    short = ((r["attack_dir"].split("_rep-2")[0].replace("_wd-9_exact", ""), r) for r in rows)
    return {f"{name}_{row['attack_id']}": row for name, row in short}


def draw(file: ResultFile) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(9, 3.8), constrained_layout=True)
    places = np.arange(len(file.rows))
    for i, name in enumerate(DEFENCES):
        axis.bar(places + 0.11 * (i - 3), file.numbers(name), 0.11, label=name)
    axis.axhline(31 / 1035, color="black", lw=0.8, label="no poison")
    axis.set_xticks(places, [row["attack"] for row in file.rows], rotation=30, ha="right")
    axis.set_ylabel("test error")
    axis.legend(fontsize=7)
    figure.savefig(RESULTS / "sever_svm.png", dpi=110)


if __name__ == "__main__":
    main()
