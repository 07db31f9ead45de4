"""Imports go downwards only: the rooms of the house, and what each may import.

The table is the one of docs/ARCHITECTURE.md, as data. Every import counts, also those inside functions and under
`TYPE_CHECKING`: a type that a room may not see is a sign that something lives in the wrong room.
"""

import ast
import sys
from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]


class Room(NamedTuple):
    """`ours`: other rooms, or single modules of them as `store.peers`. `theirs`: distributions' import names."""

    ours: frozenset[str]
    theirs: frozenset[str]


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def room(ours: str = "", theirs: str = "") -> Room:
    return Room(words(ours), words(theirs))


ROOMS = {
    "errors": room(),
    "config": room("", "yaml msgspec"),
    "metrics": room("", "prometheus_client"),
    "protocol": room("", "nacl msgspec"),
    "graph": room("protocol"),
    "store": room("protocol", "lmdb obstore"),
    "ingest": room("store protocol graph metrics", "trio"),
    "net": room("protocol store.peers metrics", "trio"),  # not rpc: methods and limits are handed in as callables
    "rpc": room("net ingest store graph protocol metrics", "trio"),
    "web": room("store graph ingest protocol metrics config", "starlette hypercorn jinja2 trio"),
    "logs": room("config"),
    "offline": room("config protocol store rpc"),
    "service": room("config metrics protocol graph store ingest net rpc web logs", "trio"),
    "cli": room("service offline config store net logs", "click rich trio"),
}
EVERY_ROOM = room("errors", "msgspec structlog")  # msgspec: JSON text and structs, as others use json and dataclasses
NOT_IN_PROTOCOL = frozenset({"structlog"})

# what neither blocks, nor asks the machine anything, nor differs from run to run
PURE = words(
    "__future__ abc array base64 binascii bisect collections collections.abc dataclasses enum functools hashlib heapq "
    "hmac ipaddress itertools json math operator re string struct sys types typing unicodedata urllib.parse "
    "zlib"
)


def imports(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything imported anywhere in this module; `from a import b` counts as `a.b`."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                base = package.split(".")[: len(package.split(".")) + 1 - level] if level else []
                start = ".".join([*base, *([module] if module else [])])
                yield from ((node.lineno, f"{start}.{alias.name}") for alias in names)
            case ast.Call(func=ast.Name(id="__import__")) | ast.Call(func=ast.Attribute(attr="import_module")):
                yield node.lineno, "an import that only shows at run time"


def complaint(here: str, name: str) -> str | None:
    """Why the room `here` may not import `name`; None when it may."""
    top, _, rest = name.partition(".")
    if top == "pub":
        return ours_complaint(here, rest)
    if top in sys.stdlib_module_names:
        is_pure = name in PURE or name.rpartition(".")[0] in PURE
        return f"{name} is not pure" if here == "protocol" and not is_pure else None
    forbidden = NOT_IN_PROTOCOL if here == "protocol" else frozenset[str]()
    is_known = top in (ROOMS[here].theirs | EVERY_ROOM.theirs) - forbidden
    return None if is_known else f"{here} may not import {name}"


def ours_complaint(here: str, name: str) -> str | None:
    there = name.split(".")[0]
    if there in ("", "__version__", here):
        return None
    allowed = ROOMS[here].ours | EVERY_ROOM.ours
    is_allowed = there in allowed or any(f"{name}.".startswith(f"{module}.") for module in allowed)
    return None if is_allowed else f"{here} may not import pub.{name}"


def violations(sources: Mapping[str, str]) -> list[str]:
    """What breaks the table in these files; `sources` maps paths under pub/ to their text."""
    found = []
    for path, text in sorted(sources.items()):
        parts = path.removesuffix(".py").split("/")
        if parts == ["__init__"]:
            continue
        if parts[0] not in ROOMS:
            found.append(f"pub/{path}: {parts[0]} is no room of the table")
            continue
        package = ".".join(["pub", *parts[:-1]])
        for line, name in imports(ast.parse(text), package):
            if why := complaint(parts[0], name):
                found.append(f"pub/{path}:{line}: {why}")
    return found


def test_every_import_goes_downwards() -> None:
    folder = ROOT / "pub"
    sources = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.py")}
    assert sources
    assert violations(sources) == []


def test_the_table_itself_goes_downwards() -> None:
    """No room is above itself; a single module of a room stands for the room."""
    below = {name: {other.split(".")[0] for other in room.ours} for name, room in ROOMS.items()}
    order = list(TopologicalSorter(below).static_order())
    assert set(order) == set(ROOMS)


@pytest.mark.parametrize(
    ("path", "text", "why"),
    [
        ("net/peer.py", "from pub.rpc import ebt", "net may not import pub.rpc.ebt"),
        ("net/peer.py", "from pub import rpc", "net may not import pub.rpc"),
        ("net/peer.py", "from ..rpc import ebt", "net may not import pub.rpc.ebt"),
        ("net/deep/er.py", "from ...rpc.ebt import METHODS", "net may not import pub.rpc.ebt.METHODS"),
        ("net/peer.py", "from pub.store import log", "net may not import pub.store.log"),
        ("net/peer.py", "import pub.store.peers_of_others", "net may not import pub.store.peers_of_others"),
        ("graph.py", "def late():\n    import pub.store", "graph may not import pub.store"),
        ("store/log.py", "if TYPE_CHECKING:\n    import trio", "store may not import trio"),
        ("rpc/ebt.py", "import lmdb", "rpc may not import lmdb"),
        ("protocol/shs.py", "import os", "os is not pure"),
        ("protocol/shs.py", "from time import time", "time.time is not pure"),
        ("protocol/shs.py", "from urllib.request import urlopen", "urllib.request.urlopen is not pure"),
        ("protocol/shs.py", "import structlog", "protocol may not import structlog"),
        ("cli/run.py", "__import__('requests')", "cli may not import an import that only shows at run time"),
        ("utils/misc.py", "", "utils is no room of the table"),
    ],
)
def test_a_planted_violation_is_found(path: str, text: str, why: str) -> None:
    [found] = violations({path: text})
    assert found.startswith(f"pub/{path}")
    assert found.endswith(why)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("net/peer.py", "from pub.store.peers import Peers\nfrom pub.store import peers\nimport trio, structlog, os"),
        (
            "protocol/refs.py",
            "from urllib.parse import quote\nfrom collections.abc import Iterator\nimport nacl.bindings",
        ),
        ("cli/run.py", "from pub import __version__, service\nfrom . import status"),
        ("rpc/ebt.py", "from pub.errors import RpcError\nfrom pub.rpc import history"),
        ("__init__.py", "__version__ = '1'"),
    ],
)
def test_what_is_allowed_passes(path: str, text: str) -> None:
    assert violations({path: text}) == []
