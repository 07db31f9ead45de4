"""Pubs that replicate with one another in memory, in any order of events: they end up with the same feeds.

Every frame is held against what the protocol forbids: a message goes only to a peer whose last note asked for it, and
in order. Commits are events of their own, as they are in the pub, and a lost connection loses what was under way.
"""

import random
from array import array
from collections import deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pub.protocol.arrivals import Expectation
from pub.protocol.clocks import Clock
from pub.protocol.refs import feed_id
from pub.protocol.replication import ReplicatorSession
from pub.protocol.replicator import Replicator

PUBS = 3
FEEDS = 4  # one of each pub, and one that nobody writes
KEYS = [bytes([feed + 1]) * 32 for feed in range(FEEDS)]
IDS = [feed_id(key) for key in KEYS]
FRAME = 3  # notes per frame, messages per slice


class Pub:
    """A replicator with its log. Feeds get numbers as they are followed, so the pubs do not agree on them."""

    def __init__(self, name: int) -> None:
        self.name = name
        self.keys: list[bytes] = []
        self.numbers: dict[bytes, int] = {}
        self.heads = array("I")
        self.replicator = Replicator(self.keys, self.numbers, self.heads)
        self.sessions: dict[int, ReplicatorSession] = {}
        self.saved: dict[int, bytes] = {}
        self.restored: dict[int, bytes] = {}  # what was saved when the session began
        self.arrived: list[tuple[int, int]] = []  # (feed, sequence) handed in, not yet committed
        self.replicator.replicate(self.number(name), ask=False)

    def number(self, key: int) -> int:
        if KEYS[key] not in self.numbers:
            self.numbers[KEYS[key]] = len(self.keys)
            self.keys.append(KEYS[key])
            self.heads.append(0)
        return self.numbers[KEYS[key]]

    def has(self, key: int) -> int:
        return self.heads[self.numbers[KEYS[key]]] if KEYS[key] in self.numbers else 0

    def replicates(self, key: int) -> bool:
        return KEYS[key] in self.numbers and self.replicator.is_replicated(self.numbers[KEYS[key]])

    def commit(self) -> None:
        grown: dict[int, None] = {}
        for feed, sequence in self.arrived:
            if sequence == self.heads[feed] + 1:
                self.heads[feed] = sequence
                grown[feed] = None
        self.arrived.clear()
        for feed in grown:
            self.replicator.appended(feed)


class World:
    def __init__(self) -> None:
        self.now = 100.0
        self.liars = 0
        self.unfollowed: set[tuple[int, int]] = set()
        self.pubs = [Pub(name) for name in range(PUBS)]
        self.wires: dict[tuple[int, int], deque[Any]] = {}
        self.wants: dict[tuple[int, int, bytes], int] = {}  # (from, to, key) -> next sequence that `to` asked for
        self.sent: dict[tuple[int, int, bytes], int] = {}  # (from, to, key) -> last sequence sent

    def connect(self, caller: int, callee: int) -> None:
        if caller == callee or (caller, callee) in self.wires:
            return
        for us, them in ((caller, callee), (callee, caller)):
            pub = self.pubs[us]
            self.wires[us, them] = deque()
            pub.restored[them] = pub.saved.get(them, Clock().pack())
            pub.sessions[them] = pub.replicator.open(
                speaks_first=us == callee,
                peer_feed=pub.numbers.get(KEYS[them]),
                saved=Clock.unpack(pub.restored[them]),
            )

    def disconnect(self, one: int, other: int) -> None:
        if (one, other) not in self.wires:
            return
        for us, them in ((one, other), (other, one)):
            del self.wires[us, them]
            pub = self.pubs[us]
            session = pub.sessions.pop(them)
            session.close()
            clock = session.clock_to_save()
            if session.has_learned:
                pub.saved[them] = clock.pack()
            else:
                assert dict(clock.items()) == dict(Clock.unpack(pub.restored[them]).items())
            self.wants = {key: value for key, value in self.wants.items() if key[:2] != (us, them)}
            self.sent = {key: value for key, value in self.sent.items() if key[:2] != (us, them)}

    def forget(self, one: int, other: int) -> None:
        """One side has lost the clock it saved."""
        self.pubs[one].saved.pop(other, None)

    def post(self, one: int, _: int) -> None:
        pub = self.pubs[one]
        feed = pub.number(one)
        pub.heads[feed] += 1
        pub.replicator.appended(feed)

    def follow(self, one: int, key: int) -> None:
        if one != key:
            self.pubs[one].replicator.replicate(self.pubs[one].number(key))

    def unfollow(self, one: int, key: int) -> None:
        if one != key:
            self.unfollowed.add((one, key))
            self.pubs[one].replicator.stop_replicating(self.pubs[one].number(key))

    def commit(self, one: int, _: int) -> None:
        self.pubs[one].commit()

    def wait(self, one: int, other: int) -> None:
        self.now += one + other
        for pub in self.pubs:
            pub.replicator.timeout(self.now)

    def lie(self, one: int, _: int) -> None:
        """Somebody connects, claims to have more of everything than anyone, and never sends a message."""
        self.liars += 1
        liar = self.pubs[one].replicator.open(speaks_first=True, peer_feed=None)
        liar.receive_notes(dict.fromkeys(IDS, 2**30), self.now)

    def speak(self, us: int, them: int) -> bool:
        """One frame of notes and one slice of messages onto the wire."""
        if (us, them) not in self.wires:
            return False
        pub, wire = self.pubs[us], self.wires[us, them]
        session = pub.sessions[them]
        before = len(wire)
        has_work = session.has_work
        if (notes := session.next_notes(FRAME)) is not None:
            wire.append(notes)
        if (piece := session.next_slice()) is not None:
            last = min(piece.after + FRAME, pub.heads[piece.feed])
            session.sent(piece.feed, last)
            for sequence in range(piece.after + 1, last + 1):
                key = pub.keys[piece.feed]
                next_sequence = self.wants[us, them, key]
                if sequence != next_sequence:  # skipping what the peer itself sent us is fine
                    assert next_sequence < sequence <= self.sent[them, us, key] + 1
                self.wants[us, them, key] = sequence + 1
                self.sent[us, them, key] = max(sequence, self.sent.get((us, them, key), 0))
                wire.append((key, sequence))
        assert has_work or len(wire) == before
        return len(wire) > before

    def hear(self, us: int, them: int) -> bool:
        """One frame off the wire."""
        wire = self.wires.get((them, us))
        if not wire:
            return False
        pub, frame = self.pubs[us], wire.popleft()
        session = pub.sessions[them]
        if isinstance(frame, dict):
            for text, note in frame.items():
                key = KEYS[IDS.index(text)]
                self.wants.pop((us, them, key), None)
                if not note & 1:
                    self.wants[us, them, key] = (note >> 1) + 1
            session.receive_notes(frame, self.now)
        else:
            key, sequence = frame
            expectation = session.expects(pub.numbers[key], sequence, self.now)
            assert expectation is not Expectation.GAP or (us, KEYS.index(key)) in self.unfollowed
            if expectation is Expectation.NEXT:
                pub.arrived.append((pub.numbers[key], sequence))
        return True

    def settle(self) -> None:
        """Let everything happen that is going to happen. Ends, or the pubs talk in circles."""
        for _ in range(12 + 2 * self.liars):  # longer than the bench; and each liar may hold a feed up for a moment
            self.wait(2, 2)
            for _ in range(500):
                busy = [self.speak(us, them) for us, them in list(self.wires)]
                busy += [self.hear(us, them) for us, them in list(self.wires)]
                busy += [bool(pub.arrived) for pub in self.pubs]
                for pub in self.pubs:
                    pub.commit()
                if not any(busy):
                    break
            else:
                raise AssertionError("they never fall silent")

    def neighbours(self, start: int, key: int) -> set[int]:
        """The pubs that a message of this feed can reach from here."""
        reached, todo = set(), [start]
        while todo:
            one = todo.pop()
            if one not in reached and self.pubs[one].replicates(key):
                reached.add(one)
                todo += [them for us, them in self.wires if us == one]
        return reached


ACTIONS = ["connect", "disconnect", "forget", "post", "post", "follow", "follow", "unfollow", "commit", "wait"]
ACTIONS += ["speak"] * 4 + ["hear"] * 6
STEP = st.tuples(st.sampled_from([*ACTIONS, "lie"]), st.integers(0, PUBS - 1), st.integers(0, PUBS - 1))


def play(steps: list[tuple[str, int, int]]) -> None:
    world = World()
    for name, one, other in steps:
        getattr(world, name)(one, other)
    world.settle()
    for key in range(FEEDS):
        for start in range(PUBS):
            heads = {one: world.pubs[one].has(key) for one in world.neighbours(start, key)}
            assert len(set(heads.values())) <= 1, (key, heads)
    for pub in world.pubs:
        assert not any(session.has_work for session in pub.sessions.values())
        assert not any(pub.replicator.in_flight.values())


@settings(max_examples=100)
@given(st.lists(STEP, max_size=40))
def test_pubs_converge_whatever_happens(steps: list[tuple[str, int, int]]) -> None:
    play(steps)


@pytest.mark.parametrize("names", [ACTIONS, [*ACTIONS, "lie"]], ids=["honest", "with liars"])
def test_pubs_converge_after_long_histories(names: list[str]) -> None:
    for seed in range(60):
        rng = random.Random(seed)
        play([(rng.choice(names), rng.randrange(PUBS), rng.randrange(PUBS)) for _ in range(rng.randrange(400))])


@pytest.mark.slow
def test_pubs_converge_after_very_many_histories() -> None:
    for seed in range(1000, 4000):
        rng = random.Random(seed)
        names = [*ACTIONS, "lie"] if seed % 2 else ACTIONS
        play([(rng.choice(names), rng.randrange(PUBS), rng.randrange(PUBS)) for _ in range(rng.randrange(400))])
