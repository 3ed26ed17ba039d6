"""Plain WSGI and ASGI, behind walls written by hand."""

from __future__ import annotations

from walls import MarkedASGI, MarkedWSGI, refusal


def respond(method, proto, host, path, cookie):
    status, headers = refusal(proto, host, path, cookie) or (200, {"Content-Type": "text/plain"})
    body = f"app: {method}".encode() if status == 200 else b""
    return status, {**headers, "Content-Length": str(len(body))}, b"" if method == "HEAD" else body


@MarkedWSGI
def wsgi(environ, start_response):
    status, headers, body = respond(
        environ["REQUEST_METHOD"],
        environ.get("HTTP_X_FORWARDED_PROTO"),
        environ.get("HTTP_HOST"),
        environ.get("PATH_INFO", ""),
        environ.get("HTTP_COOKIE"),
    )
    start_response(f"{status} Status", list(headers.items()))
    return [body]


@MarkedASGI
async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    got = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    status, headers, body = respond(scope["method"], got.get("x-forwarded-proto"), got.get("host"), path, got.get("cookie"))
    headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
