"""
lego's folder, usually ``.lego``::

    accounts/HOST_PORT/EMAIL/account.json           the account's URL
    accounts/HOST_PORT/EMAIL/keys/EMAIL.key         its key in PEM
    certificates/NAME.{crt,issuer.crt,key,json}     the certificate, with its chain or without; NAME is _.x.y for *.x.y

The directory's URL is not in it, only its host.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from acme_middleware.foreign import pems
from acme_middleware.foreign.found import Account, Found, Lineage, Trouble
from acme_middleware.foreign.tree import Damaged, Tree


def read(tree: Tree) -> Found:
    """Read a folder of lego's."""
    found = Found()
    for host in tree.folders("accounts"):
        for user in tree.folders("accounts", host):
            try:
                found.accounts.append(_account(tree, host, user))
            except Damaged as error:
                found.troubles.append(Trouble(f"account {user}", str(error)))
    for file in tree.entries("certificates"):
        name, dot, suffix = file.rpartition(".")
        if dot and suffix == "json":
            try:
                found.lineages.append(_lineage(tree, name, found.accounts))
            except Damaged as error:
                found.troubles.append(Trouble(name, str(error)))
    return found


def _account(tree: Tree, host: str, user: str) -> Account:
    folder = ("accounts", host, user)
    document = tree.json(*folder, "account.json")
    registration, email = document.get("registration"), document.get("email")
    url = registration.get("uri") if isinstance(registration, dict) else None
    key = pems.key(tree.read(*folder, "keys", f"{user}.key"), "its key")
    return Account(
        host=host,
        url=url if isinstance(url, str) else "",
        key_pem=pems.to_pem(key),
        email=email if isinstance(email, str) and "@" in email else "",
    )


def _lineage(tree: Tree, name: str, accounts: list[Account]) -> Lineage:
    resource = tree.json("certificates", f"{name}.json")
    issuer = f"{name}.issuer.crt"
    pair = pems.pair(
        tree.read("certificates", f"{name}.key"),
        tree.read("certificates", f"{name}.crt"),
        tree.read("certificates", issuer) if tree.has("certificates", issuer) else b"",
    )
    host = _host(resource.get("certUrl"))
    # With more than one account there, nothing says whose it is.
    urls = {account.url for account in accounts if account.host.replace(":", "_") == host.replace(":", "_")}
    return Lineage(name=name, **pair._asdict(), host=host, account_url=urls.pop() if len(urls) == 1 else "")


def _host(url: object) -> str:
    try:
        return urlsplit(url).netloc if isinstance(url, str) else ""
    except ValueError:
        return ""
