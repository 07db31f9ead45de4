"""``friends.*``: whom the pub follows and blocks. Each decision is a contact message on the pub's own feed."""

from typing import Any

import msgspec

from pub.errors import RpcError
from pub.net.connection import Connection
from pub.net.methods import Method, Methods
from pub.protocol.classic import Message
from pub.protocol.contacts import BLOCK, FOLLOW
from pub.protocol.refs import feed_key, is_feed_id, message_id
from pub.rpc.arguments import required
from pub.rpc.context import Pub
from pub.store.log import Appender
from pub.store.members import Member


async def follow(pub: Pub, _caller: Connection, args: list[Any]) -> Any:
    """``[id, {state}]``: follow a feed, or with ``state: false`` no longer. Answers with our message."""
    feed, state = _feed_and_state(pub, args)
    return await _say(pub, feed, {"following": state}, is_member=state)


async def block(pub: Pub, _caller: Connection, args: list[Any]) -> Any:
    """``[id, {state, reason}]``: block a feed, or with ``state: false`` no longer. The reason is public."""
    feed, state = _feed_and_state(pub, args)
    options = args[1] if len(args) > 1 and isinstance(args[1], dict) else {}
    reason = options.get("reason")
    relation = {"blocking": state} | ({"reason": reason} if isinstance(reason, str) and reason else {})
    return await _say(pub, feed, relation, is_member=False)


def is_following(pub: Pub, _caller: Connection, args: list[Any]) -> bool:
    """``[{source, dest}]``: does source follow dest, as far as this pub knows?"""
    return _edge(pub, args) == FOLLOW


def is_blocking(pub: Pub, _caller: Connection, args: list[Any]) -> bool:
    """``[{source, dest}]``: does source block dest, as far as this pub knows?"""
    return _edge(pub, args) == BLOCK


def _feed_and_state(pub: Pub, args: list[Any]) -> tuple[str, bool]:
    feed = required(args)
    if not is_feed_id(feed):
        raise RpcError(f"not a feed id: {str(feed)[:80]}")
    if feed == pub.keys.id:
        raise RpcError("a pub can neither follow nor block itself")
    options = args[1] if len(args) > 1 and isinstance(args[1], dict) else {}
    return feed, options.get("state", True) is not False


def _edge(pub: Pub, args: list[Any]) -> int | None:
    asked = required(args)
    ends = (asked.get("source"), asked.get("dest")) if isinstance(asked, dict) else (None, None)
    if not all(map(is_feed_id, ends)):
        raise RpcError("source and dest must be feed ids")
    source, dest = (pub.log.numbers.get(feed_key(end)) for end in ends)
    return None if source is None or dest is None else pub.graph.edge(source, dest)


async def _say(pub: Pub, feed: str, relation: dict[str, Any], *, is_member: bool) -> Any:
    """Publish the contact message and keep the list of members in step with it, in one transaction."""

    def job(appender: Appender) -> Message:
        message = pub.ingest.append_own(appender, {"type": "contact", "contact": feed, **relation})
        number = appender.intern(feed_key(feed))
        if not is_member:
            pub.members.remove(appender.txn, number)
        elif not pub.members.is_member(appender.txn, number):
            pub.members.add(appender.txn, number, Member(pub.wall_clock(), None, ""))
        return message

    message = await pub.ingest.write(job)
    return {"key": message_id(message.id), "value": msgspec.Raw(message.encoded)}


METHODS: Methods = {
    ("friends", "follow"): Method("async", follow),
    ("friends", "block"): Method("async", block),
    ("friends", "isFollowing"): Method("sync", is_following),
    ("friends", "isBlocking"): Method("sync", is_blocking),
}
