"""``verify:`` at the end of DEPLOY: what the deployers before it have not brought about is a failure, until it is served."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from deployments import deployment
from renewal_site import RenewalSite, renewal_site
from stored_certificates import command
from tls_servers import Server

from acme_middleware.deploy import proofs
from acme_middleware.deploy.deployers import parse
from acme_middleware.deploy.publish import Pems
from acme_middleware.errors import ConfigurationError, DeployFailed
from acme_middleware.testing.certificates import self_made

NAME = "example.com"


@pytest.fixture(scope="module")
def ca_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ca")


@pytest.fixture
def site(tmp_path: Path, ca_keys: Path) -> Iterator[RenewalSite]:
    with renewal_site(tmp_path, ca_keys) as site:
        yield site


def bundle(site: RenewalSite) -> bytes:
    return (site.folder / "acme" / "live" / NAME / "current" / "bundle.pem").read_bytes()


def shown(site: RenewalSite) -> dict:
    ended = command(site.folder, "status", "--json", env={"ACME_STORE": site.usual["store"]})
    (one,) = json.loads(ended.out)["certificates"]
    return one["verified"]


def test_a_hook_that_does_nothing_fails_the_run_until_the_server_has_the_new_one(site):
    site.issue(NAME)
    calls = site.folder / "calls"
    hook = json.dumps(["sh", "-c", f"echo $CERT_SERIAL >> {calls}"])
    with Server(bundle(site)) as server:
        deploy = [f"command:{hook}", f"verify:127.0.0.1:{server.port}?wait=0.2"]
        assert site.issue(NAME, deploy=deploy).undeployed == ()
        assert shown(site)["served"] is True

        (error,) = site.issue(NAME, force=True, deploy=deploy).undeployed
        assert error.step == "connect and compare"
        assert "another certificate is served, serial" in str(error)
        assert "`acme-middleware deploy example.com` repeats it" in error.hint
        assert shown(site)["served"] is False
        again = site.sweep(deploy=deploy)[NAME]
        assert (again.action, "another certificate is served" in again.reason) == ("failed", True)

        server.load(bundle(site))
        assert site.actions(deploy=deploy) == {NAME: "not due"}
        assert shown(site)["served"] is True
        asked = len(server.asked)
        assert site.actions(deploy=deploy) == {NAME: "not due"}
        assert len(server.asked) == asked  # it is done with this one
        old, *new = calls.read_text().split()
        # Once for the first. Of the second with each run that did not find it served before, since it had done nothing.
        assert new == [site.record(NAME).serial] * 3
        assert old not in new


def test_it_waits_for_a_server_that_takes_a_moment(tmp_path):
    first = deployment(tmp_path, NAME)
    with Server((first.directory / "bundle.pem").read_bytes()) as server:
        new = deployment(tmp_path, NAME)
        place = f"verify:127.0.0.1:{server.port}"
        with pytest.raises(DeployFailed, match="another certificate"):
            parse(f"{place}?wait=0").deploy(new)
        server.load((new.directory / "bundle.pem").read_bytes())
        parse(place).deploy(new)
    found = proofs.read(tmp_path, NAME)
    assert found is not None
    assert found.served


def test_a_certificate_that_a_root_has_issued_has_no_chain_to_be_missed(tmp_path):
    pems = self_made(NAME)
    alone = deployment(tmp_path, NAME, pems=Pems(pems.key, pems.cert, b""))
    with Server((alone.directory / "fullchain.pem").read_bytes(), pems.key) as server:
        verifies = parse(f"verify:127.0.0.1:{server.port}?wait=0")
        verifies.deploy(alone)
        with pytest.raises(DeployFailed, match="is served without its chain"):
            verifies.deploy(deployment(tmp_path, NAME, pems=pems))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        pytest.param("verify:example.com", "HOST:PORT", id="a host without a port"),
        pytest.param("verify:127.0.0.1:0", "HOST:PORT", id="port 0"),
        pytest.param("verify:127.0.0.1:65536", "HOST:PORT", id="a port that there is not"),
        pytest.param("verify:?wait=long", "wait=long", id="a wait that is no number"),
        pytest.param("verify:?wait=-1", "wait=-1", id="a wait below zero"),
        pytest.param("verify:?wait=nan", "wait=nan", id="a wait that never ends"),
        pytest.param("verify:?name=x", "name=x", id="a word that it does not know"),
    ],
)
def test_what_it_cannot_follow_is_refused(spec, says):
    with pytest.raises(ConfigurationError, match=says):
        parse(spec)


def test_it_takes_an_ipv6_address_as_in_a_url():
    assert parse("verify:[2001:db8::1]:8443").addresses == [("2001:db8::1", 8443)]
    assert parse("verify:").addresses is None
