"""One try to get a certificate, seen by the ledger and the budgets: whether it may be made, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from acme_middleware import clock, events
from acme_middleware.authorities import Authority
from acme_middleware.errors import AcmeMiddlewareError, CAUnreachable, Conflict, NotYet, ValidationFailed
from acme_middleware.issuance import ledger
from acme_middleware.issuance.ledger import Ledger
from acme_middleware.issuance.records import CertificateRecord, OrderRecord, RenewalRecord, certificate_key, order_key
from acme_middleware.protocol.identifier import Identifier
from acme_middleware.stores.base import Expect, Store

if TYPE_CHECKING:  # only a CA with limits has budgets
    from acme_middleware.issuance.budgets import Budgets
    from acme_middleware.issuance.gate import Gate


class Attempt:
    """
    One try, at one CA.

    Args:
        account: The account's id at the CA: its EAB key id, or "default".
        lineage: The certificate's name.
        force: Try whatever the ledger says. The CA's own limits stay.
        alone: There is no other CA to go to.
        by_hand: A person is waiting, who may have put right what failed.
        gate: What the app allows, None where it allows all.
    """

    def __init__(
        self,
        store: Store,
        authority: Authority,
        account: str,
        wanted: Sequence[Identifier],
        lineage: str,
        *,
        emit: events.Listener,
        force: bool = False,
        by_hand: bool = False,
        alone: bool = True,
        gate: Gate | None = None,
    ) -> None:
        self.store, self.authority, self.wanted, self.lineage, self.emit = store, authority, wanted, lineage, emit
        self.force, self.by_hand, self.alone, self.gate = force, by_hand, alone, gate
        self.names = [entry.value for entry in wanted]
        self.ledger = Ledger(store, authority.id, account, self.names, lineage, warn=self._warn)
        self.budgets = _budgets(store, authority, account)
        self._exempt = False
        self._replaced: str | Expect = Expect.ANY
        self._lifetime: timedelta | None = None

    def refuse(self, record: RenewalRecord | None) -> None:
        """
        Refuse the try where the app does not allow it, where it comes too early, or where the CA would refuse it.

        Args:
            record: The certificate in use.

        Raises:
            NotAllowed: the app does not allow a name.
            NotYet: it says when the try is allowed.
        """
        now = clock.now()
        if self.gate is not None:
            self.gate.refuse(self.store, self.lineage, self.wanted, order_waits=self._order_waits())
        if record is not None:
            self._lifetime = record.not_after - record.not_before
            # An order that says what it replaces is outside of all of a CA's limits while the window lasts.
            ari = record.ari if record.ca == self.authority.id else None
            self._exempt = ari is not None and ari.start <= now <= ari.end
        self.ledger.refuse(now, force=self.force, by_hand=self.by_hand)
        if self.budgets is not None and not self._exempt:
            self.budgets.refuse_validation(self.lineage, self.wanted)
            if not self._order_waits():
                self._refuse_order(self.budgets)

    def replaces(self, certificate: CertificateRecord | None) -> None:
        """Say which certificate, read under the lease, is to be replaced: another one is a reason not to order any more."""
        self._replaced = certificate.version if certificate is not None else Expect.ABSENT

    def may_order(self, *, replaces: bool) -> None:
        """
        Refuse an order that is about to be placed, as :meth:`refuse` does, and where it is not needed any more.

        Args:
            replaces: It says what it replaces.

        Raises:
            Conflict: a certificate was saved since the lease was taken.
            NotYet: as :meth:`refuse` does.
        """
        self._require_unmade()
        self._exempt = self._exempt and replaces
        if self.budgets is not None and not self._exempt:
            self.budgets.refuse_order(self.lineage, self.wanted)
        if self.gate is not None:
            self.gate.take(self.store, self.lineage, self.wanted)

    def ordered(self) -> None:
        """Count an order that was placed."""
        if self.budgets is not None and not self._exempt:
            self.budgets.ordered()

    def issued(self) -> None:
        """Count a certificate that was issued, of whatever use it is."""
        if self.budgets is not None and not self._exempt:
            self.budgets.issued(self.wanted)

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Record an error of the block, and have it say when the next try is allowed."""
        try:
            yield
        except AcmeMiddlewareError as error:
            try:
                self._failed(error)
            except AcmeMiddlewareError as trouble:
                # What failed first is what is told; the count is one short.
                self._warn(f"the failure could not be recorded: {trouble}")
            raise

    def succeeded(self, previous: CertificateRecord | None) -> None:
        """
        Forget the failures, those at other CAs and for other names as well.

        Args:
            previous: The certificate that was replaced.
        """
        # One that is as it was has no others: thousands of renewals after an outage need not look for them among thousands.
        if self.alone and previous and (previous.ca, set(previous.names)) == (self.authority.id, set(self.names)):
            self.ledger.succeeded()
        else:
            ledger.forget(self.store, self.lineage)

    def _require_unmade(self) -> None:
        # Who held the lease before us may have been frozen just before it saved. When that one wakes up it saves, and then
        # deletes its order: so the certificate is looked at after the order, and one of the two is seen.
        if self._replaced is Expect.ANY:
            return
        now = self.store.get(certificate_key(self.lineage))
        if (now.version if now is not None else Expect.ABSENT) != self._replaced:
            raise Conflict(
                f"{self.lineage} was issued by another process just now",
                hint="run the command again: it takes what is there",
                key=certificate_key(self.lineage),
            )

    def _refuse_order(self, budgets: Budgets) -> None:
        try:
            budgets.refuse_order(self.lineage, self.wanted)
        except NotYet as full:
            # A limit that is met here would be met there: it counts towards going to the next CA, which may have room.
            if not self.alone:
                self.ledger.failed(full, self._lifetime, kind="limit")
            raise

    def _failed(self, error: AcmeMiddlewareError) -> None:
        if isinstance(error, CAUnreachable) and self.authority.when_down:
            return  # nobody has to be spared but the developer, who starts it and tries again
        from acme_middleware.issuance import failure  # brings the ACME client, which is there when something has failed

        spent = None
        if isinstance(error, ValidationFailed) and self.budgets is not None:
            spent = self.budgets.failed(error.facts.get("failed", ()))
        record = self.ledger.failed(error, self._lifetime)
        if record is not None:
            said = failure.cost(record, spent, by_hand=self.by_hand, now=clock.now())
            error.hint = "\n".join(filter(None, [error.hint, said]))

    def _order_waits(self) -> bool:
        """Whether an earlier run has placed the order already, so that no other one is needed."""
        saved = OrderRecord.read(self.store, order_key(self.lineage))
        return saved is not None and saved.ca == self.authority.id and set(saved.names) == set(self.names)

    def _warn(self, message: str) -> None:
        self.emit(events.Warned(name=self.lineage, message=message))


def _budgets(store: Store, authority: Authority, account: str) -> Budgets | None:
    if authority.limits is None:
        return None
    from acme_middleware.issuance.budgets import Budgets

    return Budgets(store, authority, account)
