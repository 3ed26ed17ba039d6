"""What a server's own settings say about TLS holds beside our certificates, before and after a renewal."""

from __future__ import annotations

import os
import pickle
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gunicorn.config
import pytest
import uvicorn
from hypercorn.config import Config
from pebble_lab import wait_until
from tls_lab import certificate, client_context, handshake, published, seen

from acme_middleware.errors import ConfigurationError
from acme_middleware.tls import gunicorn as gunicorn_glue
from acme_middleware.tls import hypercorn as hypercorn_glue
from acme_middleware.tls import uvicorn as uvicorn_glue

QUICK = 0.01
CIPHER = "ECDHE-ECDSA-CHACHA20-POLY1305"


def refuses_to_be_called() -> ssl.SSLContext:
    raise AssertionError("the server's own factory needs a certificate")


def from_gunicorn(live: Path, **settings: Any) -> ssl.SSLContext:
    conf = gunicorn.config.Config()
    for name, value in settings.items():
        conf.set(name, value)
    hook = gunicorn_glue.ssl_context_from(live, check_every=QUICK)
    conf.set("ssl_context", hook)  # it is looked at, as in gunicorn.conf.py
    context = conf.ssl_context(conf, refuses_to_be_called)
    assert conf.ssl_context(conf, refuses_to_be_called) is context, "not made anew for each connection"
    assert isinstance(context, ssl.SSLContext)
    return context


def from_uvicorn(live: Path, **settings: Any) -> ssl.SSLContext:
    theirs = {f"ssl_{name}": value for name, value in settings.items()}
    factory = pickle.loads(pickle.dumps(uvicorn_glue.ssl_context_from(live, check_every=QUICK)))  # as for a worker
    config = uvicorn.Config(lambda: None, ssl_context_factory=factory, **theirs)
    config.load()
    assert config.ssl is not None
    return config.ssl


def from_hypercorn(live: Path, **settings: Any) -> ssl.SSLContext:
    theirs = {{"cert_reqs": "verify_mode"}.get(name, name): value for name, value in settings.items()}
    made = hypercorn_glue.ssl_context_from(live, check_every=QUICK, **theirs)
    config = Config.from_mapping(certfile=__file__, keyfile=__file__, create_ssl_context=made)
    config = pickle.loads(pickle.dumps(config))  # as for a worker
    context = config.create_ssl_context()
    assert context is not None
    return context


GLUE = [
    pytest.param(from_gunicorn, id="gunicorn"),
    pytest.param(from_uvicorn, id="uvicorn"),
    pytest.param(from_hypercorn, id="hypercorn"),
]
Make = Callable[..., ssl.SSLContext]


@pytest.mark.parametrize("make", GLUE)
def test_client_certificates_and_ciphers(make: Make, tmp_path: Path) -> None:
    live, ours = tmp_path / "live", certificate("client.example", number=2)
    (tmp_path / "ca.pem").write_bytes(ours.chain)
    (tmp_path / "client.pem").write_bytes(ours.cert + ours.key)
    context = make(live, ca_certs=str(tmp_path / "ca.pem"), cert_reqs=ssl.CERT_REQUIRED, ciphers=CIPHER)
    client, stranger = client_context(), client_context()
    client.load_cert_chain(tmp_path / "client.pem")
    client.maximum_version = stranger.maximum_version = ssl.TLSVersion.TLSv1_2
    for _ in range(2):
        expected = published(live, certificate())
        wait_until(lambda expected=expected: _serves(context, expected, client), "it is served", limit=5)  # type: ignore[misc]
        cipher = handshake(context, client=client).cipher()
        assert cipher is not None
        assert cipher[0] == CIPHER
        with pytest.raises(ssl.SSLError):
            handshake(context, client=stranger)


def _serves(context: ssl.SSLContext, expected: bytes, client: ssl.SSLContext) -> bool:
    try:
        return seen(context, client=client) == expected
    except ssl.SSLError:
        return False  # there is none yet


PROTOCOLS = [
    pytest.param(from_gunicorn, {"http_protocols": "h2,h1"}, "h2", id="gunicorn, with HTTP/2"),
    pytest.param(from_gunicorn, {}, None, id="gunicorn, as it is"),
    pytest.param(from_uvicorn, {}, None, id="uvicorn"),
    pytest.param(from_hypercorn, {}, "h2", id="hypercorn"),
    pytest.param(from_hypercorn, {"alpn_protocols": ["http/1.1"]}, "http/1.1", id="hypercorn, without HTTP/2"),
]


@pytest.mark.parametrize(("make", "settings", "expected"), PROTOCOLS)
def test_protocols(make: Make, settings: dict[str, Any], expected: str | None, tmp_path: Path) -> None:
    published(tmp_path, certificate())
    end = handshake(make(tmp_path, **settings), client=client_context(alpn=["h2", "http/1.1"]))
    assert end.selected_alpn_protocol() == expected


def test_hypercorns_config_from_a_program(tmp_path: Path) -> None:
    expected = published(tmp_path, certificate())
    config = hypercorn_glue.TLSConfig(tmp_path, check_every=QUICK)
    config.bind = ["127.0.0.1:0"]
    context = pickle.loads(pickle.dumps(config)).create_ssl_context()
    assert seen(context) == expected
    assert config.ssl_enabled


MAKERS = [
    gunicorn_glue.ssl_context_from,
    uvicorn_glue.ssl_context_from,
    hypercorn_glue.ssl_context_from,
    hypercorn_glue.TLSConfig,
]


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: f"{make.__module__}.{make.__name__}")
def test_a_wrong_option_ends_the_server_before_it_listens(make: Callable[..., Any]) -> None:
    with pytest.raises(ConfigurationError, match="check_every is -1"):
        make("/live", check_every=-1)


WORKERS = [pytest.param("pass", id="uvicorn-worker"), pytest.param("sys.modules['uvicorn_worker'] = None", id="uvicorn's own")]


@pytest.mark.parametrize("before", WORKERS)
def test_the_worker_class_is_made_of_what_is_installed_without_a_warning(before: str) -> None:
    said = in_python(
        f"import sys\n{before}\nfrom acme_middleware.tls.uvicorn_worker import TLSWorker\n"
        "print(TLSWorker.__mro__[1].__module__)"
    )
    assert said.startswith("uvicorn.workers" if "None" in before else "uvicorn_worker")


def test_it_loads_nothing_heavy_before_there_is_a_certificate_to_read() -> None:
    said = in_python(
        "import sys\nfrom acme_middleware.tls import TLSContext\n"
        "TLSContext('/nowhere').sni_callback.__self__.context_for('a')\n"
        "print({name.partition('.')[0] for name in sys.modules} & "
        "{'cryptography', 'acme', 'requests', 'josepy', 'click', 'rich', 'asyncio', 'idna', 'sqlalchemy'})\n"
        "print([name for name in sys.modules if name.startswith(('acme_middleware.issuance', 'acme_middleware.options'))])"
    )
    assert said == "set()\n[]\n"


def in_python(code: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    return ended.stdout
