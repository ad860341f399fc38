"""Embeddings that a server made, cut and written as the request wants them. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks.contract import Job
from tasks.errors import BadRequestError
from worker.backends.external.faults import LABELS, faulty
from worker.backends.external.product import Found
from worker.embeddings.reply import embeddings_reply
from worker.embeddings.request import EUCLIDEAN, EmbeddingsRequest, parse_embeddings
from worker.embeddings.vectors import Floats, normalised


def asked_for(job: Job) -> EmbeddingsRequest:
    """Raises BadRequestError."""
    if job.stream:
        raise BadRequestError("embeddings cannot be streamed", code="unsupported_parameter", param="stream")
    return parse_embeddings(job.body)


def texts(found: Found, request: EmbeddingsRequest) -> list[str]:
    """The inputs, all of them texts. Raises BadRequestError for what only our own engine takes."""
    label = LABELS[found.product]
    if request.norm != EUCLIDEAN:
        message = f"embd_normalize: the vectors of {label} have length 1; leave it out"
        raise BadRequestError(message, code="unsupported_parameter", param="embd_normalize")
    for index, entry in enumerate(request.inputs):
        if not isinstance(entry, str):
            where = "input" if request.single else f"input[{index}]"
            message = f"{where} holds token ids; {label} embeds texts only"
            raise BadRequestError(message, code="unsupported_parameter", param=where)
    return [str(entry) for entry in request.inputs]


def rows(found: Found, value: Any, count: int) -> Floats:
    """`count` vectors of one width, as a server sent them. Raises PendraError `backend_error`."""
    try:
        made: Floats = np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError):
        made = np.empty((0, 0), dtype=np.float32)
    if made.ndim != 2 or made.shape[0] != count or not made.shape[1]:  # noqa: PLR2004  # rows and columns
        raise faulty(found, "sent embeddings that are not one vector for each input")
    return made


def written(job: Job, request: EmbeddingsRequest, vectors: Floats, tokens: int) -> str:
    """OpenAI's reply as JSON text. Raises BadRequestError when more `dimensions` are asked for than there are."""
    width = vectors.shape[1]
    if request.dimensions is not None and request.dimensions > width:
        message = f"dimensions is {request.dimensions}; the vectors of {job.model} have {width}"
        raise BadRequestError(message, param="dimensions")
    return embeddings_reply(job, normalised(vectors, EUCLIDEAN, request.dimensions), tokens, base64=request.base64)
