"""FastAPI: the walls of Starlette, added one by one, and a dependency that wants a login."""

from __future__ import annotations

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import PlainTextResponse
from walled_starlette import METHODS, WALLS, needs_login


async def login(request: Request):
    if needs_login(request):
        raise HTTPException(302, headers={"Location": "/login"})


app = FastAPI(dependencies=[Depends(login)])
for wall in reversed(WALLS):
    app.add_middleware(wall.cls, **wall.kwargs)


@app.api_route("/{rest:path}", methods=METHODS, operation_id="page")
async def page(request: Request):
    return PlainTextResponse(f"app: {request.method}")
