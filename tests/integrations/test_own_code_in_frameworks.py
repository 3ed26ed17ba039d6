"""issue() and the others from the code of a Django site and of a Flask app, by their settings."""

import asyncio

import django_acme_middleware
import flask_acme_middleware
import pytest
from django.db import transaction
from django_acme_middleware.signals import acme_event
from flask import Flask
from flask_acme_middleware import Acme
from mysite.wsgi import application

import acme_middleware
from acme_middleware import events
from acme_middleware.errors import ConfigurationError, NotAllowed, StoreMisconfigured
from acme_middleware.issuance.results import Action

pytest_plugins = ["acme_middleware.testing.plugin"]

CALLS = {
    "called": lambda package, verb, *args, **given: getattr(package, verb)(*args, **given),
    "awaited": lambda package, verb, *args, **given: asyncio.run(getattr(package, f"a{verb}")(*args, **given)),
}


@pytest.fixture(params=CALLS.values(), ids=CALLS)
def call(request):
    return request.param


@pytest.fixture
def site(acme_ca, settings, tmp_path, transactional_db):
    acme_ca.resolve["*"] = application
    settings.ACME_CA = acme_ca.directory_url
    settings.ACME_CA_BUNDLE = acme_ca.ca_bundle
    settings.ACME_SELF_CHECK = "skip"
    settings.ACME_PUBLISH_DIR = tmp_path / "certificates"
    return acme_ca


def test_every_adapter_has_the_same_functions():
    assert set(acme_middleware.__all__) == {*django_acme_middleware.__all__} == {*flask_acme_middleware.__all__} - {"Acme"}
    for package in (django_acme_middleware, flask_acme_middleware):
        assert all(callable(getattr(package, name)) for name in package.__all__)


def test_a_site_issues_by_its_settings_and_its_receivers_are_told(site, call, tmp_path):
    told = []

    def receive(sender, event, **_):
        told.append((sender, event.name))

    acme_event.connect(receive)
    try:
        outcome = call(django_acme_middleware, "issue", "shop.example", allow=lambda name: True, hourly=5, key_type="rsa2048")
    finally:
        acme_event.disconnect(receive)
    assert outcome.action is Action.ISSUED
    assert outcome.record.options["key_type"] == "rsa2048"
    assert outcome.published == tmp_path / "certificates/shop.example/current"
    assert (events.Issued, "shop.example") in told
    assert call(django_acme_middleware, "status", "shop.example").state == "ok"
    assert [one.name for one in call(django_acme_middleware, "statuses")] == ["shop.example"]
    assert call(django_acme_middleware, "revoke", "shop.example").due == ("shop.example",)
    assert call(django_acme_middleware, "delete", "shop.example", files=True).files is not None


def test_inside_a_transaction_it_is_refused_before_the_ca_is_asked_anything(site):
    with pytest.raises(StoreMisconfigured, match="transaction") as error, transaction.atomic():
        django_acme_middleware.issue("shop.example", hourly=5)
    assert error.value.hint
    assert site.requests() == []
    assert django_acme_middleware.issue("shop.example", hourly=1).action is Action.ISSUED


def test_allow_may_ask_the_sites_own_models(site, call):
    from django.contrib.auth.models import User

    User.objects.create(username="customer.example")

    def allow(name):
        return User.objects.filter(username=name).exists()

    assert call(django_acme_middleware, "issue", "customer.example", allow=allow).action is Action.ISSUED
    with pytest.raises(NotAllowed):
        call(django_acme_middleware, "issue", "stranger.example", allow=allow)


def test_awaited_it_leaves_no_connection_in_the_thread_that_did_it(site):
    from django.contrib.auth.models import User
    from django.db import connections

    seen = []

    def allow(name):
        User.objects.exists()
        seen.append(connections["default"])
        return True

    async def issue():
        await django_acme_middleware.aissue("shop.example", allow=allow)

    asyncio.run(issue())
    [ours] = seen
    assert ours is not connections["default"]
    assert ours.connection is None


def test_status_reads_no_secret_which_the_web_workers_may_have_no_right_to(site, settings, tmp_path, call):
    settings.ACME_EAB_HMAC_KEY_FILE = str(tmp_path / "for-the-issuing-user-only")
    assert call(django_acme_middleware, "status", "shop.example").state == "missing"
    assert call(django_acme_middleware, "statuses") == []
    with pytest.raises(ConfigurationError, match="ACME_EAB_HMAC_KEY_FILE"):
        call(django_acme_middleware, "issue", "shop.example")


@pytest.fixture
def app(acme_ca, tmp_path):
    app = Flask("shop", instance_path=str(tmp_path / "instance"))
    app.config.update(
        ACME_CA=acme_ca.directory_url, ACME_CA_BUNDLE=str(acme_ca.ca_bundle), ACME_SELF_CHECK="skip", ACME_AGREE_TOS=True
    )
    Acme(app)
    acme_ca.resolve["*"] = app
    return app


def test_an_app_issues_by_its_config_within_its_context(app, call, tmp_path):
    with app.app_context():
        assert call(flask_acme_middleware, "issue", "shop.example", hourly_per_domain=3).action is Action.ISSUED
        assert call(flask_acme_middleware, "status", "shop.example").state == "ok"
    assert (tmp_path / "instance/acme/live/shop.example/current/fullchain.pem").exists()


def test_outside_of_a_context_the_app_is_named(app, call):
    with pytest.raises(ConfigurationError, match="no app's context is active") as error:
        call(flask_acme_middleware, "issue", "shop.example")
    assert "app=..." in error.value.hint
    assert call(flask_acme_middleware, "issue", "shop.example", app=app, key_type="ec384").record.options["key_type"] == "ec384"
    assert [one.name for one in call(flask_acme_middleware, "statuses", app=app)] == ["shop.example"]


def test_an_app_without_acme_is_told_so(call):
    with pytest.raises(ConfigurationError, match="the app 'other' has no Acme"):
        call(flask_acme_middleware, "issue", "shop.example", app=Flask("other"))
