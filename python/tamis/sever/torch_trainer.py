"""`SeverTrainer`: SEVER around the training of a torch module. Imports torch when it is made."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis import _arrays, _rows
from tamis.estimators._validation import seed_of
from tamis.sever.driver import Rule, SeverRound, sever

__all__ = ["SeverTrainer"]

_DENSE_GRADIENTS = 4096  # numbers of a gradient that are kept as they are; beyond, projected
_CHUNK_NUMBERS = 1 << 22  # numbers of the gradients formed at once
_CHECKED_ROWS = 1024  # at a time


class SeverTrainer:
    """Train a torch module on examples of which a minority is arbitrary.

    Every round trains from the module's first weights, takes the gradient of every example's loss,
    drops, and trains again.

    Parameters
    ----------
    model : torch.nn.Module
        Trained in place. Gradients are taken in eval mode, so a batch normalisation is no obstacle.
    loss : callable
        ``loss(outputs, targets) -> scalar`` of a batch, a mean over it, such as
        ``torch.nn.functional.cross_entropy``.
    contamination : float in [0, 0.5)
    rounds, fraction, rule, readmit, callback
        As in `tamis.sever.sever`; a network does not come back to the same fit, so ``readmit`` is
        off by default and two rounds of ``contamination / 2`` drop the contamination's worth.
    per_class : bool
        Filter the classes of integer targets one by one.
    parameters : iterable of str, optional
        Names (as in ``named_parameters``) whose gradients are looked at; default all that are
        trained. The last layer alone is often enough, and fast.
    projection : int, optional
        Gradients longer than this are projected on as many random directions. Default 512 for more
        than 4096 parameters, else none. Costs O(p) a gradient and O(p) memory for p parameters.
    epochs, batch_size, lr : int, int, float
        Of every training. A last batch of one example joins the one before.
    optimizer : callable, optional
        ``optimizer(parameters) -> torch.optim.Optimizer``, whose step needs no closure. Default
        Adam with ``lr``.
    random_state : int, optional
        Of batches, projections and ties. None is 0.

    Attributes
    ----------
    support_ : bool array of shape (n,)
        Examples of the last training.
    outlier_scores_ : array of shape (n,)
    history_ : tuple of SeverRound
    stop_reason_ : str
    losses_ : list of float
        Mean loss of every epoch, of all rounds.

    Notes
    -----
    Source: Diakonikolas et al., "Sever", ICML 2019; per-example gradients by ``torch.func``. Long
    gradients are sketched: their numbers, in random order and with random signs, are added up in
    ``projection`` sums (Charikar, Chen and Farach-Colton, 2002; here with sums of equally many),
    which keeps squared lengths within 1 +- O(1 / sqrt projection), as dense random directions do.
    """

    def __init__(
        self,
        model: Any,
        loss: Callable[[Any, Any], Any],
        *,
        contamination: float = 0.1,
        rounds: int = 2,
        fraction: float | None = None,
        rule: Rule = "top",
        readmit: bool = False,
        per_class: bool = False,
        parameters: Iterable[str] | None = None,
        projection: int | None = None,
        epochs: int = 10,
        batch_size: int = 128,
        lr: float = 1e-3,
        optimizer: Callable[[Any], Any] | None = None,
        callback: Callable[[SeverRound], Any] | None = None,
        random_state: Any = None,
    ) -> None:
        if not hasattr(model, "named_parameters"):
            raise TypeError(f"model: expected a torch module, got {type(model).__name__}")
        trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
        if not trained:
            raise ValueError("model: expected parameters to train, got none that require gradients")
        if parameters is None:
            self.parameters = trained
        else:
            self.parameters = [parameters] if isinstance(parameters, str) else list(parameters)
            unknown = sorted(set(self.parameters) - set(trained))
            if unknown or not self.parameters:
                raise ValueError(
                    f"parameters: expected names of trained parameters, got {unknown or 'none'}; "
                    f"the module has {', '.join(trained)}"
                )
        self.model = model
        self.loss = loss
        self.contamination = contamination
        self.rounds = rounds
        self.fraction = fraction
        self.rule = rule
        self.readmit = readmit
        self.per_class = per_class
        self.projection = (
            None if projection is None else _arrays.check_int(projection, "projection", 1, 2**31)
        )
        self.epochs = _arrays.check_int(epochs, "epochs", 1, 2**31)
        self.batch_size = _arrays.check_int(batch_size, "batch_size", 1, 2**31)
        self.lr = lr
        self.optimizer = optimizer
        self.callback = callback
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> SeverTrainer:
        """Train on all but the bad examples.

        Parameters
        ----------
        X, y : tensors or arrays of n examples and their targets
            Taken to the module's device batch by batch. Floating-point ones take the dtype of the
            module's first trained parameter, and integer or boolean targets become int64.

        Returns
        -------
        SeverTrainer
            Itself; the module has the weights of the last training, and the mode it had.

        Raises
        ------
        ValueError
            Lengths that differ, examples or targets that are not finite or a gradient that is not
            (the row is named), a loss that is not finite or not one number, ``per_class`` without
            one integer a target. The module then has its first weights again, and after an
            interrupt too.
        """
        import torch

        dtype = next(p for p in self.model.parameters() if p.requires_grad).dtype
        X, y = _table(X, "X", dtype), _table(y, "y", dtype)
        n = len(X)
        if len(y) != n:
            raise ValueError(f"y: expected {n} targets, got {len(y)}")
        if not y.is_floating_point():
            y = y.long()
        if self.per_class and (y.ndim != 1 or y.is_floating_point()):
            raise ValueError(
                "per_class: expected one integer for each target, got targets of shape "
                f"{tuple(y.shape)} and {y.dtype}; without integer classes leave it False"
            )
        share = _rows.check_contamination(self.contamination)
        first = copy.deepcopy(self.model.state_dict())
        training = self.model.training
        seed = seed_of(self.random_state) % 2**62
        self.losses_: list[float] = []
        fraction = self.fraction
        if fraction is None and share > 0.0:
            fraction = share / 2

        def train(rows: NDArray[np.intp]) -> Any:
            self.model.load_state_dict(first)
            self._train(X, y, torch.from_numpy(rows), seed)
            return copy.deepcopy(self.model.state_dict())

        def gradients(state: Any, rows: NDArray[np.intp]) -> NDArray[Any]:
            self.model.load_state_dict(state)
            return self._gradients(X, y, torch.from_numpy(rows), seed)

        try:
            result = sever(
                train,
                gradients,
                n,
                contamination=share,
                rounds=self.rounds,
                fraction=fraction,
                rule=self.rule,
                per_class=y.cpu().numpy() if self.per_class else None,
                readmit=self.readmit,
                callback=self.callback,
                random_state=seed,
            )
            self.model.load_state_dict(result.model)
        except BaseException:
            self.model.load_state_dict(first)
            raise
        finally:
            self.model.train(training)
        self.support_ = result.support
        self.outlier_scores_ = result.scores
        self.history_ = result.history
        self.stop_reason_ = result.stop_reason
        return self

    def _device(self) -> Any:
        return next(self.model.parameters()).device

    def _train(self, X: Any, y: Any, rows: Any, seed: int) -> None:
        import torch

        device = self._device()
        weights = [p for p in self.model.parameters() if p.requires_grad]
        make = self.optimizer or (lambda chosen: torch.optim.Adam(chosen, lr=self.lr))
        optimizer = make(weights)
        generator = torch.Generator().manual_seed(seed)
        self.model.train()
        for _ in range(self.epochs):
            order = rows[torch.randperm(len(rows), generator=generator)]
            total = 0.0
            batches = list(order.split(self.batch_size))
            if len(batches) > 1 and len(batches[-1]) == 1 < self.batch_size:
                # how many are left is not for the user to choose, and batch normalisation refuses 1
                batches[-2:] = [torch.cat(batches[-2:])]
            for batch in batches:
                optimizer.zero_grad(set_to_none=True)
                with torch.enable_grad():  # whatever holds around the call
                    loss = self.loss(self.model(X[batch].to(device)), y[batch].to(device))
                if loss.numel() != 1:
                    raise ValueError(
                        f"loss: expected one number a batch, got shape {tuple(loss.shape)}; take "
                        "its mean"
                    )
                loss.backward()
                optimizer.step()
                total += float(loss.detach()) * len(batch)
            mean = total / max(len(rows), 1)
            if not np.isfinite(mean):
                raise ValueError(f"loss: expected a finite value, got {mean} in training")
            self.losses_.append(mean)

    def _gradients(self, X: Any, y: Any, rows: Any, seed: int) -> NDArray[Any]:
        """(m, p) gradients, or (m, projection) projected ones, in eval mode."""
        import torch
        from torch.func import functional_call, grad, vmap

        device = self._device()
        self.model.eval()
        named = dict(self.model.named_parameters())
        chosen = {name: named[name].detach() for name in self.parameters}
        fixed = {name: p.detach() for name, p in named.items() if name not in chosen}
        buffers = dict(self.model.named_buffers())
        size = sum(weight.numel() for weight in chosen.values())
        target = self.projection
        if target is None and size > _DENSE_GRADIENTS:
            target = 512
        if target is not None and target >= size:
            target = None

        def one(weights: Any, example: Any, answer: Any) -> Any:
            outputs = functional_call(
                self.model, {**weights, **fixed, **buffers}, (example.unsqueeze(0),)
            )
            return self.loss(outputs, answer.unsqueeze(0))

        each = vmap(grad(one), in_dims=(None, 0, 0), randomness="different")
        sketch = None if target is None else _Sketch(size, target, seed + 1, device)
        out = []
        for part in rows.split(max(1, _CHUNK_NUMBERS // size)):
            found = each(chosen, X[part].to(device), y[part].to(device))
            table = torch.cat([g.reshape(len(part), -1) for g in found.values()], dim=1)
            if sketch is not None:
                table = sketch(table)
            out.append(table.float().cpu() if table.dtype.itemsize < 4 else table.cpu())
        result: NDArray[Any] = torch.cat(out).numpy()
        return result


def _table(given: Any, name: str, dtype: Any) -> Any:
    """A tensor of examples; floating-point ones as ``dtype``, and finite."""
    import torch

    tensor = torch.as_tensor(given)
    if tensor.ndim == 0:
        raise ValueError(f"{name}: expected one entry an example, got a single number")
    if not tensor.is_floating_point():
        return tensor
    for start in range(0, len(tensor), _CHECKED_ROWS):
        part = tensor[start : start + _CHECKED_ROWS]
        finite = part.isfinite().reshape(len(part), -1).all(dim=1)
        if not finite.all():
            row = start + int(finite.int().argmin())
            raise ValueError(f"{name}: expected finite values, got NaN or inf in row {row}")
    return tensor.to(dtype)


class _Sketch:
    """Rows of ``size`` numbers as ``target`` sums of them, with random signs, in random order.

    Every number goes into one sum, so that a row costs O(size), and the map as much memory; a dense
    map of a million numbers by 512 would fill 2 GB. Equally many go into every sum, and the order
    is random because energy often sits at regular places (the columns of one unit, say).
    """

    def __init__(self, size: int, target: int, seed: int, device: Any) -> None:
        import torch

        generator = torch.Generator().manual_seed(seed)
        self._order = torch.randperm(size, generator=generator).to(device)
        signs = 2 * torch.randint(0, 2, (size,), generator=generator, dtype=torch.int8) - 1
        self._signs = signs.to(device)
        self._target = target

    def __call__(self, table: Any) -> Any:
        import torch

        mixed = (table * self._signs).index_select(1, self._order)
        mixed = torch.nn.functional.pad(mixed, (0, -mixed.shape[1] % self._target))
        return mixed.reshape(len(mixed), -1, self._target).sum(dim=1)
