"""Faults planted in the pub, to show that the simulation finds them: each breaks some world of a few seeds.

A fault is a name, what it is in words, and a function that patches the pub's code. ``python -m tests.sim --fault NAME``
plays worlds until one is broken.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
import trio

import pub.net.peer
import pub.protocol.classic
import pub.protocol.replication
import pub.rpc.invite
import pub.store.log
from pub.ingest.batch import Submission
from pub.ingest.disk import Disk
from pub.ingest.ingest import Ingest
from pub.ingest.intake import Intake
from pub.ingest.own_feed import OwnFeed
from pub.net.connection import Connection
from pub.protocol.classic import Chain, chain
from pub.protocol.ebt import encode_note
from pub.protocol.replication import ReplicatorSession
from pub.protocol.replicator import Replicator
from pub.protocol.senders import Senders
from pub.rpc.history import LiveHistory
from pub.rpc.legacy import Legacy
from pub.store.invites import Invites, InviteState
from pub.store.log import Log
from pub.store.members import Members
from tests.sim.scenario import play

Plant = Callable[[pytest.MonkeyPatch], None]

SEEDS = 50  # among so many worlds one must break; most faults break one of the first five


class Fault(NamedTuple):
    """``plant`` puts it in; ``breaks`` is what must hold and then does not."""

    what: str
    breaks: str
    plant: Plant


AGREEMENT = "in the end everybody has everything"
FAULTS: dict[str, Fault] = {}


def fault(name: str, what: str, breaks: str) -> Callable[[Plant], Plant]:
    """Enters a function into the table."""

    def enter(plant: Plant) -> Plant:
        FAULTS[name] = Fault(what, breaks, plant)
        return plant

    return enter


@contextmanager
def planted(name: str) -> Iterator[None]:
    """The fault is in the pub inside this block."""
    with pytest.MonkeyPatch.context() as patch:
        FAULTS[name].plant(patch)
        yield


def find(name: str) -> tuple[int, str | None]:
    """Plant this fault and play worlds until one is broken by it: its seed, and what was broken in it.

    What breaks first in a world hangs on chance: a message left out may be missed before another one shows the gap.
    """
    with planted(name):
        for seed in range(SEEDS):
            _, failure = play(seed)
            if failure is not None and FAULTS[name].breaks in failure:
                return seed, failure
    return SEEDS, None


# --- waking up ------------------------------------------------------------------------------------------------


@fault("lost wake-up", "a stream that has something to say does not wake its sender", AGREEMENT)
def _lost_wakeup(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Connection, "stream_ready", lambda self, stream: self._ready.append(stream))


@fault("deaf history", "live history streams do not hear of commits", AGREEMENT)
def _deaf_history(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LiveHistory, "watch", lambda _self, _changes: None)


@fault("deaf sessions", "EBT sessions do not hear of commits", AGREEMENT)
def _deaf_sessions(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Replicator, "appended", lambda _self, _feed: None)


@fault("shut valve", "peers who wait for room in ingest are not told that there is some", AGREEMENT)
def _shut_valve(patch: pytest.MonkeyPatch) -> None:
    def release(self: Intake, submissions: Iterable[Submission]) -> None:
        room, self._room = self._room, trio.lowlevel.ParkingLot()
        plain(self, submissions)
        self._room = room

    plain = Intake.release
    patch.setattr(Intake, "release", release)


@fault("leaking valve", "of each batch one submission still counts as held", AGREEMENT)
def _leaking_valve(patch: pytest.MonkeyPatch) -> None:
    release = Intake.release
    patch.setattr(Intake, "release", lambda self, submissions: release(self, list(submissions)[1:]))


@fault("full for ever", "nobody is told that the disk has room again", AGREEMENT)
def _full_for_ever(patch: pytest.MonkeyPatch) -> None:
    tell = Disk._tell
    patch.setattr(Disk, "_tell", lambda self: tell(self) if self.full is not None else None)


# --- replication ----------------------------------------------------------------------------------------------


@fault("no stall cure", "a feed is never taken away from a sender that announced more and sends nothing", AGREEMENT)
def _no_stall_cure(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Senders, "next_timeout", lambda _self: None)


@fault("note off by one", "notes tell of one message more than there is", "a note tells of what is on disk")
def _note_off_by_one(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(pub.protocol.replication, "encode_note", lambda sequence, receive: encode_note(sequence + 1, receive))


@fault("sent off by one", "after a page the next one begins a message too late", "no pub leaves a gap")
def _sent_off_by_one(patch: pytest.MonkeyPatch) -> None:
    sent = ReplicatorSession.sent
    patch.setattr(ReplicatorSession, "sent", lambda self, feed, sequence: sent(self, feed, sequence + 1))


@fault("old peers unasked", "peers without EBT are asked for nothing", AGREEMENT)
def _old_peers_unasked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Legacy, "begin", lambda _self, _connection: None)


@fault("old peers asked once", "peers without EBT are not asked for feeds that are new to us", AGREEMENT)
def _old_peers_asked_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Legacy, "update_feed", lambda _self, _feed: None)


@fault("claims for ever", "a claim to have more of the pub's own feed never lapses", AGREEMENT)
def _claims_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(OwnFeed, "_lapse", lambda _self, _head, _now: None)


# --- what is taken in -----------------------------------------------------------------------------------------


@fault("signatures unchecked", "every signature is good", "a feed is the same everywhere")
def _signatures_unchecked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(pub.protocol.classic, "verify", lambda *_: True)


@fault("duplicates stored", "a message that two peers send at once is stored twice", "sequences rise by one")
def _duplicates_stored(patch: pytest.MonkeyPatch) -> None:
    def chain_to_anything(head: Any, message: Any) -> Chain:
        verdict = chain(head, message)
        return Chain.NEXT if verdict is Chain.DUPLICATE else verdict

    patch.setattr(pub.store.log, "chain", chain_to_anything)


@fault("an open edge", "what a peer does wrong gets past the one place that catches", "EbtError")
def _open_edge(patch: pytest.MonkeyPatch) -> None:
    def account(_metrics: Any, error: BaseException, _address: str) -> None:
        raise error

    patch.setattr(pub.net.peer, "_account", account)


@fault("blamed on us", "what a peer does wrong counts as a bug of the pub", "no pub has a bug")
def _blamed_on_us(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(pub.net.peer, "PEER_FAULTS", (OSError,))


# --- the disk -------------------------------------------------------------------------------------------------


@fault("reply before commit", "a job is done as soon as it has run", "an answer comes after the commit")
def _reply_before_commit(patch: pytest.MonkeyPatch) -> None:
    run_job = Ingest._run_job

    def run_and_tell(job: Any, appender: Any) -> None:
        run_job(job, appender)
        job.done.set()

    patch.setattr(Ingest, "_run_job", staticmethod(run_and_tell))


@fault("head before commit", "heads rise as soon as the transaction is filled", "a note tells of what is on disk")
def _head_before_commit(patch: pytest.MonkeyPatch) -> None:
    fill = Ingest._fill

    def fill_and_tell(self: Ingest, *batch: Any) -> Any:
        outcome = fill(self, *batch)
        for feed, head in outcome.changes.heads.items():
            if feed < len(self._log.heads):
                self._log.heads[feed] = head
        return outcome

    patch.setattr(Ingest, "_fill", fill_and_tell)


@fault("graph forgotten", "who follows whom is not read when a pub starts", AGREEMENT)
def _graph_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Log, "edges", lambda _self: iter(()))


@fault("full disk held against the sender", "a message that found no room is its sender's fault", AGREEMENT)
def _full_disk_held_against_the_sender(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ReplicatorSession, "withdrawn", ReplicatorSession.refused)


@fault("no end of draining", "the writer does not hear that it shall stop", "a pub stops in time")
def _no_end_of_draining(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Ingest, "stop", lambda _self: None)


# --- invites --------------------------------------------------------------------------------------------------


@fault("double use", "a code is not looked at when it is redeemed", "each use of a code is a member")
def _double_use(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(pub.rpc.invite, "state", lambda _record, _now: InviteState.OPEN)


@fault("use not counted", "a redemption does not write down the use of its code", "each use of a code is a member")
def _use_not_counted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Invites, "use", lambda *_: None)


@fault("member not kept", "a redemption follows its guest and does not remember it", "each use of a code is a member")
def _member_not_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Members, "add", lambda *_: None)
