"""``conn.*``: who is connected, whom the pub dials, and the operator's word on that. Control only."""

from typing import Any

import trio

from pub.errors import InvalidReference, RpcError
from pub.net.connection import Connection
from pub.net.dialer import TRANSPORT
from pub.net.methods import Method, Methods
from pub.net.roles import Peer
from pub.protocol.addresses import Address, format_address, parse_address
from pub.protocol.refs import feed_id
from pub.rpc.arguments import required
from pub.rpc.context import Pub
from pub.store.peers import PeerRecord, Source

BLOCKED = "this pub blocks that peer"


async def connect(pub: Pub, _caller: Connection, args: list[Any]) -> dict[str, Any]:
    """``[address]``: dial now, and from now on; ``{id, address, connected, reason}`` says what came of it."""
    address = _address(args)
    if address.key == pub.keys.public:
        raise RpcError("that is this pub itself")
    if is_blocked(pub, address.key):
        raise RpcError(BLOCKED)
    pub.dialer.schedule.add(address, Source.MANUAL, pub.wall_clock())
    reason = await pub.dialer.dial(address)
    pub.dialer.wake()
    return {
        "id": feed_id(address.key),
        "address": format_address(address),
        "connected": reason is None,
        "reason": reason,
    }


async def forget(pub: Pub, _caller: Connection, args: list[Any]) -> dict[str, Any]:
    """``[address]``: dial it no more, and end the connection if this pub dialled it."""
    address = _address(args)
    schedule = pub.dialer.schedule
    known = schedule.records.get(address)
    if known is None:
        raise RpcError("this pub does not know that address")
    if known.source is Source.CONFIG:
        raise RpcError("that address stands in connections.peers: take it out there")
    schedule.remove(address)
    if pub.dialer.outgoing.get(address.key) == address:
        for connection in pub.lobby.connections:
            if connection.peer.key == address.key and connection.peer.is_outgoing:
                connection.close()
    pub.dialer.wake()
    return {"id": feed_id(address.key), "address": format_address(address)}


def peers(pub: Pub, _caller: Connection, _args: list[Any]) -> dict[str, list[dict[str, Any]]]:
    """Everyone who is connected, and the address book: what becomes of each address."""
    return {"connected": _connected(pub), "known": _known(pub)}


def record_json(record: PeerRecord, state: str | None) -> dict[str, Any]:
    """A known address as ``ssb-pub peers --json`` shows it; times in ms. ``state`` is null while no pub runs."""
    return {
        "id": feed_id(record.address.key),
        "address": format_address(record.address),
        "source": record.source.name.lower(),
        "state": state,
        "first_seen": record.first_seen,
        "last_success": record.last_success,
        "failures": record.failures,
        "next_try": record.next_try,
    }


def is_blocked(pub: Pub, key: bytes) -> bool:
    """Does the pub block the feed of this key?"""
    feed = pub.log.numbers.get(key)
    return feed is not None and pub.graph.is_blocking(pub.own, feed)


def _address(args: list[Any]) -> Address:
    text = required(args)
    try:
        address = parse_address(text) if isinstance(text, str) else None
    except InvalidReference:
        address = None
    if address is None or address.transport != TRANSPORT:
        raise RpcError("not an address this pub can dial; it looks like net:pub.example.org:8008~shs:KEY")
    return address


def _connected(pub: Pub) -> list[dict[str, Any]]:
    progress = pub.replication.progress()
    longest_first = sorted((each for each in pub.lobby.connections if each.peer.key), key=lambda each: each.opened)
    described = []
    for connection in longest_first:
        peer = connection.peer
        on_its_way = progress.get(peer.key)
        described.append(
            {
                "id": feed_id(peer.key),
                "address": _address_of(pub, peer),
                "direction": "out" if peer.is_outgoing else "in",
                "role": peer.role.value,
                "seconds": round(trio.current_time() - connection.opened, 1),
                "receiving": on_its_way.receiving if on_its_way else None,
                "sending": on_its_way.sending if on_its_way else None,
            }
        )
    return described


def _address_of(pub: Pub, peer: Peer) -> str:
    """The whole address of whom we dialled; of the others only the host."""
    dialled = pub.dialer.outgoing.get(peer.key) if peer.is_outgoing else None
    return format_address(dialled) if dialled else peer.address


def _known(pub: Pub) -> list[dict[str, Any]]:
    records = sorted(pub.dialer.schedule.records.values(), key=lambda record: (record.source, record.first_seen))
    return [record_json(record, _state(pub, record)) for record in records]


def _state(pub: Pub, record: PeerRecord) -> str:
    key, dialer = record.address.key, pub.dialer
    if key in pub.lobby.identities:
        return "connected"
    if is_blocked(pub, key):
        return "blocked"
    if not dialer.may_dial(record):
        return "not followed"
    if dialer.is_dialling(key):
        return "dialling"
    if record.next_try <= pub.wall_clock():
        return "held back by max_outgoing" if dialer.is_held_back else "due"
    return "waiting"


METHODS: Methods = {
    ("conn", "connect"): Method("async", connect),
    ("conn", "forget"): Method("async", forget),
    ("conn", "peers"): Method("sync", peers),
}
