"""A volunteer starts the new version on the data of the version before."""

from pathlib import Path

import pytest

from pub.errors import ExitCode
from pub.protocol.classic import create
from pub.protocol.keys import KeyPair, render_secret
from pub.service.identity import OWN_KEY
from tests.service.processes import answer_of, start_pub
from tests.store.schema1 import write_store

PUB, ALICE = (KeyPair.generate(name.ljust(32)) for name in (b"pub", b"alice"))
NOON = 1_700_000_000_000.0


@pytest.mark.slow
def test_the_first_start_rewrites_the_store(tmp_path: Path) -> None:
    folder = tmp_path / "pub"
    hello = create(PUB, None, {"type": "contact", "contact": ALICE.id, "following": True}, NOON)
    hers = create(ALICE, None, {"type": "post", "text": "hello"}, NOON)
    edges = {bytes(4) + b"\0\0\0\1": b"\1"}
    write_store(folder, [hello, hers], NOON, others={"edges": edges, "meta": {OWN_KEY: PUB.public}})
    (folder / "secret").write_text(render_secret(PUB))
    refused = answer_of(folder, "status")
    assert refused.returncode == ExitCode.STORE
    assert "is of an older version: start the pub once" in refused.stderr
    for starts in (1, 2):
        with start_pub(folder) as pub:
            feeds = {feed["id"]: feed["sequence"] for feed in pub.ask("feeds")}
            assert feeds[ALICE.id] == 1
            assert feeds[PUB.id] >= starts
            assert pub.end() == 0
        events = [line["event"] for line in pub.log]
        assert (events.count("store_upgrade_began"), events.count("store_upgraded")) == (1, 1)
    assert answer_of(folder, "status").returncode == 0
