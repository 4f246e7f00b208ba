"""The loop of a run: batches, optimiser steps, checkpoints, log."""

from __future__ import annotations

import csv
import math
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from types import FrameType
from typing import Any, Final

import numpy as np
import torch

from tamis import _rows
from tamis.adversarial.checkpoint import (
    load_checkpoint,
    rng_state,
    save_checkpoint,
    set_rng_state,
)
from tamis.adversarial.recipe import Recipe

__all__ = [
    "NonFiniteLossError",
    "Run",
    "Trainer",
    "batches_an_epoch",
    "batches_of",
    "deferred_interrupt",
]

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


class Trainer:
    """A run in work: the state that a checkpoint holds, and the files of the run."""

    def __init__(
        self,
        model: torch.nn.Module,
        batches: Callable[[int], Iterable[tuple[torch.Tensor, torch.Tensor]]],
        recipe: Recipe,
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

    @property
    def done_in_epoch(self) -> int:
        """Batches of the epoch in work that are done."""
        return self._done

    def epoch(
        self, interrupted: threading.Event, advance: Callable[[int], None] | None = None
    ) -> None:
        """Train the rest of the epoch in work; checkpoint, log. `advance` counts the batches."""
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
            group_of.append(_pair(batch))
            if len(group_of) == recipe.accumulate:
                self._step(group_of)
                if advance is not None:
                    advance(len(group_of))
                group_of = []
                if interrupted.is_set():
                    self._seconds = perf_counter() - began
                    self.save()
                    raise KeyboardInterrupt(self._stopped())
        if group_of:
            self._step(group_of)
            if advance is not None:
                advance(len(group_of))
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
        for k, (images, labels) in enumerate(batches):
            x, y = images.to(self._device, self._dtype), labels.to(self._device)
            with torch.autocast(
                self._device.type,
                dtype=getattr(torch, recipe.amp or "bfloat16"),
                enabled=bool(recipe.amp),
            ):
                loss = recipe.loss(run.model, x, y, run.epoch, run.step + k)
            value = float(loss.detach())
            if not math.isfinite(value):
                self._refuse(x, y, run.step + k, value)
            scaled: torch.Tensor = self._scaler.scale(loss / len(batches))
            scaled.backward()  # type: ignore[no-untyped-call]
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
        try:
            self.run.model.load_state_dict(state["model"])
        except RuntimeError as error:
            raise ValueError(
                f"{path}: expected the weights of this network, got {error}"
            ) from error
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


def _pair(batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """A loader's batch, if it is what it has to be."""
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        x, y = batch
        if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor):
            return x, y
    got = type(batch).__name__
    if isinstance(batch, (tuple, list)):
        got = f"{got} of {', '.join(type(part).__name__ for part in batch) or 'nothing'}"
    raise TypeError(f"data: expected batches (x, y) of torch tensors, got a {got}")


def _train_mode(model: torch.nn.Module) -> None:
    """Train mode, but for modules whose weights are all frozen (their batch statistics stay)."""
    model.train()
    for module in model.modules():
        own = list(module.parameters())
        if own and not any(p.requires_grad for p in own):
            module.eval()


@contextmanager
def deferred_interrupt() -> Iterator[threading.Event]:
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


def batches_of(
    data: Any, recipe: Recipe
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
    if y.is_floating_point() or y.ndim != 1:
        raise ValueError(
            f"data: expected integer labels of shape ({len(X)},), got {y.dtype} of shape "
            f"{tuple(y.shape)}"
        )
    y = y.long()

    def epoch(number: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        order = np.random.Generator(np.random.Philox([recipe.seed, number])).permutation(len(X))
        index = torch.from_numpy(order).to(X.device)
        for part in _rows.batches(len(X), recipe.batch_size):
            yield X[index[part]], y[index[part]]

    return epoch


def batches_an_epoch(data: Any, recipe: Recipe) -> int | None:
    """How many batches `batches_of` gives; None for a loader that does not say."""
    images = data.images if hasattr(data, "images") and hasattr(data, "labels") else None
    if images is None and isinstance(data, (tuple, list)) and len(data) == 2:
        images = data[0] if hasattr(data[0], "shape") else None
    if images is not None:
        return len(_rows.batches(len(images), recipe.batch_size))
    try:
        return len(data)
    except TypeError:  # an iterable without a length
        return None
