"""Attacks side by side: torchattacks' PGDRSL2 and foolbox's DDN, and tamis's, at an equal budget.

Strength is judged under noise that no attack has seen; the distance that DDN finds, on the network
itself. An attack that leaves its ball or the box is not timed. The network is trained here, for a
few seconds, with Gaussian noise.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from _smoothadv_shared import mnist
from _timing import describe, interleave, machine, ratios, spread

SIGMA, EPSILON = 0.5, 1.0
Attacks = dict[str, Callable[[], Any]]


def smoothed_attacks(
    network: Any, x: Any, y: Any, steps: int, m: int, seed: int, epsilon: float = EPSILON
) -> Attacks:
    """Untargeted attacks on the smoothed classifier: `steps` gradients of m copies an image."""
    import torch
    from torchattacks import PGDRSL2

    from tamis import adversarial

    size = 2 * epsilon / steps  # as published, and the default of `smooth_adv_pgd`
    peer = PGDRSL2(
        network,
        eps=epsilon,
        alpha=size,
        steps=steps,
        noise_sd=SIGMA,
        noise_batch_size=m,
        batch_max=1 << 30,
    )

    def theirs() -> Any:
        torch.manual_seed(seed)
        return peer(x, y)

    options: dict[str, Any] = {"epsilon": epsilon, "sigma": SIGMA, "steps": steps, "num_noise": m}
    options["seed"] = seed
    return {
        "torchattacks PGDRSL2": theirs,
        "eot_pgd": lambda: adversarial.eot_pgd(network, x, y, **options),
        "smooth_adv_pgd": lambda: adversarial.smooth_adv_pgd(network, x, y, **options),
    }


def distance_attacks(network: Any, x: Any, y: Any, steps: int) -> Attacks:
    """DDN on the network itself: images, not rounded to 8 bits; `steps` gradients an image."""
    import foolbox

    from tamis import adversarial

    peer = foolbox.attacks.DDNAttack(init_epsilon=1.0, steps=steps, gamma=0.05)
    wrapped = foolbox.PyTorchModel(network, bounds=(0, 1))
    constant: dict[str, Any] = {"steps": steps, "gamma": 0.05, "final_gamma": None}
    return {
        "foolbox DDN": lambda: peer.run(wrapped, x, foolbox.criteria.Misclassification(y)),
        "ddn, gamma as published": lambda: adversarial.ddn(network, x, y, **constant).adversarial,
        "ddn": lambda: adversarial.ddn(network, x, y, steps=steps).adversarial,
    }


def judged(network: Any, x: Any, y: Any, copies: int) -> tuple[float, float]:
    """Mean of ``-log E F(x + n)_y``, and how many images keep the true class, in percent."""
    from tamis.adversarial.noise import BatchNoise
    from tamis.adversarial.objective import evaluate
    from tamis.smoothing.identity import Stream

    noise = BatchNoise(x, SIGMA, seed=77, stream=Stream.ESTIMATION)
    seen = evaluate(network, x, y, noise, copies, chunk=50, direction=None, votes=True)
    kept = (seen.votes.argmax(1) == y).double().mean()
    return float(seen.loss.double().mean()), 100 * float(kept)


def check_inside(found: Any, x: Any, epsilon: float | None) -> None:
    """Exit unless the images are in the box and, where there is one, in the ball."""
    size = float((found - x).flatten(1).norm(dim=1).max())
    low, high = float(found.min()), float(found.max())
    if low < 0 or high > 1 or (epsilon is not None and size > epsilon + 1e-5):
        sys.exit(f"an attack left its set: pixels from {low} to {high}, l2 distance {size}")


def timed(attacks: Attacks, rounds: int, check: Callable[[], None]) -> dict[str, list[float]]:
    return interleave(attacks, check=check, rounds=rounds, clock=process_time)


def linear() -> Any:
    """A network without work of its own, where an attack's cost shows."""
    import torch

    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10)).eval()


def run_peers(out: Path, stem: str, *, quick: bool) -> None:
    """Print the tables and write them to ``smoothadv_peers.md``."""
    try:
        import foolbox
        import torch
        import torchattacks
    except ImportError as error:
        print(f"peers: {error.name} is not installed; this part is left out", file=sys.stderr)
        return
    from tamis import adversarial

    torch.set_num_threads(1)
    X, labels = mnist()
    facts = machine(("torch", "torchattacks", "foolbox"))
    count, rounds, seeds = (16, 3, 1) if quick else (120, 9, 3)
    network = adversarial.build("small_cnn", (1, 28, 28), 10, seed=0)
    adversarial.train(
        network,
        (X[:4000], labels[:4000]),
        "gaussian",
        sigma=SIGMA,
        num_noise=1,
        epochs=3 if quick else 8,
        lr=0.05,
        lr_step=5,
    )
    network.requires_grad_(False)
    x = torch.from_numpy(np.ascontiguousarray(X[8000 : 8000 + count]))
    y = torch.from_numpy(labels[8000 : 8000 + count].astype(np.int64))
    copies = 100 if quick else 1000
    lines = [
        f"{count} MNIST images, sigma {SIGMA}, epsilon {EPSILON}, CPU time on one thread;",
        f"torchattacks {torchattacks.__version__}, foolbox {foolbox.__version__}.",
        "All attacks at one budget compute as many gradients (`ddn` judges its last point too).",
        f"Loss and votes: {copies} noise vectors that no attack has seen.",
        "Time: median ratio to tamis.",
        "",
        "| attack on the smoothed network | gradients x copies | loss (seeds) | right | time |",
        "|---|---|---|---|---|",
    ]
    loss, right = judged(network, x, y, copies)
    lines.append(f"| none | | {loss:.3f} | {right:.1f}% | |")
    for steps, m in ((4, 2),) if quick else ((4, 4), (10, 5), (20, 16)):
        found: dict[str, list[tuple[float, float]]] = {}
        for seed in range(seeds):
            for name, attack in smoothed_attacks(network, x, y, steps, m, seed).items():
                images = attack()
                check_inside(images, x, EPSILON)
                found.setdefault(name, []).append(judged(network, images, y, copies))
        times = timed(smoothed_attacks(network, x[:32], y[:32], steps, m, 0), rounds, lambda: None)
        for name, values in found.items():
            each = ", ".join(f"{loss:.3f}" for loss, _ in values)
            kept = np.mean([right for _, right in values])
            ratio = spread(ratios(times, name, "eot_pgd"))["median"]
            lines.append(f"| {name} | {steps} x {m} | {each} | {kept:.1f}% | {ratio:.2f} |")
    lines += [
        "",
        "| nearest wrong image | gradients | found | median distance | nearer than foolbox's, "
        "farther | time |",
        "|---|---|---|---|---|---|",
    ]
    for steps in (10,) if quick else (20, 100, 300):
        attacks = distance_attacks(network, x, y, steps)
        norms, share = {}, {}
        for name, attack in attacks.items():
            images = attack()
            check_inside(images, x, None)
            wrong = network(images).argmax(1) != y
            norm = (images - x).flatten(1).norm(dim=1)
            share[name] = 100 * float(wrong.float().mean())
            norms[name] = torch.where(wrong, norm, torch.full_like(norm, torch.inf))
        times = timed(distance_attacks(network, x[:32], y[:32], steps), rounds, lambda: None)
        for name, norm in norms.items():
            other = norms["foolbox DDN"]
            nearer = 100 * float((norm < other - 1e-4).float().mean())
            farther = 100 * float((norm > other + 1e-4).float().mean())
            ratio = spread(ratios(times, name, "ddn"))["median"]
            lines.append(
                f"| {name} | {steps} | {share[name]:.1f}% | {norm.median():.4f} | "
                f"{nearer:.1f}%, {farther:.1f}% | {ratio:.2f} |"
            )
    light = linear()
    smoothed = timed(smoothed_attacks(light, x[:32], y[:32], 10, 4, 0), rounds, lambda: None)
    nearest = timed(distance_attacks(light, x[:32], y[:32], 20), rounds, lambda: None)
    lines += [
        "",
        "On a linear network, where an attack's own work is most of it: PGDRSL2 "
        f"{spread(ratios(smoothed, 'torchattacks PGDRSL2', 'eot_pgd'))['median']:.2f} times "
        f"`eot_pgd`, DDN of foolbox {spread(ratios(nearest, 'foolbox DDN', 'ddn'))['median']:.2f} "
        "times `ddn`.",
    ]
    text = "\n".join(lines)
    (out / f"{stem}_peers.md").write_text(text + "\n", encoding="utf-8")
    print(describe(facts), text, sep="\n")
