"""What the crowd of a crash test has written: signed feeds, made once for a test run, by several processes.

Each carrier has a feed of its own that follows authors, and carries their feeds: so the pub replicates all of it once
it follows the carriers.
"""

import multiprocessing
import os
import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from pub.protocol.classic import Head, create
from pub.protocol.keys import KeyPair

CARRIERS = 4
AUTHORS = 10  # that each carrier follows
TEXT = 300  # characters in a message, on the average: some 650 bytes of JSON, as in the wild
NOON = 1_700_000_000_000.0  # ms since the epoch


def keys_of(name: str) -> KeyPair:
    return KeyPair.generate(name.encode().ljust(32))


def author_name(carrier: int, number: int) -> str:
    return f"author {number} of carrier {carrier}"


@dataclass(frozen=True, slots=True)
class Carrier:
    """One peer: ``feeds`` are all those it carries, its own first, as JSON texts by feed id."""

    keys: KeyPair
    feeds: dict[str, list[bytes]]


@dataclass(frozen=True, slots=True)
class Library:
    """All that was written."""

    carriers: list[Carrier]

    @property
    def feeds(self) -> dict[str, list[bytes]]:
        return {feed: messages for carrier in self.carriers for feed, messages in carrier.feeds.items()}

    @property
    def count(self) -> int:
        return sum(map(len, self.feeds.values()))


def write_library(messages: int) -> Library:
    """About so many messages, in all."""
    each = messages // (CARRIERS * AUTHORS)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=context) as pool:
        written = pool.map(
            partial(_write_posts, each), [author_name(c, n) for c in range(CARRIERS) for n in range(AUTHORS)]
        )
        posts = iter(list(written))
    carriers = []
    for number in range(CARRIERS):
        authors = [keys_of(author_name(number, n)).id for n in range(AUTHORS)]
        keys = keys_of(f"carrier {number}")
        follows = [{"type": "contact", "contact": author, "following": True} for author in authors]
        feeds = {keys.id: _sign(keys, follows)}
        carriers.append(Carrier(keys, feeds | {author: next(posts) for author in authors}))
    return Library(carriers)


def _write_posts(count: int, name: str) -> list[bytes]:
    rng = random.Random(name)
    texts = ["".join(rng.choices("abcdefg ", k=rng.randrange(2 * TEXT))) for _ in range(count)]
    return _sign(keys_of(name), [{"type": "post", "text": text} for text in texts])


def _sign(keys: KeyPair, contents: list[dict[str, Any]]) -> list[bytes]:
    head: Head | None = None
    feed = []
    for number, content in enumerate(contents):
        message = create(keys, head, content, NOON + number)
        head = message.head
        feed.append(message.encoded)
    return feed
