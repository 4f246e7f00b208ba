"""ONNX files and sessions: real models, batch sizes freed from the file, and those that cannot be.

Oracle: onnxruntime on the file as it is, in batches of the size written in it.  Tolerance: two runs
order their sums differently; L layers with n products a sum err by 8 sqrt(L) sqrt(n) eps of the
largest logit.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tamis.smoothing.classifiers import PerformanceWarning, as_classifier
from tamis.smoothing.datasets import load_images

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
helper, numpy_helper = onnx.helper, onnx.numpy_helper

MODELS = {  # file: layers, most products in a sum, right on the 100 exact images, mean, std
    "cifar10_resnet2b": (9, 1152, 77, (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
    "cifar10_resnet4b": (14, 2048, 81, (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
    "cifar10_oval_base_kw": (4, 2048, 73, (0.485, 0.456, 0.406), 0.225),
    "cifar10_oval_deep_kw": (6, 2048, 58, (0.485, 0.456, 0.406), 0.225),
}
FLOAT, HALF, DOUBLE = 1, 10, 11  # onnx.TensorProto
NUMPY = {FLOAT: np.float32, HALF: np.float16, DOUBLE: np.float64}


def close(got: Any, expected: Any, layers: int = 3, products: int = 64, eps: float = 0.0) -> bool:
    eps = eps or float(np.finfo(np.float32).eps)
    tolerance = 8 * np.sqrt(layers * products) * eps * float(np.abs(expected).max())
    return got.shape == expected.shape and bool(np.abs(got - expected).max() <= tolerance)


@pytest.mark.parametrize("name", MODELS)
def test_real_model(data_dir: Path, name: str) -> None:
    """A batch of 7 gives what the file gives one by one, and the accuracy is the model's own."""
    layers, products, right, mean, std = MODELS[name]
    path = data_dir / "models" / f"{name}.onnx"
    classifier = as_classifier(path, mean=mean, std=std)
    assert classifier.num_classes == 10
    test_images = load_images(data_dir / "vision" / "cifar10" / "cifar10_test_first100_exact.npz")
    x = np.stack([test_images[i] for i in range(100)])

    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    normal = (x - np.float32(mean).reshape(3, 1, 1)) / np.float32(std).reshape(-1, 1, 1)
    one_by_one = [session.run(None, {session.get_inputs()[0].name: row[None]})[0] for row in normal]
    expected = np.concatenate(one_by_one)
    assert (expected.argmax(1) == test_images.labels).sum() == right

    assert close(np.asarray(classifier.logits(x[:7].copy())), expected[:7], layers, products)
    logits = np.asarray(classifier.logits(x.copy()))
    assert logits.dtype == np.float32
    assert close(logits, expected, layers, products)
    assert (logits.argmax(1) == test_images.labels).sum() == right


# --- small graphs --------------------------------------------------------------------------------


def graph(
    nodes: list[Any],
    constants: dict[str, Any],
    shape: list[Any],
    out_shape: list[Any],
    kind: int = FLOAT,
) -> Any:
    """Return a model from input ``x`` to one output; constants take the dtype of the input."""
    tensors = []
    for name, value in constants.items():
        array = np.asarray(value)
        array = array if array.dtype == np.int64 else array.astype(NUMPY[kind])
        tensors.append(numpy_helper.from_array(array, name))
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("logits", kind, out_shape)],
        tensors,
        value_info=[helper.make_tensor_value_info("flat", kind, [*shape[:1], 12])],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


def weights(rows: int, columns: int, seed: int = 1) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


def flatten(batch: int, kind: int = FLOAT) -> Any:
    nodes = [node("Flatten", "x", "flat"), node("MatMul", "flat w", "logits")]
    return graph(nodes, {"w": weights(12, 5)}, [batch, 3, 2, 2], [batch, 5], kind)


def reshape(batch: int, target: list[int], **attributes: Any) -> Any:
    nodes = [node("Reshape", "x s", "flat", **attributes), node("MatMul", "flat w", "logits")]
    constants = {"w": weights(12, 5), "s": np.int64(target)}
    return graph(nodes, constants, [batch, 3, 2, 2], [batch, 5])


def reshape_by_constant_nodes(batch: int) -> Any:
    """As some exporters write it, and with a second Reshape, of weights, that must stay."""
    nodes = [
        helper.make_node("Constant", [], ["s"], value_ints=[batch, -1]),
        helper.make_node(
            "Constant", [], ["t"], value=numpy_helper.from_array(np.int64([batch, 12, 5]))
        ),
        node("Reshape", "w3 t", "w1"),
        node("Squeeze", "w1 zero", "w"),
        node("Reshape", "x s", "flat"),
        node("MatMul", "flat w", "logits"),
    ]
    constants = {"w3": weights(12, 5).reshape(5, 12), "zero": np.int64([0])}
    return graph(nodes, constants, [batch, 3, 2, 2], [batch, 5])


def shared_shape(batch: int) -> Any:
    """One constant shapes both the images and the weights: only the first may change."""
    nodes = [
        node("Reshape", "x s", "flat"),
        node("Reshape", "w0 s", "w1"),
        node("Mul", "flat w1", "product"),
        node("MatMul", "product w", "logits"),
    ]
    constants = {"w": weights(12, 5), "w0": weights(3, 4), "s": np.int64([batch, -1])}
    return graph(nodes, constants, [batch, 3, 2, 2], [batch, 5])


def after_transpose(batch: int) -> Any:
    """Its Reshape input has another first axis: "as in the input" would be wrong there."""
    nodes = [
        node("Transpose", "x", "turned", perm=[1, 0, 2, 3]),  # (3, B, 2, 2)
        node("ReduceSum", "turned axis", "summed", keepdims=0),  # (B, 2, 2)
        node("Transpose", "summed", "last", perm=[1, 2, 0]),  # (2, 2, B)
        node("Transpose", "last", "first", perm=[0, 2, 1]),  # (2, B, 2)
        node("ReduceSum", "first axis", "rows", keepdims=1),  # (1, B, 2)
        node("Reshape", "rows s", "flat2"),
        node("MatMul", "flat2 w", "logits"),
    ]
    constants = {"w": weights(2, 5), "s": np.int64([batch, 2]), "axis": np.int64([0])}
    return graph(nodes, constants, [batch, 3, 2, 2], [batch, 5])


FREED: dict[str, Callable[[], Any]] = {
    "flatten": lambda: flatten(1),
    "flatten, batch 4": lambda: flatten(4),
    "flatten, half": lambda: flatten(1, HALF),
    "flatten, double": lambda: flatten(1, DOUBLE),
    "reshape": lambda: reshape(1, [1, 12]),
    "reshape, the rest": lambda: reshape(1, [1, -1]),
    "reshape, batch 4": lambda: reshape(4, [4, -1]),
    "reshape, allowzero": lambda: reshape(1, [1, -1], allowzero=1),
    "constant nodes": lambda: reshape_by_constant_nodes(1),
    "shared constant": lambda: shared_shape(1),
    "after transpose": lambda: after_transpose(1),
}


def direct(model: Any, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Run the file as it is, in full batches of its own size."""
    session = ort.InferenceSession(model.SerializeToString())
    size = session.get_inputs()[0].shape[0]
    size = size if isinstance(size, int) else len(x)
    assert len(x) % size == 0
    runs = [session.run(None, {"x": x[i : i + size]})[0] for i in range(0, len(x), size)]
    return np.concatenate(runs)


@pytest.mark.parametrize("given", ["path", "session of bytes", "session of a path"])
@pytest.mark.parametrize("name", FREED)
def test_fixed_batch_is_freed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, given: str
) -> None:
    """No warning (they are errors here), any batch size, and the answers of the file itself."""
    model = FREED[name]()
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    source: Any = path
    if given == "session of bytes":
        source = ort.InferenceSession(model.SerializeToString())
    elif given == "session of a path":
        source = ort.InferenceSession(str(path))
    classifier = as_classifier(source)
    assert classifier.num_classes == 5
    kind = NUMPY[model.graph.input[0].type.tensor_type.elem_type]
    x = np.random.default_rng(2).random((8, 3, 2, 2)).astype(kind)
    expected = direct(model, x).astype(np.float64)
    for rows in (1, 7, 8):
        buffer: Any = classifier.empty((rows, 3, 2, 2))
        assert buffer.dtype == (np.float16 if kind == np.float16 else np.float32)
        buffer[...] = x[:rows]
        got: Any = classifier.logits(buffer)
        assert got.dtype == kind
        # A float64 model gets its noise in float32: the input alone is off by that much.
        eps = float(np.finfo(np.float16 if kind == np.float16 else np.float32).eps)
        assert close(got.astype(np.float64), expected[:rows], 2, 12, eps)
    # onnxruntime does not complain about the copy (about this one's weights it does in any case).
    complaints = capfd.readouterr().err
    assert "Expected shape" not in complaints
    assert "Removing" not in complaints or name == "shared constant"


def class_token(batch: int) -> Any:
    """Joins a stored row to the image, as vision transformers do: its batch axis is baked in."""
    nodes = [
        node("Reshape", "x s", "flat"),
        node("Concat", "flat token", "joined", axis=1),
        node("MatMul", "joined w", "logits"),
    ]
    token = weights(batch, 3, seed=4)[:1].repeat(batch, 0)
    constants = {"w": weights(15, 5), "s": np.int64([batch, 12]), "token": token}
    return graph(nodes, constants, [batch, 3, 2, 2], [batch, 5])


def batch_mean(batch: int) -> Any:
    """Subtracts the mean over the batch axis: runs at any size, and is wrong at any other."""
    nodes = [
        node("Flatten", "x", "flat"),
        node("ReduceMean", "flat", "centre", axes=[0], keepdims=1),
        node("Add", "flat centre", "shifted"),
        node("MatMul", "shifted w", "logits"),
    ]
    return graph(nodes, {"w": weights(12, 5)}, [batch, 3, 2, 2], [batch, 5])


def constant_answer(batch: int) -> Any:
    """Answers every image alike, so no check could tell rows apart."""
    nodes = [
        node("Flatten", "x", "flat"),
        node("Mul", "flat zero", "nought"),
        node("MatMul", "nought w", "sum"),
        node("Add", "sum b", "logits"),
    ]
    constants = {"w": weights(12, 5), "zero": np.zeros(1), "b": np.arange(5.0)}
    return graph(nodes, constants, [batch, 3, 2, 2], [batch, 5])


def logarithm(batch: int) -> Any:
    """NaN on the check's negative inputs."""
    nodes = [
        node("Flatten", "x", "flat"),
        node("Log", "flat", "l"),
        node("MatMul", "l w", "logits"),
    ]
    return graph(nodes, {"w": weights(12, 5)}, [batch, 3, 2, 2], [batch, 5])


@pytest.mark.parametrize(
    ("build", "batch", "reason"),
    [
        (class_token, 1, "[Cc]oncat"),
        (class_token, 4, "[Cc]oncat"),
        (batch_mean, 1, "answers .* away from those one by one"),
        (constant_answer, 1, "answers unlike inputs alike"),
        (logarithm, 1, "NaN or Inf"),
    ],
)
def test_batch_that_stays_fixed(build: Any, batch: int, reason: str, tmp_path: Path) -> None:
    """Chunks of the fixed size, the last one padded: slower, told in a warning, and right."""
    model = build(batch)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    with pytest.warns(PerformanceWarning, match=rf"exactly {batch}, which .*{reason}"):
        classifier = as_classifier(path)
    x = np.random.default_rng(2).random((8, 3, 2, 2), np.float32)
    expected = direct(model, x)
    for rows in (1, 7, 8):
        got = np.asarray(classifier.logits(x[:rows].copy()))
        assert close(got, expected[:rows], 3, 16)


class NamelessSession:
    """A session that does not say where it came from, as wrappers of sessions do not."""

    def __init__(self, session: Any) -> None:
        self.get_inputs = session.get_inputs
        self.get_outputs = session.get_outputs
        self.run = session.run


def test_session_without_its_file_stays_fixed() -> None:
    model = flatten(2)
    session = NamelessSession(ort.InferenceSession(model.SerializeToString()))
    with pytest.warns(PerformanceWarning, match="exactly 2, .*which file it is from"):
        classifier = as_classifier(session)
    x = np.random.default_rng(2).random((5, 3, 2, 2), np.float32)
    expected = direct(model, np.concatenate([x, x[-1:]]))[:5]
    assert close(np.asarray(classifier.logits(x.copy())), expected, 1, 12)


def test_session_whose_file_is_gone_stays_fixed(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(flatten(1), path)
    session = ort.InferenceSession(str(path))
    path.unlink()
    with pytest.warns(PerformanceWarning, match="its file cannot be read again"):
        as_classifier(session)


def test_without_onnx_the_batch_stays_fixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(flatten(1), path)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.warns(PerformanceWarning, match=r"needs onnx: .*tamis\[onnx\]"):
        as_classifier(path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"needs onnxruntime: .*tamis\[onnx\]"):
        as_classifier(path)


def open_size(batch: Any) -> Any:
    """Any image size: the mean over the pixels, then a matrix."""
    nodes = [
        node("ReduceMean", "x", "mean", axes=[2, 3], keepdims=0),
        node("Reshape", "mean s", "rows"),
        node("MatMul", "rows w", "logits"),
    ]
    first = batch if isinstance(batch, int) else -1
    constants = {"w": weights(3, 5), "s": np.int64([first, 3])}
    return graph(nodes, constants, [batch, 3, "h", "w_"], [batch, 5])


@pytest.mark.parametrize("batch", [1, "n"])
def test_open_image_size(tmp_path: Path, batch: Any) -> None:
    """With the size unknown on loading, the batch is freed when the first images come."""
    model = open_size(batch)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    classifier = as_classifier(path)
    for size in (4, 9):
        x = np.random.default_rng(2).random((5, 3, size, 7), np.float32)
        expected = direct(model, x)
        assert close(np.asarray(classifier.logits(x.copy())), expected, 2, 63)


def test_wrong_image_shape_is_told(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(flatten(1), path)
    classifier = as_classifier(path)
    for shape in [(2, 3, 2, 3), (2, 12)]:
        with pytest.raises(ValueError, match=r"^model: .*\(B, 3, 2, 2\) as input 'x' has, got"):
            classifier.logits(np.zeros(shape, np.float32))


def test_label_beside_scores() -> None:
    """Converters write an integer label next to the scores: the scores are the logits."""
    model = flatten(1)
    model.graph.node.append(node("ArgMax", "logits", "label", axis=1, keepdims=0))
    model.graph.output.insert(0, helper.make_tensor_value_info("label", 7, [1]))
    classifier = as_classifier(ort.InferenceSession(model.SerializeToString()))
    x = np.random.default_rng(2).random((5, 3, 2, 2), np.float32)
    assert close(np.asarray(classifier.logits(x.copy())), direct(flatten(1), x), 1, 12)


def two_outputs() -> Any:
    model = flatten(1)
    model.graph.output.append(helper.make_tensor_value_info("flat", FLOAT, [1, 12]))
    return model


def two_inputs() -> Any:
    model = flatten(1)
    model.graph.input.append(helper.make_tensor_value_info("mask", FLOAT, [1]))
    return model


def integer_input() -> Any:
    nodes = [node("Cast", "x", "f", to=FLOAT), node("MatMul", "f w", "logits")]
    model = graph(nodes, {"w": weights(12, 5)}, [1, 12], [1, 5])
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    return model


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (two_outputs, r"one floating-point output, the logits, got logits: .*flat: "),
        (two_inputs, r"one floating-point input .* got x: tensor\(float\), mask: tensor\(float\)"),
        (integer_input, r"one floating-point input .* got x: tensor\(uint8\)"),
    ],
)
def test_models_of_another_form(build: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(build(), path)
    with pytest.raises(ValueError, match=rf"^model: expected .*{message}"):
        as_classifier(path)


@pytest.mark.parametrize("content", [b"", b"not a model", None])
def test_damaged_file(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(flatten(1).SerializeToString()[:-40] if content is None else content)
    with pytest.raises(ValueError, match=r"^denoiser: .*model\.onnx is no readable ONNX model"):
        as_classifier(lambda b: b, denoiser=path)


def test_providers(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(flatten("n"), path)
    as_classifier(path, providers=["CPUExecutionProvider"])
    as_classifier(lambda b: b, denoiser=path, providers=["CPUExecutionProvider"])
    with pytest.raises(ValueError, match=r"^providers: expected None without an ONNX file"):
        as_classifier(ort.InferenceSession(str(path)), providers=["CPUExecutionProvider"])
    with pytest.raises(ValueError, match=r"^device: expected None without .* given providers"):
        as_classifier(path, device="cuda")


def test_onnx_denoiser_before_a_callable(tmp_path: Path) -> None:
    """Oracle: the network, clip to [0, 1], written out."""
    nodes = [node("Clip", "x low high", "logits")]
    model = graph(nodes, {"low": 0.0, "high": 1.0}, [1, 3, 2, 2], [1, 3, 2, 2])
    path = tmp_path / "clip.onnx"
    onnx.save(model, path)
    x = 4 * np.random.default_rng(2).random((5, 3, 2, 2), np.float32) - 2
    classifier = as_classifier(lambda b: b.reshape(5, 12), denoiser=path, mean=0.5)
    got = np.asarray(classifier.logits(x.copy()))
    assert np.array_equal(got, x.clip(0, 1).reshape(5, 12) - np.float32(0.5))
