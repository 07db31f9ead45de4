"""Feeds to measure with: made up by seed, signed for real, kept on disk.

A data set is one member of the pub, the *hub*, who follows every author, and the authors' feeds. The same shape is the
same bytes on every machine. What people write here is made like what they write elsewhere: mostly posts, some votes,
contacts (among the authors), names with letters outside ASCII, and encrypted messages.

On disk: one message per line, the hub's first, then feed after feed. Making 100,000 messages takes about three seconds.
"""

import multiprocessing
import os
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

from msgspec.json import encode as encode_json
from msgspec.json import format as format_json

from pub.protocol.canonical import low_bytes
from pub.protocol.keys import KeyPair
from pub.protocol.refs import message_id

FOLDER = Path(__file__).parent / "data"
EPOCH = 1_700_000_000_000.0  # ms; the first message was written then
POOL_MESSAGES = 5000  # fewer are made sooner than other processes start
ENVELOPE = 360  # bytes of a post without its text
OTHERS = 0.25  # share of messages that are no posts; they have 560 bytes on average
OTHERS_BYTES = 560
TEXT = (
    "the of and a in to it is was that on for with his be at by had not are but from or have they which one you were "
    "boat harbour wind mast rope anchor island ferry lantern kettle bread plum orchard fence ladder paint hammer "
    "message friend neighbour letter morning evening winter summer rain river bridge mountain path forest meadow"
)
WORDS = TEXT.split()

Content = dict[str, Any] | str  # of a message: JSON, or encrypted


@dataclass(frozen=True)
class Shape:
    """How many feeds of how many messages of how many bytes (on average, as compact JSON).

    Two of one shape are two sets of other people if they have another ``label``.
    """

    feeds: int
    messages: int
    size: int = 600
    label: str = ""

    def __str__(self) -> str:
        return f"{self.feeds:,} x {self.messages:,}{self.label}"


@dataclass(frozen=True)
class Feed:
    """An author and all they wrote, in order, as it goes over the wire."""

    keys: KeyPair
    messages: list[bytes]

    @property
    def id(self) -> str:
        return self.keys.id


@dataclass(frozen=True)
class DataSet:
    """See the file's text."""

    hub: Feed
    feeds: list[Feed]

    @property
    def count(self) -> int:
        """Messages of the authors, without the hub's."""
        return sum(len(feed.messages) for feed in self.feeds)

    @property
    def raw_bytes(self) -> int:
        """Of all messages, the hub's included."""
        return sum(len(message) for feed in (self.hub, *self.feeds) for message in feed.messages)

    def round_robin(self) -> Iterator[bytes]:
        """One message of each feed, then the next of each: how they come from a peer who has many feeds."""
        return chain.from_iterable(zip(*(feed.messages for feed in self.feeds), strict=True))


def keys_of(*names: object) -> KeyPair:
    """The identity that belongs to these names."""
    return KeyPair.generate(sha256(" ".join(map(str, ("benchmark", *names))).encode()).digest())


def write_feed(keys: KeyPair, contents: list[Content], start: float = EPOCH, step: float = 1) -> Feed:
    """Sign a feed; ``start`` and ``step`` (ms) are the times of its messages."""
    last: str | None = None
    messages = []
    for number, content in enumerate(contents):
        message, last = _sign(keys, last, number + 1, int(start + number * step), content)
        messages.append(message)
    return Feed(keys, messages)


def _sign(keys: KeyPair, last: str | None, sequence: int, time: int, content: Content) -> tuple[bytes, str]:
    """A message and its id: what ``classic.create`` makes, in a third of the time because it is not checked again.

    That holds for content whose normal form msgspec writes as well: no fractions, no keys that are numbers.
    """
    fields = {
        "previous": last,
        "sequence": sequence,
        "author": keys.id,
        "timestamp": time,
        "hash": "sha256",
        "content": content,
    }
    signature = b64encode(keys.sign(format_json(encode_json(fields), indent=2))).decode() + ".sig.ed25519"
    message = encode_json(fields | {"signature": signature})
    return message, message_id(sha256(low_bytes(format_json(message, indent=2))).digest())


def load(shape: Shape, folder: Path = FOLDER) -> DataSet:
    """From disk; made first if it is not there yet."""
    lines = make(shape, folder).read_bytes().splitlines()
    cuts = range(shape.feeds, len(lines), shape.messages)
    authors = _authors(shape)
    feeds = [Feed(keys, lines[cut : cut + shape.messages]) for keys, cut in zip(authors, cuts, strict=True)]
    return DataSet(Feed(keys_of(shape, "hub"), lines[: shape.feeds]), feeds)


def make(shape: Shape, folder: Path = FOLDER) -> Path:
    """The file of a data set; written first if it is not there yet. (See mapped.py for those too large for memory.)"""
    path = folder / f"{shape.feeds}x{shape.messages}-{shape.size}{shape.label}.ndjson"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        with unfinished.open("wb") as file:
            file.writelines(line + b"\n" for line in _make(shape))
        unfinished.rename(path)
    return path


def _authors(shape: Shape) -> list[KeyPair]:
    return [keys_of(shape, number) for number in range(shape.feeds)]


def _make(shape: Shape) -> Iterator[bytes]:
    ids = [keys.id for keys in _authors(shape)]
    follows: list[Content] = [{"type": "contact", "contact": each, "following": True} for each in ids]
    yield from write_feed(keys_of(shape, "hub"), follows).messages
    write = partial(_write_author, shape, ids)
    if shape.feeds * shape.messages < POOL_MESSAGES:
        yield from chain.from_iterable(map(write, range(shape.feeds)))
        return
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from chain.from_iterable(pool.map(write, range(shape.feeds), chunksize=max(1, shape.feeds // 100)))


def _write_author(shape: Shape, ids: list[str], number: int) -> list[bytes]:
    rng = Random(f"{shape} {number}")
    length = (shape.size - OTHERS * OTHERS_BYTES) / (1 - OTHERS) - ENVELOPE
    contents = [_content(rng, ids, length) for _ in range(shape.messages)]
    return write_feed(keys_of(shape, number), contents, EPOCH + number, shape.feeds).messages


def _content(rng: Random, ids: list[str], length: float) -> Content:
    """Something a person might write; ``length`` is that of a post's text, on average."""
    kind = rng.random()
    if kind < 1 - OTHERS:
        return {"type": "post", "text": _text(rng, round(length * rng.uniform(0.4, 1.6)))}
    if kind < 0.85:
        link = "%" + b64encode(rng.randbytes(32)).decode() + ".sha256"
        return {"type": "vote", "vote": {"link": link, "value": 1, "expression": "Like"}}
    if kind < 0.92:
        return {"type": "contact", "contact": rng.choice(ids), "following": True}
    if kind < 0.95:
        return {"type": "about", "about": rng.choice(ids), "name": f"{rng.choice(WORDS)} ö✓ {rng.randrange(1000)}"}
    return b64encode(rng.randbytes(rng.randrange(300, 900))).decode() + ".box"


def _text(rng: Random, length: int) -> str:
    words = rng.choices(WORDS, k=max(1, length // 4))
    return " ".join(words)[: max(1, length)]
