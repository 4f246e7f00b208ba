"""`tamis.backdoor.representations`: rows of a layer, and a model that is left as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from tamis.backdoor import SpectralSignatures, representations

pytestmark = pytest.mark.usefixtures("one_torch_thread")


class Twice(torch.nn.Module):
    """A module that runs twice, one that never runs, one that gives a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = torch.nn.Linear(4, 4)
        self.idle = torch.nn.Linear(4, 4)
        self.memory = torch.nn.LSTM(4, 3, batch_first=True)

    def forward(self, x: Any) -> Any:
        return self.memory(self.shared(self.shared(x))[:, None])[0]


def network() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3)),
        torch.nn.ReLU(inplace=True),
        torch.nn.Dropout(0.5),
        torch.nn.Flatten(),
        torch.nn.Linear(48, 4),
    )


def examples(n: int = 23) -> Any:
    return np.random.default_rng(1).standard_normal((n, 2, 6, 6)).astype(np.float32)


def by_hand(model: Any, X: Any, stop: int) -> Any:
    """Outputs of the first modules, one example at a time, in eval mode."""
    model.eval()
    with torch.no_grad():
        rows = [model[:stop](torch.from_numpy(x[None]))[0] for x in X]
    return torch.stack(rows).numpy()


def state(model: Any) -> Any:
    return (
        [module.training for module in model.modules()],
        [len(module._forward_hooks) for module in model.modules()],
        [p.requires_grad for p in model.parameters()],
        [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        {name: value.clone() for name, value in model.state_dict().items()},
    )


def same_state(a: Any, b: Any) -> bool:
    grads = all(
        x is y or (x is not None and y is not None and torch.equal(x, y))
        for x, y in zip(a[3], b[3], strict=True)
    )
    return a[:3] == b[:3] and grads and all(torch.equal(a[4][k], b[4][k]) for k in a[4])


def in_odd_state() -> Any:
    """Train mode but for one module, frozen weights, gradients."""
    model = network().train()
    model[0][1].eval()
    model[4].bias.requires_grad_(False)
    model[0][0].weight.grad = torch.ones_like(model[0][0].weight)
    return model


@pytest.mark.parametrize("batch_size", [1, 7, 23, 100])
def test_rows_are_the_layers_outputs(batch_size: int) -> None:
    """Oracle: the modules by hand. Convolutions add 18 products in some order: 1e-5 is ample.

    The ReLU after layer 0 works in place, and layer 0 must not show it.
    """
    model, X = in_odd_state(), examples()
    before = state(model)
    found = representations(model, X, ["0", "0.1", "4"], batch_size=batch_size)
    assert same_state(before, state(model))
    expected = by_hand(network(), X, 1)
    assert expected.min() < 0
    np.testing.assert_allclose(found["0"], expected.reshape(23, -1), atol=1e-5)
    np.testing.assert_array_equal(found["0.1"], found["0"])
    np.testing.assert_allclose(found["4"], by_hand(network(), X, 5), atol=1e-5)
    mean = representations(model, X, "0", pool="mean", batch_size=batch_size)
    np.testing.assert_allclose(mean, expected.mean(axis=(2, 3)), atol=1e-5)
    corner = representations(model, X, "0", pool=lambda h: h[:, :, 0, 0])
    np.testing.assert_allclose(corner, expected[:, :, 0, 0], atol=1e-5)


def test_every_kind_of_input_gives_the_same_rows() -> None:
    model, X = network(), examples()
    y = torch.arange(23)
    expected = representations(model, X, "4", batch_size=10)
    tensors = torch.utils.data.TensorDataset(torch.from_numpy(X), y)
    loader = torch.utils.data.DataLoader(tensors, 10)
    frozen = X.copy()
    frozen.flags.writeable = False
    batches = [(torch.from_numpy(X[i : i + 10]), None) for i in range(0, 23, 10)]
    for source in (torch.from_numpy(X), frozen, tensors, loader, batches, iter(batches)):
        found = representations(model, source, "4", batch_size=10)
        np.testing.assert_array_equal(found, expected)
    moved = representations(model, X, "4", batch_size=10, device="cpu")
    np.testing.assert_array_equal(moved, expected)
    short = torch.utils.data.DataLoader(tensors, 10, drop_last=True)
    np.testing.assert_array_equal(representations(model, short, "4"), expected[:20])
    dark = (np.abs(X) * 20).astype(np.uint8)
    np.testing.assert_array_equal(
        representations(model, dark, "4"), representations(model, dark.astype("f4") / 255, "4")
    )


def test_half_precision_in_a_file(tmp_path: Path) -> None:
    """Oracle: the rows in memory. The detectors take the map as it is."""
    model, X = network(), examples()
    whole = representations(model, X, ["0", "4"])
    half = representations(model, X, "0", dtype="float16", out=tmp_path / "a.npy", batch_size=5)
    assert isinstance(half, np.memmap)
    assert half.dtype == np.float16
    np.testing.assert_array_equal(half, whole["0"].astype(np.float16))
    two = representations(model, X, ["0", "4"], out=tmp_path / "rows")
    np.testing.assert_array_equal(two["4"], whole["4"])
    assert sorted(p.name for p in (tmp_path / "rows").iterdir()) == ["0.npy", "4.npy"]
    found = SpectralSignatures(0.1).fit(half, np.arange(23) % 2)
    assert found.removed_.sum() == 2


def test_a_failed_call_leaves_nothing_behind(tmp_path: Path) -> None:
    """Errors in the model, and activations that are not finite: state and folder are as before."""
    model, X = in_odd_state(), examples()
    before = state(model)
    X[17, 0, 2, 3] = np.nan
    with pytest.raises(ValueError, match=r"got nan for example 17 in layer '0'"):
        representations(model, X, "0", batch_size=5, out=tmp_path / "a.npy")
    with pytest.raises(RuntimeError):
        representations(model, examples()[:, :1], "0", out=tmp_path / "a.npy")
    big = examples()
    big[3] *= 1e7
    with pytest.raises(ValueError, match=r"float16, got .*e\+0\d for example 3 .*take float32"):
        representations(model, big, "0", dtype="float16", out=tmp_path / "a.npy")
    assert list(tmp_path.iterdir()) == []
    assert same_state(before, state(model))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": "0.2"}, r"no module '0.2' in the model; did you mean 0"),
        ({"layer": "zzz"}, r"no module 'zzz' in the model; there are 0, 0.0"),
        ({"layer": []}, "layer: expected one name"),
        ({"layer": ["0", "0"]}, "several different ones"),
        ({"pool": "max"}, "pool: expected"),
        ({"dtype": "float64"}, "dtype: expected"),
        ({"batch_size": 0}, "batch_size"),
        ({"out": "a.npz"}, "ending in .npy"),
        ({"loader": examples(0)}, "at least one example"),
        ({"loader": []}, "at least one example, got none"),
        ({"loader": iter([]), "out": "a.npy"}, "known number"),
        ({"pool": lambda h: h[:2]}, "a row for each of 23"),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    arguments = {"model": network(), "loader": examples(), "layer": "0", **options}
    with pytest.raises(ValueError, match=message):
        representations(**arguments)


def test_modules_without_one_output() -> None:
    X = examples()[:, 0, 0, :4]
    model = Twice()
    with pytest.raises(ValueError, match=r"'shared' to run once .*, it ran 2 times"):
        representations(model, X, "shared")
    with pytest.raises(ValueError, match=r"'idle' to run once .*, it did not run"):
        representations(model, X, "idle")
    with pytest.raises(TypeError, match="'memory' to give a tensor, got tuple"):
        representations(model, X, "memory")
    with pytest.raises(ValueError, match=r"did you mean memory\?"):
        representations(model, X, "memroy")
    with pytest.raises(TypeError, match=r"model: expected a torch.nn.Module"):
        representations(lambda x: x, X, "0")
    with pytest.raises(TypeError, match="loader: expected"):
        representations(model, 5, "idle")


def test_a_shuffled_loader_is_refused() -> None:
    """Rows in another order than the labels would make every score wrong."""
    data = torch.utils.data.TensorDataset(torch.from_numpy(examples()))
    loader = torch.utils.data.DataLoader(data, 5, shuffle=True)
    with pytest.raises(ValueError, match="a loader that shuffles"):
        representations(network(), loader, "0")


def test_progress_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr("tamis._progress._LINE_EVERY", 0.0)
    representations(network(), examples(), "0", batch_size=10, progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("tamis representations: ")
    assert "of 23 examples" in lines[-1]
    with pytest.raises(ValueError, match="progress: expected"):
        representations(network(), iter([]), "0", progress=True)
