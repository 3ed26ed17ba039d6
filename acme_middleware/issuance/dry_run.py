"""A rehearsal: everything that issuing does, with nothing saved, published or counted."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace

from acme_middleware import authorities
from acme_middleware.errors import ConfigurationError, ValidationFailed
from acme_middleware.issuance import names as identifier_names
from acme_middleware.issuance.issuer import Issuer
from acme_middleware.issuance.self_check import check
from acme_middleware.stores.base import ChallengeStore
from acme_middleware.stores.memory import MemoryStore

TTL = 300.0


def dry_run(issuer: Issuer, names: Sequence[str], *, name: str | None = None, drop_names: bool = False) -> list[str]:
    """
    Try the options, the stores, the way from each public name to the store, and, where the CA has one, its staging twin.

    Returns:
        What was tried, a line each.

    Raises:
        ValidationFailed: a name does not lead to this app; nobody answering counts as well, whatever SELF_CHECK says.
        And all that :meth:`Issuer.issue` may raise.
    """
    wanted = identifier_names.identifiers(names)
    lineage = identifier_names.lineage(name, wanted)
    profile = identifier_names.check_profile(wanted, issuer.authority, issuer.options.profile)
    issuer.refuse_lost_names(wanted, lineage, drop_names=drop_names)
    issuer.try_out(lineage)
    done = ["the options; both stores, written and read back"]
    if isinstance(issuer.challenges, ChallengeStore) and issuer.options.self_check != "skip":
        for entry in wanted:
            _reach(issuer.challenges, entry.value, issuer.options.self_check_via)
        done.append(f"a random token, fetched through {', '.join(entry.value for entry in wanted)}")
    try:
        staging = authorities.staging_of(issuer.authority)
    except ConfigurationError:
        done.append(f"no order: {issuer.authority.title} has no staging twin")
        return done
    from acme_middleware.issuance.conversation import Conversations
    from acme_middleware.issuance.ordering import Ordering

    with Conversations() as conversations:
        Ordering(
            staging,
            replace(issuer.options, ca=staging.id),
            # An account, an order and a key of their own, which nobody sees and which are gone with this process.
            MemoryStore(),
            issuer.challenges,
            lineage=lineage,
            emit=issuer.emit,
            still_ours=lambda: None,
            conversation=conversations.open(staging, issuer.options.ca_bundle),
        ).obtain(wanted, profile, None)
    done.append(f"an order at {staging.title}, up to the certificate")
    return done


def _reach(challenges: ChallengeStore, name: str, via: str | None) -> None:
    token, answer = secrets.token_urlsafe(32), secrets.token_urlsafe(65)
    challenges.present(token, answer, ttl=TTL)
    try:
        finding = check(name, token, answer, via=via)
    finally:
        challenges.remove(token)
    if finding.wrong or not finding.served:
        raise ValidationFailed(
            f"{name} does not lead to this app",
            hint=f"a token that was just stored was asked for, and {finding.wrong or finding.silent}",
            name=name,
        )
