"""What servers run: Django's own application, with nothing around it."""

from django.core.asgi import get_asgi_application

application = get_asgi_application()
