"""`SeverTrainer`. Oracles: autograd one example at a time; accuracy with and without flips."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

torch = pytest.importorskip("torch")

from tamis.sever import SeverTrainer  # noqa: E402
from tamis.sever.attacks import flip_labels  # noqa: E402
from tamis.smoothing import load_images  # noqa: E402

cross_entropy = torch.nn.functional.cross_entropy


def network(inputs: int = 64, hidden: int = 32, outputs: int = 10) -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(inputs, hidden),
        torch.nn.BatchNorm1d(hidden),
        torch.nn.ReLU(),
        torch.nn.Linear(hidden, outputs),
    )


@pytest.mark.parametrize("names", [None, ["3.weight", "3.bias"]])
def test_gradients_are_those_of_single_examples(names: Any) -> None:
    model = network(5, 4, 3)
    X, y = torch.randn(7, 5, generator=torch.Generator().manual_seed(1)), torch.arange(7) % 3
    trainer = SeverTrainer(model, cross_entropy, parameters=names)
    found = trainer._gradients(X, y, torch.arange(7), 0)
    model.eval()
    for i in range(7):
        model.zero_grad()
        cross_entropy(model(X[i : i + 1]), y[i : i + 1]).backward()
        named = dict(model.named_parameters())
        whole = torch.cat([named[name].grad.reshape(-1) for name in trainer.parameters])
        np.testing.assert_allclose(found[i], whole.numpy(), rtol=1e-4, atol=1e-6)


def test_projections_keep_lengths() -> None:
    """400 directions: relative deviation of a squared length sqrt(2 / 400) = .07; five of them."""
    model = network()
    X, y = torch.randn(20, 64, generator=torch.Generator().manual_seed(1)), torch.arange(20) % 10
    whole = SeverTrainer(model, cross_entropy)._gradients(X, y, torch.arange(20), 0)
    small = SeverTrainer(model, cross_entropy, projection=400)._gradients(X, y, torch.arange(20), 0)
    assert small.shape == (20, 400)
    ratio = np.square(small).sum(axis=1) / np.square(whole).sum(axis=1)
    assert np.abs(ratio - 1).max() < 0.36


def digits(request: Any, source: str) -> tuple[Any, Any, int, int]:
    """Rows in [0, 1], labels, how many to train with, and for how many epochs."""
    if source == "digits":
        bunch = load_digits()
        return bunch.data / 16, bunch.target, 1200, 30
    folder = request.getfixturevalue("data_dir") / "vision" / "mnist"
    data = load_images(next(folder.glob("*images*")))
    return data.images[:4000].reshape(4000, -1) / 255, data.labels[:4000], 2000, 16


@pytest.mark.usefixtures("one_torch_thread")
@pytest.mark.parametrize("source", ["digits", "mnist"])
def test_flipped_labels_cost_less(request: Any, source: str) -> None:
    """A fifth of the labels is flipped, and the training long enough to learn many by heart.

    On MNIST, with one thread and with two (which round differently): 5 and 8 points gained, flips
    among those dropped 3.1 and 3.4 times as often as among all. The digits leave 597 to test with,
    of which two points more were won on some machines and a little less on others.
    """
    rows, clean, count, epochs = digits(request, source)
    X = torch.from_numpy(rows.astype(np.float32))
    labels, flipped = flip_labels(clean[:count].astype(np.int64), 0.2)
    y = torch.from_numpy(labels)

    def accuracy(trainer: Any) -> float:
        trainer.fit(X[:count], y)
        trainer.model.eval()
        with torch.no_grad():
            answer = trainer.model(X[count:]).argmax(dim=1).numpy()
        return float((answer == clean[count:]).mean())

    options: dict[str, Any] = {"epochs": epochs, "lr": 5e-3, "batch_size": 64}
    plain, robust = (
        SeverTrainer(
            network(X.shape[1]), cross_entropy, contamination=share, per_class=True, **options
        )
        for share in (0.0, 0.2)
    )
    assert accuracy(robust) > accuracy(plain) + (0.02 if source == "mnist" else 0.0)
    assert (~robust.support_[flipped]).mean() > 2.5 * (~robust.support_).mean()
    assert len(robust.losses_) == epochs * (len(robust.history_) + 1)


def test_bad_input_and_an_interrupt_leave_the_first_weights() -> None:
    model = network(5, 4, 3)
    X, y = torch.randn(40, 5), torch.arange(40) % 3
    with pytest.raises(ValueError, match="names of trained parameters"):
        SeverTrainer(model, cross_entropy, parameters=["4.weight"])
    with pytest.raises(ValueError, match="expected 40 targets"):
        SeverTrainer(model, cross_entropy).fit(X, y[:3])
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def stop(entry: Any) -> None:
        raise KeyboardInterrupt

    model.eval()
    with pytest.raises(KeyboardInterrupt):
        SeverTrainer(model, cross_entropy, epochs=1, callback=stop).fit(X, y)
    spoiled = X.clone()
    spoiled[3, 2] = float("nan")
    with pytest.raises(ValueError, match="finite"):
        SeverTrainer(model, cross_entropy, epochs=1).fit(spoiled, y)
    assert not model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
