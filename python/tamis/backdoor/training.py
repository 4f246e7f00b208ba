"""`SGDTrainer`: the training that `tamis.backdoor.clean` does where none is given."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tamis import _arrays, _rows
from tamis.backdoor.extraction import as_weights

__all__ = ["SGDTrainer"]


@dataclass(frozen=True)
class SGDTrainer:
    """Train a classifier by stochastic gradient descent; call it with a model and a dataset.

    ``trainer(model, dataset)`` trains the model in place, on its own device. Anything that can be
    called like this may take its place in `clean`.

    Attributes
    ----------
    epochs, batch_size : int >= 1
        What is left over at the end of an epoch joins the last batch where it is under a quarter.
    lr : float > 0
        Peak of a rate that rises over a fifth of the steps and falls along a cosine (Smith and
        Topin 2018, "Super-convergence").
    momentum, weight_decay : float
    augment : callable, optional
        ``augment(x) -> x`` on every batch of training examples (b, ...).
    on_epoch : callable, optional
        ``on_epoch(epoch, mean_loss)`` after every epoch, counted from 1.
    seed : int
        Of the order of examples.
    progress : bool
        Show a bar with the time left on stderr.
    """

    epochs: int = 10
    batch_size: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augment: Callable[[Any], Any] | None = None
    on_epoch: Callable[[int, float], Any] | None = None
    seed: int = 0
    progress: bool = False

    def __post_init__(self) -> None:
        """Check what has to be counted."""
        _arrays.check_int(self.epochs, "epochs", 1, 2**31)
        _arrays.check_int(self.batch_size, "batch_size", 1, 2**31)
        _arrays.check_int(self.seed, "seed", 0, 2**63)
        if not 0.0 < _arrays.check_real(self.lr, "lr") < math.inf:
            raise ValueError(f"lr: expected a finite number > 0, got {self.lr}")

    def __call__(self, model: Any, dataset: Any) -> None:
        """Train ``model`` on the ``(x, label)`` of ``dataset``; a loss that is not finite ends it.

        Raises
        ------
        ValueError
            No examples, no weights to train, or a loss that is not finite; the epoch is named.
        """
        import torch

        from tamis._progress import open_display

        count = len(dataset)
        if not count:
            raise ValueError("dataset: expected at least one example to train on, got none")
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        if not weights:
            raise ValueError("model: expected weights with requires_grad=True, got none")
        optimizer = torch.optim.SGD(
            weights,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.momentum > 0,
        )
        steps = self.epochs * len(_rows.batches(count, self.batch_size))
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.lr, total_steps=max(steps, 2), pct_start=0.2
        )
        device = weights[0].device
        generator = torch.Generator().manual_seed(self.seed)
        display = open_display(
            self.epochs, 0, self.epochs * count, quiet=not self.progress, who="tamis: training",
            what="epochs",
        )  # fmt: skip
        model.train()
        try:
            for epoch in range(1, self.epochs + 1):
                total = torch.zeros((), device=device)
                for x, y in _batches(dataset, self.batch_size, generator):
                    inputs = as_weights(x, model)
                    if self.augment is not None:
                        inputs = self.augment(inputs)
                    loss = torch.nn.functional.cross_entropy(model(inputs), y.to(device))
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                    schedule.step()
                    total += loss.detach() * len(x)
                    display.advance(len(x))
                mean = float(total) / count
                if not math.isfinite(mean):
                    raise ValueError(f"loss: expected a finite value, got {mean} in epoch {epoch}")
                display.image(epoch, f"loss {mean:.3g}")
                if self.on_epoch is not None:
                    self.on_epoch(epoch, mean)
        finally:
            display.close()


def _batches(dataset: Any, size: int, generator: Any) -> Iterator[tuple[Any, Any]]:
    """Batches in random order; tensors are indexed at once, other datasets one by one."""
    import torch

    order = torch.randperm(len(dataset), generator=generator)
    parts = [order[part] for part in _rows.batches(len(dataset), size)]
    if isinstance(dataset, torch.utils.data.TensorDataset):
        X, y = dataset.tensors
        for part in parts:
            yield X[part], y[part]
        return
    batches = [part.tolist() for part in parts]
    yield from torch.utils.data.DataLoader(dataset, batch_sampler=batches)
