"""The lock on the data folder: one pub, or any number of commands that only read.

It is an flock on the file ``lock``: the kernel drops it with the process, however that ends. The pub holds it
exclusively and writes its process id into the file, and that it is stopping; readers share it and write nothing.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from pub.errors import StoreError, StoreLocked


class FolderLock:
    """Held from construction until ``release``.

    Raises StoreLocked, naming the folder and who holds it, or StoreError when the folder cannot be used.
    """

    __slots__ = ("_file", "_shared")

    def __init__(self, folder: Path, *, shared: bool) -> None:
        self._shared = shared
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StoreError(f"cannot use the data folder {folder}: {error.strerror}") from error
        try:
            self._acquire()
        except BlockingIOError:
            holder = self._holder()
            os.close(self._file)
            raise StoreLocked(f"the data folder {folder} is in use by {holder}") from None
        except OSError as error:
            os.close(self._file)
            raise StoreError(f"cannot lock the data folder {folder}: {error.strerror}") from error

    def note_stopping(self) -> None:
        """Whoever is kept out is told that it is not for long."""
        self._note(b"stopping\n")

    def release(self) -> None:
        """Let others in; once only."""
        if not self._shared:
            os.ftruncate(self._file, 0)
        os.close(self._file)

    def _acquire(self) -> None:
        fcntl.flock(self._file, (fcntl.LOCK_SH if self._shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        if not self._shared:
            os.ftruncate(self._file, 0)
            self._note(b"%d\n" % os.getpid())

    def _note(self, line: bytes) -> None:
        """For whoever reads it; the lock holds without, and a pub on a full disk must start, to serve what it has."""
        with suppress(OSError):
            os.write(self._file, line)

    def _holder(self) -> str:
        """Who keeps us out. A process id in the file may be that of a pub that crashed: only its lock is proof."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            pid, _, state = os.pread(self._file, 40, 0).strip().decode("ascii", "replace").partition("\n")
            return (f"process {pid}" if pid else "another process") + (state and f", which is {state}")
        return "a command that reads it: try again in a moment"
