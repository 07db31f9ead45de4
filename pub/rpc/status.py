"""Who this pub is, where it is reached, and how it is."""

from typing import Any

import msgspec

from pub.net.connection import Connection
from pub.net.methods import Method, Methods
from pub.protocol.addresses import format_address
from pub.protocol.refs import feed_id
from pub.rpc.arguments import options
from pub.rpc.context import Pub
from pub.rpc.lists import first_feed, page
from pub.store.env import Txn
from pub.store.log import Log
from pub.store.members import Member, Members


def whoami(pub: Pub, _caller: Connection, _args: list[Any]) -> dict[str, str]:
    """``{"id": "@….ed25519"}``"""
    return {"id": pub.keys.id}


async def get_address(pub: Pub, _caller: Connection, _args: list[Any]) -> str | None:
    """The multiserver address members dial, or null when the operator has not set one."""
    return format_address(pub.address) if pub.address else None


def status(pub: Pub, _caller: Connection, _args: list[Any]) -> dict[str, Any]:
    """How the pub is, for ``ssb-pub status``; counts are of this moment, ``uptime`` is in seconds."""
    with pub.store.read() as txn:
        member_count = pub.members.count(txn)
    return {
        "id": pub.keys.id,
        "name": pub.name,
        "version": pub.version,
        "address": format_address(pub.address) if pub.address else None,
        "ready": pub.is_ready,
        "uptime": round((pub.wall_clock() - pub.started) / 1000, 1),
        "peers": len({each.peer.key for each in pub.lobby.connections if each.peer.key}),
        "feeds": sum(1 for head in pub.log.heads if head),
        "forked": len(pub.log.forked),
        "messages": pub.log.message_count,
        "members": member_count,
        "storing": pub.ingest.disk.full,
        "publishing": pub.ingest.publishing_stopped(),
        "internal_errors": pub.metrics.value("internal_errors_total"),
        "limit_hits": pub.metrics.limits_hit(),
    }


async def health(pub: Pub, _caller: Connection, _args: list[Any]) -> dict[str, Any]:
    """Is the pub well? ``{"ready": true, "checks": [{"name", "passed", "reason"}]}``, as ``/readyz`` of operations."""
    return await pub.health()


def list_members(pub: Pub, _caller: Connection, args: list[Any]) -> list[msgspec.Raw]:
    """``[{after}]``: a page (lists.py) of those who have joined: id, when (ms), by which invite, and its note."""
    with pub.store.read() as txn:
        return members_page(pub.log, txn, options(args))


def members_page(log: Log, txn: Txn, asked: dict[str, Any]) -> list[msgspec.Raw]:
    """The page that is asked for."""
    entries = Members(log.store).entries(txn, first_feed(log, asked))
    return page(_member_json(log.keys[feed], member) for feed, member in entries)


def _member_json(key: bytes, member: Member) -> dict[str, Any]:
    return {
        "id": feed_id(key),
        "joined": member.joined,
        "invite": feed_id(member.guest) if member.guest else None,
        "note": member.note,
    }


METHODS: Methods = {
    ("whoami",): Method("sync", whoami),
    ("getAddress",): Method("async", get_address),
    ("status",): Method("sync", status),
    ("health",): Method("async", health),
    ("members",): Method("sync", list_members),
}
