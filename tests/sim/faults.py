"""Faults planted in the pub, to show that the simulation finds them: each breaks some world of a few seeds.

A fault is a name, what it is in words, and a function that patches the pub's code. ``python -m tests.sim --fault NAME``
plays worlds until one is broken.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

import pub.protocol.replication
import pub.rpc.invite
from pub.ingest.disk import Disk
from pub.ingest.ingest import Ingest
from pub.net.connection import Connection
from pub.protocol.ebt import encode_note
from pub.protocol.replication import ReplicatorSession
from pub.protocol.senders import Senders
from pub.rpc.history import LiveHistory
from pub.store.invites import InviteState
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
    """Plant this fault and play worlds until one is broken: its seed, and what was broken in it."""
    with planted(name):
        for seed in range(SEEDS):
            _, failure = play(seed)
            if failure is not None:
                return seed, failure
    return SEEDS, None


# --- waking up ------------------------------------------------------------------------------------------------


@fault("lost wake-up", "a stream that has something to say does not wake its sender", AGREEMENT)
def _lost_wakeup(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Connection, "stream_ready", lambda self, stream: self._ready.append(stream))


@fault("deaf history", "live history streams do not hear of commits", AGREEMENT)
def _deaf_history(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LiveHistory, "watch", lambda _self, _changes: None)


@fault("shut valve", "peers who wait for room in ingest are not told that there is some", AGREEMENT)
def _shut_valve(patch: pytest.MonkeyPatch) -> None:
    def release(self: Ingest, items: Any) -> None:
        self._held_bytes -= sum(len(item.raw) for item in items)

    patch.setattr(Ingest, "_release", release)


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


# --- the disk -------------------------------------------------------------------------------------------------


@fault("reply before commit", "a job is done as soon as it has run", "an answer comes after the commit")
def _reply_before_commit(patch: pytest.MonkeyPatch) -> None:
    run_job = Ingest._run_job

    def run_and_tell(job: Any, appender: Any) -> None:
        run_job(job, appender)
        job.done.set()

    patch.setattr(Ingest, "_run_job", staticmethod(run_and_tell))


# --- invites --------------------------------------------------------------------------------------------------


@fault("double use", "a code is not looked at when it is redeemed", "each use of a code is a member")
def _double_use(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(pub.rpc.invite, "state", lambda _record, _now: InviteState.OPEN)
