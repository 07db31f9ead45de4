"""The rooms of a pub, put together. Nothing runs yet; ``life`` starts the tasks."""

import os
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from pub import __version__
from pub.config import Settings
from pub.errors import StoreError
from pub.graph import Graph, Hops
from pub.ingest.ingest import Ingest, RunBlocking, run_in_thread
from pub.ingest.own_feed import OwnFeed
from pub.ingest.verify import Verifier, VerifierPool, open_verifiers
from pub.metrics import Metrics
from pub.net.methods import Method, Methods
from pub.net.peer import Lobby, PeerLimits
from pub.net.sockets import Network, Sockets
from pub.protocol.keys import KeyPair
from pub.rpc import blobs, conn, ebt, feeds, friends, gossip, history, invite, legacy, manifest, status
from pub.rpc.context import Pub
from pub.rpc.pages import Pages
from pub.service.identity import owner
from pub.service.watchdog import Watchdog
from pub.store.clocks import Clocks
from pub.store.env import Store, Txn
from pub.store.invites import Invites
from pub.store.log import Appender, Changes, Log
from pub.store.members import Members
from pub.store.readahead import no_readahead

METHODS: Methods = {
    **manifest.METHODS,
    **status.METHODS,
    **feeds.METHODS,
    **gossip.METHODS,
    **history.METHODS,
    **ebt.METHODS,
    **blobs.METHODS,
    **conn.METHODS,
    **friends.METHODS,
    **invite.METHODS,
}


def _now() -> float:
    return time.time() * 1000


@dataclass(frozen=True, slots=True)
class World:
    """What a pub takes from outside, so that tests can replace it. ``wall_clock`` gives ms since the epoch."""

    random_bytes: Callable[[int], bytes] = os.urandom
    wall_clock: Callable[[], float] = _now
    open_store: Callable[[Path], Store] = Store.open
    open_verifiers: Callable[[int, bytes | None], AbstractAsyncContextManager[Verifier]] = open_verifiers
    run_blocking: RunBlocking = run_in_thread
    network: Network[Any] = field(default_factory=Sockets)
    watchdog: Watchdog = field(default_factory=Watchdog)


def build(settings: Settings, keys: KeyPair, store: Store, verifier: Verifier, world: World) -> Pub:
    """The pub's rooms, wired. Nothing runs yet."""
    graph = Graph()
    with no_readahead(store.folder):
        messages = Log(store)
        for part in messages.edges():
            graph.add_edges(*part)
    metrics = Metrics()
    ingest = Ingest(
        store=store,
        log=messages,
        keys=keys,
        verifier=world.watchdog.watch_verifier(verifier),
        metrics=metrics,
        own_feed=OwnFeed(_is_unconfirmed(store, keys)),
        wall_clock=world.wall_clock,
        run_blocking=world.watchdog.watch_writer(world.run_blocking),
        max_bytes=settings.limits.ingest_bytes,
        hmac_key=settings.network.sign,
    )
    pub = Pub(
        keys=keys,
        name=settings.name,
        version=__version__,
        store=store,
        log=messages,
        invites=Invites(store),
        members=Members(store),
        clocks=Clocks(store),
        graph=graph,
        ingest=ingest,
        metrics=metrics,
        lobby=Lobby(_peer_limits(settings)),
        wall_clock=world.wall_clock,
        random_bytes=world.random_bytes,
        started=world.wall_clock(),
        verifier_pids=verifier.pids if isinstance(verifier, VerifierPool) else (),
    )
    pub.own = _intern_own(pub)
    pub.hops = Hops(graph, pub.own, settings.replication.hops)
    pub.pages = Pages(messages)
    pub.replication = ebt.Replication(pub)
    pub.history = history.LiveHistory(pub)
    pub.legacy = legacy.Legacy(pub)
    pub.volleys = gossip.Volleys()
    pub.methods = {name: _bind(method, pub) for name, method in METHODS.items()}
    pub.replication.replicator.begin(feed for feed in filter(pub.hops.is_replicated, pub.hops.hops) if feed != pub.own)
    pub.replication.replicator.replicate(pub.own, ask=False)
    ingest.watchers += [pub.replication.watch, pub.history.watch]
    ingest.disk.watchers.append(pub.replication.watch_disk)
    return pub


def _bind(method: Method, pub: Pub) -> Method:
    return replace(method, handler=partial(method.handler, pub))


def _is_unconfirmed(store: Store, keys: KeyPair) -> bool:
    """Is the key older than the store? What was fetched of its feed may be a part: only publishing settles it."""
    born_with = owner(store)
    if born_with is not None and born_with != keys.public:
        raise StoreError(f"{store.folder} holds the data of another pub than its secret file says")
    return born_with is None


def _intern_own(pub: Pub) -> int:
    """Our feed has a number from the start, so that its edges and its head are found in the same place as any."""
    if pub.keys.public not in pub.log.numbers:

        def job(txn: Txn) -> Changes:
            appender = Appender(pub.log, txn)
            appender.intern(pub.keys.public)
            return appender.finish()

        pub.log.apply(pub.store.write(job))
    return pub.log.numbers[pub.keys.public]


def _peer_limits(settings: Settings) -> PeerLimits:
    limits = settings.limits
    return PeerLimits(
        handshake_seconds=limits.handshake_seconds,
        keepalive_seconds=limits.keepalive_seconds,
        idle_seconds=limits.idle_seconds,
        max_connections=limits.max_connections,
        max_connections_per_identity=limits.max_connections_per_identity,
        max_unauthenticated=limits.max_unauthenticated,
        max_unauthenticated_per_address=limits.max_unauthenticated_per_address,
        outbound_bytes_per_peer=limits.outbound_bytes_per_peer,
    )
