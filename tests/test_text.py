"""What is shown of text from elsewhere."""

from __future__ import annotations

import logging

import pytest

from acme_middleware import events
from acme_middleware._text import without_secrets
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
