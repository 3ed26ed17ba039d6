"""
What this CA is strict about, clause by clause.

Each clause can be switched off by its name (``LocalCA(broken={...})``), so that a test of the clause can be shown to fail where
the clause does not hold.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from acme_middleware.errors import ConfigurationError
from acme_middleware.local_ca.problems import Refused

DOCUMENTS = {
    "8555": "RFC 8555",
    "8738": "RFC 8738",
    "9773": "RFC 9773",
    "profiles": "draft-ietf-acme-profiles",
}


@dataclass(frozen=True, slots=True)
class Clause:
    """``name`` begins with the document and the section; ``text`` says what holds, in a sentence."""

    name: str
    text: str

    @property
    def place(self) -> str:
        """For people and for the marks of tests: "RFC 8555 6.5"."""
        document, section, _ = self.name.split("-", 2)
        return f"{DOCUMENTS[document]} {section}"


CLAUSES = {
    clause.name: clause
    for clause in (
        Clause("8555-6.1-base64url", "What is in base64url has no padding and no foreign characters."),
        Clause("8555-6.1-user-agent", "Requests have a User-Agent."),
        Clause("8555-6.1-cors", "Resources that are read with GET may be read by any page's script."),
        Clause("8555-6.2-content-type", "A POST whose content type is not application/jose+json is answered 415."),
        Clause("8555-6.2-one-signature", "A JWS has one signature, in the flattened serialization."),
        Clause("8555-6.2-no-unprotected-header", "A JWS has no unprotected header."),
        Clause("8555-6.2-algorithms-listed", "badSignatureAlgorithm lists the algorithms that are taken."),
        Clause("8555-6.2-algorithm-of-the-key", "The algorithm is that of the key's kind and size."),
        Clause("8555-6.2-key-strength", "RSA account keys have 2048 bits at least."),
        Clause("8555-6.2-signature", "The signature is by the key that the header names."),
        Clause("8555-6.2-jwk-or-kid", "The header has one of jwk and kid."),
        Clause("8555-6.2-jwk-for-new-accounts", "newAccount is signed with a jwk."),
        Clause("8555-6.2-kid-for-all-else", "All else but revokeCert is signed with a kid."),
        Clause("8555-6.3-post-as-get", "Resources other than directory, newNonce and renewalInfo refuse GET with 405."),
        Clause("8555-6.3-directory-by-post", "The directory answers POST-as-GET as well."),
        Clause("8555-6.3-empty-payload", "What can only be read is asked for with an empty payload."),
        Clause("8555-6.4-url", "The url of the header is that of the request."),
        Clause("8555-6.5-nonce-in-replies", "Every reply to a POST brings a nonce, errors too."),
        Clause("8555-6.5-nonce-used-once", "A nonce is good for one request, and only one that was given out."),
        Clause("8555-6.5.2-nonce-is-base64url", "The nonce of a header is in base64url."),
        Clause("8555-6.7-problem-type", "Errors are problem documents of the type application/problem+json."),
        Clause("8555-6.7.1-subproblems", "Several identifiers that are refused have a subproblem each."),
        Clause("8555-7.1-link-index", "Every reply but the directory links to the directory as index."),
        Clause("8555-7.1.1-terms-in-meta", "The directory says where the terms of service are."),
        Clause("8555-7.1.1-binding-in-meta", "The directory says that an external account binding is required."),
        Clause("8555-7.1.2.1-orders-listed", "An account's orders that are not invalid are listed."),
        Clause("8555-7.1.3-authorization-for-each", "An order has an authorization for each of its identifiers."),
        Clause("8555-7.1.3-wildcard", "A wildcard name is refused where no challenge can show it."),
        Clause("8555-7.1.4-dns-name", "A DNS identifier is a domain name in ASCII."),
        Clause("8555-7.1.6-ready-when-all-valid", "An order is ready when all its authorizations are valid."),
        Clause("8555-7.1.6-invalid-with-one", "An order is invalid when one of its authorizations is."),
        Clause("8555-7.1.6-order-expires", "An order that has expired is invalid."),
        Clause("8555-7.1.6-challenge-once", "A challenge that is not pending cannot be responded to."),
        Clause("8555-7.2-head-200", "newNonce answers HEAD with 200 and GET with 204."),
        Clause("8555-7.2-no-store", "A new nonce is not to be cached."),
        Clause("8555-7.3-created", "A new account is answered 201 with its URL as Location."),
        Clause("8555-7.3-terms-agreed", "newAccount without agreement to the terms is refused."),
        Clause("8555-7.3-contact-scheme", "A contact that is no mailto URL is unsupportedContact."),
        Clause("8555-7.3-contact-mailto", "A mailto contact has one address and no header fields, else it is invalidContact."),
        Clause("8555-7.3-own-account", "Only an account itself can read or change it."),
        Clause("8555-7.3.1-account-found-by-key", "newAccount with a known key answers 200 with the account that is there."),
        Clause("8555-7.3.1-only-return-existing", "onlyReturnExisting makes no account."),
        Clause("8555-7.3.2-status-not-set", "An account's status can be set to deactivated only."),
        Clause("8555-7.3.4-binding-required", "newAccount without a binding is externalAccountRequired where one is needed."),
        Clause("8555-7.3.4-binding-url", "The binding's url is that of the request."),
        Clause("8555-7.3.4-binding-no-nonce", "The binding has no nonce."),
        Clause("8555-7.3.4-binding-key", "The binding's payload is the account's key."),
        Clause("8555-7.3.4-binding-mac", "The binding's MAC is by the key that its kid names."),
        Clause("8555-7.3.5-inner-key", "The inner JWS of keyChange has a jwk."),
        Clause("8555-7.3.5-inner-url", "The inner JWS of keyChange has the url of the outer one."),
        Clause("8555-7.3.5-no-inner-nonce", "The inner JWS of keyChange has no nonce."),
        Clause("8555-7.3.5-account", "keyChange is about the account that signs it."),
        Clause("8555-7.3.5-old-key", "keyChange names the account's present key."),
        Clause("8555-7.3.5-key-in-use", "keyChange to the key of an account is answered 409 with that account's URL."),
        Clause("8555-7.3.5-key-replaced", "After keyChange the new key signs and the old one does not."),
        Clause("8555-7.3.6-authorizations-too", "Deactivating an account deactivates its pending authorizations."),
        Clause("8555-7.3.6-deactivated-account", "A deactivated account can sign nothing."),
        Clause("8555-7.3.6-deactivated-key", "The key of a deactivated account gets no new account."),
        Clause("8555-7.4-created", "A new order is answered 201 with its URL as Location."),
        Clause("8555-7.4-dates-refused", "notBefore and notAfter are refused by a CA that does not honour them."),
        Clause("8555-7.4-identifier-type", "An identifier of another type is unsupportedIdentifier."),
        Clause("8555-7.4-own-order", "Only the account of an order can read and finalize it."),
        Clause("8555-7.4-order-ready", "Finalizing an order that is not ready is orderNotReady."),
        Clause("8555-7.4-csr-signature", "A CSR is signed by its own key."),
        Clause("8555-7.4-csr-names", "A CSR has exactly the names of the order."),
        Clause("8555-7.4-csr-key-strength", "A CSR with a weak key is refused."),
        Clause("8555-7.4.2-content-type", "A certificate is of the type application/pem-certificate-chain."),
        Clause("8555-7.4.2-leaf-first", "A chain begins with the certificate, and each was issued by the next."),
        Clause("8555-7.4.2-alternates", "A chain links to the others as alternate."),
        Clause("8555-7.4.2-own-certificate", "Only the account of a certificate can download it."),
        Clause("8555-7.5-own-authorization", "Only the account of an authorization can read it and respond to it."),
        Clause("8555-7.5.1-link-up", "A challenge links to its authorization as up."),
        Clause("8555-7.5.2-only-deactivated", "An authorization's status can be set to deactivated only."),
        Clause("8555-7.6-revoked-by-who-may", "Its account, one with all its names, and its own key can revoke a certificate."),
        Clause("8555-7.6-reason", "A reason that a subscriber cannot give is badRevocationReason."),
        Clause("8555-7.6-already-revoked", "A certificate that is revoked is alreadyRevoked."),
        Clause("8555-8.3-token", "A token has 128 bits at least, in base64url."),
        Clause("8555-8.3-redirects", "Redirects of a token are followed."),
        Clause("8555-8.3-white-space", "White space after the key authorization is ignored."),
        Clause("8555-8.3-status-200", "Only a reply of status 200 validates a name."),
        Clause("8555-8.3-key-authorization", "Only the key authorization validates a name."),
        Clause("8555-11.1-csr-not-the-account-key", "The key of a CSR is not the account's."),
        Clause("8738-3-canonical-address", "An IP identifier is in its short form."),
        Clause("9773-4.1-id", "An id that is no pair of a key identifier and a serial in DER is malformed."),
        Clause("9773-4.2-window", "A window ends after it begins, within the life of the certificate."),
        Clause("9773-4.2-revoked-is-past", "The window of a revoked certificate is in the past."),
        Clause("9773-4.3-retry-after", "Renewal information says when to ask again."),
        Clause("9773-5-replaces-known-certificate", "An order replaces a certificate of this CA."),
        Clause("9773-5-replaces-own-certificate", "An order replaces a certificate of the same account."),
        Clause("9773-5-replaces-shares-a-name", "An order shares an identifier with the certificate that it replaces."),
        Clause("9773-5-replaces-shown", "An order shows what it replaces."),
        Clause("9773-7.4-already-replaced", "A second order that replaces a certificate is alreadyReplaced."),
        Clause("profiles-3-listed", "The directory lists the profiles."),
        Clause("profiles-3-shown", "An order shows its profile."),
        Clause("profiles-3-known-profile", "A profile that the directory does not list is invalidProfile."),
    )
}


class Rules:
    """
    Which clauses hold.

    Raises:
        ConfigurationError: one that is to be broken does not exist.
    """

    def __init__(self, broken: Iterable[str] = ()) -> None:
        self.broken = frozenset(broken)
        for name in self.broken - set(CLAUSES):
            near = difflib.get_close_matches(name, CLAUSES, n=1)
            raise ConfigurationError(f"there is no clause {name!r}", hint=f"did you mean {near[0]}?" if near else "")

    def kept(self, name: str) -> bool:
        """Whether a clause holds. A name that is no clause is a KeyError: a mistake here, not a user's."""
        return CLAUSES[name].name not in self.broken

    def demand(self, name: str, held: bool, refusal: Refused) -> None:
        """Raise ``refusal`` where what a clause demands is not so, and the clause holds."""
        if self.kept(name) and not held:
            raise refusal
