"""Does adversarial training of the smoothed network raise its certificates? MNIST, a small CNN.

    python bench/smoothadv.py [--quick] [--device cuda] [--workers 8] [--out FOLDER]
    python bench/smoothadv.py --small               # a tenth of it: 10 minutes on two cores
    python bench/smoothadv.py --only figures        # from the stored results
    python bench/smoothadv.py --only finetune       # MNIST -> scikit-learn's digits: 20 minutes
    python bench/smoothadv.py --only peers          # beside torchattacks and foolbox: 10 minutes

Needs vision/mnist of the data (TAMIS_DATA_DIR): the 10,000 images of MNIST's test file, the first
8000 to train with, 500 of the other 2000 (every 4th) to certify, n = 10,000, n0 = 100, alpha
= .001. Every finished model is a row of results/smoothadv.csv at once; a run goes on from there.
Accuracies, but for the peers no timings: they may be made on any device.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import astuple, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from _results import Progress, ResultFile
from _smoothadv_finetune import run_finetune
from _smoothadv_peers import run_peers
from _smoothadv_shared import RADII, certified, curve_of, mnist

RESULTS = Path(__file__).parent / "results"
SIGMAS = (0.25, 0.5, 1.0)
TRAIN = 8000
FIELDS = (
    "sigma",
    "method",
    "epsilon",
    "num_noise",
    "seed",
    "epochs",
    "images",
    "n",
    "acr",
    "curve",
)


@dataclass(frozen=True)
class Scale:
    """How much: images to train with, epochs, attack steps, every which image, copies, batch."""

    train: int
    epochs: int
    steps: int
    every: int
    copies: int
    batch: int = 256


SCALES = {
    "full": Scale(TRAIN, 40, 4, 4, 10_000),
    "small": Scale(TRAIN, 15, 2, 10, 1000),
    "quick": Scale(2000, 5, 2, 40, 1000, 64),
}


@dataclass(frozen=True)
class Model:
    sigma: float
    method: str  # gaussian, pgd, ddn; base: PGD on F under noise instead of the smoothed F
    epsilon: float
    num_noise: int
    seed: int

    @property
    def options(self) -> dict[str, Any]:
        if self.method == "gaussian":
            return {"method": "gaussian", "num_noise": self.num_noise}
        return {
            "method": "smoothadv",
            "attack": "ddn" if self.method == "ddn" else "pgd",
            "objective": "base" if self.method == "base" else "smoothed",
            "epsilon": self.epsilon,
            "num_noise": self.num_noise,
        }


def grid(scale: str) -> list[Model]:
    if scale == "quick":
        return [Model(0.5, "gaussian", 0.0, 2, 0), Model(0.5, "pgd", 0.5, 2, 0)]
    if scale == "small":  # one radius for every sigma
        return [
            Model(sigma, kind, 0.0 if kind == "gaussian" else min(1.0, 2 * sigma), 2, seed)
            for seed in range(3)
            for kind in ("gaussian", "pgd", "base", "ddn")[: 4 if seed == 0 else 2]
            for sigma in SIGMAS
        ]
    # what the claims are made of comes first, with three seeds, then what varies it, with one
    headline = [("gaussian", 0.0, 4), ("pgd", 1.0, 4)]
    others = [("base", 1.0, 4), ("pgd", 2.0, 4), ("ddn", 2.0, 4)]
    others += [("pgd", 0.5, 4), ("ddn", 1.0, 4), ("pgd", 1.0, 1)]
    return [
        Model(s, k, e, m, seed)
        for kinds, seeds in ((headline, 3), (others, 1))
        for seed in range(seeds)
        for k, e, m in kinds
        for s in SIGMAS
    ]


def measure(model: Model, device: str, scale: Scale) -> tuple[Model, list[object], float]:
    import torch

    from tamis import adversarial

    torch.set_num_threads(1)
    began = perf_counter()
    X, y = mnist()
    network = adversarial.build("small_cnn", (1, 28, 28), 10, seed=model.seed).to(device)
    data = tuple(torch.from_numpy(part[: scale.train]).to(device) for part in (X, y))
    adversarial.train(
        network,
        data,
        sigma=model.sigma,
        steps=scale.steps,
        warmup=min(10, scale.epochs),
        epochs=scale.epochs,
        batch_size=scale.batch,
        lr=0.05,
        lr_step=max(1, scale.epochs * 3 // 8),
        seed=model.seed,
        **model.options,
    )
    chosen = slice(TRAIN, None, scale.every)
    radius = certified(network, model.sigma, X[chosen], y[chosen], scale.copies, device)
    acr, curve = curve_of(radius)
    row = [*astuple(model), scale.epochs, len(radius), scale.copies, acr, curve]
    return model, row, perf_counter() - began


def run_grid(args: argparse.Namespace) -> None:
    table = ResultFile(args.out / f"{args.stem}.csv", FIELDS, 5, lambda _: False)
    began = perf_counter()
    todo = [m for m in grid(args.scale) if astuple(m) not in table]
    progress = Progress([1.0] * len(todo))
    # glibc would give every activation back to the system at once and fault it in again: a third of
    # the CPU time of certification (batches of 2000, AMD EPYC)
    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"):
        os.environ.setdefault(name, str(1 << 32))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.workers, mp_context=context) as pool:
        waiting = {pool.submit(measure, m, args.device, SCALES[args.scale]) for m in todo}
        for future in as_completed(waiting):
            if future.cancelled():
                continue
            model, row, seconds = future.result()
            table.add(*row)
            progress.step(1.0, f"{model}: ACR {row[8]:.3f}, {seconds:.0f} s")
            if args.quick and row[8] < 0.2:
                sys.exit(f"{model} learned nothing: average certified radius {row[8]:.3f}")
            if args.budget and perf_counter() - began > args.budget:
                for other in waiting:
                    other.cancel()


# ---- figures and tables ------------------------------------------------------------------------


Key = tuple[float, str, float, int]  # sigma, method, epsilon, m


@dataclass(frozen=True)
class Group:
    """The same training with several seeds."""

    curves: dict[str, Any]  # seed -> certified accuracy at `RADII`
    acr: list[float]

    @property
    def mean(self) -> Any:
        return np.mean(list(self.curves.values()), axis=0)

    def gain_over(self, other: Group) -> Any:
        """Certified accuracy gained, mean of the seeds that both have."""
        both = [seed for seed in self.curves if seed in other.curves]
        return np.mean([self.curves[seed] - other.curves[seed] for seed in both], axis=0)


def grouped(table: ResultFile) -> dict[Key, Group]:
    groups: dict[Key, Group] = {}
    for row in table.rows:
        key = (float(row["sigma"]), row["method"], float(row["epsilon"]), int(row["num_noise"]))
        group = groups.setdefault(key, Group({}, []))
        group.curves[row["seed"]] = np.array(row["curve"].split(), dtype=float)
        group.acr.append(float(row["acr"]))
    return groups


def stretch(gain: Any, points: float) -> str:
    """The longest run of radii where at least so many points are gained, in words."""
    best, start = (0, 0), 0
    for end, value in enumerate([*gain, -1.0]):
        if 100 * value < points - 1e-9:
            best, start = max(best, (end - start, start)), end + 1
    length, first = best
    return f"{RADII[first]:.1f} to {RADII[first + length - 1]:.1f}" if length else "nowhere"


def figures(out: Path, stem: str) -> None:
    """The three figures of the talk and the ablation; a table of all means."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    table = ResultFile(out / f"{stem}.csv", FIELDS, 5, lambda _: False)
    if not table.rows:
        sys.exit(f"no results in {table.path}")
    curves = grouped(table)
    smooth = {k: v for k, v in curves.items() if k[1] in ("pgd", "ddn")}
    plain = {k: v for k, v in curves.items() if k[1] == "gaussian"}
    sigmas = sorted({k[0] for k in curves})

    def envelope(chosen: dict[Any, Any], sigma: float | None = None) -> Any:
        return np.max([v.mean for k, v in chosen.items() if sigma in (None, k[0])], axis=0)

    def best(sigma: float) -> Any:
        return max((k for k in smooth if k[0] == sigma), key=lambda k: np.mean(smooth[k].acr))

    plt.style.use("tableau-colorblind10")
    fig, axes = plt.subplots(2, 2, figsize=(11, 8))
    first, per_sigma, single, ablation = axes.flat
    first.plot(RADII, envelope(smooth), label="SmoothAdv")
    first.plot(RADII, envelope(plain), "--", label="Gaussian")
    first.set_title("upper envelope of all models")
    for colour, sigma in enumerate(sigmas):
        style = {"color": f"C{colour}"}
        per_sigma.plot(RADII, envelope(smooth, sigma), **style, label=f"SmoothAdv, sigma {sigma:g}")
        per_sigma.plot(RADII, envelope(plain, sigma), "--", **style, label="Gaussian")
        key = best(sigma)
        name = f"{key[1].upper()} eps {key[2]:g}, m {key[3]}, sigma {sigma:g}"
        single.plot(RADII, smooth[key].mean, **style, label=name)
        single.plot(RADII, envelope(plain, sigma), "--", **style)
        for method, line in (("pgd", "-"), ("base", ":")):
            compared = next((k for k in curves if k[:2] == (sigma, "base")), None)
            if compared is not None and (sigma, method, *compared[2:]) in curves:
                label = {"pgd": "-log E F", "base": "E -log F"}[method]
                ablation.plot(
                    RADII,
                    curves[(sigma, method, *compared[2:])].mean,
                    line,
                    **style,
                    label=f"{label}, sigma {sigma:g}",
                )
    per_sigma.set_title("upper envelope per sigma")
    single.set_title("one model per sigma (highest ACR); dashed: Gaussian")
    ablation.set_title("attack on the smoothed F, and on F with noise")
    for ax in axes.flat:
        ax.set(xlabel="l2 radius", ylabel="certified accuracy", xlim=(0, 4), ylim=(0, 1))
        ax.grid(alpha=0.3)
        if ax.lines:
            ax.legend(fontsize=7)
    fig.tight_layout()
    fig.savefig(out / f"{stem}.png", dpi=70)
    lines = [
        "| sigma | training | eps | m | seeds | ACR (lowest, highest) | most gained, at radius | "
        "3 points gained at radii |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for key in sorted(curves):
        group = curves[key]
        base = next((g for k, g in plain.items() if k[0] == key[0]), None)
        won = where = ""
        if base is not None and key not in plain:
            gain = group.gain_over(base)
            won = f"{100 * gain.max():+.1f} points at {RADII[int(gain.argmax())]:.1f}"
            where = stretch(gain, 3.0)
        spread = f"{np.mean(group.acr):.3f} ({min(group.acr):.3f}, {max(group.acr):.3f})"
        lines.append(
            f"| {key[0]:g} | {key[1]} | {key[2]:g} | {key[3]} | {len(group.acr)} | {spread} | "
            f"{won} | {where} |"
        )
    (out / f"{stem}.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two models, few images and epochs")
    parser.add_argument(
        "--small", action="store_true", help="15 epochs, 2 steps, m = 2, 200 images, n = 1000"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=2, help="models trained at once")
    parser.add_argument("--budget", type=float, default=0.0, help="start no model after so many s")
    parser.add_argument("--only", choices=("grid", "finetune", "peers", "figures"))
    parser.add_argument("--out", type=Path, help="default: results, build/bench if --quick")
    args = parser.parse_args()
    args.scale = "quick" if args.quick else "small" if args.small else "full"
    args.stem = "smoothadv" if args.scale == "full" else f"smoothadv_{args.scale}"
    if args.out is None:
        args.out = Path("build/bench") if args.quick else RESULTS
    if args.only in (None, "grid"):
        run_grid(args)
    if args.only in (None, "finetune"):
        run_finetune(args.out, args.stem, quick=args.quick)
    if args.only in (None, "peers"):
        run_peers(args.out, args.stem, quick=args.quick)
    if args.only in (None, "figures"):
        figures(args.out, args.stem)


if __name__ == "__main__":
    main()
