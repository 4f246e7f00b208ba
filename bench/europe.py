"""The map of Europe from genes: destroyed by a tenth of bad rows, and put right again.

    python bench/europe.py [--seeds 20]

Needs the folder genomes_europe of the data (TAMIS_DATA_DIR).

Novembre et al. 2008: 20 principal components of 1387 people; the corruption of Diakonikolas et al.
2017 adds 154 rows and turns everything at random. Writes results/europe.png, .csv.
"""

from __future__ import annotations

import argparse
import csv
import gzip
from pathlib import Path
from typing import Any

import numpy as np

import tamis
from _data import require_data_dir

RESULTS = Path(__file__).parent / "results"
STEM = "POPRES_08_24_01.EuroThinFinal.LD_0.8.exLD.out0-PCA"
BAD = 154


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


def methods() -> dict[str, Any]:
    """Functions of the rows that give two directions and the rows kept."""
    from sklearn.covariance import MinCovDet

    def robust(X: Any, **options: Any) -> Any:
        pca = tamis.RobustPCA(2, **options).fit(X)
        return pca.components_.T, pca.support_

    def mcd(X: Any) -> Any:
        found = MinCovDet(random_state=0).fit(X)
        return np.linalg.eigh(found.covariance_)[1][:, :-3:-1], found.support_

    def prune(X: Any) -> Any:
        centre = np.median(X, axis=0)
        far = np.square(X - centre).sum(axis=1)
        kept = far <= np.quantile(far, 0.9)
        return top_two(X[kept]), kept

    return {
        "PCA": lambda X: (top_two(X), np.ones(len(X), dtype=bool)),
        "furthest tenth left out": prune,
        "MinCovDet (scikit-learn)": mcd,
        "RobustPCA(contamination=.1)": lambda X: robust(X, contamination=0.1),
        "RobustPCA('auto')": lambda X: robust(X, contamination="auto"),
        "RobustPCA('auto', rule='gaussian')": lambda X: robust(
            X, contamination="auto", rule="gaussian"
        ),
    }


def figure(people: Any, place: Any, colours: list[str]) -> None:
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
    fig.savefig(RESULTS / "europe.png", dpi=70)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    args = parser.parse_args()
    people, place, colours = read(require_data_dir() / "genomes_europe")
    figure(people, place, colours)
    lines = []
    for with_bad in (True, False):
        for name, method in methods().items():
            rows = []
            for seed in range(args.seeds):
                bad, clean = corrupted(people, seed)
                X = np.vstack([bad, clean]) if with_bad else clean
                found, kept = method(X)
                split = BAD if with_bad else 0
                true = top_two(clean, centre=False)
                left, lost = int(kept[:split].sum()), int((~kept[split:]).sum())
                rows.append([*measures(true, found, clean, place), left, lost])
            worst = np.max(rows, axis=0)
            mean = np.mean(rows, axis=0)
            line = [name, BAD if with_bad else 0, args.seeds, *mean, worst[0], worst[4]]
            lines.append([f"{v:.4g}" if isinstance(v, float) else v for v in line])
            print(*lines[-1], sep="\t", flush=True)
    with (RESULTS / "europe.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        head = "method bad_rows seeds angle r2_lon r2_lat procrustes_disparity bad_left people_lost"
        writer.writerow([*head.split(), "worst_angle", "worst_bad_left"])
        writer.writerows(lines)


if __name__ == "__main__":
    main()
