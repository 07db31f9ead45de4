"""Readahead of the store's file, which LMDB can only have on or off for all its life.

The system reads far around each page that is missing: 128 KiB, on some disks megabytes. That is right for messages,
where those of one feed lie together. What a start reads is single pages of the indices, which lie all over the file:
after a boot it would read half of a file of a gigabyte for the sake of eight megabytes.
"""

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MAPS = Path("/proc/self/maps")

_madvise = ctypes.CDLL(None).madvise
_madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int


@contextmanager
def no_readahead(folder: Path) -> Iterator[None]:
    """For the length of the block the pages of the store in ``folder``, which is open, are read one by one. It is an
    advice: a system that does not take it reads as always.
    """
    areas = list(_areas(folder / "data.mdb"))
    for area in areas:
        _madvise(*area, mmap.MADV_RANDOM)
    try:
        yield
    finally:
        for area in areas:
            _madvise(*area, mmap.MADV_NORMAL)


def _areas(file: Path) -> Iterator[tuple[int, int]]:
    """Where it is mapped: addresses and sizes in bytes."""
    if not MAPS.exists():
        return
    name = str(file.resolve())
    for line in MAPS.read_text().splitlines():
        addresses, *_, path = line.split(maxsplit=5)
        if path == name:
            start, end = (int(address, 16) for address in addresses.split("-"))
            yield start, end - start
