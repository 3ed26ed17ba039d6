"""What an adapter says where its framework is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def extra(name: str, *libraries: str) -> Iterator[None]:
    """
    Import an adapter's parts inside of this.

    Args:
        name: The extra that brings what they need.
        libraries: The top-level modules that it brings. A module that is missing for another reason is not explained away.

    Raises:
        ModuleNotFoundError: One of them is missing; the message says what to install.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in libraries:
            raise
        raise ModuleNotFoundError(f"{error}: pip install 'acme-middleware[{name}]'", name=error.name) from None
