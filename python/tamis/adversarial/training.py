"""A training loop for networks that are to be smoothed, resumable to the bit.

The state of a run is model, optimiser, generators and the number of steps done. All noise is a
function of (seed, step), the order of the images of (seed, epoch): a run that was interrupted and
goes on ends with the same weights, on the same machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from tamis import _arrays
from tamis.adversarial._checks import check_choice
from tamis.adversarial.architectures import last_layer
from tamis.adversarial.display import shown
from tamis.adversarial.recipe import check_recipe
from tamis.adversarial.trainer import (
    Run,
    Trainer,
    batches_an_epoch,
    batches_of,
    deferred_interrupt,
)

__all__ = ["finetune", "train"]


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
    progress: bool | Callable[[str], None] | None = None,
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
    progress : bool or callable, optional
        True: a bar with the time left on stderr, or a line now and then where that is no terminal.
        A callable gets a line of text after every epoch.
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
    recipe = check_recipe(
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
    if not (progress is None or isinstance(progress, bool) or callable(progress)):
        raise TypeError(f"progress: expected True, False or a callable, got {progress!r}")
    if device is not None:
        model.to(device)
    trainer = Trainer(model, batches_of(data, recipe), recipe, None if out is None else Path(out))
    if resume:
        trainer.resume()
    with ExitStack() as stack:
        interrupted = stack.enter_context(deferred_interrupt())
        show = None
        if progress is True:
            show = stack.enter_context(shown(trainer, batches_an_epoch(data, recipe), epochs))
        while trainer.run.epoch < epochs:
            trainer.epoch(interrupted, None if show is None else show.batches)
            if show is not None:
                show.epoch(trainer.run)
            elif callable(progress):
                progress(_line(trainer.run, epochs))
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


def _line(run: Run, epochs: int) -> str:
    row = run.history[-1]
    return (
        f"epoch {run.epoch}/{epochs}, loss {row['loss']:.4f}, lr {row['lr']:.3g}, "
        f"{row['seconds']:.1f} s"
    )
