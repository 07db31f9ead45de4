"""The life of the process, top to bottom.

trio.run
├ signals               from the first moment to the last: SIGTERM and SIGINT set the event that ``run`` waits for
└ core nursery            an exception here ends the process: crash-only, the supervisor restarts it
  ├ ingest                stops last, after draining
  ├ operations            metrics and health over HTTP: open before the doors and after them
  ├ line                  writes for all peers whose sockets have room
  ├ replication, volleys, discovery, housekeeping, keeping small, signs of life for systemd
  ├ heartbeat           tells the watchdog's thread (``watchdog``) that all of this gets on
  └ peers nursery         children never raise; on stop they get a goodbye and ``grace_seconds``
    ├ run_peer × N
    └ doors nursery       stops first: TCP and unix listeners, dialer
"""

import faulthandler
import gc
import resource
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import structlog
import trio

from pub.config import Limits, Settings
from pub.errors import ExitCode, OperatorError, leaves
from pub.ingest.ingest import Ingest
from pub.logs import configure
from pub.net.limbo import MAX_HELD
from pub.rpc.context import Pub
from pub.service.doors import host_of, listen_control, listen_tcp
from pub.service.health import Health
from pub.service.identity import prepare
from pub.service.memory import keep_small
from pub.service.operations import serve_operations
from pub.service.outgoing import Discovery, make_dialer
from pub.service.supervisor import keep_watchdog_quiet, notify
from pub.service.upkeep import Started, greet_operator, keep_house
from pub.service.watchdog import STDERR
from pub.service.wiring import World, build
from pub.store.upgrade import upgrade

log = structlog.get_logger()

# The writer's thread gives up the interpreter lock at every LMDB call and waits up to this long to get it back from a
# busy event loop: with Python's 5 ms a batch of 250 messages takes 750 ms, with this 10 ms.
SWITCH_INTERVAL = 0.0001

# Containers made before the garbage collector looks at them, and how often before it looks at older ones as well. With
# Python's (700, 10, 10) it takes a sixth of the time while thousands connect, and looks at all of them for 0.2 s.
COLLECT_AFTER = (5000, 10, 10)

OTHER_DESCRIPTORS = 64  # files that are no peer's: store, listeners, verifying processes, a few commands at once


def main(settings: Settings, announce: Callable[[Started], None]) -> int:
    """Run the pub until SIGTERM or SIGINT; the exit code. Raises OperatorError for what the operator can mend."""
    configure(settings.log.format, settings.log.level)
    faulthandler.enable(STDERR)  # what kills the interpreter (a damaged store under its map) leaves the stacks there
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.freeze()  # all modules, which the garbage collector would look through while the rooms are made
    _allow_descriptors(settings.limits)
    upgrade(settings.data)  # before the watchdog's duty: it takes as long as it takes
    world = World()
    try:
        with world.watchdog.on_duty():
            trio.run(_run_until_signal, settings, partial(_settle_down, announce), world)
    except Exception as error:
        faults = list(leaves(error))
        if not all(isinstance(fault, OperatorError) for fault in faults):
            log.critical("bug", exc_info=error)
            return ExitCode.BUG
        for other in faults[1:]:
            log.error("failed_as_well", reason=str(other))
        raise faults[0] from None
    return ExitCode.STOPPED


def _settle_down(announce: Callable[[Started], None], started: Started) -> None:
    """What is there now stays: modules, rooms, who follows whom. The garbage collector need not look at it again."""
    announce(started)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


def _allow_descriptors(limits: Limits) -> None:
    """Each connection takes a file descriptor, and most systems give a process 1024 unless it asks for more."""
    needed = limits.max_connections + limits.max_unauthenticated + MAX_HELD + OTHER_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < needed:
        log.warning("few_file_descriptors", allowed=allowed, needed=needed)


async def _run_until_signal(settings: Settings, announce: Callable[[Started], None], world: World) -> None:
    """Signals count from the start to the last goodbye: neither an early one nor a second one is a violent end."""
    stop = trio.Event()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_set_on_signal, stop, signals)
            await run(settings, announce, world, stop.wait)
            nursery.cancel_scope.cancel()


async def _set_on_signal(stop: trio.Event, signals: AsyncIterator[int]) -> None:
    async for number in signals:
        log.info("stopping", signal=signal.Signals(number).name)
        stop.set()


async def run(
    settings: Settings,
    announce: Callable[[Started], None],
    world: World,
    wait_for_stop: Callable[[], Awaitable[None]],
) -> None:
    """Everything from the open store to the last goodbye."""
    keys = prepare(settings, world.random_bytes, world.open_store)
    with world.open_store(settings.data) as store:
        async with world.open_verifiers(settings.ingest.worker_count, settings.network.sign) as verifier:
            pub = build(settings, keys, store, verifier, world)
            await _serve(pub, settings, world, announce, wait_for_stop)


async def _serve(
    pub: Pub,
    settings: Settings,
    world: World,
    announce: Callable[[Started], None],
    wait_for_stop: Callable[[], Awaitable[None]],
) -> None:
    host = host_of(pub, settings)
    health = Health(pub, settings, world.network)
    pub.health = health.report
    pub.dialer = make_dialer(pub, settings, host, world.network)
    discovery = Discovery(pub)
    pub.ingest.watchers.append(discovery.watch)
    async with trio.open_nursery() as core:
        drained = trio.Event()
        await core.start(_run_ingest, pub.ingest, drained)
        core.start_soon(pub.lobby.line.run)
        core.start_soon(pub.replication.run)
        core.start_soon(pub.volleys.run)
        core.start_soon(discovery.run)
        core.start_soon(keep_house, pub, settings)
        core.start_soon(keep_small, pub)
        core.start_soon(world.watchdog.beat, settings.limits.grace_seconds)
        await core.start(serve_operations, pub, settings, health)
        async with trio.open_nursery() as peers:
            async with trio.open_nursery() as doors:
                pub.listening = port = await doors.start(listen_tcp, host, world.network, settings, peers)
                doors.start_soon(pub.dialer.run, peers)
                await doors.start(listen_control, host, world.network, settings, peers)
                await greet_operator(pub, settings, port, announce)
                core.start_soon(health.run)
                core.start_soon(keep_watchdog_quiet)
                notify("READY=1")
                await wait_for_stop()
                notify("STOPPING=1")
                pub.is_ready, pub.is_draining, pub.listening = False, True, None
                pub.store.note_stopping()
                world.watchdog.expect_end()
                doors.cancel_scope.cancel()
            pub.lobby.limbo.close()
            for connection in list(pub.lobby.connections):
                connection.close()
            peers.cancel_scope.deadline = trio.current_time() + settings.limits.grace_seconds
        await pub.replication.save_clocks()
        pub.ingest.stop()
        await drained.wait()
        core.cancel_scope.cancel()
    log.info("stopped")


async def _run_ingest(ingest: Ingest, drained: trio.Event, task_status: trio.TaskStatus[None]) -> None:
    await ingest.run(task_status)
    drained.set()
