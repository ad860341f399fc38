"""The console's page and its files, as they lie in `static`. Public: all they show comes from the API, with a key."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from ops.controlplane.secure import CONSOLE

FILES = Path(__file__).parent / "static"

for kind, ending in (("text/javascript", ".js"), ("text/css", ".css"), ("image/svg+xml", ".svg")):
    mimetypes.add_type(kind, ending)  # what the system says about these may be wrong, and we send `nosniff`


class _Files(StaticFiles):
    def file_response(self, *args: object, **options: object) -> Response:
        """Kept by the browser, but asked for each time: an upgrade shows at once."""
        response = super().file_response(*args, **options)  # type: ignore[arg-type]  # passed through as it came
        response.headers["cache-control"] = "no-cache"
        return response


def console_routes() -> list[BaseRoute]:
    return [
        Route("/", _to_console),
        Route(CONSOLE, _to_console),
        Mount(CONSOLE, _Files(directory=FILES, html=True), name="console"),
    ]


async def _to_console(_request: Request) -> Response:
    return RedirectResponse(f"{CONSOLE}/")
