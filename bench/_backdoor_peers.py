"""The other two parts of bench/backdoor.py: scores on stored embeddings, and speed and memory."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

import _peak_memory
import _timing
from _data import require_data_dir
from tamis.backdoor import ActivationClustering, SpectralSignatures, Spectre

TABLES = ("CIFAR10_0_f16_sub2632", "MVTec-AD_bottle")
SHARE = 0.05  # what the detectors are told for both; the second has 22%


def art_scores(X: Any) -> Any:
    """As adversarial-robustness-toolbox has it: the projection of rows that are not centred.

    The toolbox itself where it is installed, else the same by hand.
    """
    try:
        from art.defences.detector.poison import SpectralSignatureDefense
    except ImportError:
        v = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)[2][0]
        return np.abs(X @ v)
    return SpectralSignatureDefense.spectral_signature_scores(X).ravel()


def mahalanobis(X: Any) -> Any:
    gap = X - X.mean(axis=0)
    return np.einsum("ij,ij->i", gap @ np.linalg.pinv(np.cov(gap, rowvar=False)), gap)


def isolation_forest(X: Any) -> Any:
    from sklearn.ensemble import IsolationForest

    return -IsolationForest(random_state=0).fit(X).score_samples(X)


def detected(detector: Any) -> Any:
    return lambda X: detector.fit(X, np.zeros(len(X), int)).scores_


SCORES = {
    "tamis Spectre": detected(Spectre(SHARE)),
    "tamis Spectre, all directions": detected(Spectre(SHARE, k="all")),
    "tamis SpectralSignatures": detected(SpectralSignatures(SHARE)),
    "tamis SpectralSignatures, k = 10": detected(SpectralSignatures(SHARE, k=10)),
    "tamis ActivationClustering": detected(ActivationClustering(SHARE)),
    "Mahalanobis": mahalanobis,
    "l2": lambda X: np.square(X - X.mean(axis=0)).sum(axis=1),
    "isolation forest": isolation_forest,
    "ART SpectralSignatureDefense": art_scores,
}


def embeddings() -> dict[str, dict[str, float]]:
    """AUC by table and scores."""
    from sklearn.metrics import roc_auc_score

    folder = require_data_dir() / "embeddings"
    found: dict[str, dict[str, float]] = {}
    for name in TABLES:
        with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
            X, y = file["X"].astype(np.float64), file["y"].ravel().astype(int)
        found[name] = {key: float(roc_auc_score(y, call(X))) for key, call in SCORES.items()}
    return found


def embeddings_table(found: dict[str, dict[str, float]]) -> str:
    names = next(iter(found.values()))
    rows = [[name, *(f"{by[name]:.3f}" for by in found.values())] for name in names]
    return _timing.markdown(["AUC", *found], rows)


def network_like(n: int, d: int) -> tuple[Any, Any, int]:
    """Rows after a ReLU with a spectrum that falls like 1 / j; poison in class 3."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0].astype(np.float32)
    X = np.empty((n, d), np.float32)
    deviations = (5.0 * np.arange(1, d + 1) ** -0.5).astype(np.float32)
    for start in range(0, n, 4096):
        part = X[start : start + 4096]
        part[:] = (rng.standard_normal(part.shape, np.float32) * deviations) @ turn + 0.3
        np.maximum(part, 0.0, out=part)
    labels = rng.permutation(n) % 10
    X[np.flatnonzero(labels == 3)[: n // 200], :20] += 1.0
    return X, labels, 3


def speed(args: argparse.Namespace) -> dict[str, Any]:
    """CPU time on one thread against the recipe of a full SVD a class; memory beyond the rows."""
    from threadpoolctl import threadpool_limits

    n, d = (10_000, 128) if args.quick else (50_000, 512)
    X, labels, _ = network_like(n, d)

    def recipe() -> Any:
        scores = np.empty(n)
        for label in range(10):
            members = np.flatnonzero(labels == label)
            gap = X[members] - X[members].mean(axis=0)
            v = np.linalg.svd(gap, full_matrices=False)[2][0]
            scores[members] = np.square(gap @ v)
        return scores

    def check() -> None:
        expected = recipe()
        found = SpectralSignatures(SHARE, n_jobs=1).fit(X, labels).scores_
        if not np.abs(found - expected).max() < 0.02 * expected.max():
            raise SystemExit("scores differ from those of the SVD: nothing is timed")

    calls = {
        "tamis SpectralSignatures": lambda: SpectralSignatures(SHARE, n_jobs=1).fit(X, labels),
        "full SVD a class": recipe,
        "tamis Spectre": lambda: Spectre(SHARE, n_jobs=1).fit(X, labels),
        "tamis Spectre, all directions": lambda: Spectre(SHARE, k="all").fit(X, labels),
    }
    args.cpu_time = True
    with threadpool_limits(1):
        times = _timing.interleave(
            calls, check=check, rounds=3 if args.quick else 7, warmup=1,
            clock=_timing.clock_for(args),
        )  # fmt: skip
    seconds = {name: _timing.spread(values) for name, values in times.items()}
    gain = {
        name: _timing.spread(_timing.ratios(times, "full SVD a class", name))
        for name in calls
        if name.startswith("tamis")
    }
    grown = _peak_memory.growth("SpectralSignatures.fit", n, d, "float32")
    return {
        "rows": n, "columns": d, "seconds": seconds, "times_as_fast_as_svd": gain,
        "memory_beyond_rows": grown / X.nbytes,
    }  # fmt: skip


def speed_text(found: dict[str, Any]) -> str:
    lines = [f"{found['rows']} x {found['columns']} float32, 10 classes, CPU time on one thread"]
    for name, seconds in found["seconds"].items():
        text = f"{name}: {seconds['median']:.3f} s"
        if name in found["times_as_fast_as_svd"]:
            gain = found["times_as_fast_as_svd"][name]
            text += (
                f", {gain['median']:.1f} ({gain['quartile_1']:.1f} to {gain['quartile_3']:.1f}) "
                "times as fast as the SVD"
            )
        lines.append(text)
    lines.append(f"SpectralSignatures: {100 * found['memory_beyond_rows']:.1f}% beyond the rows")
    return "\n".join(lines)
