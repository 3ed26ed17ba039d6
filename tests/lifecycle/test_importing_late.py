"""Importing by one who was stopped in the midst of it, for longer than a lease lives: nothing of its successor's is lost."""

from __future__ import annotations

from dataclasses import replace

from acme_middleware import clock, options
from acme_middleware.foreign import Found, Lineage
from acme_middleware.issuance.importing import bring_in
from acme_middleware.issuance.records import CertificateRecord, RenewalRecord, certificate_key, renewal_key
from acme_middleware.issuance.renewal import record_of
from acme_middleware.stores.base import Expect
from acme_middleware.stores.memory import MemoryStore
from acme_middleware.testing.certificates import self_made

NAME = "shop.example"


class Overtaken(MemoryStore):
    """A store in which, just before the public record is written, a successor has saved a certificate of its own."""

    overtaken = False

    def put(self, key: str, value: bytes, *, expect: str | Expect = Expect.ANY) -> str:
        if key == renewal_key(NAME) and not self.overtaken:
            self.overtaken = True
            made = CertificateRecord.read(self, certificate_key(NAME))
            assert made is not None
            made = replace(made, cert_pem=self_made(NAME).cert.decode(), issued_at=clock.now())
            made.write(self, certificate_key(NAME))
            record_of(made).write(self, renewal_key(NAME))
        return super().put(key, value, expect=expect)


def test_public_record_of_a_successor_stays() -> None:
    store, pems, now = Overtaken(), self_made(NAME), clock.now()
    theirs = Lineage(
        name=NAME,
        names=(NAME,),
        key_pem=pems.key.decode(),
        key_type="ec256",
        cert_pem=pems.cert.decode(),
        chain_pem=pems.chain.decode(),
        not_before=now,
        not_after=now,
    )
    [step] = bring_in(store, Found(lineages=[theirs]), options.read())
    assert (step.action, "was saved by another process" in step.reason) == ("refused", True)
    made = CertificateRecord.read(store, certificate_key(NAME))
    public = RenewalRecord.read(store, renewal_key(NAME))
    assert made is not None
    assert public is not None
    assert public.fingerprint == record_of(made).fingerprint
    [again] = bring_in(store, Found(lineages=[theirs]), options.read())
    assert again.action == "kept"
