"""``feeds``: what is stored of whom, and the proofs of forks."""

from collections.abc import Iterable
from typing import Any

import msgspec

from pub.net.connection import Connection
from pub.net.methods import Method, Methods
from pub.protocol.refs import feed_id, message_id
from pub.rpc.arguments import options
from pub.rpc.context import Pub
from pub.rpc.lists import first_feed, page
from pub.store.env import Txn
from pub.store.forks import Forks
from pub.store.log import Log


def list_feeds(pub: Pub, _caller: Connection, args: list[Any]) -> list[msgspec.Raw]:
    """``[{forked, after}]``: a page (lists.py) of the stored feeds, with ``forked: true`` only of those with a proof of
    a fork. A feed: ``{id, sequence, state, forked}``, where state is "ordinary" or "forked", and ``forked`` null or
    ``{sequence, found, ours: {key, value}, theirs: {key, value}}`` (see store/forks.py; ``found`` in ms).
    """
    with pub.store.read() as txn:
        return feeds_page(pub.log, txn, options(args))


def feeds_page(log: Log, txn: Txn, asked: dict[str, Any]) -> list[msgspec.Raw]:
    """The page that is asked for."""
    candidates = _candidates(log, first_feed(log, asked), bool(asked.get("forked")))
    return page(_feed_json(log, txn, feed) for feed in candidates)


def _candidates(log: Log, start: int, forked: bool) -> Iterable[int]:
    """Feeds that have messages; one that was only named in somebody's contact message has none."""
    if forked:
        return sorted(feed for feed in log.forked if feed >= start)
    return (feed for feed in range(start, len(log.heads)) if log.heads[feed])


def _feed_json(log: Log, txn: Txn, feed: int) -> dict[str, Any]:
    is_forked = feed in log.forked
    return {
        "id": feed_id(log.keys[feed]),
        "sequence": log.heads[feed],
        "state": "forked" if is_forked else "ordinary",
        "forked": _fork_json(log, txn, feed) if is_forked else None,
    }


def _fork_json(log: Log, txn: Txn, feed: int) -> dict[str, Any] | None:
    fork = Forks(log.store).get(txn, feed)
    if fork is None:
        return None
    [ours] = log.records(feed, fork.sequence - 1, 1)
    return {
        "sequence": fork.sequence,
        "found": fork.found,
        "ours": {"key": message_id(fork.ours), "value": msgspec.Raw(ours.encoded)},
        "theirs": {"key": message_id(fork.theirs), "value": msgspec.Raw(fork.encoded)},
    }


METHODS: Methods = {("feeds",): Method("sync", list_feeds)}
