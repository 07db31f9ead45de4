"""The data folder on first start: settings file, key and store.

A key and its store are born together. A store that finds a key older than itself can't know how far that feed has
come elsewhere, and the pub will not publish before a peer has shown it. So the birth must not stop half way: the new
key lies in a file beside its place while the store learns of it, and moves there last. What a first start that was
killed leaves behind is either nobody's yet and made again, or finished by the next one.
"""

import os
from collections.abc import Callable
from pathlib import Path

from pub.config import Settings, write_config
from pub.errors import ConfigError, InvalidKey, StoreError
from pub.protocol.keys import SEED_BYTES, KeyPair, parse_secret, render_secret
from pub.store.env import Store, Txn, sync_folder

OWN_KEY = b"own_key"  # in meta: the key whose feed was born with this store, or was fetched into it


def prepare(
    settings: Settings,
    random_bytes: Callable[[int], bytes] = os.urandom,
    open_store: Callable[[Path], Store] = Store.open,
) -> KeyPair:
    """The pub's key pair; makes data folder (0700), secret (0600), store and settings file where they are missing.

    Raises ConfigError for a secret file that can't be read, StoreError for a folder that can't be used and for a
    store whose secret is gone.
    """
    try:
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_config(settings.data)
        if not os.path.lexists(settings.secret):  # a link to where nothing is (yet) is no reason for a new pub
            _give_birth(settings, random_bytes, open_store)
    except OSError as error:
        raise StoreError(f"cannot use the data folder {settings.data}: {error.strerror}") from None
    return _read_secret(settings.secret)


def owner(store: Store) -> bytes | None:
    """The public key whose feed belongs to this store, if one does."""
    with store.read() as txn:
        key: bytes | None = txn.get(OWN_KEY, db=store.meta)
        return key


def adopt(store: Store, txn: Txn, key: bytes) -> None:
    """The feed of ``key`` is as long here as anywhere: from now on it belongs to this store."""
    txn.put(OWN_KEY, key, db=store.meta)


def _give_birth(settings: Settings, random_bytes: Callable[[int], bytes], open_store: Callable[[Path], Store]) -> None:
    unborn = settings.secret.with_suffix(".new")
    with open_store(settings.data) as store:
        if os.path.lexists(settings.secret):
            return  # another first start was quicker
        born = owner(store)
        if born is None:
            keys = KeyPair.generate(random_bytes(SEED_BYTES))
            _write_secret(unborn, keys)
            store.write(lambda txn: adopt(store, txn, keys.public))
        elif not unborn.exists() or _read_secret(unborn).public != born:
            raise StoreError(f"{settings.data} holds the data of a pub whose secret file is missing: put it back")
        unborn.rename(settings.secret)
        sync_folder(settings.data)


def _read_secret(path: Path) -> KeyPair:
    try:
        return parse_secret(path.read_text(encoding="utf-8"))
    except (InvalidKey, UnicodeDecodeError):
        raise ConfigError(f"{path} is not a secret file") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None


def _write_secret(path: Path, keys: KeyPair) -> None:
    path.unlink(missing_ok=True)  # of a first start that was killed, and nobody's yet
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(render_secret(keys))
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)
