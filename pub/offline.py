"""What the data folder alone can tell: the answers of the reading methods while no pub runs on it.

Each answer has the shape that the running pub gives over its control socket, so the command line need not know which
of the two it got. The store is opened for reading and closed again; nothing is made or mended here.
"""

import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from pub import __version__
from pub.config import Settings
from pub.errors import InvalidKey, OperatorError
from pub.protocol.addresses import Address, format_address
from pub.protocol.keys import KeyPair, parse_secret
from pub.rpc.arguments import options
from pub.rpc.conn import record_json
from pub.rpc.feeds import feeds_page
from pub.rpc.invite import invite_json
from pub.rpc.status import members_page
from pub.store.env import Store, Txn
from pub.store.invites import Invites
from pub.store.log import Log
from pub.store.members import Members
from pub.store.peers import Peers

STORE_FILE = "data.mdb"  # LMDB's own name for it


def answer(settings: Settings, name: tuple[str, ...], args: Sequence[Any] = ()) -> Any:
    """What one of the methods below answers. Raises OperatorError when there is no pub to tell of."""
    return _READERS[name](settings, *args)


def _whoami(settings: Settings) -> dict[str, str]:
    return {"id": _keys(settings).id}


def _status(settings: Settings) -> dict[str, Any]:
    keys = _keys(settings)
    host, port = settings.public_host, settings.public_port
    return {
        "id": keys.id,
        "name": settings.name,
        "version": __version__,
        "address": format_address(Address(host, port, keys.public)) if host and port else None,
        "ready": False,
        "running": False,
        "uptime": None,
        "peers": 0,
        **_stored(settings, _counts, {"feeds": 0, "forked": 0, "messages": 0, "members": 0}),
        "storing": None,
        "publishing": None,
        "internal_errors": 0,
        "limit_hits": {},
    }


def _counts(log: Log, txn: Txn) -> dict[str, int]:
    feeds = sum(1 for head in log.heads if head)
    members = Members(log.store).count(txn)
    return {"feeds": feeds, "forked": len(log.forked), "messages": log.message_count, "members": members}


def _invites(settings: Settings) -> list[dict[str, Any]]:
    records = _stored(settings, lambda log, txn: Invites(log.store).records(txn), [])
    now = time.time() * 1000
    return [invite_json(record, now) for record in reversed(records)]


def _page(pages: Callable[[Log, Txn, dict[str, Any]], list[msgspec.Raw]], settings: Settings, *args: Any) -> Any:
    page = _stored(settings, lambda log, txn: pages(log, txn, options(list(args))), [])
    return json.loads(msgspec.json.encode(page))


def _peers(settings: Settings) -> dict[str, Any]:
    records = _stored(settings, lambda log, txn: Peers(log.store).records(txn), [])
    return {"connected": [], "known": [record_json(record, None) for record in records]}


def _keys(settings: Settings) -> KeyPair:
    try:
        return parse_secret(settings.secret.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise OperatorError(f"there is no pub in {settings.data}: make one with `ssb-pub init`") from None
    except OSError as error:
        raise OperatorError(f"cannot read {settings.secret}: {error.strerror}") from None
    except (InvalidKey, UnicodeDecodeError):
        raise OperatorError(f"{settings.secret} is not a secret file") from None


def _stored(settings: Settings, query: Callable[[Log, Txn], Any], nothing: Any) -> Any:
    """The result of the query, or `nothing` for a pub that was made but never run."""
    _keys(settings)  # where there is no secret there is no pub: that says more than a missing store does
    if not (settings.data / STORE_FILE).exists():
        return nothing
    with Store.open(settings.data, readonly=True) as store:
        log = Log(store)
        with store.read() as txn:
            return query(log, txn)


_READERS: dict[tuple[str, ...], Callable[..., Any]] = {
    ("whoami",): _whoami,
    ("status",): _status,
    ("invite", "list"): _invites,
    ("members",): partial(_page, members_page),
    ("conn", "peers"): _peers,
    ("feeds",): partial(_page, feeds_page),
}
