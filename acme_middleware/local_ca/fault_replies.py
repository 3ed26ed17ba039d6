"""Faults that answer with a refusal, wait, or cut the connection."""

from __future__ import annotations

from datetime import timedelta
from email.utils import format_datetime

from werkzeug.wrappers import Response

from acme_middleware.local_ca.call import refuse
from acme_middleware.local_ca.faults import Cut, Scene
from acme_middleware.local_ca.problems import Problem, Refused


def bad_nonce(scene: Scene) -> Response:
    return refuse(Refused("badNonce", "this nonce has ended: use the one that comes with this"))


def rate_limited(scene: Scene) -> Response:
    headers = {"Retry-After": str(scene.given["retry_after"])}
    return refuse(Refused("rateLimited", "too many requests: see the limits of this CA", headers=headers))


def rate_limited_until(scene: Scene) -> Response:
    until = scene.desk.clock() + timedelta(seconds=scene.given["retry_after"])
    headers = {"Retry-After": format_datetime(until, usegmt=True)}
    return refuse(Refused("rateLimited", "too many requests: come back later", headers=headers))


def rate_limited_silently(scene: Scene) -> Response:
    return refuse(Refused("rateLimited", "too many requests"))


def paused(scene: Scene) -> Response:
    url = scene.given["url"]
    detail = f"your account is paused for some of these names after too many failures: visit {url}"
    return refuse(Refused("rateLimited", detail, members={"instance": url}))


def server_error(scene: Scene) -> Response:
    return refuse(Refused("serverInternal", "something went wrong in this CA", status=scene.given["status"]))


def unavailable(scene: Scene) -> Response:
    headers = {"Retry-After": str(scene.given["retry_after"])}
    return refuse(Refused("serverInternal", "this CA is being maintained", status=503, headers=headers))


def terms_changed(scene: Scene) -> Response:
    url = scene.given["url"]
    headers = {"Link": f'<{url}>;rel="terms-of-service"'}
    detail = "the terms of service have changed: agree to them"
    return refuse(Refused("userActionRequired", detail, headers=headers, members={"instance": url}))


def names_refused(scene: Scene) -> Response:
    names = [entry["value"] for entry in scene.asked.peek().get("identifiers", [])]
    problems = [Problem("rejectedIdentifier", f"{name} is on a list", {"type": "dns", "value": name}) for name in names]
    return refuse(Refused("compound", "some identifiers are refused", subproblems=problems))


def bad_csr(scene: Scene) -> Response:
    return refuse(Refused("badCSR", "the key of the CSR is known to be compromised"))


def already_replaced(scene: Scene) -> Response:
    return refuse(Refused("alreadyReplaced", "another order replaces this certificate already"))


def asks_to_replace(scene: Scene) -> bool:
    return "replaces" in scene.asked.peek()


def no_document(scene: Scene) -> Response:
    return Response(status=scene.given["status"])


def html_page(scene: Scene) -> Response:
    page = "<!doctype html><title>Welcome</title><p>The page that a proxy shows in place of its backend.\n"
    return Response(page, scene.given["status"], mimetype="text/html")


def redirect(scene: Scene) -> Response:
    return Response(status=302, headers={"Location": scene.given["url"]})


def reset(scene: Scene) -> Response:
    raise Cut(reset=True)


def closed(scene: Scene) -> Response:
    raise Cut(reset=False)


def timeout(scene: Scene) -> Response:
    scene.desk.wait(scene.given["seconds"])
    raise Cut(reset=False)


def slow(scene: Scene) -> None:
    scene.desk.wait(scene.given["seconds"])


def cut_short(scene: Scene) -> Response:
    raise Cut(reset=False, half=scene.reply)


def secondary_fails(scene: Scene) -> Problem:
    return Problem(scene.given["type"], "during secondary validation: 203.0.113.9: no answer within 10 s")
