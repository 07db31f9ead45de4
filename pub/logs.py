"""Logging: one set-up for our own lines (structlog) and those of libraries (standard logging).

Every room logs with `structlog.get_logger()`: an event in plain words and key=value pairs, ids in full. Here it is
decided how that looks. JSON lines are for machines: nothing is cut. The console is for people: ids are shortened to
what an eye can compare, and characters that would steer the terminal are escaped: names and errors come from peers.

An event that peers can bring about as often as they like is written a few times a minute (`Repeats`): a disk is full of
log lines sooner than of messages, and nobody reads the thousandth. The counters of `metrics` count them all.

Tracebacks never show local variables: there are keys among them. Lines go to stderr; stdout belongs to the answers of
commands.
"""

import io
import logging
import re
import sys
import time
from collections.abc import Callable, MutableMapping
from typing import Any, TextIO

import structlog

MAX_REPEATS = 10  # lines of one event in a window: enough to see what is going on
REPEATS_SECONDS = 60.0  # the window: nobody who looks for an event waits longer for the next line of it

SHOWN_CHARACTERS = 7  # of an id: its sigil and six of base64, enough to tell the peers of one pub apart

_ID = re.compile(r"[@%&][A-Za-z0-9+/]{43}=\.(?:ed25519|sha256)")

Line = MutableMapping[str, Any]

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(style: str, level: str, stream: TextIO | None = None) -> None:
    """Send all logging to `stream`, stderr by default. `style` is console, json or auto (console on a terminal)."""
    stream = stream or sys.stderr
    is_console = style == "console" or (style == "auto" and stream.isatty())
    before: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if is_console else "iso", utc=not is_console, key="time"),
    ]
    structlog.configure(
        processors=[Repeats(), *before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *(_console(stream.isatty()) if is_console else _json()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[level])


class Repeats:
    """A processor that lets through ``MAX_REPEATS`` lines of an event in each window and drops the rest.

    The first line of a later window says how many were left out (``left_out``). Lines for debugging all come through:
    who asks for them wants them. Events are our own words, so there are only so many of them.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ends: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def __call__(self, _logger: object, method: str, line: Line) -> Line:
        """See ``structlog.typing.Processor``. Raises DropEvent."""
        if method == "debug":
            return line
        event, now = str(line["event"]), self._clock()
        if now >= self._ends.get(event, now):
            left_out = self._counts.get(event, 0) - MAX_REPEATS
            self._ends[event], self._counts[event] = now + REPEATS_SECONDS, 0
            if left_out > 0:
                line["left_out"] = left_out
        self._counts[event] += 1
        if self._counts[event] > MAX_REPEATS:
            raise structlog.DropEvent
        return line


def short(identifier: str) -> str:
    """The beginning of an id, for people: `@abcdef…`. Text that is no longer than that stays as it is."""
    return identifier if len(identifier) <= SHOWN_CHARACTERS + 1 else identifier[:SHOWN_CHARACTERS] + "…"


def _json() -> list[structlog.typing.Processor]:
    return [
        structlog.processors.format_exc_info,
        _important_first,
        structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
    ]


def _console(colours: bool) -> list[structlog.typing.Processor]:
    return [
        _for_people,
        structlog.dev.ConsoleRenderer(
            colors=colours,
            timestamp_key="time",
            exception_formatter=_traceback,
            pad_event_to=40,
        ),
    ]


def _important_first(_logger: object, _method: str, line: Line) -> Line:
    return {"time": line["time"], "level": line["level"], "event": line["event"], **line}


def _for_people(_logger: object, _method: str, line: Line) -> Line:
    for key, value in line.items():
        if isinstance(value, str):
            line[key] = "\n".join(map(_readable, value.split("\n"))) if key == "stack" else _readable(value)
    return line


def _readable(text: str) -> str:
    return _printable(_ID.sub(lambda found: short(found[0]), text))


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _traceback(out: TextIO, exc_info: structlog.typing.ExcInfo) -> None:
    plain = io.StringIO()
    structlog.dev.plain_traceback(plain, exc_info)
    out.write("\n".join(map(_printable, plain.getvalue().split("\n"))))
