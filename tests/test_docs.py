"""The documentation says what is so: settings, commands, rooms, the store's layout, who may call what."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pub.cli import main
from pub.cli.lifecycle import EXIT_CODES
from pub.config import reference_table
from pub.errors import ExitCode
from pub.net.roles import Role
from pub.rpc.permissions import ALLOWED
from pub.store.env import ENGINE, SCHEMA, Store

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "ARCHITECTURE.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
ROOMS = [path.name for path in (ROOT / "pub").iterdir() if path.is_dir()]

# built, not written, so that this file does not hold what it forbids
PRIVATE = [f"/{folder}/" for folder in ("work", "root", "home", "Users")]
REGISTRIES = [f"{name}.{domain}" for name, domain in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"))]
FORBIDDEN = re.compile(rf"(?<![\w.<~-])(?:{'|'.join(PRIVATE)})|{'|'.join(map(re.escape, REGISTRIES))}")


def section(text: str, title: str) -> str:
    """What stands below a heading of the second level."""
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of a Markdown table, without its head."""
    table = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in table[2:]]


def code(text: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`\n]+)`", text)


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


COMMANDS = dict(commands(main, "ssb-pub"))
OPTIONS = {flag for each in COMMANDS.values() for option in each.params for flag in option.opts if flag[:2] == "--"}


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return [ROOT / name for name in listed.decode().split("\0") if name and (ROOT / name).is_file()]


# --- README --------------------------------------------------------------------------------------------------


def test_the_settings_are_those_of_the_readme() -> None:
    written = README.partition("<!-- settings -->\n")[2].partition("<!-- /settings -->")[0]
    assert written == reference_table()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_readme(command: str) -> None:
    assert re.search(rf"{command}\b", README)


@pytest.mark.parametrize("option", sorted(OPTIONS))
def test_every_option_is_in_the_readme(option: str) -> None:
    assert re.search(rf"(?<![\w-]){option}(?![\w-])", README)


def test_what_the_readme_types_exists() -> None:
    typed = re.findall(r"ssb-pub(?: --[a-z]+ \S+)*((?: [a-z]+)+)", README)
    known = {command.removeprefix("ssb-pub") for command in COMMANDS}
    assert typed
    assert [words for words in typed if not any(f"{words} ".startswith(f"{command} ") for command in known)] == []
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) <= OPTIONS


def test_the_exit_codes_are_those_of_the_readme() -> None:
    table = README.partition("<!-- exit codes -->\n")[2].partition("<!-- /exit codes -->")[0]
    assert [(int(code), meaning) for code, meaning, _advice in rows(table)] == list(EXIT_CODES.items())
    assert set(EXIT_CODES) == set(ExitCode) - {ExitCode.FAILED}  # which `run` never ends with
    shown = CliRunner().invoke(main, ["run", "--help"]).output
    assert [meaning for code, meaning in EXIT_CODES.items() if f"\n    {code:<3} {meaning}\n" not in shown] == []


def test_what_is_made_by_make_can_be_made() -> None:
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))
    documented = set(re.findall(r"^# make ([a-z]+)", MAKEFILE, re.MULTILINE))
    assert set(re.findall(r"make (run|test|check|format|lock|clean)\b", README)) <= documented <= targets
    assert targets - documented == {"lint"}  # a part of check


# --- the map -------------------------------------------------------------------------------------------------


def test_every_room_is_on_the_map() -> None:
    drawn = re.findall(r"^  (\w+(?:/|\.py))", section(ARCHITECTURE, "The rooms"), re.MULTILINE)
    built = {f"{name}/" for name in ROOMS if name != "__pycache__"}
    built |= {path.name for path in (ROOT / "pub").glob("*.py") if path.name != "__init__.py"}
    assert set(drawn) == built


def test_every_module_on_the_map_exists() -> None:
    named = [text for text in code(ARCHITECTURE) if text.partition("/")[0] in {*ROOMS, "tests"} and "/" in text]
    assert named
    for name in named:
        path = (ROOT if name.startswith("tests/") else ROOT / "pub") / name
        assert any(each.exists() for each in (path, path.with_suffix(".py"))), name


def test_every_sub_database_is_in_the_table() -> None:
    table = [name for row in rows(section(ARCHITECTURE, "The store")) for name in row[0].split(", ")]
    assert sorted(table) == sorted(name for name, kind in Store.__annotations__.items() if kind == "Database")
    assert f"engine format {ENGINE}, schema {SCHEMA}," in ARCHITECTURE


def test_the_roles_are_those_that_are_enforced() -> None:
    table = {role: {tuple(name.split(".")) for name in code(rights)} for role, _who, rights in roles()}
    stranger = table["stranger"]
    assert stranger == ALLOWED[Role.STRANGER]
    assert stranger | table["member"] == ALLOWED[Role.MEMBER]
    assert table["guest"] == ALLOWED[Role.GUEST]
    assert {role for role, *_ in roles()} == {each.value for each in Role} | {"blocked"}


def roles() -> list[list[str]]:
    return rows(section(ARCHITECTURE, "Roles"))


# --- all that is published -----------------------------------------------------------------------------------


def test_nothing_published_names_a_registry_or_a_folder_of_one_machine() -> None:
    files = {str(path.relative_to(ROOT)): path.read_text(errors="replace") for path in tracked_files()}
    assert [f"{name}: {found[0]}" for name, text in files.items() if (found := FORBIDDEN.search(text))] == []


@pytest.mark.parametrize("planted", [f"cd {PRIVATE[0]}x", f'"{PRIVATE[1]}"', f"https://files.{REGISTRIES[1]}/x"])
def test_what_is_planted_is_found(planted: str) -> None:
    assert FORBIDDEN.search(planted)


def test_the_locks_name_no_place_to_fetch_from() -> None:
    locks = [path for path in tracked_files() if path.suffix == ".lock" or path.name == "package-lock.json"]
    assert len(locks) == 6
    for lock in locks:
        text = lock.read_text()
        assert not re.search(r'^--|"resolved"| @ https?:', text, re.MULTILINE), lock
        assert "sha512-" in text or "--hash=sha256:" in text
