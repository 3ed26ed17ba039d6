"""What an order must not take from a certificate that is there: names, the trust of browsers, what was changed meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

from acme_middleware import clock
from acme_middleware.authorities import Authority
from acme_middleware.errors import ConfigurationError, Conflict
from acme_middleware.issuance.records import RenewalRecord, renewal_key
from acme_middleware.protocol.identifier import Identifier


def refuse(
    lineage: str,
    wanted: Sequence[Identifier],
    record: RenewalRecord | None,
    authority: Authority,
    *,
    drop_names: bool,
    as_stored: bool,
) -> None:
    """
    Refuse an order that takes something from a certificate that is there.

    Args:
        lineage: The certificate's name.
        wanted: What is to be ordered.
        record: What there is; None for nothing.
        authority: Where it is to be ordered.
        drop_names: It is agreed that names are left out.
        as_stored: The names are those that the certificate had when it was chosen for renewal, and nobody has typed them.

    Raises:
        ConfigurationError: names would be lost, or a good certificate would be replaced by one that browsers do not trust.
        Conflict: the certificate was deleted since it was chosen, or got other names.
    """
    if as_stored:
        _require_unchanged(lineage, wanted, record)
    refuse_dropping(wanted, record, agreed=drop_names)
    if record is not None and clock.now() < record.not_after and record.trusted and not authority.trusted:
        raise ConfigurationError(
            f"a certificate of {authority.title} would replace {record.name}'s, which is from {record.ca}",
            hint="pass --dry-run to only try, or --name to make another certificate beside it",
            option="ca",
        )


def refuse_dropping(wanted: Sequence[Identifier], record: RenewalRecord | None, *, agreed: bool) -> None:
    """Refuse to leave out names that a certificate has while it is valid. Raises ConfigurationError, which names them."""
    if record is None or clock.now() >= record.not_after:
        return
    dropped = [name for name in record.names if name not in {entry.value for entry in wanted}]
    if dropped and not agreed:
        raise ConfigurationError(
            f"the certificate {record.name} is also for {', '.join(dropped)}, which would be dropped",
            hint="name them too, pass --drop-names to drop them, or --name to make another certificate",
            option="drop_names",
        )


def _require_unchanged(lineage: str, wanted: Sequence[Identifier], record: RenewalRecord | None) -> None:
    if record is not None and set(record.names) == {entry.value for entry in wanted}:
        return
    what = "was deleted" if record is None else "has got other names"
    raise Conflict(
        f"{lineage} {what} since the renewal began, and is left as it is",
        hint="the next run looks at it anew",
        key=renewal_key(lineage),
    )
