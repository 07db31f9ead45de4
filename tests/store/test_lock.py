import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pub.errors import StoreError, StoreLocked
from pub.store.lock import FolderLock

HOLD = """
import sys
from pathlib import Path
from pub.store.lock import FolderLock
lock = FolderLock(Path(sys.argv[1]), shared=sys.argv[2] == "shared")
print("locked", flush=True)
sys.stdin.read()
lock.release()
"""


@contextmanager
def other_process(folder: Path, how: str) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process


def test_a_second_pub_is_told_who_has_the_folder(tmp_path: Path) -> None:
    with other_process(tmp_path, "alone") as pub:
        with pytest.raises(StoreLocked) as refusal:
            FolderLock(tmp_path, shared=False)
        assert str(tmp_path) in str(refusal.value)
        assert f"process {pub.pid}" in str(refusal.value)
        with pytest.raises(StoreLocked, match=f"process {pub.pid}"):
            FolderLock(tmp_path, shared=True)
        pub.communicate()
    FolderLock(tmp_path, shared=False).release()


def test_a_pub_that_is_stopping_says_so(tmp_path: Path) -> None:
    pub = FolderLock(tmp_path, shared=False)
    pub.note_stopping()
    with pytest.raises(StoreLocked, match=f"process {os.getpid()}, which is stopping$"):
        FolderLock(tmp_path, shared=True)
    pub.release()


def test_a_killed_pub_leaves_its_id_but_no_lock(tmp_path: Path) -> None:
    with other_process(tmp_path, "alone") as pub:
        pub.send_signal(signal.SIGKILL)
    assert (tmp_path / "lock").read_text() == f"{pub.pid}\n"
    reader = FolderLock(tmp_path, shared=True)
    with pytest.raises(StoreLocked, match="a command that reads it"):  # not the process that is no more
        FolderLock(tmp_path, shared=False)
    reader.release()
    FolderLock(tmp_path, shared=False).release()


def test_readers_share_and_keep_a_pub_out_meanwhile(tmp_path: Path) -> None:
    with other_process(tmp_path, "shared") as reader:
        FolderLock(tmp_path, shared=True).release()
        with pytest.raises(StoreLocked, match="a command that reads it"):
            FolderLock(tmp_path, shared=False)
        reader.communicate()
    FolderLock(tmp_path, shared=False).release()


def test_the_same_process_cannot_lock_twice_either(tmp_path: Path) -> None:
    first = FolderLock(tmp_path, shared=False)
    with pytest.raises(StoreLocked, match=f"process {os.getpid()}$"):
        FolderLock(tmp_path, shared=False)
    first.release()


def test_a_released_lock_names_nobody(tmp_path: Path) -> None:
    FolderLock(tmp_path, shared=False).release()
    assert (tmp_path / "lock").read_text() == ""


def test_the_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    FolderLock(tmp_path / "new", shared=False).release()
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_is_a_file_is_the_operators_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot use the data folder .*/file: "):
        FolderLock(tmp_path / "file", shared=False)


def test_a_full_disk_keeps_nobody_from_the_lock(tmp_path: Path) -> None:
    """A pub that was killed on it must come back, to serve what it has."""
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, unlimited[1]))
    try:
        lock = FolderLock(tmp_path, shared=False)
        with pytest.raises(StoreLocked, match="in use by another process"):
            FolderLock(tmp_path, shared=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    lock.release()
