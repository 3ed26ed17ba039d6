"""A Flask app that gets its own certificate, although it redirects to HTTPS, checks the host and asks for a login."""

from __future__ import annotations

import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path

from flask import Blueprint, Flask, abort, current_app, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_acme_middleware import Acme
from flask_talisman import Talisman

acme = Acme()
pages = Blueprint("pages", __name__)

WITHOUT_LOGIN = {"pages.login", "pages.healthz", "static"}


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.from_mapping(TRUSTED_HOSTS=["example.com", "www.example.com"], PASSWORD="")
    # FLASK_PASSWORD=... sets PASSWORD, FLASK_ACME_EMAIL=... sets ACME_EMAIL: this app's own choice.
    app.config.from_prefixed_env()
    app.secret_key = app.secret_key or _secret_key(Path(app.instance_path))
    Talisman(app)  # redirects to HTTPS
    app.before_request(require_login)
    app.register_blueprint(pages)
    acme.init_app(app)  # last, so that it is outermost: before all of these
    return app


def require_login() -> ResponseReturnValue | None:
    """Everything is behind the login but what is listed above; the pages that do not exist, too."""
    if request.endpoint in WITHOUT_LOGIN or session.get("logged_in"):
        return None
    return redirect(url_for("pages.login"))


@pages.get("/")
def home() -> str:
    return render_template("home.html")


@pages.route("/login", methods=["GET", "POST"])
def login() -> ResponseReturnValue:
    if request.method == "GET":
        return render_template("login.html")
    password = current_app.config["PASSWORD"]
    if not password or not hmac.compare_digest(request.form.get("password", "").encode(), str(password).encode()):
        abort(403)
    session["logged_in"] = True
    return redirect(url_for("pages.home"))


@pages.get("/healthz")
def healthz() -> ResponseReturnValue:
    return "ok\n", {"Content-Type": "text/plain"}


def _secret_key(folder: Path) -> str:
    """What signs the sessions: made at the first start. Several workers may start at once: all get the key of the first."""
    path = folder / "secret-key"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f"secret-key-{os.getpid()}"
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(50))
        with suppress(FileExistsError):  # another worker was first
            os.link(draft, path)
        draft.unlink()
    return path.read_text()
