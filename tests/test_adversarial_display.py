"""The progress of a training run on stderr; the clock is the test's own."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tamis import _progress as progress
from tamis import adversarial

pytestmark = pytest.mark.usefixtures("one_torch_thread")
OPTIONS: dict[str, Any] = {"sigma": 0.1, "num_noise": 1, "batch_size": 16, "progress": True}


def network() -> torch.nn.Module:
    return adversarial.build("mlp", (1, 4, 4), 3)


def data() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand((40, 1, 4, 4), generator=torch.Generator().manual_seed(1)), torch.arange(
        40
    ) % 3


@pytest.fixture
def five_seconds_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count(0, 5)
    monkeypatch.setattr(progress, "perf_counter", lambda: float(next(ticks)))


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return re.sub(r"loss [0-9.]+", "loss L", capsys.readouterr().err).splitlines()


@pytest.mark.usefixtures("five_seconds_a_batch")
def test_lines_with_the_time_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: 3 batches an epoch of 5 s each, a line every 15 s; a resumed run has less to do."""
    options = {**OPTIONS, "out": tmp_path}
    adversarial.train(network(), data(), "gaussian", epochs=3, **options)
    assert lines(capsys) == [
        "tamis train: 0 of 3 epochs, about 30.0 s left",
        "tamis train: 1 of 3 epochs, loss L, about 15.0 s left",
        "tamis train: 2 of 3 epochs, loss L, about 0.0 s left",
    ]
    adversarial.train(network(), data(), "gaussian", epochs=5, **options)
    assert lines(capsys)[0] == "tamis train: 3 of 5 epochs, about 15.0 s left"


class Nameless:
    """Batches that can be iterated again, but not counted."""

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        x, y = data()
        return iter([(x[:20], y[:20]), (x[20:], y[20:])])


@pytest.mark.usefixtures("five_seconds_a_batch")
def test_loader_without_a_length_counts_epochs(capsys: pytest.CaptureFixture[str]) -> None:
    adversarial.finetune(network(), Nameless(), "gaussian", epochs=4, **OPTIONS)
    assert lines(capsys) == ["tamis train: 3 of 4 epochs, loss L, about 5.0 s left"]


def test_bar_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rich")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data()), batch_size=8)
    adversarial.train(network(), loader, "gaussian", epochs=2, **OPTIONS)
    shown = capsys.readouterr().err
    assert "2/2 epochs" in shown
    assert "100%" in shown
    assert "loss" in shown


def test_nothing_unless_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet in (None, False):
        adversarial.train(network(), data(), "gaussian", epochs=1, **{**OPTIONS, "progress": quiet})
    assert capsys.readouterr().err == ""
