"""Text from elsewhere, on its way to a terminal or a log."""

from __future__ import annotations

import re

LONGEST = 2000


def printable(value: object, limit: int = LONGEST) -> str:
    """
    A text in which nothing moves the cursor, changes a colour or begins a new line, and that ends.

    What a CA, a client or a site says is shown to people who did not ask them to draw on their screens.
    """
    return "".join(c if c.isprintable() else " " for c in str(value)[:limit])


def without_secrets(url: str) -> str:
    """A URL without its user, password and query, for people: any of them may be secret."""
    return re.sub(r"//.*@", "//", url).partition("?")[0]
