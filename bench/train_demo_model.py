"""Train the classifier that ``tamis demo`` certifies, and write the files of the package's demo.

    python bench/train_demo_model.py [--out FOLDER]

A small convolutional network learns scikit-learn's handwritten digits (8 x 8, scaled to [0, 1])
with Gaussian noise added to every training image, as Cohen, Rosenfeld and Kolter (2019) train. The
noise level is drawn anew for each image, so that the demo's ``--sigma`` may vary. The last fifth of
the images, in scikit-learn's order, is held out: the demo certifies these.

Written are ``digits.onnx``, ``digits.npz`` (the held-out images X and labels y) and
``training.json``: the recipe, the versions, the accuracies and the hashes of both files. Everything
is seeded and runs on one thread; the same versions on the same kind of CPU give the same files.
Needs torch, onnx, onnxruntime and scikit-learn; takes about a minute.

The ONNX graph is built node by node: that needs no exporter, and it keeps to an opset which every
onnxruntime since 1.17 reads.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import sklearn
import torch
from sklearn.datasets import load_digits
from torch import nn

RECIPE: dict[str, Any] = {
    "seed": 0,
    "train_images": 1437,
    "sigma_lowest": 0.0,
    "sigma_highest": 0.5,
    "epochs": 60,
    "batch": 96,
    "learning_rate": 0.006,
    "weight_decay": 0.01,
}
SIGMAS = (0.12, 0.25, 0.5)
COPIES = 1000  # noisy copies of each held-out image behind the recorded accuracies
OPSET, IR_VERSION = 17, 8
DEFAULT_OUT = Path(__file__).resolve().parents[1] / "python" / "tamis" / "demo"


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def train(X: torch.Tensor, y: torch.Tensor, noise: torch.Generator) -> nn.Sequential:
    torch.manual_seed(RECIPE["seed"])  # the weights at the start
    model = network()
    batch, epochs = RECIPE["batch"], RECIPE["epochs"]
    steps = len(X) // batch
    low, high = RECIPE["sigma_lowest"], RECIPE["sigma_highest"]
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=RECIPE["weight_decay"])
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RECIPE["learning_rate"], total_steps=epochs * steps
    )
    for _ in range(epochs):
        order = torch.randperm(len(X), generator=noise)
        for chosen in order[: steps * batch].reshape(steps, batch):
            sigma = low + (high - low) * torch.rand((batch, 1, 1, 1), generator=noise)
            noisy = X[chosen] + sigma * torch.randn((batch, 1, 8, 8), generator=noise)
            loss = nn.functional.cross_entropy(model(noisy), y[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def to_onnx(model: nn.Sequential) -> bytes:
    """The network as an ONNX file with a free batch dimension."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes: list[Any] = []
    weights: list[Any] = []
    value = "image"
    for position, layer in enumerate(model):
        last = position == len(model) - 1
        result = "logits" if last else f"{type(layer).__name__.lower()}_{position}"
        inputs = [value]
        for name, tensor in layer.named_parameters():
            inputs.append(f"{name}_{position}")
            weights.append(onnx.numpy_helper.from_array(tensor.detach().numpy(), inputs[-1]))
        if isinstance(layer, nn.Conv2d):
            nodes.append(
                helper.make_node(
                    "Conv",
                    inputs,
                    [result],
                    kernel_shape=list(layer.kernel_size),
                    strides=list(layer.stride),
                    pads=[int(p) for p in layer.padding] * 2,
                )
            )
        elif isinstance(layer, nn.Linear):
            nodes.append(helper.make_node("Gemm", inputs, [result], transB=1))
        else:
            operator = {nn.ReLU: "Relu", nn.Flatten: "Flatten"}[type(layer)]
            nodes.append(helper.make_node(operator, inputs, [result]))
        value = result
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", kind, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", kind, ["batch", 10])],
        weights,
    )
    file = helper.make_model(
        graph,
        producer_name="tamis",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    onnx.checker.check_model(file, full_check=True)
    return bytes(file.SerializeToString())


def check(file: bytes, model: nn.Sequential, X: torch.Tensor) -> None:
    """Raise ValueError unless the file answers as the network does, up to rounding."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"image": X.numpy()})
    with torch.no_grad():
        expected = model(X).numpy()
    worst = float(np.abs(got - expected).max() / np.abs(expected).max())
    if got.shape != expected.shape or worst > 1e-5:
        raise ValueError(f"the ONNX file differs from the network by {worst:.2g} of its logits")


def accuracies(
    model: nn.Sequential, X: torch.Tensor, y: torch.Tensor, noise: torch.Generator
) -> dict[str, Any]:
    """Of the plain network on clean and noisy images, and of the vote over `COPIES` copies."""
    with torch.no_grad():
        found: dict[str, Any] = {"clean": share(model(X).argmax(1) == y)}
        for sigma in SIGMAS:
            votes = torch.zeros(len(X), 10)
            for _ in range(COPIES):
                answers = model(X + sigma * torch.randn(X.shape, generator=noise)).argmax(1)
                votes[torch.arange(len(X)), answers] += 1
            right = votes[torch.arange(len(X)), y] / COPIES
            found[f"sigma {sigma:g}"] = {
                "one noisy copy": round(float(right.mean()), 4),
                "vote of the copies": share(votes.argmax(1) == y),
            }
    return found


def share(right: torch.Tensor) -> float:
    return round(float(right.float().mean()), 4)


def npz(path: Path, X: npt.NDArray[Any], y: npt.NDArray[Any]) -> bytes:
    # NumPy dates the members of an archive 1980: the same arrays give the same bytes.
    np.savez_compressed(path, X=X, y=y)
    return path.read_bytes()


def main() -> int:
    parser = argparse.ArgumentParser(description="Train the classifier of tamis demo.")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, metavar="FOLDER")
    out: Path = parser.parse_args().out
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    digits = load_digits()
    # The values are whole sixteenths: exact in float32.
    images = (digits.images / 16.0).astype(np.float32)[:, np.newaxis]
    X, y = torch.from_numpy(images), torch.from_numpy(digits.target.astype(np.int64))
    first = RECIPE["train_images"]
    noise = torch.Generator().manual_seed(RECIPE["seed"])
    began = process_time()
    model = train(X[:first], y[:first], noise)
    print(f"trained in {process_time() - began:.0f} s of CPU time", file=sys.stderr)
    file = to_onnx(model)
    check(file, model, X[first:])

    out.mkdir(parents=True, exist_ok=True)
    (out / "digits.onnx").write_bytes(file)
    stored = npz(out / "digits.npz", images[first:, 0], digits.target[first:].astype(np.uint8))
    record = {
        "made_by": "bench/train_demo_model.py",
        "recipe": RECIPE,
        "parameters": sum(p.numel() for p in model.parameters()),
        "held_out_images": len(X) - first,
        "held_out_accuracy": accuracies(model, X[first:], y[first:], noise),
        "copies": COPIES,
        "versions": {
            "numpy": np.__version__,
            "onnx": onnx.__version__,
            "scikit-learn": sklearn.__version__,
            "torch": torch.__version__,
        },
        "sha256": {
            "digits.npz": hashlib.sha256(stored).hexdigest(),
            "digits.onnx": hashlib.sha256(file).hexdigest(),
        },
    }
    text = json.dumps(record, indent=2) + "\n"
    (out / "training.json").write_text(text)
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
