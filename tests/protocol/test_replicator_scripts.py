"""The scripted sessions of the reference implementation, replayed.

Every frame we send is held against the hard rules, whatever the script says. What we send must be what the reference
sent, frame by frame, except in the scripts named in DIFFERENT; there every message must still be the same, and every
feed noted with the same sequence.
"""

import json
from array import array
from pathlib import Path
from typing import Any

import pytest

from pub.protocol.arrivals import Expectation
from pub.protocol.clocks import Clock
from pub.protocol.ebt import encode_note, parse_frame
from pub.protocol.refs import feed_id
from pub.protocol.replication import ReplicatorSession
from pub.protocol.replicator import Replicator

SCRIPTS = json.loads((Path(__file__).parent.parent / "vectors" / "ebt.json").read_text())["scenarios"]

ONE_SENDER = "we ask one peer per feed; the reference, which means to, looks up the wrong key and asks every peer"
STOPPED = "a feed that we stopped replicating is answered -1 when the peer mentions it; the reference says nothing"

DIFFERENT = {
    "two peers: only one is asked to send": ONE_SENDER,
    "new message relayed to the other peer": ONE_SENDER,
    "random 2": ONE_SENDER,
    "random 3": ONE_SENDER,
    "random 7": ONE_SENDER,
    "random 9": f"{ONE_SENDER}; {STOPPED}",
}

FEEDS = ["@feedA", "@feedB", "@feedC"]
IDS = {name: feed_id(bytes([byte]) * 32) for byte, name in enumerate([*FEEDS, "@unknown"], 1)}
NAMES = {text: name for name, text in IDS.items()}


class Peer:
    """One scripted peer: our session with it, and what it may therefore be sent."""

    def __init__(self, stage: "Stage", name: str) -> None:
        self.stage = stage
        self.name = name
        self.may_hear = not stage.script["peers"][name]["we_are_client"]
        self.has_heard = False
        self.wants: dict[str, int] = {}  # feed -> next sequence, while its last note asks for messages
        self.words: dict[str, int] = {}  # feed -> our last note
        self.session: ReplicatorSession = stage.replicator.open(
            speaks_first=self.may_hear,
            peer_feed=None,
            saved=stage.saved.pop(name),
            is_hidden=lambda feed: (FEEDS[feed], name) in stage.blocks,
        )

    def notes(self, notes: dict[str, Any]) -> None:
        self.may_hear = True
        is_wrapped, notes = "clock" in notes, notes.get("clock", notes)
        written = {IDS[name]: note for name, note in notes.items()}
        frame = parse_frame(json.dumps({"clock": written} if is_wrapped else written).encode())
        assert isinstance(frame, dict)
        for name, note in notes.items():
            self.wants.pop(name, None)
            if not note & 1:
                self.wants[name] = (note >> 1) + 1
        self.session.receive_notes(frame, 0.0)

    def message(self, name: str, sequence: int) -> None:
        if name not in FEEDS:
            return  # a feed without a number: the caller knows that nobody asked for it
        expectation = self.session.expects(FEEDS.index(name), sequence, 0.0)
        if expectation in (Expectation.NEXT, Expectation.GAP):
            self.stage.appended.append([name, sequence])  # the reference sees a gap when it appends
        if expectation is Expectation.NEXT:
            self.stage.append(name, sequence)

    def drain(self) -> list[Any]:
        messages: list[Any] = []
        notes: list[Any] = []
        while self.session.has_work:
            if (frame := self.session.next_notes(100)) is not None:
                notes.append({"notes": {NAMES[text]: note for text, note in frame.items()}})
                self.check_notes(notes[-1]["notes"])
            if (piece := self.session.next_slice()) is not None:
                messages.append({"msg": [FEEDS[piece.feed], piece.after + 1]})
                self.check_message(FEEDS[piece.feed], piece.after + 1)
                self.session.sent(piece.feed, piece.after + 1)
        assert self.session.next_notes(100) is None
        assert self.session.next_slice() is None
        return messages + notes

    def check_notes(self, notes: dict[str, int]) -> None:
        assert self.may_hear
        self.has_heard = True
        for name, note in notes.items():
            if self.stage.is_shared(name, self.name):
                assert note >> 1 == self.stage.heads[FEEDS.index(name)]
            else:
                assert note == -1
                assert self.words.get(name) != -1
            self.words[name] = note

    def check_message(self, name: str, sequence: int) -> None:
        assert self.has_heard
        assert self.stage.is_shared(name, self.name)
        assert self.wants[name] == sequence
        self.wants[name] += 1


class Stage:
    """Our side of a script."""

    def __init__(self, script: dict[str, Any]) -> None:
        self.script = script
        self.heads = array("I", [script["my_clock"].get(name, 0) for name in FEEDS])
        keys = [bytes([byte]) * 32 for byte in (1, 2, 3)]
        self.replicator = Replicator(keys, {key: feed for feed, key in enumerate(keys)}, self.heads)
        self.blocks = {(source, target) for source, target in script["blocks"]}
        self.saved = {
            name: Clock({FEEDS.index(feed): encode_note(last, False) for feed, last in peer["saved_clock"].items()})
            for name, peer in script["peers"].items()
        }
        self.peers: dict[str, Peer] = {}
        self.appended: list[list[Any]] = []
        self.closed: dict[str, dict[str, int]] = {}
        for name in script["follows"]:
            self.replicator.replicate(FEEDS.index(name))

    def is_shared(self, feed: str, peer: str) -> bool:
        return (
            feed in FEEDS
            and self.replicator.is_replicated(FEEDS.index(feed))
            and (feed, peer) not in self.blocks
            and [feed, 7] not in self.appended  # the one message in the scripts that is no continuation
        )

    def play(self, do: dict[str, Any]) -> dict[str, Any]:
        ended: dict[str, Any] = {}
        match do:
            case {"connect": name}:
                self.peers[name] = Peer(self, name)
            case {"close": name}:
                ended = self.close(name)
            case {"append": [feed, sequence]}:
                self.append(feed, sequence)
            case {"request": feed, "on": False}:
                self.replicator.stop_replicating(FEEDS.index(feed))
            case {"request": feed}:
                self.replicator.replicate(FEEDS.index(feed))
            case {"block": [source, target]}:
                ended = self.block(source, target)
            case {"from": name, "notes": notes}:
                self.peers[name].notes(notes)
            case {"from": name, "msg": [feed, sequence]}:
                self.peers[name].message(feed, sequence)
        sent = {name: peer.drain() for name, peer in self.peers.items()}
        self.check_one_sender()
        return {name: frames for name, frames in sent.items() if frames} | ended

    def append(self, name: str, sequence: int) -> None:
        feed = FEEDS.index(name)
        if sequence == self.heads[feed] + 1:
            self.heads[feed] = sequence
            self.replicator.appended(feed)

    def close(self, name: str) -> dict[str, Any]:
        session = self.peers.pop(name).session
        session.close()
        self.saved[name] = clock = session.clock_to_save()
        self.closed[name] = {FEEDS[feed]: note >> 1 for feed, note in clock.items()}
        return {name: ["END"]}

    def block(self, source: str, target: str) -> dict[str, Any]:
        self.blocks.add((source, target))
        if source == self.script["my_id"]:
            return self.close(target)
        self.peers[target].session.visibility_changed(FEEDS.index(source))
        return {}

    def check_one_sender(self) -> None:
        for name in FEEDS:
            asked = [peer.name for peer in self.peers.values() if not peer.words.get(name, -1) & 1]
            assert len(asked) < 2 or not self.replicator.is_replicated(FEEDS.index(name))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: str(script["note"]))
def test_scripts_of_the_reference(script: dict[str, Any]) -> None:
    stage = Stage(script)
    played = [(step["do"], stage.play(step["do"]), step["sent"]) for step in script["steps"]]
    assert stage.appended == script["appended"]
    assert stage.closed == script["saved_clocks"]
    if script["note"] not in DIFFERENT:
        for do, sent, expected in played:
            assert sent == expected, do
        return
    assert any(sent != expected for _, sent, expected in played), "like the reference after all"
    for do, sent, expected in played:
        assert _messages(sent) == _messages(expected), do
        assert _sequences(expected).items() <= _sequences(sent).items(), do


def _messages(sent: dict[str, Any]) -> list[Any]:
    return [(name, frame["msg"]) for name, frames in sent.items() for frame in frames if "msg" in frame]


def _sequences(sent: dict[str, Any]) -> dict[tuple[str, str], int]:
    return {
        (name, feed): note >> 1
        for name, frames in sent.items()
        for frame in frames
        for feed, note in frame.get("notes", {}).items()
    }
