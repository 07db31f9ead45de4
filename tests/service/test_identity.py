"""The data folder on first start, and every way in which it can be half made, damaged or out of reach."""

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pub.config import config_text
from pub.errors import ConfigError, StoreError, StoreFull, StoreLocked
from pub.protocol.keys import KeyPair, parse_secret, render_secret
from pub.service.identity import owner, prepare
from pub.store.env import Store
from tests.service.people import person, settings_of

NOBODY = 65534


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def owner_of(folder: Path) -> bytes | None:
    with Store.open(folder, readonly=True) as store:
        return owner(store)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may write everywhere; what is tested here must happen to others."""
    before = os.geteuid()
    os.seteuid(NOBODY if before == 0 else before)
    try:
        yield
    finally:
        os.seteuid(before)


def test_the_first_start_makes_everything_and_nobody_else_may_read_it(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "pub"
    keys = prepare(settings_of(folder))
    assert mode_of(folder) == 0o700
    assert {path.name for path in folder.iterdir()} == {"config.yaml", "data.mdb", "lock", "lock.mdb", "secret"}
    assert {mode_of(path) for path in folder.iterdir()} == {0o600}
    assert parse_secret((folder / "secret").read_text()).seed == keys.seed
    assert (folder / "config.yaml").read_text() == config_text()
    assert owner_of(folder) == keys.public


def test_the_second_start_changes_nothing(tmp_path: Path) -> None:
    first = prepare(settings_of(tmp_path))
    (tmp_path / "config.yaml").write_text("name: Harbour\n")
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert prepare(settings_of(tmp_path)).seed == first.seed
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_the_key_is_as_random_as_what_it_is_made_of(tmp_path: Path) -> None:
    seed = person("the pub").seed
    assert prepare(settings_of(tmp_path), lambda count: seed[:count]).seed == seed
    assert prepare(settings_of(tmp_path / "other")).seed != seed


# --- first starts that were cut short -----------------------------------------------------------------------


@pytest.mark.parametrize("step", ["_write_secret", "adopt", "Store.write", "Path.rename"])
def test_a_first_start_that_is_killed_at_any_step_is_made_good_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def die(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"pub.service.identity.{step}", die)
        with pytest.raises(KeyboardInterrupt):
            prepare(settings_of(tmp_path))
    assert not (tmp_path / "secret").exists()
    keys = prepare(settings_of(tmp_path))
    assert owner_of(tmp_path) == keys.public  # else it would never dare to publish
    assert prepare(settings_of(tmp_path)).seed == keys.seed
    assert not (tmp_path / "secret.new").exists()


def test_a_key_that_the_store_knows_already_is_not_made_twice(tmp_path: Path) -> None:
    keys = prepare(settings_of(tmp_path))
    (tmp_path / "secret").rename(tmp_path / "secret.new")  # killed just before the last step
    assert prepare(settings_of(tmp_path)).seed == keys.seed


def test_a_full_disk_on_the_first_start_leaves_a_folder_that_can_start_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object) -> None:
        raise StoreFull("no room left")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", full)
        with pytest.raises(StoreFull):
            prepare(settings_of(tmp_path))
    assert prepare(settings_of(tmp_path)).public == owner_of(tmp_path)


def test_of_two_first_starts_one_gives_way(tmp_path: Path) -> None:
    with Store.open(tmp_path), pytest.raises(StoreLocked, match="in use"):
        prepare(settings_of(tmp_path))


def test_the_slower_of_two_first_starts_takes_the_key_of_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quicker: list[KeyPair] = []
    exists = os.path.lexists

    def overtaken(path: Path) -> bool:
        if not quicker:
            quicker.append(person("the quicker one"))
            monkeypatch.setattr(os.path, "lexists", exists)
            prepare(settings_of(tmp_path), lambda _count: quicker[0].seed)
            return False
        return exists(path)

    monkeypatch.setattr(os.path, "lexists", overtaken)
    assert prepare(settings_of(tmp_path)).seed == quicker[0].seed


# --- secrets that are missing, foreign or unreadable ---------------------------------------------------------


def test_a_store_without_its_secret_gets_no_new_one(tmp_path: Path) -> None:
    prepare(settings_of(tmp_path))
    (tmp_path / "secret").unlink()
    with pytest.raises(StoreError, match="secret file is missing: put it back") as refused:
        prepare(settings_of(tmp_path))
    assert refused.value.exit_code == 74
    assert not (tmp_path / "secret").exists()


def test_a_new_key_of_another_birth_does_not_take_the_place_of_a_lost_one(tmp_path: Path) -> None:
    prepare(settings_of(tmp_path))
    (tmp_path / "secret").unlink()
    (tmp_path / "secret.new").write_text(render_secret(person("somebody else")))
    with pytest.raises(StoreError, match="missing"):
        prepare(settings_of(tmp_path))


@pytest.mark.parametrize("content", [b"hunter2", b"", b"\xff\xfe", b"{}", None])
def test_a_secret_that_cannot_be_read_is_named_but_not_shown(tmp_path: Path, content: bytes | None) -> None:
    if content is None:
        (tmp_path / "secret").mkdir()
    else:
        (tmp_path / "secret").write_bytes(content)
    with pytest.raises(ConfigError, match="secret") as refused:
        prepare(settings_of(tmp_path))
    assert refused.value.exit_code == 78
    assert str(tmp_path / "secret") in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_a_secret_of_somebody_elses_is_named(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:  # nobody may walk through pytest's own folders
        data = Path(folder)
        data.chmod(0o755)
        (data / "config.yaml").touch()
        (data / "secret").write_text(render_secret(person("the pub")))
        (data / "secret").chmod(0)
        with as_nobody(), pytest.raises(ConfigError, match=r"cannot read .*secret: Permission denied"):
            prepare(settings_of(data))


def test_a_link_to_where_nothing_is_is_no_reason_for_a_new_pub(tmp_path: Path) -> None:
    (tmp_path / "secret").symlink_to(tmp_path / "not mounted yet")
    with pytest.raises(ConfigError, match="No such file"):
        prepare(settings_of(tmp_path))
    assert (tmp_path / "secret").is_symlink()


# --- folders that cannot be used -----------------------------------------------------------------------------


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "file" / "pub")
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot use the data folder .*/file/pub: Not a directory"):
        prepare(settings)


def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "pub")
    tmp_path.chmod(0o500)
    with as_nobody(), pytest.raises(StoreError, match=r"cannot use the data folder .*: Permission denied") as refused:
        prepare(settings)
    assert refused.value.exit_code == 74
