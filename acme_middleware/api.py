"""
Certificates from a program's own code: issue, revoke, delete, and how they stand. Each to be called, or to be awaited.

    from acme_middleware import aissue, issue

    issue("customer.example", allow=is_a_customer, hourly_per_domain=5, hourly=300)
    await aissue("customer.example")
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from acme_middleware import clock, events, options
from acme_middleware._offload import awaitable, end_if_stopped
from acme_middleware.errors import Conflict, LeaseHeld, LeaseLost, NotAllowed, NotYet
from acme_middleware.options import Options

if TYPE_CHECKING:  # a web worker that only hands work on to a queue loads none of them
    from acme_middleware.issuance.deleting import Deleted
    from acme_middleware.issuance.results import Outcome
    from acme_middleware.issuance.revoking import Revocation
    from acme_middleware.issuance.standing import Standing

__all__ = ["adelete", "aissue", "arevoke", "astatus", "astatuses", "delete", "issue", "revoke", "status", "statuses"]


Read = Callable[[dict[str, Any], bool], Options]


class Api:
    """
    The functions of this module with the options of one place. The adapters have one each, with those of their framework.

    Every function takes the options by keyword, by their names in lower case: ``store``, ``ca``, ``email`` and so on; or all
    at once as ``chosen``. Every function can be called from any thread and process, also at the same time as others.

    Args:
        read: Makes the options of what a caller has given; and is told whether secrets are needed, which stand in files that
            not every process may read.
        listener: Is told what happens, where a caller names nobody else.
        after: Is called after what was awaited, in the thread that did it.
    """

    def __init__(
        self, read: Read, listener: events.Listener = events.log, *, after: Callable[[], object] = lambda: None
    ) -> None:
        self._read, self._listener = read, listener
        self.aissue = awaitable(self.issue, after=after)
        self.arevoke = awaitable(self.revoke, after=after)
        self.adelete = awaitable(self.delete, after=after)
        self.astatus = awaitable(self.status, after=after)
        self.astatuses = awaitable(self.statuses, after=after)

    def issue(
        self,
        names: str | Sequence[str],
        *,
        name: str | None = None,
        allow: Callable[[str], bool] | None = None,
        hourly_per_domain: int | None = None,
        hourly: int | None = None,
        by_hand: bool = False,
        force: bool = False,
        drop_names: bool = False,
        listener: events.Listener | None = None,
        chosen: Options | None = None,
        **given: Any,
    ) -> Outcome:
        """
        See to it that there is a good certificate for a name, or for several in one, and come back when there is.

        Where there is one, the CA is asked nothing. It takes seconds or minutes where there is none: call it from a task
        queue, not while a browser waits. Called twice at once it issues once, and both report the same certificate; ``wait``
        says how many seconds one waits for the other. Killed half-way, the next call goes on with the same order.

        Do not call it inside a transaction of the database that the store is in: nobody else would see the tokens. It is
        refused before anything is asked of the CA.

        Args:
            names: One name, or several that go into one certificate.
            name: What to know the certificate by; by default its first name.
            allow: Is called with each name before anything is asked of the CA, in this thread. Only where it returns True is
                the name allowed; an exception refuses it. A name is as the certificate has it: lower case, an IDN as A-label.
            hourly_per_domain: The most orders for a registered domain (``example.co.uk``) and all below it, in any hour.
            hourly: The most orders in all, in any hour. Both count the orders of all calls, on all hosts that share the store,
                that have such a limit themselves; renewals by the timer do not count, and are not held back.
            by_hand: A person waits for it, who may have put right what failed: the pause after the first two failures in a row
                is for programs. The CA's own limits stay.
            force: Issue even if none is due, and even if the pause after failures is not over.
            drop_names: Agree that names which the certificate has now will not be in the new one.
            listener: Is told what happens, in this thread; by default the log.

        Returns:
            What was done, and what the certificate is.

        Raises:
            NotAllowed: ``allow`` did not return True for ``error.name``.
            NotYet: it is too early, until ``error.allowed_at``; no order was placed.
            NameRefused, ConfigurationError, TermsNotAgreed, ClockOff, StoreMisconfigured: before anything was ordered.
            ValidationFailed, CARefused, CertificateRejected: the CA, or the check before it, said no.
            LeaseHeld, LeaseLost, CAUnreachable, StoreUnavailable, Conflict: try again later; the next call goes on.
            PublishFailed: the certificate is saved, its files are not written; the next call writes them.
            DeployFailed: it is saved and published, and did not reach a server of this host; the next call tries again.
        """
        from acme_middleware.issuance.gate import Gate
        from acme_middleware.issuance.issuer import Issuer

        gate = Gate(allow=allow, hourly_per_domain=hourly_per_domain, hourly=hourly)
        issuer = Issuer(self._options(chosen, given), listener=_telling(listener or self._listener))
        with closing(issuer):
            outcome = issuer.issue(
                [names] if isinstance(names, str) else names,
                name=name,
                force=force,
                drop_names=drop_names,
                by_hand=by_hand,
                gate=gate,
            )
        for error in outcome.undeployed:
            raise error
        return outcome

    def revoke(self, name: str, *, reason: str = "unspecified", chosen: Options | None = None, **given: Any) -> Revocation:
        """
        Have the CA revoke a certificate. It is due then: the next renewal replaces it, unless it is deleted.

        Args:
            name: What the certificate is known by.
            reason: "unspecified", "keyCompromise", "superseded", "cessationOfOperation" or "affiliationChanged". After
                "keyCompromise" its key is never used again.

        Raises:
            NoSuchCertificate, ConfigurationError, StoreMisconfigured: nothing was sent.
            CARefused, CAUnreachable, UnexpectedAnswer, LeaseHeld, StoreUnavailable: as they say.
        """
        from acme_middleware.issuance.revoking import revoke_stored

        return revoke_stored(self._options(chosen, given), name, reason=reason)

    def delete(self, name: str, *, files: bool = False, chosen: Options | None = None, **given: Any) -> Deleted:
        """
        Forget a certificate, so that nobody renews it any more. It stays valid until it expires.

        Args:
            name: What the certificate is known by.
            files: Remove its files in PUBLISH_DIR as well.

        Raises:
            NoSuchCertificate: nothing of that name is stored.
            LeaseHeld, LeaseLost, StoreUnavailable, StoreMisconfigured: as they say.
            PublishFailed: the records are gone, and not all files.
        """
        from acme_middleware.issuance.deleting import delete

        return delete(self._options(chosen, given), name, files=files)

    def status(self, name: str, *, chosen: Options | None = None, **given: Any) -> Standing:
        """
        How the certificate of a name stands. It reads what is public, needs no right to keys, and asks no CA.

        Args:
            name: What the certificate is known by.

        Returns:
            Its ``state``: "ok", "due", "overdue", "expired", "failing", "damaged"; "missing" where there is none and no try has
            failed. ``record`` is what is known of it, ``failure`` the last error and when the next try is allowed.

        Raises:
            ConfigurationError, StoreUnavailable, StoreMisconfigured: as they say.
        """
        from acme_middleware.issuance import lineages, plan
        from acme_middleware.issuance.standing import standings

        own = self._options(chosen, given, secrets=False)
        with lineages.state(own, writable=None) as store:  # one that nothing was written to yet has no certificate
            [stands] = standings(own, store, [plan.one(own, store, name)], clock.now())
        return stands

    def statuses(self, *, chosen: Options | None = None, **given: Any) -> list[Standing]:
        """
        How all certificates stand, by name: those in the store and those in CERTIFICATES. Otherwise as :meth:`status`.

        Raises:
            ConfigurationError, StoreUnavailable, StoreMisconfigured: as they say.
        """
        from acme_middleware.issuance import lineages, plan
        from acme_middleware.issuance.standing import standings

        own = self._options(chosen, given, secrets=False)
        with lineages.state(own, writable=None) as store:  # one that nothing was written to yet has no certificate
            return standings(own, store, plan.items(own, store), clock.now())

    def _options(self, chosen: Options | None, given: dict[str, Any], *, secrets: bool = True) -> Options:
        return self._read(given, secrets) if chosen is None else chosen


NO_FAILURES = (NotAllowed, NotYet, LeaseHeld, LeaseLost, Conflict)
"""Answers that the caller gets. Told as failures they would be errors in the log, for each name that waits, at each call."""


def _telling(listener: events.Listener) -> events.Listener:
    """The listener; where whoever awaited has been cancelled, the work ends with it: what a listener raises ends it cleanly."""

    def tell(event: events.Event) -> None:
        if not (isinstance(event, events.Failed) and isinstance(event.error, NO_FAILURES)):
            listener(event)
        end_if_stopped()

    return tell


def _of_this_process(given: dict[str, Any], secrets: bool) -> Options:
    return options.read(("argument", given), *options.layers_of_this_process(secret_files=secrets))


_here = Api(_of_this_process)

issue, aissue = _here.issue, _here.aissue
revoke, arevoke = _here.revoke, _here.arevoke
delete, adelete = _here.delete, _here.adelete
status, astatus = _here.status, _here.astatus
statuses, astatuses = _here.statuses, _here.astatuses
