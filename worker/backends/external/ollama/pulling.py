"""Have Ollama fetch a model (`POST /api/pull`) or remove one (`DELETE /api/delete`).

Ollama goes on where an earlier pull stopped, so a pull that breaks off is simply asked for again. Cancelling the task
closes the request, and Ollama stops with it; what has come stays for the next pull.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field

import httpx

from tasks.contract import JsonObject
from tasks.errors import NotFoundError, PendraError, WorkerError
from worker.backends.external.faults import FAULTY, UNAVAILABLE, faulty, trimmed
from worker.backends.external.ollama.chat import objects
from worker.backends.external.product import Found, PullProgress
from worker.backends.external.upstream import Patience, asked

_STAGES = {"pulling manifest": "resolving", "verifying": "verifying", "writing": "verifying", "removing": "verifying"}
_UNKNOWN = ("file does not exist", "not found", "pull model manifest: 404")


@dataclass
class Tally:
    """How far a pull is: the bytes of all layers seen so far. A layer's counts only rise."""

    done: dict[str, int] = field(default_factory=dict)
    total: dict[str, int] = field(default_factory=dict)
    stage: str = "resolving"

    def take(self, line: JsonObject) -> tuple[str, int, int | None]:
        """The stage, the bytes that have come and those that will have, as far as is known."""
        digest, status = line.get("digest"), str(line.get("status", ""))
        if isinstance(digest, str) and digest:
            self.stage = "downloading"
            self.done[digest] = max(self.done.get(digest, 0), _bytes(line, "completed"))
            self.total[digest] = max(self.total.get(digest, 0), _bytes(line, "total"))
        else:
            self.stage = next((stage for begin, stage in _STAGES.items() if status.startswith(begin)), self.stage)
        return self.stage, sum(self.done.values()), sum(self.total.values()) or None


async def pull(http: httpx.AsyncClient, found: Found, model: str, progress: PullProgress, patience: Patience) -> None:
    """Returns when the model is there. Raises PendraError: `model_not_found`, `download_failed`, `backend_…`."""
    tally = Tally()
    for pause in (*patience.pauses_s, None):
        before = sum(tally.done.values())
        try:
            await _pulled(http, found, model, progress, patience, tally)
        except WorkerError as error:
            moved = sum(tally.done.values()) > before
            if pause is None or error.code not in (FAULTY, UNAVAILABLE) or not moved:
                raise
            await asyncio.sleep(pause)
        else:
            return


async def _pulled(
    http: httpx.AsyncClient, found: Found, model: str, progress: PullProgress, patience: Patience, tally: Tally
) -> None:
    """One request. Raises PendraError unless the server said that all is well."""
    body = {"model": model, "stream": True}
    async with (
        asked(http, found, "POST", "/api/pull", patience=patience, model=model, json=body) as response,
        aclosing(objects(response, found, patience)) as said,
    ):
        async for line in said:
            if "error" in line:
                raise _failed(model, str(line["error"]))
            progress(*tally.take(line))
            if line.get("status") == "success":
                return
    raise faulty(found, "ended the download before it was complete")


def _failed(model: str, words: str) -> PendraError:
    if any(part in words for part in _UNKNOWN):
        return NotFoundError(f"Ollama's library has no model {model}: {trimmed(words)}", code="model_not_found")
    return WorkerError(f"Ollama could not fetch {model}: {trimmed(words)}", code="download_failed")


async def delete(http: httpx.AsyncClient, found: Found, model: str, patience: Patience) -> None:
    """Raises PendraError: `model_not_installed`, `backend_…`."""
    try:
        async with asked(http, found, "DELETE", "/api/delete", patience=patience, model=model, json={"model": model}):
            return
    except NotFoundError as exc:
        raise NotFoundError(f"Ollama has no model {model}", code="model_not_installed") from exc


def _bytes(line: JsonObject, name: str) -> int:
    value = line.get(name)
    return value if isinstance(value, int) and value > 0 else 0
