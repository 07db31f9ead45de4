"""The life of the process, top to bottom.

trio.run
├ signals               from the first moment to the last: SIGTERM and SIGINT set the event that ``run`` waits for
└ core nursery            an exception here ends the process: crash-only, the supervisor restarts it
  ├ ingest                stops last, after draining
  ├ operations            metrics and health over HTTP: open before the doors and after them
  ├ replication, volleys, discovery, housekeeping, signs of life for systemd
  └ peers nursery         children never raise; on stop they get a goodbye and ``grace_seconds``
    ├ run_peer × N
    └ doors nursery       stops first: TCP and unix listeners, dialer
"""

import resource
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import structlog
import trio

from pub.config import Limits, Settings
from pub.errors import OperatorError
from pub.ingest.ingest import Ingest
from pub.logs import configure
from pub.rpc.context import Pub
from pub.service.doors import host_of, listen_control, listen_tcp
from pub.service.health import Health
from pub.service.identity import prepare
from pub.service.operations import serve_operations
from pub.service.outgoing import Discovery, make_dialer
from pub.service.supervisor import keep_watchdog_quiet, notify
from pub.service.upkeep import Started, greet_operator, keep_house
from pub.service.wiring import World, build
from pub.store.env import Store

log = structlog.get_logger()

# The writer's thread gives up the interpreter lock at every LMDB call and waits up to this long to get it back from a
# busy event loop: with Python's 5 ms a batch of 250 messages takes 750 ms, with this 10 ms.
SWITCH_INTERVAL = 0.0001

OTHER_DESCRIPTORS = 64  # files that are no peer's: store, listeners, verifying processes, a few commands at once


def main(settings: Settings, announce: Callable[[Started], None]) -> int:
    """Run the pub until SIGTERM or SIGINT; the exit code. Raises OperatorError for what the operator can mend."""
    configure(settings.log.format, settings.log.level)
    sys.setswitchinterval(SWITCH_INTERVAL)
    _allow_descriptors(settings.limits)
    try:
        trio.run(_run_until_signal, settings, announce)
    except BaseExceptionGroup as group:
        faults, bugs = group.split(OperatorError)
        if faults is None or bugs is not None:
            raise
        raise _first_leaf(faults) from None
    return 0


def _allow_descriptors(limits: Limits) -> None:
    """Each connection takes a file descriptor, and most systems give a process 1024 unless it asks for more."""
    needed = limits.max_connections + limits.max_unauthenticated + OTHER_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < needed:
        log.warning("few_file_descriptors", allowed=allowed, needed=needed)


def _first_leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first_leaf(first) if isinstance(first, BaseExceptionGroup) else first


async def _run_until_signal(settings: Settings, announce: Callable[[Started], None]) -> None:
    """Signals count from the start to the last goodbye: neither an early one nor a second one is a violent end."""
    stop = trio.Event()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_set_on_signal, stop, signals)
            await run(settings, announce, World(), stop.wait)
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
    keys = prepare(settings, world.random_bytes)
    with Store.open(settings.data) as store:
        async with world.open_verifiers(settings.ingest.worker_count, settings.network.sign) as verifier:
            pub = build(settings, keys, store, verifier, world)
            await _serve(pub, settings, announce, wait_for_stop)


async def _serve(
    pub: Pub, settings: Settings, announce: Callable[[Started], None], wait_for_stop: Callable[[], Awaitable[None]]
) -> None:
    host = host_of(pub, settings)
    health = Health(pub, settings)
    pub.health = health.report
    pub.dialer = make_dialer(pub, settings, host)
    discovery = Discovery(pub)
    pub.ingest.watchers.append(discovery.watch)
    async with trio.open_nursery() as core:
        drained = trio.Event()
        await core.start(_run_ingest, pub.ingest, drained)
        core.start_soon(pub.replication.run)
        core.start_soon(pub.volleys.run)
        core.start_soon(discovery.run)
        core.start_soon(keep_house, pub, settings)
        await core.start(serve_operations, pub, settings, health)
        async with trio.open_nursery() as peers:
            async with trio.open_nursery() as doors:
                pub.listening = port = await doors.start(listen_tcp, host, settings, peers)
                doors.start_soon(pub.dialer.run, peers)
                await doors.start(listen_control, host, settings, peers)
                await greet_operator(pub, settings, port, announce)
                core.start_soon(health.run)
                core.start_soon(keep_watchdog_quiet)
                notify("READY=1")
                await wait_for_stop()
                notify("STOPPING=1")
                pub.is_ready, pub.is_draining, pub.listening = False, True, None
                doors.cancel_scope.cancel()
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
