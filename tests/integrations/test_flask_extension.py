"""Registering ``Acme`` on Flask apps: what it changes, what it refuses, and what it loads."""

import json
import pickle
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from flask import Flask
from flask_acme_middleware import Acme

from acme_middleware.errors import ConfigurationError, StoreMisconfigured
from acme_middleware.stores import open_challenges
from acme_middleware.wsgi import AcmeMiddleware

PREFIX = "/.well-known/acme-challenge/"


def make(folder, **config):
    app = Flask("a_site", instance_path=str(folder))
    app.config.update(config)
    return app


def fetch(app, token):
    return app.test_client().get(PREFIX + token)


def test_it_wraps_the_app_keeps_its_state_in_extensions_and_adds_the_command(tmp_path):
    app = make(tmp_path)
    inner = app.wsgi_app
    Acme(app)
    assert isinstance(app.wsgi_app, AcmeMiddleware)
    assert app.wsgi_app.app == inner
    assert app.extensions["acme_middleware"].middleware is app.wsgi_app
    assert "acme" in app.cli.commands


def test_tokens_are_in_the_instance_folder_by_default(tmp_path):
    app = make(tmp_path / "an instance, 100% ours")
    Acme(app)
    assert fetch(app, "token").status_code == 404
    open_challenges(tmp_path / "an instance, 100% ours" / "acme").present("token", "token.thumbprint", ttl=60)
    assert fetch(app, "token").data == b"token.thumbprint"


@pytest.mark.parametrize("kind", ["a URL", "text for a Path", "a Path", "an object"])
def test_a_store_may_be_given_as(tmp_path, kind):
    store = open_challenges(tmp_path)
    store.present("token", "token.thumbprint", ttl=60)
    given = {"a URL": f"file://{tmp_path}", "text for a Path": f"file:{tmp_path}", "a Path": tmp_path, "an object": store}
    app = make(tmp_path / "instance", ACME_CHALLENGE_STORE=given[kind])
    Acme().init_app(app)
    assert fetch(app, "token").data == b"token.thumbprint"


@pytest.mark.parametrize(
    "again",
    [
        pytest.param(lambda acme, app: Acme(app), id="another Acme(app)"),
        pytest.param(lambda acme, app: Acme().init_app(app), id="another's init_app(app)"),
        pytest.param(lambda acme, app: acme.init_app(app), id="its own init_app(app)"),
    ],
)
def test_a_second_registration_is_refused_and_changes_nothing(tmp_path, again):
    app = make(tmp_path)
    acme = Acme(app)
    with pytest.raises(ConfigurationError) as refused:
        again(acme, app)
    assert str(refused.value) == "the app 'a_site' has an Acme already: leave out one of Acme(app) and init_app(app)"
    assert "once" in refused.value.hint
    assert not isinstance(app.wsgi_app.app, AcmeMiddleware)


def test_one_acme_registers_on_several_apps(tmp_path):
    acme, apps = Acme(), [make(tmp_path / name) for name in ("one", "two")]
    for app in apps:
        acme.init_app(app)
    open_challenges(tmp_path / "two/acme").present("token", "token.thumbprint", ttl=60)
    assert [fetch(app, "token").status_code for app in apps] == [404, 200]


WRONG = [
    pytest.param({"ACME_STROE": "file:x"}, "there is no option ACME_STROE; did you mean ACME_STORE?", id="a misspelt key"),
    pytest.param({"ACME_EMIAL": "a@b.example"}, "there is no option ACME_EMIAL", id="a misspelt key that only issuing reads"),
    pytest.param({"ACME_ON_UNKNOWN": "403"}, "ACME_ON_UNKNOWN is '403' but takes one of pass, 404", id="a wrong choice"),
    pytest.param({"ACME_KEY_TYPE": "rsa"}, "ACME_KEY_TYPE is 'rsa' but takes one of ec256", id="one that issuing reads"),
    pytest.param({"ACME_EMAIL": "nobody"}, "ACME_EMAIL is 'nobody' but takes one email address", id="no address"),
    pytest.param({"ACME_CA": "letsencript"}, "there is no CA called 'letsencript'; did you mean letsencrypt?", id="a CA"),
    pytest.param({"ACME_WAIT": -1}, "ACME_WAIT is -1 but takes a number of seconds, 0 or more", id="a negative time"),
]


@pytest.mark.parametrize(("config", "says"), WRONG)
def test_a_wrong_option_is_refused_when_the_app_is_made(tmp_path, config, says):
    app = make(tmp_path, **config)
    before = app.wsgi_app
    with pytest.raises(ConfigurationError) as refused:
        Acme(app)
    assert str(refused.value).startswith(says)
    # The last lines of a traceback in a web server's log say what to do.
    assert "".join(traceback.format_exception(refused.value)).rstrip().endswith(refused.value.hint)
    assert (app.wsgi_app, app.extensions, list(app.cli.commands)) == (before, {}, [])
    app.config.clear()
    app.config.update(Flask("other").config)
    Acme(app)  # once corrected, it may be registered


@pytest.mark.parametrize(
    ("store", "says"),
    [
        pytest.param("mongodb://user:secret@host/x", "^ACME_STORE: there is no store for mongodb:", id="an unknown scheme"),
        pytest.param("/var/lib/acme", "is a path, not a URL", id="a path as text"),
        pytest.param(3, "an object of type int is not a challenge store", id="a number"),
    ],
)
def test_a_store_that_cannot_be_opened_is_refused_when_the_app_is_made(tmp_path, store, says):
    with pytest.raises(StoreMisconfigured, match=says) as refused:
        Acme(make(tmp_path, ACME_STORE=store))
    assert refused.value.exit_code == 2
    assert "secret" not in "".join(traceback.format_exception(refused.value))


def test_its_errors_can_be_pickled(tmp_path):
    with pytest.raises(ConfigurationError) as refused:
        Acme(make(tmp_path, ACME_WAIT="soon"))
    copy = pickle.loads(pickle.dumps(refused.value))
    assert (type(copy), str(copy), copy.hint) == (type(refused.value), str(refused.value), refused.value.hint)
    assert copy.option == "wait"


def test_the_environment_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setenv("ACME_STORE", f"file:{tmp_path}/elsewhere")
    monkeypatch.setenv("ACME_ON_UNKNOWN", "nonsense")
    open_challenges(tmp_path / "elsewhere").present("token", "token.thumbprint", ttl=60)
    app = make(tmp_path / "instance")
    Acme(app)
    assert fetch(app, "token").status_code == 404


def test_a_secret_in_a_file_is_not_read_by_who_only_answers(tmp_path):
    app = make(tmp_path, ACME_EAB_KID="kid", ACME_EAB_HMAC_KEY_FILE=str(tmp_path / "which-this-user-may-not-read"))
    Acme(app)
    assert fetch(app, "token").status_code == 404


def test_no_secret_is_in_what_can_be_printed(tmp_path):
    app = make(tmp_path, ACME_EAB_KID="kid", ACME_EAB_HMAC_KEY="very-secret")
    Acme(app)
    assert "very-secret" not in repr(app.extensions) + repr(vars(app.extensions["acme_middleware"]))


def test_a_web_worker_loads_nothing_that_issues(tmp_path):
    script = f"""
import json, sys
from flask import Flask
before = set(sys.modules)
from flask_acme_middleware import Acme
app = Flask("a_site", instance_path={str(tmp_path)!r})
app.config.update(ACME_EMAIL="ops@example.com", ACME_CA="letsencrypt")
Acme(app)
assert app.test_client().get({PREFIX!r} + "token").status_code == 404
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60)
    loaded = json.loads(done.stdout)
    heavy = {"acme", "josepy", "requests", "urllib3", "cryptography", "OpenSSL", "idna", "rich", "sqlalchemy", "redis"}
    assert {name.partition(".")[0] for name in loaded} & heavy == set()
    ours = {name.split(".")[1] for name in loaded if name.startswith("acme_middleware.")}
    assert not ours & {"cli", "issuance", "protocol", "deploy", "local_ca"}


def test_the_package_is_typed():
    import flask_acme_middleware

    import acme_middleware

    assert flask_acme_middleware.__all__ == ["Acme", *acme_middleware.__all__]
    assert (Path(flask_acme_middleware.__file__).parent / "py.typed").exists()
