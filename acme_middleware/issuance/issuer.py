"""One certificate, from names to files: what is there, whether it is due, getting a new one, saving and publishing it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from acme_middleware import authorities, clock, events
from acme_middleware.authorities import Authority
from acme_middleware.errors import AcmeMiddlewareError, LeaseHeld, LeaseLost, NotYet
from acme_middleware.held import is_held
from acme_middleware.issuance import advice, deploying, failover, losses, renewal
from acme_middleware.issuance import names as identifier_names
from acme_middleware.issuance.attempt import Attempt
from acme_middleware.issuance.lineages import give_back, open_state, open_tokens
from acme_middleware.issuance.published import publish_dir
from acme_middleware.issuance.publishing import publish_newest
from acme_middleware.issuance.records import CertificateRecord, RenewalRecord, certificate_key, renewal_key
from acme_middleware.issuance.results import Action, Outcome
from acme_middleware.issuance.sweeps import closes_before
from acme_middleware.issuance.trying_out import try_out
from acme_middleware.lease import Lease, lease
from acme_middleware.options import Options
from acme_middleware.protocol.identifier import Identifier
from acme_middleware.stores.base import ChallengeSource, Expect, Store

if TYPE_CHECKING:  # it brings the ACME client
    from acme_middleware.issuance.conversation import Conversations
    from acme_middleware.issuance.gate import Gate

__all__ = ["Action", "Issuer", "Outcome"]


class Issuer:
    """
    Issues certificates for the application that shares its challenge store.

    Args:
        options: As :func:`acme_middleware.options.read` gives them.
        listener: Is told every event.
        conversations: Those with CAs that are under way; by default each certificate begins its own.
        stores: The two stores where they are open already, else those of the options. A sweep opens them once: a database would
            get connections of its own for each certificate.

    Raises:
        ConfigurationError: no store is set, or CA is unknown.
        StoreMisconfigured: a store's URL cannot be opened.
    """

    def __init__(
        self,
        options: Options,
        *,
        listener: events.Listener = events.log,
        conversations: Conversations | None = None,
        stores: tuple[Store, ChallengeSource] | None = None,
    ) -> None:
        self.store, self.challenges = stores or (open_state(options, writable=None), open_tokens(options))
        self._ours = stores is None
        self.emit, self.conversations = listener, conversations
        self.given = options
        self.authorities: Sequence[Authority] = authorities.find_all(options.ca)
        self._ask(self.authorities[0])

    def close(self) -> None:
        """Give back the connections of the stores that were opened here; it can be used again."""
        if self._ours:
            give_back(self.store, self.given.store)
            give_back(self.challenges, self.given.challenge_store or self.given.store)

    def _ask(self, authority: Authority, next_look: datetime | None = None) -> None:
        self.next_look = next_look
        self.authority, self.options = authority, failover.suited(self.given, self.authorities, authority)

    def issue(
        self,
        names: Sequence[str],
        *,
        name: str | None = None,
        force: bool = False,
        drop_names: bool = False,
        as_stored: bool = False,
        by_hand: bool = True,
        next_look: datetime | None = None,
        gate: Gate | None = None,
    ) -> Outcome:
        """
        See to it that there is a certificate for ``names``, and that its files are the current ones.

        Where a good one exists nothing is asked of the CA. Where another process is issuing the same, it is waited for, and
        what it made is reported. Whoever issued it, it is published and deployed here; what a deployer fails at is in the
        outcome, for the next call to repeat.

        Args:
            names: DNS names and IP addresses.
            name: What to know the certificate by; by default its first name.
            force: Issue even if none is due, and even if the pause after failures is not over.
            drop_names: Agree that names which the certificate has now will not be in the new one.
            as_stored: The names are those of a stored certificate: it must be there and have them still.
            by_hand: A person asks: the pause after the first two failures in a row is for programs.
            next_look: When this is called again, where that is known: a window of the CA's that is over by then is used now.
            gate: What the app allows: names, and how many orders an hour. For this call alone.

        Raises:
            NotYet: it is too early after failures, or the CA's limits or the app's are reached; no order was placed.
            NotAllowed: the app does not allow a name.
            NameRefused, ConfigurationError, TermsNotAgreed, ClockOff, StoreMisconfigured: before anything was ordered.
            ValidationFailed, CARefused, CertificateRejected: the CA, or the check before it, said no.
            LeaseHeld, LeaseLost, CAUnreachable, StoreUnavailable, Conflict: try again later; the next run goes on.
            PublishFailed: the certificate is saved, its files are not written; the next run writes them.
        """
        wanted = identifier_names.identifiers(names)
        lineage = identifier_names.lineage(name, wanted)
        try:
            there = copy.copy(self)
            chosen = failover.choose(self.store, self.authorities, self.given, [entry.value for entry in wanted])
            there._ask(chosen, next_look)
            how = {"drop_names": drop_names, "as_stored": as_stored}
            outcome = there._issue(wanted, lineage, force=force, by_hand=by_hand, gate=gate, **how)
            # Without the lease: this host's servers are no business of the others.
            return outcome._replace(undeployed=deploying.deploy(self.given, self.publish_dir, outcome.record, self.emit))
        except AcmeMiddlewareError as error:
            self.emit(events.Failed(name=lineage, error=error))
            raise

    def _issue(
        self,
        wanted: Sequence[Identifier],
        lineage: str,
        *,
        force: bool,
        drop_names: bool,
        as_stored: bool,
        by_hand: bool,
        gate: Gate | None,
    ) -> Outcome:
        profile = identifier_names.check_profile(wanted, self.authority, self.options.profile)
        seen = RenewalRecord.read(self.store, renewal_key(lineage))
        losses.refuse(lineage, wanted, seen, self.authority, drop_names=drop_names, as_stored=as_stored)
        if not force and self._due(wanted, seen) is None and seen is not None:
            return Outcome(Action.NOT_DUE, seen, self._publish(lineage))
        attempt = Attempt(
            self.store,
            self.authority,
            failover.account_of(self.options),
            wanted,
            lineage,
            emit=self.emit,
            force=force,
            by_hand=by_hand,
            alone=len(self.authorities) == 1,
            gate=gate,
        )
        try:
            attempt.refuse(seen)
        except NotYet:
            if not self._by_another(lineage, seen):
                raise
        self.try_out(lineage)
        outcome: Outcome | None = None
        try:
            with self._lease(lineage) as held:
                certificate = CertificateRecord.read(self.store, certificate_key(lineage))
                record = self._reconcile(lineage, certificate)
                losses.refuse(lineage, wanted, record, self.authority, drop_names=drop_names, as_stored=as_stored)
                reason = self._due(wanted, record)
                made_meanwhile = record is not None and (seen is None or record.serial != seen.serial)
                if record is not None and (made_meanwhile or not force) and reason is None:
                    outcome = Outcome(Action.BY_ANOTHER, record, self._publish(lineage))
                else:
                    attempt.refuse(record)  # another process may have tried meanwhile
                    attempt.replaces(certificate)
                    outcome = self._obtain(wanted, lineage, profile, certificate, held, reason or "forced", attempt)
        except LeaseLost:
            # Everything was saved under the version that was read under the lease: losing it afterwards loses nothing.
            if outcome is None:
                raise
        return outcome

    def _obtain(
        self,
        wanted: Sequence[Identifier],
        lineage: str,
        profile: str,
        previous: CertificateRecord | None,
        held: Lease,
        reason: str,
        attempt: Attempt,
    ) -> Outcome:
        from acme_middleware.issuance.conversation import Conversations
        from acme_middleware.issuance.ordering import Ordering  # brings the ACME client, which "not due" must not pay for

        with ExitStack() as stack:
            conversations = self.conversations or stack.enter_context(Conversations())
            with attempt.recorded():
                ordering = Ordering(
                    self.authority,
                    self.options,
                    self.store,
                    self.challenges,
                    lineage=lineage,
                    emit=self.emit,
                    still_ours=held.check,
                    conversation=conversations.open(self.authority, self.options.ca_bundle),
                    attempt=attempt,
                )
                made = ordering.obtain(wanted, profile, previous)
            held.check()
            expect = previous.version if previous else Expect.ABSENT
            made = replace(made, version=made.write(self.store, certificate_key(lineage), expect=expect))
            record = renewal.write_public(self.store, made)
            ordering.forget_order()
            attempt.succeeded(previous)
            self.emit(
                events.Issued(
                    name=lineage,
                    names=record.names,
                    ca=self.authority.title,
                    serial=record.serial,
                    not_after=record.not_after,
                    renewal=previous is not None,
                )
            )
            published = self._publish(lineage)
            record = advice.keep(self.store, record, ordering.renewal_window(record))
        return Outcome(Action.RENEWED if previous else Action.ISSUED, record, published, reason)

    def _due(self, wanted: Sequence[Identifier], record: RenewalRecord | None) -> str | None:
        why = renewal.due(record, [entry.value for entry in wanted], trusted=self.authority.trusted, now=clock.now())
        return why or closes_before(record, clock.now(), self.next_look)

    def refuse_lost_names(self, wanted: Sequence[Identifier], lineage: str, *, drop_names: bool) -> None:
        """Refuse, as :meth:`issue` does, to leave out names that the certificate has, unless that is agreed to."""
        losses.refuse_dropping(wanted, RenewalRecord.read(self.store, renewal_key(lineage)), agreed=drop_names)

    def try_out(self, lineage: str) -> None:
        """
        Try the stores, PUBLISH_DIR and DEPLOY as they will be used, before a certificate that could not be kept is ordered.

        Raises:
            StoreMisconfigured, StoreUnavailable, ConfigurationError, PublishFailed: as they say.
        """
        deploying.check(self.given, self.publish_dir, lineage)
        try_out(self.given, self.store, self.challenges, self.publish_dir, lineage)

    @contextmanager
    def _lease(self, lineage: str) -> Iterator[Lease]:
        """The lease of a certificate; whoever watches is told before the wait for another holder begins."""
        with ExitStack() as stack:
            try:
                held = stack.enter_context(lease(self.store, lineage))
            except LeaseHeld as error:
                if not self.options.wait:
                    raise
                self.emit(events.Waiting(name=lineage, holder=error.holder))
                held = stack.enter_context(lease(self.store, lineage, wait=self.options.wait))
            yield held

    def _by_another(self, lineage: str, seen: RenewalRecord | None) -> bool:
        """Whether another process is at it, or has just done it: what it has taken from caps and limits is for the same."""
        if is_held(self.store, lineage):
            return True
        record = RenewalRecord.read(self.store, renewal_key(lineage))
        return record is not None and (seen is None or record.version != seen.version)

    def _reconcile(self, lineage: str, certificate: CertificateRecord | None) -> RenewalRecord | None:
        """The renewal record, made again where a run died between saving the certificate and writing it."""
        record = RenewalRecord.read(self.store, renewal_key(lineage))
        if certificate is None or (record is not None and record.issued_at == certificate.issued_at):
            return record
        return renewal.write_public(self.store, certificate)

    @property
    def publish_dir(self) -> Path | None:
        """Where files go: PUBLISH_DIR, or the folder ``live`` in a directory store."""
        return publish_dir(self.options, self.store)

    def _publish(self, lineage: str) -> Path | None:
        """Make the files those of the newest record, whoever made it."""
        if self.publish_dir is None:
            return None
        return publish_newest(self.options, self.store, self.publish_dir, lineage, self.emit)
