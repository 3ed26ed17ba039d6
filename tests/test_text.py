"""What is shown of text from elsewhere."""

from __future__ import annotations

import logging

import pytest

from acme_middleware import events
from acme_middleware._text import has_password, without_secrets
from acme_middleware.errors import StoreMisconfigured
from acme_middleware.stores import open_store

SHOWN = [
    ("postgresql+psycopg://acme:hunter2@db.internal:5432/acme", "postgresql+psycopg://db.internal:5432/acme"),
    ("redis://:hunter2@127.0.0.1/0", "redis://127.0.0.1/0"),
    ("redis://127.0.0.1/0?password=hunter2", "redis://127.0.0.1/0"),
    ("redis://127.0.0.1/0?password=p@hunter2", "redis://…"),
    ("postgresql://acme:p?hunter2@db/acme", "postgresql://…"),
    ("postgresql://acme:p/hunter2@db/acme", "postgresql://db/acme"),
    ("postgresql://acme:p@hunter2@db/acme", "postgresql://db/acme"),
    ("postgresql//acme:hunter2@db/acme", "postgresql//db/acme"),
    ("//acme:hunter2@db/acme", "//db/acme"),
    ("acme:hunter2@db/acme", "db/acme"),
    ("sqlite:////srv/people@work/acme.sqlite3", "sqlite:////srv/people@work/acme.sqlite3"),
    ("file:///srv/people@work/acme", "file:///srv/people@work/acme"),
    ("/srv/people@work/acme", "/srv/people@work/acme"),
    ("memory:", "memory:"),
]


@pytest.mark.parametrize(("url", "shown"), SHOWN, ids=[url for url, _ in SHOWN])
def test_a_url_is_shown_without_what_may_be_secret(url: str, shown: str) -> None:
    assert without_secrets(url) == shown


@pytest.mark.parametrize("url", ["postgresql//acme:hunter2@db/acme", "//acme:hunter2@db/acme", "acme:hunter2@db/acme"])
def test_a_mistyped_url_of_a_store_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(StoreMisconfigured) as caught:
        open_store(url)
    assert "hunter2" not in str(caught.value) + caught.value.hint


def test_no_event_forges_a_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        events.log(events.Presented(name="a\nERROR all is lost\x1b[2J", identifier="b\r\nERROR all is lost"))
    (line,) = caplog.messages
    assert line.isprintable()
    assert line.startswith("a ERROR all is lost")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://acme:hunter2@db.internal:5432/acme",
        "redis://:hunter2@127.0.0.1/0",
        "redis+socket://acme:hunter2@/run/redis/redis.sock?db=0",
        "postgresql://db/acme?user=acme&password=hunter2",
        "postgresql:///acme?user=acme&p%61ssword=hunter2",
        "mysql+pymysql://db/acme?passwd=hunter2",
        "postgresql://acme:p/hunter2@db/acme",
        "postgresql://acme:p?hunter2@db/acme",
        "postgresql//acme:hunter2@db/acme",
        "acme:hunter2@db/acme",
    ],
)
def test_a_url_has_a_password_wherever_it_stands(url: str) -> None:
    assert has_password(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://acme@db.internal:5432/acme",
        "postgresql+psycopg://acme@/acme?host=/run/postgresql",
        "redis://127.0.0.1:6379/0?prefix=shop",
        "redis+socket:///run/redis/redis.sock?db=0",
        "sqlite:////srv/a:b@c/acme.sqlite3",
        "file:///srv/a:b@c/acme",
        "file:a@b",
        "django:other",
        "memory:",
        "",
    ],
)
def test_a_url_without_a_password_has_none(url: str) -> None:
    assert not has_password(url)
