"""The state of a training run in one file: written whole or not at all, read as plain tensors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import torch

__all__ = ["KEYS", "load_checkpoint", "rng_state", "save_checkpoint", "set_rng_state"]

KEYS: Final = (
    *("recipe", "model", "optimizer", "scaler", "rng", "epoch_rng"),
    *("epoch", "step", "done", "total", "seconds", "history"),
)


def rng_state() -> dict[str, torch.Tensor]:
    """State of torch's generators, of the CPU and of the current CUDA device."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_rng_state(state: dict[str, torch.Tensor]) -> None:
    """Put back what `rng_state` gave."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write beside `path` and rename: a crash leaves the older file."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    torch.save(state, draft)
    draft.replace(path)


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint; only tensors and plain values are accepted (``weights_only``)."""
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises RuntimeError, UnpicklingError, EOFError and others
        raise ValueError(f"{path}: expected a checkpoint of tamis, got {error}") from error
    missing = [key for key in KEYS if not isinstance(state, dict) or key not in state]
    if missing:
        raise ValueError(
            f"{path}: expected a checkpoint of tamis, got a file without {missing[0]!r}"
        )
    # generator states live on the CPU whatever the device
    for key in ("rng", "epoch_rng"):
        state[key] = {name: tensor.cpu() for name, tensor in state[key].items()}
    return state
