"""The data folder on first start: settings file, key and store.

A key and its store are born together. A store that finds a key older than itself can't know how far that feed has
come elsewhere, and the pub will not publish before a peer has shown it.
"""

import os
from collections.abc import Callable
from pathlib import Path

from pub.config import Settings, write_config
from pub.errors import ConfigError, InvalidKey, StoreError
from pub.protocol.keys import SEED_BYTES, KeyPair, parse_secret, render_secret
from pub.store.env import Store

OWN_KEY = b"own_key"  # in meta: the key whose feed was born with this store


def prepare(settings: Settings, random_bytes: Callable[[int], bytes] = os.urandom) -> KeyPair:
    """The pub's key pair; makes data folder (0700), secret (0600), store and settings file where they are missing.

    Raises ConfigError for a secret file that can't be read, StoreError for a store whose secret is gone.
    """
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_config(settings.data)
    if settings.secret.exists():
        return _read_secret(settings.secret)
    keys = KeyPair.generate(random_bytes(SEED_BYTES))
    with Store.open(settings.data) as store:
        if owner(store) is not None:
            raise StoreError(f"{settings.data} holds the data of a pub whose secret file is missing: put it back")
        _write_secret(settings.secret, keys)
        store.write(lambda txn: txn.put(OWN_KEY, keys.public, db=store.meta))
    return keys


def owner(store: Store) -> bytes | None:
    """The public key whose feed was born with this store, if it was born with any."""
    with store.read() as txn:
        key: bytes | None = txn.get(OWN_KEY, db=store.meta)
        return key


def _read_secret(path: Path) -> KeyPair:
    try:
        return parse_secret(path.read_text(encoding="utf-8"))
    except (InvalidKey, UnicodeDecodeError):
        raise ConfigError(f"{path} is not a secret file") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None


def _write_secret(path: Path, keys: KeyPair) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(render_secret(keys))
        file.flush()
        os.fsync(file.fileno())
