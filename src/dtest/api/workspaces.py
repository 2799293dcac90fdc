"""Workspaces: ship the tree that tasks run in. `docs/workspaces.md` has the form of the bodies."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel

from dtest.api.context import Context
from dtest.errors import NotFound
from dtest.workspaces.manifest import DIGEST
from dtest.workspaces.pack import PACK_BYTES_MAX

router = APIRouter(prefix="/api/workspaces", tags=["workspaces"])

BYTES: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


class WorkspaceAnswer(BaseModel):
    """Whether the cell holds a tree."""

    digest: str
    """What `config.workspace` of a task says."""
    is_stored: bool
    missing: list[str] = []
    """Digests of the parts to send first."""


class PartsAnswer(BaseModel):
    """What was stored."""

    parts: int


@router.post("", summary="Store a tree whose parts are there", openapi_extra=BYTES)
async def place(request: Request, context: Context) -> WorkspaceAnswer:
    """Take an encoded manifest. Parts that are missing are named, and nothing is stored then."""
    placed = await context.shelf.place(await request.body())
    return WorkspaceAnswer(
        digest=placed.digest, is_stored=not placed.missing, missing=list(placed.missing)
    )


@router.post(
    "/parts",
    summary="Store parts of files",
    openapi_extra=BYTES,
    description=f"Takes a pack of at most {PACK_BYTES_MAX} bytes. Each digest is checked; "
    "what does not fit its digest refuses the whole pack.",
)
async def add(request: Request, context: Context) -> PartsAnswer:
    """Take a pack."""
    return PartsAnswer(parts=await context.shelf.add(await request.body()))


@router.get("/{digest}", summary="Whether a tree is stored")
async def show(context: Context, digest: str) -> WorkspaceAnswer:
    """Answer for a tree that need not be shipped; 404 for any other."""
    if not DIGEST.fullmatch(digest) or not await context.shelf.is_stored(digest):
        message = f"workspace {digest} is not stored, or not for long enough"
        raise NotFound(message, hint="ship it")
    return WorkspaceAnswer(digest=digest, is_stored=True)
