"""Safe reading of array files: .npz, .npy and idx (the format of MNIST).

What a file is shows in its first bytes, not in its suffix.  Sizes are checked against the file
before memory is asked for, nothing is ever unpickled, and every fault of the file is a ValueError
that names it.
"""

from __future__ import annotations

import gzip
import math
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
import numpy.typing as npt

__all__ = ["file_kind", "map_npy", "npz_members", "read_idx", "read_npz_member"]

# A file that grows past this size and by more than this factor is taken for a bomb: pictures
# shrink by less than 10 under deflate, whose own limit is 1032.
_BOMB_BYTES = 1 << 28
_BOMB_FACTOR = 200
_DEFLATE_LIMIT = 1032

# What the readers of the standard library and NumPy raise on bytes that are not what they seem.
_FAULTS = (
    ValueError,
    EOFError,
    MemoryError,
    OSError,  # a seek to before the file, gzip's checksums
    RuntimeError,  # encrypted members
    NotImplementedError,
    SyntaxError,  # NumPy's headers are Python literals
    tokenize.TokenError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)

_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def file_kind(path: Path) -> str:
    """Return ``"npz"``, ``"npy"`` or ``"idx"`` (gzipped or not)."""
    with path.open("rb") as file:
        head = file.read(6)
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return "npz"
    if head == b"\x93NUMPY":
        return "npy"
    if head[:2] == b"\x1f\x8b" or (head[:2] == b"\0\0" and head[2:3] and head[2] in _IDX_TYPES):
        return "idx"
    what = f"one that begins with {head!r}" if head else "an empty file"
    raise ValueError(f"{path}: expected a .npz, .npy or idx (.gz) file, got {what}")


def npz_members(path: Path) -> dict[str, zipfile.ZipInfo]:
    """List the arrays of an .npz file by name."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except _FAULTS as error:
        raise ValueError(f"{path}: expected an .npz file, got a damaged one: {error}") from error
    return {info.filename.removesuffix(".npy"): info for info in infos}


def read_npz_member(path: Path, info: zipfile.ZipInfo) -> npt.NDArray[Any]:
    """Read one array of an .npz file."""
    where = f"{path}: array {info.filename.removesuffix('.npy')}"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{where} is packed in a way that NumPy does not write")
    _refuse_bomb(where, info.compress_size, info.file_size)
    try:
        with zipfile.ZipFile(path) as archive:
            with archive.open(info) as member:
                fault = _header_fault(member, info.file_size)
            if fault is None:
                with archive.open(info) as member:
                    return np.lib.format.read_array(member, allow_pickle=False)
    except _FAULTS as error:
        raise ValueError(f"{where} cannot be read: {error}") from error
    raise ValueError(f"{where} {fault}")


def map_npy(path: Path) -> npt.NDArray[Any]:
    """Map an .npy file read-only: its values are read when they are used."""
    with path.open("rb") as file:
        try:
            fault = _header_fault(file, path.stat().st_size)
        except _FAULTS as error:
            raise ValueError(f"{path} cannot be read: {error}") from error
    if fault is not None:
        raise ValueError(f"{path} {fault}")
    array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _header_fault(file: IO[bytes], size: int) -> str | None:
    """Say why an .npy stream of ``size`` bytes does not hold what its header says, or None."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    else:  # 3.0 differs from 2.0 in the names of record fields only, and those are no images
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    if dtype.hasobject:
        return "holds Python objects, which are not unpickled"
    wanted = file.tell() + math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or wanted != size:
        return f"is damaged: shape {shape} of {dtype} needs {wanted} bytes, got {size}"
    if 0 in shape:
        return f"is empty: shape {shape}"
    return None


def _refuse_bomb(where: str, packed: int, size: int) -> None:
    if size > _BOMB_BYTES and size > _BOMB_FACTOR * max(1, packed):
        raise ValueError(
            f"{where}: expected images, got {packed} bytes that unpack to {size}, more than "
            f"{_BOMB_FACTOR} times as much; store it uncompressed if it is what you mean"
        )


def read_idx(path: Path) -> npt.NDArray[Any]:
    """Read an idx file: two zeros, a type, the number of axes, big-endian sizes, values."""
    packed = path.stat().st_size
    with path.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
    with gzip.open(path) if zipped else path.open("rb") as file:
        try:
            return _read_idx(file, packed, zipped=zipped)
        except _FAULTS as error:
            raise ValueError(f"{path} is no readable idx file: {error}") from error


def _read_idx(file: BinaryIO | gzip.GzipFile, packed: int, *, zipped: bool) -> npt.NDArray[Any]:
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _IDX_TYPES or head[3] == 0:
        raise ValueError(f"it begins with {head!r}")
    sizes = file.read(4 * head[3])
    if len(sizes) < 4 * head[3]:
        raise ValueError("it ends within its header")
    shape = struct.unpack(f">{head[3]}I", sizes)
    dtype = np.dtype(_IDX_TYPES[head[2]])
    wanted = math.prod(shape) * dtype.itemsize
    says = f"shape {shape} of {dtype.name} needs {wanted} bytes of values"
    if not wanted:
        raise ValueError(f"it is empty: shape {shape}")
    whole = 4 + len(sizes) + wanted
    # Before memory is asked for: what the file, or deflate at its limit, cannot hold is missing.
    if whole > (_DEFLATE_LIMIT * packed if zipped else packed):
        raise ValueError(f"{says}, got a file of {packed}")
    _refuse_bomb("it", packed, whole)
    data = file.read(wanted)
    if len(data) < wanted or file.read(1):
        raise ValueError(f"{says}, got {'fewer' if len(data) < wanted else 'more'}")
    return np.frombuffer(data, dtype).reshape(shape)
