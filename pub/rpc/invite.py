"""Invites: the codes, and what happens when one is redeemed.

A code carries the seed of a key pair; whoever dials with that key is a guest and may call ``invite.use``. The store
keeps only the public half, so neither a stolen disk nor a log can be redeemed. Counting the use, following the feed
and remembering the member are one transaction, and the answer leaves after it is on disk: no code wins twice, and no
member is told of a follow that a power cut undoes.

The records of codes that can no longer be used are kept, so that their holders are told why. A key that never was a
code is a stranger like any other: guessing tells nothing.
"""

import re
from typing import Any

import msgspec

from pub.errors import InvalidInvite, InvalidReference, PublishingStopped, RpcError, StoringStopped
from pub.net.connection import Connection
from pub.net.methods import Method, Methods
from pub.protocol.addresses import Address, format_address, parse_address
from pub.protocol.classic import Message
from pub.protocol.contacts import BLOCK, FOLLOW
from pub.protocol.invites import format_invite, guest_keys, parse_invite
from pub.protocol.muxrpc import method_not_allowed
from pub.protocol.refs import feed_id, feed_key, is_feed_id, message_id
from pub.rpc.arguments import number, options, required
from pub.rpc.context import Pub
from pub.store.invites import InviteRecord, InviteState, state
from pub.store.log import Appender
from pub.store.members import Member

SEED_BYTES = 32
MAX_USES = 1_000_000  # a code for a whole town; more is a slip of the keyboard
MAX_NOTE = 1000  # characters; the note is published with each follow, and a message holds 8192
LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")  # JSON can spell them, but neither the store nor UTF-8 can
NAME = ("invite", "use")

ALREADY_FOLLOWING = "already following"  # clients take this text for success
REFUSALS = {
    InviteState.SPENT: "invite has been used already",
    InviteState.EXPIRED: "invite has expired",
    InviteState.REVOKED: "invite has been revoked",
}
NO_ADDRESS = "Server has no public ip address, cannot create useable invitation"


class Refusal(RpcError):
    """A redemption that is refused; ``result`` is its name in the metrics."""

    def __init__(self, result: str, message: str) -> None:
        super().__init__(message)
        self.result = result


async def use(pub: Pub, caller: Connection, args: list[Any]) -> Any:
    """``[{feed}]``: follow ``feed``. Answers with our contact message as ``{key, value, timestamp}``."""
    try:
        feed = _checked_feed(pub, required(args))
        message, received = await pub.ingest.write(lambda appender: _redeem(pub, appender, caller.peer.key, feed))
    except Refusal as refusal:
        pub.metrics.redemptions.labels(refusal.result).inc()
        raise
    except PublishingStopped:
        pub.metrics.redemptions.labels("stopped").inc()
        raise
    except StoringStopped:
        pub.metrics.redemptions.labels("disk_full").inc()
        raise
    pub.metrics.redemptions.labels("accepted").inc()
    return {"key": message_id(message.id), "value": msgspec.Raw(message.encoded), "timestamp": received}


def _checked_feed(pub: Pub, request: object) -> str:
    feed = request.get("feed") if isinstance(request, dict) else None
    if not feed:
        raise Refusal("bad_feed", "feed to follow is missing")
    if not is_feed_id(feed):
        raise Refusal("bad_feed", "feed to follow is not a feed id")
    if feed == pub.keys.id:
        raise Refusal("bad_feed", "feed to follow is this pub's own")
    return str(feed)


def _redeem(pub: Pub, appender: Appender, guest: bytes, feed: str) -> tuple[Message, float]:
    """The whole of a redemption, in the writer's transaction: every check comes before the first write."""
    now = pub.wall_clock()
    record = pub.invites.get(appender.txn, guest) if guest else None  # the control socket has no key
    if record is None:
        raise method_not_allowed(NAME)
    key = feed_key(feed)
    _refuse_known(appender.edge(pub.keys.public, key))
    found = state(record, now)
    if found in REFUSALS:
        raise Refusal(found, REFUSALS[found])
    content = {"type": "contact", "contact": feed, "following": True, "pub": True}
    message = pub.ingest.append_own(appender, content | ({"note": record.note} if record.note else {}))
    pub.invites.use(appender.txn, guest, now)
    pub.members.add(appender.txn, appender.intern(key), Member(now, guest, record.note))
    return message, pub.ingest.last_received


def _refuse_known(edge: int | None) -> None:
    if edge == FOLLOW:
        raise Refusal("already_following", ALREADY_FOLLOWING)
    if edge == BLOCK:
        raise Refusal("bad_feed", "feed to follow is blocked by this pub")


async def create(pub: Pub, _caller: Connection, args: list[Any]) -> Any:
    """A number of uses, or ``{uses, note, expires (ms), external (host), details}``: the code, or all about it."""
    asked = {"uses": args[0]} if args and not isinstance(args[0], dict) else options(args)
    if asked.get("modern"):
        raise RpcError("modern invites need a WebSocket address, which this pub does not have")
    address = _invite_address(pub, asked.get("external"))
    expires, note = _checked_expiry(pub, asked.get("expires")), _checked_note(asked.get("note"))
    code, record = await make_code(pub, address, _checked_uses(asked.get("uses", 1)), expires, note)
    if not asked.get("details"):
        return code
    return {
        "code": code,
        "id": feed_id(record.guest),
        "uses": record.uses,
        "expires": record.expires,
        "note": record.note,
    }


async def make_code(
    pub: Pub, address: Address, uses: int, expires: float | None = None, note: str = ""
) -> tuple[str, InviteRecord]:
    """A new code, and its record, which is on disk. The code itself is nowhere but in the answer."""
    seed = pub.random_bytes(SEED_BYTES)
    record = InviteRecord(
        guest=guest_keys(seed).public,
        uses=uses,
        used=0,
        created=pub.wall_clock(),
        expires=expires,
        revoked=None,
        note=note,
    )
    await pub.ingest.write(lambda appender: pub.invites.put(appender.txn, record))
    return format_invite(address, seed), record


def _invite_address(pub: Pub, external: object) -> Address:
    if isinstance(external, str) and external:
        return _checked_address(Address(external, pub.port, pub.keys.public))
    if pub.address is None:
        raise RpcError(f"{NO_ADDRESS}: set address.host to the name members reach this pub by")
    return pub.address


def _checked_address(address: Address) -> Address:
    try:
        is_dialable = parse_address(format_address(address)) == address
    except InvalidReference:
        is_dialable = False
    if not is_dialable:
        raise RpcError("external must be a DNS name or an IP address, without brackets and port")
    return address


def _checked_uses(uses: object) -> int:
    count = number(uses)
    if count is None or not 1 <= count <= MAX_USES or not count.is_integer():
        raise RpcError(f"uses must be a whole number from 1 to {MAX_USES}")
    return int(count)


def _checked_expiry(pub: Pub, expires: object) -> float | None:
    if expires is None:
        return None
    moment = number(expires)
    if moment is None or moment <= pub.wall_clock():
        raise RpcError("expires must be a time in the future, in milliseconds since 1970")
    return moment


def _checked_note(note: object) -> str:
    if note is None:
        return ""
    if not isinstance(note, str) or len(note) > MAX_NOTE or LONE_SURROGATE.search(note):
        raise RpcError(f"note must be a text of at most {MAX_NOTE} characters")
    return note


def list_invites(pub: Pub, _caller: Connection, _args: list[Any]) -> list[dict[str, Any]]:
    """Every code ever made, newest first, by the id of its guest key: the codes themselves are not kept."""
    with pub.store.read() as txn:
        records = pub.invites.records(txn)
    now = pub.wall_clock()
    return [invite_json(record, now) for record in reversed(records)]


def invite_json(record: InviteRecord, now: float) -> dict[str, Any]:
    """A code as ``ssb-pub invite list --json`` shows it; times in ms."""
    return {
        "id": feed_id(record.guest),
        "uses": record.uses,
        "used": record.used,
        "state": state(record, now),
        "created": record.created,
        "expires": record.expires,
        "revoked": record.revoked,
        "note": record.note,
    }


async def revoke(pub: Pub, _caller: Connection, args: list[Any]) -> dict[str, str]:
    """Take back a code, given as the code or as its id: whoever tries it is told so. Uses made stay valid."""
    guest = _guest_of(required(args))

    def job(appender: Appender) -> None:
        if pub.invites.revoke(appender.txn, guest, pub.wall_clock()) is None:
            raise RpcError("there is no such invite")

    await pub.ingest.write(job)
    return {"id": feed_id(guest)}


def _guest_of(text: object) -> bytes:
    if is_feed_id(text):
        return feed_key(text)
    try:
        return guest_keys(parse_invite(str(text)).seed).public
    except InvalidInvite:
        raise RpcError("that is neither an invite code nor the id of one") from None


METHODS: Methods = {
    NAME: Method("async", use),
    ("invite", "create"): Method("async", create),
    ("invite", "list"): Method("sync", list_invites),
    ("invite", "revoke"): Method("async", revoke),
}
