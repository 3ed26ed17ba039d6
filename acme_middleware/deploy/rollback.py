"""Show the version of a certificate again that was published before, where a server does not take the newest."""

from __future__ import annotations

import os

from acme_middleware import _files, clock
from acme_middleware.deploy import snapshot
from acme_middleware.deploy.deployer import Deployment
from acme_middleware.deploy.publish import _explained, _locked
from acme_middleware.errors import ConfigurationError

__all__ = ["roll_back"]


def roll_back(deployment: Deployment) -> str:
    """
    Let ``current`` lead to the version before. The newer one is then as good as not published: the next run publishes it again,
    and deploys it.

    Returns:
        Why ``current`` stays as it is; "" where it was put back.

    Raises:
        PublishFailed: the link cannot be written.
    """
    lineage, previous = deployment.current.parent, deployment.previous
    if previous is None:
        return "there is none before it"
    try:
        pair = snapshot.read(previous / "fullchain.pem", previous / "privkey.pem", patience=0)
    except ConfigurationError:
        return "the one before it cannot be read"
    if _expired(pair.certificate):
        return "the one before it has expired"
    root = lineage.parent
    with _explained(root), _locked(root):
        # Another process may have published meanwhile: what is newest by now is not ours to take back.
        if os.readlink(deployment.current) != deployment.directory.name:
            return "another one was published meanwhile"
        link = lineage / ".current"
        link.unlink(missing_ok=True)
        with _files.about(link):
            os.symlink(previous.name, link)
        os.replace(link, deployment.current)
        _files.sync_folder(lineage)
    return ""


def _expired(pem: bytes) -> bool:
    from cryptography import x509

    return x509.load_pem_x509_certificates(pem)[0].not_valid_after_utc <= clock.now()
