"""
One certificate from the CA: directory, account, order, validation, finalizing, download.

Whatever kills this half-way, the next run goes on: the account's key and the order, with the certificate's key, are in the
store before the step that needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from acme_middleware import clock, events
from acme_middleware.authorities import Authority
from acme_middleware.errors import (
    AcmeMiddlewareError,
    CARefused,
    CAUnreachable,
    CertificateRejected,
    ConfigurationError,
    Conflict,
    UnexpectedAnswer,
)
from acme_middleware.issuance import certificate, keys
from acme_middleware.issuance.accounts import forget_account, open_account
from acme_middleware.issuance.attempt import Attempt
from acme_middleware.issuance.conversation import Conversation
from acme_middleware.issuance.patience import save_order
from acme_middleware.issuance.placing import place
from acme_middleware.issuance.records import (
    KEY_COMPROMISE,
    CertificateRecord,
    OrderRecord,
    RenewalRecord,
    RenewalWindow,
    order_key,
)
from acme_middleware.issuance.validation import forget_tokens, validate
from acme_middleware.options import Options
from acme_middleware.protocol import order as acme_order
from acme_middleware.protocol.identifier import Identifier
from acme_middleware.protocol.order import Order
from acme_middleware.stores.base import ChallengeSource, Expect, Store

KEPT_OPTIONS = (
    "ca",
    "eab_kid",
    "key_type",
    "reuse_key",
    "profile",
    "require_profile",
    "preferred_chain",
    "self_check",
    "self_check_via",
)
"""What a renewal must do as the first issuance did; other options are the place's, not the certificate's."""


class Ordering:
    """
    A conversation with one CA about one certificate.

    Args:
        lineage: The certificate's name.
        still_ours: Raises LeaseLost when another process has taken over; called before each step that cannot be undone.
        conversation: One with this CA, in this thread.
        attempt: Counts what is asked of the CA; None: nothing is counted.

    Raises:
        NotYet: the CA would refuse the order.
        ConfigurationError: the profile that is required is not there.
        ClockOff, CAUnreachable, CARefused, UnexpectedAnswer: as :class:`Conversation` does.
    """

    def __init__(
        self,
        authority: Authority,
        options: Options,
        store: Store,
        challenges: ChallengeSource,
        *,
        lineage: str,
        emit: events.Listener,
        still_ours: Callable[[], None],
        conversation: Conversation,
        attempt: Attempt | None = None,
    ) -> None:
        self.authority, self.options, self.store, self.challenges = authority, options, store, challenges
        self.lineage, self.emit, self.still_ours = lineage, emit, still_ours
        self.attempt = attempt
        self._order_version: str | Expect = Expect.ABSENT
        self.conversation = conversation
        self.network, self.directory = conversation.network, conversation.directory

    def obtain(self, wanted: Sequence[Identifier], profile: str, previous: CertificateRecord | None) -> CertificateRecord:
        """
        Get a certificate for ``wanted``, checked against the request. It is not saved yet.

        Args:
            profile: The profile to ask for, or "".
            previous: The certificate that this one will replace.

        Raises:
            ValidationFailed, CertificateRejected: and all that the class may raise.
        """
        profile = self._offered(profile)
        try:
            return self._obtain(wanted, profile, previous)
        except CARefused as error:
            if error.problem.type != "accountDoesNotExist":
                raise
            # The CA has lost the account (or somebody deactivated it elsewhere): its orders are lost as well.
            self._warn("the CA does not know our account any more; a new one is made")
            forget_account(self.network.account_url, self.authority, self.options, self.store)
            self.forget_order()
            return self._obtain(wanted, profile, previous)

    def _obtain(self, wanted: Sequence[Identifier], profile: str, previous: CertificateRecord | None) -> CertificateRecord:
        account_url, created = open_account(self.network, self.directory, self.authority, self.options, self.store)
        self.emit(events.AccountReady(name=self.lineage, ca=self.authority.title, created=created))
        order, record = self._open_order(wanted, profile, account_url, previous)
        if order.status == "pending":
            order = validate(
                self.network,
                order,
                self.challenges,
                self.options,
                wanted=wanted,
                lineage=self.lineage,
                emit=self.emit,
                still_ours=self.still_ours,
            )
        key = keys.load(record.key_pem.encode())
        if order.status == "ready":
            self.still_ours()
            order = self._finalize(order, certificate.request(key, wanted))
        if order.status not in ("valid", "invalid"):
            order = acme_order.wait_for_order(
                self.network, order.url, while_in=("processing", "ready"), first=acme_order.FIRST_POLL_OF_CERTIFICATE
            )
        if order.status != "valid" or not order.certificate:
            self.forget_order()
            said = "; ".join(order.problem.lines()) if order.problem else "it gave no reason"
            raise CertificateRejected(
                f"the CA did not issue the certificate: {said}", hint="the same command starts a new order"
            )
        try:
            chains = acme_order.download(
                self.network, order.certificate, alternates=bool(self.options.preferred_chain), warn=self._warn
            )
            pem, preferred = certificate.choose(chains, self.options.preferred_chain)
            chain = certificate.accept(pem, wanted, key)
        except (CertificateRejected, CARefused) as error:
            # The next run must not download the same again, nor ask for what is not there.
            if isinstance(error, CertificateRejected) or acme_order.is_gone(error):
                self._count_issued()
                self.forget_order()
            raise
        self._count_issued()
        if not preferred:
            self._warn(f"the CA offers no chain up to {self.options.preferred_chain}; its default chain is used")
        return CertificateRecord(
            name=self.lineage,
            names=tuple(entry.value for entry in wanted),
            ca=self.authority.id,
            trusted=self.authority.trusted,
            account_url=account_url,
            profile=profile,
            order_url=order.url,
            key_type=self.options.key_type,
            issued_at=clock.now(),
            key_pem=record.key_pem,
            cert_pem=certificate.to_pem(chain[:1]).decode(),
            chain_pem=certificate.to_pem(chain[1:]).decode(),
            options={name: value for name in KEPT_OPTIONS if (value := getattr(self.options, name)) is not None},
        )

    def forget_order(self) -> None:
        """Delete the order's record, which brings nothing any more; not the one that a successor has written meanwhile."""
        with suppress(Conflict):
            self.store.delete(order_key(self.lineage), expect=self._order_version)

    def renewal_window(self, record: RenewalRecord) -> RenewalWindow | None:
        """Ask when to renew (RFC 9773). None where the CA does not say; a certificate is never lost to a failure here."""
        try:
            return self.conversation.renewal_window(record.ari_id, record.not_after)
        except (CAUnreachable, CARefused, UnexpectedAnswer) as error:
            self._warn(f"no renewal information: {error}")
            return None

    def _offered(self, profile: str) -> str:
        if not profile or profile in self.directory.profiles:
            return profile
        offered = ", ".join(self.directory.profiles) or "none"
        if self.options.require_profile:
            raise ConfigurationError(
                f"the CA has no profile {profile!r}; it offers {offered}",
                hint="choose one of those, or leave --require-profile out to get its default",
                option="profile",
            )
        message = f"the CA has no profile {profile!r} (it offers {offered}); its default is used"
        self._warn(message)
        return ""

    def _open_order(
        self, wanted: Sequence[Identifier], profile: str, account_url: str, previous: CertificateRecord | None
    ) -> tuple[Order, OrderRecord]:
        """The order that a run before this one had placed, or a new one."""
        where = order_key(self.lineage)
        fresh = OrderRecord(
            url="",
            account_url=account_url,
            ca=self.authority.id,
            names=tuple(entry.value for entry in wanted),
            profile=profile,
            key_type=self.options.key_type,
            key_pem=self._key(previous),
        )
        saved = OrderRecord.read(self.store, where)
        self._order_version = saved.version if saved is not None else Expect.ABSENT
        known = saved is not None and (saved.ca, saved.account_url) == (fresh.ca, fresh.account_url)
        # A run that died between saving the certificate and deleting the order left one that brings nothing new.
        if saved is not None and known and not (previous and saved.url == previous.order_url):
            order = self._resumable(saved.url)
            same = replace(saved, url="", key_pem=fresh.key_pem) == fresh
            if order is not None and not (same and order.status == "pending"):
                forget_tokens(self.network, order, self.challenges)
            if order is not None and same and order.status != "invalid":
                self.emit(events.OrderReady(name=self.lineage, names=fresh.names, profile=profile, resumed=True))
                return order, saved
        self.still_ours()
        self.store.get(where)  # a lease outlives a store that is down, and an order that cannot be saved is lost
        order = place(
            self.network,
            self.directory,
            wanted,
            profile,
            previous,
            account_url=account_url,
            attempt=self.attempt,
            warn=self._warn,
        )
        record = replace(fresh, url=order.url)
        try:
            # Who was frozen on the way here must not write over the order of its successor: that one could be killed, too, and
            # the next run would not know what was ordered.
            self.still_ours()
            self._order_version = save_order(record, self.store, where, saved, still_ours=self.still_ours, warn=self._warn)
        finally:
            self._count_order()
        self.emit(events.OrderReady(name=self.lineage, names=fresh.names, profile=profile, resumed=False))
        return order, record

    def _warn(self, message: str) -> None:
        self.emit(events.Warned(name=self.lineage, message=message))

    def _finalize(self, order: Order, csr: bytes) -> Order:
        try:
            return acme_order.finalize(self.network, order, csr)
        except CARefused as error:
            # Of a key, perhaps: the next run must not come with the same one again.
            if error.problem.type == "badCSR":
                self.forget_order()
            raise

    def _resumable(self, url: str) -> Order | None:
        try:
            return acme_order.fetch_order(self.network, url)
        except CARefused as error:
            if not acme_order.is_gone(error):
                raise
            return None  # expired, and forgotten by the CA

    def _count_issued(self) -> None:
        # Once the order is done with: while its certificate cannot be downloaded, each run comes by here.
        try:
            if self.attempt is not None:
                self.attempt.issued()
        except AcmeMiddlewareError as trouble:
            self._warn(f"the certificate could not be counted: {trouble}")

    def _count_order(self) -> None:
        # Once the order is saved, or cannot be, and never before: the CA has counted it either way. A count that is lost, to a
        # kill in between or a store that is down, costs a refusal by the CA; an order that is lost costs another one.
        try:
            if self.attempt is not None:
                self.attempt.ordered()
        except AcmeMiddlewareError as trouble:
            self._warn(f"the order could not be counted: {trouble}")

    def _key(self, previous: CertificateRecord | None) -> str:
        if (
            self.options.reuse_key
            and previous is not None
            and previous.key_type == self.options.key_type
            and previous.revoked != KEY_COMPROMISE
        ):
            return previous.key_pem
        return keys.generate(self.options.key_type).decode()
