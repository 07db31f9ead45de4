"""Stores as the version before made them: a writer of the old layout, apart from ``pub.store``."""

import math
import struct
from pathlib import Path

import lmdb

from pub.protocol.classic import Message

ENGINE_MAJOR = 0
MAP = 64 << 20
FORKED = 1


def write_store(
    folder: Path,
    messages: list[Message],
    received: float,
    silent: tuple[bytes, ...] = (),
    forked: tuple[int, ...] = (),
    others: dict[str, dict[bytes, bytes]] | None = None,
    lost: Message | None = None,
) -> None:
    """A store that took in ``messages`` one by one. ``silent`` are keys of feeds without a message, ``forked`` numbers
    of feeds, ``others`` what is in the other sub-databases; ``lost`` is a message that is in no index any more.
    """
    folder.mkdir(exist_ok=True)
    keys = list(dict.fromkeys([message.author for message in messages])) + list(silent)
    heads = {message.author: message for message in messages}
    tables: dict[str, dict[bytes, bytes]] = {
        "feeds": {struct.pack(">I", n): _feed(key, heads.get(key), n in forked) for n, key in enumerate(keys)},
        "messages": {},
        "sequences": {},
        "ids": {},
        **{name: {} for name in ("edges", "forks", "members", "invites", "peers", "clocks")},
        **(others or {}),
    }
    tables["meta"] = {b"engine": b"0.9", b"schema": b"1"} | tables.get("meta", {})
    for count, message in enumerate(messages):
        if message is lost:
            continue
        number, feed = struct.pack(">Q", count + 1), keys.index(message.author)
        header = struct.pack(">II32sd", feed, message.sequence, message.id, received + count)
        tables["messages"][number] = header + message.encoded
        tables["sequences"][struct.pack(">II", feed, message.sequence)] = number
        tables["ids"][message.id] = number
    with lmdb.open(str(folder), map_size=MAP, mode=0o600, max_dbs=16, lib_version=ENGINE_MAJOR) as env:
        for name, table in tables.items():
            database = env.open_db(name.encode())
            with env.begin(db=database, write=True) as txn:
                txn.cursor().putmulti(table.items())


def _feed(key: bytes, head: Message | None, is_forked: bool) -> bytes:
    if head is None:
        return struct.pack(">32sI32sdB", key, 0, bytes(32), math.nan, 0)
    timestamp = math.nan if head.timestamp is None else head.timestamp
    return struct.pack(">32sI32sdB", key, head.sequence, head.id, timestamp, is_forked)
