"""The one writer: messages from peers, our own messages and every change of the store go through ``Ingest``.

``submit`` hands in what peers sent and waits only while more than ``ingest_bytes`` are on their way (the global
valve: it holds the peers back while the processor or the disk lags). The feeder cuts what waits into chunks for the
verifiers; chunks may finish in any order and are taken up in the order they came, so a feed's messages stay in
order. The writer drains everything that is ready, checks how each message continues its feed, and commits all of it
in one LMDB transaction with one fsync, in a thread.

Only after the commit do heads, graph and counters change and are the watchers called: nobody is told of a message
that is not on disk. ``write`` runs a job of ours (publish, redeem, revoke) inside the next transaction; being run
one after the other in the one writer is what makes sequence numbers, timestamps and invite counters race-free.
"""

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol, TypeVar

import structlog
import trio

from pub.errors import PublishingStopped, RpcError, StoreFull, StoringStopped
from pub.ingest.batch import Chunk, Item, Job, NotStored, Outcome, Submission
from pub.ingest.disk import Disk
from pub.ingest.own_feed import FORKED, OwnFeed
from pub.ingest.verify import Verifier
from pub.metrics import Metrics
from pub.protocol.classic import MISMATCH, TOO_LONG, Chain, Message, create
from pub.protocol.keys import KeyPair
from pub.protocol.refs import feed_id
from pub.store.env import Store, Txn
from pub.store.faults import is_of_the_store
from pub.store.log import Appender, Changes, Log

CHUNK_MESSAGES = 256  # messages a verifier gets at once: 15 ms of work, so nothing waits long behind it
MAX_BATCH_MESSAGES = 4096  # messages in one transaction: bounds how long a commit keeps everybody waiting
SAME_MILLISECOND = 0.001  # ms between two messages of one millisecond; a float of today still tells them apart

T = TypeVar("T")

log = structlog.get_logger()


class RunBlocking(Protocol):
    """Runs what blocks, beside the event loop, and returns what that returns."""

    async def __call__(self, work: Callable[[], T], /) -> T: ...


async def run_in_thread(work: Callable[[], T]) -> T:
    """``RunBlocking`` in a thread, but none of the forty that hanging name lookups may all have taken."""
    return await trio.to_thread.run_sync(work, limiter=trio.CapacityLimiter(1))


class Ingest:
    """See the file's text. ``wall_clock`` gives milliseconds since the epoch."""

    def __init__(
        self,
        *,
        store: Store,
        log: Log,
        keys: KeyPair,
        verifier: Verifier,
        metrics: Metrics,
        own_feed: OwnFeed,
        wall_clock: Callable[[], float],
        run_blocking: RunBlocking,
        max_bytes: int,
        hmac_key: bytes | None = None,
    ) -> None:
        self.own_feed = own_feed
        self.disk = Disk(partial(run_blocking, store.has_room), metrics)
        self.watchers: list[Callable[[Changes], None]] = []
        """Called after each commit, in the event loop, with what it changed."""
        self._store = store
        self._log = log
        self._keys = keys
        self._verifier = verifier
        self._metrics = metrics
        self._wall_clock = wall_clock
        self._run_blocking = run_blocking
        self._max_bytes = max_bytes
        self._hmac_key = hmac_key
        self._held_bytes = 0
        self._room = trio.lowlevel.ParkingLot()
        self._items: deque[Item] = deque()
        self._chunks: deque[Chunk] = deque()
        self._jobs: deque[Job] = deque()
        self.last_received = 0.0
        """Receive time of the message taken in last (ms): for a job, that of its own message."""
        self._began: float | None = None  # when the transaction under way began
        self._stopped: str | None = None  # asked in the event loop just before each transaction
        self._feeder_bell = trio.Event()
        self._writer_bell = trio.Event()
        self._draining = False

    # --- what the rest of the pub calls -------------------------------------------------------------------

    async def submit(self, submission: Submission) -> None:
        """Hand in messages of a peer; returns as soon as they are on their way, waits while too much is.

        While the disk is full they are refused on the spot.
        """
        size = sum(map(len, submission.raws))
        if self._is_full(size):
            self._metrics.limit_hits.labels("ingest_bytes").inc()
            while self._is_full(size):
                await self._room.park()
        places = zip(submission.raws, submission.places, strict=True)
        items = [Item(raw, feed, sequence, submission.refused) for raw, (feed, sequence) in places]
        if self.disk.full is not None:
            self._refuse_full(items, self.disk.full)
            return
        self._held_bytes += size
        self._items += items
        self._feeder_bell.set()

    def _is_full(self, size: int) -> bool:
        """Is there no room for ``size`` bytes more? What is larger than all the room may enter when it is empty."""
        return bool(self._held_bytes) and self._held_bytes + size > self._max_bytes

    async def write(self, job: Callable[[Appender], T]) -> T:
        """Run ``job`` in the next transaction; returns its result once that is on disk.

        The job runs in the writer's thread and may be run again (a grown map starts the transaction over). To refuse
        it raises ``RpcError``, before it has written anything. Any other exception undoes the whole transaction,
        which is then repeated without this job, and is raised here. A full disk is ``StoringStopped``; a broken one
        ends ``run``.
        """
        waiting = Job(job, trio.Event())
        self._jobs.append(waiting)
        self._writer_bell.set()
        await waiting.done.wait()
        if waiting.error is not None:
            raise waiting.error
        result: T = waiting.result
        return result

    async def publish(self, content: dict[str, Any]) -> Message:
        """Append ``content`` to our own feed. Raises ``PublishingStopped``."""
        return await self.write(lambda appender: self.append_own(appender, content))

    def publishing_stopped(self) -> str | None:
        """Why our own feed may not grow now, or ``None``."""
        own = self._log.numbers.get(self._keys.public)
        lapsed = self.own_feed.lapsed
        head = self._log.heads[own] if own is not None else 0
        reason = FORKED if own in self._log.forked else self.own_feed.stopped(head, trio.current_time())
        self._metrics.limit_hits.labels("own_feed_claims").inc(self.own_feed.lapsed - lapsed)
        return reason

    def append_own(self, appender: Appender, content: dict[str, Any]) -> Message:
        """Sign ``content`` as the next message of our feed, inside a job. Raises ``PublishingStopped``."""
        if self._stopped is not None:
            raise PublishingStopped(f"this pub can't publish now: {self._stopped}")
        own = appender.intern(self._keys.public)
        if appender.is_forked(own):  # since this transaction began
            raise PublishingStopped(f"this pub can't publish: {FORKED}")
        head = appender.head(own)
        timestamp = _next_timestamp(self._wall_clock(), (head.timestamp if head else None) or 0.0)
        message = create(self._keys, head, content, timestamp, self._hmac_key)
        appender.append(message, self._next_received())
        return message

    @property
    def queued_messages(self) -> int:
        """How many messages wait to be verified or written."""
        return len(self._items) + sum(len(chunk.items) for chunk in self._chunks)

    @property
    def held_bytes(self) -> int:
        """How many bytes of ``max_bytes`` are taken."""
        return self._held_bytes

    @property
    def commit_age(self) -> float:
        """Seconds that the transaction under way has taken so far; 0: none is."""
        return 0.0 if self._began is None else trio.current_time() - self._began

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take in and write until ``stop`` has been called and everything handed in is on disk."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._feed_verifiers)
            nursery.start_soon(self.disk.run)
            task_status.started()
            await self._write_batches()
            nursery.cancel_scope.cancel()

    def stop(self) -> None:
        """No more will be handed in: ``run`` returns once what was is on disk."""
        self._draining = True
        self._feeder_bell.set()
        self._writer_bell.set()

    # --- verifying ----------------------------------------------------------------------------------------

    async def _feed_verifiers(self) -> None:
        lanes = trio.Semaphore(self._verifier.lanes)
        async with trio.open_nursery() as nursery:
            while True:
                await lanes.acquire()
                while not self._items:
                    self._feeder_bell = trio.Event()
                    await self._feeder_bell.wait()
                count = min(CHUNK_MESSAGES, len(self._items))
                chunk = Chunk([self._items.popleft() for _ in range(count)])
                self._chunks.append(chunk)
                nursery.start_soon(self._verify, chunk, lanes)

    async def _verify(self, chunk: Chunk, lanes: trio.Semaphore) -> None:
        chunk.verdicts = await self._verifier.verify([item.raw for item in chunk.items])
        lanes.release()
        if self._chunks and self._chunks[0].verdicts is not None:
            self._writer_bell.set()

    # --- writing ------------------------------------------------------------------------------------------

    async def _write_batches(self) -> None:
        while True:
            chunks, jobs = self._take_ready()
            if chunks or jobs:
                await self._write_batch(chunks, jobs)
            elif self._draining and not self._items and not self._chunks:
                return
            else:
                self._writer_bell = trio.Event()
                await self._writer_bell.wait()

    def _take_ready(self) -> tuple[list[Chunk], list[Job]]:
        chunks: list[Chunk] = []
        count = 0
        while self._chunks and self._chunks[0].verdicts is not None and count < MAX_BATCH_MESSAGES:
            chunk = self._chunks.popleft()
            count += len(chunk.items)
            chunks.append(chunk)
        jobs = list(self._jobs)
        self._jobs.clear()
        return chunks, jobs

    async def _write_batch(self, chunks: list[Chunk], jobs: list[Job]) -> None:
        self._stopped = self.publishing_stopped()
        self._began = trio.current_time()
        try:
            outcome = await self._run_blocking(partial(self._commit, chunks, jobs))
        except StoreFull as full:
            self._metrics.commit_errors.labels("disk_full").inc()
            self._began = None
            self._give_up(chunks, jobs, str(full))
        else:
            self._count_commit(chunks, jobs)
            self._apply_changes(outcome.changes, outcome.stored)
            self._refuse(outcome.not_stored)
            self._release(item for chunk in chunks for item in chunk.items)
        for job in jobs:
            job.done.set()

    def _count_commit(self, chunks: list[Chunk], jobs: list[Job]) -> None:
        metrics = self._metrics
        metrics.commit_seconds.observe(self.commit_age)
        metrics.commit_messages.observe(sum(len(chunk.items) for chunk in chunks))
        if broken := sum(job.is_broken for job in jobs):
            metrics.commit_errors.labels("job").inc(broken)
        self._began = None

    def _commit(self, chunks: list[Chunk], jobs: list[Job]) -> Outcome:
        """One transaction (in the writer's thread); without the jobs that turn out to be broken."""
        while True:
            try:
                return self._store.write(lambda txn: self._fill(txn, chunks, jobs))
            except _BrokenJob as broken:
                broken.job.error, broken.job.is_broken = broken.__cause__, True

    def _fill(self, txn: Txn, chunks: list[Chunk], jobs: list[Job]) -> Outcome:
        appender = Appender(self._log, txn)
        stored = 0
        not_stored: list[tuple[Item, NotStored, str]] = []
        for chunk in chunks:
            for item, verdict in zip(chunk.items, chunk.verdicts or (), strict=True):
                if verdict is None:
                    not_stored.append((item, NotStored.BUG, "this pub failed to examine it"))
                    continue
                if isinstance(verdict, str):
                    not_stored.append((item, _fault(verdict), verdict))
                    continue
                chain = appender.append(verdict, self._next_received())
                if chain is Chain.NEXT:
                    stored += 1
                else:
                    not_stored.append((item, NotStored[chain.name], chain.value))
        for job in jobs:
            if not job.is_broken:
                self._run_job(job, appender)
        return Outcome(appender.finish(), stored, not_stored)

    @staticmethod
    def _run_job(job: Job, appender: Appender) -> None:
        job.result = job.error = None  # a repeated transaction starts over
        try:
            job.result = job.run(appender)
        except RpcError as refusal:
            job.error = refusal
        except Exception as error:
            if is_of_the_store(error):
                raise
            raise _BrokenJob(job) from error

    # --- after the commit ---------------------------------------------------------------------------------

    def _give_up(self, chunks: list[Chunk], jobs: list[Job], reason: str) -> None:
        """The disk is full: refuse what was to be written, and all that was handed in behind it.

        A later message of the same feed would seem to be a gap, which its sender would have to answer for.
        """
        self.disk.ran_out(reason)
        items = [item for chunk in (*chunks, *self._chunks) for item in chunk.items] + list(self._items)
        self._chunks.clear()
        self._items.clear()
        for job in jobs:
            job.error = StoringStopped()
        self._refuse_full(items, reason)
        self._release(items)

    def _refuse_full(self, items: list[Item], reason: str) -> None:
        self._refuse([(item, NotStored.DISK_FULL, reason) for item in items])

    def _refuse(self, not_stored: list[tuple[Item, NotStored, str]]) -> None:
        for item, failure, reason in not_stored:
            self._metrics.received.labels(failure.value).inc()
            self._metrics.internal_errors.inc(failure is NotStored.BUG)
            item.refused(item.feed, item.sequence, failure, reason)

    def _apply_changes(self, changes: Changes, stored: int) -> None:
        self._log.apply(changes)
        self._metrics.received.labels("stored").inc(stored)
        self._metrics.published.inc(len(changes.appended) - stored)
        self._metrics.forks.inc(len(changes.forked))
        for feed, fork in changes.forked.items():
            log.warning("feed_forked", feed=feed_id(self._log.keys[feed]), sequence=fork.sequence)
        own = self._log.numbers.get(self._keys.public)
        if own is not None and own in changes.heads:
            self.own_feed.grew(self._log.heads[own], trio.current_time())
        for watcher in self.watchers:
            watcher(changes)

    def _release(self, items: Iterable[Item]) -> None:
        self._held_bytes -= sum(len(item.raw) for item in items)
        self._room.unpark_all()

    def _next_received(self) -> float:
        """Our receive time of a message: strictly increasing, so it orders what one transaction holds."""
        self.last_received = _next_timestamp(self._wall_clock(), self.last_received)
        return self.last_received


class _BrokenJob(Exception):
    def __init__(self, job: Job) -> None:
        self.job = job


def _fault(refusal: str) -> NotStored:
    """What a verifier's sentence is counted as."""
    if refusal.endswith(MISMATCH):
        return NotStored.BAD_SIGNATURE
    return NotStored.TOO_LARGE if refusal.endswith(TOO_LONG) else NotStored.INVALID


def _next_timestamp(now: float, last: float) -> float:
    """``now``, or the least later time than ``last`` that still reads as the same millisecond."""
    now = float(int(now))
    return now if now > last else round(last + SAME_MILLISECOND, 3)
