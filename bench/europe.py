"""The map of Europe from genes: destroyed by a tenth of bad rows, and put right again.

    python bench/europe.py [--seeds 20] [--again] [--quick] [--json]

Needs the folder genomes_europe of the data (TAMIS_DATA_DIR).

Novembre et al. 2008: 20 principal components of 1387 people; the corruption of Diakonikolas et al.
2017 adds 154 rows and turns everything at random. Writes results/europe.png and, one by one,
results/europe.csv; a run that was stopped goes on. Of the published panels the two by semidefinite
programming are left out: they need a solver, and see 100 rows only.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import _timing
import peers_covariance
import tamis
from _data import require_data_dir
from _results import Progress, ResultFile

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("numpy", "scipy", "scikit-learn")
STEM = "POPRES_08_24_01.EuroThinFinal.LD_0.8.exLD.out0-PCA"
BAD = 154
FIELDS = (
    *("method", "bad_rows", "seed", "angle", "r2_lon", "r2_lat", "procrustes_disparity"),
    *("bad_left", "people_lost"),
)


def read(folder: Path) -> tuple[Any, Any, list[str]]:
    """(1387, 20) rows, their longitude and latitude, and the published colours."""
    with gzip.open(folder / f"{STEM}.eigs.gz", "rt") as file:
        next(file)
        vectors = np.array([line.split()[2:22] for line in file], dtype=float)
    with gzip.open(folder / f"{STEM}.eval.gz", "rt") as file:
        values = np.array(file.read().split()[:20], dtype=float)
    with gzip.open(folder / "PCA.txt.gz", "rt") as file:
        places = list(csv.DictReader(file, delimiter="\t"))
    place = np.array([[float(p["longitude"]), float(p["latitude"])] for p in places])
    with gzip.open(folder / "POPRESID_Color.txt.gz", "rt") as file:
        colours = [line.split()[1] for line in file]
    return vectors * values, place, colours


def corrupted(people: Any, seed: int) -> tuple[Any, Any]:
    """Bad rows and people, both turned by the same random rotation."""
    rng = np.random.default_rng(seed)
    bad = np.hstack([rng.integers(0, 3, (BAD, 10)), rng.integers(2, 4, (BAD, 10))]) / 24
    turn = np.linalg.qr(rng.standard_normal((20, 20)))[0]
    return bad @ turn, people @ turn


def top_two(X: Any, centre: bool = True) -> Any:
    return np.linalg.svd(X - X.mean(axis=0) if centre else X, full_matrices=False)[2][:2].T


def measures(true: Any, found: Any, people: Any, place: Any) -> list[float]:
    """Largest angle in degrees, R2 of longitude and latitude, squared Procrustes residual."""
    from scipy.linalg import subspace_angles
    from scipy.spatial import procrustes

    scores = np.column_stack([np.ones(len(people)), people @ found])
    gone = place - scores @ np.linalg.lstsq(scores, place, rcond=None)[0]
    r2 = 1 - np.square(gone).sum(axis=0) / np.square(place - place.mean(axis=0)).sum(axis=0)
    angle = float(np.rad2deg(subspace_angles(true, found)).max())
    return [angle, *r2.tolist(), float(procrustes(people @ true, people @ found)[2])]


Found = tuple[Any, Any]  # two directions, and which rows were kept; None where none is left out


def robust(X: Any, **options: Any) -> Found:
    pca = tamis.RobustPCA(2, **options).fit(X)
    return pca.components_.T, pca.support_


def mcd(X: Any) -> Found:
    from sklearn.covariance import MinCovDet

    found = MinCovDet(random_state=0).fit(X)
    return leading(found.covariance_), found.support_


def furthest(X: Any) -> Found:
    far = np.square(X - np.median(X, axis=0)).sum(axis=1)
    kept = far <= np.quantile(far, 0.9)
    return top_two(X[kept]), kept


def published_filter(X: Any) -> Found:
    C, rows = peers_covariance.tuned(X, 0.1)
    kept = np.zeros(len(X), dtype=bool)
    kept[rows] = True
    return leading(C), kept


def leading(C: Any) -> Any:
    return np.linalg.eigh(C)[1][:, :-3:-1]


def ransac(as_coded: bool) -> Callable[[Any, int], Found]:
    return lambda X, seed: (
        leading(peers_covariance.ransac_covariance(X, 0.1, seed, as_coded=as_coded)),
        None,
    )


METHODS: dict[str, Callable[[Any, int], Found]] = {
    "PCA": lambda X, seed: (top_two(X), None),
    "furthest tenth left out": lambda X, seed: furthest(X),
    "published filter": lambda X, seed: published_filter(X),
    "LRV": lambda X, seed: (leading(peers_covariance.lrv_covariance(X, 0.1)), None),
    "RANSAC": ransac(as_coded=False),
    "RANSAC, as coded": ransac(as_coded=True),
    "principal component pursuit": lambda X, seed: (
        top_two(peers_covariance.principal_component_pursuit(X), centre=False),
        None,
    ),
    "MinCovDet (scikit-learn)": lambda X, seed: mcd(X),
    "RobustPCA(contamination=.1)": lambda X, seed: robust(X, contamination=0.1),
    "RobustPCA('auto')": lambda X, seed: robust(X, contamination="auto"),
    "RobustPCA('auto', rule='gaussian')": lambda X, seed: robust(
        X, contamination="auto", rule="gaussian"
    ),
}


def figure(people: Any, place: Any, colours: list[str], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.colors import is_color_like

    # R's numbered shades by their base colour; R's plain names are X11's, as matplotlib's are
    base = [c if is_color_like(c) else c.rstrip("0123456789") for c in colours]
    shown = [c if is_color_like(c) else "gray" for c in base]
    bad, clean = corrupted(people, 0)
    X = np.vstack([bad, clean])
    true = top_two(clean, centre=False)
    maps = {
        "clean": (true, False),
        "10% bad rows: PCA": (top_two(X), True),
        "10% bad rows: RobustPCA": (tamis.RobustPCA(2).fit(X).components_.T, False),
    }
    fig, axes = plt.subplots(1, 3, figsize=(15, 5))
    for ax, (title, (found, with_bad)) in zip(axes, maps.items(), strict=True):
        # turned towards the geography, as the published map is
        u, _, v = np.linalg.svd((clean @ found).T @ (place - place.mean(axis=0)))
        scores = clean @ found @ u @ v
        ax.scatter(*scores.T, c=shown, s=9)
        if with_bad:
            ax.scatter(*(bad @ found @ u @ v).T, c="black", marker="x", s=12, label="bad rows")
            ax.legend()
        ax.set_title(f"{title}: {measures(true, found, clean, place)[0]:.1f} degrees off")
        ax.set_aspect("equal", "datalim")
    fig.tight_layout()
    fig.savefig(path, dpi=70)


def measure(results: ResultFile, people: Any, place: Any, seeds: int) -> None:
    todo = [
        (name, with_bad, seed)
        for name in METHODS
        for with_bad in (BAD, 0)
        for seed in range(seeds)
        if (name, with_bad, seed) not in results
    ]
    progress = Progress([1.0] * len(todo))
    for name, with_bad, seed in todo:
        bad, clean = corrupted(people, seed)
        X = np.vstack([bad, clean]) if with_bad else clean
        found, kept = METHODS[name](X, seed)
        kept = np.ones(len(X), dtype=bool) if kept is None else kept
        true = top_two(clean, centre=False)
        left, lost = int(kept[:with_bad].sum()), int((~kept[with_bad:]).sum())
        numbers = measures(true, found, clean, place)
        results.add(name, with_bad, seed, *numbers, left, lost)
        progress.step(1.0, f"{name}, {with_bad} bad rows: {numbers[0]:.2f} degrees")


def summary(results: ResultFile, seeds: int) -> list[dict[str, Any]]:
    """Means over the seeds, and the worst of them."""
    lines = []
    for with_bad in (BAD, 0):
        for name in METHODS:
            of = {"method": name, "bad_rows": with_bad}
            numbers = {f: results.numbers(f, **of)[:seeds] for f in FIELDS[3:]}
            line: dict[str, Any] = {**of, "seeds": len(numbers["angle"])}
            line |= {field: float(np.mean(values)) for field, values in numbers.items()}
            lines.append(line | {"worst_angle": max(numbers["angle"])})
    return lines


def main() -> int:
    _timing.use_full_speed_blas()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--again", action="store_true", help="measure tamis's methods anew")
    parser.add_argument("--quick", action="store_true", help="one seed, into build/bench")
    parser.add_argument("--json", action="store_true", help="print one JSON object, no table")
    args = parser.parse_args()
    people, place, colours = read(require_data_dir() / "genomes_europe")
    seeds = 1 if args.quick else args.seeds
    folder = ROOT / ("build/bench" if args.quick else "bench/results")
    results = ResultFile(
        folder / "europe.csv",
        FIELDS,
        3,
        lambda row: args.quick or (args.again and row["method"].startswith("RobustPCA")),
    )
    figure(people, place, colours, folder / "europe.png")
    measure(results, people, place, seeds)
    lines = summary(results, seeds)
    if args.json:
        facts = {"benchmark": "europe", "machine": _timing.machine(PACKAGES)}
        print(json.dumps({**facts, "methods": lines}, indent=2))
        return 0
    head = ["method", "bad rows", "angle", "worst", "R2 lon", "R2 lat", "Procrustes"]
    shown = ("bad_rows", "angle", "worst_angle", "r2_lon", "r2_lat", "procrustes_disparity")
    more = ("bad_left", "people_lost")
    rows = [[line["method"], *(f"{line[f]:.3g}" for f in (*shown, *more))] for line in lines]
    print(_timing.table([*head, "bad left", "people lost"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
