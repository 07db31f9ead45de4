"""The whole chain, for real: a pub that members use, a Prometheus that scrapes it, an Alertmanager that tells us.

Both run with the committed configuration; changed are addresses, intervals, and whom Alertmanager tells. Beside that,
dashboard, alerts and runbook are held against what a living pub shows, in both directions.
"""

import re
import signal
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from tests.deploy.chain import Watch, fetch, watched
from tests.deploy.watching import RULES, Selector, filled_in, queries, selectors, words
from tests.service.people import Friend, dial, holder_of, person, write_feed
from tests.service.processes import Process, start_pub
from tests.test_metrics import documented

pytestmark = pytest.mark.slow

ALICE, BOB = person("alice"), person("bob")
MADE_BY_PROMETHEUS = {"up"}
OF_THE_SCRAPE = {"job", "instance"}
NOT_WATCHED: set[str] = set()  # metrics of the pub that no panel and no alert needs; none so far
USED = {
    selector for expression in (*queries(), *(rule["expr"] for rule in RULES)) for selector in selectors(expression)
}

Series = dict[str, list[dict[str, str]]]


def operations_port(pub: Process) -> int:
    [port] = [line["port"] for line in pub.log if line["event"] == "operations_listening"]
    return int(port)


# --- what is watched and what is shown -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Series:
    """The labels of each series that a pub shows, by the name of its metric."""
    series: Series = {}
    with start_pub(tmp_path_factory.mktemp("shown") / "pub") as pub:
        for family in text_string_to_metric_families(fetch(f"http://127.0.0.1:{operations_port(pub)}/metrics")):
            for sample in family.samples:
                series.setdefault(sample.name, []).append(sample.labels)
    return series


def misses(selector: Selector, shown: Series) -> list[str]:
    """What of a selector no series of the pub has: its name, a label, or a word of one."""
    if selector.name in MADE_BY_PROMETHEUS:
        return []
    series = shown.get(selector.name, [])
    labels = {name for name, _, _ in selector.matchers} - OF_THE_SCRAPE
    known = {(name, value) for each in series for name, value in each.items()}
    asked = {(label, word) for label in labels for word in words(selector, label)}
    return [selector.name] * (not series) + [f"{selector.name}: {label}={word}" for label, word in asked - known]


def test_what_is_watched_is_shown(shown: Series) -> None:
    assert sorted(miss for selector in USED for miss in misses(selector, shown)) == []


def test_what_is_shown_is_watched(shown: Series) -> None:
    """By a panel or an alert; those of the runtime alone are there for who looks for them."""
    used = {re.sub("_(bucket|sum|count)$", "", selector.name) for selector in USED}
    ours = {name for name in documented() if name.startswith("ssb_pub_")}
    assert ours - used == NOT_WATCHED
    assert ours <= {re.sub("_(bucket|sum|count)$", "", name) for name in shown}


@pytest.mark.parametrize(
    ("expression", "miss"),
    [
        ("ssb_pub_messages_eaten_total", "ssb_pub_messages_eaten_total"),
        ('ssb_pub_dials_total{result=~"connected|eaten"}', "ssb_pub_dials_total: result=eaten"),
        ('ssb_pub_ready{colour="red"}', "ssb_pub_ready: colour=red"),
    ],
)
def test_what_is_planted_is_missed(shown: Series, expression: str, miss: str) -> None:
    assert [found for selector in selectors(expression) for found in misses(selector, shown)] == [miss]


# --- the chain -----------------------------------------------------------------------------------------------


@dataclass
class Members:
    """Alice writes and Bob reads; both came by codes."""

    pub: Process
    stop: trio.Event = field(default_factory=trio.Event)

    async def join(self) -> None:
        for keys in (ALICE, BOB):
            code = (await trio.to_thread.run_sync(self.pub.ask, "invite", "create"))["code"]
            async with dial("127.0.0.1", self.pub.port, self.pub.key, holder_of(code)) as guest:
                await guest.call("invite", "use", args=[{"feed": keys.id}])

    async def write(self) -> None:
        """A few messages more every moment, all on one connection, while Bob reads them."""
        feed = write_feed(ALICE, 5000)
        async with (
            dial("127.0.0.1", self.pub.port, self.pub.key, ALICE) as alice,
            dial("127.0.0.1", self.pub.port, self.pub.key, BOB) as bob,
        ):
            writer, reader, sent = Friend(alice, []), Friend(bob, []), 0
            reader.has(ALICE.id, 0)
            writer.has(ALICE.id, len(feed))
            while not self.stop.is_set():
                writer.write(feed[sent : sent + 20])
                sent += 20
                await bob.call("whoami")
                with trio.move_on_after(0.1):
                    await self.stop.wait()
            assert reader.received > 100


async def test_prometheus_watches_a_busy_pub_and_an_alert_finds_its_way(tmp_path: Path) -> None:
    with start_pub(tmp_path / "pub") as pub, watched(tmp_path, f"127.0.0.1:{operations_port(pub)}") as watch:
        members = Members(pub)
        await members.join()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(members.write)
            await watch.until_none(lambda: [] if stored(watch) > 500 else ["messages"])
            await watch.until_none(lambda: silent(watch))
            of_the_pub = f'{{job="ssb-pub",instance="{watch.target}"}}'
            assert (watch.value(f"up{of_the_pub}"), watch.value(f"ssb_pub_ready{of_the_pub}")) == (1, 1)
            assert watch.firing() == set()
            members.stop.set()
        assert watch.told == []
        pub.end(signal.SIGKILL)
        await watch.until_none(lambda: [] if watch.told else ["an alert"])
        [alert] = watch.told
        named = {"alertname": "PubDown", "severity": "critical", "job": "ssb-pub", "instance": watch.target}
        assert (alert["status"], alert["labels"]) == ("firing", named)
        assert alert["annotations"]["summary"] == f"The pub at {watch.target} is down."
        assert alert["annotations"]["runbook_url"] == "deploy/RUNBOOK.md#pubdown"


def stored(watch: Watch) -> float:
    return watch.value(f'ssb_pub_messages_received_total{{result="stored",instance="{watch.target}"}}') or 0


def silent(watch: Watch) -> list[str]:
    """Which queries of the dashboard show nothing; those that leave out what is 0 may."""
    asked = {query: filled_in(query, __rate_interval="10s", instance=watch.target) for query in queries()}
    return [query for query, expression in asked.items() if not query.endswith("> 0") and not watch.ask(expression)]
