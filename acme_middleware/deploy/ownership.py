"""Users and groups, as people name them."""

from __future__ import annotations

from collections.abc import Callable

from acme_middleware.errors import ConfigurationError

__all__ = ["resolve_owner"]


def resolve_owner(owner: str | None, group: str | None) -> tuple[int, int]:
    """
    Look up a user and a group, each by name or number; -1 where None.

    Raises:
        ConfigurationError: there is none of that name.
    """
    import grp
    import pwd

    return (
        _number("owner", owner, lambda name: pwd.getpwnam(name).pw_uid),
        _number("group", group, lambda name: grp.getgrnam(name).gr_gid),
    )


def _number(option: str, value: str | None, look_up: Callable[[str], int]) -> int:
    if value is None:
        return -1
    if value.isascii() and value.isdigit():
        return int(value)
    try:
        return look_up(value)
    except KeyError:
        kind = "user" if option == "owner" else "group"
        raise ConfigurationError(
            f"there is no {kind} {value!r} on this machine", hint=f"{option} takes a {kind}'s name or number", option=option
        ) from None
