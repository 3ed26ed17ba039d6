"""nginx in front, as the example's README and the page say, with a real nginx and a real CA."""

import os
import re
import shutil
import time

import local_ports
import pytest
from background import listens
from serving import PROJECT, get
from tornado_pages import Reader, is_our_installation, names_of, steps

PREFIX = "/.well-known/acme-challenge/"
EXAMPLES = PROJECT / "example_projects"
BY_ROOT = os.geteuid() == 0
# A worker of root's nginx is somebody else, who may not enter the folders of these tests. An ordinary user's is that user.
AS_OURSELVES = ' -g "user root;"' if BY_ROOT else ""


def ends(condition, seconds=15.0):
    """Whether the condition becomes true in time: nginx reloads in the background."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


@pytest.mark.parametrize("configuration", ["proxied.conf", "webroot-first.conf"])
def test_the_example_runs_as_its_readme_says(configuration, tmp_path):
    for name in ("tornado_app", "nginx"):
        shutil.copytree(EXAMPLES / name, tmp_path / name, ignore=shutil.ignore_patterns("state", "run", "tls"))
    folder = tmp_path / "nginx"
    install, run_ca, run, issue, look = steps("example_projects/nginx/README.md")
    with local_ports.reserve(4) as (app, http, tls, ca):
        ports = {"8000": app, "8080": http, "8443": tls}
        root = folder / ".local/state/acme-middleware/local-ca/root.pem"
        swaps = {
            **ports,
            "-c proxied.conf": f"-c {configuration}{AS_OURSELVES}",
            "/proxied.conf": f"/{configuration}",
            "acme-middleware ca": f"acme-middleware ca --port {ca}",
            "--ca local": f"--ca https://localhost:{ca}/directory --ca-bundle {root} --self-check-via 127.0.0.1:{http}",
        }
        for file in folder.glob("*.conf"):
            text = file.read_text()
            for old, new in ports.items():
                text = text.replace(old, str(new))
            file.write_text(text)
        with Reader(folder, swaps) as reader:
            (pip, _), (mkdir, _) = install[0].commands
            assert is_our_installation(pip)
            reader.run(mkdir)
            reader.start(run_ca[0].commands[0][0], ca)
            (site, _), (nginx, _) = run[0].commands
            site_log, nginx_log = reader.start(site, app), reader.start(nginx, http)

            reader.follow(issue[0])

            (link, _), (reload, _), (redirected, _), (page, _) = look[0].commands
            reader.run(link)
            assert ends(lambda: _written(folder / "run" / "nginx.pid")), nginx_log.read_text()
            reader.run(reload)
            head = reader.run(redirected)
            assert "301 Moved Permanently" in head
            assert f"Location: https://example.com:{tls}/some/page" in head
            assert ends(lambda: listens(tls)), nginx_log.read_text()
            assert re.fullmatch(r"The pages of example\.com, by process \d+\.\n", reader.run(page))

            served = f"openssl s_client -connect 127.0.0.1:{tls} -servername example.com </dev/null 2>/dev/null | openssl x509"
            before = reader.run(served)
            ((renew, _),) = look[1].commands
            assert "deployed    example.com: nginx:?" in reader.run(renew)
            current = tmp_path / "tornado_app" / "state" / "live" / "example.com" / "current" / "cert.pem"
            assert before != reader.run(served) == current.read_text()
            answered = "answered challenge" in site_log.read_text()
            assert answered == (configuration == "proxied.conf")  # else nginx found the token itself
            assert f"GET {PREFIX}" in (folder / "run" / "access.log").read_text()
            assert "[error]" not in nginx_log.read_text()


@pytest.mark.parametrize("way", ["the app is asked", "the folder first"])
def test_the_page_works_as_it_stands(way, tmp_path):
    (sites, folder_first), (load,), (issue,), (tls_server,), (deployer, deploy), (check, *_) = steps("docs/nginx.md")
    plain = sites.text
    if way == "the folder first":
        first = re.search(r"^ +location \^~ .*?^    }\n", plain, re.MULTILINE | re.DOTALL)
        plain = plain.replace(first[0], folder_first.text)
    store = tmp_path / "store"
    with local_ports.reserve(4) as (app, http, tls, ca):
        swaps = {
            "/var/lib/acme-middleware": store,
            "127.0.0.1:8000": f"127.0.0.1:{app}",
            "listen 80;": f"listen 127.0.0.1:{http};",
            "listen [::]:80;": f"listen [::1]:{http};",
            "listen 443 ssl;": f"listen 127.0.0.1:{tls} ssl;",
            "listen [::]:443 ssl;": f"listen [::1]:{tls} ssl;",
            "nginx -": f"nginx -e stderr -p {tmp_path} -c nginx.conf -",
            '"nginx:"': f'"nginx:?prefix={tmp_path}&conf={tmp_path}/nginx.conf"',
            "acme-middleware deploy": "acme-middleware deploy --config options.toml",
            "curl http://example.com/": f"curl -s --connect-to example.com:80:127.0.0.1:{http} http://example.com/",
        }
        options = {
            "ACME_STORE": f"file://{store}",
            "ACME_CA": f"https://localhost:{ca}/directory",
            "ACME_CA_BUNDLE": str(tmp_path / ".local/state/acme-middleware/local-ca/root.pem"),
            "ACME_SELF_CHECK_VIA": f"127.0.0.1:{http}",
            "ACME_SELF_CHECK": "require",
        }
        with Reader(tmp_path, swaps, **options) as reader:
            reader.start(f'acme-middleware ca --port {ca} --resolve "*=127.0.0.1:{http}"', ca)
            site = EXAMPLES / "tornado_app" / "app.py"
            site_log = reader.start(f"python {site} --port={app} --processes=2 --store=file://{store}", app)
            _write(reader, plain)
            nginx_log = reader.start("nginx -g 'daemon off;'", http)
            assert ends(lambda: _written(tmp_path / "run" / "nginx.pid")), nginx_log.read_text()
            reader.follow(load)

            reader.follow(issue)

            _write(reader, plain, tls_server.text)
            reader.follow(load)
            assert ends(lambda: listens(tls))
            served = f"openssl s_client -connect 127.0.0.1:{tls} -servername example.com </dev/null 2>/dev/null | openssl x509"
            current = store / "live" / "example.com" / "current" / "cert.pem"
            before = reader.run(served)
            assert before == current.read_text()
            assert names_of(store / "live/example.com/current/cert.pem") == {"example.com", "www.example.com"}
            home = f"curl -sk --connect-to example.com:443:127.0.0.1:{tls} https://example.com/"
            assert reader.run(home).startswith("The pages of example.com")

            reader.write("options.toml", deployer)
            (said,) = reader.follow(deploy)
            assert f"deployed    example.com: nginx:?prefix={tmp_path}&conf={tmp_path}/nginx.conf\n" in said
            reader.run("acme-middleware renew --force --config options.toml")
            assert before != reader.run(served) == current.read_text()

            assert "it-works" in [printed.strip() for printed in reader.follow(check)]
            assert get(http, "/page").header("Location") == "https://example.com/page"
            asked = site_log.read_text().count("answered challenge")
            assert (asked > 0) == (way == "the app is asked")


def _written(path):
    """nginx listens before it has said which process it is: until then it cannot be told anything."""
    return path.exists() and path.read_text().strip()


def _write(reader, *servers):
    """A whole configuration around the page's own blocks."""
    temporary = "\n".join(f"{kind}_temp_path run/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (reader.folder / "run").mkdir(exist_ok=True)
    user = "user root;" if BY_ROOT else ""
    http = "\n".join(reader.own(server) for server in servers)
    (reader.folder / "nginx.conf").write_text(
        f"{user} pid run/nginx.pid; events {{}} http {{ access_log off; {temporary}\n{http}\n}}\n"
    )
