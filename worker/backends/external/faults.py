"""What goes wrong with external servers, as our errors: product, status and the server's own message. Pure.

A server's message goes to the person who made the request and nowhere else: never log one of these errors' messages.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tasks.errors import BadRequestError, NotFoundError, PendraError, WorkerError
from worker.backends.external.product import Found, ProductName

UNAVAILABLE = "backend_unavailable"
MODEL_GONE = "model_not_found"
FAULTY = "backend_error"

LABELS = {
    ProductName.OLLAMA: "Ollama",
    ProductName.VLLM: "vLLM",
    ProductName.LMSTUDIO: "LM Studio",
    ProductName.SPEACHES: "Speaches",
}

MOST_WORDS = 300
_REQUESTS_FAULT = frozenset({400, 405, 413, 415, 422})
_BUSY = frozenset({429, 502, 503, 504})
_REFUSES_US = frozenset({401, 403})
_NOT_FOUND = 404
# From here on a message shows a stack, or quotes the request (validators append it as `input`).
_TRACE = re.compile(
    r"\s*(Traceback \(most recent|goroutine \d+ \[|\n\s+at |\n\s*File \"|,?\s*['\"]?input(?:_value)?['\"]?\s*[:=])",
    re.IGNORECASE,
)
_TOO_LONG = re.compile(r"(maximum|available) context (length|size)|exceeds? .{0,40}context", re.IGNORECASE)


def unavailable(found: Found, why: str) -> WorkerError:
    """Nothing was said yet, and another server may well answer."""
    return WorkerError(f"{LABELS[found.product]} {why}", code=UNAVAILABLE)


def faulty(found: Found, why: str) -> WorkerError:
    """The server failed in a way that is its own."""
    return WorkerError(f"{LABELS[found.product]} {why}", code=FAULTY)


def refused(found: Found, status: int, body: bytes, model: str = "") -> PendraError:
    """A reply with an error status. `model`: whose absence a 404 means."""
    label = LABELS[found.product]
    words = message_of(body)
    said = f"{label} answered HTTP {status}{f': {words}' if words else ''}"
    if status in _REQUESTS_FAULT:
        return BadRequestError(said, code="context_length_exceeded" if _TOO_LONG.search(words) else None)
    if status == _NOT_FOUND and model:
        return NotFoundError(f"{said}; {label} does not have the model {model} (any more)", code=MODEL_GONE)
    if status in _REFUSES_US:
        return WorkerError(f"{said}; if it wants an API key: {found.product.upper()}_API_KEY", code=FAULTY)
    return WorkerError(said, code=UNAVAILABLE if status in _BUSY else FAULTY)


def message_of(body: bytes) -> str:
    """The server's own words in the body of an error: one line, no stack trace, no HTML; "" when there are none."""
    text = body.decode(errors="replace").strip()
    try:
        text = _worded(json.loads(text))
    except ValueError:
        if text.startswith("<"):
            return ""
    return trimmed(text)


def trimmed(text: str) -> str:
    """One line of at most MOST_WORDS characters, cut where a stack trace or the quoted request begins."""
    cut = _TRACE.split(text, maxsplit=1)[0]
    line = " ".join(cut.split())
    return line if len(line) <= MOST_WORDS else line[: MOST_WORDS - 1] + "…"


def _worded(value: Any) -> str:
    """The shapes in use: {"error": text}, {"error": {"message"}}, {"message"}, {"detail": text or FastAPI's list}."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return _worded(value[0]) if value else ""
    if not isinstance(value, dict):
        return ""
    if isinstance(value.get("msg"), str):
        where = ".".join(str(part) for part in value.get("loc", ()) if part != "body")
        return f"{where}: {value['msg']}" if where else value["msg"]
    for name in ("error", "message", "detail"):
        words = _worded(value.get(name))
        if words:
            return words
    return ""
