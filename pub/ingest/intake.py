"""What peers hand in, on its way to the writer: the valve, a line for each sender, the verifiers.

Peers wait for room only while more than ``max_bytes`` are on their way: that holds them back while the processor or the
disk lags. Every sender's submissions stand in a line of their own, and chunks for the verifiers are filled from all
lines in turn. So a sender with few messages waits for what is being verified, never for the thousands that another has
handed in before. Chunks may finish in any order and are taken up in the order they were filled, and one line is one
sender: its messages stay in order, and nobody else's have to.

*Express.* A few messages of a sender that has nothing in a line are what somebody has just written. They don't wait for
a chunk, and the writer takes them first, in the order they came. Few may be on their way like this at once: the rest
joins the lines. While people talk like this transactions are small, so that they don't wait long for the one under way
either.
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator

import trio

from pub.ingest.batch import Chunk, Submission
from pub.ingest.verify import FEW_MESSAGES, Verifier

CHUNK_MESSAGES = 256  # messages a verifier gets at once: 15 ms of work, so nothing waits long behind it
MAX_BATCH = 4096  # messages in one transaction: bounds how long a commit keeps everybody waiting
MAX_LIVE_BATCH = CHUNK_MESSAGES  # while people talk: a transaction takes 2 ms, on a busy machine 15
LIVE_SECONDS = 2.0  # since the last express submission: so long people are thought to talk
MAX_EXPRESS = 16  # submissions on their way at once: what they cost is done between two chunks, a millisecond or two
MAX_EXPRESS_OF_ONE = 4  # of a sender: who writes while a slow disk has the last one; more at once is no talk


class Intake:
    """See the file's text. ``overflow`` is called when somebody has to wait, ``changed`` when ``take`` has more."""

    def __init__(
        self, verifier: Verifier, max_bytes: int, overflow: Callable[[], None], changed: Callable[[], None]
    ) -> None:
        self.held_bytes = 0
        """How many bytes of ``max_bytes`` are taken."""
        self._verifier = verifier
        self._max_bytes = max_bytes
        self._overflow = overflow
        self._changed = changed
        self._room = trio.lowlevel.ParkingLot()
        self._lines: dict[object, deque[Submission]] = {}
        self._on_their_way: Counter[object] = Counter()  # submissions by sender, until they are released
        self._queueing: set[object] = set()  # senders of whom something stood in a line since all of theirs was done
        self._express: deque[Chunk] = deque()
        self._chunks: deque[Chunk] = deque()
        self._has_passed = False  # was the last batch by express alone?
        self._talked = -math.inf  # when the last express submission came
        self._bell = trio.Event()
        self._verifying: trio.Nursery | None = None

    async def wait_for_room(self, submission: Submission) -> None:
        """Return when ``put`` may be called, at once."""
        if self._is_full(submission.size):
            self._overflow()
            while self._is_full(submission.size):
                await self._room.park()

    def put(self, submission: Submission) -> None:
        """Take in a submission; it counts until it is released."""
        sender = submission.sender
        if self._verifying is not None and self._may_pass_by(submission):
            chunk = Chunk([submission])
            self._express.append(chunk)
            self._talked = trio.current_time()
            self._verifying.start_soon(self._verify, chunk, None)
        else:
            self._queueing.add(sender)
            self._lines.setdefault(sender, deque()).append(submission)
            self._bell.set()
        self._on_their_way[sender] += 1
        self.held_bytes += submission.size

    def _may_pass_by(self, submission: Submission) -> bool:
        """Is this what somebody has just written, with nothing before it in a line that it would overtake?"""
        return (
            len(submission.raws) <= FEW_MESSAGES
            and len(self._express) < MAX_EXPRESS
            and self._on_their_way[submission.sender] < MAX_EXPRESS_OF_ONE
            and submission.sender not in self._queueing
        )

    def _is_full(self, size: int) -> bool:
        """Is there no room for ``size`` bytes more? What is larger than all the room may enter when it is empty."""
        return bool(self.held_bytes) and self.held_bytes + size > self._max_bytes

    def release(self, submissions: Iterable[Submission]) -> None:
        """These are stored or refused: their bytes are free again."""
        for submission in submissions:
            self.held_bytes -= submission.size
            left = self._on_their_way[submission.sender] - 1
            if left > 0:
                self._on_their_way[submission.sender] = left
            else:
                del self._on_their_way[submission.sender]
                self._queueing.discard(submission.sender)
        self._room.unpark_all()

    @property
    def waiting(self) -> int:
        """How many messages wait to be verified or written."""
        return sum(len(submission.raws) for submission in self._all())

    @property
    def is_empty(self) -> bool:
        """Is nothing on its way?"""
        return not (self._lines or self._express or self._chunks)

    @property
    def has_ready(self) -> bool:
        """Would ``take`` give anything?"""
        first = self._express or self._chunks
        return bool(first) and first[0].verdicts is not None

    def is_worth_waiting(self, messages: int) -> bool:
        """Are fewer than so many messages ready, while more are under way and nobody talks?"""
        if self._is_live():
            return False
        ready = 0
        for chunk in self._chunks:
            if chunk.verdicts is None:
                return ready < messages
            ready += len(chunk.verdicts)
        return bool(self._lines) and ready < messages

    def take(self) -> list[Chunk]:
        """What is verified, up to a batch. What came by express goes first, even if it has to be waited for: its
        sender's next messages may be in a chunk. It goes by itself, but not twice in a row, or chunks might wait for
        ever.
        """
        taken: list[Chunk] = []
        count, limit = 0, MAX_LIVE_BATCH if self._is_live() else MAX_BATCH
        self._has_passed = is_passing = bool(self._express) and not self._has_passed
        while self.has_ready and count < limit and (self._express or not is_passing):
            chunk = (self._express or self._chunks).popleft()
            taken.append(chunk)
            count += len(chunk.verdicts or ())
        return taken

    def _is_live(self) -> bool:
        return trio.current_time() - self._talked < LIVE_SECONDS

    def give_up(self) -> list[Submission]:
        """All that is on its way; the verifiers' answers will be for nobody."""
        given_up = list(self._all())
        self._lines.clear()
        self._express.clear()
        self._chunks.clear()
        return given_up

    def _all(self) -> Iterator[Submission]:
        """Each sender's in order."""
        for chunk in (*self._express, *self._chunks):
            yield from chunk.submissions
        for line in self._lines.values():
            yield from line

    async def run(self) -> None:
        """Feed the verifiers, for ever."""
        lanes = trio.Semaphore(self._verifier.lanes)
        async with trio.open_nursery() as self._verifying:
            while True:
                await lanes.acquire()
                while not self._lines:
                    self._bell = trio.Event()
                    await self._bell.wait()
                chunk = self._fill_chunk()
                self._chunks.append(chunk)
                self._verifying.start_soon(self._verify, chunk, lanes)

    def _fill_chunk(self) -> Chunk:
        """A submission of each line in turn. They stay whole: a peer hands in no more than a turn of its packets."""
        chunk, count = Chunk([]), 0
        while self._lines and count < CHUNK_MESSAGES:
            sender = next(iter(self._lines))
            line = self._lines.pop(sender)
            submission = line.popleft()
            chunk.submissions.append(submission)
            count += len(submission.raws)
            if line:
                self._lines[sender] = line  # behind the others
        return chunk

    async def _verify(self, chunk: Chunk, lanes: trio.Semaphore | None) -> None:
        raws = [raw for submission in chunk.submissions for raw in submission.raws]
        verdicts = await self._verifier.verify(raws)
        if len(verdicts) != len(raws):
            raise RuntimeError(f"{len(verdicts)} verdicts on {len(raws)} messages")
        chunk.verdicts = verdicts
        if lanes is not None:
            lanes.release()
        if self.has_ready:
            self._changed()
