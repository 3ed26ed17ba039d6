"""docs/haproxy.md, as it stands, with a real HAProxy, the Tornado site behind it, and a real CA."""

import tempfile

import local_ports
import pytest
from background import listens
from serving import PROJECT, get
from tornado_pages import Reader, names_of, steps

SITE = PROJECT / "example_projects" / "tornado_app" / "app.py"


@pytest.mark.parametrize("folder_of_its_own", [False, True], ids=["the published files", "a certificate directory"])
def test_the_page_works_as_it_stands(folder_of_its_own, tmp_path):
    (start,), (load,), (option,), (issue,), (check, of_a_folder) = steps("docs/haproxy.md")
    store, configuration = tmp_path / "store", tmp_path / "haproxy.cfg"
    with (
        local_ports.reserve(4) as (app, http, tls, ca),
        tempfile.TemporaryDirectory(prefix="acme-haproxy-") as sockets,
    ):
        swaps = {
            "127.0.0.1:8000": f"127.0.0.1:{app}",
            "/etc/haproxy/": f"{tmp_path}/",
            "/run/haproxy/": f"{sockets}/",
            "acme-middleware verify": f"acme-middleware verify --address 127.0.0.1:{tls}",
        }
        options = {
            "ACME_CONFIG": str(tmp_path / "acme-middleware.toml"),
            "ACME_STORE": f"file://{store}",
            "ACME_CA": f"https://localhost:{ca}/directory",
            "ACME_CA_BUNDLE": str(tmp_path / ".local/state/acme-middleware/local-ca/root.pem"),
            "ACME_SELF_CHECK_VIA": f"127.0.0.1:{http}",
            "ACME_SELF_CHECK": "require",
        }
        with Reader(tmp_path, swaps, **options) as reader:
            (tmp_path / "acme-middleware.toml").write_text("")
            reader.start(f'acme-middleware ca --port {ca} --resolve "*=127.0.0.1:{http}"', ca)
            site_log = reader.start(f"python {SITE} --port={app} --processes=2 --store=file://{store}", app)
            reader.follow(start)

            (printing, _), (checking, _), (_, _) = load.commands
            text = option.text
            if folder_of_its_own:
                printing = printing.replace(" > ", f" --folder {tmp_path}/certs > ")
                text = of_a_folder.text
                reader.run(f"install -D -m 600 {store}/live/example.com/current/bundle.pem {tmp_path}/certs/example.com.pem")
            reader.run(printing)
            printed = configuration.read_text().replace("/run/haproxy/", f"{sockets}/")
            assert reader.own(text).strip().removeprefix("deploy = ") in printed
            printed = printed.replace(":::80 v4v6", f"127.0.0.1:{http}").replace(":::443 v4v6", f"127.0.0.1:{tls}")
            configuration.write_text(printed)
            reader.run(checking)
            log = reader.start(f"haproxy -W -f {configuration}", tls)
            assert listens(http)
            (tmp_path / "acme-middleware.toml").write_text(reader.own(text))

            reader.follow(issue)

            assert "answered challenge" in site_log.read_text()
            served = f"openssl s_client -connect 127.0.0.1:{tls} -servername example.com </dev/null 2>/dev/null | openssl x509"
            assert reader.run(served) == (store / "live/example.com/current/cert.pem").read_text()
            assert names_of(store / "live/example.com/current/cert.pem") == {"example.com", "www.example.com"}
            assert "example.com" in reader.follow(check)[0]
            home = f"curl -sk --connect-to example.com:443:127.0.0.1:{tls} https://example.com/"
            assert reader.run(home).startswith("The pages of example.com")
            assert get(http, "/page").header("Location") == "https://example.com/page"

            if folder_of_its_own:  # a name that HAProxy has not had before
                reader.run("acme-middleware issue api.example.com --agree-tos --email ops@example.com")
                served = served.replace("-servername example.com", "-servername api.example.com")
                assert reader.run(served) == (store / "live/api.example.com/current/cert.pem").read_text()
            assert log.read_text().count("New worker") == 1, log.read_text()
