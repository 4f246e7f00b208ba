"""gaussian_noise with mean and std: normalisation in the same pass.

Oracle: tamis.reference.gaussian_noise, the float64 twin, and for the bits the plain noise, whose
own tests are in test_gaussian_noise.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tamis
from tamis import reference

KEY: dict[str, int] = {"seed": 0xFEDCBA9876543210, "image": 0x89ABCDEF, "stream": 3, "start": 41}
SIGMA = 0.375  # a float32
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)


def ramp(*shape: int) -> NDArray[np.float32]:
    values = (np.arange(np.prod(shape, dtype=int)) % 257) / 256 - 0.5
    return values.reshape(shape).astype(np.float32)


def noise(x: Any, n: int = 5, **arguments: Any) -> Any:
    return tamis.gaussian_noise(x, n, SIGMA, **{**KEY, **arguments})


def spacing(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """One ulp of float32 at these magnitudes."""
    return np.spacing(np.abs(values).astype(np.float32)).astype(np.float64)


@pytest.mark.parametrize(
    ("shape", "mean", "std"),
    [
        ((3, 5, 5), MEAN, STD),
        ((3, 32, 32), MEAN, STD),
        ((3, 37, 41), MEAN, 0.25),
        ((3, 1), 0.45, STD),
        ((1, 7), [0.5], [0.3]),
        ((7, 1), np.linspace(0, 1, 7), np.linspace(0.1, 3, 7)),
        ((9,), 0.5, 0.3),
        ((9,), np.linspace(0, 1, 9), 0.3),
        ((), 0.5, 0.3),
        ((5, 1025), None, 1e-3),
        ((5, 1025), -1e3, None),
        ((3, 0), MEAN, STD),
    ],
)
def test_equals_the_float64_twin(shape: tuple[int, ...], mean: Any, std: Any) -> None:
    """The tolerance adds up the roundings, for s = 1 / std and o = -mean / std.

    The plain noise v has an error of sigma * 4 ulp(z) + 1/2 ulp(v) (test_gaussian_noise.py), which
    s multiplies; s and o are each off by 2^-24 of themselves; the fma rounds once more. Products of
    two such errors, and the float64 twin's own, are below 1e-6 of the sum.
    """
    x = ramp(*shape)
    shift, scale = (0.0 if mean is None else mean), (1.0 if std is None else std)
    out = noise(x, mean=mean, std=std)
    exact = reference.gaussian_noise(x, 5, SIGMA, **KEY, mean=shift, std=scale)
    assert out.shape == exact.shape == (5, *shape)
    assert out.dtype == np.float32
    z = reference.gaussian_noise(np.zeros_like(x), 5, 1.0, **KEY)
    v = x + SIGMA * z
    column = (-1,) + (1,) * (x.ndim - 1) if x.ndim else ()
    s = 1.0 / np.reshape(np.float64(scale), column)
    o = np.abs(np.reshape(np.float64(shift), column) * s)
    error = s * (SIGMA * 4 * spacing(z) + spacing(v) / 2) + 2.0**-24 * (np.abs(v) * s + o)
    error += spacing(np.abs(exact) + error) / 2
    assert (np.abs(out - exact) <= error * (1 + 1e-6)).all()


def test_is_one_fma_on_the_plain_noise() -> None:
    """Bit for bit: float64 holds the product of two float32 exactly, and here the sum too.

    The constants are powers of two and small integers, so nothing but the last step rounds.
    """
    x = ramp(3, 5, 7)
    mean, std = np.array([0.5, 2.0, -3.0]), np.array([0.25, 4.0, 1.0])
    plain = noise(x).astype(np.float64)
    expected = ((plain - mean.reshape(3, 1, 1)) / std.reshape(3, 1, 1)).astype(np.float32)
    assert noise(x, mean=mean, std=std).tobytes() == expected.tobytes()
    assert noise(x, mean=0.0, std=1.0).tobytes() == noise(x).tobytes()


@pytest.mark.parametrize("threads", [1, 3])
def test_half_precision_is_rounded_once(threads: int) -> None:
    x = ramp(3, 41, 37)
    single = noise(x, mean=MEAN, std=STD)
    half = noise(x, mean=MEAN, std=STD, dtype=np.float16, num_threads=threads)
    assert half.tobytes() == single.astype(np.float16).tobytes()
    again = noise(x, mean=MEAN, std=STD, num_threads=threads)
    assert again.tobytes() == single.tobytes()


def test_torch_tensors() -> None:
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(ramp(3, 5, 7))
    expected = torch.from_numpy(noise(ramp(3, 5, 7), mean=MEAN, std=STD))
    column = torch.tensor(STD, dtype=torch.float64).reshape(3, 1, 1)
    assert torch.equal(noise(x, mean=MEAN, std=column), expected)
    out = torch.empty(5, 3, 5, 7, dtype=torch.bfloat16)
    assert noise(x, mean=MEAN, std=STD, out=out) is out
    assert torch.equal(out, expected.bfloat16())
    if torch.cuda.is_available() and tamis.info()["cuda"]["built"]:
        on_device = noise(x.cuda(), mean=MEAN, std=STD)
        assert torch.equal(on_device.cpu(), expected)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"std": 0}, ValueError, "^std: expected numbers > 0"),
        ({"std": -1.0}, ValueError, "^std: expected numbers > 0"),
        ({"std": float("nan")}, ValueError, "^std: expected finite"),
        ({"std": float("inf")}, ValueError, "^std: expected finite"),
        ({"mean": float("nan")}, ValueError, "^mean: expected finite"),
        ({"mean": []}, ValueError, "^mean: expected finite"),
        ({"mean": "grey"}, TypeError, "^mean: expected a number"),
        ({"mean": np.zeros((2, 2))}, ValueError, r"^mean: .*got shape \(2, 2\)"),
        ({"mean": (1, 2), "std": (1, 2, 3)}, ValueError, r"^std: expected as many .*\(2\)"),
        ({"mean": (1, 2)}, ValueError, r"^mean, std: .*axis 0\) of x of shape \(3, 5\), got 2"),
        ({"std": (1, 2, 3, 4, 5)}, ValueError, r"^mean, std: .*got 5"),
        ({"std": 1e-39}, ValueError, "^mean, std: .*range of float32"),
        ({"std": 1e300}, ValueError, "^mean, std: .*range of float32"),
        ({"mean": 1e39}, ValueError, "^mean, std: .*range of float32"),
    ],
)
def test_refusals(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        noise(ramp(3, 5), **arguments)


def test_a_scalar_image_has_no_channels() -> None:
    with pytest.raises(ValueError, match=r"^mean, std: .*of shape \(\), got 2"):
        noise(np.float32([0.5]).reshape(()), mean=(1, 2))
