"""
A small API behind a TLS proxy: it redirects to HTTPS, checks the host, asks for a password, and the CA still gets its answer.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette_acme_middleware import AcmeMiddleware

PASSWORD = os.environ.get("APP_PASSWORD", "")
"""Everybody's. Without one nobody gets in."""


def signed_in(given: Annotated[HTTPBasicCredentials, Depends(HTTPBasic())]) -> str:
    """The user's name, once the password is right."""
    if not PASSWORD or not secrets.compare_digest(given.password.encode(), PASSWORD.encode()):
        raise HTTPException(401, "wrong password", {"WWW-Authenticate": "Basic"})
    return given.username


app = FastAPI(title="An API with a certificate of its own")
app.add_middleware(TrustedHostMiddleware, allowed_hosts=["example.com", "www.example.com"])
app.add_middleware(HTTPSRedirectMiddleware)
app.add_middleware(AcmeMiddleware, store=Path(__file__).parent / "state")  # the last one added is the outermost


@app.get("/")
async def home(user: Annotated[str, Depends(signed_in)]) -> dict[str, str]:
    """For those who have signed in."""
    return {"hello": user}


@app.get("/healthz")
async def healthz() -> dict[str, int]:
    """For the proxy: the worker that answered."""
    return {"worker": os.getpid()}
