"""Flask apps in instance folders of their own: their commands, and their servers. And what our pages say to type."""

import os
import subprocess
import sys
from pathlib import Path

from page_steps import Folder
from serving import HERE, PROJECT, gunicorn, raw_request, serve

from acme_middleware.stores import open_challenges

PREFIX = "/.well-known/acme-challenge/"
TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
ANSWER = f"{TOKEN}.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
FLASK = str(Path(sys.executable).with_name("flask"))
PATHS = os.pathsep.join(
    filter(None, [str(PROJECT), str(PROJECT / "integrations"), str(HERE), os.environ.get("PYTHONPATH", "")])
)


class Site:
    """
    One of the apps of flask_apps.py.

    Args:
        folder: Its instance folder.
        app: The function that makes it.
        config: Keys of its config; values as they stand in variables FLASK_...
    """

    def __init__(self, folder, app="open_to_all", **config):
        self.folder, self.app = Path(folder), f"flask_apps:{app}()"
        self.env = {"INSTANCE": str(folder), **{f"FLASK_{key}": value for key, value in config.items()}}

    def flask(self, *arguments, app=None, **variables):
        """Run a command of ``flask`` to its end; its output is text."""
        return subprocess.run(
            [FLASK, "--app", app or self.app, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": PATHS, **self.env, **variables},
            cwd=self.folder,
            text=True,
            capture_output=True,
            timeout=120,
            check=False,
        )

    def acme(self, *arguments, **more):
        return self.flask("acme", *arguments, **more)

    def present(self, token=TOKEN, answer=ANSWER, *, folder="acme"):
        open_challenges(self.folder / folder).present(token, answer, ttl=3600)

    def requests(self):
        """What got past us to the app since this was asked last."""
        log = self.folder / "requests"
        lines = log.read_text().splitlines() if log.exists() else []
        log.write_text("")
        return lines

    def gunicorn(self, *options):
        return gunicorn(self.app, *options, env=self.env)

    def flask_run(self, *options):
        command = [FLASK, "--app", self.app, *options, "run", "--port", "{port}"]
        return serve(command, env=self.env, inherit=False)


SERVERS = {
    "gunicorn, 4 workers": lambda site: site.gunicorn("-w", "4"),
    "gunicorn, threads, preloaded": lambda site: site.gunicorn("--threads", "4", "--preload"),
    "flask run": lambda site: site.flask_run(),
    "flask run with debugger and reloader": lambda site: site.flask_run("--debug"),
}


class TypedIn(Folder):
    """A folder in which the commands of a page about Flask are typed, with ports and state of its own."""

    def __init__(self, path):
        super().__init__(path)
        self.env = {name: value for name, value in self.env.items() if not name.startswith("FLASK_")}
        self.env["PYTHONPATH"] = PATHS

    def here(self, text):
        written = {
            "flask acme ca": f"flask acme ca --port {self.ca_port} --state ca --resolve '*=127.0.0.1:{self.port}'",
            "~/.local/state/acme-middleware/local-ca": "ca",
            "--ca local": self.ca,
        }
        for said, meant in written.items():
            text = text.replace(said, meant)
        return super().here(text)

    def log_in(self, password):
        """Send the form of the example's login page."""
        form = f"password={password}"
        head = "POST /login HTTP/1.1\r\nHost: example.com\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n"
        kind = f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(form)}\r\n\r\n"
        return raw_request(self.port, (head + kind + form).encode())

    @property
    def ca(self):
        """What ``--ca local`` stands for where the CA has another port: its root, and no self-check by the public name."""
        return f"--ca https://localhost:{self.ca_port}/directory --ca-bundle ca/root.pem --self-check skip"
