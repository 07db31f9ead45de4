"""From file, environment and command line to `Settings`; every refusal names source, key, value and what is allowed."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from pub.config.settings import DEFAULT_FOLDER, FILE_NAME, PLACES, SECTIONS, SETTINGS, VARIABLES, Settings
from pub.errors import ConfigError


def load(
    *,
    environ: Mapping[str, str],
    data: str | Path | None = None,
    config: str | Path | None = None,
    flags: Mapping[str, object] | None = None,
) -> Settings:
    """The settings in force. `data` and `config` are the command line's; `flags` maps dotted paths to values.

    Raises ConfigError, which names the source, the key, the value and what is allowed.
    """
    folder = _absolute(data or environ.get("PUB_DATA") or DEFAULT_FOLDER)
    named = config or environ.get("PUB_CONFIG")
    values = _from_file(_absolute(named) if named else folder / FILE_NAME, must_exist=bool(named))
    values |= _from_environment(environ)
    values |= {path: _read(path, value, f"command line: {path}") for path, value in (flags or {}).items()}
    return _build(folder, values)


def _absolute(name: str | Path) -> Path:
    try:
        return Path(name).expanduser().absolute()
    except RuntimeError:
        raise ConfigError(
            f"{name}: this user has no home folder; name the data folder with --data or PUB_DATA"
        ) from None


def _read(path: str, value: object, where: str) -> Any:
    kind = SETTINGS[path].kind
    try:
        return kind.read(value)
    except ValueError:
        shown = "the value" if kind.hidden else repr(value)
        raise ConfigError(f"{where}: {shown} is not allowed, it must be {kind.allowed}") from None


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    values = {}
    for variable in sorted(name for name in environ if name.startswith("PUB_") and name not in PLACES):
        if variable not in VARIABLES:
            hint = _suggestion(variable, [*VARIABLES, *PLACES])
            raise ConfigError(f"environment: {variable} is no setting of the pub{hint}")
        path = VARIABLES[variable]
        values[path] = _read(path, environ[variable], f"environment: {variable} ({path})")
    return values


def _from_file(file: Path, must_exist: bool) -> dict[str, Any]:
    values = {}
    for path, value in _flat(_document(file, must_exist), file):
        if path in PLACES.values():
            raise ConfigError(f"{file}: {path} cannot be set here; use --{path} or PUB_{path.upper()}")
        if path not in SETTINGS:
            raise ConfigError(f"{file}: {path} is no setting of the pub{_suggestion(path, SETTINGS)}")
        if value is not None:  # a key without a value keeps its default, like a section without keys
            values[path] = _read(path, value, f"{file}: {path}")
    return values


def _document(file: Path, must_exist: bool) -> dict[Any, Any]:
    try:
        document = yaml.load(file.read_text(encoding="utf-8"), _Loader)  # noqa: S506 (it is a SafeLoader)
    except FileNotFoundError:
        if must_exist:
            raise ConfigError(f"{file}: there is no such file") from None
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}") from None
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{file}{line}: {error.problem}") from None
    except yaml.YAMLError:
        raise ConfigError(f"{file}: is not YAML, it contains control characters") from None
    if not isinstance(document, dict | None):
        raise ConfigError(f"{file}: must hold `key: value` lines")
    return document or {}


class _Loader(yaml.SafeLoader):
    """PyYAML lets the last of two equal keys win in silence; here the second is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                raise yaml.constructor.ConstructorError(problem=f"{name} is given twice", problem_mark=key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def _flat(document: dict[Any, Any], file: Path) -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        if key not in SECTIONS:
            yield str(key), value
        elif isinstance(value, dict):
            yield from ((f"{key}.{inner}", inner_value) for inner, inner_value in value.items())
        elif value is not None:
            raise ConfigError(f"{file}: {key} is a section: its settings belong on lines of their own below it")


def _suggestion(wrong: str, known: Iterable[str]) -> str:
    """The last part alone may be right: `port` for `network.port` after a slip in the indentation."""
    last = wrong.rpartition(".")[2]
    found = [path for path in known if "." in path and path.rpartition(".")[2] == last]
    found = found or difflib.get_close_matches(wrong, list(known), n=1)
    return f"; did you mean {' or '.join(found)}?" if found else ""


def _build(folder: Path, values: dict[str, Any]) -> Settings:
    sections = {
        name: section(**{path.partition(".")[2]: values[path] for path in values if path.startswith(f"{name}.")})
        for name, section in SECTIONS.items()
    }
    return Settings(data=folder, **sections, **{path: value for path, value in values.items() if "." not in path})
