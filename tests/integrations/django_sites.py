"""The example site in a folder of its own: its commands, and its servers."""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from serving import HERE, PROJECT, get, gunicorn, uvicorn

PREFIX = "/.well-known/acme-challenge/"
SITE = PROJECT / "example_projects" / "django_site"
THUMBPRINT = "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
PATHS = [PROJECT, PROJECT / "integrations", SITE, HERE]


class Site:
    """
    A site whose database, certificates and query log are in ``folder``.

    Args:
        folder: An empty folder.
        settings: The settings module.
        variables: More environment, as the settings read it.
    """

    def __init__(self, folder, settings="django_walls", **variables):
        self.folder = Path(folder)
        self.query_log = self.folder / "queries"
        self.database = self.folder / "db.sqlite3"
        self.env = {
            "DJANGO_SETTINGS_MODULE": settings,
            "MYSITE_DATA": str(folder),
            "QUERIES": str(self.query_log),
            "PYTHONPATH": os.pathsep.join(map(str, PATHS)),
            **variables,
        }

    def manage(self, *arguments, check=True, **variables):
        """Run manage.py; returns its result, output as text."""
        return subprocess.run(
            [sys.executable, SITE / "manage.py", *map(str, arguments)],
            env={**os.environ, **self.env, **variables},
            cwd=self.folder,
            check=check,
            text=True,
            capture_output=True,
            timeout=120,
        )

    def in_python(self, code):
        """Run code in another process that has Django set up, as a command of the site is."""
        started = "import django; django.setup(); from acme_middleware.stores import open_challenges; "
        subprocess.run([sys.executable, "-c", started + code], env={**os.environ, **self.env}, check=True, timeout=60)

    def present(self, *tokens, store="django:"):
        """Present tokens from another process."""
        self.in_python(
            f"store = open_challenges({store!r}); "
            f"[store.present(token, token + '.{THUMBPRINT}', ttl=600) for token in {tokens!r}]"
        )

    def queries(self):
        """The SQL that the servers ran since this was asked last."""
        lines = self.query_log.read_text().splitlines() if self.query_log.exists() else []
        self.query_log.write_text("")
        return lines

    def look_ups(self):
        """The tokens' look-ups among these: a fetch that was answered before may still be about to be logged."""
        return [query for query in self.queries() if query.startswith("SELECT") and '"key_authorization"' in query]

    def wsgi(self, *options, application="mysite.wsgi:application"):
        return gunicorn(application, *options, env=self.env)

    def asgi(self, *options, application="mysite.asgi:application"):
        return uvicorn(application, *options, env=self.env)


SURFACES = {
    "gunicorn, 4 workers": lambda site: site.wsgi("-w", "4"),
    "gunicorn with threads": lambda site: site.wsgi("--threads", "4"),
    "uvicorn, 2 workers": lambda site: site.asgi("--workers", "2"),
    "WSGI application wrapped": lambda site: site.wsgi(application="django_wrapped:wsgi"),
    "ASGI application wrapped": lambda site: site.asgi(application="django_wrapped:asgi"),
}


@contextmanager
def walled(folder, surface, **variables):
    """A walled site with its database made, on one of the surfaces; yields the site and its server."""
    site = Site(folder, **variables)
    site.manage("migrate", "-v0")
    with SURFACES[surface](site) as server:
        get(server, "/healthz", host="www.example.com")
        site.queries()
        yield site, server
