"""The table of CAs."""

from __future__ import annotations

import pytest

from acme_middleware.authorities import AUTHORITIES, find, staging_of
from acme_middleware.errors import ConfigurationError
from acme_middleware.stores.base import key


def test_known_name_and_known_url_are_the_same_ca() -> None:
    assert find("letsencrypt") is find("https://acme-v02.api.letsencrypt.org/directory")


def test_url_gets_an_id_of_its_own_that_fits_a_key() -> None:
    one, two = find("https://localhost:14000/dir"), find("https://localhost:14000/dir2")
    assert one.id.startswith("localhost_14000_")
    assert one.id != two.id
    assert key("account", one.id, "default").count("/") == 2
    assert one.trusted


@pytest.mark.parametrize(
    "wrong",
    ["letsencript", "ftp://ca.example/", "https://", "acme-v02.api.letsencrypt.org", "", "https://[::1/d", "https://h:99999/d"],
)
def test_what_is_no_ca_is_refused_and_the_names_are_listed(wrong: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        find(wrong)
    assert all(name in refused.value.hint for name in AUTHORITIES)


def test_password_in_the_url_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigurationError) as refused:
        find("https://user:secret@ca.example/directory")
    assert "secret" not in f"{refused.value} {refused.value.hint}"


def test_misspelt_name_is_corrected() -> None:
    with pytest.raises(ConfigurationError, match="did you mean letsencrypt"):
        find("letsencript")


def test_staging_twin_is_found_and_is_its_own_twin() -> None:
    staging = staging_of(find("letsencrypt"))
    assert staging.id == "letsencrypt-staging"
    assert not staging.trusted
    assert staging_of(staging) is staging


@pytest.mark.parametrize("ca", ["zerossl", "https://ca.example/directory"])
def test_ca_without_a_staging_twin_says_so(ca: str) -> None:
    with pytest.raises(ConfigurationError, match="no staging"):
        staging_of(find(ca))


def test_every_staging_twin_is_in_the_table_and_untrusted() -> None:
    twins = [authority.staging for authority in AUTHORITIES.values() if authority.staging]
    assert twins
    assert all(not AUTHORITIES[twin].trusted for twin in twins)
