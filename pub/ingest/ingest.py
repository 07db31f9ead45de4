"""The one writer: messages from peers, our own messages and every change of the store go through ``Ingest``.

``submit`` hands in what peers sent (``intake`` has its way to here: the valve, the verifiers). The writer drains
everything that is verified, checks how each message continues its feed, and commits all of it in one LMDB transaction
with one fsync, in a thread. Large transactions cost less per message than small ones. So while the verifiers are busy
the writer waits for company, a tenth of a second at the most, unless somebody has just written something.

Only after the commit do heads, graph and counters change and are the watchers called: nobody is told of a message
that is not on disk. ``write`` runs a job of ours (publish, redeem, revoke) inside the next transaction; being run
one after the other in the one writer is what makes sequence numbers, timestamps and invite counters race-free.
"""

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from typing import Any, Protocol, TypeVar

import structlog
import trio

from pub.errors import PublishingStopped, RpcError, StoreFull, StoringStopped
from pub.ingest.batch import Chunk, Job, NotStored, Outcome, Refusal, Submission
from pub.ingest.disk import Disk
from pub.ingest.intake import Intake
from pub.ingest.own_feed import FORKED, OwnFeed
from pub.ingest.verify import Verifier
from pub.metrics import Metrics
from pub.protocol.classic import MISMATCH, TOO_LONG, Chain, Message, create
from pub.protocol.keys import KeyPair
from pub.protocol.refs import feed_id
from pub.store.env import Store, Txn
from pub.store.faults import is_of_the_store
from pub.store.log import Appender, Changes, Log

COMPANY = 2048  # messages worth a transaction of their own: it takes 20 ms, and a larger one is hardly cheaper
COMPANY_SECONDS = 0.1  # a message waits no longer for others: its author's friends should not notice
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
        self._intake = Intake(verifier, max_bytes, metrics.limit_hits.labels("ingest_bytes").inc, self._ring)
        self._metrics = metrics
        self._wall_clock = wall_clock
        self._run_blocking = run_blocking
        self._hmac_key = hmac_key
        self._jobs: deque[Job] = deque()
        self.last_received = 0.0
        """Receive time of the message taken in last (ms): for a job, that of its own message."""
        self._began: float | None = None  # when the transaction under way began
        self._stopped: str | None = None  # asked in the event loop just before each transaction
        self._bell = trio.Event()
        self._draining = False

    # --- what the rest of the pub calls -------------------------------------------------------------------

    async def submit(self, submission: Submission) -> None:
        """Hand in messages of a peer; returns as soon as they are on their way, waits while too much is.

        While the disk is full they are refused on the spot.
        """
        await self._intake.wait_for_room(submission)
        if self.disk.full is not None:
            self._refuse_full([submission], self.disk.full)
        else:
            self._intake.put(submission)

    async def write(self, job: Callable[[Appender], T]) -> T:
        """Run ``job`` in the next transaction; returns its result once that is on disk.

        The job runs in the writer's thread and may be run again (a grown map starts the transaction over). To refuse
        it raises ``RpcError``, before it has written anything. Any other exception undoes the whole transaction,
        which is then repeated without this job, and is raised here. A full disk is ``StoringStopped``; a broken one
        ends ``run``.
        """
        waiting = Job(job, trio.Event())
        self._jobs.append(waiting)
        self._ring()
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
        return self._intake.waiting

    @property
    def held_bytes(self) -> int:
        """How many bytes of ``max_bytes`` are taken."""
        return self._intake.held_bytes

    @property
    def commit_age(self) -> float:
        """Seconds that the transaction under way has taken so far; 0: none is."""
        return 0.0 if self._began is None else trio.current_time() - self._began

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take in and write until ``stop`` has been called and everything handed in is on disk."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._intake.run)
            nursery.start_soon(self.disk.run)
            task_status.started()
            await self._write_batches()
            nursery.cancel_scope.cancel()

    def stop(self) -> None:
        """No more will be handed in: ``run`` returns once what was is on disk."""
        self._draining = True
        self._ring()

    # --- writing ------------------------------------------------------------------------------------------

    def _ring(self) -> None:
        self._bell.set()

    async def _write_batches(self) -> None:
        while True:
            self._bell = trio.Event()
            if self._jobs or self._intake.has_ready:
                await self._wait_for_company()
                await self._write_batch(self._intake.take(), self._take_jobs())
            elif self._draining and self._intake.is_empty:
                return
            else:
                await self._bell.wait()

    async def _wait_for_company(self) -> None:
        """See the file's text."""
        with trio.move_on_after(COMPANY_SECONDS):
            while not self._jobs and self._intake.is_worth_waiting(COMPANY):
                self._bell = trio.Event()
                await self._bell.wait()

    def _take_jobs(self) -> list[Job]:
        jobs = list(self._jobs)
        self._jobs.clear()
        return jobs

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
            self._refuse(outcome.refusals)
            self._intake.release(submission for chunk in chunks for submission in chunk.submissions)
        for job in jobs:
            job.done.set()

    def _count_commit(self, chunks: list[Chunk], jobs: list[Job]) -> None:
        metrics = self._metrics
        metrics.commit_seconds.observe(self.commit_age)
        metrics.commit_messages.observe(sum(len(chunk.verdicts or ()) for chunk in chunks))
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
        refusals: list[Refusal] = []
        for chunk in chunks:
            verdicts = iter(chunk.verdicts or ())
            for submission in chunk.submissions:
                for number, verdict in enumerate(islice(verdicts, len(submission.raws))):
                    if (refused := self._append(appender, verdict)) is None:
                        stored += 1
                    else:
                        refusals.append(Refusal(submission, number, *refused))
        for job in jobs:
            if not job.is_broken:
                self._run_job(job, appender)
        return Outcome(appender.finish(), stored, refusals)

    def _append(self, appender: Appender, verdict: Message | str | None) -> tuple[NotStored, str] | None:
        """``None``: it is taken in."""
        if verdict is None:
            return NotStored.BUG, "this pub failed to examine it"
        if isinstance(verdict, str):
            return _fault(verdict), verdict
        chain = appender.append(verdict, self._next_received())
        return None if chain is Chain.NEXT else (NotStored[chain.name], chain.value)

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
        for job in jobs:
            job.error = StoringStopped()
        submissions = [submission for chunk in chunks for submission in chunk.submissions]
        submissions += self._intake.give_up()
        self._refuse_full(submissions, reason)
        self._intake.release(submissions)

    def _refuse_full(self, submissions: list[Submission], reason: str) -> None:
        self._refuse(
            Refusal(submission, number, NotStored.DISK_FULL, reason)
            for submission in submissions
            for number in range(len(submission.raws))
        )

    def _refuse(self, refusals: Iterable[Refusal]) -> None:
        for submission, number, outcome, reason in refusals:
            self._metrics.received.labels(outcome.value).inc()
            self._metrics.internal_errors.inc(outcome is NotStored.BUG)
            submission.refused(*submission.places[number], outcome, reason)

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
