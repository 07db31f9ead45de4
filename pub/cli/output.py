"""How commands answer: one line of JSON for scripts, sentences and tables for people.

Notes and names are written by people and shown on a terminal: what is not printable in them is not printed.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import click

PIPED_WIDTH = 240  # characters: a table in a pipe is cut by nobody's window


def print_json(value: Any) -> None:
    """One line; flushed, because `run` goes on living after it.

    Half a surrogate pair, which messages may hold, has no UTF-8: it is escaped, as JSON allows.
    """
    click.echo(json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace"))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns below their headings; with empty headings a list of facts."""
    from rich.console import Console  # a tenth of what a command costs that answers without a table
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=any(columns), pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        # half an id is no id, and one in two lines cannot be copied: where there is little room the others give way
        table.add_column(column, overflow="fold", no_wrap=column in ("id", "address"))
    for row in rows:
        table.add_row(*(Text(shown(cell)) for cell in row))
    Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH).print(table)


def shown(value: object) -> str:
    """Any value as a cell: nothing for None, and no character that steers the terminal."""
    text = "" if value is None else str(value)
    return "".join(character if character.isprintable() else " " for character in text)


def moment(milliseconds: float | None) -> str:
    """A time of SSB's (milliseconds since the epoch) for people, in UTC like the log."""
    if milliseconds is None:
        return "never"
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def span(seconds: float) -> str:
    """A duration for people: `3 d 4 h`, `12 min 5 s`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [f"{count} {unit}" for count, unit in ((days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")) if count]
    return " ".join(parts[:2]) or "0 s"
