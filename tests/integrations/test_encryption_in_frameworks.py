"""ENCRYPTION_KEYS in Django and Flask: set there, as text or as a callable, and never asked for by who only answers."""

import io
import json

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django_acme_middleware import conf
from django_acme_middleware.models import Record, Token
from flask import Flask
from flask_acme_middleware import Acme

from acme_middleware import encryption_keys
from acme_middleware.challenge import PREFIX
from acme_middleware.errors import ConfigurationError, RecordSealed
from acme_middleware.issuance.lineages import open_state
from acme_middleware.options import Options
from acme_middleware.stores import open_challenges
from acme_middleware.stores.sealed import key_id, sealed_with

OLD, NEW = encryption_keys.new(), encryption_keys.new()
SECRET = b'{"schema": 1, "key_pem": "-----BEGIN PRIVATE KEY-----"}'


def id_of(written):
    return key_id(encryption_keys.read(written)()[0])


class Asked:
    """A callable that gives keys, as one that asks a key service, and counts how often it was called."""

    def __init__(self, *keys):
        self.keys, self.times = list(keys), 0

    def __call__(self):
        self.times += 1
        return self.keys


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("keys", [NEW, [NEW, OLD], Asked(NEW)], ids=["text", "a list", "a callable"])
def test_the_rows_of_a_django_site_are_encrypted(settings, keys):
    settings.ACME_ENCRYPTION_KEYS = keys
    open_state(conf.options()).put("certificate/a.example", SECRET)
    kept = bytes(Record.objects.get(key="certificate/a.example").value)
    assert b"PRIVATE" not in kept
    assert sealed_with(kept) == id_of(NEW)
    assert open_state(conf.options()).get("certificate/a.example").value == SECRET
    settings.ACME_ENCRYPTION_KEYS = None
    with pytest.raises(RecordSealed, match="certificate/a"):
        open_state(conf.options()).get("certificate/a.example")


@pytest.mark.django_db(transaction=True)
def test_manage_py_changes_to_another_key(settings):
    settings.ACME_ENCRYPTION_KEYS = OLD
    store = open_state(conf.options())
    store.put("certificate/a.example", SECRET)
    store.inner.put("order/b.example", SECRET)
    asked = settings.ACME_ENCRYPTION_KEYS = Asked(NEW, OLD)
    out = io.StringIO()
    call_command("acme", "keys", "rotate", "--json", stdout=out)
    assert json.loads(out.getvalue())["sealed"] == 2
    assert {sealed_with(bytes(row.value)) for row in Record.objects.exclude(key__startswith="lock/")} == {id_of(NEW)}
    assert asked.times == 1


@pytest.mark.django_db(transaction=True)
def test_a_django_site_moves_into_its_database_and_is_encrypted_there(settings, tmp_path):
    settings.ACME_ENCRYPTION_KEYS = NEW
    old = open_state(Options(store=tmp_path / "acme"), writable=True)
    old.put("certificate/a.example", SECRET)
    old.put("renewal/a.example", b"{}")
    out = io.StringIO()
    call_command("acme", "store", "copy", f"file:{tmp_path / 'acme'}", "django:", "--json", stdout=out)
    assert json.loads(out.getvalue())["copied"] == 2
    assert open_state(conf.options()).get("certificate/a.example").value == SECRET
    assert b"PRIVATE" not in bytes(Record.objects.get(key="certificate/a.example").value)
    with pytest.raises(CommandError, match="FROM and TO are the same store"):
        call_command("acme", "store", "copy", "django:", "django:default")


@pytest.mark.django_db(transaction=True)
def test_a_django_worker_that_answers_asks_for_no_key(settings):
    asked = settings.ACME_ENCRYPTION_KEYS = Asked(NEW)
    open_challenges("django:").present("a-token", "a-token.thumbprint", ttl=60)
    assert Token.objects.count() == 1
    assert Client().get(PREFIX + "a-token").content == b"a-token.thumbprint"
    assert asked.times == 0


def test_a_flask_worker_that_answers_asks_for_no_key(tmp_path):
    app = Flask("a_site", instance_path=str(tmp_path))
    asked = app.config["ACME_ENCRYPTION_KEYS"] = Asked(NEW)
    Acme(app)
    open_challenges(tmp_path / "acme").present("a-token", "a-token.thumbprint", ttl=60)
    assert app.test_client().get(PREFIX + "a-token").data == b"a-token.thumbprint"
    assert asked.times == 0


def test_a_flask_worker_needs_no_right_to_the_file_of_keys(tmp_path):
    app = Flask("a_site", instance_path=str(tmp_path))
    app.config["ACME_ENCRYPTION_KEYS_FILE"] = str(tmp_path / "which-this-user-may-not-read")
    Acme(app)
    assert app.test_client().get(PREFIX + "a-token").status_code == 404


def test_flask_changes_to_another_key(tmp_path):
    app = Flask("a_site", instance_path=str(tmp_path))
    app.config["ACME_ENCRYPTION_KEYS"] = [NEW, OLD]
    Acme(app)
    old = open_state(Options(store=tmp_path / "acme", encryption_keys=encryption_keys.read(OLD)), writable=True)
    old.put("certificate/a.example", SECRET)
    ended = app.test_cli_runner().invoke(args=["acme", "keys", "rotate", "--json"])
    assert ended.exit_code == 0, ended.output
    assert json.loads(ended.output)["sealed"] == 1
    assert sealed_with(old.inner.get("certificate/a.example").value) == id_of(NEW)


def test_a_flask_key_that_is_none_is_refused_when_the_app_is_made_and_not_shown(tmp_path):
    app = Flask("a_site", instance_path=str(tmp_path))
    app.config["ACME_ENCRYPTION_KEYS"] = NEW + "oops"
    with pytest.raises(ConfigurationError, match="ACME_ENCRYPTION_KEYS takes keys of 32 bytes") as refused:
        Acme(app)
    assert NEW not in f"{refused.value!r} {refused.value.hint}"
