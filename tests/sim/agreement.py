"""What everybody must hold in the end, worked out from the messages alone, apart from how the pubs do it.

Who follows whom stands in the feeds. A pub replicates what is within its hops, a person what it follows. A feed reaches
whoever replicates it and is connected to somebody who has it: its author, or another whom it reaches.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence

from pub.protocol.refs import feed_key
from tests.sim.ledger import Ledger
from tests.sim.machines import Machine
from tests.sim.people import Person

Wants = Mapping[bytes, set[bytes]]  # by the key of whoever replicates: the keys of the feeds


def missing(ledger: Ledger, machines: Sequence[Machine], people: Sequence[Person]) -> list[str]:
    """Who lacks what of whom, in words."""
    names = {machine.key: machine.name for machine in machines} | {person.key: person.name for person in people}
    wants = {machine.key: _within_hops(ledger, machine) for machine in machines}
    wants |= {person.key: set(person.wants) for person in people}
    links = _links(machines, people)
    lengths = {machine.key: ledger.copies[machine.key].length for machine in machines}
    lengths |= {person.key: person.length for person in people}
    return [
        f"{names[node]} has {lengths[node](author)} of {len(written)} messages of {names[author]}"
        for author, written in ledger.written.items()
        for node in _reach(author, wants, links)
        if lengths[node](author) < len(written)
    ]


def _links(machines: Sequence[Machine], people: Sequence[Person]) -> dict[bytes, list[bytes]]:
    links: dict[bytes, list[bytes]] = defaultdict(list)
    pairs = [(machine.key, peer.key) for machine in machines for peer in machine.peers]
    pairs += [(person.key, pub.key) for person in people for pub in person.pubs]
    for one, other in pairs:
        links[one].append(other)
        links[other].append(one)
    return links


def _reach(author: bytes, wants: Wants, links: Mapping[bytes, list[bytes]]) -> list[bytes]:
    """Whom a feed reaches from its author."""
    reached = [author]
    for node in reached:
        reached += [each for each in links[node] if each not in reached and author in wants[each]]
    return reached


def _within_hops(ledger: Ledger, machine: Machine) -> set[bytes]:
    within, rim = {machine.key}, [machine.key]
    for _ in range(machine.settings.replication.hops):
        rim = [key for author in rim for key in follows(ledger.written.get(author, ())) if key not in within]
        within.update(rim)
    return within


def follows(feed: Sequence[bytes]) -> list[bytes]:
    """Whom the author follows, the last word on each."""
    said: dict[str, bool] = {}
    for raw in feed:
        content = json.loads(raw)["content"]
        if content["type"] == "contact":
            said[content["contact"]] = content["following"]
    return [feed_key(text) for text, is_followed in said.items() if is_followed]
