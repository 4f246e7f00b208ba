"""What bench/gpu.py checks and times: every CUDA operation, beside what torch has for it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import tamis

Call = Callable[[], Any]
TAMIS = "tamis"


@dataclass(frozen=True)
class Work:
    """Calls that do the same, tamis first, and what they are held against."""

    calls: dict[str, Call]
    check: Callable[[], None]
    necessary: int  # bytes, each operand once
    limit: str  # the name of the reduction or copy whose speed bounds it


@dataclass(frozen=True)
class Case:
    operation: str
    size: str
    prepare: Callable[[], Work]
    quick: bool = field(default=False)


class WrongError(Exception):
    """A result that is not to be timed."""


def need(ok: Any, what: str) -> None:
    if not bool(ok):
        raise WrongError(what)


def close(got: Any, exact: Any, tolerance: float, what: str) -> None:
    error = float((got.double() - exact).norm() / exact.norm())
    need(error <= tolerance, f"{what}: relative error {error:.1e}, allowed {tolerance:.0e}")


def card() -> Any:
    """torch, or SystemExit that says what is missing."""
    facts = tamis.info()["cuda"]
    if not facts["built"]:
        sys.exit("no GPU was used: this tamis was built without CUDA (see `tamis info`)")
    if not facts["devices"]:
        sys.exit(f"no GPU was found: {facts['status']}")
    try:
        import torch
    except ImportError:
        sys.exit("no GPU was used: torch, the peer, is not installed")
    if not torch.cuda.is_available():
        sys.exit("no GPU was used: this torch has no CUDA")
    return torch


# ---- noise and votes -----------------------------------------------------------------------------


def noise(n: int, shape: tuple[int, ...], dtype: str) -> Callable[[], Work]:
    def prepare() -> Work:
        torch = card()
        kind = getattr(torch, dtype)
        x = torch.linspace(0, 1, int(np.prod(shape)), device="cuda").reshape(shape).to(kind)
        out = torch.empty((n, *shape), dtype=kind, device="cuda")
        sigma = 0.25

        def ours() -> Any:
            return tamis.gaussian_noise(x, n, sigma, seed=1, out=out)

        def usual() -> Any:
            batch = x.repeat((n, *(1,) * x.ndim))
            return batch + torch.randn_like(batch) * sigma

        def check() -> None:
            out.fill_(float("nan"))
            got = ours()
            for row in (0, n // 2, n - 1):
                exact = tamis.gaussian_noise(x.cpu(), 1, sigma, seed=1, start=row)
                need(torch.equal(got[row].cpu(), exact[0]), f"row {row} differs from the CPU")
            need(torch.isfinite(got).all(), "not everything was written")

        calls = {
            TAMIS: ours,
            "tamis, new array": lambda: tamis.gaussian_noise(x, n, sigma, seed=1),
            "torch repeat, randn_like": usual,
            "torch normal_": out.normal_,
        }
        return Work(calls, check, out.nbytes + x.nbytes, "fill")

    return prepare


def votes(rows: int, classes: int, dtype: str) -> Callable[[], Work]:
    def prepare() -> Work:
        torch = card()
        logits = torch.randn(rows, classes, device="cuda").to(getattr(torch, dtype))

        def usual() -> Any:
            return torch.bincount(logits.argmax(dim=1), minlength=classes)

        def check() -> None:
            exact = np.bincount(logits.float().cpu().numpy().argmax(axis=1), minlength=classes)
            need((tamis.vote_counts(logits).cpu().numpy() == exact).all(), "wrong counts")

        calls = {TAMIS: lambda: tamis.vote_counts(logits), "torch argmax, bincount": usual}
        return Work(calls, check, logits.nbytes + 8 * classes, "read")

    return prepare


# ---- rows ----------------------------------------------------------------------------------------


def rows(n: int, d: int, dtype: str, spike: float = 2.0) -> Any:
    torch = card()
    generator = torch.Generator("cuda").manual_seed(0)
    X = torch.randn(n, d, device="cuda", dtype=getattr(torch, dtype), generator=generator)
    X[:, 0] *= spike
    return X.add_(1.0)


def covariance(n: int, d: int, k: int, dtype: str, given: bool) -> Callable[[], Work]:
    def prepare() -> Work:
        torch = card()
        X = rows(n, d, dtype)
        V = torch.randn(d, k, device="cuda", dtype=X.dtype)
        mean = X.double().mean(dim=0) if given else None

        def ours() -> Any:
            return tamis.covariance_apply(X, V, mean=mean)

        def check() -> None:
            A = X[:200_000].double()
            A = A - (A.mean(dim=0) if mean is None else mean)  # never in place: A may be X
            exact = A.T @ (A @ V.double()) / len(A)
            got = tamis.covariance_apply(X[:200_000], V, mean=mean)
            close(got, exact, 1e-5 if dtype == "float32" else 1e-12, "covariance_apply")

        calls = {TAMIS: ours, "torch X.T @ (X @ V), uncentred": lambda: X.T @ (X @ V)}
        return Work(calls, check, X.nbytes + 2 * V.nbytes, "read")

    return prepare


def sums(n: int, d: int, j: int, dtype: str) -> Callable[[], Work]:
    def prepare() -> Work:
        torch = card()
        X = rows(n, d, dtype)
        U = torch.randn(j, n, device="cuda", dtype=X.dtype)

        def check() -> None:
            few, weights = X[:200_000], U[:, :200_000].contiguous()
            exact = weights.double() @ few.double()
            got = tamis.weighted_sums(few, weights)
            close(got, exact, 1e-5 if dtype == "float32" else 1e-12, "weighted_sums")

        calls = {TAMIS: lambda: tamis.weighted_sums(X, U), "torch U @ X": lambda: U @ X}
        return Work(calls, check, X.nbytes + U.nbytes + 8 * j * d, "read")

    return prepare


def gradients(n: int, d: int, k: int, dtype: str) -> Callable[[], Work]:
    def prepare() -> Work:
        torch = card()
        X = rows(n, d, dtype)
        y, coef = torch.randn(n, device="cuda").double(), torch.randn(d, device="cuda").double()
        V = torch.randn(d, k, device="cuda").double()
        narrow = [part.to(X.dtype) for part in (y, coef, V)]

        def usual() -> Any:
            a = X @ narrow[1] - narrow[0]
            squares = a.square()
            center, total, moved = torch.stack([torch.full_like(a, 1 / n), a, squares]) @ X
            Z = squares[:, None] * (X @ narrow[2] - center @ narrow[2])
            product = X.T @ Z - torch.outer(center, Z.sum(dim=0))
            return a, center, total - a.sum() * center, moved - squares.sum() * center, product

        def check() -> None:
            few, some = X[:200_000], y[:200_000]
            a = few.double() @ coef - some
            A = few.double() - few.double().mean(dim=0)
            exact = (A.T * a**2) @ (A @ V)
            got = tamis.linear_gradients(few, some, coef, 0.0, V)
            tolerance = 1e-5 if dtype == "float32" else 1e-12
            close(got.coefficients, a, tolerance, "linear_gradients, coefficients")
            close(got.product, exact, tolerance, "linear_gradients, product")

        calls = {
            TAMIS: lambda: tamis.linear_gradients(X, y, coef, 0.0, V),
            "torch, read by read": usual,
        }
        return Work(calls, check, X.nbytes + 2 * y.nbytes + 2 * V.nbytes, "read")

    return prepare


def scores(n: int, d: int, k: int, dtype: str) -> Callable[[], Work]:
    def prepare() -> Work:
        torch = card()
        X = rows(n, d, dtype)
        V = torch.randn(d, k, device="cuda", dtype=X.dtype)
        mean = X.mean(dim=0)
        wide = mean.double()

        def usual() -> Any:
            return (X @ V - mean @ V).square_().sum(dim=1)

        def check() -> None:
            exact = ((X[:200_000].double() - wide) @ V.double()).square().sum(dim=1)
            got = tamis.projection_scores(X[:200_000], V, mean=wide)
            close(got, exact, 1e-5 if dtype == "float32" else 1e-12, "projection_scores")

        calls = {
            TAMIS: lambda: tamis.projection_scores(X, V, mean=wide),
            "torch (X V - m V)^2": usual,
        }
        return Work(calls, check, X.nbytes + V.nbytes + n * X.element_size(), "read")

    return prepare


def eigenpair(n: int, d: int) -> Callable[[], Work]:
    def prepare() -> Work:
        torch = card()
        X = rows(n, d, "float32")

        def formed() -> Any:
            A = X - X.mean(dim=0)
            return torch.linalg.eigh(A.T @ A / n)[1][:, -1]

        def low_rank() -> Any:
            return torch.pca_lowrank(X, q=4, niter=6)[2][:, 0]

        def check() -> None:
            found = tamis.power_iteration(X)
            A = X.double() - X.double().mean(dim=0)
            v = found.vectors[:, 0].double()
            image = A.T @ (A @ v) / n
            residual = float((image - found.values[0].double() * v).norm() / image.norm())
            need(residual <= 2e-4, f"power_iteration: residual {residual:.1e}")

        calls = {
            TAMIS: lambda: tamis.power_iteration(X),
            "torch covariance, eigh": formed,
            "torch pca_lowrank, niter 6": low_rank,
        }
        return Work(calls, check, X.nbytes, "read")

    return prepare


def filtered(n: int, d: int, dtype: str) -> Callable[[], Work]:
    def prepare() -> Work:
        torch = card()
        X = rows(n, d, dtype, spike=1.0)
        X[: n // 10] += 4.0 / d**0.5  # a cluster, hidden: nearer to the centre than most rows
        result = tamis.iterative_filter(X)
        cpu = X.cpu()

        def check() -> None:
            again = tamis.iterative_filter(cpu)
            close(result.mean.cpu(), again.mean.double(), 1e-4, "mean, beside the CPU's")
            need(torch.equal(tamis.iterative_filter(X).scores, result.scores), "not repeatable")

        calls = {
            TAMIS: lambda: tamis.iterative_filter(X),
            "tamis, rows on the CPU": lambda: tamis.iterative_filter(cpu),
        }
        return Work(calls, check, X.nbytes * result.passes, "read")

    return prepare


def certificate(dtype: str) -> Callable[[], Work]:
    """What a certificate costs beyond the forward passes of a small convolutional network."""

    def prepare() -> Work:
        torch = card()
        from tamis.smoothing import Smooth

        torch.manual_seed(0)
        nn = torch.nn
        model = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, stride=2), nn.ReLU(),
            nn.Flatten(), nn.LazyLinear(10),
        ).cuda()  # fmt: skip
        model(torch.zeros(1, 3, 32, 32, device="cuda"))
        model = model.to(getattr(torch, dtype)).eval()
        images = torch.rand(8, 3, 32, 32, device="cuda")
        size, n = 4096, 20_000
        batch = torch.rand(size, 3, 32, 32, device="cuda").to(getattr(torch, dtype))
        smooth = Smooth(model, num_classes=10, sigma=0.25)

        def forward() -> Any:
            with torch.inference_mode():
                for _ in range(-(-len(images) * (n + 100) // size)):
                    model(batch)

        def usual() -> Any:
            with torch.inference_mode():
                for x in images.to(batch.dtype):
                    counts = np.zeros(10, np.int64)
                    left = n + 100
                    while left:
                        rows = min(size, left)
                        copies = x.repeat((rows, 1, 1, 1))
                        top = model(copies + torch.randn_like(copies) * 0.25).argmax(1)
                        counts += np.bincount(top.cpu().numpy(), minlength=10)
                        left -= rows

        def ours() -> Any:
            return smooth.certify_batch(images, 100, n, 0.001, size)

        def check() -> None:
            need((ours().counts == ours().counts).all(), "not repeatable")

        calls = {TAMIS: ours, "forward passes alone": forward, "the usual torch loop": usual}
        return Work(calls, check, 0, "")

    return prepare


IMAGENET, CIFAR = (3, 224, 224), (3, 32, 32)
CASES = [
    *(
        Case("gaussian_noise", f"1000 x {size}, {dtype}", noise(1000, shape, dtype), quick)
        for size, shape, dtype, quick in (
            ("3 x 224 x 224", IMAGENET, "float32", True),
            ("3 x 224 x 224", IMAGENET, "float16", False),
            ("3 x 224 x 224", IMAGENET, "bfloat16", False),
            ("3 x 32 x 32", CIFAR, "float32", False),
        )
    ),
    Case("vote_counts", "1000000 x 10, float32", votes(1_000_000, 10, "float32")),
    Case("vote_counts", "400000 x 1000, float16", votes(400_000, 1000, "float16"), True),
    *(
        Case("covariance_apply", f"1000000 x 512, k = {k}, {dtype}{label}",
             covariance(1_000_000, 512, k, dtype, given), k == 1)
        for k, dtype, given, label in (
            (1, "float32", False, ", mean found"),
            (8, "float32", False, ", mean found"),
            (8, "float32", True, ""),
            (32, "float32", True, ""),
            (8, "float64", True, ""),
        )
    ),
    *(
        Case("projection_scores", f"1000000 x 512, k = {k}, {dtype}",
             scores(1_000_000, 512, k, dtype), k == 8 and dtype == "float32")
        for k, dtype in ((1, "float32"), (8, "float32"), (32, "float32"), (8, "float64"))
    ),
    *(
        Case("weighted_sums", f"1000000 x 512, j = {j}, {dtype}",
             sums(1_000_000, 512, j, dtype), j == 4 and dtype == "float32")
        for j, dtype in ((1, "float32"), (4, "float32"), (32, "float32"), (4, "float64"))
    ),
    *(
        Case("linear_gradients", f"1000000 x 512, k = {k}, {dtype}",
             gradients(1_000_000, 512, k, dtype), k == 4 and dtype == "float32")
        for k, dtype in ((4, "float32"), (16, "float32"), (4, "float64"))
    ),
    Case("power_iteration", "1000000 x 512, float32", eigenpair(1_000_000, 512), True),
    Case("power_iteration", "50000 x 512, float32", eigenpair(50_000, 512)),
    Case("power_iteration", "200000 x 2048, float32", eigenpair(200_000, 2048)),
    Case("iterative_filter", "1000000 x 100, float32", filtered(1_000_000, 100, "float32"), True),
    Case("iterative_filter", "99990 x 100, float64", filtered(99_990, 100, "float64")),
    Case("Smooth.certify_batch", "8 images, n = 20000, float32", certificate("float32"), True),
    Case("Smooth.certify_batch", "8 images, n = 20000, bfloat16", certificate("bfloat16")),
]  # fmt: skip
