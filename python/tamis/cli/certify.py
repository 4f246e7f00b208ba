"""``tamis certify``: a class and a certified radius for every image of a file, as a log."""

from __future__ import annotations

import argparse
import hashlib
import math
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from tamis.cli import UsageError

if TYPE_CHECKING:
    from tamis.cli.results import Row
    from tamis.smoothing import Classifier, ImageSet, Smooth

__all__ = ["add_parser", "run"]

_DESCRIPTION = """\
Certify a classifier by randomized smoothing (Cohen, Rosenfeld and Kolter 2019).

For every image, the model classifies n noisy copies. The class that wins is certified: with
probability 1 - alpha, no change of the image with l2 norm below the radius can change the answer
of the smoothed model. Where the vote is not clear enough, the answer is "abstain" (-1).

Radius and sigma are in input units: pixels between 0 and 1."""

_EPILOG = """\
example, 20 images of a CIFAR-10 test set, every 500th:
  tamis certify model.onnx --data test.npz --sigma 0.25 --n 10000 --skip 500 \\
      --mean 0.4914 0.4822 0.4465 --std 0.2471 0.2435 0.2616 --out run.tsv
  tamis analyze run.tsv

A run that was interrupted or killed goes on where it stopped when the same command is given again;
--max may be raised, --batch and --num-threads may differ. A log of another configuration is
refused and left as it is. The same seed gives the same log, the time column aside; but where a
network rounds differently at different batch sizes, another --batch can change the last bits of
its logits, and now and then a vote with them.

exit status: 0 done, 1 failed or interrupted, 2 wrong usage"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> argparse.ArgumentParser:
    """Add the ``certify`` command."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "certify",
        help="certify a classifier on a data set: a class and an l2 radius for every image",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="the classifier: an .onnx file (needs onnxruntime), or a TorchScript or "
        "ExportedProgram file (needs torch). It takes a batch (B, C, H, W) and returns logits. "
        "Load only files you trust",
    )
    add = parser.add_argument_group("data").add_argument
    add(
        "--data",
        metavar="FILE",
        required=True,
        help="images: .npz with arrays X (uint8, or floats in [0, 1]) and y (labels), an idx file "
        "as of MNIST (labels are found beside it), or .npy with --labels",
    )
    add("--labels", metavar="FILE", help="labels from another file: .npy, .npz or idx")
    add(
        "--layout",
        choices=("NCHW", "NHWC", "NHW"),
        help="order of the axes of X; found out from the shape if left out",
    )
    add("--skip", type=int, default=1, metavar="K", help="take every K-th image (default: 1, all)")
    add("--max", type=int, metavar="N", help="stop after N images (default: no limit)")
    add = parser.add_argument_group("model input").add_argument
    for name, use in (("mean", "subtracted from"), ("std", "divided into")):
        add(
            f"--{name}",
            type=float,
            nargs="+",
            metavar="V",
            help=f"{use} the noisy image before the model sees it, in input units: one number, or "
            "one a channel",
        )
    add("--device", metavar="D", help="where a torch file runs, such as cuda:0 (default: cpu)")
    add = parser.add_argument_group("certificate").add_argument
    add(
        "--sigma",
        type=float,
        required=True,
        metavar="S",
        help="standard deviation of the Gaussian noise, in input units; the one the model was "
        "trained with, as a rule 0.12 to 1",
    )
    add(
        "--n",
        type=int,
        default=100_000,
        help="noisy copies an image for the certificate; more copies, larger radii "
        "(default: 100000)",
    )
    add("--n0", type=int, default=100, help="copies to choose the class with (default: 100)")
    add(
        "--alpha",
        type=float,
        default=0.001,
        metavar="A",
        help="probability with which one certificate may be wrong (default: 0.001)",
    )
    add(
        "--bound",
        choices=("one-sided", "two-sided"),
        default="one-sided",
        help="bound the winning class alone (default), or the others too, with alpha split. A "
        "two-sided radius rests on p_upper too, which is not in the log",
    )
    add("--seed", type=int, default=0, help="noise seed, 0 to 2^64 - 1 (default: 0)")
    add = parser.add_argument_group("running").add_argument
    add("--batch", type=int, default=1000, metavar="B", help="copies at once (default: 1000)")
    add("--num-threads", type=int, metavar="T", help="threads for the noise (default: all CPUs)")
    add(
        "--out",
        metavar="LOG",
        help="write the results to this log, or go on with it "
        "(default: results to stdout, summary to stderr)",
    )
    add("--quiet", action="store_true", help="no progress on stderr")
    return parser


def run(args: argparse.Namespace) -> int:
    """Certify as `args` says; returns the exit status (0 or 1), raises what ``main`` reports."""
    check_usage(args)

    from tamis._progress import open_display
    from tamis.cli.results import COLUMN_LINE, Row, Tally
    from tamis.smoothing import LogWriter, load_images, load_log

    images = load_images(args.data, layout=args.layout, labels=args.labels)
    smooth = _smooth(args, images)
    every = range(0, len(images), args.skip)
    chosen = every[: args.max]
    rows: list[Row] = []
    with ExitStack() as stack:
        writer = None
        if args.out is not None:
            writer = stack.enter_context(LogWriter.open(args.out, _config(args, images)))
            if writer.finished:
                rows = Row.read(load_log(args.out, strict=True))
            if [row.idx for row in rows] != list(every[: len(rows)]):
                raise ValueError(
                    f"{args.out}: its images are not the first ones that this run takes"
                )
            if rows and not args.quiet:
                _say(f"going on with {args.out}, which holds {len(rows)} images")
        held = len(rows)
        rows = rows[: len(chosen)]  # --max may ask for fewer than the log holds
        resumed = len(rows)
        todo = chosen[resumed:]
        show = open_display(len(chosen), resumed, len(todo) * (args.n0 + args.n), quiet=args.quiet)
        stack.callback(show.close)
        if writer is None:
            show.row(COLUMN_LINE)
        tally = Tally(rows)
        began = perf_counter()
        certificates = smooth.certify_iter(
            _Subset(images, chosen),
            args.n0,
            args.n,
            args.alpha,
            args.batch,
            first=resumed,
            progress=show.advance,
        )
        try:
            for idx, certificate in zip(todo, certificates, strict=True):
                row = Row.of(idx, int(images.labels[idx]), certificate)
                if writer is None:
                    show.row(row.text())
                else:
                    writer.write(**asdict(row))
                rows.append(row)
                tally.add(row)
                show.image(len(rows), str(tally))
        except KeyboardInterrupt:
            show.close()
            # The signal may have come between the write of a row and our note of it.
            done = len(rows) if writer is None else len(writer.finished)
            _say(_interrupted(args.out, done, len(chosen)))
            return 1
        seconds = perf_counter() - began
    _print_summary(args, rows, len(todo), seconds, max(held, len(rows)))
    return 0


def check_usage(args: argparse.Namespace) -> None:
    for name in ("n", "n0", "batch", "skip", "max", "num_threads"):
        value = getattr(args, name)
        if value is not None and value < 1:
            option = name.replace("_", "-")
            raise UsageError(f"--{option} expects a number of at least 1, got {value}")
    for name in ("n", "n0"):
        value = getattr(args, name)
        if value > 1 << 32:  # sample numbers are 32-bit counter words
            raise UsageError(f"--{name} expects at most {1 << 32}, got {value}")
    for name in ("mean", "std"):
        for value in getattr(args, name) or ():
            if not math.isfinite(value) or (name == "std" and value <= 0):
                kind = "numbers > 0" if name == "std" else "finite numbers"
                raise UsageError(f"--{name} expects {kind}, got {value:g}")
    if not 0 < args.sigma < math.inf:
        raise UsageError(f"--sigma expects a positive number, got {args.sigma:g}")
    if not 1.2e-38 < args.sigma < 3.4e38:  # the noise is float32
        raise UsageError(f"--sigma expects a number from 1.2e-38 to 3.4e38, got {args.sigma:g}")
    if not 0 < args.alpha < 1:
        raise UsageError(f"--alpha expects a number strictly between 0 and 1, got {args.alpha:g}")
    if not 0 <= args.seed < 1 << 64:
        raise UsageError(f"--seed expects a number from 0 to 2^64 - 1, got {args.seed}")
    if args.device is not None and Path(args.model).suffix.lower() == ".onnx":
        raise UsageError("--device is for torch files; an .onnx file runs on the CPU")
    from tamis.smoothing.certificate import samples_needed

    least = samples_needed(args.alpha, args.bound)
    if args.n < least:
        raise UsageError(
            f"--n expects at least {least} at --alpha {args.alpha:g}, got {args.n}: even if all "
            "copies agreed, no certificate could exist"
        )


def _smooth(args: argparse.Namespace, images: ImageSet) -> Smooth:
    """The smoothed model, after a trial with the first image."""
    from tamis.smoothing import Smooth, as_classifier

    classifier = as_classifier(args.model, mean=args.mean, std=args.std, device=args.device)
    classes = _trial(classifier, images[0], args)
    highest = int(images.labels.max())
    if highest >= classes:
        raise ValueError(
            f"{args.model} tells {classes} classes apart (0 to {classes - 1}), but the labels of "
            f"{args.labels or args.data} go up to {highest}"
        )
    return Smooth(
        classifier,
        classes,
        args.sigma,
        seed=args.seed,
        bound=args.bound,
        num_threads=args.num_threads,
    )


def _trial(classifier: Classifier, image: Any, args: argparse.Namespace) -> int:
    """Number of classes; an error that names both files if model and images do not fit."""
    try:
        pixels = classifier.prepare(image)
        batch: Any = classifier.empty((1, *pixels.shape))
        batch[0] = pixels
        return int(classifier.logits(batch).shape[1])
    except ImportError:
        raise
    except Exception as error:  # foreign code: torch and onnxruntime have types of their own
        shape = "x".join(str(size) for size in image.shape)
        reason = str(error).strip().splitlines()
        raise ValueError(
            f"{args.model} cannot classify an image of shape {shape} from {args.data}: "
            f"{reason[0] if reason else type(error).__name__}"
        ) from error


class _Subset(Sequence[Any]):
    """The images of an ``ImageSet`` that a run takes."""

    def __init__(self, images: ImageSet, chosen: Sequence[int]) -> None:
        self._images = images
        self._chosen = chosen

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, position: Any) -> Any:
        return self._images[self._chosen[position]]


def _config(args: argparse.Namespace, images: ImageSet) -> dict[str, Any]:
    """Everything that decides the rows. Not --max, --batch, --num-threads and --device.

    File names say what the hashes stand for; folders are left out, as they may move.
    """
    from tamis import __version__

    config: dict[str, Any] = {
        "tamis": __version__,
        "model": Path(args.model).name,
        "model_sha256": _sha256(args.model),
        "data": Path(args.data).name,
        "data_sha256": _sha256(args.data),
        "labels_sha256": hashlib.sha256(images.labels.tobytes()).hexdigest(),
        "layout": images.layout,
        "skip": args.skip,
        "mean": args.mean,
        "std": args.std,
        "sigma": args.sigma,
        "alpha": args.alpha,
        "n0": args.n0,
        "n": args.n,
        "bound": args.bound,
        "seed": args.seed,
    }
    weights = Path(f"{args.model}.data")  # here torch.onnx.export puts those of a large model
    if weights.is_file():
        config["weights_sha256"] = _sha256(weights)
    return config


def _sha256(path: str | Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _interrupted(out: str | None, done: int, total: int) -> str:
    if out is None:
        return f"interrupted after {done} of {total} images"
    return (
        f"interrupted after {done} of {total} images, which are in {out}; "
        "the same command goes on from there"
    )


def _say(text: str) -> None:
    print(f"tamis certify: {text}", file=sys.stderr, flush=True)


def _print_summary(
    args: argparse.Namespace, rows: list[Row], certified: int, seconds: float, held: int
) -> None:
    """Print the table of a finished run: to stdout, or to stderr where the rows went to stdout.

    `held` is the number of rows in the log, which may be more than were asked for.
    """
    from tamis import ops
    from tamis._progress import duration
    from tamis.cli.results import summary_lines

    level = args.alpha if args.bound == "one-sided" else args.alpha / 2
    lines = [
        f"sigma {args.sigma:g}, n {args.n}, alpha {args.alpha:g}, {args.bound}, seed {args.seed}",
        *summary_lines(rows, float(ops.certified_radius(level ** (1 / args.n), args.sigma))),
    ]
    if certified:
        speed = certified / seconds
        lines.append(
            f"time: {certified} images in {duration(seconds)}, {speed:.3g} images/s, "
            f"{speed * (args.n0 + args.n):.3g} noisy copies/s"
        )
    if args.out is not None:
        more = f" (it holds {held} images, the summary is of the first {len(rows)})"
        lines.append(f"log: {args.out}{more if held > len(rows) else ''}")
    print("\n".join(lines), file=sys.stderr if args.out is None else sys.stdout)
