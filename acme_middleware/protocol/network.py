"""
HTTP requests to a CA, signed and unsigned.

certbot's ClientNetwork brings the session and the signing. What it lacks is here: every reply's nonce is kept, errors too;
bad nonces are answered by trying again, often enough for a CA that rejects half of them; a reply's Retry-After and problem
document stay on our errors; what can be repeated is repeated after a 5xx or a cut connection; a reply has a largest size and a
longest time.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import requests
from acme import messages
from acme.client import ClientNetwork
from josepy.b64 import b64decode, b64encode
from josepy.interfaces import JSONDeSerializable
from josepy.jwa import ES256, ES384, ES512, RS256, JWASignature
from josepy.jwk import JWK

from acme_middleware import __version__
from acme_middleware._text import printable
from acme_middleware.errors import CARefused, CAUnreachable, ConfigurationError
from acme_middleware.protocol.deadline import DeadlineAdapter
from acme_middleware.protocol.pace import Pace
from acme_middleware.protocol.reply import Reply, refusal, unexpected

TIMEOUT = 30.0
"""Seconds to wait for a connection, and for each part of a reply; a few times as many for a whole one."""
LARGEST_REPLY = 1 << 20
NONCE_TRIES = 16
"""At a CA that rejects half of all nonces, 8 tries still lose 3 % of issuances; 16 lose one in thousands, 24 hardly any."""
FAULT_TRIES = 4
LONGEST_RETRY_AFTER = 10.0
"""Seconds that a request waits by itself for a CA that says when to come back; a longer time is for the caller to judge."""

_NO_HYPHENS = str.maketrans("", "", "-_")


class _Payload(JSONDeSerializable):
    """A plain dictionary for the library to sign."""

    def __init__(self, value: Mapping[str, Any]) -> None:
        self.value = value

    def to_partial_json(self) -> Any:
        return self.value

    @classmethod
    def from_json(cls, jobj: Any) -> _Payload:
        return cls(jobj)


class Network(ClientNetwork):
    """
    One CA's network, for one account key; its nonces may be shared by threads.

    Args:
        key: The account's key.
        ca_bundle: A PEM file of the roots to trust for the CA's own HTTPS, in place of the system's.
        pace: How fast this process may ask this CA; every request waits for its turn.

    Raises:
        ConfigurationError: there are no roots in ``ca_bundle``.

    Raises (every method): CAUnreachable, CARefused, UnexpectedAnswer.
    """

    def __init__(self, key: JWK | None = None, *, ca_bundle: Path | None = None, pace: Pace | None = None) -> None:
        # The library defaults to RS256, whatever the key is: for an EC key the algorithm must be said (RFC 7518 section 3.1).
        super().__init__(
            key,
            alg=algorithm(key) if key else ES256,
            user_agent=f"acme-middleware/{__version__} {requests.utils.default_user_agent()}",
        )
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, DeadlineAdapter())
        self.ca_bundle, self.pace = ca_bundle, pace
        if ca_bundle is not None:
            _try_roots(ca_bundle)
        self.new_nonce_url = ""
        self._fresh_nonces: list[str] = []
        self._nonce_lock = threading.Lock()

    def sign_as(self, key: JWK, account_url: str | None) -> None:
        """Sign with ``key`` from now on: by the account's URL, or by the key itself while that is not known."""
        self.key, self.alg = key, algorithm(key)
        self.account = messages.RegistrationResource(uri=account_url, body=messages.Registration()) if account_url else None

    @property
    def account_url(self) -> str:
        """The account that requests are signed as, or "" while that is not known."""
        return str(self.account.uri) if self.account is not None else ""

    def key_authorization(self, token: str) -> str:
        """What answers a challenge's token: the token and the thumbprint of the account's key (RFC 8555 section 8.1)."""
        if self.key is None:
            raise RuntimeError("the network signs for no account yet")
        return f"{token}.{b64encode(self.key.thumbprint()).decode()}"

    def get(self, url: str) -> Reply:  # type: ignore[override]
        """An unsigned GET, repeated where the CA does not answer."""
        return self._persist(lambda: self._exchange("GET", url), idempotent=True)

    def post(  # type: ignore[override]
        self, url: str, payload: Mapping[str, Any], *, idempotent: bool = False
    ) -> Reply:
        """
        A signed POST.

        Args:
            idempotent: Whether the request may be sent twice, where it is not known what became of the first.
        """
        return self._persist(lambda: self._exchange_signed(url, _Payload(payload)), idempotent=idempotent)

    def post_as_get(self, url: str, *, accept: str | None = None) -> Reply:
        """A signed GET (RFC 8555 section 6.3)."""
        return self._persist(lambda: self._exchange_signed(url, None, accept), idempotent=True)

    def _persist(self, send: Callable[[], Reply], *, idempotent: bool) -> Reply:
        nonces = faults = 0
        while True:
            failure: CARefused | CAUnreachable
            try:
                reply = send()
            except CAUnreachable as error:
                if isinstance(error.__cause__, requests.exceptions.SSLError):
                    raise  # a certificate that is not trusted now is not trusted in a second
                failure, wait = error, None
            else:
                if reply.status < 400:
                    return reply
                failure, wait = refusal(reply), reply.retry_after
                if failure.problem.type == "badNonce" and nonces < NONCE_TRIES:
                    nonces += 1
                    continue
                if reply.status < 500:
                    raise failure
            faults += 1
            if not idempotent or faults == FAULT_TRIES or (wait or 0) > LONGEST_RETRY_AFTER:
                raise failure
            time.sleep(max(wait or 0, 0.2 * 3 ** (faults - 1)))

    def _exchange_signed(self, url: str, payload: _Payload | None, accept: str | None = None) -> Reply:
        if not self._fresh_nonces:
            # Once: whoever sends again counts how often, and a failure here is one of the whole request.
            brought = self._exchange("HEAD", self.new_nonce_url)
            if brought.status >= 400:
                return brought
        with self._nonce_lock:
            if not self._fresh_nonces:
                raise unexpected(f"{self.new_nonce_url} gave no nonce", url=self.new_nonce_url)
            # The newest first: a CA that was restarted knows none of the old ones.
            nonce = b64decode(self._fresh_nonces.pop())
        headers = {"Content-Type": self.JOSE_CONTENT_TYPE} | ({"Accept": accept} if accept else {})
        signed = self._wrap_in_jws(payload, nonce, url)  # type: ignore[arg-type]  # it wants the decoded nonce
        return self._exchange("POST", url, data=signed, headers=headers)

    def _exchange(self, method: str, url: str, **arguments: Any) -> Reply:
        headers = {"User-Agent": self.user_agent} | arguments.pop("headers", {})
        if self.pace is not None:
            self.pace.wait()
        try:
            # `verify` is given with every request: REQUESTS_CA_BUNDLE in the environment beats the session's. Redirects are
            # not followed: no ACME resource redirects, and a signed request is bound to its URL.
            with self.session.request(
                method,
                url,
                headers=headers,
                timeout=TIMEOUT,
                verify=str(self.ca_bundle) if self.ca_bundle else True,
                allow_redirects=False,
                stream=True,
                **arguments,
            ) as response:
                body = b""
                for part in response.iter_content(1 << 16):
                    body += part
                    if len(body) > LARGEST_REPLY:
                        raise unexpected(f"{url} answered with more than {LARGEST_REPLY:,} bytes", url=url)
        except (requests.RequestException, OSError) as error:
            raise CAUnreachable(f"no answer from {url}: {_reason(error)}", hint=_remedy(error), url=url) from error
        nonce = response.headers.get(self.REPLAY_NONCE_HEADER, "")
        if _is_base64url(nonce):
            with self._nonce_lock:
                self._fresh_nonces.append(nonce)
        return Reply(url, response.status_code, response.headers, body)


def algorithm(key: JWK) -> JWASignature:
    """What a key signs with: our own are P-256, those of other clients may be RSA or longer."""
    return {256: ES256, 384: ES384, 521: ES512}[key.key.key_size] if key.typ == "EC" else RS256


def _is_base64url(value: str) -> bool:
    return 0 < len(value) < 1000 and len(value) % 4 != 1 and value.isascii() and value.translate(_NO_HYPHENS).isalnum()


def _reason(error: BaseException) -> str:
    """The innermost reason: requests and urllib3 wrap it in their own words four deep."""
    seen = error
    while True:
        held = next((part for part in seen.args if isinstance(part, BaseException)), None)
        # What was being handled and has nothing to do with it is no reason: urllib3 1.26 tries an argument of Python 2 first.
        context = None if seen.__suppress_context__ else seen.__context__
        inner = getattr(seen, "reason", None) or seen.__cause__ or held or context
        if not isinstance(inner, BaseException):
            return printable(seen) or type(seen).__name__
        seen = inner


def _remedy(error: BaseException) -> str:
    if isinstance(error, requests.exceptions.SSLError) and ("not yet valid" in str(error) or "expired" in str(error)):
        return "is this machine's clock right (timedatectl)? If it is, the CA's HTTPS certificate is to blame: try again later"
    if isinstance(error, requests.exceptions.SSLError):
        return "if this is a private CA, name the roots of its HTTPS certificate with --ca-bundle (ACME_CA_BUNDLE)"
    if isinstance(
        error, requests.exceptions.InvalidURL | requests.exceptions.MissingSchema | requests.exceptions.InvalidSchema
    ):
        return "--ca takes the name of a CA, or the https:// URL of its directory"
    return "check the network and the CA's status page; nothing was lost, run the same command again later"


def _try_roots(ca_bundle: Path) -> None:
    try:
        ssl.create_default_context(cafile=ca_bundle)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigurationError(
            f"the CA bundle {ca_bundle} cannot be read as PEM certificates: {error.strerror or error}",
            hint="--ca-bundle (ACME_CA_BUNDLE) takes a PEM file of the roots of the CA's own HTTPS",
            option="ca_bundle",
        ) from error
