"""What servers run: Django's own application, with nothing around it."""

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
