"""`clean`: train, score, remove, train again; the recipe of the paper as one call."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tamis import _arrays
from tamis.backdoor._classes import ClassDetector, ClassReport
from tamis.backdoor.extraction import Pool, as_tensor, layer_names, module_of, representations
from tamis.backdoor.spectre import Spectre
from tamis.backdoor.training import SGDTrainer

__all__ = ["Cleaned", "clean"]

Train = Callable[[Any, Any], Any]


@dataclass(frozen=True, eq=False)
class Cleaned:
    """What `clean` did.

    Attributes
    ----------
    model : torch.nn.Module
        Trained without the removed examples, in eval mode; the first model where none was removed.
    first_model : torch.nn.Module
        Trained on all examples, in eval mode.
    kept : bool array of shape (n,)
    scores : float64 array of shape (n,)
        Of the detector; higher is more suspicious.
    class_report : dict of int to ClassReport
        ``removed`` counts what was taken out of the class in the end.
    suspected_classes : list of int
        Classes that look attacked.
    layer : dict of int to str
        The layer that decided in every class.
    detectors : dict of str to detector
        The fitted detector of every layer.
    """

    model: Any
    first_model: Any
    kept: NDArray[np.bool_]
    scores: NDArray[np.float64]
    class_report: dict[int, ClassReport]
    suspected_classes: list[int]
    layer: dict[int, str]
    detectors: dict[str, Any]

    def __str__(self) -> str:
        """A table of the classes."""
        from tamis.backdoor.report import report_table

        gone = int((~self.kept).sum())
        said = f"{gone} of {self.kept.size} examples removed"
        return f"{report_table(self.class_report)}\n{said}"


def clean(
    model_factory: Callable[[], Any],
    dataset: Any,
    layer: str | Sequence[str],
    *,
    labels: Any = None,
    detector: Any = None,
    classes: Sequence[int] | Literal["all", "suspected"] = "all",
    train: Train | None = None,
    first_model: Any = None,
    pool: Pool = "flatten",
    batch_size: int = 256,
    dtype: Literal["float32", "float16"] = "float32",
    seed: int = 0,
    callback: Callable[[str, Any], Any] | None = None,
    progress: bool = False,
) -> Cleaned:
    """Train a network, score its examples, remove the suspicious ones, train a fresh network.

    Parameters
    ----------
    model_factory : callable
        ``model_factory() -> torch.nn.Module``, untrained, on the device to train on. torch's
        generator is seeded with ``seed`` for it and for ``train``, and as before afterwards.
    dataset : (X, y) or dataset
        Arrays or tensors of n examples and labels (8-bit values are divided by 255), or a dataset
        that gives ``(x, label)`` for a number. It should not augment: the detector looks at every
        example once, as the network sees it without augmentation.
    layer : str or sequence of str
        Which activations are scored, by the module's name (`representations`). Of several layers,
        the one where a class falls apart most (``separation``) decides in this class.
    labels : int array of shape (n,), optional
        Of a dataset; default its ``targets`` or ``labels``, else read example by example.
    detector : SpectralSignatures, Spectre or ActivationClustering, optional
        Not fitted; default ``Spectre(0.05)``. Any object with ``fit(rows, labels)`` that
        sets ``scores_``, ``removed_`` and ``class_report_`` will do.
    classes : "all", "suspected" or sequence of int
        Where examples are removed: in every class, as the detector does it; only in those that look
        attacked; or in these, which alone are scored then.
    train : callable, optional
        ``train(model, dataset)`` trains in place: yours, or default ``SGDTrainer(seed=seed)``. The
        dataset is a ``TensorDataset`` for (X, y), else a ``Subset`` of yours.
    first_model : torch.nn.Module, optional
        A network that was trained on all examples already: the first training is left out.
    pool, batch_size, dtype
        As for `representations`.
    seed : int in [0, 2**63)
    callback : callable, optional
        Called with ("trained", model), ("scored", detectors), ("removed", rows), ("retrained",
        model).
    progress : bool
        Show bars with the time left on stderr.

    Returns
    -------
    Cleaned

    Raises
    ------
    TypeError, ValueError
        What `representations`, the detector and the trainer raise; labels that do not match; a
        class that has no example left after the removal (it is named).

    Notes
    -----
    Source: Tran, Li and Madry 2018, Algorithm 1. Departures: scores are those of `Spectre` by
    default (`SpectralSignatures` has the paper's), and while the paper is told which class is
    attacked, here every class is looked at, which costs clean examples (``multiplier *
    contamination`` of each).

    Examples
    --------
    >>> import numpy as np, torch
    >>> from tamis.backdoor import SGDTrainer, SpectralSignatures, clean
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(300) % 2
    >>> X = rng.normal(size=(300, 6)).astype("f4")
    >>> X[:, 0] += 6.0 * y
    >>> X[270:, 5], y[270:] = 9.0, 1  # the trigger, and the attacker's label
    >>> def network():
    ...     parts = torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)
    ...     return torch.nn.Sequential(*parts)
    >>> found = clean(network, (X, y), "1", detector=SpectralSignatures(0.15),
    ...               classes="suspected", train=SGDTrainer(epochs=8))
    >>> found.suspected_classes, int((~found.kept[270:]).sum())
    ([1], 30)
    """
    seed = _arrays.check_int(seed, "seed", 0, 2**63)
    data, known = _examples(dataset, labels)
    names = layer_names(layer)
    scorer = _checked_detector(Spectre(0.05) if detector is None else detector)
    chosen = _chosen(classes, known, 2 if isinstance(scorer, ClassDetector) else 1)
    fit = SGDTrainer(seed=seed, progress=progress) if train is None else train
    tell = callback if callback is not None else lambda _stage, _what: None
    model = first_model
    if model is None:
        model = _trained(model_factory, fit, data, seed, names)
    tell("trained", model)
    inputs = data.tensors[0] if hasattr(data, "tensors") else data
    rows = representations(
        model, inputs, names, pool=pool, batch_size=batch_size, dtype=dtype, progress=progress
    )
    detectors = _scored(scorer, rows, known, chosen)
    del rows
    tell("scored", detectors)
    scores, removed, report, deciding = _combined(detectors, known)
    suspected = [label for label, entry in report.items() if entry.looks_attacked]
    if classes == "suspected":
        removed &= np.isin(known, suspected)
    kept = ~removed
    _require_every_class(known, kept)
    report = {
        label: replace(entry, removed=int(removed[known == label].sum()))
        for label, entry in report.items()
    }
    tell("removed", np.flatnonzero(removed))
    second = model
    if removed.any():
        second = _trained(model_factory, fit, _subset(data, np.flatnonzero(kept)), seed, names)
        tell("retrained", second)
    return Cleaned(second, model, kept, scores, report, suspected, deciding, detectors)


def _examples(dataset: Any, labels: Any) -> tuple[Any, NDArray[np.int64]]:
    """A torch dataset and its labels (n,)."""
    import torch

    if isinstance(dataset, torch.utils.data.TensorDataset):
        dataset = dataset.tensors
    if isinstance(dataset, (tuple, list)):
        if len(dataset) != 2:
            raise ValueError(f"dataset: expected (X, y) or a dataset, got {len(dataset)} parts")
        if labels is not None:
            raise ValueError("labels: expected None with (X, y), which has its labels")
        X, y = (as_tensor(part, name) for part, name in zip(dataset, "Xy", strict=True))
        X = X.float() / 255 if X.dtype == torch.uint8 else X
        y = _checked(y, len(X))
        return torch.utils.data.TensorDataset(X, y), y.numpy()
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise TypeError(f"dataset: expected (X, y) or a dataset, got {type(dataset).__name__}")
    if labels is None:
        labels = getattr(dataset, "targets", getattr(dataset, "labels", None))
    if labels is None and hasattr(dataset, "dtype"):
        raise TypeError("dataset: expected (X, y) or a dataset, got an array or tensor without y")
    if labels is None:
        labels = [int(dataset[number][1]) for number in range(len(dataset))]
    return dataset, _checked(as_tensor(labels, "labels"), len(dataset)).numpy()


def _checked(labels: Any, count: int) -> Any:
    """Labels as an int64 tensor on the CPU."""
    if labels.ndim != 1 or labels.is_floating_point() or labels.is_complex():
        raise ValueError(
            f"labels: expected integers of shape (n,), got {labels.dtype} of shape "
            f"{tuple(labels.shape)}"
        )
    if len(labels) != count:
        raise ValueError(f"labels: expected {count}, one an example, got {len(labels)}")
    return labels.detach().cpu().long()


def _subset(data: Any, rows: NDArray[np.int64]) -> Any:
    import torch

    if isinstance(data, torch.utils.data.TensorDataset):
        index = torch.from_numpy(rows)
        return torch.utils.data.TensorDataset(*(part[index] for part in data.tensors))
    return torch.utils.data.Subset(data, rows.tolist())


def _chosen(classes: Any, labels: NDArray[np.int64], least: int) -> list[int] | None:
    """The classes to look at; what the detector would refuse is refused before the training."""
    wanted = None
    if isinstance(classes, str):
        if classes not in ("all", "suspected"):
            raise ValueError(f"classes: expected 'all', 'suspected' or labels, got {classes!r}")
    elif not isinstance(classes, Iterable):
        raise TypeError(f"classes: expected 'all', 'suspected' or labels, got {classes!r}")
    else:
        wanted = [int(label) for label in classes]
    for label in np.unique(labels).tolist() if wanted is None else wanted:
        count = int((labels == label).sum())
        if count < least:
            raise ValueError(
                f"labels: expected at least {least} rows in a class, got {count} in class {label}"
            )
    return wanted


def _checked_detector(detector: Any) -> Any:
    """A copy of it, whose parameters are checked: not when the first network has been trained."""
    if isinstance(detector, type) or not hasattr(detector, "fit"):
        raise TypeError(f"detector: expected one such as Spectre(0.05), got {detector!r}")
    copied = copy.deepcopy(detector)
    if isinstance(copied, ClassDetector):
        copied._check_parameters()
    return copied


def _trained(
    model_factory: Callable[[], Any], fit: Train, data: Any, seed: int, names: Sequence[str]
) -> Any:
    import torch

    with torch.random.fork_rng(devices=list(range(torch.cuda.device_count()))):
        torch.manual_seed(seed)
        model = model_factory()
        if not isinstance(model, torch.nn.Module):
            raise TypeError(
                f"model_factory: expected to be given a torch.nn.Module, got {type(model).__name__}"
            )
        for name in names:
            module_of(model, name)  # a wrong name is told before the training
        fit(model, data)
    model.eval()
    return model


def _scored(
    detector: Any,
    rows: Mapping[str, NDArray[Any]],
    labels: NDArray[np.int64],
    classes: list[int] | None,
) -> dict[str, Any]:
    """A fitted copy of the detector for every layer."""
    known = {} if classes is None else {"classes": classes}
    out = {}
    for name, table in rows.items():
        one = copy.deepcopy(detector)
        one.fit(table, labels, **known)
        out[name] = one
    return out


def _combined(
    detectors: Mapping[str, Any], labels: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_], dict[int, ClassReport], dict[int, str]]:
    """In every class, what the layer says where the class falls apart most."""
    scores, removed = np.zeros(labels.size), np.zeros(labels.size, dtype=bool)
    report: dict[int, ClassReport] = {}
    deciding: dict[int, str] = {}
    first = next(iter(detectors.values()))
    for label in first.class_report_:
        # of equal ones, the layer named first
        name = max(detectors, key=lambda n: detectors[n].class_report_[label].separation)
        members = labels == label
        scores[members] = detectors[name].scores_[members]
        removed[members] = detectors[name].removed_[members]
        report[label], deciding[label] = detectors[name].class_report_[label], name
    return scores, removed, report, deciding


def _require_every_class(labels: NDArray[np.int64], kept: NDArray[np.bool_]) -> None:
    lost = sorted(set(labels.tolist()) - set(labels[kept].tolist()))
    if lost:
        raise ValueError(
            f"detector: class {lost[0]} has no example left after the removal of all "
            f"{int((labels == lost[0]).sum())}; lower contamination or multiplier"
        )
