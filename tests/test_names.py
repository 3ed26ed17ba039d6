"""From what a person types to the identifiers of an order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acme_middleware.authorities import find
from acme_middleware.errors import ConfigurationError, NameRefused
from acme_middleware.issuance.names import check_profile, identifier, identifiers, lineage
from acme_middleware.protocol.identifier import Identifier


@pytest.mark.parametrize(
    ("typed", "kind", "value"),
    [
        pytest.param("example.com", "dns", "example.com", id="a plain name stays"),
        pytest.param("EXAMPLE.Com", "dns", "example.com", id="upper case becomes lower"),
        pytest.param("example.com.", "dns", "example.com", id="a trailing dot is dropped"),
        pytest.param("  example.com ", "dns", "example.com", id="white space around is dropped"),
        pytest.param("bücher.example", "dns", "xn--bcher-kva.example", id="an IDN becomes its A-label"),
        pytest.param("BÜCHER.example", "dns", "xn--bcher-kva.example", id="an IDN in upper case too"),
        pytest.param("例え.テスト", "dns", "xn--r8jz45g.xn--zckzah", id="an IDN of two labels"),
        pytest.param("xn--bcher-kva.example", "dns", "xn--bcher-kva.example", id="an A-label stays"),
        pytest.param("192.0.2.1", "ip", "192.0.2.1", id="an IPv4 address is an ip identifier"),
        pytest.param("2001:DB8:0::1", "ip", "2001:db8::1", id="an IPv6 address is compressed"),
        pytest.param("[2001:db8::1]", "ip", "2001:db8::1", id="an IPv6 address may have brackets"),
        pytest.param("a" * 63 + ".example", "dns", "a" * 63 + ".example", id="a label of 63 characters"),
    ],
)
def test_name_is_normalised(typed: str, kind: str, value: str) -> None:
    assert identifier(typed) == Identifier(kind, value)


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        pytest.param("*.example.com", "wildcard", id="wildcard, with the reason"),
        pytest.param("exa_mple.com", "underscore", id="underscore"),
        pytest.param("https://example.com/", "no host name", id="URL"),
        pytest.param("example.com/path", "no host name", id="path"),
        pytest.param("me@example.com", "no host name", id="mail address"),
        pytest.param("example.com:8443", "port", id="port"),
        pytest.param("", "empty", id="nothing"),
        pytest.param(".", "empty", id="the root"),
        pytest.param("a..b", "part ''", id="empty label"),
        pytest.param("-a.example", "'-a'", id="label that begins with a hyphen"),
        pytest.param("a-.example", "'a-'", id="label that ends with a hyphen"),
        pytest.param("a" * 64 + ".example", "part", id="label of 64 characters"),
        pytest.param(".".join(["abcdefgh"] * 30), "longer", id="more than 253 characters"),
        pytest.param("192.0.2.300", "no IP address", id="an address that is none"),
        pytest.param("fe80::1%eth0", "zone", id="an address with a zone"),
        pytest.param("[2001:db8::1%25eth0]", "zone", id="an address with a zone, as in a URL"),
        pytest.param("fe80::1%x\nERROR all is lost", "zone", id="an address with a line feed in its zone"),
        pytest.param("exa mple.com", "part", id="white space inside"),
        pytest.param("example.com\n.evil", "part", id="line feed inside"),
        pytest.param("ex\u2024ample..com", "internationalised", id="IDN with an empty label"),
    ],
)
def test_name_is_refused_with_the_reason(typed: str, reason: str) -> None:
    with pytest.raises(NameRefused, match=reason) as refused:
        identifier(typed)
    assert refused.value.name == typed
    assert refused.value.exit_code == 2
    assert refused.value.hint


def test_duplicates_are_dropped_and_the_order_is_kept() -> None:
    names = identifiers(["b.example", "a.example", "B.example.", "192.0.2.1", "a.example"])
    assert [entry.value for entry in names] == ["b.example", "a.example", "192.0.2.1"]


def test_no_name_at_all_is_refused() -> None:
    with pytest.raises(NameRefused, match="no name"):
        identifiers([])


@given(st.text(max_size=300))
def test_any_text_is_a_name_or_refused(text: str) -> None:
    try:
        found = identifier(text)
    except NameRefused:
        return
    assert found.value.isascii()
    assert found.value == found.value.lower()
    assert identifier(found.value) == found, "normalising twice is normalising once"


def test_lineage_is_the_first_name_unless_given() -> None:
    wanted = identifiers(["b.example", "a.example"])
    assert lineage(None, wanted) == "b.example"
    assert lineage("shop", wanted) == "shop"


def test_lineage_that_is_the_first_name_is_taken_again_when_it_is_renewed() -> None:
    for name in ("a.example", "192.0.2.1", "2001:db8::1"):
        wanted = identifiers([name, "b.example"])
        assert lineage(lineage(None, wanted), wanted) == name


@pytest.mark.parametrize(
    "name", ["", "a/b", "../x", ".hidden", "a b", "a\nb", "a\\b", "x" * 254, "2001:db8::1", "*.a.example", "_.a.example"]
)
def test_lineage_that_could_not_be_a_folder_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="--name"):
        lineage(name, identifiers(["a.example"]))


def test_more_names_than_the_profile_takes_are_refused_before_any_order() -> None:
    letsencrypt = find("letsencrypt")
    hundred = identifiers([f"{n}.example.com" for n in range(100)])
    assert check_profile(hundred, letsencrypt, None) == ""
    with pytest.raises(NameRefused, match="100 names are more than the 25"):
        check_profile(hundred, letsencrypt, "tlsserver")
    with pytest.raises(NameRefused, match="101 names are more than the 100"):
        check_profile((*hundred, identifier("more.example.com")), letsencrypt, "classic")


def test_addresses_imply_the_profile_that_takes_them() -> None:
    letsencrypt, address = find("letsencrypt"), identifiers(["192.0.2.1"])
    assert check_profile(address, letsencrypt, None) == "shortlived"
    assert check_profile(address, find("https://ca.example/directory"), None) == ""
    with pytest.raises(NameRefused, match="only into profile shortlived"):
        check_profile(address, letsencrypt, "classic")
