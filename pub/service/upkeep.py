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
ABOUT = b"about"  # in meta: the last name and description published


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
    await publish_about(pub, settings)
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


async def publish_about(pub: Pub, settings: Settings) -> None:
    """Say who we are, on our own feed, when that has changed since we last did; if we can't now, the caller retries.

    A store that our feed was fetched into becomes its home with this. Raises ConfigError for a name and description
    that are too long together.
    """
    if (reason := pub.ingest.publishing_stopped()) is not None:
        log.warning("about_not_published", reason=reason)
        return
    about = _about(settings)

    def job(appender: Appender) -> None:
        said = appender.txn.get(ABOUT, db=pub.store.meta)
        if said == msgspec.json.encode(about):
            return
        before = msgspec.json.decode(said or b"{}", type=dict[str, str])
        news = {key: text for key, text in about.items() if text or before.get(key)}  # clients keep what is not named
        if news:
            pub.ingest.append_own(appender, {"type": "about", "about": pub.keys.id} | news)
        appender.txn.put(ABOUT, msgspec.json.encode(about), db=pub.store.meta)
        adopt(pub.store, appender.txn, pub.keys.public)

    try:
        await pub.ingest.write(job)
    except InvalidMessage:
        raise ConfigError("name and description are too long together: a message holds 8192 characters") from None
    except RpcError as refusal:
        log.warning("about_not_published", reason=refusal.message)


def _about(settings: Settings) -> dict[str, str]:
    return {"name": settings.name, "description": settings.description}


def _is_settled(pub: Pub, settings: Settings) -> bool:
    """Has this store our feed for its own, and does that say who we are?"""
    with pub.store.read() as txn:
        said = txn.get(ABOUT, db=pub.store.meta)
    return said == msgspec.json.encode(_about(settings)) and owner(pub.store) is not None


async def keep_house(pub: Pub, settings: Settings) -> None:
    """Every few seconds, for ever."""
    was_stopped = pub.ingest.publishing_stopped() is not None
    while True:
        await trio.sleep(HOUSEKEEPING_SECONDS)
        for _ in pub.lobby.drop_idle(trio.current_time()):
            pub.metrics.limit_hits.labels("idle_seconds").inc()
        reason = pub.ingest.publishing_stopped()
        if reason is None and not _is_settled(pub, settings):
            await publish_about(pub, settings)
        if (reason is not None) is not was_stopped:
            log.warning("publishing_stopped" if reason else "publishing_resumed", reason=reason)
            was_stopped = not was_stopped
