"""Headers that every reply carries, so that a browser does nothing with it that was not meant. ASGI."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONSOLE = "/console"
_NOTHING = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_OWN_FILES = (  # no inline script or style, nobody else's files, talks to this API only
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"  # no text ever becomes HTML or a script
)
_ALWAYS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "cache-control": "no-store",
}
_TLS_ONLY = {"strict-transport-security": "max-age=31536000"}


def headers_for(scope: Scope) -> dict[str, str]:
    """What a reply to this request carries unless it says something else itself."""
    path = str(scope.get("path", ""))
    own = path == CONSOLE or path.startswith(f"{CONSOLE}/")
    policy = {"content-security-policy": _OWN_FILES if own else _NOTHING}
    return _ALWAYS | policy | (_TLS_ONLY if scope.get("scheme") == "https" else {})


class SecureHeaders:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        extra = headers_for(scope)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = _joined(message.get("headers", ()), extra)
            await send(message)

        await self._app(scope, receive, with_headers)


def _joined(said: list[tuple[bytes, bytes]], extra: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    names = {name.lower() for name, _ in said}
    ours = ((name.encode(), value.encode()) for name, value in extra.items())
    return [*said, *((name, value) for name, value in ours if name not in names)]
