"""What went wrong below the store: the disk is full or broken, the file is damaged, or it is a bug of ours."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import lmdb

from pub.errors import StoreError, StoreFull

PROBE = 64 << 10  # bytes the disk must still have; a write that fitted in part has just taken the last ones

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_BROKEN = frozenset({errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENODEV})
_DAMAGED = (
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.PanicError,
    lmdb.InvalidError,
    lmdb.VersionMismatchError,
    lmdb.BadTxnError,  # what is said of a transaction that met a damaged page
)
# Where the file's magic number lies tells its engine apart, before either engine can say more than "not mine".
_MAGIC = 0xBEEFC0DE.to_bytes(4, "little")
_MAGIC_OFFSETS = {16: "0.9", 24: "1.0"}


def is_of_the_store(error: Exception) -> bool:
    """Did map, disk or file fail? A job that catches what is raised in it must let such an error pass.

    The store then grows the map and runs the job again, or says what is wrong as a StoreError.
    """
    if not isinstance(error, lmdb.Error):
        return False
    return isinstance(error, (lmdb.MapFullError, *_DAMAGED)) or error.code in _FULL | _BROKEN


def engine_of(path: Path) -> str | None:
    """The LMDB version that wrote the file; None when it is missing or not LMDB's at all."""
    try:
        with path.open("rb") as file:
            head = file.read(32)
    except OSError:
        return None
    return next((name for at, name in _MAGIC_OFFSETS.items() if head[at : at + 4] == _MAGIC), None)


def explain(error: lmdb.Error, folder: Path) -> Exception:
    """What the operator is told; an error that is neither the disk's nor the file's is a bug and stays as it is."""
    if error.code in _FULL or (error.code == errno.EIO and not can_grow(folder / "data.mdb", PROBE)):
        return StoreFull(f"no room left for the data folder {folder}: {error}")
    if error.code in _BROKEN:
        return StoreError(f"the data folder {folder} cannot be used: {error}")
    if isinstance(error, _DAMAGED):
        return StoreError(f"the store in {folder} is damaged: {error}")
    return error


def can_grow(path: Path, count: int) -> bool:
    """Has the disk ``count`` bytes more for the file? (LMDB calls a write that fits only in part an I/O error.)"""
    with path.open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            os.posix_fallocate(file.fileno(), size, count)
        except OSError as error:
            return error.errno not in _FULL
        finally:
            file.truncate(size)
    return True
