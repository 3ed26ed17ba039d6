"""Forget a certificate: its records, and if asked for its files. The certificate itself stays valid until it expires."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from acme_middleware.errors import StoreMisconfigured
from acme_middleware.issuance import lineages
from acme_middleware.issuance.published import publish_dir
from acme_middleware.issuance.records import CertificateRecord, certificate_key, order_key, renewal_key
from acme_middleware.issuance.renewal import record_of
from acme_middleware.lease import lease
from acme_middleware.options import Options
from acme_middleware.stores.base import Store


class Deleted(NamedTuple):
    """
    What was removed.

    Attributes:
        valid_until: When the certificate that is forgotten expires; None where there was none, or only a damaged one.
        records: The keys of the records that were removed.
        files: The folder whose published files were removed, or None.
        files_left: The folder with published files that are still there, or None.
        strangers: What else was found in the folder of published files, and is left.
    """

    name: str
    valid_until: datetime | None
    records: tuple[str, ...]
    files: Path | None
    files_left: Path | None
    strangers: tuple[str, ...]


def delete(options: Options, name: str, *, files: bool = False) -> Deleted:
    """
    Remove the renewal, order, ledger and certificate records of a name, damaged ones too.

    Under the lease: a process that is issuing the same is waited for. Killed half-way, the same command removes the rest.

    Args:
        files: Remove the files in PUBLISH_DIR as well.

    Raises:
        NoSuchCertificate: nothing of that name is stored.
        LeaseHeld, LeaseLost, StoreUnavailable, StoreMisconfigured: as they say.
        PublishFailed: the records are gone, and not all files.
    """
    with lineages.state(options) as store:
        lineage = lineages.known_as(store, name)
        with lease(store, lineage, wait=options.wait) as held:
            valid_until = _valid_until(store, lineage)
            held.check()
            # The public one first: from then on nobody renews it. The private one last: with it, the others can be made again.
            failures = lineages.failures_of(store, lineage)
            records = [renewal_key(lineage), order_key(lineage), *failures, certificate_key(lineage)]
            gone = tuple(record for record in records if store.delete(record))
            deleted = Deleted(lineage, valid_until, gone, None, None, ())
            return _without_files(deleted, publish_dir(options, store), remove=files)


def _without_files(gone: Deleted, root: Path | None, *, remove: bool) -> Deleted:
    if root is None:
        return gone
    from acme_middleware.deploy import proofs
    from acme_middleware.deploy.publish import directory_name
    from acme_middleware.deploy.unpublish import unpublish

    if remove:
        proofs.forget(root, gone.name)
        folder, strangers = unpublish(root, gone.name)
        return gone._replace(files=folder, strangers=tuple(strangers))
    folder = root / directory_name(gone.name)
    return gone._replace(files_left=folder if folder.is_dir() else None)


def _valid_until(store: Store, lineage: str) -> datetime | None:
    try:
        made = CertificateRecord.read(store, certificate_key(lineage))
        return None if made is None else record_of(made).not_after
    except StoreMisconfigured:
        return None
