"""A few digits of scikit-learn: trained from scratch, or pretrained on MNIST and finetuned.

scikit-learn's 8 x 8 digits are enlarged to 20 x 20 in a frame of 28 x 28, as MNIST's are. Training
from scratch gets more steps and a higher rate than finetuning does; fewer steps or a rate of .05
gave less (one seed).
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np

from _results import Progress, ResultFile
from _smoothadv_shared import RADII, certified, curve_of, mnist

SIGMA = 0.5
FIELDS = ("method", "digits", "start", "seed", "sigma", "images", "n", "acr", "curve")
STARTS = {"scratch": "from scratch", "last": "MNIST, last layer", "all": "MNIST, all weights"}
METHODS = ("gaussian", "smoothadv")
DIGITS = (30, 100)  # how many are trained with


def digits_like_mnist() -> tuple[Any, Any]:
    """(1797, 1, 28, 28) float32 in [0, 1], and labels, as tensors."""
    import torch
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = torch.from_numpy((digits.images / 16).astype(np.float32))[:, None]
    large = torch.nn.functional.interpolate(small, (20, 20), mode="bilinear")
    return (
        torch.nn.functional.pad(large, (4, 4, 4, 4)).clamp(0, 1),
        torch.from_numpy(digits.target.astype(np.int64)),
    )


def run_finetune(out: Path, stem: str, *, quick: bool) -> None:
    """Fill the table, model by model; then the figure."""
    import torch

    from tamis import adversarial

    torch.set_num_threads(1)
    X, y = mnist()
    digits, labels = digits_like_mnist()
    table = ResultFile(out / f"{stem}_finetune.csv", FIELDS, 4, lambda _: False)
    count, epochs, copies, every = (2000, 5, 200, 12) if quick else (8000, 15, 1000, 1)
    chosen = slice(1437, None, every)  # the last fifth
    recipe = {"sigma": SIGMA, "epsilon": 0.5, "steps": 2, "num_noise": 2, "batch_size": 50}
    todo = [
        (method, size, start, seed)
        for seed in range(1 if quick else 3)
        for method in METHODS
        for size in (DIGITS[:1] if quick else DIGITS)
        for start in STARTS
        if (method, size, start, seed) not in table
    ]
    progress = Progress([1.0] * len(todo))
    sources: dict[tuple[str, int], Any] = {}
    for method, size, start, seed in todo:
        if start != "scratch" and (method, seed) not in sources:
            source = adversarial.build("small_cnn", (1, 28, 28), 10, seed=seed)
            fit = {**recipe, "batch_size": 50 if quick else 256, "lr": 0.05}
            fit["lr_step"] = epochs * 2 // 5
            adversarial.train(
                source, (X[:count], y[:count]), method, **fit, epochs=epochs, warmup=3, seed=seed
            )
            sources = {(method, seed): source}
        data = tuple(part[size * seed : size * (seed + 1)] for part in (digits, labels))
        if start == "scratch":
            network = adversarial.build("small_cnn", (1, 28, 28), 10, seed=100 + seed)
            scratch = {"epochs": 100 if quick else 300, "lr": 0.02, "lr_step": 0}
            adversarial.train(network, data, method, **recipe, **scratch, seed=seed)
        else:
            network = copy.deepcopy(sources[(method, seed)])
            tune = {"epochs": 30 if quick else 100, "lr": 0.01}
            adversarial.finetune(network, data, method, scope=start, **recipe, **tune, seed=seed)
        radius = certified(
            network, SIGMA, digits[chosen].numpy(), labels[chosen].numpy(), copies, "cpu"
        )
        acr, curve = curve_of(radius)
        table.add(method, size, start, seed, SIGMA, len(radius), copies, acr, curve)
        progress.step(1.0, f"{method}, {size} digits, {start}, seed {seed}: ACR {acr:.3f}")
    if table.rows:
        report(out, stem, table)


def report(out: Path, stem: str, table: ResultFile) -> None:
    """A table of the means over the seeds, and a figure of the curves."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.style.use("tableau-colorblind10")
    sizes = sorted({int(row["digits"]) for row in table.rows})
    fig, axes = plt.subplots(
        len(sizes), 2, figsize=(10, 3.6 * len(sizes)), sharex=True, sharey=True, squeeze=False
    )
    lines = [
        "| digits | training | start | seeds | ACR (lowest, highest) | certified at 0 | .2 | .5 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row, size in enumerate(sizes):
        for column, method in enumerate(METHODS):
            ax = axes[row, column]
            for k, (start, name) in enumerate(STARTS.items()):
                rows = table.select(digits=size, method=method, start=start)
                if not rows:
                    continue
                curves = np.array([r["curve"].split() for r in rows], dtype=float)
                mean, acr = curves.mean(axis=0), [float(r["acr"]) for r in rows]
                ax.plot(RADII, mean, color=f"C{k}", ls=("--", ":", "-")[k], label=name)
                lines.append(
                    f"| {size} | {method} | {name} | {len(rows)} | {np.mean(acr):.3f} "
                    f"({min(acr):.3f}, {max(acr):.3f}) | {100 * mean[0]:.1f}% | "
                    f"{100 * mean[2]:.1f}% | {100 * mean[5]:.1f}% |"
                )
            ax.set_title(f"{method}, {size} digits", fontsize=10)
            ax.set(ylim=(0, 1), xlim=(0, 1.3))
            ax.grid(alpha=0.3)
    for ax in axes[-1]:
        ax.set_xlabel(f"l2 radius (sigma {SIGMA:g})")
    for ax in axes[:, 0]:
        ax.set_ylabel("certified accuracy")
    axes[0, 0].legend(fontsize=8)
    fig.tight_layout()
    fig.savefig(out / f"{stem}_finetune.png", dpi=70)
    plt.close(fig)
    text = "\n".join(lines)
    (out / f"{stem}_finetune.md").write_text(text + "\n", encoding="utf-8")
    print(text)
