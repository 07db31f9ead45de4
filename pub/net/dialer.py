"""Dialling other pubs: the address book is looked through every few seconds, and whoever is due is dialled.

A peer that is connected, whichever side dialled, is not dialled again. Dialling (address, TCP, handshake) is done in
the dialer's own task, so that it ends when the doors close; the connection that comes of it lives among all the other
peers, and says when it is over.

``dial`` answers in words why a peer was not reached. A refusal can't be told from a wrong key or network: that is how
the secret handshake wants it.
"""

import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
import trio

from pub.errors import ProtocolError
from pub.net.peer import EPHEMERAL_BYTES, SOCKET_ERRORS, Host, contained, serve_connection
from pub.net.roles import Peer
from pub.net.schedule import Schedule
from pub.net.sockets import Network
from pub.net.stream import SecretStream, open_handshake
from pub.protocol.addresses import Address
from pub.protocol.refs import feed_id
from pub.store.peers import PeerRecord

log = structlog.get_logger()

CONNECT_SECONDS = 10.0  # name lookup and TCP: three lost packets, as other implementations allow
RESCAN_SECONDS = 5.0  # how late it may be noticed that a peer that had dialled us is gone
TRANSPORT = "net"  # what we dial: plain TCP
NOT_LET_IN = "has another key, is of another network, or does not let us in"

Save = Callable[[Mapping[Address, PeerRecord | None]], Awaitable[None]]


@dataclass(slots=True)
class _Attempt:
    """One dial under way, for whoever asks for the same address meanwhile."""

    done: trio.Event = field(default_factory=trio.Event)
    failure: str | None = "dialling was broken off"


class _Unreached(Exception):
    """``result`` is the word for the metrics, the text is for people."""

    def __init__(self, result: str, text: str) -> None:
        super().__init__(text)
        self.result = result


class Dialer:
    """Keeps up to ``max_outgoing`` connections that this pub dialled. ``wall_clock`` gives ms since the epoch."""

    def __init__(
        self,
        host: Host,
        schedule: Schedule,
        network: Network[Any],
        *,
        max_outgoing: int,
        may_dial: Callable[[PeerRecord], bool],
        save: Save,
        wall_clock: Callable[[], float],
    ) -> None:
        self.schedule = schedule
        self.may_dial = may_dial
        self.outgoing: dict[bytes, Address] = {}
        """By key, the address of each connection that we dialled."""
        self.is_held_back = False
        """Did the last look find more to dial than ``max_outgoing`` allows?"""
        self._host = host
        self._network = network
        self._max_outgoing = max_outgoing
        self._save = save
        self._wall_clock = wall_clock
        self._attempts: dict[Address, _Attempt] = {}
        self._peers: trio.Nursery | None = None
        self._bell = trio.Event()

    async def run(self, peers: trio.Nursery) -> None:
        """Dial whoever is due, for ever; connections live in ``peers``."""
        self._peers = peers
        try:
            async with trio.open_nursery() as dials:
                while True:
                    self._bell = trio.Event()
                    for address in self._take_due():
                        self._attempts[address] = _Attempt()
                        dials.start_soon(self._carry_out, address)
                    if changes := self.schedule.take_changes():
                        await self._save(changes)
                    with trio.move_on_after(RESCAN_SECONDS):
                        await self._bell.wait()
        finally:
            self._peers = None

    def wake(self) -> None:
        """The address book has changed: look again now."""
        self._bell.set()

    def is_dialling(self, key: bytes) -> bool:
        """Is this peer being dialled at the moment?"""
        return any(address.key == key for address in self._attempts)

    async def dial(self, address: Address) -> str | None:
        """Dial now, whatever the schedule says. None: the peer is connected; else the reason why it is not."""
        if address.key in self.outgoing or address.key in self._host.lobby.identities:
            return None
        if (attempt := self._attempts.get(address)) is not None:
            await attempt.done.wait()
        else:
            attempt = self._attempts[address] = _Attempt()
            await self._carry_out(address)
        return attempt.failure

    # --- choosing -----------------------------------------------------------------------------------------

    def _take_due(self) -> list[Address]:
        now, metrics = self._wall_clock(), self._host.metrics
        for address in self.schedule.forget_defunct(now):
            log.info("peer_forgotten", peer=feed_id(address.key), host=address.host)
        due = self.schedule.choose(now, self._busy(), self.may_dial)
        room = max(0, self._max_outgoing - len(self.outgoing) - len(self._attempts))
        if len(due) > room and not self.is_held_back:  # counted once for each time it begins
            metrics.limit_hits.labels("max_outgoing").inc()
        self.is_held_back = len(due) > room
        metrics.limit_hits.labels("known_addresses").inc(self.schedule.limit_hits)
        self.schedule.limit_hits = 0
        return due[:room]

    def _busy(self) -> set[bytes]:
        dialling = (address.key for address in self._attempts)
        return {*self.outgoing, *dialling, *self._host.lobby.identities}

    async def _carry_out(self, address: Address) -> None:
        attempt = self._attempts[address]
        try:
            attempt.failure = await self._reach(address)
        finally:
            del self._attempts[address]
            attempt.done.set()
            self.wake()

    # --- reaching -----------------------------------------------------------------------------------------

    async def _reach(self, address: Address) -> str | None:
        metrics = self._host.metrics
        try:
            stream = await self._open(address)
        except _Unreached as failure:
            metrics.dials.labels(failure.result).inc()
            self.schedule.failed(address, self._wall_clock(), self._luck())
            log.debug("peer_not_reached", peer=feed_id(address.key), host=address.host, reason=str(failure))
            return str(failure)
        role = self._host.role_of(address.key)
        if role is None or self._peers is None:
            await trio.aclose_forcefully(stream)
            return "this pub blocks it" if role is None else "this pub is not dialling"
        if address.key in self.outgoing:  # another address of this peer was quicker
            await stream.aclose()
            return None
        metrics.dials.labels("connected").inc()
        self.schedule.succeeded(address, self._wall_clock())
        self.outgoing[address.key] = address
        self._peers.start_soon(self._serve, stream, Peer(address.key, role, address.host, is_outgoing=True), address)
        return None

    async def _open(self, address: Address) -> SecretStream:
        where = f"port {address.port} of {address.host}"
        try:
            with trio.fail_after(CONNECT_SECONDS):
                transport = await self._network.connect(address.host, address.port)
                self._network.keep_alive(transport, self._host.lobby.limits.keepalive_seconds)
        except trio.TooSlowError:
            raise _Unreached("timeout", f"{where} did not answer within {CONNECT_SECONDS:g} seconds") from None
        except OSError as error:
            raise _Unreached("unreachable", f"{where} can't be reached: {_first_cause(error)}") from None
        host, seconds = self._host, self._host.lobby.limits.handshake_seconds
        ephemeral = host.random_bytes(EPHEMERAL_BYTES)
        try:
            with trio.fail_after(seconds):
                return await open_handshake(transport, host.keys, host.network_key, ephemeral, address.key)
        except trio.TooSlowError:
            failure = f"did not shake hands within {seconds:g} seconds: it stands still, or {NOT_LET_IN}"
            raise _Unreached("timeout", f"{where} {failure}") from None
        except (ProtocolError, *SOCKET_ERRORS):
            raise _Unreached("handshake", f"{where} broke off the handshake: it {NOT_LET_IN}") from None

    async def _serve(self, stream: SecretStream, peer: Peer, address: Address) -> None:
        began = trio.current_time()
        try:
            with contained(self._host.metrics, peer.address):
                await serve_connection(self._host, stream, peer)
        finally:
            del self.outgoing[peer.key]
            # the peer's own call went through as well, and of the two that one stays: nothing failed
            is_settled = peer.key in self._host.lobby.identities
            seconds = float("inf") if is_settled else trio.current_time() - began
            if self._peers is not None:  # else it is this pub that stops
                self.schedule.ended(address, self._wall_clock(), self._luck(), seconds=seconds)
            self.wake()
            await trio.aclose_forcefully(stream)

    def _luck(self) -> float:
        return int.from_bytes(self._host.random_bytes(4), "big") / 2**32


def _first_cause(error: OSError) -> str:
    """Of a host with several addresses, what went wrong with the first; in the words of the system."""
    cause: BaseException = error.__cause__ or error
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    if not isinstance(cause, OSError) or cause.errno is None:
        return str(error)
    return str(cause.strerror) if isinstance(cause, socket.gaierror) else os.strerror(cause.errno)
