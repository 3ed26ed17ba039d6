"""What counts as a request for a token, and what the answers are, byte by byte."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acme_middleware import challenge
from acme_middleware.challenge import MALFORMED, PREFIX, requested_token

BASE64URL = string.ascii_letters + string.digits + "-_"
tokens = st.text(BASE64URL, min_size=1, max_size=128)


@given(tokens, st.sampled_from(["GET", "HEAD"]))
def test_every_base64url_token_is_one(token, method):
    assert requested_token(method, PREFIX + token) == token


@given(st.text(min_size=1))
def test_anything_below_the_prefix_is_a_token_or_malformed_and_never_an_exception(rest):
    well_formed = len(rest) <= 128 and set(rest) <= set(BASE64URL)
    assert requested_token("GET", PREFIX + rest) == (rest if well_formed else MALFORMED)


@given(tokens, st.sampled_from(sorted(set(map(chr, range(0x250))) - set(BASE64URL))), st.integers(0, 128))
def test_one_wrong_character_anywhere_spoils_a_token(token, wrong, where):
    assert requested_token("GET", PREFIX + token[:where] + wrong + token[where:]) == MALFORMED


@given(st.text())
def test_a_path_that_does_not_begin_with_the_prefix_is_not_for_us(path):
    assert path.startswith(PREFIX) or requested_token("GET", path) is None


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(PREFIX, id="the bare prefix"),
        pytest.param(PREFIX[:-1], id="the prefix without its slash"),
        pytest.param("/" + PREFIX + "token", id="two slashes in front"),
        pytest.param("/site" + PREFIX + "token", id="below another path"),
        pytest.param(PREFIX.upper() + "token", id="other case"),
        pytest.param("", id="empty"),
    ],
)
def test_not_for_us(path):
    assert requested_token("GET", path) is None


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "get", ""])
def test_other_methods_are_the_apps(method):
    assert requested_token(method, PREFIX + "token") is None


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param("../../etc/passwd", id="traversal"),
        pytest.param("token/", id="a slash at the end"),
        pytest.param("token\n", id="a newline at the end"),
        pytest.param("token\x00", id="a NUL"),
        pytest.param(".expires-token", id="one of our own files"),
        pytest.param("t\u00f6ken", id="Latin"),
        pytest.param("\u0664\u0662", id="digits that are not ASCII"),
        pytest.param("token=", id="base64 padding"),
        pytest.param("a" * 129, id="129 characters"),
        pytest.param("a" * 10_000, id="10 kB"),
    ],
)
def test_malformed(rest):
    assert requested_token("GET", PREFIX + rest) == MALFORMED


def test_the_answer_is_the_key_authorization_and_nothing_else():
    answer = challenge.found("GET", "token.thumbprint")
    assert (answer.status, answer.body) == (200, b"token.thumbprint")
    assert dict(answer.headers) == {
        "Content-Type": "application/octet-stream",
        "Content-Length": "16",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda method: challenge.found(method, "token.thumbprint"), id="found"),
        pytest.param(challenge.not_found, id="not found"),
        pytest.param(challenge.unavailable, id="unavailable"),
    ],
)
def test_a_head_has_the_headers_of_its_get_and_no_body(make):
    get, head = make("GET"), make("HEAD")
    assert (head.status, head.headers, head.body) == (get.status, get.headers, b"")
    assert dict(get.headers)["Content-Length"] == str(len(get.body))
    assert get.body


def test_a_store_that_is_down_is_worth_another_try():
    answer = challenge.unavailable("GET")
    assert answer.status == 503
    assert dict(answer.headers)["Retry-After"] == "1"
