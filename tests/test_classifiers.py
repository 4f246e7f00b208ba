"""The pipeline of denoiser, normalisation and model, preparing images, and wrong arguments.

Oracle: the composition written out in NumPy or torch.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from support import fill, images
from tamis.smoothing.classifiers import as_classifier

torch = pytest.importorskip("torch", reason="torch is not installed")

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)


def small_network(dtype: Any = torch.float32) -> Any:
    """(B, 3, 8, 8) -> (B, 5)."""
    torch.manual_seed(3)
    layers = (torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Flatten(), torch.nn.Linear(256, 5))
    return torch.nn.Sequential(*layers).to(dtype)


# --- callables, denoiser, normalisation -----------------------------------------------------------


def test_callable_gets_float32_numpy() -> None:
    """Also as its own oracle for mean and std: they are applied to what it sees, and once."""
    seen = []

    def function(batch: Any) -> Any:
        seen.append(batch.copy())
        return batch.reshape(len(batch), -1)[:, :4]

    classifier = as_classifier(function, mean=MEAN, std=STD)
    assert classifier.num_classes is None
    x = images(33)
    column = (3, 1, 1)
    expected = (x - np.float32(MEAN).reshape(column)) / np.float32(STD).reshape(column)
    got = classifier.logits(fill(classifier, x))
    assert seen[0].dtype == np.float32
    assert np.array_equal(seen[0], expected)
    assert np.array_equal(np.asarray(got), expected.reshape(33, -1)[:, :4])


@pytest.mark.parametrize("rows", [1, 7, 33, 1023])
def test_normalisation_in_blocks(rows: int) -> None:
    """Every block of a batch larger than a block is normalised once; oracle: plain NumPy."""
    classifier = as_classifier(lambda b: b.reshape(len(b), -1), mean=[0.5], std=(0.2, 0.3, 0.4))
    x = images(rows, shape=(3, 9, 11))
    expected = (x - np.float32(0.5)) / np.float32([0.2, 0.3, 0.4]).reshape(3, 1, 1)
    got = np.asarray(classifier.logits(x.copy()))
    assert np.array_equal(got, expected.reshape(rows, -1))


def test_flat_data_with_scalars_and_no_normalisation() -> None:
    x = images(5, shape=(6,))
    assert np.array_equal(as_classifier(lambda b: b, std=0.5).logits(x.copy()), x / np.float32(0.5))
    assert np.array_equal(as_classifier(lambda b: b).logits(x.copy()), x)


def test_callable_may_return_torch_integers_or_strided_arrays() -> None:
    x = images(3, shape=(6,))
    tensor: Any = as_classifier(lambda b: torch.from_numpy(b).requires_grad_() * 2).logits(x.copy())
    assert torch.equal(tensor, torch.from_numpy(x) * 2)
    assert not tensor.requires_grad
    votes = as_classifier(lambda b: (b > 0.5).astype(np.int64)).logits(x.copy())
    assert votes.dtype == np.float64
    strided: Any = as_classifier(lambda b: b[:, ::-2]).logits(x.copy())
    assert strided.flags.c_contiguous
    assert np.array_equal(strided, x[:, ::-2])
    spatial = as_classifier(lambda b: b[:, :, None, None]).logits(x.copy())
    assert np.array_equal(np.asarray(spatial), x)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda b: b.argmax(1), ValueError, r"logits of shape \(B, C\), got \(4,\); labels"),
        (lambda b: b[:, :1], ValueError, r"at least two logits an image, got shape \(4, 1\)"),
        (lambda b: b[:3], ValueError, r"4 rows of output for 4 images, got shape \(3, 6\)"),
        (lambda b: b.sum(), ValueError, r"4 rows .* got shape \(\)"),
        (lambda b: b.reshape(4, 3, 2), ValueError, r"logits of shape \(B, C\), got \(4, 3, 2\)"),
        (lambda b: b.reshape(4, 1, 3, 2), ValueError, r"got \(4, 1, 3, 2\)"),
        (lambda b: (b, b), TypeError, "one array or tensor as output, got tuple"),
        (lambda b: {"logits": b}, TypeError, r"got dict with keys \['logits'\]"),
        (lambda b: None, TypeError, "got NoneType"),
        (lambda b: b.astype(complex), TypeError, "dtype complex128"),
        (lambda b: torch.from_numpy(b) * 1j, TypeError, "dtype torch.complex64"),
        (lambda b: np.full((4, 2), "cat"), TypeError, "dtype <U3"),
    ],
)
def test_wrong_outputs(function: Any, error: type[Exception], message: str) -> None:
    classifier = as_classifier(function)
    with pytest.raises(error, match=rf"^model: .*{message}"):
        classifier.logits(images(4, shape=(6,)))


def test_denoiser_stands_between_noise_and_normalisation() -> None:
    """Oracle: the composition written out; the denoiser's own memory is left as it was."""
    kept = np.float32(images(4, seed=5))
    before = kept.copy()
    classifier = as_classifier(
        lambda b: b.reshape(len(b), -1), mean=MEAN, std=STD, denoiser=lambda b: kept[: len(b)]
    )
    column = (3, 1, 1)
    expected = (before - np.float32(MEAN).reshape(column)) / np.float32(STD).reshape(column)
    got = classifier.logits(images(4))
    assert np.array_equal(np.asarray(got), expected.reshape(4, -1))
    assert np.array_equal(kept, before)


class Halve(torch.nn.Module):
    """A denoiser with one parameter: its dtype decides what the noise kernel writes."""

    def __init__(self, dtype: Any) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(0.5, dtype=dtype))

    def forward(self, x: Any) -> Any:
        return x * self.factor


@pytest.mark.parametrize("first", ["torch", "numpy"])
@pytest.mark.parametrize("second", ["torch", "numpy"])
def test_denoiser_and_model_of_different_kinds(first: str, second: str) -> None:
    """Halving is exact, so every mixture of libraries and dtypes gives the same float64 logits."""
    denoiser = Halve(torch.bfloat16) if first == "torch" else (lambda b: b * b.dtype.type(0.5))
    network = small_network(dtype=torch.float64).eval()

    def function(batch: Any) -> Any:
        with torch.no_grad():
            return network(torch.from_numpy(batch).double()).numpy()

    model = network if second == "torch" else function
    classifier = as_classifier(model, std=0.25, denoiser=denoiser)
    x = images(5)
    x = torch.from_numpy(x).bfloat16().float().numpy()  # representable everywhere
    buffer = fill(classifier, x)
    assert (buffer.dtype == torch.bfloat16) is (first == "torch")
    with torch.no_grad():
        expected = network(torch.from_numpy(x * 2).double()).numpy()
    # (B, 3, 8, 8) is the same in either library; / .25 is exact too.
    assert np.array_equal(np.asarray(classifier.logits(buffer)), expected)


def test_denoiser_of_another_shape_is_refused() -> None:
    classifier = as_classifier(lambda b: b, denoiser=lambda b: b[:, :3])
    with pytest.raises(ValueError, match=r"^denoiser: .*\(4, 6\), got \(4, 3\)"):
        classifier.logits(images(4, shape=(6,)))
    classifier = as_classifier(lambda b: b, denoiser=lambda b: (b, b))
    with pytest.raises(TypeError, match=r"^denoiser: expected one array"):
        classifier.logits(images(4, shape=(6,)))


@pytest.mark.parametrize("limit", [1, 3, 7, 100])
def test_batch_limit(limit: int) -> None:
    sizes = []

    def function(batch: Any) -> Any:
        sizes.append(len(batch))
        return batch.copy()

    x = images(7, shape=(6,))
    got = as_classifier(function, batch_limit=limit).logits(x.copy())
    assert np.array_equal(np.asarray(got), x)
    assert max(sizes) == min(limit, 7)
    assert sum(sizes) == 7
    tensor = as_classifier(torch.nn.Identity(), batch_limit=limit).logits(torch.from_numpy(x))
    assert torch.equal(torch.as_tensor(tensor), torch.from_numpy(x))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"std": 0}, ValueError, r"^std: expected numbers > 0, got 0\.0"),
        ({"std": (0.2, -1, 0.2)}, ValueError, r"^std: expected numbers > 0"),
        ({"mean": (0.1, 0.2), "std": (1, 1, 1)}, ValueError, r"^std: expected as many .*\(2\)"),
        ({"mean": float("nan")}, ValueError, "^mean: expected finite"),
        ({"mean": []}, ValueError, "^mean: expected finite"),
        ({"mean": "grey"}, TypeError, "^mean: expected a number"),
        ({"mean": np.zeros((2, 2))}, ValueError, r"^mean: .*got shape \(2, 2\)"),
        ({"batch_limit": 0}, ValueError, "^batch_limit: expected an integer >= 1"),
        ({"batch_limit": 2.5}, TypeError, "^batch_limit: expected an integer, got float"),
        ({"batch_limit": True}, TypeError, "^batch_limit: expected an integer, got bool"),
    ],
)
def test_wrong_options(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        as_classifier(lambda b: b, **options)


def test_a_batch_may_come_normalised() -> None:
    """mean and std stand on the classifier exactly where they are the first step of `logits`."""

    def function(batch: Any) -> Any:
        return batch.reshape(len(batch), -1)

    x = images(3)
    classifier = as_classifier(function, mean=MEAN, std=0.5, batch_limit=2)
    assert np.array_equal(np.asarray(classifier.mean), MEAN)
    assert float(np.asarray(classifier.std)) == 0.5
    got = classifier.logits(x.copy(), normalized=True)
    assert np.array_equal(np.asarray(got), x.reshape(3, -1))
    for other in (as_classifier(function), as_classifier(function, std=0.5, denoiser=np.abs)):
        assert other.mean is None
        assert other.std is None
        with pytest.raises(ValueError, match=r"^normalized: expected False"):
            other.logits(x.copy(), normalized=True)


def test_channel_count_is_checked_against_the_batch() -> None:
    classifier = as_classifier(lambda b: b.reshape(len(b), -1), mean=MEAN, std=STD)
    with pytest.raises(ValueError, match=r"^mean, std: .*\(2, 1, 8, 8\), got 3"):
        classifier.logits(images(2, shape=(1, 8, 8)))
    with pytest.raises(ValueError, match=r"^mean, std: .*\(2, 192\), got 3"):
        classifier.logits(images(2, shape=(192,)))


def test_std_that_vanishes_in_half_precision_is_refused() -> None:
    classifier = as_classifier(small_network(dtype=torch.float16), std=1e-9)
    with pytest.raises(ValueError, match=r"^std: .*float16"):
        classifier.logits(fill(classifier, images(1)))


@pytest.mark.parametrize("tensor", [True, False])
def test_mean_as_normalisation_layers_keep_it(tensor: bool) -> None:
    """(3, 1, 1) arrays and tensors count as three numbers."""
    mean: Any = np.float32(MEAN).reshape(3, 1, 1)
    if tensor:
        mean = torch.from_numpy(mean).requires_grad_()
    x = images(2)
    got = as_classifier(lambda b: b.reshape(2, -1), mean=mean).logits(x.copy())
    expected = x - np.float32(MEAN).reshape(3, 1, 1)
    assert np.array_equal(np.asarray(got), expected.reshape(2, -1))


# --- preparing images -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_prepare(kind: str) -> None:
    """Any float image becomes a detached C-contiguous float32 array of the model's kind."""
    model = small_network(dtype=torch.float16) if kind == "torch" else (lambda b: b)
    classifier = as_classifier(model)
    x = images(2)
    readonly = x.copy()
    readonly.flags.writeable = False
    swapped = x.astype(">f8")
    given = [
        x,
        x.tolist(),
        readonly,
        swapped,
        x.astype(np.float64).transpose(0, 1, 3, 2).copy().transpose(0, 1, 3, 2),
        torch.from_numpy(x).requires_grad_(),
        torch.from_numpy(x).double(),
        torch.from_numpy(x).contiguous(memory_format=torch.channels_last),
        [torch.from_numpy(image) for image in x],
    ]
    for value in given:
        got: Any = classifier.prepare(value)
        if kind == "torch":
            assert got.dtype == torch.float32
            assert got.is_contiguous()
            assert not got.requires_grad
            got = got.numpy()
        assert got.dtype == np.float32
        assert got.flags.c_contiguous
        assert np.array_equal(got, x)
    half: Any = classifier.prepare(torch.from_numpy(x).bfloat16())
    assert np.array_equal(np.asarray(half), torch.from_numpy(x).bfloat16().float().numpy())


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize(
    "x",
    [
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((3, 8, 8), np.int64),
        np.zeros((3, 8, 8), bool),
        torch.zeros((3, 8, 8), dtype=torch.uint8),
        torch.zeros((3, 8, 8), dtype=torch.complex64),
        [[0, 255], [3, 4]],
        "picture.png",
    ],
)
def test_prepare_refuses_what_is_no_float_image(kind: str, x: Any) -> None:
    model = small_network() if kind == "torch" else (lambda b: b)
    with pytest.raises(TypeError, match=r"^x: expected images as floating-point numbers") as caught:
        as_classifier(model).prepare(x)
    assert ("divide by 255" in str(caught.value)) == str(caught.value).partition(";")[0].endswith(
        "uint8"
    )


# --- the rest -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (3, "got builtins.int"),
        (None, "got builtins.NoneType"),
        (torch.nn.Linear, "the class Linear"),
        ({"weight": 1}, "state dict holds weights only"),
        (type("Estimator", (), {"predict_proba": 0})(), r"pass its method: model\.predict_proba"),
    ],
)
def test_wrong_models(model: Any, message: str) -> None:
    with pytest.raises(TypeError, match=f"^model: expected a torch module.*{message}"):
        as_classifier(model)


def test_a_classifier_passes_through() -> None:
    classifier = as_classifier(lambda b: b)
    assert as_classifier(classifier) is classifier
    with pytest.raises(ValueError, match=r"^model: expected a plain model beside mean"):
        as_classifier(classifier, mean=0.5)


def test_empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^batch: expected at least one image"):
        as_classifier(lambda b: b).logits(np.empty((0, 6), np.float32))


def test_torch_and_onnxruntime_are_not_imported_for_a_callable() -> None:
    code = (
        "import sys, numpy as np\n"
        "from tamis.smoothing.classifiers import as_classifier\n"
        "c = as_classifier(lambda b: b, mean=.5)\n"
        "c.logits(c.prepare(np.zeros((2, 3))))\n"
        "assert not {'torch', 'onnx', 'onnxruntime'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
