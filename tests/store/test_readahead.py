"""What the kernel was told of the store's map."""

import sys
from pathlib import Path

import pytest

from pub.store import readahead
from pub.store.env import Store
from pub.store.readahead import no_readahead

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")


def flags(file: Path) -> list[str]:
    """Of each map of the file, as proc(5) has them: rr says that it is read at random."""
    found: list[str] = []
    is_ours = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            is_ours = line.endswith(str(file))
        elif is_ours and line.startswith("VmFlags:"):
            found.append(line)
    return found


def test_the_system_reads_single_pages_for_a_while(tmp_path: Path) -> None:
    with Store.open(tmp_path):
        with no_readahead(tmp_path):
            assert [" rr" in each for each in flags(tmp_path / "data.mdb")] == [True]
        assert [" rr" in each for each in flags(tmp_path / "data.mdb")] == [False]


def test_a_folder_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "folder", target_is_directory=True)
    (tmp_path / "folder").mkdir()
    with Store.open(tmp_path / "link"), no_readahead(tmp_path / "link"):
        assert [" rr" in each for each in flags(tmp_path / "folder" / "data.mdb")] == [True]


def test_a_system_that_does_not_tell_reads_as_always(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readahead, "MAPS", tmp_path / "maps")
    with Store.open(tmp_path), no_readahead(tmp_path):
        assert [" rr" in each for each in flags(tmp_path / "data.mdb")] == [False]
