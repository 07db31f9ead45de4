"""Every Prometheus metric of the pub, and nothing else.

One ``Metrics`` per pub, with a registry of its own: several pubs can live in one process (the tests do that)
without adding up each other's numbers. Labels are bounded words, never an id, an address or a code. Every child
is created here, so that a graph shows 0 and not a hole.
"""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge

HANDSHAKES = ("accepted", "failed", "timeout", "blocked", "crowded")
RECEIVED = ("stored", "duplicate", "gap", "fork", "invalid_first", "invalid", "bug", "disk_full", "not_wanted")
REDEMPTIONS = ("accepted", "already_following", "bad_feed", "spent", "expired", "revoked", "stopped", "disk_full")
DISCONNECTS = ("goodbye", "hangup", "protocol", "idle", "blocked", "slow", "heavy", "bug")
DIALS = ("connected", "unreachable", "timeout", "handshake")
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
    "ingest_bytes",
    "unknown_wants",
    "history_streams",
    "own_feed_claims",
    "max_outgoing",
    "known_addresses",
)


class Metrics:
    """Counters and gauges by name; ``registry`` is what a scrape reads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.internal_errors = self._counter("internal_errors", "Exceptions that are bugs of the pub.")
        self.handshakes = self._counter("handshakes", "Secret handshakes by result.", "result", HANDSHAKES)
        self.received = self._counter("messages_received", "Messages peers sent, by result.", "result", RECEIVED)
        self.sent = self._counter("messages_sent", "Messages sent to peers.")
        self.published = self._counter("messages_published", "Messages of the pub's own feed.")
        self.forks = self._counter("forks", "Feeds found to have two continuations.")
        self.full_disks = self._counter("full_disks", "How often the disk turned out to be full.")
        self.redemptions = self._counter("invite_redemptions", "Calls of invite.use by result.", "result", REDEMPTIONS)
        self.disconnects = self._counter("disconnects", "Connections ended, by reason.", "reason", DISCONNECTS)
        self.dials = self._counter("dials", "Peers dialled, by result.", "result", DIALS)
        self.limit_hits = self._counter("limit_hits", "Bounds that were hit, by their name.", "limit", LIMITS)
        self.connections = Gauge("ssb_pub_connections", "Authenticated connections open now.", registry=self.registry)

    def _counter(self, name: str, text: str, label: str | None = None, values: Iterable[str] = ()) -> Counter:
        counter = Counter(f"ssb_pub_{name}", text, [label] if label else [], registry=self.registry)
        for value in values:
            counter.labels(value)
        return counter

    def value(self, name: str, **labels: str) -> int:
        """The present value of ``ssb_pub_<name>`` (counters end in ``_total``)."""
        return int(self.registry.get_sample_value(f"ssb_pub_{name}", labels) or 0)

    def limits_hit(self) -> dict[str, int]:
        """How often each bound was hit; bounds never hit are left out."""
        counts = {limit: self.value("limit_hits_total", limit=limit) for limit in LIMITS}
        return {limit: count for limit, count in counts.items() if count}
