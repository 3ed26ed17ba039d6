"""What ``manage.py check`` says: the fix for each thing that is set up wrongly, and an Error only for a wrong value."""

import subprocess
import sys

import pytest
from django.core.checks import Error, Tags, run_checks
from django.db import connection
from django_acme_middleware import conf, models
from django_acme_middleware.middleware import AcmeMiddleware
from django_sites import Site

from acme_middleware.errors import ConfigurationError, StoreMisconfigured
from acme_middleware.stores.memory import MemoryChallengeStore, MemoryStore


class Subclassed(AcmeMiddleware):
    pass


def messages(**options):
    """What the checks say about our app: ids and texts."""
    return {message.id: message for message in run_checks(**options) if message.id.startswith("acme_middleware")}


def test_the_example_site_passes():
    assert messages() == {}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        pytest.param("ACME_KEY_TYPE", "ec257", "ACME_KEY_TYPE is 'ec257' but takes one of", id="a value that is not taken"),
        pytest.param("ACME_EMIAL", "ops@example.com", "did you mean ACME_EMAIL?", id="a misspelt setting"),
        pytest.param("ACME_ON_UNKNOWN", "403", "pass, 404", id="an answer that cannot be given"),
        pytest.param("ACME_EMAIL", ["ops@example.com"], "ACME_EMAIL", id="a list for an email address"),
    ],
)
def test_a_wrong_option_is_an_error_that_names_it(settings, name, value, words):
    setattr(settings, name, value)
    found = messages()
    assert list(found) == ["acme_middleware.E001"]
    assert isinstance(found["acme_middleware.E001"], Error)
    assert words in found["acme_middleware.E001"].msg


def test_a_wrong_secret_is_not_shown(settings):
    settings.ACME_EAB_HMAC_KEY = 12345678
    found = messages()
    assert list(found) == ["acme_middleware.E001"]
    assert "ACME_EAB_HMAC_KEY" in found["acme_middleware.E001"].msg
    assert "12345678" not in str(found["acme_middleware.E001"])


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        pytest.param("ACME_STORE", "etcd://user:secret@db/site", "ACME_STORE: there is no store for etcd:", id="scheme"),
        pytest.param("ACME_STORE", "django:nope", "django:nope names no database", id="a database that is not there"),
        pytest.param("ACME_CHALLENGE_STORE", "/var/lib/acme", "ACME_CHALLENGE_STORE: ", id="a path that is no URL"),
        pytest.param("ACME_CHALLENGE_STORE", MemoryStore(), "no blocking, key_authorization", id="an object of the wrong kind"),
    ],
)
def test_a_store_that_cannot_be_opened_is_an_error(settings, name, value, words):
    setattr(settings, name, value)
    found = messages()
    assert list(found) == ["acme_middleware.E002"]
    assert words in found["acme_middleware.E002"].msg
    assert "secret" not in str(found["acme_middleware.E002"])


def test_without_the_middleware_a_warning_says_where_it_goes(settings):
    settings.MIDDLEWARE = settings.MIDDLEWARE[1:]
    found = messages()
    assert list(found) == ["acme_middleware.W001"]
    assert "the first line of MIDDLEWARE" in found["acme_middleware.W001"].hint


def test_a_middleware_that_is_not_first_is_told_which_line_to_move(settings):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE[1:3], settings.MIDDLEWARE[0], *settings.MIDDLEWARE[3:]]
    found = messages()
    assert list(found) == ["acme_middleware.W002"]
    assert found["acme_middleware.W002"].hint == (
        'Move "django_acme_middleware.middleware.AcmeMiddleware" from line 3 of MIDDLEWARE to line 1, '
        'above "django.middleware.security.SecurityMiddleware".'
    )


def test_a_subclass_counts_as_the_middleware(settings, monkeypatch):
    monkeypatch.setattr("mysite.views.Subclassed", Subclassed, raising=False)
    settings.MIDDLEWARE = ["mysite.views.Subclassed", *settings.MIDDLEWARE[1:]]
    assert messages() == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [("ACME_STORE", "memory:"), ("ACME_CHALLENGE_STORE", "memory:"), ("ACME_CHALLENGE_STORE", MemoryChallengeStore())],
    ids=["both stores", "the tokens", "an object"],
)
def test_a_store_in_memory_is_warned_of(settings, name, value):
    setattr(settings, name, value)
    found = messages()
    assert list(found) == ["acme_middleware.W003"]
    assert len([message for message in run_checks() if message.id == "acme_middleware.W003"]) == 1
    assert "no web worker" in found["acme_middleware.W003"].msg


@pytest.fixture
def no_tables():
    made = (models.Record, models.Token, models.Fetch)
    with connection.schema_editor() as editor:
        for model in made:
            editor.delete_model(model)
    yield
    with connection.schema_editor() as editor:
        for model in made:
            editor.create_model(model)


@pytest.mark.django_db(transaction=True)
def test_with_its_tables_the_database_passes():
    assert messages(tags=[Tags.database], databases=["default"]) == {}


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("no_tables")
def test_missing_tables_are_one_warning_and_only_where_databases_are_checked(settings):
    found = messages(databases=["default"])
    assert list(found) == ["acme_middleware.W004"]
    assert "run `manage.py migrate`" in found["acme_middleware.W004"].hint
    assert messages() == {}
    assert messages(databases=[]) == {}
    settings.ACME_STORE = "file:///var/lib/acme-middleware"
    assert messages(databases=["default"]) == {}


@pytest.mark.django_db(transaction=True)
def test_a_missing_table_of_tokens_is_seen_too():
    with connection.schema_editor() as editor:
        editor.delete_model(models.Fetch)
    try:
        assert list(messages(databases=["default"])) == ["acme_middleware.W004"]
    finally:
        with connection.schema_editor() as editor:
            editor.create_model(models.Fetch)


def test_the_first_migrate_does_not_warn_of_what_it_is_about_to_mend(tmp_path):
    site = Site(tmp_path, settings="mysite.settings")
    before = site.manage("check", "--database", "default")
    assert "acme_middleware.W004" in before.stderr
    migrated = site.manage("migrate")
    assert (migrated.stderr, "acme_middleware.0001" in migrated.stdout) == ("", True)
    after = site.manage("check", "--database", "default")
    assert after.stderr == ""


def test_the_migrations_match_the_models_whatever_the_sites_auto_field(tmp_path):
    (tmp_path / "other_fields.py").write_text(
        "from mysite.settings import *\nDEFAULT_AUTO_FIELD = 'django.db.models.AutoField'\n"
    )
    site = Site(tmp_path, settings="mysite.settings")
    assert "No changes" in site.manage("makemigrations", "--check", "acme_middleware").stdout
    other = site.manage("makemigrations", "--check", "acme_middleware", "--settings=other_fields", f"--pythonpath={tmp_path}")
    assert "No changes" in other.stdout


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        pytest.param("ACME_STORE", "mysql:", StoreMisconfigured, id="an unknown scheme"),
        pytest.param("ACME_CHALLENGE_STORE", "mysql:", StoreMisconfigured, id="an unknown scheme for tokens"),
        pytest.param("ACME_ON_UNKNOWN", "maybe", ConfigurationError, id="a wrong value"),
        pytest.param("ACME_ON_UNKOWN", "404", ConfigurationError, id="a misspelt setting"),
    ],
)
def test_a_web_process_refuses_to_start_on_a_wrong_serving_option(settings, name, value, error):
    setattr(settings, name, value)
    with pytest.raises(error, match=f"^{name}(:| is)|^there is no option {name}; did you mean ACME_ON_UNKNOWN"):
        AcmeMiddleware(lambda request: None)


def test_a_web_process_starts_though_an_option_of_issuing_is_wrong(settings):
    settings.ACME_EMAIL = "nobody"
    assert AcmeMiddleware(lambda request: None)


def test_a_secret_in_a_file_is_read_neither_by_a_web_process_nor_by_a_check(settings, tmp_path):
    settings.ACME_EAB_KID = "kid"
    settings.ACME_EAB_HMAC_KEY_FILE = tmp_path / "which-this-user-may-not-read"
    AcmeMiddleware(lambda request: None)
    assert messages() == {}
    with pytest.raises(ConfigurationError, match="ACME_EAB_HMAC_KEY_FILE"):
        conf.options()


def test_starting_opens_no_database_and_imports_nothing_that_issues(tmp_path):
    code = (
        "import sys, django; django.setup()\n"
        "from django.core.wsgi import get_wsgi_application; get_wsgi_application()\n"
        "from django.db import connection; assert connection.connection is None\n"
        "print([name for name in ('acme', 'josepy', 'requests', 'cryptography', 'click', 'rich') if name in sys.modules])"
    )
    site = Site(tmp_path, settings="mysite.settings")
    run = subprocess.run([sys.executable, "-c", code], env=site.env, check=True, text=True, capture_output=True)
    assert (run.stdout, run.stderr) == ("[]\n", "")
    assert not site.database.exists()


KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"


def test_keys_that_are_not_encrypted_in_the_database_are_warned_of_before_deploying_only(settings):
    found = messages(include_deployment_checks=True)
    assert list(found) == ["acme_middleware.W006"]
    assert "manage.py acme keys new" in found["acme_middleware.W006"].hint
    assert list(messages(tags=[Tags.security], include_deployment_checks=True)) == ["acme_middleware.W006"]
    assert messages() == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("ACME_ENCRYPTION_KEYS", [KEY], id="keys"),
        pytest.param("ACME_ENCRYPTION_KEYS", lambda: pytest.fail("a check has no use for them"), id="a callable"),
        pytest.param("ACME_ENCRYPTION_KEYS_FILE", "/which/this/user/may/not/read", id="a file"),
        pytest.param("ACME_STORE", "file:///var/lib/acme-middleware", id="a folder, which nobody else reads"),
    ],
)
def test_what_is_encrypted_or_in_no_database_is_not_warned_of(settings, name, value):
    setattr(settings, name, value)
    assert messages(include_deployment_checks=True) == {}


def test_an_encryption_key_that_is_none_is_an_error_that_does_not_show_it(settings):
    settings.ACME_ENCRYPTION_KEYS = KEY + "oops"
    found = messages()
    assert list(found) == ["acme_middleware.E001"]
    assert KEY not in str(found["acme_middleware.E001"])
