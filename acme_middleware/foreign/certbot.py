"""
certbot's folder, usually ``/etc/letsencrypt``::

    renewal/NAME.conf                                       server, account, and what its renewal needs
    live/NAME/{privkey,cert,chain}.pem                      links into archive/NAME/
    accounts/HOST/PATH/ID/{private_key,regr,meta}.json      the key as a JSON Web Key, the account's URL
"""

from __future__ import annotations

from acme_middleware.foreign import pems
from acme_middleware.foreign.found import Account, Found, Lineage, Trouble
from acme_middleware.foreign.tree import Damaged, Tree

KEPT = {"preferred_chain": "preferred_chain", "preferred_profile": "profile", "required_profile": "profile"}
DEEPEST_SERVER = 8


def read(tree: Tree) -> Found:
    """Read a folder of certbot's."""
    found = Found()
    urls: dict[tuple[str, str], str] = {}
    for place in tree.walk("accounts", depth=DEEPEST_SERVER):
        if not tree.has("accounts", *place, "private_key.json"):
            continue
        *server, account_id = place
        try:
            account = _account(tree, place)
        except Damaged as error:
            found.troubles.append(Trouble(f"account {account_id}", str(error)))
            continue
        if account.url and not any(other.url == account.url for other in found.accounts):
            found.accounts.append(account)
        urls["/".join(server), account_id] = account.url
    for file in tree.entries("renewal"):
        name, dot, suffix = file.rpartition(".")
        if not dot or suffix != "conf":
            continue
        try:
            found.lineages.append(_lineage(tree, name, urls))
        except Damaged as error:
            found.troubles.append(Trouble(name, str(error)))
    return found


def _account(tree: Tree, place: tuple[str, ...]) -> Account:
    folder = ("accounts", *place)
    key = pems.jwk(tree.json(*folder, "private_key.json"), "private_key.json")
    registration = tree.json(*folder, "regr.json")
    url, body = registration.get("uri"), registration.get("body")
    contact = body.get("contact") if isinstance(body, dict) else None
    mails = [entry.removeprefix("mailto:") for entry in contact if isinstance(entry, str)] if isinstance(contact, list) else []
    return Account(
        directory="https://" + "/".join(place[:-1]),
        url=url if isinstance(url, str) else "",
        key_pem=pems.to_pem(key),
        email=mails[0] if mails else "",
    )


def _lineage(tree: Tree, name: str, urls: dict[tuple[str, str], str]) -> Lineage:
    says = _parse(tree.text("renewal", f"{name}.conf"))
    # The paths in it are absolute, and wrong in a copy.
    live = ("live", name)
    pair = pems.pair(tree.read(*live, "privkey.pem"), tree.read(*live, "cert.pem"), tree.read(*live, "chain.pem"))
    server = says.get("server", "")
    options: dict[str, object] = {ours: says[theirs] for theirs, ours in KEPT.items() if says.get(theirs, "None") != "None"}
    if "required_profile" in says and "profile" in options:
        options["require_profile"] = True
    if says.get("reuse_key") == "True":
        options["reuse_key"] = True
    return Lineage(
        name=name,
        **pair._asdict(),
        directory=server,
        account_url=urls.get((server.partition("://")[2].strip("/"), says.get("account", "")), ""),
        options=options,
    )


def _parse(text: str) -> dict[str, str]:
    """The lines of a renewal configuration that matter: those at its top, and those of ``[renewalparams]``."""
    found: dict[str, str] = {}
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            section = line
        elif "=" in line and not line.startswith("#") and section in ("", "[renewalparams]"):
            name, _, value = line.partition("=")
            found.setdefault(name.strip(), value.strip().strip("\"'"))
    return found
