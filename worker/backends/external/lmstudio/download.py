"""Have LM Studio fetch a model: `POST /api/v1/models/download`, then its job's status until it has ended.

LM Studio's API (0.4) can start downloads and tell how far they are, not stop them: who cancels stops waiting here,
and the download goes on there; asked again, it is found where it is.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from tasks.contract import JsonObject
from tasks.errors import BadRequestError, NotFoundError, WorkerError
from worker.backends.external.faults import faulty, message_of, trimmed
from worker.backends.external.product import Found, PullProgress
from worker.backends.external.upstream import Patience, asked, document

PATH = "/api/v1/models/download"
POLL_S = 1.0
MOST_MISSES = 30  # looks in a row without an answer
_HUB = "https://huggingface.co/"
_ENDED = frozenset({"completed", "already_downloaded"})


async def download(
    http: httpx.AsyncClient,
    found: Found,
    model: str,
    progress: PullProgress,
    patience: Patience,
    poll_s: float = POLL_S,
) -> None:
    """Returns when the model is there. Raises PendraError: `install_unsupported`, `model_not_found`,
    `download_failed`, `backend_…`."""
    progress("resolving", 0, None)
    status = await _status(http, found, "POST", PATH, patience, json=wanted(model))
    job, misses = status.get("job_id"), 0
    while not _ended(status, model, progress):
        if not isinstance(job, str) or not job:
            raise faulty(found, "began a download without saying its id")
        await asyncio.sleep(poll_s)
        try:
            status, misses = await _status(http, found, "GET", f"{PATH}/status/{job}", patience), 0
        except (WorkerError, NotFoundError):  # the app was restarted, or the machine slept
            misses += 1
            if misses > MOST_MISSES:
                raise


def wanted(model: str) -> JsonObject:
    """What to ask for. Pure.

    `model`: an id of LM Studio's catalogue (`openai/gpt-oss-20b`), or a repository of the hub as `hf://org/name` or
    its address; there `@Q4_K_M` at the end, or the name of a GGUF file, chooses the quantisation.
    """
    name, _, quantisation = model.partition("@")
    if name.startswith("hf://"):
        org, _, rest = name.removeprefix("hf://").partition("/")
        repository, _, file = rest.partition("/")
        name, quantisation = f"{_HUB}{org}/{repository}", quantisation if not file else _of_file(file)
    body: JsonObject = {"model": name}
    if quantisation and name.startswith(_HUB):
        body["quantization"] = quantisation
    elif quantisation:
        body["model"] = model  # catalogue ids have variants of the same form
    return body


def _of_file(file: str) -> str:
    """`…-Q4_K_M.gguf` → `Q4_K_M`."""
    stem = file.removesuffix(".gguf")
    return stem.replace(".", "-").rpartition("-")[2] if stem != file else ""


async def _status(
    http: httpx.AsyncClient, found: Found, method: str, path: str, patience: Patience, **request: Any
) -> JsonObject:
    try:
        async with asked(http, found, method, path, patience=patience, model="asked for", **request) as response:
            said = await document(response, found, patience)
    except NotFoundError as exc:
        raise NotFoundError(exc.message.partition("; ")[0], code="model_not_found") from exc
    if "status" in said:
        return said
    words = message_of(str(said.get("error", "")).encode())
    if "nexpected endpoint" in words:
        raise BadRequestError(
            "LM Studio downloads through its API from version 0.4 on; update it, or download the model in the app",
            code="install_unsupported",
        )
    raise faulty(found, f"did not say how the download is{f': {words}' if words else ''}")


def _ended(status: JsonObject, model: str, progress: PullProgress) -> bool:
    """Tell how far it is; whether the model is there. Raises WorkerError when it failed."""
    state = status.get("status")
    total, done = _bytes(status, "total_size_bytes"), _bytes(status, "downloaded_bytes") or 0
    if state in _ENDED:
        progress("done", total or done, total)
        return True
    if state == "failed":
        words = trimmed(str(status.get("error") or "it does not say why; its app may"))
        raise WorkerError(f"LM Studio could not download {model}: {words}", code="download_failed")
    progress("waiting" if state == "paused" else "downloading", done, total)
    return False


def _bytes(status: JsonObject, name: str) -> int | None:
    value = status.get(name)
    return int(value) if isinstance(value, int | float) and value > 0 else None
