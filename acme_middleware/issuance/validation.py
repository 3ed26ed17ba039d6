"""
Showing the CA that the names are ours.

This is the one place where a challenge is chosen and presented: a further type (dns-01, tls-alpn-01) would be chosen here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from acme_middleware import events
from acme_middleware.challenge import is_token
from acme_middleware.errors import CARefused, ConfigurationError, StoreMisconfigured, StoreUnavailable, ValidationFailed
from acme_middleware.issuance import failure
from acme_middleware.issuance.self_check import Finding, check
from acme_middleware.options import Options
from acme_middleware.protocol.identifier import Identifier
from acme_middleware.protocol.network import Network
from acme_middleware.protocol.order import (
    Authorization,
    Challenge,
    Order,
    fetch_authorization,
    say_ready,
    wait_for_order,
)
from acme_middleware.protocol.reply import unexpected
from acme_middleware.stores.base import TOKEN_TTL, ChallengeSource, ChallengeStore, FetchLog

TYPE = "http-01"
PARALLEL_CHECKS = 16
TOKENS_NAMED = 5


class _Pending(NamedTuple):
    """A name that the CA has yet to validate, and what our store answers for it."""

    authorization: Authorization
    challenge: Challenge
    key_authorization: str

    @property
    def name(self) -> str:
        return self.authorization.identifier.value


class _NoLog:
    """A source that has logged nothing, in place of one whose log cannot be read."""

    blocking = False

    def key_authorization(self, token: str) -> str | None:
        return None


def validate(
    network: Network,
    order: Order,
    challenges: ChallengeSource,
    options: Options,
    *,
    wanted: Sequence[Identifier],
    lineage: str,
    emit: events.Listener,
    still_ours: Callable[[], None],
) -> Order:
    """
    Have every pending authorization of an order validated.

    Args:
        wanted: What was ordered; an authorization for anything else is refused.
        lineage: The certificate's name, for events.
        still_ours: Raises LeaseLost if another process has taken over; called before the CA is told anything.

    Returns:
        The order, ready to be finalized. The tokens are gone from the store, whatever happened; where it does not let go of
        them, a warning names those that are left.

    Raises:
        ValidationFailed: the CA, or our own check before it, says no.
        CAUnreachable, CARefused, UnexpectedAnswer: as the protocol does.
    """
    authorizations = [fetch_authorization(network, url) for url in order.authorizations]
    strangers = [entry for entry in authorizations if entry.identifier not in wanted]
    if strangers:
        # The name goes into a request of our own, and into what a person reads.
        raise unexpected("the CA's order has an authorization for a name that was not ordered", url=strangers[0].url)
    try:
        # Only what is pending needs an answer: a valid authorization may be old, and list other types than ours.
        pending = [_choose(network, entry) for entry in authorizations if entry.status == "pending"]
        refused = [entry for entry in authorizations if entry.status not in ("pending", "valid")]
        if refused:
            raise _by_ca([(entry, "") for entry in refused], order, challenges)
        for entry in pending:
            _present(challenges, entry)
            emit(events.Presented(name=lineage, identifier=entry.name))
        _self_check(pending, options, lineage, emit)
        for entry in pending:
            still_ours()
            _still_there(challenges, entry)
            say_ready(network, entry.authorization, entry.challenge)
        order = wait_for_order(network, order.url, while_in=("pending",))
        if order.status == "invalid":
            raise _failed(network, order, pending, challenges)
        for entry in pending:
            emit(events.Validated(name=lineage, identifier=entry.name, fetches=_count(challenges, entry)))
        return order
    finally:
        # All of the order's tokens, those of names that are valid by now too: a run that was killed may have left them.
        _try_to_remove(authorizations, challenges, lineage, emit)


def forget_tokens(network: Network, order: Order, challenges: ChallengeSource) -> None:
    """Remove the tokens that a run which was killed had presented for an order."""
    for url in order.authorizations:
        try:
            _remove_tokens([fetch_authorization(network, url)], challenges)
        except CARefused:
            # The CA has forgotten the authorization already. Its token ends with its time to live.
            continue


def _remove_tokens(authorizations: Sequence[Authorization], challenges: ChallengeSource) -> None:
    if isinstance(challenges, ChallengeStore):
        for token in _tokens(authorizations):
            challenges.remove(token)


def _tokens(authorizations: Sequence[Authorization]) -> list[str]:
    offered = [authorization.challenge(TYPE) for authorization in authorizations]
    return [challenge.token for challenge in offered if challenge is not None and is_token(challenge.token)]


def _try_to_remove(
    authorizations: Sequence[Authorization], challenges: ChallengeSource, lineage: str, emit: events.Listener
) -> None:
    """
    Remove the tokens of an order, or tell which may be left.

    What came of the order matters more: a CA for which the workers cannot read a token from a store that is down says no, and
    the pauses after that failure must come.
    """
    try:
        _remove_tokens(authorizations, challenges)
    except (StoreUnavailable, StoreMisconfigured) as error:
        tokens = _tokens(authorizations)
        named = ", ".join(tokens[:TOKENS_NAMED]) + (f" and {more} more" if (more := len(tokens) - TOKENS_NAMED) > 0 else "")
        # A web server that serves the files of a web root by itself knows nothing of their time.
        message = (
            f"the challenge store may still hold {named}: {error}; it answers for {TOKEN_TTL / 60:.0f} minutes at most, and "
            "drops what is older when another token is presented"
        )
        emit(events.Warned(name=lineage, message=message))


def _choose(network: Network, authorization: Authorization) -> _Pending:
    challenge = authorization.challenge(TYPE)
    name = authorization.identifier.value
    if challenge is None or not challenge.token:
        offered = ", ".join(challenge.type for challenge in authorization.challenges) or "nothing"
        raise ValidationFailed(
            f"the CA does not offer {TYPE} for {name}",
            hint=f"it offers {offered}, which this program does not answer; another CA or profile may",
            name=name,
        )
    # The token becomes a file's name and an URL: it must be of the grammar (RFC 8555 section 8.3), or the CA is not to be
    # trusted with it.
    if not is_token(challenge.token):
        raise unexpected(f"the CA's token for {name} is no token (RFC 8555 section 8.3)", url=challenge.url)
    return _Pending(authorization, challenge, network.key_authorization(challenge.token))


def _present(challenges: ChallengeSource, entry: _Pending) -> None:
    if isinstance(challenges, ChallengeStore):
        challenges.present(entry.challenge.token, entry.key_authorization, ttl=TOKEN_TTL)
    elif challenges.key_authorization(entry.challenge.token) != entry.key_authorization:
        # A source that nothing is written to answers every token by itself, for one account.
        thumbprint = entry.key_authorization.rpartition(".")[2]
        raise ConfigurationError(
            "the challenge store answers for another account than the one that ordered",
            hint=f"this account's store is thumbprint:{thumbprint}",
            option="challenge_store",
        )


def _still_there(challenges: ChallengeSource, entry: _Pending) -> None:
    """
    See that the token can be read. A lease is not lost as soon as its store is down, and the CA looks once: told while the
    workers cannot read the token, it gives up the order, which the next run could have completed.
    """
    if challenges.key_authorization(entry.challenge.token) != entry.key_authorization:
        raise StoreUnavailable(
            f"the token for {entry.name} is gone from the challenge store, where it was just put",
            hint="run the command again; a store that loses what it has taken must not be used: is it a cache that is full?",
        )


def _self_check(pending: Sequence[_Pending], options: Options, lineage: str, emit: events.Listener) -> None:
    if options.self_check == "skip" or not pending:
        return

    def look(entry: _Pending) -> Finding:
        return check(entry.name, entry.challenge.token, entry.key_authorization, via=options.self_check_via)

    with ThreadPoolExecutor(min(len(pending), PARALLEL_CHECKS)) as pool:
        findings = list(pool.map(look, pending))
    for entry, finding in zip(pending, findings, strict=True):
        if finding.wrong or (not finding.served and options.self_check == "require"):
            raise failure.by_self_check(entry.name, entry.challenge.token, finding)
        if finding.silent:
            emit(events.SelfCheckUnsure(name=lineage, identifier=entry.name, reason=finding.silent))


def _failed(network: Network, order: Order, pending: Sequence[_Pending], challenges: ChallengeSource) -> ValidationFailed:
    """Ask which names failed, and tell all that is known about them."""
    now = [(fetch_authorization(network, entry.authorization.url), entry.challenge.token) for entry in pending]
    failed = [(entry, token) for entry, token in now if entry.status not in ("valid", "pending") or entry.problem]
    return _by_ca(failed, order, challenges)


def _by_ca(failed: Sequence[tuple[Authorization, str]], order: Order, challenges: ChallengeSource) -> ValidationFailed:
    try:
        return failure.by_ca(failed, order, challenges)
    except StoreUnavailable:
        # The store is down, which may be why the CA says no: what it has logged is not told.
        return failure.by_ca(failed, order, _NoLog())


def _count(challenges: ChallengeSource, entry: _Pending) -> int | None:
    return len(challenges.fetches(entry.challenge.token)) if isinstance(challenges, FetchLog) else None
