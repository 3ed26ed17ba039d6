"""Whether the files of a certificate are those of the record, found out without reading a key."""

from __future__ import annotations

import binascii
import hashlib
import os
from pathlib import Path

from acme_middleware.deploy.publish import directory_name
from acme_middleware.issuance.records import RenewalRecord
from acme_middleware.options import Options
from acme_middleware.stores.base import Store
from acme_middleware.stores.sealed import SealedStore

BEGIN, END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
MOST_BYTES = 100_000


def publish_dir(options: Options, store: Store) -> Path | None:
    """Where files go: PUBLISH_DIR, or the folder ``live`` in a directory store."""
    from acme_middleware.stores.directory import DirectoryStore

    if options.publish_dir is not None:
        return options.publish_dir
    store = store.inner if isinstance(store, SealedStore) else store
    return Path(store.path) / "live" if isinstance(store, DirectoryStore) else None


def is_published(root: Path, record: RenewalRecord) -> bool:
    """
    Whether the certificate of a record is the current one below ``root``.

    The certificate is compared, not a time: the clock that a file got its time from may be another than the one in the record.
    """
    return has_files_of(f"{root}/{directory_name(record.name)}/current", record)


def has_files_of(directory: str | os.PathLike[str], record: RenewalRecord) -> bool:
    """Whether a directory of one version has the certificate of a record in it."""
    try:
        file = os.open(f"{os.fspath(directory)}/cert.pem", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False  # whoever publishes says what is wrong
    try:
        pem = os.read(file, MOST_BYTES)
    except OSError:
        return False
    finally:
        os.close(file)
    _, _, rest = pem.partition(BEGIN)
    try:
        der = binascii.a2b_base64(rest.partition(END)[0])
    except binascii.Error:
        return False
    return hashlib.sha256(der).hexdigest() == record.fingerprint
