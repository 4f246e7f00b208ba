"""``tamis train``: a network for ``tamis certify``, trained with noise or against attacks."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tamis.cli import UsageError

__all__ = ["add_parser", "run"]

_METHODS = ("gaussian", "adversarial", "smoothadv", "stability", "macer", "consistency")

_DESCRIPTION = """\
Train a classifier whose smoothed version certifies well: with Gaussian noise (Cohen, Rosenfeld
and Kolter 2019), against attacks on the smoothed classifier (SmoothAdv, Salman et al. 2019), or by
one of the other methods. Sigma and epsilon are in input units: pixels between 0 and 1."""

_EPILOG = """\
example:
  tamis train --method smoothadv --data train.npz --arch small_cnn --sigma .5 --epsilon 1 \\
      --steps 4 --num-noise 4 --out run/
  tamis certify run/model.onnx --data test.npz --sigma .5 --out run.tsv

Certify images that it was not trained with. The folder gets checkpoint.pt (after every epoch, and
on Ctrl-C), log.csv, model.onnx and train.json. The same command goes on from the checkpoint, to the
same weights; --epochs may be raised.

exit status: 0 done, 1 failed or interrupted, 2 wrong usage"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> argparse.ArgumentParser:
    """Add the ``train`` command."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "train",
        help="train a classifier for certification: Gaussian noise, SmoothAdv and others",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument_group("data and model").add_argument
    add("--data", metavar="FILE", required=True, help="images and labels, as for tamis certify")
    add("--labels", metavar="FILE", help="labels from another file: .npy, .npz or idx")
    add("--layout", choices=("NCHW", "NHWC", "NHW"), help="order of the axes of the images")
    add("--max", type=int, metavar="N", help="the first N images only")
    add(
        "--arch",
        default="small_cnn",
        metavar="NAME",
        help="small_cnn, mlp, or package.module:function of (image shape, classes); that imports "
        "and runs the module (default: small_cnn)",
    )
    add("--device", metavar="D", default="cpu", help="such as cuda:0 (default: cpu)")
    add = parser.add_argument_group("method").add_argument
    add("--method", choices=_METHODS, default="smoothadv", help="default: smoothadv")
    add("--sigma", type=float, required=True, metavar="S", help="noise, in input units")
    add("--epsilon", type=float, default=1.0, metavar="E", help="attack radius (default: 1)")
    add("--steps", type=int, default=4, metavar="T", help="attack steps (default: 4)")
    add("--num-noise", type=int, default=4, metavar="M", help="noise vectors an image (default: 4)")
    add("--attack", choices=("pgd", "ddn"), default="pgd", help="of smoothadv (default: pgd)")
    add(
        "--warmup",
        type=int,
        default=10,
        metavar="N",
        help="epochs until epsilon is reached (default: 10)",
    )
    add = parser.add_argument_group("optimisation").add_argument
    add("--epochs", type=int, default=90, metavar="N", help="default: 90")
    add("--batch", type=int, default=256, metavar="B", help="images a step (default: 256)")
    add("--lr", type=float, default=0.05, metavar="R", help="learning rate of SGD (default: .05)")
    add(
        "--lr-step",
        type=int,
        default=30,
        metavar="N",
        help="epochs until the rate is a tenth (default: 30)",
    )
    add(
        "--accumulate",
        type=int,
        default=1,
        metavar="N",
        help="batches an optimiser step (default: 1)",
    )
    add("--amp", choices=("bfloat16", "float16"), help="mixed precision")
    add("--seed", type=int, default=0, metavar="S", help="of weights, order and noise (default: 0)")
    add = parser.add_argument_group("running").add_argument
    add("--out", metavar="DIR", required=True, help="folder of the run")
    add("--quiet", action="store_true", help="no progress on stderr")
    return parser


def run(args: argparse.Namespace) -> int:
    """Train as `args` says; returns the exit status, raises what ``main`` reports."""
    _check_usage(args)
    import numpy as np
    import torch

    from tamis import adversarial
    from tamis.smoothing import load_images

    _check_device(args.device)
    images = load_images(args.data, layout=args.layout, labels=args.labels)
    count = min(len(images), args.max or len(images))
    X = torch.from_numpy(np.stack([images[i] for i in range(count)]))
    y = torch.from_numpy(images.labels[:count])
    shape = tuple(X.shape[1:])
    classes = int(images.labels.max()) + 1
    model = adversarial.build(args.arch, shape, max(2, classes), seed=args.seed)
    out = Path(args.out)
    record = {"data": Path(args.data).name, "images": count, "shape": list(shape)}
    record |= {"classes": max(2, classes), "arch": args.arch}
    _check_same_run(out, record)
    trained = adversarial.train(
        model,
        (X, y),
        args.method,
        sigma=args.sigma,
        epsilon=args.epsilon,
        steps=args.steps,
        num_noise=args.num_noise,
        warmup=args.warmup,
        attack=args.attack,
        epochs=args.epochs,
        batch_size=args.batch,
        lr=args.lr,
        lr_step=args.lr_step,
        accumulate=args.accumulate,
        amp=args.amp,
        device=args.device,
        out=out,
        progress=not args.quiet,
        seed=args.seed,
    )
    options = (
        "method",
        "sigma",
        "epsilon",
        "steps",
        "num_noise",
        "attack",
        "warmup",
        "batch",
        "lr",
    )
    record |= {name: getattr(args, name) for name in (*options, "lr_step", "accumulate", "amp")}
    record |= {"seed": args.seed, "epochs": trained.epoch}
    (out / "train.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    path = adversarial.export_onnx(model.cpu(), out / "model.onnx", shape)
    loss = f", loss {trained.history[-1]['loss']:.4f}" if trained.history else ""
    print(f"{count} images, {trained.epoch} epochs{loss}")
    print(f"certify it: tamis certify {path} --data IMAGES --sigma {args.sigma:g} --out LOG")
    return 0


def _check_same_run(out: Path, record: dict[str, Any]) -> None:
    """Refuse to go on with a checkpoint of other data or another network."""
    path = out / "train.json"
    if not (out / "checkpoint.pt").exists():
        out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # the checkpoint has checks of its own
    for name, value in record.items():
        if before.get(name, value) != value:
            raise ValueError(
                f"{out}: holds a run with {name} {before[name]!r} (now {value!r}); choose another "
                "--out"
            )


def _check_device(name: str) -> None:
    import torch

    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {name}: {str(error).splitlines()[0]}") from error


def _check_usage(args: argparse.Namespace) -> None:
    for name in ("steps", "num_noise", "batch", "accumulate", "max", "epochs"):
        value = getattr(args, name)
        if value is not None and value < 1:
            option = name.replace("_", "-")
            raise UsageError(f"--{option} expects a number of at least 1, got {value}")
    for name in ("warmup", "lr_step"):
        value = getattr(args, name)
        if value < 0:
            option = name.replace("_", "-")
            raise UsageError(f"--{option} expects a number of at least 0, got {value}")
    if not 0 < args.lr < float("inf"):
        raise UsageError(f"--lr expects a positive number, got {args.lr:g}")
    for name in ("sigma", "epsilon"):
        value = getattr(args, name)
        if not 0 <= value < float("inf"):
            raise UsageError(f"--{name} expects a finite number >= 0, got {value:g}")
    if not 0 <= args.seed < 1 << 63:
        raise UsageError(f"--seed expects a number from 0 to 2^63 - 1, got {args.seed}")
