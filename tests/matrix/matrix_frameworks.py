"""
The table of frameworks: each app is walled as hard as its framework allows (apps/), and stands behind our one line.

The line of a framework that has no page of its own is read from docs/frameworks/others.md: what is tested is what is shown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
OTHERS = PROJECT / "docs" / "frameworks" / "others.md"
SHOWN_STORE = '"file:///var/lib/acme-middleware"'


@dataclass(frozen=True)
class Framework:
    """
    A row of the table.

    Args:
        id: Its name in ids of tests.
        kind: ``wsgi``, ``asgi``, ``tornado`` or ``aiohttp``: which servers can run it.
        code: The module that a server imports: where the walled app comes from, then the one line.
        base: What stands before every path.
        application: What servers run: a name in the module, or of another module.
        page: Its page in docs/frameworks, where it has one, and the words of the one line that must stand there.
        own_store: Whether the code names no store, since it has a default: the site's database in Django.
        env: More environment.
    """

    id: str
    kind: str
    code: str
    base: str = ""
    application: str = "application"
    page: tuple[str, ...] = ()
    own_store: bool = False
    env: dict[str, str] = field(default_factory=dict)

    @property
    def module(self) -> str:
        return "site_" + re.sub(r"\W+", "_", self.id.lower())

    @property
    def target(self) -> str:
        return self.application if ":" in self.application else f"{self.module}:{self.application}"

    def write(self, folder: Path, store: str, *, everywhere: bool = False) -> None:
        """
        Write the module.

        Args:
            folder: Where servers find it.
            store: A Python expression, in place of the store that the page names.
            everywhere: Whether it also takes the place of a default.
        """
        assert self.code.count(SHOWN_STORE) == int(not self.own_store)
        code = self.code.replace(SHOWN_STORE, store)
        if self.own_store and everywhere:
            code += f"ACME_CHALLENGE_STORE = {store}\n"
        (folder / f"{self.module}.py").write_text(code)


def shown(heading: str) -> str:
    """The Python code that others.md shows under a heading."""
    sections = re.split(r"^## ", OTHERS.read_text(), flags=re.MULTILINE)
    (section,) = (text for text in sections if text.startswith(f"{heading}\n"))
    (code,) = re.findall(r"^```python\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)
    return code


def other(id: str, kind: str, app: str, **more) -> Framework:
    """A framework of others.md. ``app`` is the import that makes the walled app available as ``app``."""
    return Framework(id, kind, f"{app}\n\n{shown(id)}", **more)


PLAIN_WSGI = """\
from acme_middleware.wsgi import AcmeMiddleware
from walled_plain import wsgi

application = AcmeMiddleware(wsgi, store="file:///var/lib/acme-middleware")
"""

PLAIN_ASGI = """\
from acme_middleware.asgi import AcmeMiddleware
from walled_plain import asgi

application = AcmeMiddleware(asgi, store="file:///var/lib/acme-middleware")
"""

# The module is the settings.
DJANGO = """\
from walled_django import *
from walled_django import INSTALLED_APPS, MIDDLEWARE

INSTALLED_APPS += ["django_acme_middleware"]
MIDDLEWARE = ["django_acme_middleware.middleware.AcmeMiddleware", *MIDDLEWARE]
"""

FLASK = """\
from flask_acme_middleware import Acme
from walled_flask import app

app.config["ACME_CHALLENGE_STORE"] = "file:///var/lib/acme-middleware"
Acme(app)
"""

STARLETTE = """\
from starlette_acme_middleware import AcmeMiddleware
from walled_{name} import app

app.add_middleware(AcmeMiddleware, store="file:///var/lib/acme-middleware")
"""

TORNADO = """\
from tornado_acme_middleware import AcmeRouter
from walled_tornado import app

application = AcmeRouter(app, store="file:///var/lib/acme-middleware")
"""

AIOHTTP = """\
from aiohttp import web
from aiohttp_acme_middleware import acme_middleware
from walled_aiohttp import page, wall

app = web.Application(middlewares=[acme_middleware("file:///var/lib/acme-middleware"), wall])
app.router.add_route("*", r"/{rest:[\\s\\S]*}", page)
"""

ANY_APP = "from walled_plain import {kind} as app"
DJANGO_PAGE = (
    "django.md",
    'INSTALLED_APPS += ["django_acme_middleware"]',
    'MIDDLEWARE = ["django_acme_middleware.middleware.AcmeMiddleware", *MIDDLEWARE]',
)
SITE = {"own_store": True, "env": {"DJANGO_SETTINGS_MODULE": "site_django_wsgi"}}
WRAPPED = {"DJANGO_SETTINGS_MODULE": "walled_django"}

MAIN = [
    Framework("plain WSGI", "wsgi", PLAIN_WSGI),
    Framework("Django, WSGI", "wsgi", DJANGO, application="django_wsgi:application", page=DJANGO_PAGE, **SITE),
    Framework("Flask", "wsgi", FLASK, application="app", page=("flask.md", "Acme(app)")),
    Framework("plain ASGI", "asgi", PLAIN_ASGI),
    Framework("Django, ASGI", "asgi", DJANGO, application="django_asgi:application", page=DJANGO_PAGE, **SITE),
    Framework(
        "Starlette",
        "asgi",
        STARLETTE.format(name="starlette"),
        application="app",
        page=("starlette.md", "app.add_middleware(AcmeMiddleware, store="),
    ),
    Framework(
        "FastAPI",
        "asgi",
        STARLETTE.format(name="fastapi"),
        application="app",
        page=("fastapi.md", f"app.add_middleware(AcmeMiddleware, store={SHOWN_STORE})"),
    ),
    Framework("Tornado", "tornado", TORNADO, page=("tornado.md", f"AcmeRouter(app, store={SHOWN_STORE})")),
    Framework(
        "aiohttp",
        "aiohttp",
        AIOHTTP,
        application="app",
        page=("aiohttp.md", f"web.Application(middlewares=[acme_middleware({SHOWN_STORE}), "),
    ),
]

OTHER = [
    other("Bottle", "wsgi", "from walled_bottle import app"),
    other("Pyramid", "wsgi", "from walled_pyramid import app"),
    other("Falcon", "wsgi", "from walled_falcon import wsgi as app"),
    other("An app under SCRIPT_NAME", "wsgi", ANY_APP.format(kind="wsgi"), base="/site"),
    other("Django, wrapped in wsgi.py", "wsgi", "", env=WRAPPED),
    other("Django, wrapped in asgi.py", "asgi", "", env=WRAPPED),
    other("Falcon, ASGI", "asgi", "from walled_falcon import asgi as app"),
    other("Quart", "asgi", "from walled_quart import app", application="app"),
    other("Litestar", "asgi", "from walled_litestar import app"),
    other("Sanic", "asgi", "from walled_sanic import app"),
    other("A Starlette Mount", "asgi", ANY_APP.format(kind="asgi"), base="/site"),
    other("An app under --root-path", "asgi", ANY_APP.format(kind="asgi")),
]

FRAMEWORKS = {framework.id: framework for framework in [*MAIN, *OTHER]}
