"""Logging: one set-up for our own lines (structlog) and those of libraries (standard logging).

Every room logs with `structlog.get_logger()`: the name of an event (docs/LOGS.md lists them) and key=value pairs. Here
it is decided how that looks: JSON lines for machines, or a console for people, where characters that would steer the
terminal are escaped, for names and errors come from peers.

A log travels: to other machines, into bug reports. So ids are shortened to what an eye can compare, and should an
invite code or a secret key ever get into a line, the part that must not be known is blotted out. Tracebacks never show
local variables: there are keys among them.

Lines go to stderr; stdout belongs to the answers of commands. What repeats is held back after a while (`Repeats`), but
counted and told. Lines of level debug are for somebody who wants to see everything.
"""

import io
import logging
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, MutableMapping
from typing import Any, TextIO

import structlog

SHOWN_CHARACTERS = 7  # of an id: its sigil and six of base64, enough to tell the peers of one pub apart

MAX_REPEATS = 10  # lines of one event in a minute: enough to see who and why; a thousand peers can each cause one
REPEATS_SECONDS = 60.0
MAX_EVENTS = 1000  # remembered at once; ours are 30, but libraries may put numbers into theirs

# What follows the key in an invite code (in its two spellings), and a private key.
_SECRET = re.compile(r"(?:(?<=\.ed25519~)|(?<=~shs:.{44}:))[A-Za-z0-9+/]{43}=|[A-Za-z0-9+/]{86}==(?=\.ed25519)")
_BLOT = "***"
_ID = re.compile(r"[@%&][A-Za-z0-9+/]{43}=\.(?:ed25519|sha256)")

Line = MutableMapping[str, Any]

written: Counter[str] = Counter()
"""Lines written by this process so far, by level."""

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class Repeats(logging.Filter):
    """Holds back what is said too often. `suppressed` counts all that was held back; each event's share is told."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.suppressed = 0
        self._clock = clock
        self._since = clock()
        self._seen: Counter[tuple[int, str]] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """May this line be written?"""
        event = record.msg["event"] if isinstance(record.msg, dict) else record.msg
        if record.levelno <= logging.DEBUG or event == "repeats_suppressed":
            return True
        if self._clock() - self._since >= REPEATS_SECONDS or len(self._seen) >= MAX_EVENTS:
            self.tell()
        self._seen[record.levelno, str(event)] += 1
        is_allowed = self._seen[record.levelno, str(event)] <= MAX_REPEATS
        self.suppressed += not is_allowed
        return is_allowed

    def tell(self) -> None:
        """Say how much of what was held back, and begin to count anew."""
        self._since, seen = self._clock(), self._seen.copy()
        self._seen.clear()
        for (_level, event), count in seen.items():
            if count > MAX_REPEATS:
                structlog.get_logger().warning("repeats_suppressed", repeated=event, count=count - MAX_REPEATS)


class _Handler(logging.StreamHandler[TextIO]):
    """Writes lines and counts them; at the end of the process it says what was held back."""

    def emit(self, record: logging.LogRecord) -> None:
        written[record.levelname.lower()] += 1
        super().emit(record)

    def close(self) -> None:
        repeats.tell()
        super().close()


repeats = Repeats()


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
        processors=[*before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = _Handler(stream)
    handler.addFilter(repeats)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *(_console(stream.isatty()) if is_console else _json()),
                _discreet,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[level])


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
            line[key] = "\n".join(map(_printable, value.split("\n"))) if key == "stack" else _printable(value)
    return line


def _discreet(_logger: object, _method: str, line: Any) -> str:
    return _ID.sub(lambda found: short(found[0]), _SECRET.sub(_BLOT, line))


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _traceback(out: TextIO, exc_info: structlog.typing.ExcInfo) -> None:
    plain = io.StringIO()
    structlog.dev.plain_traceback(plain, exc_info)
    out.write("\n".join(map(_printable, plain.getvalue().split("\n"))))
