"""Where nginx presents which certificate, read from what a real `nginx -T` prints of configurations as people write them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from deployments import deployment

from acme_middleware.cli.print_nginx import configuration
from acme_middleware.cli.sites import Site
from acme_middleware.deploy.deployer import Deployment
from acme_middleware.deploy.nginx import _places
from acme_middleware.deploy.nginx_conf import Server, servers

NAME = "shop.example"
PAIR = "ssl_certificate {live}/shop.example/current/fullchain.pem; ssl_certificate_key {live}/shop.example/current/privkey.pem;"
OTHER = (
    "ssl_certificate {live}/other.example/current/fullchain.pem; ssl_certificate_key {live}/other.example/current/privkey.pem;"
)
PORTS = {"443": "18443", "444": "18444"}
"""nginx -t opens the ports of a configuration, as far as they are free."""


@pytest.fixture
def made(tmp_path: Path) -> Deployment:
    deployment(tmp_path / "live", "other.example")
    return deployment(tmp_path / "live", NAME, f"www.{NAME}")


def read(folder: Path, http: str, more: str = "", **files: str) -> list[Server]:
    """What is understood of a configuration; ``files`` are beside it, ``_`` in a name is ``/``."""
    live = folder / "live"

    def ours(text: str) -> str:
        for word, meant in {"{pair}": PAIR, "{other}": OTHER, "{live}": str(live)}.items():
            text = text.replace(word, meant)
        for port, meant in PORTS.items():
            text = text.replace(f"{port};", f"{meant};").replace(f"{port} ", f"{meant} ")
        return text

    for name, text in files.items():
        path = folder / f"{name.replace('_', '/')}.conf"
        path.parent.mkdir(exist_ok=True)
        path.write_text(ours(text))
    conf = folder / "nginx.conf"
    temporary = " ".join(f"{kind}_temp_path {kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    conf.write_text(f"pid pid;\nevents {{}}\n{ours(more)}\nhttp {{ access_log off; {temporary}\n{ours(http)}\n}}\n")
    done = subprocess.run(
        ["nginx", "-p", folder, "-e", "stderr", "-c", conf, "-T", "-q"], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return servers(done.stdout)


def asked(folder: Path, made: Deployment, http: str, more: str = "", **files: str) -> list[str]:
    """Where which name is asked for."""
    found = _places(read(folder, http, more, **files), made, [])
    return [str(place).replace("18443", "443").replace("18444", "444") for place in found]


@pytest.mark.parametrize(
    ("http", "files", "places"),
    [
        pytest.param(
            "server { listen 443 ssl; server_name shop.example; {pair} }",
            {},
            ["shop.example at 127.0.0.1:443"],
            id="as written",
        ),
        pytest.param(
            "server { listen 443 ssl; listen [::]:443 ssl; server_name www.shop.example SHOP.example; {pair} }",
            {},
            [f"{name} at {host}:443" for host in ("127.0.0.1", "[::1]") for name in ("shop.example", "www.shop.example")],
            id="both families, two names",
        ),
        pytest.param(
            "server { listen 127.0.0.5:443 ssl; server_name shop.example; {pair} }",
            {},
            ["shop.example at 127.0.0.5:443"],
            id="an address of its own",
        ),
        pytest.param(
            "include sites/*.conf;",
            {
                "sites_shop": "server { listen 443 ssl; server_name shop.example; include snippets/tls.conf; }",
                "snippets_tls": "{pair}",
            },
            ["shop.example at 127.0.0.1:443"],
            id="a site that includes its certificate",
        ),
        pytest.param(
            "{pair} server { listen 443 ssl; server_name shop.example; }",
            {},
            ["shop.example at 127.0.0.1:443"],
            id="a certificate for all servers",
        ),
        pytest.param(
            "{pair} server { listen 443 ssl; server_name shop.example; {other} }",
            {},
            [],
            id="one for all, and another for this",
        ),
        pytest.param("server { listen 443 ssl; server_name shop.example; {other} }", {}, [], id="another certificate"),
        pytest.param(
            "server { listen \"443\" ssl; # it's { not a block; \n server_name 'shop.example'; "
            'add_header X "a; } \\" b"; if ($host = "${host}x") { return 404; } {pair} }',
            {},
            ["shop.example at 127.0.0.1:443"],
            id="quotes, comments and braces in words",
        ),
        pytest.param(
            "server { listen 443; server_name shop.example; {pair} } "
            "server { listen 443 ssl; server_name other.example; {other} }",
            {},
            ["shop.example at 127.0.0.1:443"],
            id="TLS by the word of another server",
        ),
        pytest.param("server { listen 443; server_name shop.example; {pair} }", {}, [], id="no TLS"),
        pytest.param(
            "server { listen 443 ssl; listen [::]:443 ssl; server_name shop.example; {pair} } "
            "server { listen 127.0.0.1:443 ssl; server_name shop.example; {other} } ",
            {},
            ["shop.example at [::1]:443"],
            id="all addresses beside that of this host, at which another server answers",
        ),
        pytest.param(
            "server { listen *:443 ssl; listen [::]:443 ssl; server_name shop.example; {pair} } "
            "server { listen 127.0.0.1:444 ssl; listen [0:0::1]:443; server_name other.example; {other} } ",
            {},
            ["shop.example at 127.0.0.1:443"],
            id="the same by IPv6, and at another port",
        ),
        pytest.param(
            "server { listen 443 ssl; listen 127.0.0.1:443 ssl; server_name shop.example; {pair} } "
            "server { listen 0.0.0.0:443 ssl default_server; server_name other.example; {other} } ",
            {},
            ["shop.example at 127.0.0.1:443"],
            id="both in the same server",
        ),
        pytest.param(
            "server { listen 443 ssl; server_name shop.example; {pair} } "
            "server { listen localhost:443; server_name other.example; } ",
            {},
            [],
            id="all addresses beside localhost",
        ),
        pytest.param(
            "server { listen 443 ssl proxy_protocol; listen unix:{live}/socket ssl; listen 444 ssl; "
            "server_name shop.example; {pair} }",
            {},
            ["shop.example at 127.0.0.1:444"],
            id="what wants the PROXY protocol first, and a socket in a file, are left out",
        ),
        pytest.param(
            "server { listen 18450-18451 ssl; listen 127.0.0.1:18452-18453 ssl; listen 444 ssl; "
            "server_name shop.example; {pair} }",
            {},
            ["shop.example at 127.0.0.1:444"],
            id="ranges of ports are left out",
        ),
        pytest.param(
            "server { listen 443 ssl; server_name _; {pair} }",
            {},
            ["shop.example at 127.0.0.1:443"],
            id="the default, by its place",
        ),
        pytest.param(
            "server { listen 443 ssl; server_name shop.example; {other} } server { listen 443 ssl default_server; {pair} }",
            {},
            ["www.shop.example at 127.0.0.1:443"],
            id="the default, by its word, for the name that no other server has",
        ),
        pytest.param(
            "server { listen 443 ssl; server_name *.example; {other} } server { listen 443 ssl default_server; {pair} }",
            {},
            [],
            id="the default beside patterns, of which nothing is certain",
        ),
        pytest.param(
            "server { listen 443 ssl; {other} } server { listen 443 ssl; server_name _; {pair} }",
            {},
            [],
            id="one that no name leads to",
        ),
        pytest.param(
            "server { listen 443 ssl; server_name shop.example; {other} } "
            "server { listen 444 ssl; server_name shop.example; {pair} }",
            {},
            ["shop.example at 127.0.0.1:444"],
            id="two ports, two certificates",
        ),
        pytest.param(
            "server { listen 443 ssl; server_name shop.example; {other} } "
            "server { listen 443 ssl; server_name shop.example www.shop.example; {pair} }",
            {},
            ["www.shop.example at 127.0.0.1:443"],
            id="a name that two servers have, which is the first one's",
        ),
    ],
)
def test_what_is_asked_for_where(tmp_path: Path, made: Deployment, http: str, files: dict[str, str], places: list[str]) -> None:
    assert asked(tmp_path, made, http, **files) == places


def test_a_certificate_that_was_copied_is_known_by_what_is_in_it(tmp_path: Path, made: Deployment) -> None:
    shutil.copytree(made.directory, tmp_path / "copy")
    pair = PAIR.replace("{live}/shop.example/current", str(tmp_path / "copy"))
    assert asked(tmp_path, made, f"server {{ listen 443 ssl; server_name shop.example; {pair} }}") == [
        "shop.example at 127.0.0.1:443"
    ]
    renewed = deployment(tmp_path / "live", NAME)
    assert asked(tmp_path, renewed, f"server {{ listen 443 ssl; server_name shop.example; {pair} }}") == []


def test_relative_paths_are_those_beside_the_configuration(tmp_path: Path, made: Deployment) -> None:
    pair = PAIR.replace("{live}", "live")
    (found,) = read(tmp_path, f"server {{ listen 443 ssl; server_name shop.example; {pair} }}")
    assert found.certificates == (f"{tmp_path}/live/shop.example/current/fullchain.pem",)


@pytest.mark.parametrize("mapped", [False, True], ids=["a server for each", "a map"])
def test_what_we_print_ourselves_is_understood(tmp_path: Path, made: Deployment, mapped: bool) -> None:
    sites = [Site(name, (name, f"www.{name}"), tmp_path / "live" / name / "current") for name in ("other.example", NAME)]
    text = configuration(sites, "127.0.0.1:8000", mapped=mapped).replace("listen 80;", "listen 18080;")
    assert asked(tmp_path, made, text.replace("listen [::]:80;", "")) == [
        f"{name} at {host}:443" for host in ("127.0.0.1", "[::1]") for name in (NAME, f"www.{NAME}")
    ]


@pytest.mark.parametrize(
    "dump",
    [
        pytest.param("", id="nothing"),
        pytest.param("# configuration file /x:\n}}} server { listen 443 ssl; ", id="braces that do not match"),
        pytest.param('# configuration file /x:\nhttp { server { listen "443 ssl; } }', id="a quote without its end"),
        pytest.param("# configuration file /x:\nhttp { include x; include /x; }", id="a file that includes itself"),
        pytest.param(
            "# configuration file /x:\ninclude x; include /y;\n# configuration file /y:\ninclude x; include y;",
            id="two files that include each other",
        ),
        pytest.param(
            "# configuration file /x:\nhttp { server { listen; server_name; ssl_certificate; } ; \\", id="words that miss"
        ),
        pytest.param("# configuration file /x:\n" + "{" * 5000, id="five thousand braces"),
    ],
)
def test_what_nginx_would_never_print_is_no_accident(dump: str) -> None:
    assert servers(dump) == []
