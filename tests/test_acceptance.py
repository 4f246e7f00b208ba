"""The command a user would type, on a real network and real images, at its real size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tamis import analysis
from tamis.cli import main

# Certified accuracy of this network at sigma 0.12 with n = 2000 on these 100 images, measured with
# independent code (data/README.md).
RADII = np.arange(0.0, 0.31, 0.05)
MEASURED = np.array([0.78, 0.76, 0.73, 0.67, 0.60, 0.56, 0.50])


@pytest.mark.slow
def test_resnet4b_on_cifar10_gives_the_measured_accuracies(data_dir: Path, tmp_path: Path) -> None:
    """Oracle: the table above. Both it and this run are Monte Carlo estimates on the same images.

    An image changes sides at a radius only if its estimated probability lies within sampling error
    of the threshold. That error is at most .5 / sqrt(2000) = .011 a run, so a band of +- 5 errors
    of the difference is +- .08 in probability; published curves of this network fall by at most
    .35 a unit of probability there, which makes .03 on 100 images. The seed is fixed.
    """
    pytest.importorskip("onnxruntime")
    log = tmp_path / "log.tsv"
    arguments = [
        *("certify", str(data_dir / "models" / "cifar10_resnet4b.onnx")),
        *("--data", str(data_dir / "vision" / "cifar10" / "cifar10_test_first100_exact.npz")),
        *("--sigma", "0.12", "--n", "2000"),
        *("--mean", ".4914", ".4822", ".4465", "--std", ".2471", ".2435", ".2616"),
    ]
    assert main([*arguments, "--out", str(log)]) == 0
    accuracy = analysis.certified_accuracy(analysis.load_log(log), RADII)
    assert np.abs(accuracy - MEASURED).max() <= 0.03
