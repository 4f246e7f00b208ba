"""QUE scores: both experiments of the paper as figures, and the time against a full SVD.

    python bench/que.py synthetic    many weak directions; ambient noise 1, and .1 "as coded"
    python bench/que.py images       hot pixels on real images (needs the data, TAMIS_DATA_DIR)
    python bench/que.py speed        exact and sketched scores against the published recipe

Dong, Hopkins and Li 2019. `synthetic` is their generator at d = 128. `images` follows their
protocol on what is available: 28 x 28 MNIST test images, and 16 x 16 crops of the red channel of
600 CIFAR-10 test images, 500 of them JPEG (they had 60,000 whole CIFAR-10 images); 5000 drawn with
replacement, a fifth gets one dead pixel a group, of k groups; whitened exactly by 5000 others.
On MNIST only pixels that vary among those are hit, for the whitening does not see the others.
Every method scores the same whitened rows. Results are added to a CSV file one by one, and a run
that was stopped goes on.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import _timing
import peers_outliers
import tamis
from _data import require_data_dir
from _results import Progress, ResultFile

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from published_mixtures import for_que

ROOT = Path(__file__).resolve().parent.parent

FIELDS = ("case", "k", "seed", "method", "auc")
PACKAGES = ("numpy", "scipy", "scikit-learn", "pyod")
IMAGES, SHARE, GROWTH = 5000, 0.2, 1.3
SIZES = ((10_000, 512), (50_000, 1024), (20_000, 2048))


@dataclass(frozen=True)
class Method:
    score: Callable[[Any, float], Any]  # of rows and alpha
    colour: str
    dash: str = "-"
    slow: bool = False  # one seed only
    widest: int = 10_000  # columns


METHODS = {
    "QUE, exact (tamis)": Method(tamis.que_scores, "#0072B2"),
    "QUE, sketch (tamis)": Method(
        lambda X, a: tamis.que_scores(X, a, method="sketch"), "#56B4E9", "--"
    ),
    "naive spectral": Method(lambda X, a: peers_outliers.naive_spectral(X), "#D55E00"),
    "l2": Method(lambda X, a: peers_outliers.l2(X), "0.35"),
    "isolation forest": Method(lambda X, a: peers_outliers.isolation_forest(X), "#009E73"),
    "ECOD": Method(lambda X, a: peers_outliers.ecod(X), "#009E73", ":"),
    "10 neighbours": Method(lambda X, a: peers_outliers.neighbours(X), "#CC79A7", slow=True),
    "local outlier factor": Method(
        lambda X, a: peers_outliers.local_outlier_factor(X), "#CC79A7", ":", slow=True
    ),
    "elliptic envelope": Method(
        lambda X, a: peers_outliers.min_cov_det(X), "#E69F00", slow=True, widest=300
    ),
}


# ---- the rows ------------------------------------------------------------------------------------


def mnist(folder: Path) -> Any:
    """(10000, 784) float64, 0 to 255."""
    (path,) = (folder / "vision" / "mnist").glob("*10k-images*.gz")
    with gzip.open(path) as file:
        return np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 784).astype(float)


def cifar(folder: Path) -> Any:
    """(600, 32, 32) red channels: 100 exact, 500 decoded from JPEG."""
    from PIL import Image

    place = folder / "vision" / "cifar10"
    with np.load(place / "cifar10_test_first100_exact.npz") as file:
        first = file["X"][..., 0]
    with np.load(place / "cifar10_test500_jpeg.npz") as file:
        jpeg, offset = file["jpeg"], file["offset"]
    more = [
        np.asarray(Image.open(io.BytesIO(jpeg[a:b].tobytes())).convert("RGB"))[..., 0]
        for a, b in pairwise(offset)
    ]
    return np.concatenate([first, np.array(more)]).astype(float)


def sample(images: Any, rng: Any) -> Any:
    """IMAGES rows with replacement: whole flat images, or crops of 16 x 16 anywhere."""
    chosen = rng.integers(len(images), size=IMAGES)
    if images.ndim == 2:
        return images[chosen].copy()
    corner = rng.integers(0, 17, size=(2, IMAGES))
    return np.array(
        [images[i, y : y + 16, x : x + 16].ravel() for i, y, x in zip(chosen, *corner, strict=True)]
    )


def hot_pixels(images: Any, k: int, seed: int) -> tuple[Any, Any]:
    """Whitened rows and labels; the first fifth has dead pixels."""
    rng = np.random.default_rng([seed, k])
    X, clean = sample(images, rng), sample(images, rng)
    bad = int(SHARE * IMAGES)
    sizes = GROWTH ** np.arange(k)
    ends = np.floor(np.cumsum(sizes) / sizes.sum() * bad + 1e-9).astype(int)
    varying = np.flatnonzero(clean.std(axis=0) > 0)
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        X[start:end, rng.choice(varying)] = rng.integers(256)
    mean = clean.mean(axis=0)
    w, U = np.linalg.eigh(np.cov(clean.T))
    good = w > 1e-6 * w[-1]
    return (X - mean) @ (U[:, good] / np.sqrt(w[good])), np.arange(IMAGES) < bad


def cases(mode: str, quick: bool) -> dict[str, Callable[[int, int], tuple[Any, Any]]]:
    """name -> rows and labels for (k, seed)."""
    if mode == "synthetic":
        return {
            f"ambient {noise:g}": (
                lambda k, seed, noise=noise: for_que(k, 128, np.random.default_rng(seed), noise)
            )
            for noise in (1.0, 0.1)
        }
    folder = require_data_dir()
    found = {"CIFAR-10 crops, 16 x 16": cifar(folder)}
    if not quick:
        found["MNIST, 28 x 28"] = mnist(folder)
    return {
        name: (lambda k, seed, images=images: hot_pixels(images, k, seed))
        for name, images in found.items()
    }


# ---- the figures ---------------------------------------------------------------------------------


def accuracy(args: argparse.Namespace) -> dict[str, Any]:
    from sklearn.metrics import roc_auc_score

    alpha = 4.0 if args.mode == "synthetic" else 6.0
    ks = (1, 4) if args.quick else (1, 4, 7, 10, 13)[: args.most]
    seeds = 1 if args.quick else args.seeds
    folder = ROOT / ("build/bench" if args.quick else "bench/results")
    results = ResultFile(folder / f"que_{args.mode}.csv", FIELDS, 4, lambda row: args.quick)
    generators = cases(args.mode, args.quick)
    todo = [
        (case, k, seed, name)
        for case in generators
        for k in ks
        for seed in range(seeds)
        for name, method in METHODS.items()
        if (case, k, seed, name) not in results and not (method.slow and (seed or args.quick))
    ]
    progress = Progress([1.0] * len(todo))
    drawn: Any = (None, None)
    for case, k, seed, name in todo:
        if drawn[0] != (case, k, seed):
            drawn = ((case, k, seed), generators[case](k, seed))
        X, y = drawn[1]
        if X.shape[1] > METHODS[name].widest:
            progress.step(1.0, f"{case}, {name}: too wide, left out")
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of peers, on singular rows
            auc = float(roc_auc_score(y, METHODS[name].score(X, alpha)))
        results.add(case, k, seed, name, auc)
        progress.step(1.0, f"{case}, k = {k}, {name}: AUC {auc:.3f}")
    means = [
        {"case": case, "k": k, "method": name, "seeds": len(found), "auc": float(np.mean(found))}
        for case in generators
        for k in ks
        for name in METHODS
        if (found := results.numbers("auc", case=case, k=k, method=name))
    ]
    if not args.quick:
        draw(args.mode, list(generators), list(ks), means, folder / f"que_{args.mode}.png")
    return {"alpha": alpha, "means": means}


def draw(mode: str, names: list[str], ks: list[int], means: Any, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.6), layout="constrained")
    panels = figure.subplots(1, len(names), sharey=True)
    for axes, case in zip(panels, names, strict=True):
        for name, method in METHODS.items():
            line = [(m["k"], m["auc"]) for m in means if m["case"] == case and m["method"] == name]
            if line:
                axes.plot(
                    *np.array(line).T,
                    method.dash,
                    color=method.colour,
                    marker="o",
                    ms=3,
                    label=name,
                )
        axes.set(title=case, xlabel="directions k", xticks=ks, ylim=(-0.02, 1.02))
        axes.grid(True, color="0.92")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("area under the ROC curve")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    what = "outliers in k directions, d = 128" if mode == "synthetic" else "hot pixels, k groups"
    figure.suptitle(what)
    figure.savefig(path, dpi=100)


def show_means(result: dict[str, Any]) -> str:
    means = result["means"]
    heads = list(dict.fromkeys((m["case"], m["k"]) for m in means))
    value = {(m["case"], m["k"], m["method"]): f"{m['auc']:.3f}" for m in means}
    rows = [[name, *(value.get((*head, name), "-") for head in heads)] for name in METHODS]
    return _timing.table(["AUC", *(f"{case}, k = {k}" for case, k in heads)], rows)


# ---- the time ------------------------------------------------------------------------------------


def speed(args: argparse.Namespace) -> dict[str, Any]:
    lines = []
    for n, d in SIZES[:1] if args.quick else SIZES:
        X = np.random.default_rng(0).standard_normal((n, d), dtype=np.float32)
        X[: n // 20, :4] *= 4.0
        calls = {
            "full SVD": lambda X=X: peers_outliers.que_by_full_svd(X),
            "exact": lambda X=X: tamis.que_scores(X),
            "sketch": lambda X=X: tamis.que_scores(X, method="sketch"),
        }

        def check(X: Any = X[:3000, :400]) -> None:
            expected = peers_outliers.que_by_full_svd(X)
            np.testing.assert_allclose(tamis.que_scores(X), expected, rtol=1e-2)
            order = [
                np.argsort(np.argsort(s)) for s in (expected, tamis.que_scores(X, method="sketch"))
            ]
            assert np.corrcoef(*order)[0, 1] > 0.9

        times = _timing.interleave(
            calls,
            check=check,
            rounds=args.rounds or (3 if d < 1000 else 1),
            warmup=1 if d < 1000 else 0,
            clock=_timing.clock_for(args),
        )
        for name in ("exact", "sketch"):
            ratio = _timing.spread(_timing.ratios(times, "full SVD", name))
            middle = _timing.spread(times[name])["median"]
            lines.append({"n": n, "d": d, "scores": name, "seconds": middle, "ratio": ratio})
    return {"clock": _timing.clock_name(args), "times": lines}


def show_speed(result: dict[str, Any]) -> str:
    rows = [
        [f"{t['n']} x {t['d']}", t["scores"], f"{t['seconds']:.3f}", f"{t['ratio']['median']:.1f}"]
        for t in result["times"]
    ]
    head = ["rows", "scores", f"seconds, {result['clock']}", "times as fast as the SVD"]
    return _timing.table(head, rows)


def main() -> int:
    _timing.use_full_speed_blas()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mode", choices=("synthetic", "images", "speed"))
    parser.add_argument("--seeds", type=int, default=3, help="draws of the rows (slow peers: one)")
    parser.add_argument("--most", type=int, default=5, help="how many of k = 1, 4, 7, 10, 13")
    parser.add_argument("--threads", type=int, help="of tamis and of NumPy's BLAS")
    _timing.add_arguments(parser)
    args = parser.parse_args()
    if args.threads or args.cpu_time:
        from peers import set_threads

        set_threads(args.threads or 1)
    result = speed(args) if args.mode == "speed" else accuracy(args)
    if args.json:
        facts = {"benchmark": "que", "mode": args.mode, "machine": _timing.machine(PACKAGES)}
        print(json.dumps(facts | result, indent=2))
    else:
        print(show_speed(result) if args.mode == "speed" else show_means(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
