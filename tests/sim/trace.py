"""What happened in a world: lines that people read, and a digest that two runs of one seed must share.

Every line begins with the virtual time and with whom it is about. The pubs' own log lines are among them. The digest
covers also what no line tells: each piece of bytes that arrived anywhere, and when.
"""

import hashlib
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import structlog
import trio

from pub.protocol.refs import feed_id

MAX_VALUE = 120  # characters of one value in a line

who = ContextVar("who", default="world")
"""Whose task this is: set where the task of a pub or a person begins, and inherited from there."""


class Trace:
    """See the file's text. ``names`` are what feed ids are called in the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._names: dict[str, str] = {}
        self._digest = hashlib.blake2b(digest_size=16)

    @property
    def digest(self) -> str:
        """Of everything so far."""
        return self._digest.copy().hexdigest()

    def name(self, key: bytes, name: str) -> None:
        """The feed of this key is called ``name`` from now on."""
        self._names[feed_id(key)] = name

    def note(self, event: str, **values: object) -> None:
        """A line about the task that calls."""
        said = " ".join(f"{key}={self._readable(value)}" for key, value in values.items() if value is not None)
        line = f"{trio.current_time():10.3f}  {who.get():<10} {event} {said}".rstrip()
        self.lines.append(line)
        self._digest.update(line.encode())

    def bytes_arrived(self, where: str, data: bytes) -> None:
        """For the digest alone."""
        self._digest.update(f"{trio.current_time()!r} {where} {len(data)} ".encode() + data)

    @contextmanager
    def logs(self) -> Iterator[None]:
        """What the pubs log becomes lines of the trace inside this block."""
        processors: list[Any] = structlog.get_config()["processors"]
        before = list(processors)
        processors[:] = [self._take_log]  # in place: bound loggers share the list
        try:
            yield
        finally:
            processors[:] = before

    def _take_log(self, _logger: object, level: str, line: Mapping[str, Any]) -> Mapping[str, Any]:
        values = {key: value for key, value in line.items() if key not in ("event", "exc_info")}
        self.note(f"[{level}] {line['event']}", **values)
        error = line.get("exc_info")
        if isinstance(error, BaseException):
            self.lines += "".join(traceback.format_exception(error)).splitlines()  # not in the digest: has addresses
        raise structlog.DropEvent

    def _readable(self, value: object) -> str:
        if isinstance(value, bytes):
            value = feed_id(value) if len(value) == 32 else value.hex()
        if isinstance(value, float):
            return f"{value:g}"
        text = str(value)
        for identifier, name in self._names.items():
            text = text.replace(identifier, name)
        return text[:MAX_VALUE]
