"""Every Prometheus metric of the pub, and nothing else; docs/METRICS.md shows them as a table.

One ``Metrics`` per pub, with a registry of its own: several pubs can live in one process (the tests do that)
without adding up each other's numbers. Labels are bounded words, never an id, an address or a code. Every child
is created here, so that a graph shows 0 and not a hole.

Counting may not slow down what is counted. What happens for every read and every message is a plain number of
``Tally``, which a scrape folds into its counter. What can be looked up is a gauge with a function that is called at the
scrape, or is measured in a thread just before it (``service/gauges.py``): it costs nothing while nobody looks.
"""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from itertools import product
from math import inf
from time import perf_counter
from typing import TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from pub.errors import RpcError

PREFIX = "ssb_pub_"
M = TypeVar("M", Counter, Gauge, Histogram)

HANDSHAKES = ("accepted", "own", "failed", "timeout", "blocked", "crowded")
RECEIVED = (
    *("stored", "duplicate", "gap", "fork", "invalid_first", "bad_signature", "too_large", "invalid", "bug"),
    *("disk_full", "not_wanted", "blocked"),
)
REDEMPTIONS = ("accepted", "already_following", "bad_feed", "spent", "expired", "revoked", "stopped", "disk_full")
DISCONNECTS = ("goodbye", "hangup", "protocol", "idle", "blocked", "slow", "heavy", "bug")
DIALS = ("connected", "unreachable", "timeout", "handshake")
DIRECTIONS = ("incoming", "outgoing")
ROLES = ("member", "stranger", "guest", "control")
ANSWERED_METHODS = (  # sync and async ones: they end with an answer, whose time is taken
    *("manifest", "whoami", "getAddress", "status", "health", "members", "feeds"),
    *("conn.connect", "conn.forget", "conn.peers"),
    *("friends.follow", "friends.block", "friends.isFollowing", "friends.isBlocking"),
    *("invite.use", "invite.create", "invite.list", "invite.revoke"),
)
OTHER = "other"
METHODS = (*ANSWERED_METHODS, "createHistoryStream", "ebt.replicate", "blobs.createWants", "gossip.ping", OTHER)
_TIMED, _KNOWN = frozenset(ANSWERED_METHODS), frozenset(METHODS)
REQUESTS = ("answered", "refused", "forbidden", "unknown", "abandoned")
FEEDS = ("known", "stored", "replicated", "awaited", "forked")
COMMIT_ERRORS = ("disk_full", "job")
CHECKS = ("serving", "listener", "writer", "store", "disk", "handshake")
PROCESSES = ("pub", "verifier")
LEVELS = ("debug", "info", "warning", "error", "critical")
LIMITS = (
    "unauthenticated",
    "unauthenticated_per_address",
    "connections",
    "connections_per_identity",
    "handshake_seconds",
    "idle_seconds",
    "open_requests",
    "request_body",
    "outbound_bytes",
    "held_bytes",
    "refused_packets",
    "held_connections",
    "ingest_bytes",
    "unknown_wants",
    "history_streams",
    "own_feed_claims",
    "max_outgoing",
    "known_addresses",
    "http_connections",
    "http_connection_seconds",
    "http_send_seconds",
    "log_repeats",
)

HANDSHAKE_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)  # one round trip and a half, up to the limit
REQUEST_SECONDS = (0.001, 0.01, 0.1, 1, 10)  # few, because there is a row for each method
RESEND_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5)
COMMIT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
COMMIT_MESSAGES = (0, 1, 4, 16, 64, 256, 1024, 4096)  # 0: only jobs of our own
LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)

disable_created_metrics()  # type: ignore[no-untyped-call]  # when a counter began: twice the text, and nobody asks


class Tally:
    """What is counted too often for a counter of the registry; ``Metrics.fold`` takes it over."""

    __slots__ = ("penances", "received_bytes", "sent_bytes", "sent_messages")

    def __init__(self) -> None:
        self.penances = self.received_bytes = self.sent_bytes = self.sent_messages = 0


class Metrics:
    """Counters, gauges and histograms by name; ``registry`` is what a scrape reads, after ``fold``."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.tally = Tally()
        self._declare_process()
        self._declare_peers()
        self._declare_messages()
        self._declare_requests()
        self._declare_store()
        self._declare_saturation()

    def _declare_process(self) -> None:
        self.build = Info(f"{PREFIX}build", "Which version runs, on which Python; always 1.", registry=self.registry)
        self.ready = self._gauge("ready", "1 while every check passes, else 0: the last result of /readyz.")
        self.checks = self._gauge("check_passed", "1: this check passed when it was last made.", check=CHECKS)
        self.internal_errors = self._counter("internal_errors", "Exceptions that are bugs of the pub.")
        self.log_lines = self._counter("log_lines", "Lines written to the log.", level=LEVELS)
        self.processes = self._gauge("processes", "Processes that run.", process=PROCESSES)
        self.cpu_seconds = self._counter("cpu_seconds", "User and system time spent.", process=PROCESSES)
        self.resident_bytes = self._gauge(
            "resident_memory_bytes", "Memory in use, pages of the mapped store included.", process=PROCESSES
        )
        self.anonymous_bytes = self._gauge(
            "anonymous_memory_bytes", "Memory in use that no file backs: what the processes need.", process=PROCESSES
        )
        ProcessCollector(registry=self.registry)  # of the main process, under the names every dashboard knows
        GCCollector(registry=self.registry)

    def _declare_peers(self) -> None:
        self.connections = self._gauge(
            "connections", "Authenticated connections open now.", direction=DIRECTIONS, role=ROLES
        )
        self.max_connections = self._gauge("connections_limit", "The setting limits.max_connections.")
        self.shaking_hands = self._gauge("connections_unauthenticated", "Connections still in their handshake.")
        self.held_connections = self._gauge(
            "connections_held",
            "Connections that came to nothing and are closed later: no handshake, or a broken protocol.",
        )
        self.handshakes = self._counter(
            "handshakes", "Secret handshakes of those who dialled us; own: with the pub's own key.", result=HANDSHAKES
        )
        self.handshake_seconds = self._histogram(
            "handshake_seconds", "From the connection of who dialled us to the proven key.", HANDSHAKE_SECONDS
        )
        self.disconnects = self._counter("disconnects", "Connections ended.", reason=DISCONNECTS)
        self.dials = self._counter("dials", "Peers dialled.", result=DIALS)
        self.transferred = self._counter(
            "transferred_bytes", "Plain bytes exchanged with peers.", direction=("received", "sent")
        )

    def _declare_messages(self) -> None:
        self.received = self._counter("messages_received", "Messages peers sent.", result=RECEIVED)
        self.sent = self._counter("messages_sent", "Messages sent to peers.")
        self.published = self._counter("messages_published", "Messages of the pub's own feed.")
        self.forks = self._counter("forks", "Feeds found to have two continuations.")
        self.messages = self._gauge("messages", "Messages in the store.")
        self.feeds = self._gauge("feeds", "Feeds in each state; a feed can be in several.", state=FEEDS)
        self.ebt_sessions = self._gauge("ebt_sessions", "Open EBT sessions.")
        self.legacy_peers = self._gauge("legacy_peers", "Connected peers that seem to have no EBT.")
        self.resend_seconds = self._histogram(
            "resend_seconds",
            "From a message's commit to its first sending, where an EBT peer waited for it.",
            RESEND_SECONDS,
        )
        self.full_disks = self._counter("full_disks", "How often the disk turned out to be full.")
        self.members = self._gauge("members", "Who was ever admitted by a code.")
        self.open_invites = self._gauge("invites_open", "Invite codes that can still be used.")
        self.redemptions = self._counter("invite_redemptions", "Calls of invite.use.", result=REDEMPTIONS)

    def _declare_requests(self) -> None:
        self.requests = self._counter(
            "rpc_requests", "Requests of peers and of the command line.", method=METHODS, result=REQUESTS
        )
        self.requests_in_flight = self._gauge("rpc_requests_in_flight", "Async requests that are being answered.")
        self.streams = self._gauge("rpc_streams", "Open streams, whichever side asked for them.")
        self.request_seconds = self._histogram(
            "rpc_request_seconds",
            "From a request to its answer or refusal, sync and async methods.",
            REQUEST_SECONDS,
            method=ANSWERED_METHODS,
        )

    def _declare_store(self) -> None:
        self.verify_queue = self._gauge("verify_queue_messages", "Messages waiting to be verified or written.")
        self.held_bytes = self._gauge("ingest_bytes", "Bytes of messages waiting to be verified or written.")
        self.max_held_bytes = self._gauge("ingest_limit_bytes", "The setting limits.ingest_bytes.")
        self.commit_seconds = self._histogram("commit_seconds", "Transactions, fsync included.", COMMIT_SECONDS)
        self.commit_messages = self._histogram(
            "commit_messages", "Messages of peers in one transaction.", COMMIT_MESSAGES
        )
        self.commit_errors = self._counter("commit_errors", "Transactions undone.", reason=COMMIT_ERRORS)
        self.commit_age = self._gauge("commit_under_way_seconds", "Age of the transaction under way; 0: none is.")
        self.store_used = self._gauge("store_used_bytes", "Pages of the store that hold something.")
        self.store_file = self._gauge("store_file_bytes", "Size of the store's file.")
        self.store_mapped = self._gauge("store_mapped_bytes", "Address space of the store; it doubles by itself.")
        self.store_free = self._gauge("store_free_pages", "Pages inside the file that wait to be used again.")
        self.oldest_read = self._gauge("store_oldest_reader_seconds", "Age of the oldest open read; 0: none is.")
        self.disk_free = self._gauge("disk_free_bytes", "Room on the disk of the data folder.")
        self.disk_size = self._gauge("disk_size_bytes", "Size of the disk of the data folder.")
        self.disk_floor = self._gauge("disk_floor_bytes", "The setting operations.disk_floor: less room is not ready.")

    def _declare_saturation(self) -> None:
        self.loop_lag = self._histogram(
            "event_loop_lag_seconds", "How late a task is woken that asked to be four times a second.", LAG_SECONDS
        )
        self.tasks = self._gauge("tasks", "Tasks in the event loop.")
        self.limit_hits = self._counter("limit_hits", "Bounds that were hit, by their name.", limit=LIMITS)

    def _counter(self, name: str, text: str, **labels: Iterable[str]) -> Counter:
        return _with_children(Counter(PREFIX + name, text, list(labels), registry=self.registry), labels)

    def _gauge(self, name: str, text: str, **labels: Iterable[str]) -> Gauge:
        return _with_children(Gauge(PREFIX + name, text, list(labels), registry=self.registry), labels)

    def _histogram(self, name: str, text: str, buckets: Iterable[float], **labels: Iterable[str]) -> Histogram:
        histogram = Histogram(PREFIX + name, text, list(labels), buckets=(*buckets, inf), registry=self.registry)
        return _with_children(histogram, labels)

    def fold(self) -> None:
        """Take over what was tallied since the last time."""
        tally = self.tally
        self.transferred.labels("received").inc(tally.received_bytes)
        self.transferred.labels("sent").inc(tally.sent_bytes)
        self.sent.inc(tally.sent_messages)
        self.limit_hits.labels("refused_packets").inc(tally.penances)
        tally.penances = tally.received_bytes = tally.sent_bytes = tally.sent_messages = 0

    def answering(self, name: tuple[str, ...]) -> AbstractContextManager[None]:
        """Count, and for methods that end with an answer time, the request that is answered inside this block."""
        return _Answering(self, _method(name))

    def turned_away(self, name: tuple[str, ...], result: str) -> None:
        """Count a request that did not reach a method."""
        self.requests.labels(_method(name), result).inc()

    def families(self) -> list[Metric]:
        """Everything as it is at this moment, for ``render``."""
        self.fold()
        return list(self.registry.collect())

    def value(self, name: str, **labels: str) -> int:
        """Of ``ssb_pub_<name>`` (counters end in ``_total``), the sum of all children that have these labels; whole."""
        self.fold()
        [family] = self.registry.restricted_registry([PREFIX + name]).collect()
        return int(sum(sample.value for sample in family.samples if labels.items() <= sample.labels.items()))

    def limits_hit(self) -> dict[str, int]:
        """How often each bound was hit; bounds never hit are left out."""
        self.fold()
        [family] = self.limit_hits.collect()
        return {sample.labels["limit"]: int(sample.value) for sample in family.samples if sample.value}


class _Answering(AbstractContextManager[None]):
    """A class, because each request has one: a generator takes three times as long."""

    __slots__ = ("_began", "_method", "_metrics")

    def __init__(self, metrics: Metrics, method: str) -> None:
        self._metrics = metrics
        self._method = method
        self._began = perf_counter()

    def __enter__(self) -> None:
        self._metrics.requests_in_flight.inc()

    def __exit__(self, kind: type[BaseException] | None, _error: BaseException | None, _trace: object) -> None:
        metrics, method = self._metrics, self._method
        result = "answered" if kind is None else "refused" if issubclass(kind, RpcError) else "abandoned"
        metrics.requests_in_flight.dec()
        metrics.requests.labels(method, result).inc()
        if method in _TIMED:
            metrics.request_seconds.labels(method).observe(perf_counter() - self._began)


def render(families: list[Metric], accept: str) -> tuple[str, bytes]:
    """Content type and text of a scrape, in the format that the ``Accept`` header asks for. May run in a thread."""
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is no number
        encode, content_type = choose_encoder("")
    return content_type, encode(_Collected(families))


class _Collected(Collector):
    """What was collected already, in the form the encoders want."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def _method(name: tuple[str, ...]) -> str:
    """The label of a request; its name is a stranger's text."""
    method = ".".join(name) if len(name) < 3 else OTHER
    return method if method in _KNOWN else OTHER


def _with_children(metric: M, labels: Mapping[str, Iterable[str]]) -> M:
    for values in product(*labels.values()) if labels else ():
        metric.labels(*values)
    return metric


def reference_table() -> str:
    """Every metric as a Markdown table, for docs/METRICS.md: one row for each name that a scrape shows."""
    rows = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for family in Metrics().registry.collect():
        name = family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
        values: dict[str, list[str]] = {}
        for sample in family.samples:
            for label, value in sample.labels.items():
                known = values.setdefault(label, [])
                if label != "le" and value not in known:
                    known.append(value)
        labels = "; ".join(f"{label}: {', '.join(known)}" if known else label for label, known in values.items())
        rows.append(f"| `{name}` | {family.type} | {labels} | {family.documentation} |")
    return "\n".join(rows) + "\n"
