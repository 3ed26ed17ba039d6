"""
simp_le's folder: the one it was run in, with one certificate::

    account_key.json    the account's key as a JSON Web Key
    account_reg.json    the account's URL
    key.pem             and cert.pem with chain.pem, or fullchain.pem, or full.pem with all of them

or a folder with several of those, as its users keep one for each site. The CA's directory is not in it, only the host.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from acme_middleware.foreign import pems
from acme_middleware.foreign.found import Account, Found, Lineage, Trouble
from acme_middleware.foreign.tree import Damaged, Tree

KEYS, CERTIFICATES = ("key.pem", "full.pem"), ("fullchain.pem", "cert.pem", "full.pem")


def read(tree: Tree) -> Found:
    """Read a folder of simp_le's, or one with several."""
    found = Found()
    for place in ((), *((folder,) for folder in tree.folders())):
        files = set(tree.entries(*place))
        host = url = ""
        if "account_key.json" in files:
            try:
                account = _account(tree, place)
                host, url = account.host, account.url
                if not any(other.key_pem == account.key_pem for other in found.accounts):
                    found.accounts.append(account)
            except Damaged as error:
                found.troubles.append(Trouble("/".join((*place, "account_key.json")), str(error)))
        if files & set(KEYS) and files & set(CERTIFICATES):
            try:
                found.lineages.append(_lineage(tree, place, files, host, url))
            except Damaged as error:
                found.troubles.append(Trouble(place[0] if place else tree.root, str(error)))
    return found


def _account(tree: Tree, place: tuple[str, ...]) -> Account:
    key = pems.jwk(tree.json(*place, "account_key.json"), "account_key.json")
    registration = tree.json(*place, "account_reg.json") if tree.has(*place, "account_reg.json") else {}
    url, body = registration.get("uri"), registration.get("body")
    contact = body.get("contact") if isinstance(body, dict) else None
    mails = [entry.removeprefix("mailto:") for entry in contact if isinstance(entry, str)] if isinstance(contact, list) else []
    try:
        host = urlsplit(url).netloc if isinstance(url, str) else ""
    except ValueError:
        host = ""
    return Account(
        host=host, url=url if isinstance(url, str) and host else "", key_pem=pems.to_pem(key), email=mails[0] if mails else ""
    )


def _lineage(tree: Tree, place: tuple[str, ...], files: set[str], host: str, url: str) -> Lineage:
    key = next(file for file in KEYS if file in files)
    certificate = next(file for file in CERTIFICATES if file in files)
    chain = tree.read(*place, "chain.pem") if "chain.pem" in files else b""
    pair = pems.pair(tree.read(*place, key), tree.read(*place, certificate), chain)
    return Lineage(name=pair.names[0], **pair._asdict(), host=host, account_url=url)
