"""Addresses of the web UI that are not offered, each with what to do instead."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException

router = APIRouter(prefix="/sdapi/v1", tags=["a1111"])
TRAIN = "nothing is trained over this API; use `sfumato train`"
STOP = "clients do not stop this server; whoever started it does"


@router.post("/create/embedding")
@router.post("/create/hypernetwork")
@router.post("/train/embedding")
@router.post("/train/hypernetwork")
async def train() -> None:
    """Refuse (403): this API trains nothing."""
    raise HTTPException(403, TRAIN)


@router.post("/server-kill")
@router.post("/server-restart")
@router.post("/server-stop")
async def stop() -> None:
    """Refuse (403): clients cannot stop the server."""
    raise HTTPException(403, STOP)
