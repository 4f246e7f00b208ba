"""Finds the PTX in a fat binary, the container that nvcc embeds in an object file.

NVIDIA does not document it; this reads what nvcc 12 and 13 write with --no-compress: a header
(magic, version, its own size, size of all entries), then entries, each with a header of its own
(kind 1 is PTX, sizes of header and content, the architecture).
"""

from __future__ import annotations

import struct
from collections.abc import Callable

MAGIC = 0xBA55ED50
_HEADER = struct.Struct("<IHHQ")
_ENTRY = struct.Struct("<HHIQIIII")
_PTX = 1


def ptx_texts(read: Callable[[int, int], bytes]) -> dict[int, str]:
    """PTX text by architecture (75, 90, ...); ``read(offset, size)`` gives bytes of the file."""
    magic, _, header_size, total = _HEADER.unpack(read(0, _HEADER.size))
    if magic != MAGIC:
        raise ValueError(f"not a fat binary: magic number {magic:#x}")
    texts = {}
    offset, end = header_size, header_size + total
    while offset < end:
        entry = _ENTRY.unpack(read(offset, _ENTRY.size))
        kind, own_size, size, compressed, architecture = (entry[k] for k in (0, 2, 3, 4, 7))
        if kind == _PTX:
            content = read(offset + own_size, size)
            if compressed or b".version" not in content:
                raise ValueError("compressed PTX: build with nvcc --no-compress")
            texts[architecture] = content.split(b"\0", 1)[0].decode()
        offset += own_size + size
    return texts


def best_for(texts: dict[int, str], architecture: int) -> str:
    """What the driver would take: the newest PTX that is not newer than the device."""
    possible = [found for found in texts if found <= architecture]
    if not possible:
        raise ValueError(f"no PTX for architecture {architecture}, only for {sorted(texts)}")
    return texts[max(possible)]
