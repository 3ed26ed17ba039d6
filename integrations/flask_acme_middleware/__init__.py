"""
Flask's side of acme-middleware: the extension, and its commands.

    acme = Acme()


    def create_app():
        app = Flask(__name__)
        acme.init_app(app)
        return app

then ``flask acme issue example.com``.
"""

from acme_middleware._extras import extra

with extra("flask", "flask", "werkzeug"):
    from flask_acme_middleware.extension import Acme

__all__ = ["Acme"]
