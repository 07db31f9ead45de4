"""What goes through the writer: submissions of peers cut into chunks, jobs of ours, and what became of them."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

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


class Submission:
    """What one peer handed in at once: parallel lists of raw messages and where each claims to belong.

    ``places`` are the (feed number, sequence) that the frames named; the verified message is what counts. ``sender``
    is whoever it came from: what one sender hands in keeps its order. ``size`` in bytes.
    """

    __slots__ = ("places", "raws", "refused", "sender", "size")

    def __init__(
        self, sender: Hashable, raws: Sequence[bytes], places: Sequence[tuple[int, int]], refused: Refused
    ) -> None:
        self.sender = sender
        self.raws = raws
        self.places = places
        self.refused = refused
        self.size = sum(map(len, raws))


@dataclass(slots=True)
class Chunk:
    """Submissions that are verified at once; ``verdicts`` is as long as all their messages together."""

    submissions: list[Submission]
    verdicts: list[Message | str | None] | None = None


class Refusal(NamedTuple):
    """One message that was not stored, and why in words."""

    submission: Submission
    number: int
    """Which of its messages."""
    outcome: NotStored
    reason: str


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
    refusals: list[Refusal]
