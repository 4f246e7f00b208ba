"""gaussian_noise: the arrays and numbers it takes, and those it refuses.

Oracle: calls on plain contiguous arrays, which test_gaussian_noise.py compares with the float64
twin; for refusals, the docstring.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tamis
from support import KEY, SEED, SIGMA, noise, ramp, same_bits


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch")


# ---- x -----------------------------------------------------------------------------------------


def test_x_is_never_modified_and_may_be_read_only() -> None:
    x = ramp(3, 5, 7)
    before = x.tobytes()
    x.flags.writeable = False
    noise(x, 3)
    assert x.tobytes() == before


def test_strided_x() -> None:
    dense = ramp(6, 10)
    for x in (dense[::2, 1::3], dense.T, dense[::-1], np.broadcast_to(dense[0], (4, 10))):
        assert same_bits(noise(x, 3), noise(np.array(x), 3))


def test_torch_strides(torch: Any) -> None:
    """Elements are numbered in row-major order of the shape, whatever the memory format."""
    x = torch.from_numpy(ramp(1, 3, 5, 7))
    expected = noise(x, 4)
    last = x.to(memory_format=torch.channels_last)
    assert not last.is_contiguous()
    assert torch.equal(noise(last, 4), expected)
    for view in (x[0].permute(1, 2, 0), x[0, ::2, 1::2], x[0, 0, 0].expand(2, 7)):
        assert torch.equal(
            noise(view, 4), noise(view.clone(memory_format=torch.contiguous_format), 4)
        )


def test_scalar_and_empty() -> None:
    x = np.array(0.5, np.float32)
    assert noise(x, 5).shape == (5,)
    assert same_bits(noise(x, 5), noise(x[None], 5)[:, 0].copy())
    assert noise(np.zeros((3, 0), np.float32), 5).shape == (5, 3, 0)
    assert noise(ramp(3, 5), 0).shape == (0, 3, 5)
    assert noise(ramp(3, 5), 0, start=2**32).shape == (0, 3, 5)
    assert noise(ramp(3, 5), 0, dtype=np.float16).dtype == np.float16
    out = np.empty((0, 3), np.float32)
    assert noise(ramp(3), 0, out=out) is out


def test_torch_scalar_and_empty(torch: Any) -> None:
    assert noise(torch.tensor(0.5), 5).shape == (5,)
    assert noise(torch.zeros(3, 0), 5).shape == (5, 3, 0)
    assert noise(torch.zeros(3, 5), 0).shape == (0, 3, 5)


def test_arrays_of_a_third_library() -> None:
    """Any DLPack producer will do; NumPy exports the memory here, behind another face."""

    class Foreign:
        def __init__(self, array: NDArray[Any]) -> None:
            self.array, self.shape, self.dtype = array, array.shape, array.dtype

        def __dlpack__(self, **options: Any) -> Any:
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self) -> tuple[int, int]:
            return self.array.__dlpack_device__()

    out = np.empty((4, 3, 5), np.float32)
    noise(Foreign(ramp(3, 5)), 4, out=Foreign(out))
    assert same_bits(out, noise(ramp(3, 5), 4))
    with pytest.raises(TypeError, match=r"^out: expected a preallocated array"):
        noise(Foreign(ramp(3, 5)), 4)
    with pytest.raises(TypeError, match=r"^out: expected the array library of the input"):
        noise(Foreign(ramp(3, 5)), 4, out=out)


@pytest.mark.parametrize("x", [[1.0, 2.0], 1.0, np.float32(1), None, "x", memoryview(b"1234")])
def test_not_an_array(x: Any) -> None:
    with pytest.raises(TypeError, match=r"^x: expected a NumPy array, a torch tensor or"):
        noise(x, 2)


def test_unaligned_x_is_refused() -> None:
    x = np.frombuffer(b"\0" * 61, np.uint8)[1:].view(np.float32)
    with pytest.raises(ValueError, match=r"^x: expected an aligned array"):
        noise(x, 2)


def test_torch_refusals(torch: Any) -> None:
    x = torch.zeros(3, 5)
    with pytest.raises(ValueError, match=r"^x: expected a tensor outside autograd.*x\.detach"):
        noise(torch.zeros(3, 5, requires_grad=True), 2)
    with pytest.raises(ValueError, match=r"^out: expected a tensor outside autograd"):
        noise(x, 2, out=torch.zeros(2, 3, 5, requires_grad=True))
    with pytest.raises(ValueError, match=r"^x: expected .*meta"):
        noise(torch.zeros(3, 5, device="meta"), 2)
    with pytest.raises(ValueError, match=r"^out: expected .*meta"):
        noise(x, 2, out=torch.zeros(2, 3, 5, device="meta"))
    with pytest.raises(ValueError, match=r"^x: expected a dense tensor, got .*sparse"):
        noise(x.to_sparse(), 2)
    with pytest.raises(TypeError, match=r"^x: expected dtype float32"):
        noise(x.double(), 2)
    for mixed_x, mixed_out in ((x, np.zeros((2, 3, 5), np.float32)), (ramp(3, 5), x)):
        with pytest.raises(TypeError, match=r"^out: expected the array library of the input"):
            noise(mixed_x, 2, out=mixed_out)


# ---- out ---------------------------------------------------------------------------------------


def test_out_is_filled_and_returned() -> None:
    x = ramp(3, 5)
    out = np.full((4, 3, 5), np.nan, np.float32)
    assert noise(x, 4, out=out) is out
    assert same_bits(out, noise(x, 4))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_out_with_room_between_rows(dtype: Any) -> None:
    """A slice of a larger batch: the rest of the buffer keeps its values."""
    x = ramp(37)
    buffer = np.full((11, 50), -77, dtype)
    noise(x, 5, out=buffer[2:7, 4:41])
    expected = np.full((11, 50), -77, dtype)
    expected[2:7, 4:41] = noise(x, 5, dtype=dtype)
    assert same_bits(buffer, expected)
    noise(x, 5, out=buffer[1:10:2, 13:])
    expected[1:10:2, 13:] = noise(x, 5, dtype=dtype)
    assert same_bits(buffer, expected)


def test_torch_out(torch: Any) -> None:
    x = torch.from_numpy(ramp(3, 5))
    buffer = torch.full((9, 3, 5), -77.0)
    view = buffer[2:8:2]
    assert noise(x, 3, out=view) is view
    expected = torch.full((9, 3, 5), -77.0)
    expected[2:8:2] = noise(x, 3)
    assert torch.equal(buffer, expected)


def test_unfit_out_is_refused_and_left_alone() -> None:
    x = ramp(3, 5)
    locked = np.zeros((4, 3, 5), np.float32)
    locked.flags.writeable = False
    with pytest.raises(ValueError, match=r"^out: expected a writable array"):
        noise(x, 4, out=locked)
    assert not locked.any()
    for shape in ((4, 15), (3, 3, 5), (4, 5, 3), (4, 3, 5, 1)):
        with pytest.raises(ValueError, match=r"^out: expected shape \(4, 3, 5\)"):
            noise(x, 4, out=np.zeros(shape, np.float32))
    buffer = np.zeros((8, 5, 6), np.float32)
    for out in (buffer[3::-1, :3, :5], buffer[:4, :3, :5], buffer[:4].transpose(0, 2, 1)[:, :3]):
        with pytest.raises(ValueError, match=r"^out: expected dense rows"):
            noise(x, 4, out=out)
    with pytest.raises(TypeError, match=r"^out: expected a NumPy array, a torch tensor or"):
        noise(x, 4, out=[1.0])


def test_rows_of_out_must_not_overlap_each_other() -> None:
    flat = np.zeros(20, np.float32)
    rows = np.lib.stride_tricks.as_strided(flat, (4, 5), (8, 4))
    with pytest.raises(ValueError, match=r"^out: expected dense rows"):
        noise(ramp(5), 4, out=rows)


def test_out_that_overlaps_x_is_refused() -> None:
    batch = np.zeros((5, 3, 7), np.float32)
    with pytest.raises(ValueError, match="overlapping memory"):
        noise(batch[1], 4, out=batch[:4])
    with pytest.raises(ValueError, match="overlapping memory"):
        noise(batch[3], 4, out=batch[:4])
    assert not batch.any()
    noise(batch[4], 4, out=batch[:4])  # side by side is not overlap
    assert batch[:4].all()


def test_out_that_overlaps_a_strided_x_is_refused(torch: Any) -> None:
    """x is copied first, so the noise would come out right; but x would be modified."""
    batch = np.zeros((5, 8), np.float32)
    for x, out in ((batch[:, 0], batch[:4, :5]), (batch[:, 7], batch[1:, 3:])):
        with pytest.raises(ValueError, match="overlapping memory"):
            noise(x, 4, out=out)
        with pytest.raises(ValueError, match="overlapping memory"):
            noise(torch.from_numpy(batch).as_strided(x.shape, (8,)), 4, out=torch.from_numpy(out))
    assert not batch.any()


# ---- numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("sigma", float("nan"), ValueError),
        ("sigma", -0.1, ValueError),
        ("sigma", float("inf"), ValueError),
        ("sigma", 1e39, ValueError),  # finite, but not as a float32
        ("sigma", None, TypeError),
        ("sigma", "0.5", TypeError),
        ("sigma", 1j, TypeError),
        ("sigma", np.array([0.5, 1.0]), TypeError),
        ("seed", -1, ValueError),
        ("seed", 2**64, ValueError),
        ("seed", True, TypeError),
        ("seed", 1.0, TypeError),
        ("seed", "1", TypeError),
        ("seed", None, TypeError),
        ("image", -1, ValueError),
        ("image", 2**32, ValueError),
        ("image", 0.0, TypeError),
        ("stream", -1, ValueError),
        ("stream", 2**32, ValueError),
        ("stream", np.bool_(True), TypeError),
        ("start", -1, ValueError),
        ("start", 2**32 - 1, ValueError),  # start + n = 2^32 + 1
        ("start", 0.0, TypeError),
        ("n", -1, ValueError),
        ("n", 2**32 + 1, ValueError),
        ("n", 2.0, TypeError),
        ("num_threads", 0, ValueError),
        ("num_threads", -1, ValueError),
        ("num_threads", 1.5, TypeError),
    ],
)
def test_numbers_out_of_contract(name: str, value: Any, error: type[Exception]) -> None:
    arguments: dict[str, Any] = {"n": 2, "sigma": SIGMA, **KEY, name: value}
    with pytest.raises(error, match=rf"\b{name}\b"):
        tamis.gaussian_noise(ramp(3), **arguments)


def test_integers_of_other_types_are_integers() -> None:
    x = ramp(9)
    expected = tamis.gaussian_noise(x, 2, 0.5, seed=3, start=2**32 - 2)
    numbers: dict[str, Any] = {"seed": np.int64(3), "start": np.uint64(2**32 - 2)}
    n: Any = np.int32(2)
    assert same_bits(tamis.gaussian_noise(x, n, np.float64(0.5), **numbers), expected)
    assert same_bits(noise(x, 1, seed=np.uint64(SEED)), noise(x, 1))


def test_the_seed_must_be_given_by_name() -> None:
    call: Any = tamis.gaussian_noise
    with pytest.raises(TypeError, match="seed"):
        call(ramp(3), 2, 0.5)
    with pytest.raises(TypeError, match="positional"):
        call(ramp(3), 2, 0.5, 1)
