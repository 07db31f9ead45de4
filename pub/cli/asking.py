"""Who answers a command: the running pub if there is one, else the data folder, as far as reading goes."""

from collections.abc import Sequence
from typing import Any

from pub.config import Settings
from pub.net.control import PubNotRunning, ask


def read(settings: Settings, name: tuple[str, ...], args: Sequence[Any] = ()) -> Any:
    """The answer of the running pub or, when it is down, of what it left on disk. Raises OperatorError."""
    try:
        return ask(settings.socket, name, list(args))
    except PubNotRunning:
        from pub import offline  # most of the pub: a command that is answered starts faster without it

        return offline.answer(settings, name, args)


def read_all(settings: Settings, name: tuple[str, ...], asked: dict[str, Any]) -> list[dict[str, Any]]:
    """A list that comes in pages (rpc/lists.py): page after page, until one is empty."""
    found: list[dict[str, Any]] = []
    while page := read(settings, name, [asked]):
        found += page
        asked = {**asked, "after": page[-1]["id"]}
    return found


def change(settings: Settings, name: tuple[str, ...], args: list[Any]) -> Any:
    """Have the running pub do something. Raises OperatorError, RpcError when the pub refuses."""
    try:
        return ask(settings.socket, name, args)
    except PubNotRunning as error:
        raise PubNotRunning(f"{error}; `{' '.join(name)}` needs it: start it with `ssb-pub run`") from None
