"""torch modules, exported programs and model files as classifiers.

Oracles: the same network run directly, with ``(x - mean) / std`` written out; torch's own state
before the call; torch's own reader, which does run the code that ours must refuse.
"""

from __future__ import annotations

import copy
import functools
import io
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support import fill, images
from tamis.smoothing.classifiers import PerformanceWarning, as_classifier
from tamis.smoothing.datasets import load_images

torch = pytest.importorskip("torch", reason="torch is not installed")

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]


def small_network(**options: Any) -> Any:
    """Convolution, batch norm, dropout and a linear layer: (B, 3, 8, 8) -> (B, 5)."""
    torch.manual_seed(3)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.5),
        torch.nn.Flatten(),
        torch.nn.Linear(256, 5),
    )
    network[1].running_mean.uniform_(-0.5, 0.5)
    return network.to(**options) if options else network


# --- torch modules: dtype, device, layout, modes --------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_module_in_its_own_dtype(dtype: Any) -> None:
    """Bit for bit what the module gives on (x - mean) / std in its dtype."""
    network = small_network(dtype=dtype).eval()
    classifier = as_classifier(network, mean=MEAN, std=STD)
    x = images(7)
    buffer = fill(classifier, x)
    assert buffer.dtype == (torch.float32 if dtype == torch.float64 else dtype)

    column = (3, 1, 1)
    mean = torch.tensor(MEAN, dtype=dtype).reshape(column)
    std = torch.tensor(STD, dtype=dtype).reshape(column)
    with torch.no_grad():
        expected = network((buffer.clone().to(dtype) - mean) / std)
    got = classifier.logits(buffer)
    assert got.dtype == dtype
    assert got.shape == (7, 5)
    assert torch.equal(got, expected)


def test_module_is_followed_when_it_changes() -> None:
    """Dtype and buffer are those of the module at the call, not those at wrapping."""
    network = small_network().eval()
    classifier = as_classifier(network)
    assert classifier.empty((1, 3, 8, 8)).dtype == torch.float32
    network.to(torch.bfloat16)
    assert classifier.empty((1, 3, 8, 8)).dtype == torch.bfloat16
    assert classifier.logits(fill(classifier, images(2))).dtype == torch.bfloat16


def test_module_without_parameters_follows_its_buffers_and_else_float32() -> None:
    class Prototype(torch.nn.Module):
        def __init__(self, dtype: Any) -> None:
            super().__init__()
            if dtype is not None:
                self.register_buffer("centres", torch.eye(2, 6, dtype=dtype))

        def forward(self, x: Any) -> Any:
            return x[:, :2]

    assert as_classifier(Prototype(torch.float16)).empty((1, 6)).dtype == torch.float16
    assert as_classifier(Prototype(None)).empty((1, 6)).dtype == torch.float32


def test_meta_module_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^model: .*meta device"):
        as_classifier(small_network(device="meta"))


@pytest.mark.parametrize("channels_last", [True, False])
def test_channels_last_follows_the_weights(channels_last: bool) -> None:
    seen = []

    class Spy(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = small_network()

        def forward(self, x: Any) -> Any:
            seen.append(x.is_contiguous(memory_format=torch.channels_last))
            return self.inner(x)

    network = Spy().eval()
    if channels_last:
        network.to(memory_format=torch.channels_last)
    classifier = as_classifier(network, mean=MEAN, std=STD)
    x = images(9)
    got = classifier.logits(fill(classifier, x))
    assert seen == [channels_last]
    # Oracle: the plain layout. A sum of 256 float32 products, twice, in another order: the errors
    # walk as sqrt(256) eps, 8 of them for safety.
    plain = as_classifier(small_network().eval(), mean=MEAN, std=STD)
    expected = plain.logits(fill(plain, x))
    tolerance = 8 * 16 * np.finfo(np.float32).eps * float(expected.abs().max())
    assert float((got - expected).abs().max()) <= tolerance


def test_autocast_of_the_caller_holds_and_training_goes_on_in_it() -> None:
    """Logits in the caller's type; a training step in the same block meets no inference tensor."""
    network = small_network()
    classifier = as_classifier(network)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert classifier.logits(fill(classifier, images(3))).dtype == torch.bfloat16
        loss = network(torch.from_numpy(images(3))).float().square().sum()
        loss.backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert classifier.logits(fill(classifier, images(3))).dtype == torch.float32


class Merging(torch.nn.Linear):
    """Does work when its mode changes, as low-rank adapters do."""

    merged = False

    def train(self, mode: bool = True) -> Any:
        self.merged = not mode
        return super().train(mode)


class Stubborn(torch.nn.Linear):
    """Refuses training mode when asked by its parents, as frozen layers do."""

    def train(self, mode: bool = True) -> Any:
        return super().train(False)


@pytest.mark.parametrize("fails", [False, True])
def test_training_modes_are_restored(fails: bool) -> None:
    """Every submodule gets its own mode back, through train() and also after an exception."""
    network = small_network()
    network.add_module("merging", Merging(5, 5))
    network.add_module("stubborn", Stubborn(5, 5))
    if fails:
        network.add_module("wrong", torch.nn.Linear(6, 5))
    network.train()
    network[1].eval()  # frozen statistics inside a training network
    network.get_submodule("stubborn").training = True  # set by hand
    modes = {name: module.training for name, module in network.named_modules()}
    state = {name: value.clone() for name, value in network.state_dict().items()}
    gradients = [parameter.requires_grad for parameter in network.parameters()]

    classifier = as_classifier(network)
    if fails:
        with pytest.raises(RuntimeError, match="mat1 and mat2"):
            classifier.logits(fill(classifier, images(4)))
    else:
        first = classifier.logits(fill(classifier, images(4)))
        # Dropout is off and batch norm reads its statistics: the answer repeats.
        assert torch.equal(first, classifier.logits(fill(classifier, images(4))))
        assert not first.requires_grad
    assert {name: module.training for name, module in network.named_modules()} == modes
    assert network.get_submodule("merging").merged is False
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert [parameter.requires_grad for parameter in network.parameters()] == gradients
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.is_grad_enabled()


def test_logits_reach_numpy_and_dlpack() -> None:
    """They come out of inference mode in a form that the counting kernel can read."""
    classifier = as_classifier(small_network().eval())
    logits: Any = classifier.logits(fill(classifier, images(2)))
    assert logits.is_contiguous()
    assert np.array_equal(np.from_dlpack(logits), logits.numpy())


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("frozen", [False, True])
def test_torchscript_module(frozen: bool) -> None:
    network = small_network().eval()
    script: Any = torch.jit.script(network)
    if frozen:
        script = torch.jit.freeze(script)
    else:
        script.train()
    classifier = as_classifier(script)
    x = images(5)
    with torch.no_grad():
        expected = network(torch.from_numpy(x))
    got = classifier.logits(fill(classifier, x))
    # Freezing may fold batch norm into the convolution: rounding of 27 + 256 products.
    assert float((got - expected).abs().max()) <= 8 * 17 * np.finfo(np.float32).eps * 2
    if not frozen:
        assert script.training


@functools.cache
def exported(batch: int, *, free: bool, train: bool = False) -> Any:
    network = small_network().train(train)
    shapes = ({0: torch.export.Dim("batch")},) if free else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own deprecations while exporting
        return torch.export.export(network, (torch.zeros(batch, 3, 8, 8),), dynamic_shapes=shapes)


@pytest.mark.parametrize("as_module", [False, True])
@pytest.mark.parametrize(("batch", "free"), [(4, True), (1, False), (4, False)])
def test_exported_program(batch: int, free: bool, as_module: bool) -> None:
    """Fixed batch sizes run in padded chunks, with a warning that tells how to avoid them."""
    program = exported(batch, free=free)
    if as_module:
        program = program.module()
    if free:
        classifier = as_classifier(program)
    else:
        with pytest.warns(PerformanceWarning, match=f"batches of exactly {batch} .*Dim"):
            classifier = as_classifier(program)
    assert classifier.num_classes == 5
    x = images(7)
    with torch.no_grad():
        expected = small_network().eval()(torch.from_numpy(x))
    got = classifier.logits(fill(classifier, x))
    assert got.shape == (7, 5)
    # Chunks change the order of sums of 256 products.
    assert float((got - expected).abs().max()) <= 8 * 16 * np.finfo(np.float32).eps * 2


def test_program_exported_in_training_mode_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^model: expected a program exported in eval mode"):
        as_classifier(exported(4, free=True, train=True))


# --- model files ----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("suffix", [".pt", ".ts", ".bin"])
def test_torchscript_file(tmp_path: Path, suffix: str) -> None:
    network = small_network().eval()
    path = tmp_path / f"model{suffix}"
    torch.jit.script(network).save(str(path))
    classifier = as_classifier(str(path))
    x = images(3)
    with torch.no_grad():
        expected = network(torch.from_numpy(x))
    assert torch.equal(torch.as_tensor(classifier.logits(fill(classifier, x))), expected)


@pytest.mark.parametrize("device", [None, "cpu"])
def test_exported_program_file(tmp_path: Path, device: str | None) -> None:
    path = tmp_path / "model.pt2"
    torch.export.save(exported(4, free=True), path)
    classifier = as_classifier(path, mean=MEAN, std=STD, device=device)
    direct = as_classifier(small_network().eval(), mean=MEAN, std=STD)
    x = images(3)
    assert torch.equal(
        torch.as_tensor(classifier.logits(fill(classifier, x))),
        torch.as_tensor(direct.logits(fill(direct, x))),
    )


@pytest.mark.parametrize(
    ("device", "message"),
    [("gpu", "one of torch's"), (1.5, "one of torch's"), ("cuda:0", "no GPU")],
)
def test_wrong_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: Any, message: str
) -> None:
    path = tmp_path / "model.pt2"
    path.write_bytes(b"never read")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=f"^device: .*{message}"):
        as_classifier(path, device=device)


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.write_text, (self.path, "ran"))


def pickled_module(path: Path, mark: Path) -> None:
    torch.save({"weights": Bomb(mark)}, path)


def pickled_plainly(path: Path, mark: Path) -> None:
    path.write_bytes(pickle.dumps(Bomb(mark)))


def program_with(member: str, mark: Path) -> Callable[[Path], None]:
    """Return a writer of an ExportedProgram file in which a pickle replaces one member."""

    def write(path: Path) -> None:
        good = io.BytesIO()
        torch.export.save(exported(4, free=True), good)
        bad = io.BytesIO()
        torch.save((Bomb(mark),), bad)
        with zipfile.ZipFile(good) as source, zipfile.ZipFile(path, "w") as target:
            for info in source.infolist():
                data = source.read(info)
                if info.filename.endswith(member):
                    data = bad.getvalue()
                if member == "weight_0" and info.filename.endswith("weights_config.json"):
                    data = data.replace(b'"use_pickle": false', b'"use_pickle": true')
                target.writestr(info.filename, data)

    return write


@pytest.mark.parametrize("kind", ["saved", "plain", "sample_inputs/model.pt", "weight_0"])
def test_pickles_are_refused_and_not_run(tmp_path: Path, kind: str) -> None:
    """A file that holds code is told from a model before any of it runs."""
    path, mark = tmp_path / "model.pt", tmp_path / "mark"
    if kind == "saved":
        pickled_module(path, mark)
    elif kind == "plain":
        pickled_plainly(path, mark)
    else:
        program_with(kind, mark)(path)
        # The oracle that this test can fail: torch's own reader runs the code.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                torch.export.load(path)
            except Exception as error:  # noqa: BLE001, RUF100
                print("torch:", error)
        assert mark.exists()
        mark.unlink()
    with pytest.raises(ValueError, match=r"^model: .*(pickle|[Ww]eights only)"):
        as_classifier(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "none of these"),
        (b"\x80\x04.", "a pickle"),
        (b"GGUF and more", "none of these"),
        (b"PK\x05\x06" + bytes(18), "another kind of zip"),
    ],
)
def test_files_of_no_known_kind(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        as_classifier(path)
    assert str(path) in str(caught.value)
    assert "torch.export.save" in str(caught.value)


def test_state_dict_file_and_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(small_network().state_dict(), path)
    with pytest.raises(ValueError, match="a pickled module or state dict"):
        as_classifier(path)
    with pytest.raises(FileNotFoundError, match=r"missing\.pt2"):
        as_classifier(tmp_path / "missing.pt2")


def test_mnist_network_in_every_dtype(data_dir: Path) -> None:
    """A real network: right on 956 of the first 1000 digits, and within rounding in every dtype.

    Oracle: its own float64 logits. Four layers with at most 784 products a sum: 8 sqrt(4) eps of
    storage plus 8 sqrt(4 * 784) eps of a float32 accumulator, relative to the largest logit.
    """
    state = np.load(data_dir / "models" / "mnist_cnn_small_f16.npz")
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 4, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 16, 4, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(784, 256),
        torch.nn.ReLU(),
        torch.nn.Linear(256, 10),
    )
    layers = {"0": "conv1", "2": "conv2", "5": "fc1", "7": "fc2"}
    network.load_state_dict(
        {
            f"{index}.{part}": torch.from_numpy(state[f"{layer}.{part}"])
            for index, layer in layers.items()
            for part in ("weight", "bias")
        }
    )
    digits = load_images(data_dir / "vision" / "mnist" / "t10k-images-idx3-ubyte.gz")
    x = np.stack([digits[i] for i in range(1000)])
    with torch.no_grad():
        expected = network.double()(torch.from_numpy(x).double()).numpy()
    assert (expected.argmax(1) == digits.labels[:1000]).sum() == 956
    scale = np.abs(expected).max()
    for dtype in DTYPES:
        classifier = as_classifier(copy.deepcopy(network).to(dtype))
        got: Any = classifier.logits(fill(classifier, x))
        store, add = torch.finfo(dtype).eps, np.finfo(np.float32).eps
        if dtype == torch.float64:
            add = np.finfo(np.float64).eps
        tolerance = 8 * (2 * store + 56 * add) * scale
        assert np.abs(got.double().numpy() - expected).max() <= tolerance
