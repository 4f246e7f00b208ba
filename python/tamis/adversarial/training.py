"""A training loop for networks that are to be smoothed, resumable to the bit.

The state of a run is model, optimiser, generators and the number of steps done. All noise is a
function of (seed, step), the order of the images of (seed, epoch): a run that was interrupted and
goes on ends with the same weights, on the same machine.
"""

from __future__ import annotations

import csv
import math
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from types import FrameType
from typing import Any, Final

import numpy as np
import torch

from tamis import _arrays
from tamis.adversarial import losses
from tamis.adversarial._checks import check_choice, check_positive
from tamis.adversarial.architectures import last_layer
from tamis.adversarial.checkpoint import (
    load_checkpoint,
    rng_state,
    save_checkpoint,
    set_rng_state,
)

__all__ = ["METHODS", "NonFiniteLossError", "Run", "finetune", "train"]

METHODS: Final = ("gaussian", "adversarial", "smoothadv", "stability", "macer", "consistency")
_COLUMNS: Final = ("epoch", "steps", "lr", "epsilon", "loss", "seconds")


class NonFiniteLossError(RuntimeError):
    """The loss became NaN or infinite; `batch` holds x, y, step and seed, `path` where it lies."""

    def __init__(self, message: str, batch: dict[str, Any], path: Path | None) -> None:
        super().__init__(message)
        self.batch = batch
        self.path = path


@dataclass
class Run:
    """What callbacks see and `train` returns.

    Attributes
    ----------
    model : torch.nn.Module
    epoch : int
        Epochs completed.
    step : int
        Batches seen in all: the noise counter.
    history : list of dict
        One entry an epoch: epoch, steps, lr, epsilon, loss, seconds.
    """

    model: torch.nn.Module
    epoch: int = 0
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class _Recipe:
    """Everything beside the data that decides the weights; stored in checkpoints."""

    method: str
    sigma: float
    epsilon: float
    steps: int
    num_noise: int
    warmup: int
    attack: str
    objective: str
    lr: float
    lr_step: int
    lr_gamma: float
    momentum: float
    weight_decay: float
    batch_size: int
    accumulate: int
    amp: str
    seed: int

    def rate(self, epoch: int) -> float:
        return self.lr * self.lr_gamma ** (epoch // self.lr_step if self.lr_step else 0)

    def radius(self, epoch: int) -> float:
        """Radius of the attack in an epoch, counted from 0: linear warm-up ([Salman19] code)."""
        return min(self.epsilon, (epoch + 1) * self.epsilon / max(1, self.warmup))

    def loss(
        self, model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, epoch: int, step: int
    ) -> torch.Tensor:
        place = {"seed": self.seed, "step": step}
        if self.method == "gaussian":
            return losses.gaussian_loss(
                model, x, y, sigma=self.sigma, num_noise=self.num_noise, **place
            )
        if self.method == "adversarial":
            return losses.adversarial_loss(
                model, x, y, epsilon=self.radius(epoch), steps=self.steps, **place
            )
        if self.method == "smoothadv":
            return losses.smoothadv_loss(
                model,
                x,
                y,
                epsilon=self.radius(epoch),
                sigma=self.sigma,
                steps=self.steps,
                num_noise=self.num_noise,
                attack=self.attack,
                objective=self.objective,
                **place,
            )
        if self.method == "stability":
            return losses.stability_loss(model, x, y, sigma=self.sigma, **place)
        other = losses.macer_loss if self.method == "macer" else losses.consistency_loss
        return other(model, x, y, sigma=self.sigma, num_noise=self.num_noise, **place)


def train(
    model: torch.nn.Module,
    data: Any,
    method: str = "smoothadv",
    *,
    sigma: float,
    epsilon: float = 1.0,
    steps: int = 4,
    num_noise: int = 4,
    warmup: int = 10,
    attack: str = "pgd",
    objective: str = "smoothed",
    epochs: int = 90,
    batch_size: int = 256,
    lr: float = 0.1,
    lr_step: int = 30,
    lr_gamma: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    accumulate: int = 1,
    amp: str | None = None,
    device: Any = None,
    out: Any = None,
    resume: bool = True,
    callbacks: Sequence[Callable[[Run], None]] = (),
    progress: Callable[[str], None] | None = None,
    seed: int = 0,
) -> Run:
    """Train a network for smoothing with noise `sigma`, in place.

    Parameters
    ----------
    model : torch.nn.Module
        Gives logits. Weights with ``requires_grad=False`` stay, and modules that have no others
        stay in eval mode.
    data : (X, y), ImageSet or iterable of (x, y) batches
        Images in [0, 1], shape (N, ...), float or uint8 (divided by 255), as arrays or tensors,
        shuffled here; or a DataLoader, which is iterated once an epoch.
    method : "gaussian", "adversarial", "smoothadv", "stability", "macer" or "consistency"
        See the losses of the same names.
    sigma, epsilon : float
        In the units of the images.
    steps, num_noise : int
        Of the attack, and copies an image.
    warmup : int
        Epochs over which epsilon rises linearly; ``epsilon (e + 1) / warmup`` in epoch e.
    attack, objective : str
        As for `smoothadv_loss`.
    epochs, batch_size : int
        `batch_size` is that of (X, y); a loader has its own.
    lr, momentum, weight_decay : float
        Of SGD; the rate is multiplied by `lr_gamma` every `lr_step` epochs (0: never).
    accumulate : int
        Batches whose gradients are averaged for one optimiser step.
    amp : "bfloat16", "float16" or None
        Mixed precision; float16 scales its gradients and needs CUDA.
    device : torch.device or str, optional
        Where to train; default where the model is.
    out : path, optional
        Folder for ``checkpoint.pt`` (after every epoch, and on an interrupt), ``log.csv`` and
        ``nan_batch.pt``.
    resume : bool
        Go on from ``out/checkpoint.pt`` where there is one.
    callbacks : sequence of callable
        Called with the `Run` after every epoch.
    progress : callable, optional
        Called with a line of text after every epoch.
    seed : int in [0, 2**64)
        Of noise and order; not of the weights that the model has at the start.

    Returns
    -------
    Run

    Raises
    ------
    NonFiniteLossError
        If the loss is NaN or infinite: the weights are those before the batch, which is saved.
    KeyboardInterrupt
        After the step in work is complete and the checkpoint written.
    TypeError, ValueError
        For arguments that cannot work, or a checkpoint of another recipe.

    Notes
    -----
    Every batch takes its noise from its own number, so no noise is used twice in a run. The order
    of a loader's batches is its own; resuming restores torch's generator, which it draws from by
    default, and skips what was done. Python's and NumPy's generators are not restored.
    """
    recipe = _recipe(
        method=method,
        sigma=sigma,
        epsilon=epsilon,
        steps=steps,
        num_noise=num_noise,
        warmup=warmup,
        attack=attack,
        objective=objective,
        lr=lr,
        lr_step=lr_step,
        lr_gamma=lr_gamma,
        momentum=momentum,
        weight_decay=weight_decay,
        batch_size=batch_size,
        accumulate=accumulate,
        amp=amp,
        seed=seed,
    )
    epochs = _arrays.check_int(epochs, "epochs", 0)
    if device is not None:
        model.to(device)
    trainer = _Trainer(model, _batches(data, recipe), recipe, None if out is None else Path(out))
    if resume:
        trainer.resume()
    with _deferred_interrupt() as interrupted:
        while trainer.run.epoch < epochs:
            trainer.epoch(interrupted)
            if progress is not None:
                row = trainer.run.history[-1]
                progress(
                    f"epoch {trainer.run.epoch}/{epochs}, loss {row['loss']:.4f}, "
                    f"lr {row['lr']:.3g}, {row['seconds']:.1f} s"
                )
            for callback in callbacks:
                callback(trainer.run)
    model.eval()
    return trainer.run


def finetune(
    model: torch.nn.Module,
    data: Any,
    method: str = "smoothadv",
    *,
    scope: str = "all",
    num_classes: int | None = None,
    **options: Any,
) -> Run:
    """Train a pretrained network on, all of it or its last layer.

    Parameters
    ----------
    model, data, method
        As for `train`.
    scope : "last" or "all"
        Which weights move. The others keep their values to the bit (batch statistics too).
    num_classes : int, optional
        Put a fresh last linear layer with so many outputs in place first; its weights follow from
        `seed`.
    **options
        As for `train`; the defaults differ: 30 epochs, ``lr=0.001``, no decay of it, ``warmup=1``.

    Returns
    -------
    Run

    Notes
    -----
    Source: [Salman19] Section 4.3. Their text finetunes the last layer, their code all of it.
    """
    check_choice(scope, "scope", ("last", "all"))
    name, layer = last_layer(model)
    if num_classes is not None:
        num_classes = _arrays.check_int(num_classes, "num_classes", 2)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(options.get("seed", 0)) % (1 << 63))
            fresh = torch.nn.Linear(layer.in_features, num_classes, bias=layer.bias is not None)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, fresh.to(layer.weight))
        layer = fresh
    kept = [p for p in model.parameters() if p.requires_grad]
    if scope == "last":
        chosen = {id(p) for p in layer.parameters()}
        for parameter in kept:
            parameter.requires_grad_(id(parameter) in chosen)
    try:
        defaults = {"epochs": 30, "lr": 0.001, "lr_step": 0, "warmup": 1}
        return train(model, data, method, **{**defaults, **options})
    finally:
        for parameter in kept:
            parameter.requires_grad_(True)


class _Trainer:
    """A run in work: the state that a checkpoint holds, and the files of the run."""

    def __init__(
        self,
        model: torch.nn.Module,
        batches: Callable[[int], Iterable[tuple[torch.Tensor, torch.Tensor]]],
        recipe: _Recipe,
        out: Path | None,
    ) -> None:
        self.run = Run(model)
        self.recipe, self.out, self._batches = recipe, out, batches
        moving = [p for p in model.parameters() if p.requires_grad]
        if not moving:
            raise ValueError("model: expected weights with requires_grad=True, got none")
        self._device, self._dtype = moving[0].device, moving[0].dtype
        if recipe.amp == "float16" and self._device.type != "cuda":
            raise ValueError(
                f"amp: expected 'bfloat16' or None on {self._device.type}, got 'float16'"
            )
        self._optimizer = torch.optim.SGD(
            moving,
            lr=recipe.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=recipe.amp == "float16")
        self._epoch_rng = rng_state()
        self._done = 0  # batches of the epoch in work that are done, and the sum of their losses
        self._total = 0.0
        self._seconds = 0.0
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)

    def epoch(self, interrupted: threading.Event) -> None:
        """Train the rest of the epoch in work; checkpoint, log."""
        run, recipe = self.run, self.recipe
        for group in self._optimizer.param_groups:
            group["lr"] = recipe.rate(run.epoch)
        began = perf_counter() - self._seconds
        if not self._done:
            self._epoch_rng = rng_state()
            source = iter(self._batches(run.epoch))
        else:  # the same order again, without what is done
            now = rng_state()
            set_rng_state(self._epoch_rng)
            source = iter(self._batches(run.epoch))
            for _ in range(self._done):
                next(source)
            set_rng_state(now)
        _train_mode(run.model)
        group_of: list[tuple[torch.Tensor, torch.Tensor]] = []
        for batch in source:
            group_of.append(batch)
            if len(group_of) == recipe.accumulate:
                self._step(group_of)
                group_of = []
                if interrupted.is_set():
                    self._seconds = perf_counter() - began
                    self.save()
                    raise KeyboardInterrupt(self._stopped())
        if group_of:
            self._step(group_of)
        if not self._done:
            raise ValueError("data: expected at least one batch an epoch, got none")
        run.history.append(
            {
                "epoch": run.epoch,
                "steps": run.step,
                "lr": recipe.rate(run.epoch),
                "epsilon": recipe.radius(run.epoch),
                "loss": self._total / self._done,
                "seconds": perf_counter() - began,
            }
        )
        run.epoch += 1
        self._done, self._total, self._seconds = 0, 0.0, 0.0
        self._epoch_rng = rng_state()
        self.save()
        self._write_log()
        if interrupted.is_set():
            raise KeyboardInterrupt(self._stopped())

    def _step(self, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """One optimiser step on the mean gradient of some batches."""
        run, recipe = self.run, self.recipe
        self._optimizer.zero_grad()
        for k, (x, y) in enumerate(batches):
            x, y = x.to(self._device, self._dtype), y.to(self._device)
            with torch.autocast(
                self._device.type,
                dtype=getattr(torch, recipe.amp or "bfloat16"),
                enabled=bool(recipe.amp),
            ):
                loss = recipe.loss(run.model, x, y, run.epoch, run.step + k)
            value = float(loss.detach())
            if not math.isfinite(value):
                self._refuse(x, y, run.step + k, value)
            self._scaler.scale(loss / len(batches)).backward()
            self._total += value
        self._scaler.step(self._optimizer)
        self._scaler.update()
        run.step += len(batches)
        self._done += len(batches)

    def _refuse(self, x: torch.Tensor, y: torch.Tensor, step: int, value: float) -> None:
        batch = {"x": x.cpu(), "y": y.cpu(), "step": step, "seed": self.recipe.seed}
        path = None if self.out is None else self.out / "nan_batch.pt"
        if path is not None:
            save_checkpoint(path, batch)
        kept = "" if path is None else f"; the batch is in {path}"
        raise NonFiniteLossError(
            f"loss: expected a finite number, got {value} in epoch {self.run.epoch}, "
            f"batch {step}{kept}",
            batch,
            path,
        )

    def _stopped(self) -> str:
        kept = "" if self.out is None else f"; {self.out} goes on from there"
        return f"interrupted in epoch {self.run.epoch} after {self.run.step} batches{kept}"

    def save(self) -> None:
        """Write the checkpoint, where there is a folder for it."""
        if self.out is None:
            return
        save_checkpoint(
            self.out / "checkpoint.pt",
            {
                "recipe": asdict(self.recipe),
                "model": self.run.model.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "scaler": self._scaler.state_dict(),
                "rng": rng_state(),
                "epoch_rng": self._epoch_rng,
                "epoch": self.run.epoch,
                "step": self.run.step,
                "done": self._done,
                "total": self._total,
                "seconds": self._seconds,
                "history": self.run.history,
            },
        )

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one."""
        path = None if self.out is None else self.out / "checkpoint.pt"
        if path is None or not path.exists():
            return
        state = load_checkpoint(path, self._device)
        mine = asdict(self.recipe)
        differing = [name for name in mine if state["recipe"].get(name) != mine[name]]
        if differing:
            told = ", ".join(
                f"{name} {state['recipe'].get(name)!r} (now {mine[name]!r})" for name in differing
            )
            raise ValueError(f"{path}: expected a checkpoint of this recipe, got {told}")
        self.run.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        self.run.epoch, self.run.step = state["epoch"], state["step"]
        self.run.history = list(state["history"])
        self._done, self._total, self._seconds = state["done"], state["total"], state["seconds"]
        self._epoch_rng = state["epoch_rng"]
        set_rng_state(state["rng"])

    def _write_log(self) -> None:
        """The whole log anew: after a crash it has the rows that the checkpoint has."""
        if self.out is None:
            return
        draft = self.out / ".log.csv"
        with draft.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.run.history)
        draft.replace(self.out / "log.csv")


def _train_mode(model: torch.nn.Module) -> None:
    """Train mode, but for modules whose weights are all frozen (their batch statistics stay)."""
    model.train()
    for module in model.modules():
        own = list(module.parameters())
        if own and not any(p.requires_grad for p in own):
            module.eval()


@contextmanager
def _deferred_interrupt() -> Iterator[threading.Event]:
    """Ctrl-C sets the event, so that the step in work can end; a second one stops at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event  # signals go to the main thread, whatever we do
        return

    def note(number: int, frame: FrameType | None) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    previous = signal.signal(signal.SIGINT, note)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, previous)


def _batches(
    data: Any, recipe: _Recipe
) -> Callable[[int], Iterable[tuple[torch.Tensor, torch.Tensor]]]:
    """A function of the epoch's number that gives its batches."""
    if hasattr(data, "images") and hasattr(data, "labels"):
        data = (np.stack([data[i] for i in range(len(data))]), data.labels)
    if not (isinstance(data, (tuple, list)) and len(data) == 2 and hasattr(data[0], "shape")):
        if not isinstance(data, Iterable) or isinstance(data, Iterator):
            raise TypeError(
                f"data: expected (X, y), images or a loader that can be iterated again, got "
                f"{type(data).__name__}"
            )
        return lambda _: data
    X, y = (torch.as_tensor(part) for part in data)
    X = X.float() / 255 if X.dtype == torch.uint8 else X
    if len(X) != len(y) or not len(X):
        raise ValueError(f"data: expected as many labels as images, got {len(y)} for {len(X)}")
    y = y.long()

    def epoch(number: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        order = np.random.Generator(np.random.Philox([recipe.seed, number])).permutation(len(X))
        index = torch.from_numpy(order).to(X.device)
        for start in range(0, len(X), recipe.batch_size):
            chosen = index[start : start + recipe.batch_size]
            yield X[chosen], y[chosen]

    return epoch


def _recipe(*, amp: str | None, **values: Any) -> _Recipe:
    check_choice(values["method"], "method", METHODS)
    check_choice(values["attack"], "attack", ("pgd", "ddn"))
    check_choice(values["objective"], "objective", ("smoothed", "base"))
    if amp is not None:
        check_choice(amp, "amp", ("bfloat16", "float16"))
    for name in ("sigma", "epsilon", "momentum", "weight_decay"):
        values[name] = check_positive(values[name], name, zero=True)
    for name in ("lr", "lr_gamma"):
        values[name] = check_positive(values[name], name)
    for name in ("steps", "num_noise", "batch_size", "accumulate"):
        values[name] = _arrays.check_int(values[name], name, 1)
    for name in ("warmup", "lr_step"):
        values[name] = _arrays.check_int(values[name], name, 0)
    values["seed"] = _arrays.check_int(values["seed"], "seed", 0, 1 << 64)
    return _Recipe(amp=amp or "", **values)
