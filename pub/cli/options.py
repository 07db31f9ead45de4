"""What every command takes: --data, --config and --json, before or after the command's name."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import click

from pub.config import Settings, load, parse_duration

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Place:
    """Which pub is meant, and how to answer: the click context's object."""

    data: str | None = None
    config: str | None = None
    as_json: bool = False

    def settings(self, flags: Mapping[str, object] | None = None) -> Settings:
        """The settings in force there; `flags` as in `pub.config.load`. Raises ConfigError."""
        return load(environ=os.environ, data=self.data, config=self.config, flags=flags)


pass_place = click.make_pass_decorator(Place, ensure=True)


def common(command: F) -> F:
    """Add the options. They end up in the `Place`; of one given twice the later counts."""
    for flag, metavar, text in (
        ("--config", "FILE", "Settings file; default <data>/config.yaml, also PUB_CONFIG."),
        ("--data", "DIR", "Folder of the pub; default ~/.ssb-pub, also PUB_DATA."),
    ):
        command = click.option(flag, metavar=metavar, help=text, expose_value=False, callback=_remember)(command)
    text = "Answer with one line of JSON."
    return click.option("--json", "as_json", is_flag=True, help=text, expose_value=False, callback=_remember)(command)


def _remember(context: click.Context, option: click.Parameter, value: str | bool | None) -> None:
    if value:
        context.obj = replace(context.obj or Place(), **{str(option.name): value})


def duration(_context: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    """Callback of an option that takes seconds, 12h or 30d; a zero duration is refused."""
    if value is None:
        return None
    try:
        seconds = parse_duration(value)
    except ValueError:
        seconds = 0
    if not seconds:
        raise click.BadParameter(f"{value!r} is no duration; write for example 12h, 30d or 2w")
    return seconds
