"""May we publish? Only while nobody has shown us more of our own feed than we hold.

A disk that was rolled back (a restored backup, a snapshot, a second machine with the same key) no longer knows the
last messages of the pub's own feed, but the pub's friends do. Publishing then would give a sequence number a second
message: a fork, and a forked feed is dead for ever. So a peer's note that shows our feed beyond our head stops all
publishing until what is missing has arrived, which the replicator asks of that peer like of any other feed.

A claim is not a proof, and anyone may claim. One that brings no message of ours for ``CLAIM_SECONDS`` lapses; each
message that does arrive (our signature proves it) renews the claims still ahead of it. A member may have to go before
it could deliver: its claim then waits ``AWAY_SECONDS`` for it to come back, ``MEMBER_CLAIM_SECONDS`` in all. A member
whose claim lapsed is no longer believed, and no stranger is once ``MAX_LAPSED_CLAIMS`` of theirs lapsed within
``LAPSED_CLAIMS_SECONDS``: lies of strangers cost a minute each, and not for long.

Once the feed is forked all the same there is no way back, and no claim to wait for: a proof of it (store/forks.py)
stops publishing for good, over restarts too. What the pub published after that would reach only those who have
our branch.
"""

from collections import deque
from dataclasses import dataclass

CLAIM_SECONDS = 60.0  # a phone on a bad connection delivers its first message well within this
AWAY_SECONDS = 3600.0  # a member on a bad connection is back within this
MEMBER_CLAIM_SECONDS = 6 * 3600.0  # a member who comes and goes and never delivers does not have it
MAX_CLAIMS = 100  # claims remembered at once: honest friends of a rolled-back pub all say the same
MAX_LAPSED_CLAIMS = 5  # strangers' lies believed before we stop listening to strangers
LAPSED_CLAIMS_SECONDS = 3600.0

FORKED = (
    "this pub's own feed is forked, its key was used in two places: only a pub with a new key, in a new data folder, "
    "can publish again (ssb-pub feeds --forked shows the proof)"
)


@dataclass(slots=True)
class _Claim:
    is_word: bool
    """The peer said so. Else it sent a message that we lost, and there may be one more."""
    sequence: int
    deadline: float
    last_deadline: float


class OwnFeed:
    """What peers say of our own feed; times are seconds of the caller's monotonic clock."""

    def __init__(self, unconfirmed: bool = False) -> None:
        self.unconfirmed = unconfirmed
        """The key is older than the store: the feed may exist elsewhere, and nobody has shown it yet."""
        self.lapsed = 0
        self._claims: dict[bytes, _Claim] = {}
        self._liars: set[bytes] = set()
        self._strangers_lapsed: deque[float] = deque(maxlen=MAX_LAPSED_CLAIMS)
        self._strangers: dict[bytes, None] = {}

    def claim(self, peer: bytes, sequence: int, now: float, is_member: bool, is_word: bool = True) -> bool:
        """``peer`` shows our feed at ``sequence``, beyond our head. ``False``: it is not believed.

        Without ``is_word`` it did not say so: it goes without saying until it has ``shown`` all it has.
        """
        if peer in self._liars or (not is_member and self._strangers_exhausted(now)):
            return False
        known = self._claims.get(peer)
        if known is None:
            if len(self._claims) >= MAX_CLAIMS and not self._make_room(is_member):
                return True  # publishing is stopped as it is
            last = MEMBER_CLAIM_SECONDS if is_member else CLAIM_SECONDS
            self._claims[peer] = _Claim(is_word, sequence, now + CLAIM_SECONDS, now + last)
            if not is_member:
                self._strangers[peer] = None
        else:
            known.is_word |= is_word
            known.sequence = max(known.sequence, sequence)
            if known.deadline > now + CLAIM_SECONDS:
                known.deadline = now + CLAIM_SECONDS  # it was away, and may deliver now
        return True

    def left(self, peer: bytes, now: float) -> None:
        """``peer`` can deliver nothing for now: the claim of a member waits until it is back."""
        claim = self._claims.get(peer)
        if claim is not None and peer not in self._strangers:
            claim.deadline = min(now + AWAY_SECONDS, claim.last_deadline)

    def grew(self, head: int, now: float) -> None:
        """A message of ours arrived from outside: our feed is now ``head`` long, and the claims are true so far."""
        self.unconfirmed = False
        for peer, claim in list(self._claims.items()):
            if claim.sequence <= head:
                self._forget(peer)
            else:
                claim.deadline = now + CLAIM_SECONDS
                claim.last_deadline = max(claim.last_deadline, claim.deadline)

    def shown(self, peer: bytes) -> None:
        """That was all ``peer`` has of our feed. If it said that it has more, its word stands until it lapses."""
        claim = self._claims.get(peer)
        if claim is not None and not claim.is_word:
            self._forget(peer)

    def stopped(self, head: int, now: float) -> str | None:
        """Why nothing may be published now, or ``None``."""
        self._lapse(head, now)
        if self._claims:
            longest = max(claim.sequence for claim in self._claims.values())
            return f"a peer has message {longest} of this pub's own feed, we have {head}: waiting for what is missing"
        if self.unconfirmed:
            return "this key is older than this data folder: waiting for a peer to show the pub's own feed"
        return None

    def _lapse(self, head: int, now: float) -> None:
        for peer, claim in list(self._claims.items()):
            if claim.sequence <= head:
                self._forget(peer)
            elif now >= claim.deadline:
                if peer in self._strangers:
                    self._strangers_lapsed.append(now)  # their keys are free: remembering them would be no use
                else:
                    self._liars.add(peer)
                self.lapsed += 1
                self._forget(peer)

    def _make_room(self, is_member: bool) -> bool:
        """A member's claim takes a stranger's place: when the lies lapse together, the true one must still stand."""
        if not (is_member and self._strangers):
            return False
        self._forget(next(iter(self._strangers)))
        return True

    def _forget(self, peer: bytes) -> None:
        del self._claims[peer]
        self._strangers.pop(peer, None)

    def _strangers_exhausted(self, now: float) -> bool:
        lapsed = self._strangers_lapsed
        return len(lapsed) == MAX_LAPSED_CLAIMS and now - lapsed[0] < LAPSED_CLAIMS_SECONDS
