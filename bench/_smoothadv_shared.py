"""The images of the SmoothAdv benchmarks, and how their networks are judged."""

from __future__ import annotations

from typing import Any

import numpy as np

from _data import require_data_dir

RADII = np.arange(41) / 10  # of the stored curves


def mnist() -> tuple[Any, Any]:
    """(10000, 1, 28, 28) float32 in [0, 1], and labels."""
    from tamis.smoothing import load_images

    (path,) = (require_data_dir() / "vision" / "mnist").glob("*images*")
    data = load_images(path)
    return data.images[:, None].astype(np.float32) / 255, data.labels


def certified(network: Any, sigma: float, X: Any, y: Any, copies: int, device: str) -> Any:
    """Radius of every image, -1 where the answer is wrong or none."""
    from tamis.smoothing import Smooth

    smooth = Smooth(network, 10, sigma, seed=2024)
    found = smooth.certify_batch(X, 100, copies, 0.001, 50_000 if device != "cpu" else 1000)
    return np.where(found.prediction == y, found.radius, -1.0)


def curve_of(radius: Any) -> tuple[float, str]:
    """Average certified radius, and certified accuracy at `RADII`."""
    curve = (radius[:, None] >= RADII).mean(axis=0)
    return float(np.maximum(radius, 0).mean()), " ".join(f"{value:.4f}" for value in curve)
