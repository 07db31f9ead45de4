"""The rooms put together: what a pub knows when it opens its store, before any task runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pub.errors import StoreError
from pub.ingest.verify import InlineVerifier
from pub.net.roles import Peer, Role
from pub.protocol.contacts import BLOCK, FOLLOW, Contact
from pub.protocol.keys import KeyPair, render_secret
from pub.rpc import blobs, conn, ebt, feeds, friends, gossip, history, invite, manifest, permissions, status
from pub.rpc.context import Pub
from pub.service import prepare
from pub.service.wiring import METHODS, World, build
from pub.store.env import Store
from pub.store.log import Log
from tests.service.people import person, settings_of, write_feed
from tests.store.authors import Author, commit

MODULES = (blobs, conn, ebt, feeds, friends, gossip, history, invite, manifest, status)


def with_pub(folder: Path, look: Callable[[Pub], Any], keys: KeyPair | None = None) -> Any:
    """What ``look`` sees in the pub of this folder, put together and not started."""
    settings = settings_of(folder)
    keys = keys or prepare(settings)
    with Store.open(folder) as store:
        return look(build(settings, keys, store, InlineVerifier(), World()))


def test_no_method_hides_another_of_the_same_name() -> None:
    assert sum(len(module.METHODS) for module in MODULES) == len(METHODS)


def test_every_right_is_a_right_to_something() -> None:
    assert set(METHODS) >= permissions.MEMBER | permissions.GUEST


@pytest.mark.parametrize("role", list(Role))
def test_the_manifest_names_what_a_role_may_call(tmp_path: Path, role: Role) -> None:
    class Caller:
        peer = Peer(b"", role, "")

    nested = with_pub(tmp_path, lambda pub: pub.methods["manifest",].handler(Caller(), []))
    flat = {
        (name, *rest)
        for name, below in nested.items()
        for rest in ([()] if isinstance(below, str) else [(inner,) for inner in below])
    }
    assert flat == {name for name in METHODS if permissions.is_allowed(Caller.peer, name)}


def test_the_pubs_own_feed_has_a_number_from_the_start(tmp_path: Path) -> None:
    keys = prepare(settings_of(tmp_path))
    own = with_pub(tmp_path, lambda pub: (pub.own, pub.log.keys[pub.own], pub.log.heads[pub.own]))
    assert own == (0, keys.public, 0)
    assert with_pub(tmp_path, lambda pub: pub.log.keys) == [keys.public]  # and the same number ever after


def test_what_was_said_of_others_counts_again_after_a_restart(tmp_path: Path) -> None:
    keys = prepare(settings_of(tmp_path))
    alice, mallory = Author("alice"), Author("mallory")
    pub_feed = Author("the pub")
    pub_feed.key = keys.public
    with Store.open(tmp_path) as store:
        commit(
            Log(store),
            [
                pub_feed.write(contact=Contact(alice.key, FOLLOW)),
                pub_feed.write(contact=Contact(mallory.key, BLOCK)),
                alice.write(contact=Contact(mallory.key, FOLLOW)),
            ],
        )

    def look(pub: Pub) -> tuple[bool, bool, bool]:
        a, m = pub.log.numbers[alice.key], pub.log.numbers[mallory.key]
        return pub.graph.is_following(pub.own, a), pub.graph.is_blocking(pub.own, m), pub.graph.is_following(a, m)

    assert with_pub(tmp_path, look) == (True, True, True)


# --- whose store, and since when -----------------------------------------------------------------------------


def is_unconfirmed(pub: Pub) -> bool:
    return pub.ingest.own_feed.unconfirmed


def test_a_pub_born_with_its_store_may_publish(tmp_path: Path) -> None:
    assert not with_pub(tmp_path, is_unconfirmed)
    assert not with_pub(tmp_path, is_unconfirmed)


def test_a_key_older_than_its_store_is_unconfirmed_at_every_start(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(render_secret(person("the pub")))
    for _start in range(3):
        assert with_pub(tmp_path, is_unconfirmed)


def test_a_part_of_the_feed_confirms_nothing_after_a_restart(tmp_path: Path) -> None:
    """The claims of peers that more is missing were in memory: with the part alone we would fork the feed."""
    keys = person("the pub")
    (tmp_path / "secret").write_text(render_secret(keys))
    with Store.open(tmp_path) as store:
        commit(Log(store), write_feed(keys, 3))
    assert with_pub(tmp_path, is_unconfirmed)


def test_the_store_of_another_pub_is_refused(tmp_path: Path) -> None:
    prepare(settings_of(tmp_path))
    with pytest.raises(StoreError, match="another pub") as refused:
        with_pub(tmp_path, is_unconfirmed, person("somebody else"))
    assert refused.value.exit_code == 74
