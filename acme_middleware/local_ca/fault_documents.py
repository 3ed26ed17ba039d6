"""Faults that spoil an answer: its headers, its JSON, or what the JSON says."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any

from werkzeug.wrappers import Response

from acme_middleware.local_ca.call import timestamp
from acme_middleware.local_ca.faults import Scene

NO_ONE = "http-99"
"""A type of challenge that there will not be."""


def succeeded(scene: Scene) -> bool:
    """The answer is not a refusal."""
    return scene.reply.status_code < 400


def is_object(scene: Scene) -> bool:
    """The answer is a JSON document that says what was asked for."""
    return succeeded(scene) and scene.reply.mimetype == "application/json"


def is_valid(scene: Scene) -> bool:
    """The answer is an object with the status "valid"."""
    return is_object(scene) and _document(scene)["status"] == "valid"


def has_location(scene: Scene) -> bool:
    return "Location" in scene.reply.headers


def has_nonce(scene: Scene) -> bool:
    return "Replay-Nonce" in scene.reply.headers


def garbage_json(scene: Scene) -> Response:
    scene.reply.set_data(scene.reply.get_data()[: len(scene.reply.get_data()) // 2])
    return scene.reply


def json_array(scene: Scene) -> Response:
    scene.reply.set_data(b"[]")
    return scene.reply


def huge_reply(scene: Scene) -> Response:
    scene.reply.set_data(b" " * scene.given["size"] + scene.reply.get_data())
    return scene.reply


def wrong_content_type(scene: Scene) -> Response:
    scene.reply.content_type = "text/plain"
    return scene.reply


def wrong_status(scene: Scene) -> Response:
    return _edited(scene, lambda document: document.update(status=scene.given["status"]))


def unknown_members(scene: Scene) -> Response:
    more = {"future": {"members": [None, 1.5, {}]}, "estimate": -1}
    return _edited(scene, lambda document: document.update(more))


def missing_member(scene: Scene) -> Response:
    return _edited(scene, lambda document: document.pop(scene.given["member"], None))


def missing_location(scene: Scene) -> Response:
    del scene.reply.headers["Location"]
    return scene.reply


def missing_nonce(scene: Scene) -> Response:
    del scene.reply.headers["Replay-Nonce"]
    return scene.reply


def garbage_nonce(scene: Scene) -> Response:
    scene.reply.headers["Replay-Nonce"] = "no base64url!"
    return scene.reply


def garbage_retry_after(scene: Scene) -> Response:
    scene.reply.headers["Retry-After"] = "soon"
    return scene.reply


def clock_off(scene: Scene) -> Response:
    when = scene.desk.clock() + timedelta(hours=scene.given["hours"])
    scene.reply.headers["Date"] = format_datetime(when, usegmt=True)
    return scene.reply


def authorizations_shuffled(scene: Scene) -> Response:
    return _edited(scene, lambda document: document["authorizations"].reverse())


def unknown_challenges_only(scene: Scene) -> Response:
    def change(document: dict[str, Any]) -> None:
        for challenge in document["challenges"]:
            challenge["type"] = NO_ONE

    return _edited(scene, change)


def unknown_challenges_among(scene: Scene) -> Response:
    def change(document: dict[str, Any]) -> None:
        url = document["challenges"][0]["url"]
        # One with members of its own, one that says as little as it can.
        future = {"type": NO_ONE, "url": f"{url}-1", "status": "pending", "secret": {"of": "the future"}}
        document["challenges"][:0] = [future, {"type": "dns-00", "url": f"{url}-2"}]

    return _edited(scene, change)


def challenge_without_token(scene: Scene) -> Response:
    def change(document: dict[str, Any]) -> None:
        url = f"{document['challenges'][0]['url']}-1"
        document["challenges"].insert(0, {"type": "dns-persist-01", "url": url, "status": "pending", "issuer-domain-names": []})

    return _edited(scene, change)


def http_01_without_token(scene: Scene) -> Response:
    def change(document: dict[str, Any]) -> None:
        for challenge in document["challenges"]:
            challenge.pop("token")

    return _edited(scene, change)


def ari_not_json(scene: Scene) -> Response:
    scene.reply.set_data(b"window: soon\n")
    return scene.reply


def ari_malformed(scene: Scene) -> Response:
    return _edited(scene, lambda document: document.update(suggestedWindow={"start": "tomorrow"}))


def ari_inverted(scene: Scene) -> Response:
    return _with_window(scene, lambda start, end: (end, start))


def ari_without_offset(scene: Scene) -> Response:
    def change(document: dict[str, Any]) -> None:
        window = document["suggestedWindow"]
        document["suggestedWindow"] = {edge: when.removesuffix("Z") for edge, when in window.items()}

    return _edited(scene, change)


def ari_after_expiry(scene: Scene) -> Response:
    return _with_window(scene, lambda start, end: (start, end + timedelta(days=3650)))


def _with_window(scene: Scene, change: Callable[[datetime, datetime], tuple[datetime, datetime]]) -> Response:
    def edit(document: dict[str, Any]) -> None:
        window = document["suggestedWindow"]
        start, end = change(*(datetime.fromisoformat(window[edge]) for edge in ("start", "end")))
        document["suggestedWindow"] = {"start": timestamp(start), "end": timestamp(end)}

    return _edited(scene, edit)


def _document(scene: Scene) -> dict[str, Any]:
    document = json.loads(scene.reply.get_data())
    if not isinstance(document, dict):
        raise TypeError("this CA answers with objects")
    return document


def _edited(scene: Scene, edit: Callable[[dict[str, Any]], object]) -> Response:
    document = _document(scene)
    edit(document)
    scene.reply.set_data(json.dumps(document))
    return scene.reply
