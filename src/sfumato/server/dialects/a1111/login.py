"""Signing in by a form, as pages made with the web UI's toolkit do."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response

from sfumato.server.safety.sessions import TOO_OFTEN, WAIT, Sessions, address_of

router = APIRouter(tags=["a1111"])
Field = Annotated[str, Form(max_length=1024)]


@router.post("/login", response_class=JSONResponse)
async def login(http: Request, username: Field, password: Field) -> Response:
    """Sign in with a name and a password, or any name and the token: the reply sets a cookie."""
    sessions: Sessions = http.app.state.sessions
    if sessions.everybody:
        return RedirectResponse("/", 302)
    address = address_of(http.scope)
    if sessions.tried_too_often(address):
        raise HTTPException(429, TOO_OFTEN, WAIT)
    user = await sessions.user(f"{username}:{password}", address)
    if user is None:
        raise HTTPException(400, "Incorrect credentials.")
    reply = JSONResponse({"success": True})
    sessions.set_cookie(reply, user)
    return reply
