"""Certificates: downloading (RFC 8555 section 7.4.2), revoking (section 7.6), and when to renew them (RFC 9773)."""

from __future__ import annotations

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from werkzeug.wrappers import Response

from acme_middleware.local_ca import base64url, certificate_ids
from acme_middleware.local_ca.call import Call, Desk, reply, timestamp
from acme_middleware.local_ca.model import Certificate
from acme_middleware.local_ca.problems import Refused

CONTENT_TYPE = "application/pem-certificate-chain"
REASONS = {0, 1, 3, 4, 5}
"""The reason codes of RFC 5280 section 5.3.1 that a subscriber may give."""
WINDOW_WIDTH, WINDOW_MIDDLE = 0.02, 2 / 3
"""The renewal window as fractions of the lifetime, as Let's Encrypt has it."""


def certificate(call: Call, desk: Desk) -> Response:
    """Section 7.4.2: a chain, with links to the others."""
    found = desk.state.certificates.get(call.id)
    chain = int(call.arguments["chain"])
    if found is None or chain >= len(found.chains):
        raise Refused("malformed", "there is no such certificate", status=404)
    desk.demand(
        "8555-7.4.2-own-certificate",
        found.account is call.owner,
        Refused("unauthorized", "the certificate is another account's"),
    )
    rules, pem = desk.rules, found.chains[chain]
    if not rules.kept("8555-7.4.2-leaf-first"):
        pem = b"".join(entry.public_bytes(Encoding.PEM) for entry in reversed(x509.load_pem_x509_certificates(pem)))
    answer = Response(pem, content_type=CONTENT_TYPE if rules.kept("8555-7.4.2-content-type") else "application/octet-stream")
    for other in range(len(found.chains)):
        if other != chain and rules.kept("8555-7.4.2-alternates"):
            answer.headers.add("Link", f'<{call.url("certificate", id=found.id, chain=other)}>;rel="alternate"')
    return answer


def revoke(call: Call, desk: Desk) -> Response:
    """Section 7.6: by the account that has it, an account that holds all its names, or the certificate's own key."""
    request = call.object()
    try:
        leaf = x509.load_der_x509_certificate(base64url.decode(request.get("certificate")))
        found = desk.state.certificates.get(certificate_ids.of(leaf))
    except (ValueError, x509.ExtensionNotFound):
        raise Refused("malformed", "`certificate` is no certificate, in DER and base64url") from None
    if found is None or found.leaf != leaf:
        raise Refused("malformed", "this CA has not issued that certificate", status=404)
    desk.demand(
        "8555-7.6-revoked-by-who-may",
        _may_revoke(call, found, desk),
        Refused("unauthorized", "neither its account, nor an account with all its names, nor its own key has signed this"),
    )
    reason = request.get("reason", 0)
    desk.demand(
        "8555-7.6-reason",
        isinstance(reason, int) and not isinstance(reason, bool) and reason in REASONS,
        Refused("badRevocationReason", f"the reason {reason!r} is none of {', '.join(map(str, sorted(REASONS)))}"),
    )
    desk.demand("8555-7.6-already-revoked", found.revoked is None, Refused("alreadyRevoked", "it was revoked before"))
    found.revoked = (desk.clock(), reason)
    return Response(status=200)


def renewal_info(call: Call, desk: Desk) -> Response:
    """RFC 9773 section 4: the window to renew in. The request is not signed."""
    certificate_ids.parse(call.id, desk.rules)
    found = desk.state.certificates.get(call.id)
    if found is None:
        raise Refused("malformed", "this CA has not issued that certificate", status=404)
    start, end = renewal_window(found, desk)
    document = {"suggestedWindow": {"start": timestamp(start), "end": timestamp(end)}}
    answer = reply(document | ({"explanationURL": found.explanation} if found.explanation else {}))
    if desk.rules.kept("9773-4.3-retry-after"):
        answer.headers["Retry-After"] = str(desk.settings.renewal_retry_after)
    return answer


def renewal_window(found: Certificate, desk: Desk) -> tuple[datetime, datetime]:
    """What was set for it; in the past where it is revoked; else a fiftieth of its lifetime, around two thirds of it."""
    if found.window is not None:
        return found.window
    if found.revoked is not None and desk.rules.kept("9773-4.2-revoked-is-past"):
        revoked = min(found.revoked[0], desk.clock())
        return revoked - timedelta(hours=1), revoked - timedelta(seconds=1)
    middle = found.leaf.not_valid_before_utc + found.lifetime * WINDOW_MIDDLE
    half = found.lifetime * (WINDOW_WIDTH / 2)
    return (middle - half, middle + half) if desk.rules.kept("9773-4.2-window") else (middle + half, middle - half)


def _may_revoke(call: Call, found: Certificate, desk: Desk) -> bool:
    if call.account is None:
        spki = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return call.key is not None and call.key.key.public_bytes(*spki) == found.leaf.public_key().public_bytes(*spki)
    now = desk.clock()
    held = {name for name, entry in call.account.authorizations.items() if entry.status_at(now) == "valid"}
    return found.account is call.account or held >= set(found.identifiers)
