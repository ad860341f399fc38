"""`GET /openapi.json`: the description of this API (OpenAPI 3.1), public. Made by `openapi_build`, kept as a file."""

from __future__ import annotations

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

PATH = "/openapi.json"
FILE = "openapi.json"


def openapi_routes() -> list[Route]:
    """Reads the file once, here."""
    document = files(__package__ or "").joinpath(FILE).read_bytes()

    async def show(_request: Request) -> Response:
        return Response(document, media_type="application/json")

    return [Route(PATH, show)]
