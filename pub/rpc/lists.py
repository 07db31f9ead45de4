"""Lists with an entry for each feed. There may be a hundred thousand, so they come in pages that cost the event loop a
few milliseconds each: the caller asks again, with the last id it got as ``after``, until nothing comes.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from pub.errors import RpcError
from pub.protocol.refs import feed_key, is_feed_id
from pub.store.log import Log

PAGE_BYTES = 128 << 10  # of JSON: 1,000 feeds or 800 members, or all that proves two forks of the longest messages


def page(entries: Iterable[dict[str, Any]]) -> list[msgspec.Raw]:
    """The first of these, each as JSON text; at least one, if there is one. The others are not looked at."""
    found: list[msgspec.Raw] = []
    room = PAGE_BYTES
    for entry in entries:
        encoded = msgspec.json.encode(entry)
        room -= len(encoded)
        if room < 0 and found:
            break
        found.append(msgspec.Raw(encoded))
    return found


def first_feed(log: Log, asked: dict[str, Any]) -> int:
    """The number of the first feed that may be on the page that is asked for."""
    after = asked.get("after")
    if after is None:
        return 0
    if not is_feed_id(after) or (feed := log.numbers.get(feed_key(str(after)))) is None:
        raise RpcError("after is not the id of a stored feed")
    return feed + 1
