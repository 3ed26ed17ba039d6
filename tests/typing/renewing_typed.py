"""Renewal inside of a server, and the plain function, as the page about renewal has them."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import assert_type

from aiohttp import web
from aiohttp_acme_middleware.renewal import renewing as renewing_aiohttp
from django.core.asgi import get_asgi_application
from django_acme_middleware import gunicorn as django_gunicorn
from django_acme_middleware.renewal import renewing as renewing_django
from fastapi import FastAPI
from flask import Flask
from flask_acme_middleware.renewal import renewer as flask_renewer
from starlette.applications import Starlette
from starlette_acme_middleware.renewal import renewing
from tornado_acme_middleware.renewal import Renewal

from acme_middleware import gunicorn
from acme_middleware.asgi_renewal import RenewingApp
from acme_middleware.issuance.sweep import Result
from acme_middleware.options import Options
from acme_middleware.renewer import Renewer
from acme_middleware.renewing import renew

STORE = "file:///var/lib/acme-middleware"


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncGenerator[dict[str, int], None]:
    yield {"answer": 42}


Starlette(lifespan=renewing(lifespan, store=STORE))
FastAPI(lifespan=renewing(store=STORE, email="ops@example.com", agree_tos=True))
assert_type(renewing_django(get_asgi_application(), every=3600.0), RenewingApp)
RenewingApp(Starlette(), store=STORE)
web.Application().cleanup_ctx.append(renewing_aiohttp(store=STORE))

post_worker_init, worker_exit = gunicorn.hooks(store=STORE)
post_worker_init, worker_exit = django_gunicorn.hooks(jobs=2)

with Renewal(store=STORE) as in_tornado:
    assert_type(in_tornado, Renewal)
with flask_renewer(Flask(__name__), every=3600.0) as renewer:
    assert_type(renewer, Renewer)
    assert_type(renewer.running, bool)
Renewer(Options(store=STORE), first=10.0)
Renewer(STORE)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Renewer(every="daily")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

for result in renew(store=STORE, names=["example.com"]):
    assert_type(result, Result)
    assert_type(result.action, str)
renew(names=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
