"""The WSGI class by the rules of PEP 3333, and how little it does for other requests."""

from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from acme_middleware.challenge import PREFIX
from acme_middleware.errors import ConfigurationError, StoreMisconfigured
from acme_middleware.stores.memory import MemoryChallengeStore
from acme_middleware.wsgi import AcmeMiddleware


@pytest.fixture
def store():
    store = MemoryChallengeStore()
    store.present("token", "token.thumbprint", ttl=60)
    return store


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"app"]


def call(application, environ):
    setup_testing_defaults(environ)
    environ.setdefault("QUERY_STRING", "")
    environ.setdefault("SCRIPT_NAME", "")
    started = []

    def start_response(status, headers, exc_info=None):
        started.append((status, headers))
        return lambda data: None

    answer = application(environ, start_response)
    body = b"".join(answer)
    if hasattr(answer, "close"):
        answer.close()
    (start,) = started
    return (*start, body)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("token", ["token", "unknown"])
def test_it_keeps_to_pep_3333(store, method, token):
    application = validator(AcmeMiddleware(validator(app), store=store, on_unknown="404"))
    status, headers, body = call(application, {"REQUEST_METHOD": method, "PATH_INFO": PREFIX + token})
    assert status == {"token": "200 OK", "unknown": "404 Not Found"}[token]
    assert isinstance(headers, list)
    assert body == (b"" if method == "HEAD" else {"token": b"token.thumbprint", "unknown": b"unknown token\n"}[token])


def test_a_store_that_is_down_is_503():
    class Down:
        blocking = False

        def key_authorization(self, token):
            raise OSError("no route to host")

    status, headers, _ = call(AcmeMiddleware(app, store=Down()), {"PATH_INFO": PREFIX + "token"})
    assert status == "503 Service Unavailable"
    assert ("Retry-After", "1") in headers


def test_another_request_is_the_apps_own_its_answer_not_even_touched(store):
    environ, answer = {"PATH_INFO": "/page", "REQUEST_METHOD": "GET"}, iter([b"app"])
    before = dict(environ)
    seen = []

    def remembering(environ, start_response):
        seen.append((environ, start_response))
        return answer

    assert AcmeMiddleware(remembering, store=store)(environ, call) is answer
    assert seen[0][0] is environ
    assert seen[0][1] is call
    assert environ == before


def test_a_server_may_leave_out_path_info(store):
    assert AcmeMiddleware(lambda environ, start_response: [b"app"], store=store)({"REQUEST_METHOD": "GET"}, call) == [b"app"]


def test_the_path_is_what_follows_script_name(store):
    environ = {"SCRIPT_NAME": "/site", "PATH_INFO": PREFIX + "token"}
    assert call(AcmeMiddleware(app, store=store), environ)[2] == b"token.thumbprint"


def test_the_client_is_recorded(store):
    environ = {"PATH_INFO": PREFIX + "token", "REMOTE_ADDR": "192.0.2.7", "HTTP_USER_AGENT": "a CA"}
    call(AcmeMiddleware(app, store=store), environ)
    assert [(fetch.address, fetch.agent) for fetch in store.fetches("token")] == [("192.0.2.7", "a CA")]


def test_wrong_options_are_refused_at_construction():
    with pytest.raises(StoreMisconfigured, match="no store for nothing:"):
        AcmeMiddleware(app, store="nothing:")
    with pytest.raises(ConfigurationError, match="on_unknown"):
        AcmeMiddleware(app, store="memory:", on_unknown="deny")
    with pytest.raises(TypeError, match="store"):
        AcmeMiddleware(app)
