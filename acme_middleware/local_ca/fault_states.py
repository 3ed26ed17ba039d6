"""Faults that change what the CA knows, or what it has issued; what follows from that is its usual self."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from werkzeug.wrappers import Response

from acme_middleware.local_ca import orders
from acme_middleware.local_ca.faults import Scene
from acme_middleware.local_ca.hierarchy import BACKDATED, sign_leaf
from acme_middleware.local_ca.model import Account, Order
from acme_middleware.local_ca.problems import Problem


def is_own_order(scene: Scene) -> bool:
    return scene.asked.id in scene.desk.state.orders


def is_known_authorization(scene: Scene) -> bool:
    return scene.asked.id in scene.desk.state.authorizations


def is_known_account(scene: Scene) -> bool:
    return _account(scene) is not None


def was_finalized(scene: Scene) -> bool:
    return scene.reply.status_code == 200


def processing(scene: Scene) -> None:
    with scene.desk.state.lock:
        _order(scene).polls_left = scene.given["polls"]


def finalize_fails(scene: Scene) -> Response:
    with scene.desk.state.lock:
        order = _order(scene)
        order.certificate = None
        order.fail(Problem(scene.given["type"], "the certificate could not be issued"))
        # In place of the body alone: the headers, with the nonce, are as they should be.
        scene.reply.set_data(orders.show(scene.asked, order, scene.desk).get_data())
    return scene.reply


def expired_order(scene: Scene) -> None:
    with scene.desk.state.lock:
        _order(scene).expires = scene.desk.clock() - timedelta(seconds=1)


def order_vanished(scene: Scene) -> None:
    with scene.desk.state.lock:
        order = scene.desk.state.orders.pop(scene.asked.id)
        order.account.orders.remove(order)


def authorization_deactivated(scene: Scene) -> None:
    with scene.desk.state.lock:
        scene.desk.state.authorizations[scene.asked.id].status = "deactivated"


def account_unknown(scene: Scene) -> None:
    with scene.desk.state.lock:
        account = _account(scene)
        if account is not None:
            del scene.desk.state.accounts[account.id]


def valid_without_certificate(scene: Scene) -> Response:
    document = json.loads(scene.reply.get_data())
    del document["certificate"]
    scene.reply.set_data(json.dumps(document))
    return scene.reply


def truncated_chain(scene: Scene) -> Response:
    return _chain(scene, _certificates(scene)[:1])


def reversed_chain(scene: Scene) -> Response:
    leaf, *above = _certificates(scene)
    return _chain(scene, [*above, leaf])


def foreign_chain(scene: Scene) -> Response:
    """An intermediate that has not issued the certificate: its HTTPS certificate has another key and is no CA."""
    leaf, *_ = _certificates(scene)
    stranger = x509.load_pem_x509_certificate(scene.desk.hierarchy.https[0].read_bytes())
    return _chain(scene, [leaf, stranger])


def garbage_certificate(scene: Scene) -> Response:
    scene.reply.set_data(scene.reply.get_data()[:300])
    return scene.reply


def certificate_for_another_key(scene: Scene) -> Response:
    leaf, *above = _certificates(scene)
    return _chain(scene, [_signed(scene, ec.generate_private_key(ec.SECP256R1()).public_key(), _names(leaf)), *above])


def certificate_for_another_name(scene: Scene) -> Response:
    leaf, *above = _certificates(scene)
    return _chain(scene, [_signed(scene, leaf.public_key(), [scene.given["name"]]), *above])


def certificate_expired(scene: Scene) -> Response:
    leaf, *above = _certificates(scene)
    return _chain(scene, [_signed(scene, leaf.public_key(), _names(leaf), ago=timedelta(days=400)), *above])


def _order(scene: Scene) -> Order:
    return scene.desk.state.orders[scene.asked.id]


def _account(scene: Scene) -> Account | None:
    """The account that a request says it is from; nobody has looked at its signature yet."""
    identifier = scene.asked.peek_kid().rpartition("/")[2]
    return scene.desk.state.accounts.get(identifier)


def _certificates(scene: Scene) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(scene.reply.get_data())


def _chain(scene: Scene, chain: Sequence[x509.Certificate]) -> Response:
    scene.reply.set_data(b"".join(entry.public_bytes(Encoding.PEM) for entry in chain))
    return scene.reply


def _names(leaf: x509.Certificate) -> list[str]:
    return [str(name.value) for name in leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value]


def _signed(scene: Scene, key: object, names: Sequence[str], ago: timedelta = BACKDATED) -> x509.Certificate:
    begin = scene.desk.clock() - ago
    return sign_leaf(scene.desk.hierarchy.issuer, key, names, begin=begin, lifetime=timedelta(days=90))
