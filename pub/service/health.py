"""Is the pub well? The checks behind ``/readyz``, the control socket's ``health`` and the metric ``ready``.

They do what members need: a write that reaches the disk, and a connection over TCP that shakes hands and gets an
answer, made with the pub's own key. What they cost is bounded: whoever asks again within ``FRESH_SECONDS`` is told the
same, but for the state of the process itself, which is always as it is.
"""

import math
import shutil
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
import trio
from trio.abc import Stream

from pub.config import Settings
from pub.errors import ProtocolError, RpcError
from pub.net.connection import Connection
from pub.net.peer import EPHEMERAL_BYTES, SOCKET_ERRORS
from pub.net.roles import Peer, Role
from pub.net.sockets import Network, Transport
from pub.net.stream import SecretStream, open_handshake
from pub.rpc.context import Pub
from pub.store.log import Appender
from pub.web.checks import Check, as_json

log = structlog.get_logger()

CHECK_SECONDS = 5.0  # for one check: a disk or a handshake that takes longer is of no use to members either
FRESH_SECONDS = 5.0  # a result is good for so long: asking costs a write and a handshake
ROUND_SECONDS = 15.0  # how old the metrics may be when nobody asked
WRITER_SECONDS = 10.0  # a transaction of 4096 messages takes a tenth of a second on a slow disk
HEARTBEAT = b"heartbeat"  # in meta: when a check last wrote (ms), as text
LOOPBACKS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where to dial if we listen there
OUTBOUND_BYTES = 1 << 16  # one call without arguments


class Unwell(Exception):
    """A check failed; the text says why."""


class Health:
    """The checks of one pub and their last results."""

    def __init__(self, pub: Pub, settings: Settings, network: Network[Transport]) -> None:
        self._pub = pub
        self._connect: Callable[[str, int], Awaitable[Stream]] = network.connect
        self._settings = settings
        self._asking = trio.Lock()
        self._thread = trio.CapacityLimiter(1)  # of its own: hanging name lookups may have taken all others
        self._asked = -math.inf
        self._results: list[Check] = []
        self._was_well = True
        self._checks: dict[str, Callable[[], Awaitable[None]]] = {
            "listener": self._check_listener,
            "writer": self._check_writer,
            "store": self._check_store,
            "disk": self._check_disk,
            "handshake": self._check_handshake,
        }

    async def run(self) -> None:
        """Keep the metrics up to date, for ever, where somebody can see them."""
        while self._settings.operations.host:
            await self.check()
            await trio.sleep(ROUND_SECONDS)

    async def report(self) -> dict[str, Any]:
        """What the control socket's ``health`` answers."""
        return as_json(await self.check())

    async def check(self) -> list[Check]:
        """All checks, the state of the process first; before the doors open and once they are closed it is alone."""
        async with self._asking:
            if self._pub.is_ready and trio.current_time() - self._asked >= FRESH_SECONDS:
                self._results = await self._make_all()
                self._asked = trio.current_time()
        found = [self._serving(), *(self._results if self._pub.is_ready else [])]
        self._tell(found)
        return found

    @property
    def is_well(self) -> bool:
        """Did all pass when they were last made, and do we serve at this moment?"""
        return self._serving().passed and bool(self._results) and all(each.passed for each in self._results)

    def _serving(self) -> Check:
        if self._pub.is_draining:
            return Check("serving", "draining")
        return Check("serving", None if self._pub.is_ready else "starting")

    async def _make_all(self) -> list[Check]:
        reasons: dict[str, str | None] = {}

        async def make(name: str, check: Callable[[], Awaitable[None]]) -> None:
            reasons[name] = f"no result within {CHECK_SECONDS:g} seconds"
            with trio.move_on_after(CHECK_SECONDS):
                try:
                    await check()
                except Unwell as found:
                    reasons[name] = str(found)
                except Exception as error:
                    reasons[name] = "the check itself failed"
                    self._pub.metrics.internal_errors.inc()
                    log.error("internal_error", address="health", exc_info=error)
                else:
                    reasons[name] = None

        async with trio.open_nursery() as nursery:
            for name, check in self._checks.items():
                nursery.start_soon(make, name, check)
        return [Check(name, reasons[name]) for name in self._checks]

    def _tell(self, found: list[Check]) -> None:
        for check in found:
            self._pub.metrics.checks.labels(check.name).set(check.passed)
        failed = {check.name: check.reason for check in found if not check.passed}
        if self._pub.is_ready and (not failed) is not self._was_well:
            self._was_well = not failed
            if failed:
                log.warning("checks_fail", **failed)
            else:
                log.info("checks_pass")

    # --- the checks -----------------------------------------------------------------------------------------

    async def _check_listener(self) -> None:
        async with await self._dial():
            pass

    async def _check_writer(self) -> None:
        if (age := self._pub.ingest.commit_age) > WRITER_SECONDS:
            raise Unwell(f"a transaction has been under way for {age:.0f} seconds")

    async def _check_store(self) -> None:
        now = b"%.0f" % self._pub.wall_clock()

        def beat(appender: Appender) -> None:
            appender.txn.put(HEARTBEAT, now, db=self._pub.store.meta)

        try:
            await self._pub.ingest.write(beat)
        except RpcError as refusal:
            raise Unwell(refusal.message) from None

    async def _check_disk(self) -> None:
        floor = self._settings.operations.disk_floor
        usage = await trio.to_thread.run_sync(
            shutil.disk_usage, self._settings.data, limiter=self._thread, abandon_on_cancel=True
        )
        if usage.free < floor:
            raise Unwell(f"{usage.free >> 20} MiB free, less than operations.disk_floor ({floor >> 20} MiB)")

    async def _check_handshake(self) -> None:
        pub, network_key = self._pub, self._settings.network.key
        ephemeral = pub.random_bytes(EPHEMERAL_BYTES)
        async with await self._dial() as transport:
            try:
                stream = await open_handshake(transport, pub.keys, network_key, ephemeral, pub.keys.public)
            except (ProtocolError, *SOCKET_ERRORS):
                raise Unwell("the pub did not let in its own key") from None
            if await self._whoami(stream) != {"id": pub.keys.id}:
                raise Unwell("whoami was not answered as it should be")

    async def _whoami(self, stream: SecretStream) -> Any:
        peer = Peer(self._pub.keys.public, Role.CONTROL, "loopback", is_outgoing=True)
        connection = Connection(
            stream, peer, methods={}, is_allowed=lambda _peer, _name: False, max_outbound=OUTBOUND_BYTES
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_run, connection)
            try:
                return await connection.call(("whoami",), [])
            except RpcError as error:  # also when the connection breaks
                return error.message
            finally:
                connection.close()

    async def _dial(self) -> Stream:
        host = self._settings.network.host
        if self._pub.listening is None:
            raise Unwell("not listening")
        try:
            return await self._connect(LOOPBACKS.get(host, host), self._pub.listening)
        except OSError as error:
            raise Unwell(f"port {self._pub.listening} can't be reached: {error}") from None


async def _run(connection: Connection) -> None:
    try:
        await connection.run()
    except* (ProtocolError, *SOCKET_ERRORS):
        pass  # whoever waits for an answer hears of it
