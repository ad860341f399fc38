"""One image job at Ollama: `POST /api/generate` of an image model, one request an image.

Fields as in ollama/ollama v0.32.5 (api/types.go, server/routes.go handleImageGenerate): `width`, `height` and
`options.seed` in; lines with `completed` and `total` steps out, the last with `image` in base64. The feature was
experimental and is gone since 0.32.6; `listing` sees that.
"""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import Literal

import httpx
from pydantic import Field

from tasks.contract import Job, JsonObject, Timing
from tasks.errors import BadRequestError
from worker.backends.base import Reply
from worker.backends.external.faults import faulty, message_of
from worker.backends.external.ollama.chat import objects
from worker.backends.external.openai.alive import signs_of_life
from worker.backends.external.openai.usage import Stopwatch
from worker.backends.external.product import Found, Served
from worker.backends.external.upstream import Patience, asked
from worker.embeddings.fields import Body, of, read

MOST_IMAGES = 10
MOST_PIXELS = 4096


class _Body(Body):
    prompt: str = Field(min_length=1, description="a text that says what to draw", repr=False)
    n: int | None = of(f"a whole number from 1 to {MOST_IMAGES}", ge=1, le=MOST_IMAGES)
    size: str | None = of('like "1024x1024", or "auto"', pattern=r"^(\d{2,4}x\d{2,4}|auto)$")
    seed: int | None = of("a whole number of 64 bits", ge=-(2**63), lt=2**63)
    steps: int | None = of("a whole number from 1 to 1000", ge=1, le=1000)
    response_format: Literal["b64_json"] | None = of('"b64_json": images are sent, not kept for a URL')
    output_format: Literal["png"] | None = of('"png"')


async def serve_images(
    http: httpx.AsyncClient, found: Found, served: Served, job: Job, reply: Reply, patience: Patience
) -> None:
    """Returns when the terminal event was given. Raises PendraError. Cancel-safe."""
    if job.stream:
        raise BadRequestError("images cannot be streamed", code="unsupported_parameter", param="stream")
    fields = read(_Body, job.body)
    count = fields.n or 1
    watch = Stopwatch()
    images: list[str] = []
    async with signs_of_life(reply):
        for index in range(count):
            body = _body(fields, served, index) | _own(job.body)
            images.append(await _drawn(http, found, body, job, reply, patience, (index, count)))
            watch.token()
    made = {"created": job.created, "data": [{"b64_json": image} for image in images]}
    reply.finish(json.dumps(made, separators=(",", ":")), timing=Timing(ttft_ms=watch.timing(0).ttft_ms))


async def _drawn(
    http: httpx.AsyncClient,
    found: Found,
    body: JsonObject,
    job: Job,
    reply: Reply,
    patience: Patience,
    place: tuple[int, int],
) -> str:
    """One image. `place`: which of how many."""
    index, count = place
    async with (
        asked(http, found, "POST", "/api/generate", patience=patience, model=job.model, json=body) as response,
        aclosing(objects(response, found, patience)) as said,
    ):
        async for line in said:
            if "error" in line:
                raise faulty(found, f"failed while it drew: {message_of(json.dumps(line).encode())}")
            if line.get("done"):
                return _image(found, line)
            reply.progress("drawing", (index + _fraction(line)) / count)
    raise faulty(found, "ended its reply without an image")


def _image(found: Found, line: JsonObject) -> str:
    image = line.get("image")
    if not isinstance(image, str) or not image:
        raise faulty(found, "ended its reply without an image")
    return image


def _fraction(line: JsonObject) -> float:
    done, total = line.get("completed"), line.get("total")
    return min(1.0, done / total) if isinstance(done, int) and isinstance(total, int) and total > 0 else 0.0


def _body(fields: _Body, served: Served, index: int) -> JsonObject:
    body: JsonObject = {"model": served.name, "prompt": fields.prompt, "stream": True}
    if fields.size not in (None, "auto"):
        width, height = map(int, str(fields.size).split("x"))
        if max(width, height) > MOST_PIXELS:
            raise BadRequestError(f"size must be at most {MOST_PIXELS} pixels a side", param="size")
        body |= {"width": width, "height": height}
    if fields.steps is not None:
        body["steps"] = fields.steps
    if fields.seed is not None:
        body["options"] = {"seed": fields.seed + index}  # the images of one request are to differ
    return body


def _own(body: JsonObject) -> JsonObject:
    return {"keep_alive": body["keep_alive"]} if body.get("keep_alive") is not None else {}
