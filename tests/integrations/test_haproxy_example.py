"""HAProxy in front, as the example's README says, with a real HAProxy and a real CA."""

import re
import shutil

import local_ports
from background import listens
from serving import PROJECT
from tornado_pages import Reader, is_our_installation, steps

EXAMPLES = PROJECT / "example_projects"
PREFIX = "/.well-known/acme-challenge/"


def test_the_example_runs_as_its_readme_says(tmp_path):
    for name in ("tornado_app", "haproxy"):
        shutil.copytree(EXAMPLES / name, tmp_path / name, ignore=shutil.ignore_patterns("state", "run", "certs"))
    folder = tmp_path / "haproxy"
    install, run_ca, run, issue, look = steps("example_projects/haproxy/README.md")
    with local_ports.reserve(4) as (app, http, tls, ca):
        ports = {"8000": app, "8080": http, "8443": tls}
        root = folder / ".local/state/acme-middleware/local-ca/root.pem"
        swaps = {
            **ports,
            "acme-middleware ca": f"acme-middleware ca --port {ca}",
            "--ca local": f"--ca https://localhost:{ca}/directory --ca-bundle {root} --self-check-via 127.0.0.1:{http}",
        }
        configuration = folder / "haproxy.cfg"
        text = configuration.read_text()
        for old, new in ports.items():
            text = text.replace(old, str(new))
        configuration.write_text(text)
        with Reader(folder, swaps) as reader:
            (pip, _), (mkdir, _) = install[0].commands
            assert is_our_installation(pip)
            reader.run(mkdir)
            reader.start(run_ca[0].commands[0][0], ca)
            (site, _), (placeholder, _), (copy, _), (haproxy, _) = run[0].commands
            site_log = reader.start(site, app)
            reader.run(placeholder)
            reader.run(copy)
            haproxy_log = reader.start(haproxy, tls)
            assert listens(http)

            (redirected, _), (page, _), (renew, _), (seen, _), (stored, _), (verify, _) = look[0].commands
            placed = reader.run(stored)
            assert reader.run(seen) == placed

            reader.follow(issue[0])

            assert reader.run(seen) == reader.run(stored) != placed
            head = reader.run(redirected)
            assert "301 Moved Permanently" in head
            assert f"location: https://example.com:{tls}/some/page" in head
            assert re.fullmatch(r"The pages of example\.com, by process \d+\.\n", reader.run(page))
            assert "answered challenge" in site_log.read_text()

            issued = reader.run(stored)
            reader.run(renew)
            assert reader.run(seen) == reader.run(stored) != issued
            assert "example.com" in reader.run(verify)
            log = haproxy_log.read_text()
            assert f"GET {PREFIX}" in log
            assert log.count("New worker") == 1, log  # no reload and no restart
            assert "[ALERT]" not in log
