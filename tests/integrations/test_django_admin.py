"""The admin's page of certificates: what is public, to look at."""

import json

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django_acme_middleware import models
from django_acme_middleware.stores import DjangoStore

from acme_middleware.stores.base import key

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/acme_middleware/certificate/"
SECRET = b'{"schema": 1, "key_pem": "-----BEGIN PRIVATE KEY-----"}'


def record(**changes):
    facts = {
        "schema": 1,
        "name": "shop.example",
        "names": ["shop.example", "www.shop.example"],
        "ca": "letsencrypt",
        "trusted": True,
        "profile": "classic",
        "not_before": "2026-01-01T00:00:00Z",
        "not_after": "2099-04-01T00:00:00Z",
        "serial": "04:ab:cd",
        "fingerprint": "c0ffee" * 10,
        "issued_at": "2026-01-01T00:00:00Z",
        "renew_after": "2099-03-01T00:00:00Z",
        "ari": None,
        "options": {},
    }
    return json.dumps(facts | changes).encode()


@pytest.fixture
def store():
    store = DjangoStore()
    store.put(key("renewal", "shop.example"), record())
    store.put(key("certificate", "shop.example"), SECRET)
    store.put(key("account", "letsencrypt", "default"), SECRET)
    store.put("renewal0", SECRET)  # the first key behind the public ones
    return store


@pytest.fixture
def admin(store):
    client = Client(SERVER_NAME="localhost")
    client.force_login(User.objects.create_superuser("root"))
    return client


def page(client, path, **options):
    response = client.get(path, secure=True, follow=True, **options)
    return response.status_code, response.content.decode()


def test_the_list_shows_names_state_dates_and_ca(admin):
    status, text = page(admin, LIST)
    assert status == 200
    for shown in ("shop.example", ">ok<", "1 Apr 2099", "1 Mar 2099", "letsencrypt", "1 certificate"):
        assert shown in text
    assert "PRIVATE KEY" not in text


def test_a_certificate_shows_what_is_public(admin):
    status, text = page(admin, LIST + "renewal_2Fshop.example/change/")
    assert status == 200
    for shown in ("shop.example, www.shop.example", "04:ab:cd", "c0ffee", "classic"):
        assert shown in text
    assert '<input type="submit"' not in text
    assert 'name="_save"' not in text


@pytest.mark.parametrize(
    "path", ["certificate_2Fshop.example", "account_2Fletsencrypt_2Fdefault", "renewal0", "lock_2Fshop.example"]
)
def test_private_records_cannot_be_reached_by_their_keys(admin, path):
    status, text = page(admin, f"{LIST}{path}/change/")
    assert "PRIVATE KEY" not in text
    assert "Perhaps it was deleted?" in text or status == 404


@pytest.mark.parametrize(
    ("path", "data"),
    [
        pytest.param("add/", {}, id="add"),
        pytest.param("renewal_2Fshop.example/delete/", {"post": "yes"}, id="delete"),
        pytest.param("renewal_2Fshop.example/change/", {"key": "renewal/other"}, id="change"),
    ],
)
def test_nobody_can_add_change_or_delete(admin, path, data):
    before = list(models.Record.objects.values_list("key", "version"))
    assert admin.post(LIST + path, data, secure=True).status_code == 403
    assert list(models.Record.objects.values_list("key", "version")) == before


def test_no_action_deletes(admin):
    admin.post(LIST, {"action": "delete_selected", "_selected_action": "renewal/shop.example", "post": "yes"}, secure=True)
    assert models.Certificate.objects.count() == 1


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        pytest.param({"not_after": "2026-02-01T00:00:00Z", "renew_after": "2026-01-15T00:00:00Z"}, "expired", id="expired"),
        pytest.param({"renew_after": "2026-01-15T00:00:00Z"}, "due", id="due"),
        pytest.param({"schema": 99}, "unreadable", id="of a newer version"),
        pytest.param({"not_after": "soon"}, "unreadable", id="damaged"),
    ],
)
def test_states(admin, store, changes, state):
    store.put(key("renewal", "other.example"), record(name="other.example", **changes))
    status, text = page(admin, LIST)
    assert (status, state in text) == (200, True)
    assert "shop.example" in text
    assert page(admin, LIST + "renewal_2Fother.example/change/")[0] == 200


def test_only_who_may_view_certificates_sees_them_and_no_other_permission_exists(store):
    staff = User.objects.create_user("staff", is_staff=True)
    client = Client(SERVER_NAME="localhost")
    client.force_login(staff)
    assert page(client, LIST)[0] == 403
    ours = Permission.objects.filter(content_type__app_label="acme_middleware")
    assert [permission.codename for permission in ours] == ["view_certificate"]
    staff.user_permissions.set(ours)
    assert page(client, LIST)[0] == 200


def test_the_search_finds_by_name(admin, store):
    store.put(key("renewal", "other.example"), record(name="other.example"))
    _, text = page(admin, LIST + "?q=other")
    assert "other.example" in text
    assert "shop.example" not in text
