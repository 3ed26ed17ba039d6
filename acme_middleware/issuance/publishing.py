"""Make the published files those of the newest certificate, whoever issued it and on which host."""

from __future__ import annotations

from pathlib import Path

from acme_middleware import events
from acme_middleware.errors import StoreMisconfigured
from acme_middleware.issuance.records import CertificateRecord, certificate_key
from acme_middleware.options import Options
from acme_middleware.stores.base import Store


def publish_newest(options: Options, store: Store, root: Path, lineage: str, emit: events.Listener) -> Path:
    """
    Publish the certificate of a name as it is in the store.

    Returns:
        The link that leads to it.

    Raises:
        StoreMisconfigured, StoreUnavailable, ConfigurationError, CertificateRejected, PublishFailed: as they say.
    """
    from acme_middleware.deploy.publish import Pems, publish

    def newest() -> Pems:
        made = CertificateRecord.read(store, certificate_key(lineage))
        if made is None:
            raise StoreMisconfigured(
                f"the store has no certificate {lineage}, only a record of its renewal",
                hint="restore it from a backup, or issue it again with --force",
            )
        return Pems(made.key_pem.encode(), made.cert_pem.encode(), made.chain_pem.encode())

    published = publish(root, lineage, newest, owner=options.owner, group=options.group)
    if published.changed:
        emit(events.Published(name=lineage, directory=str(published.current)))
    return published.current
