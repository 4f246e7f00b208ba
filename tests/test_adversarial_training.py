"""Training: losses, exact resume, interrupts, NaN, finetuning, export."""

from __future__ import annotations

import csv
import math
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from tamis import adversarial
from tamis.adversarial.noise import BatchNoise

pytestmark = pytest.mark.usefixtures("one_torch_thread")
SHAPE = (1, 4, 4)
OPTIONS: dict[str, Any] = {
    "sigma": 0.25, "epsilon": 0.5, "steps": 2, "num_noise": 2, "warmup": 3,
    "batch_size": 16, "seed": 5,
}  # fmt: skip


def network(seed: int = 0) -> nn.Module:
    return adversarial.build("mlp", SHAPE, 3, seed=seed)


def data(count: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.rand((count, *SHAPE), generator=torch.Generator().manual_seed(1))
    return x, x.flatten(1).argmax(1) % 3


def same(a: nn.Module, b: nn.Module) -> bool:
    mine, theirs = a.state_dict(), b.state_dict()
    return all(torch.equal(mine[name], theirs[name]) for name in mine)


def copies(x: torch.Tensor, m: int) -> torch.Tensor:
    return (x + BatchNoise(x, 0.25, seed=5, step=7).copies(0, m)).flatten(0, 1)


def test_losses_by_their_formulas() -> None:
    """Oracle: each loss written out with torch's own functions on the same noise."""
    model, (x, y) = network(), data(6)
    place = {"sigma": 0.25, "seed": 5, "step": 7}
    logits = model(copies(x, 4)).reshape(4, 6, 3)
    plain = functional.cross_entropy(logits.flatten(0, 1), y.repeat(4))
    got = adversarial.gaussian_loss(model, x, y, num_noise=4, **place)
    torch.testing.assert_close(got, plain)
    zero = adversarial.smoothadv_loss(model, x, y, epsilon=0.0, num_noise=4, **place)
    torch.testing.assert_close(zero, plain)
    mean = logits.softmax(2).mean(0)
    kl = functional.kl_div(logits.log_softmax(2), mean.expand(4, -1, -1), reduction="sum") / 24
    entropy = torch.distributions.Categorical(mean).entropy().mean()
    got = adversarial.consistency_loss(model, x, y, num_noise=4, **place)
    torch.testing.assert_close(got, plain + 10 * kl + 0.5 * entropy)
    clean, noisy = model(x), model(copies(x, 1))
    got = adversarial.stability_loss(model, x, y, **place)
    torch.testing.assert_close(
        got,
        functional.cross_entropy(clean, y) + 2 * functional.cross_entropy(noisy, clean.softmax(1)),
    )
    soft = (16 * logits).softmax(2).mean(0)
    normal = torch.distributions.Normal(0.0, 1.0)
    hinge = 0.0
    for row, label in zip(soft, y, strict=True):
        first, second = row.detach().sort(descending=True).values[:2]
        if int(row.argmax()) == int(label):
            hinge += float((8 - (normal.icdf(first) - normal.icdf(second))).clamp_min(0))
    expected = functional.nll_loss(mean.log(), y) + 12 * 0.125 * hinge / 6
    torch.testing.assert_close(adversarial.macer_loss(model, x, y, num_noise=4, **place), expected)


@pytest.mark.parametrize("attack", ["pgd", "ddn"])
def test_smoothadv_loss_is_the_loss_of_the_attack(attack: str) -> None:
    """Oracle: the attack called by itself, then the loss on its images with the same noise."""
    model, (x, y) = network(), data(6)
    options: dict[str, Any] = {"epsilon": 0.5, "steps": 3, "num_noise": 4, "sigma": 0.25}
    options |= {"seed": 5, "step": 7}
    if attack == "pgd":
        found = adversarial.smooth_adv_pgd(model, x, y, **options)
    else:
        found = adversarial.smooth_adv_ddn(model, x, y, init_norm=0.5, **options).adversarial
    expected = functional.cross_entropy(model(copies(found, 4)), y.repeat(4))
    got = adversarial.smoothadv_loss(model, x, y, attack=attack, **options)
    torch.testing.assert_close(got, expected)
    got.backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())


@pytest.mark.parametrize(
    "method", ["gaussian", "adversarial", "smoothadv", "stability", "macer", "consistency"]
)
def test_every_method_learns(method: str) -> None:
    """Oracle: the loss of its own first epoch; epsilon is small enough for the task."""
    options = {**OPTIONS, "epsilon": 0.05, "sigma": 0.1}
    run = adversarial.train(network(), data(), method, epochs=25, lr=0.05, **options)
    assert run.history[-1]["loss"] < 0.95 * run.history[0]["loss"]
    assert [row["epsilon"] for row in run.history[:4]] == pytest.approx(
        [0.05 / 3, 0.1 / 3, 0.05, 0.05]
    )


def loader() -> Any:
    dataset = torch.utils.data.TensorDataset(*data())
    return torch.utils.data.DataLoader(dataset, batch_size=8, shuffle=True)


@pytest.mark.parametrize("source", ["arrays", "loader"])
@pytest.mark.parametrize("stop", [1, 4, 5, 8])
def test_interrupted_runs_end_with_the_same_bits(tmp_path: Path, source: str, stop: int) -> None:
    """Oracle: the run without interruption. SIGINT comes in the middle of batch `stop`."""
    wanted = network()
    torch.manual_seed(3)
    given = data() if source == "arrays" else loader()
    options = {**OPTIONS, "epochs": 3, "accumulate": 2, "out": tmp_path / "whole"}
    adversarial.train(wanted, given, **options)

    model, seen = network(), 0

    def interrupt(module: nn.Module, _: Any) -> None:
        nonlocal seen
        if module.training:
            seen += 1
            if seen == stop:
                os.kill(os.getpid(), signal.SIGINT)

    handle = model.register_forward_pre_hook(interrupt)
    torch.manual_seed(3)
    given = data() if source == "arrays" else loader()
    options["out"] = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt, match="goes on from there"):
        adversarial.train(model, given, **options)
    handle.remove()
    torch.manual_seed(99)  # whatever happened to torch's generator in between
    fresh = network(seed=1)
    run = adversarial.train(fresh, given, **options)
    assert same(fresh, wanted)
    assert run.epoch == 3
    assert log_rows(tmp_path / "parts") == log_rows(tmp_path / "whole")


def log_rows(folder: Path) -> list[dict[str, str]]:
    """The log without its times."""
    with (folder / "log.csv").open(encoding="utf-8", newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def test_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    adversarial.train(network(), data(), epochs=1, out=tmp_path, **OPTIONS)
    with pytest.raises(ValueError, match=r"recipe, got sigma 0.25 \(now 0.5\)"):
        adversarial.train(network(), data(), epochs=2, out=tmp_path, **{**OPTIONS, "sigma": 0.5})


def test_broken_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match=r"checkpoint.pt: expected a checkpoint"):
        adversarial.train(network(), data(), epochs=1, out=tmp_path, **OPTIONS)


def test_checkpoints_of_others_are_refused(tmp_path: Path) -> None:
    """A file of tensors that is none of ours, and the weights of another network."""
    torch.save({"weights": torch.zeros(3)}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"checkpoint of tamis, got a file without 'recipe'"):
        adversarial.train(network(), data(), epochs=1, out=tmp_path, **OPTIONS)
    (tmp_path / "checkpoint.pt").unlink()
    adversarial.train(network(), data(), epochs=1, out=tmp_path, **OPTIONS)
    other = adversarial.build("mlp", SHAPE, 4)
    with pytest.raises(ValueError, match=r"checkpoint.pt: expected the weights of this network"):
        adversarial.train(other, data(), epochs=2, out=tmp_path, **OPTIONS)


class Harmful:
    """What a pickle may hold: a call, here one that would leave a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    torch.save({"recipe": Harmful(tmp_path / "ran")}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match="expected a checkpoint of tamis"):
        adversarial.train(network(), data(), epochs=1, out=tmp_path, **OPTIONS)
    assert not (tmp_path / "ran").exists()


def test_nan_loss_stops_with_the_batch_saved(tmp_path: Path) -> None:
    """The weights are those before the batch, and the file holds the batch."""
    model = network()
    x, y = data()

    class Breaks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model
            self.calls = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return self.inner(x) * (math.nan if self.calls == 2 else 1.0)

    adversarial_free = {**OPTIONS, "method": "gaussian", "epochs": 1, "out": tmp_path}
    with pytest.raises(adversarial.NonFiniteLossError, match="got nan in epoch 0, batch 1") as info:
        adversarial.train(Breaks(), (x, y), **adversarial_free)
    saved = torch.load(tmp_path / "nan_batch.pt", weights_only=True)
    assert saved["step"] == 1
    assert torch.equal(saved["x"], info.value.batch["x"])
    rows = {tuple(row.flatten().tolist()) for row in x}
    assert {tuple(row.flatten().tolist()) for row in saved["x"]} <= rows
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_accumulation_is_the_mean_gradient() -> None:
    """Oracle: one optimiser step on the mean of the two batches' losses, by hand."""
    x, y = data(32)
    batches = [(x[:16], y[:16]), (x[16:], y[16:])]
    model, by_hand = network(), network()
    options = {**OPTIONS, "lr": 0.1, "momentum": 0.0, "weight_decay": 0.0, "accumulate": 2}
    adversarial.train(model, batches, "gaussian", epochs=1, **options)
    place = {"sigma": 0.25, "num_noise": 2, "seed": 5}
    losses = [
        adversarial.gaussian_loss(by_hand, a, b, step=k, **place)
        for k, (a, b) in enumerate(batches)
    ]
    (sum(losses) / 2).backward()
    with torch.no_grad():
        for p, q in zip(model.parameters(), by_hand.parameters(), strict=True):
            torch.testing.assert_close(p, q - 0.1 * q.grad)


def test_mixed_precision_stays_close() -> None:
    full = adversarial.train(network(), data(), epochs=3, lr=0.01, **OPTIONS)
    mixed = adversarial.train(network(), data(), epochs=3, lr=0.01, amp="bfloat16", **OPTIONS)
    assert mixed.history[-1]["loss"] == pytest.approx(full.history[-1]["loss"], rel=0.02)
    with pytest.raises(ValueError, match=r"^amp: expected 'bfloat16' or None on cpu"):
        adversarial.train(network(), data(), epochs=1, amp="float16", **OPTIONS)


@pytest.mark.parametrize("method", ["gaussian", "smoothadv", "consistency"])
def test_no_noise_is_used_twice(method: str) -> None:
    """Oracle: the images are grey, so that what the network sees in training mode, less its
    unattacked image, is noise: every copy of every batch of every epoch has its own."""
    seen: list[torch.Tensor] = []

    class Records(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.training:
                seen.append(x.detach().clone())
            return self.inner(x)

    grey = torch.full((40, *SHAPE), 0.5), data()[1]
    adversarial.train(Records(), grey, method, epochs=3, **{**OPTIONS, "epsilon": 0.0})
    noise = torch.cat(seen).flatten(1) - 0.5
    assert len(noise) == 3 * 40 * 2
    assert len({tuple(row) for row in noise.tolist()}) == len(noise)
    # shared between pixels or images neither: neighbours are uncorrelated (240 x 15 pairs)
    flat = noise.flatten() / 0.25
    assert abs(float((flat[1:] * flat[:-1]).mean())) < 5 / len(flat) ** 0.5


def test_callbacks_and_progress() -> None:
    seen: list[int] = []
    lines: list[str] = []
    adversarial.train(
        network(),
        data(),
        epochs=2,
        callbacks=[lambda run: seen.append(run.step)],
        progress=lines.append,
        **OPTIONS,
    )
    assert seen == [3, 6]
    assert [line.split(",")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]


@pytest.mark.parametrize("scope", ["last", "all"])
def test_finetune_moves_what_it_says(scope: str) -> None:
    """Oracle: the weights before; batch statistics of frozen layers too."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Linear(8, 5))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    adversarial.finetune(model, data(), scope=scope, num_classes=3, epochs=2, lr=0.05, **OPTIONS)
    after = model.state_dict()
    assert after["3.weight"].shape == (3, 8)
    moved = {n for n in before if n[0] != "3" and not torch.equal(before[n], after[n])}
    assert bool(moved) == (scope == "all")
    assert all(p.requires_grad for p in model.parameters())


def test_export_answers_like_the_network(tmp_path: Path) -> None:
    """Oracle: the network; at a batch size other than the exported one."""
    ort = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    model = adversarial.build("small_cnn", (1, 8, 8), 4)
    path = adversarial.export_onnx(model, tmp_path / "model.onnx", (1, 8, 8))
    x = np.random.default_rng(0).random((5, 1, 8, 8), np.float32)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"image": x})
    with torch.no_grad():
        np.testing.assert_allclose(got, model(torch.from_numpy(x)).numpy(), atol=1e-5)


def test_build() -> None:
    assert same(network(4), network(4))
    assert isinstance(adversarial.build("tamis.adversarial:mlp", SHAPE, 3), nn.Module)
    for name in ("resnet", "tamis.adversarial:nothing", "no_such_module:f"):
        with pytest.raises(ValueError, match=r"^name: expected"):
            adversarial.build(name, SHAPE, 3)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"method": "magic"}, ValueError, "^method: expected 'gaussian' or"),
        ({"sigma": -1.0}, ValueError, "^sigma: expected"),
        ({"num_noise": 0}, ValueError, "^num_noise: expected"),
        ({"attack": "fgsm"}, ValueError, "^attack: expected"),
        ({"lr": 0.0}, ValueError, "^lr: expected"),
        ({"amp": "float8"}, ValueError, "^amp: expected"),
        ({"data": (data()[0], data()[1] + 5)}, ValueError, "^y: expected labels from 0 to 2"),
        ({"data": (data()[0], data()[1][:3])}, ValueError, "^data: expected as many labels"),
        ({"data": iter([data()])}, TypeError, "^data: expected"),
        ({"data": (data()[0], data()[1].float())}, ValueError, "^data: expected integer labels"),
        ({"data": [data()[:1]]}, TypeError, r"^data: expected batches \(x, y\).*tuple of Tensor"),
        ({"data": [(data()[0].numpy(), 3)]}, TypeError, "^data: .*got a tuple of ndarray, int"),
        ({"data": (data()[0] * 255, data()[1])}, ValueError, r"^x: expected values in \[0, 1\]"),
        ({"progress": "yes"}, TypeError, "^progress: expected True, False or a callable"),
        ({"data": []}, ValueError, "^data: expected at least one batch"),
    ],
)
def test_bad_arguments(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"data": data(), "epochs": 1, **OPTIONS, **change}
    with pytest.raises(error, match=message):
        adversarial.train(network(), **arguments)


def test_one_image_left_over_joins_the_batch_before() -> None:
    """Batch normalisation over one row of features is an error of torch's."""
    x, y = torch.rand(9, 6), torch.arange(9) % 3
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3))
    run = adversarial.train(
        model, (x, y), "gaussian", sigma=0.1, num_noise=1, epochs=2, batch_size=4
    )
    assert run.step == 2 * 2
