"""What goes through the writer: submissions of peers cut into chunks, jobs of ours, and what became of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import trio

from pub.protocol.classic import Message
from pub.store.log import Appender, Changes


class NotStored(StrEnum):
    """What became of a message that was handed in and not stored."""

    DUPLICATE = "duplicate"
    GAP = "gap"
    FORK = "fork"
    INVALID_FIRST = "invalid_first"
    BAD_SIGNATURE = "bad_signature"
    TOO_LARGE = "too_large"
    INVALID = "invalid"
    BUG = "bug"
    DISK_FULL = "disk_full"


class Refused(Protocol):
    """Told, after the commit, about each message of a submission that was not stored, and why in words."""

    def __call__(self, feed: int, sequence: int, outcome: NotStored, reason: str) -> None: ...


@dataclass(slots=True)
class Submission:
    """What one peer handed in at once: parallel lists of raw messages and where each claims to belong."""

    raws: Sequence[bytes]
    places: Sequence[tuple[int, int]]
    """(feed number, sequence) that the frame named; the verified message is what counts."""
    refused: Refused


@dataclass(slots=True)
class Item:
    raw: bytes
    feed: int
    sequence: int
    refused: Refused


@dataclass(slots=True)
class Chunk:
    items: list[Item]
    verdicts: list[Message | str | None] | None = None


@dataclass(slots=True)
class Job:
    run: Callable[[Appender], Any]
    done: trio.Event
    result: Any = None
    error: BaseException | None = None
    is_broken: bool = False


@dataclass(slots=True)
class Outcome:
    changes: Changes
    stored: int
    not_stored: list[tuple[Item, NotStored, str]]
