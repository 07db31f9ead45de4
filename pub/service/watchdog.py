"""The watchdog: a thread that ends the process when the pub stands still, so that its supervisor starts it again.

What the writer and the verifiers are given to do is numbered. Every second a task of the core nursery (``beat``) notes
the oldest number that each still works on, and a new one for the event loop, which has just answered. The thread counts
its own rounds in which such a note did not change. It counts rounds and reads no clock: while a process is stopped, or
its machine suspended, the thread stands still with all the rest and has counted one round when it goes on.

What has stood still for too long ends the process: the stacks of all threads and tasks go to the log, then one line
saying what it was and for how long, and the exit code is ``STALLED``. Nothing is cleaned up. What was committed is on
disk, the verifying processes end with their sockets, the kernel drops the lock. The log may be what stands still (a
pipe that nobody reads): it is given a few seconds, as is then ``faulthandler``, which takes no lock.

Tasks are read from this thread, which trio does not promise to allow. It is read-only, and the switch interval is
raised meanwhile, so that the event loop can't run in between; if it has changed something nevertheless, the tasks are
left out.

*A thread that never gives up the interpreter lock* stops this one, too. So every round winds up a timer of the kernel,
``LOCK_CPU_SECONDS`` of the processor time of the whole process. When it runs out, a signal handler in C writes the
stacks without needing the lock, and then the signal's own action ends the process: SIGPROF, 155 to a shell. Processor
time stands still in a stopped process as well; ``faulthandler.dump_traceback_later`` counts elapsed time and may end
a process that was only paused. What remains: a thread that *sleeps* with the lock held (LMDB, libsodium, files and
sockets all give it up), and one that the kernel itself does not give back, which no process can end from within.
Those are for a supervisor that expects signs of life.
"""

import faulthandler
import math
import os
import signal
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import count
from types import FrameType
from typing import NoReturn, TypeVar

import structlog
import trio

from pub.errors import ExitCode
from pub.ingest.ingest import RunBlocking
from pub.ingest.verify import Verifier
from pub.protocol.classic import Message

log = structlog.get_logger()

T = TypeVar("T")

LOOP, WRITER, VERIFIERS, END = "event loop", "writer", "verifiers", "end"

ROUND_SECONDS = 1.0
ROUNDS = {
    LOOP: 30,  # its longest honest piece of work takes a tenth of a second; peers hang up after a minute
    WRITER: 120,  # a dying disk tries a sector for half a minute before it gives up, and an fsync may meet several
    VERIFIERS: 120,  # a chunk takes 15 ms; in a machine that swaps it may take seconds
    END: 60,  # beyond limits.grace_seconds: systemd kills after 90 s, and then nobody learns what it was
}
LOCK_CPU_SECONDS = 60  # the lock is given up 10,000 times a second; the sum of all threads, so it runs faster than time
LAST_WORDS_SECONDS = 5.0  # a log line takes a millisecond
MOST_STACKS = 50  # different ones of tasks: those of a thousand peers are all alike

STDERR = 2
UNDISTURBED_SECONDS = 1.0  # reading the stacks of 10,000 tasks takes a tenth


class Watchdog:
    """Notes are taken always, but without ``on_duty`` nobody reads them."""

    def __init__(self) -> None:
        self._notes: dict[str, int | None] = dict.fromkeys(ROUNDS)
        """What each of them is busy with; ``None``: nothing to do."""
        self._numbers = count()
        self._under_way: dict[str, dict[int, None]] = {WRITER: {}, VERIFIERS: {}}
        self._rounds = ROUNDS
        self._root: trio.lowlevel.Task | None = None

    def watch_writer(self, run: RunBlocking) -> RunBlocking:
        """``run``, each call being something that has to end."""

        async def watched(work: Callable[[], T], /) -> T:
            with self._working(WRITER):
                return await run(work)

        return watched

    def watch_verifier(self, verifier: Verifier) -> Verifier:
        """``verifier``, each chunk being something that has to end."""
        return _WatchedVerifier(verifier, partial(self._working, VERIFIERS))

    @contextmanager
    def _working(self, name: str) -> Iterator[None]:
        number = next(self._numbers)
        self._under_way[name][number] = None
        try:
            yield
        finally:
            del self._under_way[name][number]

    async def beat(self, grace_seconds: float) -> None:
        """A task of the core nursery. With it the core ends, which has its bound, too."""
        self._rounds = ROUNDS | {END: ROUNDS[END] + math.ceil(grace_seconds / ROUND_SECONDS)}
        self._root = trio.lowlevel.current_root_task()
        try:
            while True:
                self._notes[LOOP] = next(self._numbers)
                for name, numbers in self._under_way.items():
                    self._notes[name] = next(iter(numbers), None)
                await trio.sleep(ROUND_SECONDS)
        finally:
            self.expect_end()
            for name in (LOOP, WRITER, VERIFIERS):
                self._notes[name] = None

    def expect_end(self) -> None:
        """The pub is stopping: from now on there is a bound to all that is left to do, until the process is done."""
        self._notes[END] = 1

    @contextmanager
    def on_duty(self) -> Iterator[None]:
        """Watch for the length of this block; the loop from its first beat on, for a large store takes long to open."""
        faulthandler.register(signal.SIGPROF, file=STDERR, all_threads=True, chain=True)
        _wind_up(LOCK_CPU_SECONDS)  # the first round may never come
        is_over = threading.Event()
        thread = threading.Thread(target=self._watch, args=[is_over], name="watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()
            _wind_up(0)
            faulthandler.unregister(signal.SIGPROF)

    def _watch(self, is_over: threading.Event) -> None:
        seen = dict.fromkeys(ROUNDS, -1)
        unchanged = Counter[str]()
        while not is_over.wait(ROUND_SECONDS):
            _wind_up(LOCK_CPU_SECONDS)
            for name, note in self._notes.copy().items():
                unchanged[name] = unchanged[name] + 1 if note is not None and note == seen[name] else 0
                seen[name] = -1 if note is None else note
                if unchanged[name] >= self._rounds[name]:
                    self._end_process(name, unchanged[name] * ROUND_SECONDS)

    def _end_process(self, what: str, seconds: float) -> NoReturn:
        try:
            say = partial(_say, _stacks(self._root), what, seconds)
            if not _is_done_in_time(say):
                _is_done_in_time(partial(faulthandler.dump_traceback, STDERR))
        finally:
            os._exit(ExitCode.STALLED)


def _wind_up(cpu_seconds: float) -> None:
    """See the file's text; 0 stops the timer."""
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)


class _WatchedVerifier:
    def __init__(self, verifier: Verifier, working: Callable[[], AbstractContextManager[None]]) -> None:
        self.lanes = verifier.lanes
        self._verifier = verifier
        self._working = working

    async def verify(self, chunk: Sequence[bytes]) -> list[Message | str | None]:
        with self._working():
            return await self._verifier.verify(chunk)


def _say(stacks: str, what: str, seconds: float) -> None:
    log.error("stacks", stack=stacks)
    log.critical("stalled", what=what, seconds=seconds)


def _is_done_in_time(work: Callable[[], None]) -> bool:
    thread = threading.Thread(target=work, name="last words", daemon=True)
    thread.start()
    thread.join(LAST_WORDS_SECONDS)
    return not thread.is_alive()


# --- stacks --------------------------------------------------------------------------------------------------


def _stacks(root: trio.lowlevel.Task | None) -> str:
    """Of all threads and tasks, the innermost call last. Needs no file: the disk may be what stands still."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(UNDISTURBED_SECONDS)
    try:
        return "\n".join([*_threads(), *_tasks(root)])
    except RuntimeError as error:  # a set of trio's changed while we read it
        return "\n".join([*_threads(), f"the tasks could not be read: {error}"])
    finally:
        sys.setswitchinterval(interval)


def _threads() -> Iterator[str]:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for number, frame in sys._current_frames().items():
        calls = reversed(list(traceback.walk_stack(frame)))
        yield f"thread {names.get(number, number)}\n{_calls(calls)}"


def _tasks(root: trio.lowlevel.Task | None) -> Iterator[str]:
    alike = Counter[str]()
    found = [root] if root else []
    while found:
        task = found.pop()
        alike[f"{task.name}\n{_calls(task.iter_await_frames())}"] += 1
        for nursery in task.child_nurseries:
            found += nursery.child_tasks
    for stack, times in alike.most_common(MOST_STACKS):
        yield f"{times} × task {stack}"


def _calls(frames: Iterable[tuple[FrameType, int]]) -> str:
    return "\n".join(f"  {frame.f_code.co_filename}:{line} {frame.f_code.co_qualname}" for frame, line in frames)
