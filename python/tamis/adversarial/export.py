"""A trained network as an ONNX file for ``tamis certify``."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

__all__ = ["export_onnx"]


def export_onnx(model: torch.nn.Module, path: str | os.PathLike[str], shape: Sequence[int]) -> Path:
    """Write a network as an ONNX file with a free batch dimension, and check what it answers.

    Parameters
    ----------
    model : torch.nn.Module
        Exported in eval mode; left as it was.
    path : path-like
    shape : sequence of int
        Of an image, without the batch axis.

    Returns
    -------
    Path

    Raises
    ------
    ImportError
        Without onnx.
    ValueError
        If onnxruntime, where it is installed, answers differently by more than 1e-4 of the largest
        logit.
    """
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise ImportError("ONNX export needs onnx: python -m pip install 'tamis[onnx]'") from error
    target = Path(path)
    first = next(model.parameters(), torch.zeros(0))
    example = torch.rand((2, *shape), generator=torch.Generator().manual_seed(0)).to(first)
    training = model.training
    model.eval()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the exporter's advice to its own users
            torch.onnx.export(
                model,
                (example,),
                str(target),
                input_names=["image"],
                output_names=["logits"],
                dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
                dynamo=False,
            )
            expected = model(example).float().cpu().numpy()
    finally:
        model.train(training)
    try:
        import onnxruntime
    except ImportError:
        return target
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"image": example.cpu().numpy()})
    if np.abs(got - expected).max() > 1e-4 * max(1.0, float(np.abs(expected).max())):
        raise ValueError(f"{target}: the file answers differently from the network")
    return target
