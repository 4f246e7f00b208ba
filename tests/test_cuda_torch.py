"""torch tensors on the emulated device: results, streams, refusals.

Oracle: the CPU result, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tamis
from cuda_emulation.backends import EmulatedBackend
from support import KEY, SIGMA, noise, ramp, same_bits

pytest_plugins = ["cuda_emulation.fixtures"]
torch = pytest.importorskip("torch")


@pytest.fixture
def device(cuda: EmulatedBackend) -> Iterator[Any]:
    from cuda_emulation.torch_arrays import emulated_torch

    with emulated_torch(cuda.emulator) as device:
        yield device


def test_the_stand_in_behaves_like_a_tensor(device: Any) -> None:
    """Views share memory, new tensors stay on the device, and only .cpu() leads to the host."""
    x = torch.arange(12.0, device=device).reshape(3, 4)
    assert isinstance(x, torch.Tensor)
    assert (x.is_cuda, str(x.device), tuple(x.shape)) == (True, "cuda:0", (3, 4))
    x[1] = 9
    assert x[1:].data_ptr() == x.data_ptr() + 16
    total = (2 * x + 1).sum(dim=1)
    assert total.is_cuda
    assert total.cpu().tolist() == [16, 76, 80]
    with pytest.raises(TypeError, match="numpy"):
        total.numpy()
    with pytest.raises(RuntimeError, match="same device"):
        x + torch.ones(4)
    assert torch.ones(3).to(device).is_cuda
    assert not x.to("cpu").is_cuda


def test_reading_what_nobody_wrote(device: Any) -> None:
    from cuda_emulation.emulator import EmulationError

    with pytest.raises(EmulationError, match="never written"):
        torch.empty(3, device=device).cpu()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_gaussian_noise(device: Any, dtype: str) -> None:
    x = torch.from_numpy(ramp(3, 5, 7)).to(getattr(torch, dtype))
    result = noise(x.to(device), 4)
    assert result.is_cuda
    assert result.dtype == x.dtype
    assert torch.equal(result.cpu(), noise(x, 4))


def test_normalised_noise(device: Any) -> None:
    x, constants = ramp(3, 5, 7), {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]}
    result = noise(torch.from_numpy(x).to(device), 4, **constants)
    assert same_bits(result.cpu().numpy(), noise(x, 4, **constants))


def test_strided_input_and_output(device: Any) -> None:
    """A strided x is copied on the device; rows of a larger batch are written in place."""
    x = ramp(6, 10)
    batch = torch.zeros(9, 5, 6, device=device)
    turned = torch.from_numpy(x).to(device)[:, ::2].T
    noise(turned, 4, out=batch[3:7])
    expected = noise(np.ascontiguousarray(x[:, ::2].T), 4)
    assert same_bits(batch.cpu().numpy()[3:7], expected)
    assert (batch.cpu().numpy()[[0, 1, 2, 7, 8]] == 0).all()


def test_vote_counts(device: Any) -> None:
    logits = np.random.default_rng(0).standard_normal((50, 7)).astype(np.float32)
    counts = tamis.vote_counts(torch.from_numpy(logits).to(device))
    assert counts.is_cuda
    assert counts.cpu().tolist() == tamis.vote_counts(logits).tolist()


def test_work_goes_to_the_current_stream(
    cuda: EmulatedBackend, device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the tensors are handed over for that stream."""
    from cuda_emulation.arrays import CudaArray

    class Stream:
        cuda_stream = cuda.emulator.create_stream()

    monkeypatch.setattr("torch.cuda.current_stream", lambda device: Stream)
    x = torch.ones(100, device=device)
    CudaArray.dlpack_streams.clear()
    report = cuda.measure(lambda: noise(x, 3))
    assert {launch.stream for launch in report.launches} == {Stream.cuda_stream}
    assert set(CudaArray.dlpack_streams) == {Stream.cuda_stream}


def test_a_stream_that_is_gone(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stream:
        cuda_stream = 0xBAD

    monkeypatch.setattr("torch.cuda.current_stream", lambda device: Stream)
    with pytest.raises(RuntimeError, match="cudaErrorInvalidResourceHandle"):
        noise(torch.ones(100, device=device), 3)


def test_refusals(cuda: EmulatedBackend, device: Any) -> None:
    x = torch.ones(8, device=device)
    with pytest.raises(ValueError, match=r"x: .*requires_grad"):
        noise(torch.ones(8, device=device).requires_grad_(), 3)
    with pytest.raises(ValueError, match="out: expected device cuda:0, got cpu"):
        noise(x, 3, out=torch.empty(3, 8))
    with pytest.raises(TypeError, match="out: expected the array library"):
        noise(x, 3, out=np.empty((3, 8), np.float32))
    cuda.emulator.reset(devices=2, architecture=cuda.architecture)
    with pytest.raises(ValueError, match="out: expected device cuda:0, got cuda:1"):
        noise(torch.ones(8, device=device), 3, out=torch.empty(3, 8, device="cuda:1"))


def test_sigma_and_key_reach_the_kernel(device: Any) -> None:
    x = ramp(9)
    for arguments in ({"seed": 0}, {**KEY, "start": 5}, {**KEY, "image": 1}):
        result = tamis.gaussian_noise(torch.from_numpy(x).to(device), 2, SIGMA, **arguments)
        assert same_bits(result.cpu().numpy(), tamis.gaussian_noise(x, 2, SIGMA, **arguments))
