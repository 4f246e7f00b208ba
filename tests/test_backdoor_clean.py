"""`tamis.backdoor.clean` and `SGDTrainer`: train, score, remove, train again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from tamis import _rows
from tamis.backdoor import Cleaned, SGDTrainer, SpectralSignatures, Spectre, clean
from tamis.backdoor.extraction import as_tensor

TRIGGER = 7

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def poisoned(n: int = 600, bad: int = 45) -> Any:
    """Two classes told apart by column 0; the last rows have class 0, a trigger, and label 1."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 2
    X = rng.standard_normal((n, 8)).astype(np.float32)
    X[:, 0] += 5.0 * y
    X[-bad:, 0] = rng.standard_normal(bad)
    X[-bad:, TRIGGER] = 8.0
    y[-bad:] = 1
    return X, y, np.arange(n) >= n - bad


def network() -> Any:
    return torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))


def success(model: Any) -> float:
    """Share of stamped examples of class 0 that the model calls 1."""
    X = np.random.default_rng(1).standard_normal((400, 8)).astype(np.float32)
    X[:, TRIGGER] = 8.0
    with torch.no_grad():
        return float(model(torch.from_numpy(X)).argmax(dim=1).float().mean())


TRAIN = SGDTrainer(epochs=12, batch_size=64)


def test_the_backdoor_is_gone() -> None:
    """Oracle: which rows are poison, and what the two networks answer to the trigger."""
    X, y, bad = poisoned()
    stages = []
    random = torch.get_rng_state()
    found = clean(
        network, (X, y), ["0", "1"], detector=SpectralSignatures(0.15), classes="suspected",
        train=TRAIN, callback=lambda stage, _: stages.append(stage),
    )  # fmt: skip
    assert torch.equal(random, torch.get_rng_state())
    assert stages == ["trained", "scored", "removed", "retrained"]
    assert isinstance(found, Cleaned)
    assert found.suspected_classes == [1]
    assert not found.kept[bad].any()
    assert found.kept[y == 0].all()
    assert found.class_report[1].removed == (~found.kept).sum()
    assert found.class_report[0].removed == 0
    assert success(found.first_model) > 0.9
    assert success(found.model) < 0.2
    deciding = found.layer[1]
    np.testing.assert_array_equal(found.scores[y == 1], found.detectors[deciding].scores_[y == 1])
    assert found.detectors[deciding].class_report_[1].separation == max(
        d.class_report_[1].separation for d in found.detectors.values()
    )
    assert f"{(~found.kept).sum()} of 600 examples removed" in str(found)
    again = clean(
        network, (X, y), "1", detector=SpectralSignatures(0.15), classes=[1], train=TRAIN,
        first_model=found.first_model,
    )  # fmt: skip
    assert again.first_model is found.first_model
    assert list(again.class_report) == [1]
    assert not again.kept[bad].any()


def test_a_dataset_and_a_trainer_of_ones_own() -> None:
    """Oracle: the rows that the trainer is given."""
    X, y, _ = poisoned(80, 8)
    given = []

    class Pairs:
        def __len__(self) -> int:
            return 80

        def __getitem__(self, number: int) -> Any:
            return torch.from_numpy(X[number]), int(y[number])

    def train(model: Any, dataset: Any) -> None:
        assert model.training
        given.append([dataset[i][0].numpy() for i in range(len(dataset))])
        SGDTrainer(epochs=1)(model, dataset)

    found = clean(network, Pairs(), "0", detector=Spectre(0.1), train=train)
    assert found.kept.sum() < 80
    assert not found.model.training
    np.testing.assert_array_equal(given[0], X)
    np.testing.assert_array_equal(given[1], X[found.kept])
    same = clean(network, (X, y), "0", detector=Spectre(0.1), train=SGDTrainer(epochs=1))
    np.testing.assert_allclose(same.scores, found.scores, rtol=1e-3, atol=1e-6)


def test_nothing_to_remove_trains_once() -> None:
    X, y, _ = poisoned(80, 8)
    found = clean(
        network, (X, y), "0", detector=SpectralSignatures(0.0), train=SGDTrainer(epochs=1)
    )
    assert found.model is found.first_model
    assert found.kept.all()


class RemovesAll:
    """A detector that takes all of class 1."""

    def fit(self, rows: Any, labels: Any) -> None:
        inner = SpectralSignatures(0.1).fit(rows, labels)
        self.scores_, self.class_report_ = inner.scores_, inner.class_report_
        self.removed_ = labels == 1


def test_bad_input() -> None:
    X, y, _ = poisoned(80, 8)
    calls = []

    def go(data: Any = (X, y), layer: Any = "0", **options: Any) -> Any:
        def train(model: Any, dataset: Any) -> None:
            calls.append(len(dataset))

        return clean(network, data, layer, train=train, **options)

    with pytest.raises(ValueError, match=r"class 1 has no example left .* all \d+; lower"):
        go(detector=RemovesAll())
    assert calls == [80]
    with pytest.raises(ValueError, match="multiplier: class 0 would lose all"):
        go(detector=SpectralSignatures(0.4, 2.5))
    with pytest.raises(ValueError, match="labels: expected 80, one an example, got 79"):
        go((X, y[:-1]))
    with pytest.raises(ValueError, match="labels: expected integers"):
        go((X, y + 0.5))
    with pytest.raises(ValueError, match="labels: expected None"):
        go(labels=y)
    with pytest.raises(ValueError, match=r"dataset: expected \(X, y\)"):
        go((X, y, y))
    for single in (5, X):
        with pytest.raises(TypeError, match=r"dataset: expected \(X, y\)"):
            go(single)
    alone = y.copy()
    alone[3] = 5
    with pytest.raises(ValueError, match=r"at least 2 rows in a class, got 1 in class 5"):
        go((X, alone))
    with pytest.raises(ValueError, match=r"no module '00' in the model; did you mean 0\?"):
        go(layer="00")
    with pytest.raises(ValueError, match="classes: expected 'all', 'suspected' or labels"):
        go(classes="some")
    with pytest.raises(TypeError, match="classes: expected 'all', 'suspected' or labels, got 1"):
        go(classes=1)
    with pytest.raises(ValueError, match="at least 2 rows in a class, got 0 in class 7"):
        go(classes=[0, 7])
    for wrong in (SpectralSignatures, "spectre"):
        with pytest.raises(TypeError, match="detector: expected one such as"):
            go(detector=wrong)
    with pytest.raises(ValueError, match="contamination"):
        go(detector=SpectralSignatures(0.7))
    with pytest.raises(TypeError, match="layer: expected the name"):
        go(layer=3)
    assert calls == [80, 80], "none of these is told after an hour of training"
    bad = X.copy()
    bad[7, 2] = np.nan
    with pytest.raises(ValueError, match="got nan for example 7 in layer '0'"):
        go((bad, y))
    with pytest.raises(TypeError, match="model_factory: expected"):
        clean(lambda: 3, (X, y), "0")


def test_trainer() -> None:
    """Oracle: the calls back; a loss that is not finite is refused; batches cover all examples."""
    X, y, _ = poisoned(50, 5)
    data = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
    losses, seen = [], []
    trainer = SGDTrainer(
        epochs=3, batch_size=16, on_epoch=lambda epoch, loss: losses.append((epoch, loss)),
        augment=lambda x: seen.append(len(x)) or x,
    )  # fmt: skip
    torch.manual_seed(0)
    trainer(network(), data)
    assert [epoch for epoch, _ in losses] == [1, 2, 3]
    assert losses[2][1] < losses[0][1]
    assert seen == [16, 16, 18] * 3
    with pytest.raises(ValueError, match="loss: expected a finite value, got nan in epoch 1"):
        SGDTrainer()(network(), torch.utils.data.TensorDataset(data.tensors[0] * np.nan, y_of(y)))
    with pytest.raises(ValueError, match="at least one example"):
        SGDTrainer()(network(), torch.utils.data.Subset(data, []))
    for wrong in ({"epochs": 0}, {"batch_size": 0}, {"lr": 0.0}, {"lr": np.inf}, {"seed": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            SGDTrainer(**wrong)


@pytest.mark.parametrize(
    ("count", "size", "expected"),
    [
        (36, 16, [16, 16, 4]),
        (35, 16, [16, 19]),
        (7, 16, [7]),
        (9, 4, [4, 5]),
        (3, 2, [3]),
        (3, 1, [1, 1, 1]),
        (32, 16, [16, 16]),
    ],
)
def test_less_than_a_quarter_joins_the_batch_before(
    count: int, size: int, expected: list[int]
) -> None:
    rows = np.arange(count)
    parts = [rows[part] for part in _rows.batches(count, size)]
    assert [len(part) for part in parts] == expected
    np.testing.assert_array_equal(np.concatenate(parts), rows)


@pytest.mark.parametrize("kind", ["tensors", "dataset"])
def test_a_single_example_left_over_joins_the_batch_before(kind: str) -> None:
    """BatchNorm1d refuses a batch of one, and how many are left after the removal is chance."""
    X, y, _ = poisoned(33, 3)
    data: Any = torch.utils.data.TensorDataset(torch.from_numpy(X).double(), torch.from_numpy(y))
    if kind == "dataset":
        data = torch.utils.data.Subset(data, range(33))
    seen: list[int] = []
    trainer = SGDTrainer(epochs=1, batch_size=16, augment=lambda x: seen.append(len(x)) or x)
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(X.shape[1]), network())
    trainer(model, data)  # of float64 examples: the weights are float32
    assert seen == [16, 17]
    with pytest.raises(ValueError, match="model: expected weights with requires_grad"):
        trainer(model.requires_grad_(False), data)


def y_of(y: Any) -> Any:
    return torch.from_numpy(y)


def test_arrays_of_other_byte_order_and_words() -> None:
    swapped = np.arange(4, dtype=">f4")[::-1]
    np.testing.assert_array_equal(as_tensor(swapped).numpy(), [3, 2, 1, 0])
    rows = np.zeros((4, 2), np.float32)
    for words in (np.array(["ham", "spam"] * 2), ["ham", "spam"] * 2):
        with pytest.raises(TypeError, match="y: expected numbers, got an array of <U4"):
            clean(torch.nn.Linear(2, 2), (rows, words), "")
    assert as_tensor([[0.5], [1.5]]).dtype == torch.float32
    assert as_tensor([torch.zeros(3), torch.ones(3)]).shape == (2, 3)
    pairs = torch.utils.data.TensorDataset(torch.zeros(4, 2), torch.zeros(4).long())
    dataset = torch.utils.data.Subset(pairs, range(4))
    with pytest.raises(TypeError, match="labels: expected numbers, got an array of object"):
        clean(
            torch.nn.Linear(2, 2), dataset, "", labels=np.array(["ham", "spam"] * 2, dtype=object)
        )
