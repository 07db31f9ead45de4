"""Data folders whose disk can be filled and emptied again, by limits of the kernel."""

import errno
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

SIZE = 32 << 20  # bytes of the small file system
STEPS = (1 << 20, 1 << 12)  # it is filled in large steps, then in pages


class Disk(Protocol):
    """Where ``folder`` lies."""

    folder: Path

    def fill(self, pid: int) -> None:
        """Not a page more for this process."""
        ...

    def make_room(self, pid: int) -> None:
        """Somebody has deleted something."""
        ...


class SmallFileSystem:
    """A file system of its own, with a file in the way. (The pub's log lies beside it.)"""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, pid: int) -> None:
        with self._ballast.open("ab") as file:
            for step in STEPS:
                while _extend(file.fileno(), step):
                    pass

    def make_room(self, pid: int) -> None:
        self._ballast.unlink()


class FileLimit:
    """The limit on the size of each file (EFBIG), where mounting is not allowed and beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self, pid: int) -> None:
        size = (self.folder / "data.mdb").stat().st_size
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, self._unlimited[1]))

    def make_room(self, pid: int) -> None:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, self._unlimited)


@contextmanager
def small_file_system(folder: Path) -> Iterator[SmallFileSystem | None]:
    """``None``: we may not mount."""
    folder.mkdir()
    options = f"size={SIZE},mode=0700"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        folder.rmdir()
        yield None
        return
    try:
        yield SmallFileSystem(folder)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _extend(file: int, count: int) -> bool:
    try:
        os.posix_fallocate(file, os.fstat(file).st_size, count)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False
    return True
