"""
acme.sh's folder, usually ``~/.acme.sh``::

    NAME/ or NAME_ecc/                      NAME.conf (Le_API is the directory), NAME.key, NAME.cer, ca.cer, fullchain.cer
    ca/HOST/PATH/                           account.key in PEM, ca.conf (ACCOUNT_URL, CA_EMAIL, CA_EAB_KEY_ID)
    ca/HOST/                                the same, as older versions had it

The configuration files are shell: they are read, never run.
"""

from __future__ import annotations

import base64
import re
from urllib.parse import urlsplit

from acme_middleware.foreign import pems
from acme_middleware.foreign.found import Account, Found, Lineage, Trouble
from acme_middleware.foreign.tree import Damaged, Tree

LINE = re.compile(r"^\s*([A-Za-z_][A-Za-z0-9_]*)=(?:'([^']*)'|\"([^\"]*)\"|(\S*))\s*$", re.MULTILINE)
WRAPPED = re.compile(r"__ACME_BASE64__START_([A-Za-z0-9+/=]*)__ACME_BASE64__END_")
DEEPEST_SERVER = 8


def read(tree: Tree) -> Found:
    """Read a folder of acme.sh's."""
    found = Found()
    servers = _servers(tree)
    for place in tree.walk("ca", depth=DEEPEST_SERVER):
        if not tree.has("ca", *place, "account.key"):
            continue
        try:
            found.accounts.append(_account(tree, place, servers))
        except Damaged as error:
            found.troubles.append(Trouble(f"account at {'/'.join(place)}", str(error)))
    folders = tree.folders()
    for folder in folders:
        domain = folder.removesuffix("_ecc")
        if not tree.has(folder, f"{domain}.conf"):
            continue
        # The same name may have an RSA and an EC certificate.
        name = folder if folder != domain and tree.has(domain, f"{domain}.conf") else domain
        try:
            found.lineages.append(_lineage(tree, folder, domain, name, found.accounts))
        except Damaged as error:
            found.troubles.append(Trouble(name, str(error)))
    return found


def _servers(tree: Tree) -> dict[str, str]:
    """The directories that certificates name, by the folder of their account: that is without the port."""
    found = {}
    for folder in tree.folders():
        try:
            server = _parse(tree.text(folder, f"{folder.removesuffix('_ecc')}.conf")).get("Le_API", "")
        except Damaged:
            continue
        if _is_url(server):
            parts = urlsplit(server)
            found[f"{parts.hostname}/{parts.path.strip('/')}"] = server
    return found


def _account(tree: Tree, place: tuple[str, ...], servers: dict[str, str]) -> Account:
    key = pems.key(tree.read("ca", *place, "account.key"), "account.key")
    says = _parse(tree.text("ca", *place, "ca.conf")) if tree.has("ca", *place, "ca.conf") else {}
    directory = servers.get("/".join(place)) or ("https://" + "/".join(place) if len(place) > 1 else "")
    url = says.get("ACCOUNT_URL", "")
    return Account(
        directory=directory,
        host="" if directory else place[0],
        url=url if _is_url(url) else "",
        key_pem=pems.to_pem(key),
        email=says.get("CA_EMAIL", ""),
        eab_kid=says.get("CA_EAB_KEY_ID", ""),
    )


def _lineage(tree: Tree, folder: str, domain: str, name: str, accounts: list[Account]) -> Lineage:
    says = _parse(tree.text(folder, f"{domain}.conf"))
    pair = pems.pair(
        tree.read(folder, f"{domain}.key"),
        tree.read(folder, f"{domain}.cer"),
        tree.read(folder, "ca.cer") if tree.has(folder, "ca.cer") else b"",
    )
    server = says.get("Le_API", "")
    host = (urlsplit(server).hostname or "") if _is_url(server) else ""
    account = next((entry for entry in accounts if server and server == entry.directory), None)
    account = account or next((entry for entry in accounts if host and entry.host == host), None)
    return Lineage(
        name=name,
        **pair._asdict(),
        directory=server,
        account_url=account.url if account else "",
        options={"eab_kid": account.eab_kid} if account and account.eab_kid else {},
    )


def _is_url(text: str) -> bool:
    try:
        return urlsplit(text).scheme in ("http", "https") and bool(urlsplit(text).netloc)
    except ValueError:
        return False


def _parse(text: str) -> dict[str, str]:
    found = {}
    for name, single, double, bare in LINE.findall(text):
        value = single or double or bare
        wrapped = WRAPPED.fullmatch(value)
        if wrapped:
            try:
                value = base64.b64decode(wrapped.group(1)).decode()
            except ValueError:
                continue
        found[name] = value
    return found
