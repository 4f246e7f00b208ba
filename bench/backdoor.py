"""Do spectral signatures find a backdoor, and is it gone after training again?

    python bench/backdoor.py                     # 45 minutes on one core
    python bench/backdoor.py --quick             # under a minute, to build/bench
    python bench/backdoor.py --only figures      # table and figure from the stored results
    python bench/backdoor.py --cifar10 FOLDER    # the binary version of CIFAR-10
    python bench/backdoor.py --only embeddings   # AUC of scores on stored embeddings
    python bench/backdoor.py --only speed        # against the recipe of a full SVD
    python bench/backdoor.py --only validation   # on what Spectre(k="all") was chosen

Needs vision/mnist of the data (TAMIS_DATA_DIR): 10,000 images, 8000 to train with, 2000 to test.
For every attack (source, target, trigger), share and seed: train on poisoned data, score the target
class by the activations after the third stage, remove 1.5 times the share, train again. Every
finished run is a row of results/backdoor.csv at once; an interrupted one goes on from there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

import _backdoor_peers
import _timing
from _results import Progress, ResultFile

RESULTS = Path(__file__).parent / "results"
LAYER = "stage3"
SHARES = (0.05, 0.1)
SEEDS = range(10, 20)  # 0 to 2 were the pilot's, where layer, network and epochs were chosen
PEERS = ("signatures", "as_coded", "clustering")
KEY = ("data", "trigger", "source", "target", "share", "seed")
FIELDS = (
    *KEY, "epochs", "poisoned", "nat1", "pois1", "removed", "left", "nat2", "pois2", "std_nat",
    "std_pois", *(f"left_{name}" for name in PEERS), "cpu_seconds",
)  # fmt: skip
DETECTORS = ("spectre", "signatures", "clustering")  # what is said of every class
CLASS_FIELDS = (*KEY, "class", "poisoned", *DETECTORS, *(f"{name}_alarm" for name in DETECTORS))
HISTOGRAM_FIELDS = (*KEY, "low", "high", "clean", "poison")
WANTED = {"lost": 0.5, "below": 0.5, "beyond": 1.0}  # at most, in points
GAPS = {  # of numbers that belong to the same seed
    "lost": ("nat1", "nat2"),
    "below": ("std_nat", "nat2"),
    "beyond": ("pois2", "std_pois"),
}
BINS = 40
ONLY = ("attacks", "embeddings", "validation", "speed", "figures")


class Study:
    """The networks of one data set, and the files that results go to."""

    def __init__(self, args: argparse.Namespace) -> None:
        import torch

        from _backdoor_setup import CIFAR10, MNIST, cifar10, mnist, tensor

        torch.set_num_threads(args.threads)
        data = mnist() if args.cifar10 is None else cifar10(args.cifar10)
        self.data = data.first(4000) if args.quick else data
        settings = MNIST if args.cifar10 is None else CIFAR10
        self.settings = settings[1:3] if args.quick else settings
        self.epochs, self.device = args.epochs, args.device
        self.test = tensor(self.data.test_images)
        self.clean: dict[int, Any] = {}
        self.runs, self.classes, self.histograms = files(args, anew=args.quick)

    def factory(self) -> Any:
        from _backdoor_setup import network

        return network(self.test.shape[1]).to(self.device)

    def trainer(self, seed: int) -> Any:
        from _backdoor_setup import shifted_and_flipped
        from tamis.backdoor import SGDTrainer

        augment = shifted_and_flipped if self.data.name == "cifar10" else None
        return SGDTrainer(epochs=self.epochs, seed=seed, augment=augment)

    def answers(self, model: Any, X: Any) -> Any:
        from tamis.backdoor import representations

        return representations(model, X, "head", batch_size=500).argmax(axis=1)

    def clean_network(self, seed: int) -> Any:
        """Trained without poison: one for all attacks with this seed."""
        if seed not in self.clean:
            import torch

            from _backdoor_setup import tensor

            X, y = tensor(self.data.images), torch.from_numpy(self.data.labels)
            torch.manual_seed(seed)
            model = self.factory()
            self.trainer(seed)(model, torch.utils.data.TensorDataset(X, y))
            self.clean[seed] = model
            key = (self.data.name, "none", "none", -1, 0.0, seed)
            if not self.classes.select(trigger="none", seed=seed):
                self.note_classes(key, model, X, y.numpy(), np.zeros(len(y), bool))
        return self.clean[seed]

    def note_classes(self, key: tuple[Any, ...], model: Any, X: Any, y: Any, poison: Any) -> Any:
        """How far every class falls apart: what the thresholds of an alarm are set by."""
        from tamis.backdoor import (
            ActivationClustering,
            SpectralSignatures,
            Spectre,
            representations,
        )

        rows = representations(model, X, LAYER)
        detectors: list[Any] = [Spectre(0.05), SpectralSignatures(0.05), ActivationClustering(0.05)]
        reports = [detector.fit(rows, y).class_report_ for detector in detectors]
        for label in reports[0]:
            bad = int(poison[y == label].sum())
            entries = [report[label] for report in reports]
            alarms = [int(entry.looks_attacked) for entry in entries]
            self.classes.add(*key, label, bad, *(entry.separation for entry in entries), *alarms)
        return rows

    def measure(self, setting: Any, share: float, seed: int) -> str:
        """One line of the table."""
        from _backdoor_setup import tensor
        from tamis.backdoor import Spectre, clean, poison

        clean_model = self.clean_network(seed)
        began = process_time()
        data, target = self.data, setting.target
        bad = poison(
            data.images, data.labels, setting.trigger, target,
            source=setting.source, share=share, seed=seed,
        )  # fmt: skip
        X = tensor(bad.images)
        found = clean(
            self.factory, (X, bad.labels), LAYER, detector=Spectre(share),
            classes=[target], train=self.trainer(seed), seed=seed,
        )  # fmt: skip
        chosen = data.test_labels != target
        if setting.source is not None:
            chosen = data.test_labels == setting.source
        stamped = tensor(setting.trigger.stamp(data.test_images[chosen]))

        def natural(model: Any) -> float:
            return 100 * float((self.answers(model, self.test) == data.test_labels).mean())

        def poisoned(model: Any) -> float:
            return 100 * float((self.answers(model, stamped) == target).mean())

        key = (data.name, *setting.key, share, seed)
        rows = self.note_classes(key, found.first_model, X, bad.labels, bad.is_poison)
        if seed == SEEDS[0] or not self.histograms.rows:
            members = bad.labels == target
            self.histograms.add(*key, *histogram(rows[members], bad.is_poison[members]))
        entry = found.class_report[target]
        left = int((bad.is_poison & found.kept).sum())
        nat1, pois1 = natural(found.first_model), poisoned(found.first_model)
        nat2, pois2 = natural(found.model), poisoned(found.model)
        self.runs.add(
            *key, self.epochs, int(bad.is_poison.sum()), nat1, pois1, entry.removed, left, nat2,
            pois2, natural(clean_model), poisoned(clean_model),
            *others_left(rows, bad, target, share), process_time() - began,
        )  # fmt: skip
        return f"{left} of {int(bad.is_poison.sum())} left, Pois {pois1:.1f} -> {pois2:.1f}"


def files(
    args: argparse.Namespace, anew: bool = False
) -> tuple[ResultFile, ResultFile, ResultFile]:
    """Runs, classes of all runs, histograms; the rows of an older run go if ``anew``."""

    def file(name: str, fields: Sequence[str], key: int) -> ResultFile:
        path = args.out / f"{args.stem}{name}.csv"
        return ResultFile(path, fields, key, lambda _: anew)

    return (
        file("", FIELDS, len(KEY)),
        file("_classes", CLASS_FIELDS, len(KEY) + 1),
        file("_histogram", HISTOGRAM_FIELDS, len(KEY)),
    )


def others_left(rows: Any, bad: Any, target: int, share: float) -> list[int]:
    """Poison that `PEERS` leave, if they remove as many rows."""
    from tamis.backdoor import ActivationClustering, SpectralSignatures

    detectors: list[Any] = [
        SpectralSignatures(share), SpectralSignatures(share, as_coded=True),
        ActivationClustering(share),
    ]  # fmt: skip
    return [
        int((bad.is_poison & ~d.fit(rows, bad.labels, classes=[target]).removed_).sum())
        for d in detectors
    ]


def histogram(rows: Any, poison: Any) -> tuple[float, float, str, str]:
    """Range and counts of the projections on the class's top direction, poison on the right."""
    import tamis

    mean = rows.mean(axis=0)
    direction = np.asarray(tamis.power_iteration(rows, 1).vectors)[:, 0]
    along = (rows - mean) @ direction
    along *= np.sign(along[poison].mean() - along[~poison].mean()) or 1.0
    edges = np.linspace(along.min(), along.max(), BINS + 1)
    counts = (np.histogram(along[mask], edges)[0] for mask in (~poison, poison))
    return float(edges[0]), float(edges[-1]), *(" ".join(map(str, c.tolist())) for c in counts)


def run_attacks(args: argparse.Namespace) -> None:
    study = Study(args)
    todo = [
        (setting, share, seed)
        for seed in args.seeds
        for share in ((0.1,) if args.quick else SHARES)
        for setting in study.settings
        if (study.data.name, *setting.key, share, seed) not in study.runs
    ]
    progress = Progress([1.0] * len(todo))
    for setting, share, seed in todo:
        text = study.measure(setting, share, seed)
        progress.step(1.0, f"{setting.key}, {share:g}, seed {seed}: {text}")


# ---- table and figure ----------------------------------------------------------------------------


def gap(runs: ResultFile, pair: tuple[str, str], **where: object) -> Any:
    """Differences of two columns, a number a run."""
    return np.subtract(*(runs.numbers(name, **where) for name in pair))


def mean_and_error(values: Any) -> tuple[float, float | None]:
    """Mean, and its standard error where there are several."""
    n = len(values)
    return float(np.mean(values)), float(np.std(values, ddof=1)) / n**0.5 if n > 1 else None


def with_error(pair: tuple[float, float | None]) -> str:
    mean, error = pair
    return f"{mean:.2f}" if error is None else f"{mean:.2f} ± {error:.2f}"


def table(args: argparse.Namespace) -> tuple[list[dict[str, Any]], str]:
    """Means over seeds, a line for every attack and share, and their text."""
    runs, _, _ = files(args)
    if not runs.rows:
        sys.exit(f"no results in {runs.path}")
    lines = []
    keys = dict.fromkeys(tuple(row[name] for name in KEY[:5]) for row in runs.rows)
    for key in sorted(keys, key=lambda k: list(keys).index((*k[:4], runs.rows[0]["share"]))):
        where = dict(zip(KEY, key, strict=False))
        line: dict[str, Any] = {**where, "seeds": len(runs.select(**where))}
        for name in FIELDS[len(KEY) + 1 :]:
            line[name] = float(np.mean(runs.numbers(name, **where)))
        for name, pair in GAPS.items():
            line[name] = mean_and_error(gap(runs, pair, **where))
        total = sum(runs.numbers("poisoned", **where))
        line["removed_share"] = 1.0 - sum(runs.numbers("left", **where)) / total
        lines.append(line)
    head = ["trigger", "pair", "share", "Nat 1", "Pois 1", "left", "Nat 2", "lost"]
    head += ["Pois 2", "Std Pois", "beyond"]
    head += [f"left, {name}" for name in PEERS]
    cells = [
        [
            line["trigger"], f"{line['source']} to {line['target']}",
            f"{100 * float(line['share']):g}%", f"{line['nat1']:.2f}", f"{line['pois1']:.1f}",
            f"{line['left']:.1f}/{line['poisoned']:.0f}", f"{line['nat2']:.2f}",
            with_error(line["lost"]), f"{line['pois2']:.2f}", f"{line['std_pois']:.2f}",
            with_error(line["beyond"]),
            *(f"{line[f'left_{name}']:.1f}" for name in PEERS),
        ]
        for line in lines
    ]  # fmt: skip
    return lines, _timing.markdown(head, cells)


def summary(args: argparse.Namespace) -> dict[str, float | None]:
    """What the targets are about, over all runs."""
    runs, classes, _ = files(args)
    out: dict[str, float | None] = {}
    for share in dict.fromkeys(row["share"] for row in runs.rows):
        total = sum(runs.numbers("poisoned", share=share))
        for name in ("left", *(f"left_{peer}" for peer in PEERS)):
            gone = 1.0 - sum(runs.numbers(name, share=share)) / total
            out[f"{name.replace('left', 'removed')} at {share}"] = gone
        texts = {
            "lost": "natural accuracy lost",
            "below": "natural accuracy below the clean network's",
            "beyond": "poison success beyond the clean network's",
        }
        for name, text in texts.items():
            values = gap(runs, GAPS[name], share=share)
            mean, error = mean_and_error(values)
            out[f"{text} at {share}: mean"] = mean
            out[f"{text} at {share}: standard error"] = error
            out[f"{text} at {share}: largest"] = float(values.max())
            out[f"{text} at {share}: share of runs above {WANTED[name]}"] = float(
                (values > WANTED[name]).mean()
            )
    poisoned = np.array(classes.numbers("poisoned")) > 0
    for name in DETECTORS:
        alarm = np.array(classes.numbers(f"{name}_alarm")) > 0
        for kind, rows in (("attacked", poisoned), ("clean", ~poisoned)):
            out[f"{name}: alarms in {int(rows.sum())} {kind} classes"] = int(alarm[rows].sum())
    return out


def figure(args: argparse.Namespace) -> Path:
    """Projections on the top direction of the target class, one panel an attack, first seed."""
    from tamis import plotting

    rows = files(args)[2].rows
    share = min((row["share"] for row in rows), key=float)
    panels = []
    for row in [row for row in rows if row["share"] == share]:
        edges = np.linspace(float(row["low"]), float(row["high"]), BINS + 1)
        counts = {name: np.array(row[name].split(), dtype=int) for name in ("clean", "poison")}
        title = f"{row['trigger']}, {row['source']} to {row['target']}"
        panels.append((title, edges, counts))
    made = plotting.plot_groups(
        panels,
        xlabel=f"projection on the top direction of the target class; share of poison: {share}",
        ylabel="training images",
    )
    path: Path = args.out / f"{args.stem}.png"
    made.savefig(path, dpi=90)
    return path


def main() -> int:
    _timing.use_full_speed_blas()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two attacks, few images and epochs")
    parser.add_argument("--json", action="store_true", help="print one JSON object, no table")
    parser.add_argument("--only", choices=ONLY)
    parser.add_argument("--cifar10", type=Path, metavar="FOLDER", help="binary version of CIFAR-10")
    parser.add_argument("--epochs", type=int, help="default: 8; 5 if --quick; 40 for CIFAR-10")
    parser.add_argument("--seeds", type=int, nargs="+", help=f"default: {SEEDS}")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--out", type=Path, help="default: results, build/bench if --quick")
    args = parser.parse_args()
    args.stem = "backdoor" if args.cifar10 is None else "backdoor_cifar10"
    args.epochs = args.epochs or (5 if args.quick else 8 if args.cifar10 is None else 40)
    args.seeds = args.seeds or (SEEDS[:1] if args.quick else SEEDS)
    args.out = args.out or (Path("build/bench") if args.quick else RESULTS)
    facts: dict[str, Any] = {"machine": _timing.machine()}

    def say(text: str) -> None:
        if not args.json:
            print(f"{text}\n", flush=True)

    def keep(name: str, text: str) -> None:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / f"{args.stem}{name}.md").write_text(text + "\n", encoding="utf-8")
        say(text)

    if args.only in (None, "attacks"):
        run_attacks(args)
    if args.only in (None, "attacks", "figures"):
        lines, text = table(args)
        facts |= {"attacks": lines, "summary": summary(args), "figure": str(figure(args))}
        keep("", text)
        say(
            "\n".join(
                f"{name}: {value:.4g}"
                for name, value in facts["summary"].items()
                if value is not None
            )
        )
    if args.only in (None, "embeddings"):
        facts["embeddings"] = _backdoor_peers.embeddings()
        keep("_embeddings", _backdoor_peers.embeddings_table(facts["embeddings"]))
    if args.only == "validation":  # by request: it needs packages that nothing else needs
        from _backdoor_validation import validation

        facts["validation"] = validation(_backdoor_peers.SCORES)
        keep("_validation", _backdoor_peers.embeddings_table(facts["validation"]))
    if args.only in (None, "speed"):
        facts["speed"] = _backdoor_peers.speed(args)
        say(_backdoor_peers.speed_text(facts["speed"]))
    if args.json:
        print(json.dumps(facts, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
