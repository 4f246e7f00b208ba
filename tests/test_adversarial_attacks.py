"""Attacks: gradients, ball and box, closed forms, certificates; each test names its oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tamis import adversarial
from tamis.adversarial.noise import BatchNoise
from tamis.adversarial.objective import evaluate
from tamis.smoothing import Smooth
from tamis.smoothing.identity import Stream

pytestmark = pytest.mark.usefixtures("one_torch_thread")
SMOOTH: dict[str, Any] = {"epsilon": 0.5, "steps": 5, "sigma": 0.25, "num_noise": 4, "seed": 3}


def network(seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Module:
    return adversarial.build("mlp", (1, 4, 4), 3, seed=seed).to(dtype)


def batch(count: int = 6, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.rand((count, 1, 4, 4), generator=torch.Generator().manual_seed(1), dtype=dtype)
    return x, torch.arange(count) % 3


def linear(dimension: int = 16, seed: int = 0) -> tuple[nn.Sequential, torch.Tensor]:
    """Two classes, logits +-(w.x - w.c)/2 with c the middle of the cube; and w."""
    w = torch.randn(dimension, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    layer = nn.Linear(dimension, 2).double()
    with torch.no_grad():
        layer.weight.copy_(torch.stack([-w, w]) / 2)
        layer.bias.copy_(torch.stack([w, -w]).sum(1) / 4)
    return nn.Sequential(nn.Flatten(), layer), w


@pytest.mark.parametrize("chunk", [None, 1, 3, 7, 100])
def test_gradient_of_log_mean_softmax(chunk: int | None) -> None:
    """Oracle: central differences of -log mean_j p_j in float64; 3 does not divide m = 7."""
    model, (x, y) = network(dtype=torch.float64), batch(3, torch.float64)
    noise = BatchNoise(x, 0.5, seed=1)
    found = evaluate(model, x, y, noise, 7, chunk=chunk)
    copies = noise.copies(0, 7)

    def loss(at: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            p = model((at + copies).flatten(0, 1)).softmax(1).reshape(7, 3, 3)
        return -p[:, torch.arange(3), y].mean(0).log()

    torch.testing.assert_close(found.loss, loss(x))
    assert found.direction is not None
    for element in range(16):
        move = torch.zeros(1, 16, dtype=torch.float64)
        move[0, element] = 1e-5
        slope = (loss(x + move.reshape(1, 1, 4, 4)) - loss(x - move.reshape(1, 1, 4, 4))) / 2e-5
        torch.testing.assert_close(
            found.direction.flatten(1)[:, element], slope, rtol=1e-6, atol=1e-8
        )


def test_the_objective_is_not_the_mean_of_losses() -> None:
    """Oracle: Jensen's inequality, strict where the copies differ."""
    model, (x, y) = network(), batch()
    noise = BatchNoise(x, 1.0, seed=1)
    smoothed = evaluate(model, x, y, noise, 8).loss
    base = evaluate(model, x, y, noise, 8, objective="base").loss
    assert bool((smoothed < base).all())


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("epsilon", [0.01, 0.5, 3.0])
@pytest.mark.parametrize("attack", ["pgd", "smooth", "stein", "eot"])
def test_ball_and_box(attack: str, epsilon: float, norm: str) -> None:
    """Oracle: the constraints themselves, to 1e-6; images at the corners of the cube too."""
    model, (x, y) = network(), batch()
    x = torch.cat([x, x.round()])
    y = torch.cat([y, y])
    options: dict[str, Any] = {"epsilon": epsilon, "norm": norm, "seed": 3}
    if attack == "pgd":
        found = adversarial.pgd(model, x, y, random_start=True, **options)
    elif attack == "eot":
        found = adversarial.eot_pgd(
            model, x, y, sigma=0.25, steps=3, num_noise=2, restarts=3, **options
        )
    else:
        way = {"smooth": "gradient", "stein": "stein"}[attack]
        found = adversarial.smooth_adv_pgd(
            model, x, y, direction=way, **{**SMOOTH, **options, "step_size": 1.0}
        )
    delta = (found - x).flatten(1)
    size = delta.norm(dim=1) if norm == "l2" else delta.abs().amax(1)
    assert float(size.max()) <= epsilon + 1e-6
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    assert float(size.min()) > 0


@pytest.mark.parametrize("targeted", [False, True])
def test_linear_optimum(targeted: bool) -> None:
    """Oracle: on a linear model the best point of the ball is x -+ epsilon w / |w|."""
    model, w = linear()
    x = torch.full((2, 16), 0.5, dtype=torch.float64)
    y = torch.tensor([0, 1])
    unit = w / w.norm()
    up = torch.stack([unit, -unit])  # away from class 0, away from class 1
    best = x + (-1 if targeted else 1) * 0.4 * up
    found = adversarial.pgd(model, x, y, epsilon=0.4, steps=4, targeted=targeted)
    torch.testing.assert_close(found, best, atol=1e-9, rtol=0)
    # every noisy copy of a linear model has the same direction: smoothing changes nothing
    smooth = adversarial.smooth_adv_pgd(
        model, x, y, targeted=targeted, **{**SMOOTH, "epsilon": 0.4}
    )
    torch.testing.assert_close(smooth, best, atol=1e-9, rtol=0)
    low = adversarial.pgd(model, x, y, epsilon=0.1, norm="linf", targeted=targeted)
    torch.testing.assert_close(low, x + (-0.1 if targeted else 0.1) * up.sign(), atol=1e-9, rtol=0)


@pytest.mark.parametrize("smooth", [False, True])
def test_ddn_finds_the_distance_to_a_linear_boundary(smooth: bool) -> None:
    """Oracle: |w.(x - c)| / |w|; within 2%. The votes of a smoothed linear model turn where the
    median noise does: at the boundary moved by the median of w.n / |w|."""
    model, w = linear()
    unit = w / w.norm()
    x = 0.5 + torch.outer(torch.tensor([-0.4, -0.2, 0.3], dtype=torch.float64), unit)
    y = torch.tensor([0, 0, 1])
    if smooth:
        found = adversarial.smooth_adv_ddn(
            model, x, y, sigma=0.1, num_noise=9, seed=1, steps=200, gamma=0.02
        )
        copies = BatchNoise(x, 0.1, seed=1).copies(0, 9)
        middle = (copies @ unit).median(0).values
        expected = torch.tensor([0.4, 0.2, 0.3]).double() - middle * torch.tensor([1, 1, -1])
    else:
        found = adversarial.ddn(model, x, y, steps=200, gamma=0.02)
        expected = torch.tensor([0.4, 0.2, 0.3]).double()
    assert bool(found.success.all())
    torch.testing.assert_close(found.norm, expected, rtol=0.02, atol=0)
    torch.testing.assert_close((found.adversarial - x).norm(dim=1), found.norm, rtol=0, atol=1e-9)


def test_ddn_with_a_shrinking_gamma_is_nearer() -> None:
    """Oracle: the boundary's distance. Its defaults end within .1% of it; a constant gamma of .05,
    whose radius moves by 5% a step, does not for all of these distances."""
    model, w = linear()
    distance = torch.linspace(0.2, 0.45, 9, dtype=torch.float64)
    x = 0.5 - torch.outer(distance, w / w.norm())
    y = torch.zeros(9, dtype=torch.int64)
    found = adversarial.ddn(model, x, y).norm / distance - 1
    constant = adversarial.ddn(model, x, y, gamma=0.05, final_gamma=None).norm / distance - 1
    assert 0 <= float(found.min()) <= float(found.max()) < 1e-3
    assert float(constant.min()) >= 0
    assert float(constant.max()) > 1e-3


def test_ddn_says_where_it_failed() -> None:
    """An image beyond epsilon comes back moved and marked; one that is wrong already has norm 0."""
    model, w = linear()
    x = 0.5 + torch.outer(torch.tensor([-0.4, 0.3], dtype=torch.float64), w / w.norm())
    found = adversarial.ddn(model, x, torch.tensor([0, 0]), epsilon=0.2, steps=20)
    assert found.success.tolist() == [False, True]
    assert 0.1 < float(found.norm[0]) <= 0.2 + 1e-6
    assert float(found.norm[1]) == 0
    clean = adversarial.ddn(model, x, torch.tensor([0, 0]), epsilon=0.0)
    assert clean.success.tolist() == [False, True]
    torch.testing.assert_close(clean.adversarial, x)


def test_stein_direction_converges() -> None:
    """Oracle: the exact gradient of E p at many noise vectors; the angle shrinks as m grows."""
    model, (x, y) = network(dtype=torch.float64), batch(3, torch.float64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)  # a function that is not flat
    exact = evaluate(model, x, y, BatchNoise(x, 0.5, seed=9), 20_000, chunk=5000).direction
    assert exact is not None
    cosines = []
    for m in (100, 2000, 40_000):
        noise = BatchNoise(x, 0.5, seed=2)
        stein = evaluate(model, x, y, noise, m, chunk=5000, direction="stein").direction
        assert stein is not None
        cosines.append(float(torch.cosine_similarity(stein.flatten(1), exact.flatten(1)).min()))
    assert cosines == sorted(cosines)
    assert cosines[-1] > 0.98


def test_zero_gradients_move_all_the_same() -> None:
    """A constant model: no direction is better, but the attack must leave x, on the ball."""

    class Constant(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([x.sum((1, 2, 3)) * 0, torch.ones(len(x))], dim=1)

    x = torch.full((2, 1, 4, 4), 0.5)
    found = adversarial.pgd(Constant(), x, torch.tensor([1, 1]), epsilon=0.3, steps=4)
    assert bool(found.isfinite().all())
    assert float((found - x).flatten(1).norm(dim=1).min()) > 0.05
    again = adversarial.pgd(Constant(), x, torch.tensor([1, 1]), epsilon=0.3, steps=4)
    assert torch.equal(found, again)


def test_same_seed_same_bits_and_streams_apart() -> None:
    model, (x, y) = network(), batch()
    found = [adversarial.smooth_adv_pgd(model, x, y, **SMOOTH) for _ in range(2)]
    assert torch.equal(*found)
    other = adversarial.smooth_adv_pgd(model, x, y, step=1, **SMOOTH)
    assert not torch.equal(found[0], other)
    noise = [BatchNoise(x, 1.0, seed=0, stream=stream).copies(0, 2) for stream in Stream]
    for a in range(len(noise)):
        for b in range(a):
            assert not bool((noise[a] == noise[b]).any())
    whole = BatchNoise(x, 1.0, seed=5).copies(0, 5)
    parts = [BatchNoise(x, 1.0, seed=5).copies(at, n) for at, n in ((0, 2), (2, 3))]
    assert torch.equal(whole, torch.cat(parts))


def test_chunks_change_nothing_but_memory() -> None:
    """Oracle: the whole batch at once, in float64; the largest batch the model sees is counted."""
    model, (x, y) = network(dtype=torch.float64), batch(dtype=torch.float64)
    rows: list[int] = []
    model.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    whole = adversarial.smooth_adv_pgd(model, x, y, **{**SMOOTH, "num_noise": 7})
    assert max(rows) == 7 * len(x)
    rows.clear()
    parts = adversarial.smooth_adv_pgd(model, x, y, chunk=2, **{**SMOOTH, "num_noise": 7})
    assert max(rows) == 2 * len(x)
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-9)


def test_gradients_are_found_where_the_caller_wants_none() -> None:
    """Evaluation loops stand under no_grad: oracle, the same attacks outside of it."""
    model, (x, y) = network(), batch()
    attacks = (
        lambda: adversarial.pgd(model, x, y, epsilon=0.5, steps=3),
        lambda: adversarial.ddn(model, x, y, steps=3).adversarial,
        lambda: adversarial.smooth_adv_pgd(model, x, y, **SMOOTH),
        lambda: (
            adversarial.smooth_adv_ddn(
                model, x, y, sigma=0.25, steps=3, num_noise=2, seed=0
            ).adversarial
        ),
        lambda: adversarial.eot_pgd(model, x, y, **SMOOTH),
    )
    for attack in attacks:
        with torch.no_grad():
            found = attack()
            assert not torch.is_grad_enabled()
        assert torch.equal(found, attack())
        assert not found.requires_grad


def test_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Dropout(), nn.Linear(16, 3))
    model[3].weight.requires_grad_(False)
    model[2].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x, y = batch()
    adversarial.smooth_adv_pgd(model, x, y, **SMOOTH)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [m.training for m in model] == [True, True, False, True]
    assert not model[3].weight.requires_grad
    assert model[3].bias.requires_grad
    assert all(p.grad is None for p in model.parameters())


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A network trained with noise .1, its images and their labels."""
    model = adversarial.build("mlp", (1, 4, 4), 3, seed=0)
    x = batch(48)[0]
    y = (x.flatten(1).sum(1) * 0.7).long() % 3
    adversarial.train(model, (x, y), "gaussian", sigma=0.1, epochs=60, batch_size=16, lr=0.1)
    return model, x, y


@pytest.mark.parametrize("attack", ["eot", "smooth", "ddn"])
def test_attacked_accuracy_is_not_below_certified_accuracy(
    attack: str, trained: tuple[nn.Module, torch.Tensor, torch.Tensor]
) -> None:
    """Oracle: the certificates, wrong with probability 1e-6 each. No attack within the radius of
    an image, though it is its own to the last thousandth, may change the answer; it may make the
    smoothed network abstain. The same attacks far beyond the radius do change answers."""
    model, x, y = trained
    smooth = Smooth(model, 3, 0.1, seed=11)
    certified = smooth.certify_batch(x.numpy(), n0=100, n=2000, alpha=1e-6)
    held = np.flatnonzero((certified.prediction == y.numpy()) & (certified.radius > 0.02))
    assert len(held) >= 8
    held = held[:12]
    options: dict[str, Any] = {"sigma": 0.1, "num_noise": 16, "seed": 1, "steps": 8}

    def found(image: int, epsilon: float) -> torch.Tensor:
        at, label = x[image : image + 1], y[image : image + 1]
        if attack == "eot":
            return adversarial.eot_pgd(model, at, label, epsilon=epsilon, restarts=2, **options)
        if attack == "smooth":
            return adversarial.smooth_adv_pgd(model, at, label, epsilon=epsilon, **options)
        moved = adversarial.smooth_adv_ddn(
            model, at, label, epsilon=epsilon, init_norm=epsilon, **options
        )
        return moved.adversarial

    def answers(factor: float) -> Any:
        attacked = [found(int(i), factor * float(certified.radius[i])) for i in held]
        return smooth.predict_batch(torch.cat(attacked).numpy(), n=2000, alpha=1e-6)

    inside = answers(0.999)
    assert bool(np.all((inside == y.numpy()[held]) | (inside == Smooth.ABSTAIN)))
    beyond = answers(8.0)
    changed = (beyond != y.numpy()[held]) & (beyond != Smooth.ABSTAIN)
    assert changed.mean() > 0.3


def test_targeted_eot_reaches_its_class() -> None:
    """Oracle: the loss of the target under noise that no attack has seen; restarts only help."""
    model, x = network(), batch()[0]
    target = (model(x).argmax(1) + 1) % 3
    options: dict[str, Any] = {"epsilon": 1.0, "sigma": 0.1, "num_noise": 8, "steps": 5, "seed": 2}

    def loss(at: torch.Tensor) -> torch.Tensor:
        noise = BatchNoise(x, 0.1, seed=9)
        return evaluate(model, at, target, noise, 500, direction=None).loss

    attack = adversarial.EOTPGD(model, options)
    toward = attack(x, target, targeted=True)
    away = attack(x, target)
    assert torch.equal(away, adversarial.eot_pgd(model, x, target, **options))
    assert bool((loss(toward) < loss(x)).all())
    assert bool((loss(away) > loss(x)).all())
    again = attack(x, target, targeted=True, restarts=4)
    assert float(loss(again).mean()) < float(loss(toward).mean()) + 0.01


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_attacks_follow_the_dtype(dtype: torch.dtype) -> None:
    """Ball and box hold up to the rounding of an image: half a unit in the last place a pixel,
    sqrt(16) pixels."""
    model, x = network(dtype=dtype), batch(dtype=dtype)[0]
    y = model(x).argmax(1)
    room = 1e-6 + 4 * float(torch.finfo(dtype).eps)
    options: dict[str, Any] = {"sigma": 0.25, "num_noise": 3, "seed": 0, "chunk": 2}
    found = [
        adversarial.pgd(model, x, y, epsilon=0.5),
        adversarial.smooth_adv_pgd(model, x, y, epsilon=0.5, steps=3, **options),
        adversarial.eot_pgd(model, x, y, epsilon=0.5, steps=3, restarts=2, **options),
        adversarial.ddn(model, x, y, epsilon=0.5, steps=5).adversarial,
        adversarial.smooth_adv_ddn(model, x, y, epsilon=0.5, steps=5, **options).adversarial,
    ]
    for images in found:
        assert images.dtype == dtype
        assert float((images - x).double().flatten(1).norm(dim=1).max()) <= 0.5 + room
        assert float(images.min()) >= 0
        assert float(images.max()) <= 1
        assert not torch.equal(images, x)


def test_epsilon_zero_is_clean() -> None:
    model, (x, y) = network(), batch()
    assert torch.equal(adversarial.eot_pgd(model, x, y, epsilon=0, sigma=0.1, restarts=3), x)
    zero = adversarial.smooth_adv_ddn(model, x, y, **{**SMOOTH, "epsilon": 0.0})
    assert torch.equal(zero.adversarial, x)
    assert torch.equal(adversarial.pgd(model, x, y, epsilon=0), x)
    assert torch.equal(adversarial.smooth_adv_pgd(model, x, y, **{**SMOOTH, "epsilon": 0.0}), x)


X, Y = batch(2)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model": lambda x: x}, TypeError, "^model: expected a torch.nn.Module, got function"),
        ({"x": X.numpy()}, TypeError, "^x: expected a floating-point torch tensor, got ndarray"),
        ({"x": X + 1}, ValueError, r"^x: expected values in \[0, 1\], got .* in row 0"),
        ({"x": X * torch.nan}, ValueError, "^x: expected values in .* nan"),
        ({"y": Y + 2}, ValueError, "^y: expected labels from 0 to 2, got 3 in row 1"),
        ({"y": Y - 1}, ValueError, "^y: expected labels >= 0, got -1 in row 0"),
        ({"y": Y.float()}, TypeError, "^y: expected a torch tensor of int64"),
        ({"y": Y[:1]}, ValueError, r"^y: expected shape \(2,\)"),
        ({"epsilon": -1.0}, ValueError, "^epsilon: expected a finite number >= 0, got -1"),
        ({"epsilon": float("nan")}, ValueError, "^epsilon: expected"),
        ({"sigma": -0.1}, ValueError, "^sigma: expected"),
        ({"steps": 0}, ValueError, "^steps: expected"),
        ({"num_noise": 0}, ValueError, "^num_noise: expected"),
        ({"chunk": 0}, ValueError, "^chunk: expected"),
        ({"seed": -1}, ValueError, "^seed: expected"),
        ({"norm": "l1"}, ValueError, "^norm: expected 'l2' or 'linf', got 'l1'"),
        ({"direction": "up"}, ValueError, "^direction: expected"),
        ({"direction": "stein", "num_noise": 1}, ValueError, "^num_noise: expected at least 2"),
    ],
)
def test_bad_arguments(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"model": network(), "x": X, "y": Y, **SMOOTH, **change}
    with pytest.raises(error, match=message):
        adversarial.smooth_adv_pgd(**arguments)
