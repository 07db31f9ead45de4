"""What a pub does for itself: tell its operator where it is, tell the world its name, and look around now and then."""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import structlog
import trio

from pub.config import Settings
from pub.errors import ConfigError, InvalidMessage, RpcError
from pub.protocol.addresses import Address, format_address
from pub.rpc import invite
from pub.rpc.context import Pub
from pub.service.identity import adopt, owner
from pub.store.log import Appender

log = structlog.get_logger()

HOUSEKEEPING_SECONDS = 5.0  # how late an idle connection may be noticed
ABOUT = b"about"  # in meta: the last about message of ours
ANNOUNCED = b"announced"  # in meta: the last address we published


@dataclass(frozen=True, slots=True)
class Started:
    """What the operator is told once the pub is up; ``notes`` are sentences."""

    id: str
    address: str | None
    invite: str | None = field(repr=False)
    notes: list[str]


async def greet_operator(pub: Pub, settings: Settings, port: int, announce: Callable[[Started], None]) -> None:
    """The last step of the start: address, name, first code; then the pub is ready and its operator is told."""
    notes: list[str] = []
    pub.port = settings.address.port or port
    if settings.public_host is not None:
        pub.address = Address(settings.public_host, pub.port, pub.keys.public)
        if _is_local(settings.public_host):
            notes.append(f"{settings.public_host} is local only: others need another network.host and address.host.")
    else:
        notes.append("No invite codes can be made: set address.host to the name or address members reach this pub by.")
    await introduce(pub, settings)
    code = await _first_invite(pub, settings)
    pub.is_ready = True
    address = format_address(pub.address) if pub.address else None
    if (reason := pub.ingest.publishing_stopped()) is not None:
        notes.append(f"Nothing is published for now: {reason}.")
    log.info(
        "ready", id=pub.keys.id, address=address, port=port, feeds=len(pub.log.keys), messages=pub.log.message_count
    )
    announce(Started(pub.keys.id, address, code, notes))


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _first_invite(pub: Pub, settings: Settings) -> str | None:
    """A code for the operator's own client, while no code has ever been made (``None`` on a full disk)."""
    with pub.store.read() as txn:
        has_codes = bool(pub.invites.records(txn))
    if has_codes or pub.address is None or not settings.invites.first_uses:
        return None
    try:
        code, _record = await invite.make_code(pub, pub.address, settings.invites.first_uses)
    except RpcError as refusal:
        log.warning("no_first_invite", reason=refusal.message)
        return None
    return code


async def introduce(pub: Pub, settings: Settings) -> None:
    """Say who we are and where, on our own feed, when that has changed; if we can't now, the caller tries again.

    A store that our feed was fetched into becomes its home with this. Raises ConfigError for a name and description
    that are too long together.
    """
    if (reason := pub.ingest.publishing_stopped()) is not None:
        log.warning("not_introduced", reason=reason)
        return
    if _is_settled(pub, settings):
        return  # a start without news waits for no disk

    def job(appender: Appender) -> None:
        _say_about(pub, settings, appender)
        _say_address(pub, settings, appender)
        adopt(pub.store, appender.txn, pub.keys.public)

    try:
        await pub.ingest.write(job)
    except InvalidMessage:
        raise ConfigError("name and description are too long together: a message holds 8192 characters") from None
    except RpcError as refusal:
        log.warning("not_introduced", reason=refusal.message)


def _say_about(pub: Pub, settings: Settings, appender: Appender) -> None:
    about = _about(settings)
    said = appender.txn.get(ABOUT, db=pub.store.meta)
    if said == msgspec.json.encode(about):
        return
    before = msgspec.json.decode(said or b"{}", type=dict[str, str])
    news = {key: text for key, text in about.items() if text or before.get(key)}  # clients keep what is not named
    if news:
        pub.ingest.append_own(appender, {"type": "about", "about": pub.keys.id} | news)
    appender.txn.put(ABOUT, msgspec.json.encode(about), db=pub.store.meta)


def _say_address(pub: Pub, settings: Settings, appender: Appender) -> None:
    address = _announcement(pub, settings)
    if address is not None and appender.txn.get(ANNOUNCED, db=pub.store.meta) != msgspec.json.encode(address):
        pub.ingest.append_own(appender, {"type": "pub", "address": address})
        appender.txn.put(ANNOUNCED, msgspec.json.encode(address), db=pub.store.meta)


def _about(settings: Settings) -> dict[str, str]:
    return {"name": settings.name, "description": settings.description}


def _announcement(pub: Pub, settings: Settings) -> dict[str, str | int] | None:
    """What a pub message says of us; ``None``: nothing is to be announced."""
    if not settings.address.announce or pub.address is None:
        return None
    return {"host": pub.address.host, "port": pub.address.port, "key": pub.keys.id}


def _is_settled(pub: Pub, settings: Settings) -> bool:
    """Has this store our feed for its own, and does that say who and where we are?"""
    address = _announcement(pub, settings)
    with pub.store.read() as txn:
        said, announced = (txn.get(key, db=pub.store.meta) for key in (ABOUT, ANNOUNCED))
    has_name = said == msgspec.json.encode(_about(settings))
    has_address = address is None or announced == msgspec.json.encode(address)
    return has_name and has_address and owner(pub.store) is not None


async def keep_house(pub: Pub, settings: Settings) -> None:
    """Every few seconds, for ever."""
    was_stopped = pub.ingest.publishing_stopped() is not None
    while True:
        await trio.sleep(HOUSEKEEPING_SECONDS)
        for _ in pub.lobby.drop_idle(trio.current_time()):
            pub.metrics.limit_hits.labels("idle_seconds").inc()
        pub.legacy.tick(trio.current_time())
        reason = pub.ingest.publishing_stopped()
        if reason is None and pub.ingest.disk.full is None:
            await introduce(pub, settings)
        if (reason is not None) is not was_stopped:
            log.warning("publishing_stopped" if reason else "publishing_resumed", reason=reason)
            was_stopped = not was_stopped
