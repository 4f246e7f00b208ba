"""`representations`: what a layer of a torch network makes of every example."""

from __future__ import annotations

import contextlib
import difflib
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tamis import _arrays

__all__ = ["representations"]

Pool = Literal["flatten", "mean"] | Callable[[Any], Any]


def representations(
    model: Any,
    loader: Any,
    layer: str | Sequence[str],
    *,
    pool: Pool = "flatten",
    batch_size: int = 256,
    device: Any = None,
    dtype: Literal["float32", "float16"] = "float32",
    out: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> Any:
    """Outputs of one or several modules of a network for every example, a row each.

    Parameters
    ----------
    model : torch.nn.Module
        Run in eval mode without gradients. Afterwards, also after an error, it is as before: the
        mode of every module, hooks, gradients, device.
    loader : array or tensor of shape (n, ...), dataset, or iterable of batches
        Examples in the order of the labels. Arrays of 8-bit values are divided by 255. A dataset
        has ``len`` and gives ``x`` or ``(x, ...)`` for a number; a batch of a DataLoader is ``x``
        or ``(x, ...)``. Only ``x`` is looked at; floats get the type of the network's weights.
    layer : str or sequence of str
        Names as in ``model.named_modules()``; what is taken is the module's output.
    pool : "flatten", "mean" or callable
        "flatten": all numbers of an output in a row. "mean": the average over all axes after the
        channels', of shape (b, c, ...). A callable is given the output and returns the tensor
        (b, ...) that is flattened then: ``lambda h: h[:, 0]`` takes the first token of a
        transformer's (b, t, d), ``lambda h: h[0][:, -1]`` the last step of an LSTM, which gives a
        tuple.
    batch_size : int >= 1
        Of arrays and datasets; a loader has its own.
    device : torch.device or str, optional
        Where the network runs; default where it is. It comes back afterwards.
    dtype : "float32" or "float16"
        Of the rows. Half precision halves the memory; the detectors take it.
    out : path, optional
        Write the rows to this ``.npy`` file (for several layers: to files named after them in this
        folder) and return maps of it, so that memory holds a batch only. The file appears once it
        is complete.
    progress : bool
        Show a bar with the time left on stderr.

    Returns
    -------
    array of shape (n, d), or dict of such arrays by the names of layers
        ``d`` is the product of the output's sizes ("flatten") or its channels ("mean").

    Raises
    ------
    ValueError
        A layer that is not there (names near it are given), that did not run, ran twice in a pass
        or gave something without a row an example; no examples; a loader that shuffles; ``out``
        for an iterable of unknown length; an activation that is not finite (in half precision:
        that is beyond 65504), naming example and layer.
    TypeError
        A model that is no module, or an output that is no tensor.

    Notes
    -----
    Every example is passed through once. The rows depend on the batch size in their last digits
    only, as the network's do; a module that uses batch statistics in eval mode is an exception.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from tamis.backdoor import representations
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 2), torch.nn.Flatten())
    >>> X = np.zeros((7, 1, 4, 4), np.float32)
    >>> representations(net, X, "0").shape, representations(net, X, "0", pool="mean").shape
    ((7, 27), (7, 3))
    """
    import torch

    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    names = layer_names(layer)
    modules = [module_of(model, name) for name in names]
    if not (callable(pool) or pool in ("flatten", "mean")):
        raise ValueError(f"pool: expected 'flatten', 'mean' or a callable, got {pool!r}")
    if dtype not in ("float32", "float16"):
        raise ValueError(f"dtype: expected 'float32' or 'float16', got {dtype!r}")
    batches, total = _batches(loader, _arrays.check_int(batch_size, "batch_size", 1, 2**31))
    if out is not None and total is None:
        raise ValueError("out: expected examples of a known number, got an iterable without len()")
    paths = _paths(out, names, several=not isinstance(layer, str))
    display = _open_display(total, progress)
    stores = {name: _Rows(name, total, dtype, paths.get(name)) for name in names}
    try:
        with _unchanged(model, device), _hooked(modules, names) as seen:
            for batch in batches:
                x = batch[0] if isinstance(batch, (tuple, list)) else batch
                seen.clear()
                x = as_tensor(x)
                with torch.no_grad():
                    model(as_weights(x, model, device))
                for name in names:
                    stores[name].add(_rows_of(name, seen, len(x), pool))
                display.advance(len(x))
                display.image(stores[names[0]].count, "")
        found = {name: store.finish() for name, store in stores.items()}
    finally:
        display.close()
        for store in stores.values():
            store.discard()
    return found[layer] if isinstance(layer, str) else found


def as_tensor(values: Any, name: str = "values") -> Any:
    """``values`` as a tensor on the same memory, also where that is read-only: it is only read."""
    import torch

    if hasattr(values, "to_numpy"):  # of a table
        values = values.to_numpy()
    if isinstance(values, (list, tuple)):
        if values and all(isinstance(value, torch.Tensor) for value in values):
            return torch.stack(tuple(values))
        values = np.asarray(values)
        if values.dtype == np.float64:  # what torch makes of Python's floats
            values = values.astype(np.float32)
    if isinstance(values, np.ndarray):
        if values.dtype.kind not in "biufc":
            raise TypeError(
                f"{name}: expected numbers, got an array of {values.dtype}; "
                "np.unique(words, return_inverse=True)[1] numbers words"
            )
        values = values.astype(values.dtype.newbyteorder("="), copy=False)  # torch has one order
        if min(values.strides, default=0) < 0:
            values = values.copy()  # nor negative strides
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
        return torch.as_tensor(values)


def as_weights(x: Any, model: Any, device: Any = None) -> Any:
    """``x`` on the device of the network's weights, floats in their type."""
    weight = next((w for w in (*model.parameters(), *model.buffers()) if w.is_floating_point()), x)
    kind = weight.dtype if x.is_floating_point() else x.dtype
    return x.to(weight.device if device is None else device, kind)


def layer_names(layer: Any) -> list[str]:
    """One or several names as a list; what is no name is refused."""
    names = [layer] if isinstance(layer, str) or not isinstance(layer, Iterable) else list(layer)
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"layer: expected the name of a module or several, got {layer!r}")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"layer: expected one name or several different ones, got {layer!r}")
    return names


def module_of(model: Any, name: str) -> Any:
    """The module of this name, or an error with names near it."""
    known = {key: module for key, module in model.named_modules() if key}
    if name in known:
        return known[name]
    ends = [key for key in known if name and key.endswith(f".{name}")]
    near = ends or difflib.get_close_matches(name, known, n=5, cutoff=0.5)
    listed = list(known)[:10]
    hint = f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(listed)}"
    more = " ..." if not near and len(known) > len(listed) else ""
    raise ValueError(f"layer: no module {name!r} in the model; {hint}{more}")


def _batches(source: Any, batch_size: int) -> tuple[Iterable[Any], int | None]:
    """Batches and, where it is known, the number of examples."""
    import torch

    if isinstance(source, (np.ndarray, torch.Tensor)):
        if not len(source):
            raise ValueError("loader: expected at least one example, got none")
        bytes_ = "uint8" in str(source.dtype)

        def parts() -> Iterator[Any]:
            for start in range(0, len(source), batch_size):
                part = as_tensor(source[start : start + batch_size])
                yield part.float() / 255 if bytes_ else part

        return parts(), len(source)
    draws = (
        torch.utils.data.RandomSampler,
        torch.utils.data.SubsetRandomSampler,
        torch.utils.data.WeightedRandomSampler,
    )
    inner = getattr(getattr(source, "batch_sampler", None), "sampler", None)
    if isinstance(getattr(source, "sampler", None), draws) or isinstance(inner, draws):
        raise ValueError(
            "loader: expected examples in the order of the labels, got a loader that shuffles; "
            "pass its dataset, or a DataLoader with shuffle=False"
        )
    indexed = hasattr(source, "__getitem__") and hasattr(source, "__len__")
    if indexed and not isinstance(source, (list, tuple)):  # a list holds batches
        source = torch.utils.data.DataLoader(source, batch_size)
    if isinstance(source, torch.utils.data.DataLoader):
        size = source.batch_size
        try:
            known = len(source.sampler) if size is not None else None  # type: ignore[arg-type]
        except TypeError:  # of an IterableDataset
            known = None
        if known is not None and size is not None and source.drop_last:
            known -= known % size
        return source, known
    if not isinstance(source, Iterable):
        raise TypeError(
            f"loader: expected an array, a dataset or batches, got {type(source).__name__}"
        )
    return source, None


def _paths(out: Any, names: Sequence[str], *, several: bool) -> dict[str, Path]:
    if out is None:
        return {}
    path = Path(out)
    if several:
        path.mkdir(parents=True, exist_ok=True)
        return {name: path / f"{name}.npy" for name in names}
    if path.suffix != ".npy":
        raise ValueError(f"out: expected a name ending in .npy, got {path}")
    return {names[0]: path}


def _open_display(total: int | None, progress: bool) -> Any:
    from tamis._progress import open_display

    if progress and total is None:
        raise ValueError("progress: expected examples of a known number, got an iterable")
    return open_display(
        total or 0, 0, total or 0, quiet=not progress, who="tamis representations", what="examples"
    )


@contextlib.contextmanager
def _unchanged(model: Any, device: Any) -> Iterator[None]:
    """Eval mode, on ``device``. Afterwards all is as it was."""
    modes = {module: module.training for module in model.modules()}
    tensors = [*model.parameters(), *model.buffers()]
    places = [tensor.device for tensor in tensors]
    try:
        model.eval()
        if device is not None:
            model.to(device)
        yield
    finally:
        if device is not None:
            for tensor, place in zip([*model.parameters(), *model.buffers()], places, strict=True):
                if tensor.device != place:
                    tensor.data = tensor.data.to(place)
        for module, training in modes.items():
            module.training = training


@contextlib.contextmanager
def _hooked(modules: Sequence[Any], names: Sequence[str]) -> Iterator[dict[str, list[Any]]]:
    """Collect outputs by name, in a list: a module that runs twice in a pass gives two."""
    seen: dict[str, list[Any]] = {}
    handles = []
    try:
        for module, name in zip(modules, names, strict=True):

            def note(_module: Any, _inputs: Any, output: Any, name: str = name) -> None:
                # what follows may change the output in place (ReLU(inplace=True))
                kept = output.detach().clone() if hasattr(output, "detach") else deepcopy(output)
                seen.setdefault(name, []).append(kept)

            handles.append(module.register_forward_hook(note))
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _rows_of(name: str, seen: dict[str, list[Any]], count: int, pool: Pool) -> NDArray[Any]:
    """(count, d) float32 of one batch, checked."""
    import torch

    outputs = seen.get(name, [])
    if len(outputs) != 1:
        how = "did not run" if not outputs else f"ran {len(outputs)} times"
        raise ValueError(f"layer: expected {name!r} to run once in a pass of the model, it {how}")
    output = pool(outputs[0]) if callable(pool) else outputs[0]
    if not isinstance(output, torch.Tensor):
        if callable(pool):
            raise TypeError(f"pool: expected to get a tensor from it, got {type(output).__name__}")
        raise TypeError(
            f"layer: expected {name!r} to give a tensor, got {type(output).__name__}; choose a "
            "module inside of it, or a pool that takes a tensor out"
        )
    if pool == "mean" and output.ndim > 2:
        output = output.flatten(2).mean(dim=2, dtype=torch.float32)
    if output.ndim < 1 or len(output) != count:
        raise ValueError(
            f"layer: expected {name!r} to give a row for each of {count} examples, got shape "
            f"{tuple(output.shape)}"
        )
    rows: NDArray[Any] = output.reshape(count, -1).float().cpu().numpy()
    return rows


class _Rows:
    """Rows of one layer as they come: in an array of known length, in pieces, or in a file."""

    def __init__(self, name: str, total: int | None, dtype: str, path: Path | None) -> None:
        self._name, self._total, self._dtype = name, total, np.dtype(dtype)
        self._path = path
        self._draft = None if path is None else path.with_suffix(".part")
        self._array: Any = None
        self._pieces: list[NDArray[Any]] = []
        self.count = 0

    def add(self, rows: NDArray[Any]) -> None:
        with np.errstate(over="ignore"):  # what overflows is refused below
            block = rows.astype(self._dtype, copy=False)
        if not np.isfinite(block).all():
            row = int(np.argwhere(~np.isfinite(block).all(axis=1))[0, 0])
            value = rows[row][~np.isfinite(block[row])][0]
            fix = "; take float32" if np.isfinite(value) else ""
            raise ValueError(
                f"representations: expected finite activations in {self._dtype}, got {value:g} "
                f"for example {self.count + row} in layer {self._name!r}{fix}"
            )
        if self._total is None:
            self._pieces.append(block.copy())
        else:
            if self._array is None:
                shape = (self._total, block.shape[1])
                self._array = (
                    np.empty(shape, self._dtype)
                    if self._draft is None
                    else np.lib.format.open_memmap(self._draft, "w+", self._dtype, shape)
                )
            if self.count + len(block) > self._total:
                raise ValueError(f"loader: expected {self._total} examples, got more")
            self._array[self.count : self.count + len(block)] = block
        self.count += len(block)

    def finish(self) -> NDArray[Any]:
        if not self.count:
            raise ValueError("loader: expected at least one example, got none")
        if self._total is not None and self.count < self._total:
            raise ValueError(f"loader: expected {self._total} examples, got {self.count}")
        if self._total is None:
            return np.concatenate(self._pieces)
        if self._draft is None or self._path is None:
            result: NDArray[Any] = self._array
            return result
        self._array.flush()
        self._array = None
        self._draft.replace(self._path)
        mapped: NDArray[Any] = np.load(self._path, mmap_mode="r", allow_pickle=False)
        return mapped

    def discard(self) -> None:
        """Remove a file that was not finished."""
        self._array = None
        if self._draft is not None:
            self._draft.unlink(missing_ok=True)
