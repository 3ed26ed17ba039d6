"""Text from elsewhere, on its way to a terminal or a log."""

from __future__ import annotations

from urllib.parse import parse_qsl

LONGEST = 2000


def printable(value: object, limit: int = LONGEST) -> str:
    """
    A text in which nothing moves the cursor, changes a colour or begins a new line, and that ends.

    What a CA, a client or a site says is shown to people who did not ask them to draw on their screens.
    """
    return "".join(c if c.isprintable() else " " for c in str(value)[:limit])


def without_secrets(url: str) -> str:
    """
    A URL without its user, password and query, for people: any of them may be secret.

    One that a person has mistyped as well: a password may hold any character, and the scheme may be missing.
    """
    scheme, slashes, rest = url.partition("//") if "//" in url else ("", "", url)
    shown, _, query = rest.partition("?")
    if rest.startswith(("/", ".", "~")):  # the path of a file, in which an @ is nothing else
        return f"{scheme}{slashes}{shown}"
    # Either the query has an @, or the password has a question mark and all before it is secret too.
    return f"{scheme}{slashes}…" if "@" in query else f"{scheme}{slashes}{shown.rpartition('@')[2]}"


def has_password(url: str) -> bool:
    """
    Whether a store's URL may have a password in it: before the host, or in its query.

    In one that a person has mistyped as well: a password may hold any character, and the scheme may be missing.
    """
    names = [name.lower() for name, _ in parse_qsl(url.partition("?")[2])]
    if any(word in name for name in names for word in ("pass", "pwd", "secret", "token")):
        return True
    rest = url.partition("//")[2] if "//" in url else url
    if rest.startswith(("/", ".", "~", "file:", "webroot:")):  # a path, in which an @ is nothing else
        return False
    return ":" in rest.rpartition("@")[0]
