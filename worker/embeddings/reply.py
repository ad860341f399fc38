"""OpenAI's list of embeddings and Cohere's list of ranks, as JSON text. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from tasks.contract import Job
from worker.embeddings.rerank import RerankRequest
from worker.embeddings.vectors import Floats, as_base64, as_json


def embeddings_reply(job: Job, vectors: Floats, tokens: int, *, base64: bool) -> str:
    """`vectors`: a row an input, in the inputs' order. `tokens`: of all inputs."""
    written = as_base64 if base64 else as_json
    rows = ",".join(
        f'{{"object":"embedding","index":{index},"embedding":{written(row)}}}' for index, row in enumerate(vectors)
    )
    usage = json.dumps(_usage(tokens), separators=(",", ":"))
    return f'{{"object":"list","data":[{rows}],"model":{json.dumps(job.model)},"usage":{usage}}}'


def rerank_reply(job: Job, request: RerankRequest, scores: Sequence[float], tokens: int, *, plain: bool) -> str:
    """The documents by score, the best first; of equal ones the earlier first.

    `scores`: in the documents' order. `plain`: they are shown as they are; else they are logits, shown as 0 to 1.
    """
    order = sorted(range(len(scores)), key=lambda index: -scores[index])[: request.top_n]
    shown = scores if plain else [sigmoid(score) for score in scores]
    reply = {
        "id": f"rerank-{job.job_id}",
        "object": "list",
        "model": job.model,
        "results": [_result(request, index, shown[index]) for index in order],
        "meta": {"tokens": {"input_tokens": tokens, "output_tokens": 0}},
        "usage": _usage(tokens),
    }
    return json.dumps(reply, separators=(",", ":"))


def sigmoid(logit: float) -> float:
    """A logit as a probability, 0 to 1, without overflow."""
    if logit >= 0:
        return 1 / (1 + math.exp(-logit))
    small = math.exp(logit)
    return small / (1 + small)


def _result(request: RerankRequest, index: int, score: float) -> dict[str, Any]:
    result: dict[str, Any] = {"index": index, "relevance_score": score}
    if request.return_documents:
        result["document"] = {"text": request.documents[index]}
    return result


def _usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": tokens, "total_tokens": tokens}
