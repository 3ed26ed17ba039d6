"""
The table of servers: the command line of each, which docs/servers.md shows, and what each refuses by itself.
"""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from serving import Server, serve

APPS = Path(__file__).resolve().parent / "apps"


@dataclass(frozen=True)
class Kind:
    """
    A row of the table.

    Args:
        id: Its name in ids of tests.
        runs: Which apps: ``wsgi``, ``asgi``, ``tornado`` or ``aiohttp``.
        shown: Its command line in the docs; ``APP`` stands for the app.
        listen: What is added to it here: where it listens, ``{fd}`` or ``{port}``, and how much it writes to its log.
        nginx: Whether the requests come through nginx.
        refuses: The rows of requests that it answers with a 4xx of its own, or by closing: the app is not asked.
        only: The one framework that it is for.
        env: More environment.
        sparingly: Not for every framework.
    """

    id: str
    runs: str
    shown: str
    listen: str
    nginx: bool = False
    refuses: frozenset[str] = frozenset()
    only: str = ""
    sparingly: bool = False
    env: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def run(self, target: str, env: dict[str, str], *, address: str = "127.0.0.1") -> Iterator[list[Server]]:
        """Run it for the length of a with block. Yields its servers; clients connect to the first."""
        program, *options = shlex.split(self.shown)
        place = len(options) - 1 if options[-1].endswith("APP") else len(options)
        options[place:place] = shlex.split(self.listen)
        options = [option.replace("APP", target) for option in options]
        command = [sys.executable, *MODULES[program], *options]
        with ExitStack() as stack:
            inherit = "{fd}" in self.listen
            servers = [stack.enter_context(serve(command, env={**env, **self.env}, address=address, inherit=inherit))]
            if self.nginx:
                servers.insert(0, stack.enter_context(_nginx(servers[0].port)))
            yield servers


MODULES = {
    **{name: ("-m", name) for name in ("gunicorn", "uvicorn", "hypercorn", "granian", "daphne", "flask")},
    "waitress-serve": ("-m", "waitress"),
    "manage.py": ("-m", "django"),
    "tornado_server.py": (str(APPS / "run_tornado.py"),),
    "aiohttp_server.py": (str(APPS / "run_aiohttp.py"),),
}

NGINX = """\
daemon off;
worker_processes 2;
error_log stderr;
pid FOLDER/nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path FOLDER/1; proxy_temp_path FOLDER/2; fastcgi_temp_path FOLDER/3;
    uwsgi_temp_path FOLDER/4; scgi_temp_path FOLDER/5;
    server {{
        listen 127.0.0.1:{{port}} backlog=1024;
        location / {{
            proxy_pass http://127.0.0.1:{backend};
            proxy_set_header Host $host;
        }}
    }}
}}
"""


@contextmanager
def _nginx(backend: int) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        # The port is known when serve() has reserved it: the shell writes it into the configuration.
        configuration = NGINX.replace("FOLDER", folder).format(backend=backend).replace("{port}", "$1")
        script = f"cat >{folder}/conf <<END\n{configuration.replace('$host', '$2')}\nEND\nexec nginx -e stderr -c {folder}/conf"
        script = script.replace("{", "{{").replace("}", "}}")
        with serve(["sh", "-c", script, "sh", "{port}", "$host"], inherit=False) as server:
            yield server


GUNICORN = "--bind fd://{fd} --no-control-socket"

LONG = frozenset({"a token of 10 kB is the app's"})
SMALL_LETTERS = frozenset({"get in small letters ends in a defined answer"})
NGINX_REFUSES = (
    LONG
    | SMALL_LETTERS
    | {
        "a token is answered with an empty Host",
        "a token is answered with a Host that is no name",
        "a raw way up is the app's",
        "a NUL behind the token makes it the app's",
        "half an escape is the app's",
    }
)

SERVERS = [
    Kind("gunicorn sync", "wsgi", "gunicorn -w 4 APP", GUNICORN, refuses=LONG | SMALL_LETTERS),
    Kind("gunicorn gthread", "wsgi", "gunicorn -w 4 --threads 4 APP", GUNICORN, refuses=LONG | SMALL_LETTERS),
    Kind(
        "waitress",
        "wsgi",
        "waitress-serve --trusted-proxy=127.0.0.1 --trusted-proxy-headers=x-forwarded-proto APP",
        "--port={port}",
        refuses=SMALL_LETTERS,
    ),
    Kind("granian, WSGI", "wsgi", "granian --interface wsgi --workers 2 APP", "--port {port}"),
    Kind("hypercorn, WSGI", "wsgi", "hypercorn --workers 2 wsgi:APP", "--bind fd://{fd}"),
    Kind("nginx, gunicorn", "wsgi", "gunicorn -w 2 APP", GUNICORN, nginx=True, refuses=NGINX_REFUSES),
    Kind("flask run", "wsgi", "flask --app APP run", "--port {port}", only="Flask"),
    Kind("manage.py runserver", "wsgi", "manage.py runserver", "--noreload {port}", only="Django, WSGI"),
    Kind(
        "manage.py runserver, daphne",
        "asgi",
        "manage.py runserver",
        "--noreload {port}",
        only="Django, ASGI",
        env={"WALLED_DAPHNE": "1"},
    ),
    Kind("uvicorn", "asgi", "uvicorn --workers 2 APP", "--fd {fd}", refuses=SMALL_LETTERS),
    Kind("uvicorn --root-path", "asgi", "uvicorn --root-path /api APP", "--fd {fd}", refuses=SMALL_LETTERS),
    Kind("gunicorn, ASGI", "asgi", "gunicorn -w 2 -k asgi APP", GUNICORN, refuses=LONG | SMALL_LETTERS),
    Kind("hypercorn", "asgi", "hypercorn --workers 2 APP", "--bind fd://{fd}"),
    Kind("hypercorn --root-path", "asgi", "hypercorn --root-path /api APP", "--bind fd://{fd}", sparingly=True),
    Kind("granian", "asgi", "granian --interface asgi --workers 2 APP", "--port {port}"),
    Kind("daphne", "asgi", "daphne APP", "--fd {fd}"),
    Kind("nginx, uvicorn", "asgi", "uvicorn --workers 2 APP", "--fd {fd}", nginx=True, refuses=NGINX_REFUSES),
    Kind("Tornado, 2 processes", "tornado", "tornado_server.py APP", "{fd}"),
    Kind("nginx, Tornado", "tornado", "tornado_server.py APP", "{fd}", nginx=True, refuses=NGINX_REFUSES),
    Kind("aiohttp", "aiohttp", "aiohttp_server.py APP", "{fd}", refuses=LONG | SMALL_LETTERS),
]
