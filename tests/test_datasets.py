"""Reading labelled images, and refusing files that are none.

Oracles: NumPy on the same arrays; torchvision's ToTensor rule (divide by 255 in float32); the known
first labels of the public test sets; files written here byte by byte.
"""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tamis.smoothing import array_files
from tamis.smoothing.datasets import ImageSet, load_images

RNG = np.random.default_rng(0)
NHWC = RNG.integers(0, 256, (7, 9, 11, 3), np.uint8)
LABELS = np.arange(7) % 4
NCHW_FLOAT = RNG.random((7, 3, 9, 11))


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def idx(array: Any, code: int) -> bytes:
    """Return an idx file of ``array``, written by the published layout."""
    head = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


# --- real files -----------------------------------------------------------------------------------


def test_cifar10(data_dir: Path) -> None:
    path = data_dir / "vision" / "cifar10" / "cifar10_test_first100_exact.npz"
    images = load_images(path)
    assert (len(images), images.shape, images.layout, images.scaled) == (
        100,
        (3, 32, 32),
        "NHWC",
        True,
    )
    assert images.labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]  # cat, ship, ship, ...
    with np.load(path) as stored:
        for i in (0, 57, 99):
            expected = stored["X"][i].transpose(2, 0, 1).astype(np.float32) / np.float32(255)
            assert np.array_equal(images[i], expected)


def test_mnist(data_dir: Path) -> None:
    path = data_dir / "vision" / "mnist" / "t10k-images-idx3-ubyte.gz"
    images = load_images(path)
    assert (len(images), images.shape, images.layout) == (10000, (1, 28, 28), "NHW")
    assert images.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    raw = gzip.decompress(path.read_bytes())
    pixels = np.frombuffer(raw, np.uint8, offset=16).reshape(10000, 28, 28)
    assert np.array_equal(images[9999], pixels[9999][None] / np.float32(255))


def test_jpeg_bytes_are_told(data_dir: Path) -> None:
    with pytest.raises(ValueError, match=r"cifar10_test500_jpeg\.npz: .*compressed JPEG.*decode"):
        load_images(data_dir / "vision" / "cifar10" / "cifar10_test500_jpeg.npz")


# --- what is accepted -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keys",
    [
        ("X", "y"),
        ("x", "y"),
        ("images", "labels"),
        ("data", "labels"),
        ("x_test", "y_test"),
        ("X_test", "y_test"),
        ("test_images", "test_labels"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_npz_keys(tmp_path: Path, keys: tuple[str, str], compressed: bool) -> None:
    path = tmp_path / "set.npz"
    write = np.savez_compressed if compressed else np.savez
    write(path, **{keys[0]: NHWC, keys[1]: LABELS, "other": np.zeros(3)})
    images = load_images(str(path))
    assert np.array_equal(images.labels, LABELS)
    assert images.labels.dtype == np.int64
    assert np.array_equal(images[6], NHWC[6].transpose(2, 0, 1) / np.float32(255))


def test_complete_pair_wins_over_images_alone(tmp_path: Path) -> None:
    path = save(tmp_path / "set.npz", X=NHWC[:2], x_test=NHWC, y_test=LABELS)
    assert len(load_images(path)) == 7


def test_items(tmp_path: Path) -> None:
    """Every item is a fresh C-contiguous float32 (C, H, W) array; negative indices count back."""
    images = load_images(save(tmp_path / "set.npz", X=NHWC, y=LABELS))
    item = images[np.int64(-1)]
    assert (item.dtype, item.shape, item.flags.c_contiguous) == (np.float32, (3, 9, 11), True)
    item[:] = 0
    assert np.array_equal(images[6], NHWC[6].transpose(2, 0, 1) / np.float32(255))
    assert len(list(images)) == 7  # IndexError past the end: iteration stops
    for index in (7, -8):
        with pytest.raises(IndexError, match="expected one of 7 images"):
            images[index]
    for wrong in (slice(2), "0", 1.0, True):
        with pytest.raises(TypeError, match=r"^index: expected an integer"):
            images[wrong]  # type: ignore[index]


@pytest.mark.parametrize("dtype", ["f2", "<f4", ">f4", "f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_float_nchw(tmp_path: Path, dtype: str, order: Any) -> None:
    stored = np.asarray(NCHW_FLOAT.astype(dtype), order=order)
    images = load_images(save(tmp_path / "set.npz", X=stored, y=LABELS))
    assert (images.layout, images.scaled, images.shape) == ("NCHW", False, (3, 9, 11))
    item = images[3]
    assert item.dtype == np.float32
    assert item.flags.c_contiguous
    assert np.array_equal(item, stored[3].astype(np.float32))


@pytest.mark.parametrize(
    ("shape", "layout", "found", "expected"),
    [
        ((2, 8, 9, 1), None, "NHWC", (1, 8, 9)),
        ((2, 8, 9, 4), None, "NHWC", (4, 8, 9)),
        ((2, 4, 8, 9), None, "NCHW", (4, 8, 9)),
        ((2, 8, 9), None, "NHW", (1, 8, 9)),
        ((2, 8, 9), "nhw", "NHW", (1, 8, 9)),
        ((2, 3, 8, 3), "NHWC", "NHWC", (3, 3, 8)),
        ((2, 3, 8, 3), "nchw", "NCHW", (3, 8, 3)),
        ((2, 8, 9, 13), "NHWC", "NHWC", (13, 8, 9)),
        ((2, 1, 1, 1), "NCHW", "NCHW", (1, 1, 1)),
    ],
)
def test_layout(
    tmp_path: Path, shape: Any, layout: str | None, found: str, expected: tuple[int, int, int]
) -> None:
    path = save(tmp_path / "set.npz", X=np.zeros(shape, np.uint8), y=[0, 1])
    images = load_images(path, layout=layout)
    assert (images.layout, images.shape, images[1].shape) == (found, expected, expected)


def test_npy_is_mapped_with_labels_apart(tmp_path: Path) -> None:
    np.save(tmp_path / "X.npy", NHWC)
    np.save(tmp_path / "y.npy", LABELS.astype(np.uint8)[:, None])
    save(tmp_path / "y.npz", anything=LABELS)
    save(tmp_path / "pair.npz", X=NHWC, y=LABELS)
    (tmp_path / "y.idx").write_bytes(idx(LABELS.astype(np.uint8), 0x08))
    for labels in [
        tmp_path / "y.npy",
        str(tmp_path / "y.npz"),
        tmp_path / "pair.npz",
        tmp_path / "y.idx",
        LABELS,
        LABELS.astype(float).tolist(),
    ]:
        images = load_images(tmp_path / "X.npy", labels=labels)
        assert isinstance(images.images, np.memmap)
        assert np.array_equal(images.labels, LABELS)
        assert np.array_equal(images[2], NHWC[2].transpose(2, 0, 1) / np.float32(255))


@pytest.mark.parametrize(
    ("dtype", "code"), [("u1", 8), ("i1", 9), ("i2", 11), ("i4", 12), ("f4", 13), ("f8", 14)]
)
@pytest.mark.parametrize("zipped", [False, True])
def test_idx_types(tmp_path: Path, dtype: str, code: int, zipped: bool) -> None:
    """Every type of the format, big-endian; oracle: the array it was written from."""
    array = RNG.integers(0, 100, (3, 5, 2)).astype(dtype)
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(idx(array, code)) if zipped else idx(array, code))
    got = array_files.read_idx(path)
    assert got.dtype.newbyteorder("=") == array.dtype
    assert np.array_equal(got, array)


@pytest.mark.parametrize(
    ("name", "beside"),
    [
        ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
        ("train-images.idx3-ubyte", "train-labels.idx1-ubyte"),
        ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte"),
        ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte.gz"),
    ],
)
def test_mnist_naming_rule(tmp_path: Path, name: str, beside: str) -> None:
    for file, array in ((name, NHWC[..., 0]), (beside, LABELS.astype(np.uint8))):
        data = idx(array, 0x08)
        (tmp_path / file).write_bytes(gzip.compress(data) if file.endswith(".gz") else data)
    images = load_images(tmp_path / name)
    assert np.array_equal(images.labels, LABELS)
    assert np.array_equal(images[4], NHWC[4, ..., 0][None] / np.float32(255))


# --- what is refused ------------------------------------------------------------------------------


def bad_pixel(value: float) -> Any:
    images = NCHW_FLOAT.astype(np.float32)
    images[4, 2, 8, 10] = value
    return images


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({"X": NHWC, "y": LABELS[:5]}, {}, r"expected 7 labels, one an image, got shape \(5,\)"),
        ({"X": NHWC, "y": np.eye(7)}, {}, r"got shape \(7, 7\).*argmax"),
        ({"X": NHWC, "y": LABELS - 1}, {}, r"whole numbers >= 0 as labels, got -1 for image 0"),
        ({"X": NHWC, "y": LABELS + 0.5}, {}, r"got 0\.5 for image 0"),
        ({"X": NHWC, "y": np.full(7, np.nan)}, {}, "got nan for image 0"),
        ({"X": NHWC, "y": np.full(7, "cat")}, {}, "whole numbers as labels, got <U3"),
        ({"X": NHWC}, {}, "expected labels beside the images, got none"),
        ({"pixels": NHWC, "y": LABELS}, {}, r"under X and y .*got arrays \['pixels', 'y'\]"),
        ({"X": np.zeros((7, 5, 6, 8), np.uint8), "y": LABELS}, {}, "no axis has 1, 3 or 4"),
        (
            {"X": np.zeros((7, 3, 6, 3), np.uint8), "y": LABELS},
            {},
            "both axes .*layout='NHWC'.*--layout",
        ),
        (
            {"X": np.zeros((7, 192), np.uint8), "y": LABELS},
            {},
            r"\(N, H, W\).*shape \(7, 192\)",
        ),
        ({"X": NHWC[..., 0], "y": LABELS}, {"layout": "NHWC"}, "expected images NHWC, got shape"),
        ({"X": NHWC, "y": LABELS}, {"layout": "NHW"}, "expected images NHW, got shape"),
        ({"X": NHWC.astype(np.int64), "y": LABELS}, {}, r"got int64; .*astype\('uint8'\)"),
        ({"X": NHWC > 3, "y": LABELS}, {}, "as floats .*, got bool"),
        ({"X": NCHW_FLOAT * 1j, "y": LABELS}, {}, "as floats .*, got complex128"),
        ({"X": bad_pixel(np.nan), "y": LABELS}, {}, r"got nan in image 4 at \(2, 8, 10\)"),
        ({"X": bad_pixel(-np.inf), "y": LABELS}, {}, r"got -inf in image 4 at \(2, 8, 10\)"),
        ({"X": bad_pixel(254.0), "y": LABELS}, {}, "to 254 in image 4; .*divide by 255"),
        ({"X": bad_pixel(-1.5), "y": LABELS}, {}, "got -1.5 to .* in image 4; .*mean and std"),
        ({"X": NHWC[:0], "y": LABELS[:0]}, {}, r"array X is empty: shape \(0, 9, 11, 3\)"),
        ({"X": np.array([None] * 7), "y": LABELS}, {}, "array X holds Python objects"),
        ({"X": NHWC, "y": np.array([None] * 7)}, {}, "array y holds Python objects"),
    ],
)
def test_wrong_content(tmp_path: Path, arrays: Any, options: Any, message: str) -> None:
    """The message names the file and what came."""
    path = save(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(ValueError, match=rf"wrong\.npz: .*{message}"):
        load_images(path, **options)


def test_first_bad_image_is_named_past_the_first_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Float images are checked in pieces; here two images a piece."""
    monkeypatch.setattr("tamis.smoothing.datasets._CHECK_BYTES", 2 * 3 * 9 * 11 * 4)
    path = save(tmp_path / "wrong.npz", X=bad_pixel(2.0), y=LABELS)
    with pytest.raises(ValueError, match="in image 4; "):
        load_images(path)


def test_wrong_arguments(tmp_path: Path) -> None:
    path = save(tmp_path / "set.npz", X=NHWC, y=LABELS)
    for layout in ("HWC", 3, ""):
        with pytest.raises(ValueError, match=r"^layout: expected one of NHWC, NCHW, NHW or None"):
            load_images(path, layout=layout)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^labels: expected 7 labels, .*got shape \(3,\)"):
        load_images(path, labels=[1, 2, 3])
    with pytest.raises(FileNotFoundError, match="missing"):
        load_images(tmp_path / "missing.npz")
    with pytest.raises(FileNotFoundError, match="missing"):
        load_images(path, labels=tmp_path / "missing.npy")


def test_mnist_labels_missing(tmp_path: Path) -> None:
    path = tmp_path / "t10k-images-idx3-ubyte"
    path.write_bytes(idx(NHWC[..., 0], 0x08))
    with pytest.raises(
        ValueError, match=r"its labels in t10k-labels-idx1-ubyte or .*labels=.*--labels"
    ):
        load_images(path)
    other = tmp_path / "digits.idx"
    other.write_bytes(idx(NHWC[..., 0], 0x08))
    with pytest.raises(ValueError, match="labels="):
        load_images(other)  # its own name without a change is not taken for the labels
    assert isinstance(load_images(other, labels=LABELS), ImageSet)


def npz_bytes(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def npy_bytes(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def zip_of(name: str, data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return file.getvalue()


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def lying_header(shape: str) -> bytes:
    """An .npy file whose header promises another shape than its two bytes of values."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + b"ab"


GOOD_NPZ = npz_bytes(X=NHWC, y=LABELS)
GOOD_NPY = npy_bytes(NHWC)
GOOD_IDX = idx(NHWC[..., 0], 0x08)
DAMAGED = {
    "empty": b"",
    "text": b"idx label predict\n",
    "pickle": pickle.dumps(NHWC),
    "npz cut": GOOD_NPZ[: len(GOOD_NPZ) // 2],
    "npz flipped": flipped(npz_bytes(X=NHWC), 500),
    "npz of nothing": b"PK\x05\x06" + bytes(18),
    "npz of text": zip_of("X.npy", b"no array at all"),
    "npz that promises more": zip_of("X.npy", lying_header("(1000000000000, 9, 9, 3)")),
    "npz that promises less": zip_of("X.npy", lying_header("(1,)")),
    "npz with a negative size": zip_of("X.npy", lying_header("(-1, -2)")),
    "npz with code in its header": zip_of("X.npy", lying_header("__import__('os')")),
    "npy cut": GOOD_NPY[:-1],
    "npy longer": GOOD_NPY + b"x",
    "npy header cut": GOOD_NPY[:40],
    "npy that promises more": lying_header("(1000000000000, 9, 9, 3)"),
    "npy of objects": npy_bytes(np.array([None, 3])),
    "npy of nothing": npy_bytes(NHWC[:0]),
    "idx cut": GOOD_IDX[:-1],
    "idx longer": GOOD_IDX + b"x",
    "idx header cut": GOOD_IDX[:9],
    "idx of nothing": idx(NHWC[:0, ..., 0], 0x08),
    "idx of no axes": bytes([0, 0, 8, 0, 5, 5]),
    "idx that promises more": GOOD_IDX[:4] + b"\xff" * 12 + GOOD_IDX[16:],
    "gz cut": gzip.compress(GOOD_IDX)[:-20],
    "gz flipped": flipped(gzip.compress(GOOD_IDX), 300),
    "gz checksum": flipped(gzip.compress(GOOD_IDX), len(gzip.compress(GOOD_IDX)) - 6),
    "gz of text": gzip.compress(b"idx label predict\n"),
    "gz longer": gzip.compress(GOOD_IDX + b"x"),
    "gz that promises more": gzip.compress(GOOD_IDX[:4] + b"\xff" * 12 + GOOD_IDX[16:]),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files(tmp_path: Path, name: str) -> None:
    """ValueError with the file's name, for images and for labels; and no large allocation."""
    path = tmp_path / "damaged"
    path.write_bytes(DAMAGED[name])
    with pytest.raises(ValueError, match="damaged"):
        load_images(path, labels=LABELS)
    good = save(tmp_path / "good.npz", X=NHWC)
    with pytest.raises(ValueError, match="damaged"):
        load_images(good, labels=path)


def test_every_truncation_of_a_file_is_refused(tmp_path: Path) -> None:
    """At any byte: no prefix of a good file is read as images."""
    path = tmp_path / "part"
    small = NHWC[:2, :3, :3]
    for whole in (npz_bytes(X=small, y=LABELS[:2]), npy_bytes(small), idx(small[..., 0], 8)):
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            with pytest.raises(ValueError, match="part"):
                load_images(path, labels=LABELS[:2])


def test_any_changed_byte_is_refused_or_harmless(tmp_path: Path) -> None:
    """Whatever a changed byte does, nothing but a ValueError with the file's name comes of it."""
    path = tmp_path / "part"
    small = NHWC[:2, :3, :3]
    for whole in (
        npz_bytes(X=small, y=LABELS[:2]),
        npy_bytes(small),
        gzip.compress(idx(small[..., 0], 8)),
    ):
        for at in range(len(whole)):
            path.write_bytes(flipped(whole, at))
            message = ""
            try:
                load_images(path, labels=LABELS[:2])
            except ValueError as error:
                message = str(error)
            assert not message or str(path) in message


@pytest.mark.parametrize("kind", ["npz", "gz"])
def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """With the limit lowered from 256 MiB to 64 KiB: blank images that pack a thousandfold."""
    monkeypatch.setattr(array_files, "_BOMB_BYTES", 1 << 16)
    blank = np.zeros((100, 28, 28), np.uint8)
    path = tmp_path / "bomb"
    path.write_bytes(npz_bytes(X=blank) if kind == "npz" else gzip.compress(idx(blank, 8)))
    with pytest.raises(ValueError, match=r"bomb.*unpack to 78\d\d\d, more than 200 times"):
        load_images(path, labels=np.zeros(100))
    monkeypatch.undo()
    assert len(load_images(path, labels=np.zeros(100))) == 100


def test_encrypted_member_is_refused(tmp_path: Path) -> None:
    """The encryption bit set by hand in both headers of an archive."""
    data = bytearray(GOOD_NPZ)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(signature)
        while at >= 0:
            data[at + offset] |= 1
            at = data.find(signature, at + 1)
    path = tmp_path / "locked.npz"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"locked\.npz: array X cannot be read: .*encrypted"):
        load_images(path)
