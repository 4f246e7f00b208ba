"""gaussian_noise: its values, its bits, its element types.

Oracle: tamis.reference.gaussian_noise, the float64 twin, whose words test_philox.py checks. How the
values are distributed is the subject of test_noise_statistics.py; what is accepted and refused, of
test_gaussian_noise_arguments.py; processes and threads, of test_gaussian_noise_processes.py.
"""

from __future__ import annotations

import hashlib
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import tamis
from support import KEY, SEED, SIGMA, noise, ramp, same_bits
from tamis import reference


def assert_within_contract(
    out: NDArray[np.float32], x: NDArray[np.float32], sigma: float, **key: int
) -> None:
    """Every normal within 4 ulp (``normal.hpp``), then one rounding of the sum (the fma).

    |out - exact| <= sigma * 4 ulp(z) + 1/2 ulp(exact), ulp = the spacing of float32 there. The
    float64 twin has an error of its own: some 2^-50 of |sigma z|, next to 2^-22 in the bound.
    """
    n = len(out)
    exact_sigma = float(np.float32(sigma))
    exact = reference.gaussian_noise(x, n, exact_sigma, **key)
    z = np.abs(reference.gaussian_noise(np.zeros_like(x), n, 1.0, **key))
    tolerance = (
        exact_sigma * (4 * np.spacing(z.astype(np.float32)).astype(np.float64) + 2.0**-50 * z)
        + np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64) / 2
    )
    assert out.shape == exact.shape
    worst = np.abs(out - exact) / tolerance
    assert worst.max(initial=0.0) <= 1.0


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch")


# ---- values ------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 3, 4, 7, 8, 9, 31, 32, 33, 1023, 3001, 20_011])
@pytest.mark.parametrize("start", [0, 41, 2**32 - 5])
def test_equals_the_float64_twin(d: int, start: int) -> None:
    x = ramp(d)
    out = noise(x, 5, start=start)
    assert out.dtype == np.float32
    assert_within_contract(out, x, SIGMA, start=start, **KEY)


@pytest.mark.parametrize(
    "key",
    [
        {"seed": 0},
        {"seed": 1, "image": 2, "stream": 3, "start": 4},
        {"seed": 2**64 - 1, "image": 2**32 - 1, "stream": 2**32 - 1, "start": 2**32 - 3},
        {"seed": 1 << 32},
    ],
)
@pytest.mark.parametrize("sigma", [0.0, 1e-30, 1.0, 1e30])
def test_every_word_of_the_key_and_any_sigma(key: dict[str, int], sigma: float) -> None:
    x = ramp(3, 11)
    assert_within_contract(tamis.gaussian_noise(x, 3, sigma, **key), x, sigma, **key)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    shape=st.lists(st.integers(0, 9), max_size=4),
    n=st.integers(0, 6),
    seed=st.integers(0, 2**64 - 1),
    start=st.integers(0, 2**32 - 6),
    threads=st.integers(1, 3),
)
def test_any_shape(shape: list[int], n: int, seed: int, start: int, threads: int) -> None:
    x = ramp(*shape)
    out = tamis.gaussian_noise(x, n, SIGMA, seed=seed, start=start, num_threads=threads)
    assert out.shape == (n, *shape)
    assert_within_contract(out, x, SIGMA, seed=seed, start=start)


def test_sigma_zero_copies_exactly() -> None:
    x = ramp(1023)
    assert (noise(x, 3, 0.0) == x).all()


@pytest.mark.parametrize("d", [3, 67])
def test_special_values_stay_in_their_column(d: int) -> None:
    x = ramp(d)
    clean = noise(x, 7)
    x[:3] = [np.inf, -np.inf, np.nan]
    out = noise(x, 7)
    assert (out[:, 0] == np.inf).all()
    assert (out[:, 1] == -np.inf).all()
    assert np.isnan(out[:, 2]).all()
    assert same_bits(out[:, 3:], clean[:, 3:])


# ---- bits --------------------------------------------------------------------------------------

GOLDEN = {
    "float32": "00092a86a153cab360fa9f33f0e150e3c0860cb8291adf60d0350bc7581c8f0a",
    "float16": "61a5c33d7ff2c1c7e5b44073bfb95cbd2c51fbf5b77b8cd5954c9f9e468c20c9",
}


def golden_digest(dtype: str) -> str:
    x = (np.arange(1001, dtype=np.float32) / np.float32(256)).reshape(7, 11, 13) - np.float32(2)
    out = tamis.gaussian_noise(
        x, 33, 0.25, seed=0x0123456789ABCDEF, image=0xDEADBEEF, stream=2, start=99_999, dtype=dtype
    )
    return hashlib.sha256(out.tobytes()).hexdigest()


@pytest.mark.skipif(sys.byteorder != "little", reason="the digests are of little-endian bytes")
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_golden_bits(dtype: str) -> None:
    """The promise across versions: published certificates can be audited with a later release.

    The digests were taken from this package, after its values were checked against the twin. If
    this test fails, every noise value in the world has changed. That needs a new major version and
    a line in the change log, never just a new digest here.
    """
    assert golden_digest(dtype) == GOLDEN[dtype]


@pytest.mark.parametrize("d", [1, 33, 3072, 40_003])
def test_same_bits_for_every_split_start_and_thread_count(d: int) -> None:
    x = ramp(d)
    whole = noise(x, 29, start=7, num_threads=1)
    for threads in (2, 3, 8, None):
        assert same_bits(noise(x, 29, start=7, num_threads=threads), whole)
    for size in (1, 2, 10, 28):
        parts = [
            noise(x, min(size, 29 - first), start=7 + first, num_threads=1 + first % 2)
            for first in range(0, 29, size)
        ]
        assert same_bits(np.concatenate(parts), whole)


def test_a_value_depends_on_its_place_alone() -> None:
    """An element's noise does not know how long its vector is, or of what shape."""
    long = noise(np.zeros(4099, np.float32), 3)
    for d in (1, 2, 5, 1030):
        assert same_bits(noise(np.zeros(d, np.float32), 3), long[:, :d].copy())
    assert same_bits(noise(np.zeros((4099, 1), np.float32), 3)[..., 0], long)


def test_every_part_of_the_key_changes_the_noise() -> None:
    x = np.zeros(1001, np.float32)
    base = noise(x, 1)
    for other in (
        {"seed": SEED ^ 1},
        {"seed": SEED ^ (1 << 63)},
        {"image": KEY["image"] ^ 1},
        {"stream": KEY["stream"] ^ 1},
        {"start": 1},
    ):
        assert (noise(x, 1, **other) != base).mean() > 0.99


# ---- element types -----------------------------------------------------------------------------


def test_numpy_half_precision() -> None:
    """A 16-bit result is the float32 one rounded to nearest even, as NumPy converts."""
    x = ramp(5, 13)
    single = noise(x, 9)
    assert same_bits(noise(x, 9, dtype=np.float16), single.astype(np.float16))
    assert same_bits(noise(x.astype(np.float16), 9), single.astype(np.float16))
    assert same_bits(noise(x.astype(np.float16), 9, dtype="float32"), single)
    out = np.empty((9, 5, 13), np.float16)
    assert noise(x, 9, out=out, dtype=np.dtype(np.float16)) is out
    assert same_bits(out, single.astype(np.float16))


@pytest.mark.parametrize("x_name", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("out_name", ["float32", "float16", "bfloat16"])
def test_torch_types(torch: Any, x_name: str, out_name: str) -> None:
    x = torch.from_numpy(ramp(5, 13)).to(getattr(torch, x_name))
    out_type = getattr(torch, out_name)
    out = noise(x, 9, dtype=out_type)
    expected = torch.from_numpy(noise(ramp(5, 13), 9)).to(out_type)
    assert isinstance(out, torch.Tensor)
    assert out.dtype == out_type
    assert torch.equal(out, expected)
    assert torch.equal(noise(x, 9, dtype=out_name), expected)
    if x_name == out_name:
        assert torch.equal(noise(x, 9), expected)


@pytest.mark.parametrize(
    "dtype", [np.float64, np.int32, np.bool_, object, np.complex64, ">f4", "S4", np.longdouble]
)
def test_other_types_are_refused(dtype: Any) -> None:
    x = np.zeros((2, 3), dtype=dtype)
    with pytest.raises(TypeError, match=r"^x: expected dtype float32 or float16 or bfloat16, got "):
        noise(x, 2)
    with pytest.raises(TypeError, match=r"^out: expected dtype float32 or float16 or bfloat16"):
        noise(ramp(2, 3), 2, out=np.zeros((2, 2, 3), dtype=dtype))


@pytest.mark.parametrize("dtype", [np.float64, "float64", int, ">f4", "no such type"])
def test_other_result_types_are_refused(torch: Any, dtype: Any) -> None:
    for x in (ramp(3), torch.zeros(3)):
        with pytest.raises(TypeError, match=r"^dtype: expected .*float32"):
            noise(x, 2, dtype=dtype)


def test_a_result_type_that_contradicts_out_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^dtype: expected that of out"):
        noise(ramp(3), 2, out=np.zeros((2, 3), np.float32), dtype=np.float16)
