"""Smooth on an emulated CUDA device: one batch ahead, one transfer a batch, errors as on the CPU.

Oracle: the same certificates from the CPU, field by field.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from cuda_emulation.backends import EmulatedBackend
from support import images
from tamis.smoothing import Smooth, identity, sampling
from tamis.smoothing.sampling import VoteSampler

pytest_plugins = ["cuda_emulation.fixtures"]
torch = pytest.importorskip("torch")
PIXELS = images(4, shape=(2, 4, 4))
KEYWORDS: dict[str, Any] = {"mean": [0.4, 0.5], "std": [0.2, 0.3]}


@pytest.fixture
def device(emulated_90: EmulatedBackend) -> Iterator[Any]:
    from cuda_emulation.torch_arrays import emulated_torch

    identity._torch_weights.cache_clear()  # they lie on a machine that has been reset
    with emulated_torch(emulated_90.emulator) as device:
        yield device
        identity._torch_weights.cache_clear()


class Brightness:
    """Logits on the device of the batch. From call `broken_from` on, row 3 is NaN."""

    num_classes = None

    def __init__(self, device: Any, broken_from: int | None = None) -> None:
        self.device, self.calls, self.broken_from = device, 0, broken_from
        self.mean, self.std = np.array([0.4, 0.5]), np.array([0.2, 0.3])

    def prepare(self, x: Any) -> Any:
        tensor = x if isinstance(x, torch.Tensor) else torch.from_numpy(np.asarray(x))
        return tensor.to(self.device)

    def empty(self, shape: tuple[int, ...]) -> Any:
        return torch.empty(shape, device=self.device)

    def logits(self, batch: Any, *, normalized: bool = False) -> Any:
        assert normalized
        self.calls += 1
        total = batch.reshape(len(batch), -1).double().sum(dim=1) - 8.0
        logits = torch.stack([total, -total], dim=1)
        if self.broken_from is not None and self.calls > self.broken_from:
            logits[3, 1] = float("nan")
        return logits


def certified(device: Any, batch_size: int, **options: Any) -> list[Any]:
    smooth = Smooth(Brightness(device), 2, 0.5, seed=3)
    rows = smooth.certify_iter(PIXELS, 10, 45, 0.01, batch_size, **options)
    return [(row.selection_counts.tolist(), row.counts.tolist(), row.radius) for row in rows]


@pytest.mark.parametrize("batch_size", [41, 55, 80])
def test_same_certificates(device: Any, batch_size: int) -> None:
    progress: list[int] = []
    on_device = certified(device, batch_size, progress=progress.append)
    assert on_device == certified("cpu", batch_size)
    assert sum(progress) == 4 * 55
    assert max(progress) == batch_size
    assert certified(device, batch_size, first=2) == on_device[2:]


def test_one_transfer_a_batch(emulated_90: EmulatedBackend, device: Any) -> None:
    """The extension itself neither waits nor copies: its launches follow one another."""
    report = emulated_90.measure(lambda: certified(device, 80))
    calls = [call.name for call in report.calls]
    assert not [name for name in calls if "Memcpy" in name or "StreamSynchronize" in name]


@pytest.mark.parametrize("kind", ["host", "tensor", "list", "generator"])
def test_only_counts_leave_the_device(device: Any, kind: str, monkeypatch: Any) -> None:
    """One transfer a batch, wherever images come from: range and number of an image go with it."""
    from cuda_emulation.torch_arrays import transfers

    monkeypatch.setattr(sampling, "_FACTS_ELEMENTS", 3 * PIXELS[0].size)  # in two pieces
    expected = certified("cpu", 80)
    resident = torch.from_numpy(PIXELS).to(device)
    given = {
        "host": PIXELS,
        "tensor": resident,
        "list": list(resident),
        "generator": iter(resident),
    }
    transfers.clear()
    smooth = Smooth(Brightness(device), 2, 0.5, seed=3)
    rows = list(smooth.certify_iter(given[kind], 10, 45, 0.01, 80))
    assert transfers == ["to"] * 3
    assert [(r.selection_counts.tolist(), r.counts.tolist(), r.radius) for r in rows] == expected


def test_given_numbers_of_images_on_the_device(device: Any) -> None:
    def rows(pixels: Any) -> Any:
        smooth = Smooth(Brightness(pixels.device), 2, 0.5, seed=3)
        found = smooth.certify_iter(pixels, 10, 45, 0.01, 80, image_ids=[5, 5, 2**32 - 1, 0])
        return [(row.selection_counts.tolist(), row.counts.tolist()) for row in found]

    pixels = torch.from_numpy(PIXELS)
    assert rows(pixels.to(device)) == rows(pixels)


def test_one_batch_ahead(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts of a batch are taken in after the next one has been enqueued."""
    events: list[str] = []
    enqueue, take_in = VoteSampler._enqueue, VoteSampler._take_in

    def noted_enqueue(self: Any, *args: Any) -> Any:
        events.append("enqueue")
        return enqueue(self, *args)

    def noted_take_in(self: Any, *args: Any) -> None:
        events.append("take in")
        take_in(self, *args)

    monkeypatch.setattr(VoteSampler, "_enqueue", noted_enqueue)
    monkeypatch.setattr(VoteSampler, "_take_in", noted_take_in)
    certified(device, 80)
    assert events == ["enqueue", "enqueue", "take in", "enqueue", "take in", "take in"]
    events.clear()
    certified("cpu", 80)
    assert events == ["enqueue", "take in"] * 3


def until_it_fails(rows: Iterator[Any]) -> tuple[int, str]:
    """How many results came before the error, and what that says."""
    done = 0
    try:
        for _ in rows:
            done += 1
    except ValueError as error:
        return done, str(error)
    return done, ""


def test_nan_is_named_as_on_the_cpu(device: Any) -> None:
    def failure(where: Any) -> tuple[int, str]:
        smooth = Smooth(Brightness(where, broken_from=1), 2, 0.5, seed=3)
        return until_it_fails(smooth.certify_iter(PIXELS, 10, 45, 0.01, 63))

    assert failure(device) == failure("cpu")
    # Row 3 of the second batch: 66 samples before it, of which 55 are of image 0.
    assert "the classifier returned NaN for image 1, estimation sample 1;" in failure(device)[1]


@pytest.mark.parametrize("position", [0, 1, 2, 3])
@pytest.mark.parametrize("batch_size", [41, 55, 63])
@pytest.mark.parametrize("value", [2.0, float("nan")])
def test_what_is_complete_comes_before_a_bad_image(
    device: Any, position: int, batch_size: int, value: float
) -> None:
    """Also where the image lies on the device, which does not wait for the verdict."""
    pixels = PIXELS.copy()
    pixels[position, 0, 0, 0] = value

    def failure(where: Any, given: Any) -> tuple[int, str]:
        smooth = Smooth(Brightness(where), 2, 0.5, seed=3)
        return until_it_fails(smooth.certify_iter(given, 10, 45, 0.01, batch_size))

    expected = failure("cpu", pixels)
    assert failure(device, pixels) == expected
    assert failure(device, torch.from_numpy(pixels).to(device)) == expected
    wrong = "values in" if value == 2.0 else "finite values"
    assert expected[1].startswith(f"image {position}: expected {wrong}")
    if batch_size == 55:
        assert expected[0] == position


def test_nan_of_an_image_on_the_device_names_its_noise(device: Any) -> None:
    """The number of the image is known by then."""

    def failure(where: Any) -> str:
        smooth = Smooth(Brightness(where, broken_from=1), 2, 0.5, seed=3)
        given = torch.from_numpy(PIXELS).to(where)
        return until_it_fails(smooth.certify_iter(given, 10, 45, 0.01, 63))[1]

    assert failure(device) == failure("cpu")
    assert f"image={identity.image_id(PIXELS[1])}, " in failure(device)
