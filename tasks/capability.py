"""Which kind of model a request needs, and what a client is told whose model is of another kind. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tasks.contract import BUILT_IN, JobKind, ModelInfo
from tasks.errors import BadRequestError

NEEDED: dict[JobKind, str] = {
    JobKind.CHAT: "chat",
    JobKind.COMPLETION: "chat",
    JobKind.EMBEDDINGS: "embedding",
    JobKind.RERANK: "rerank",
    JobKind.IMAGE: "image",
    JobKind.TRANSCRIPTION: "transcription",
    JobKind.SPEECH: "speech",
}
VISION = "vision"
_NAMED = 8  # models that a message lists
_IMAGE_PARTS = frozenset({"image_url", "input_image", "image"})
_CHATS = frozenset({JobKind.CHAT, JobKind.COMPLETION})


def can(kind: JobKind, model: ModelInfo) -> bool:
    """Whether the model is for this kind of request."""
    return NEEDED.get(kind, model.capability) == model.capability


def sees(model: ModelInfo) -> bool:
    """Whether it may be sent images. An external server that does not say is given the chance to answer."""
    if model.features is None:
        return model.backend != BUILT_IN
    return VISION in model.features


def shows_images(kind: JobKind, body: dict[str, Any]) -> bool:
    """Whether a chat's messages have image parts. Never raises, whatever `body` is; a sealed one shows none."""
    messages = body.get("messages") if kind in _CHATS else None
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict) and str(part.get("type")) in _IMAGE_PARTS:
                return True
    return False


def objection(
    kind: JobKind, model: str, rows: Iterable[ModelInfo], installed: Iterable[ModelInfo], *, images: bool = False
) -> BadRequestError | None:
    """Why none of `rows`, the model as its servers have it, can do this, naming the installed ones that can."""
    rows, installed = tuple(rows), tuple(installed)
    able = [row for row in rows if can(kind, row)]
    if not able:
        needed, what = NEEDED[kind], " or ".join(sorted({row.capability for row in rows}))
        message = f"the model '{model}' is for {what}, and this endpoint needs one for {needed}"
        others = [row.id for row in installed if can(kind, row)]
        return BadRequestError(f"{message}; {_named(others)}", code="wrong_capability", param="model")
    if images and not any(sees(row) for row in able):
        others = [row.id for row in installed if can(kind, row) and VISION in (row.features or ())]
        message = f"the model '{model}' does not take images"
        return BadRequestError(f"{message}; {_named(others)}", code="unsupported_content", param="messages")
    return None


def unserved(does: str, installed: Iterable[ModelInfo]) -> BadRequestError:
    """For an endpoint that no backend offers: what the installed models are for."""
    by_capability: dict[str, list[str]] = {}
    for row in installed:
        by_capability.setdefault(row.capability, []).append(row.id)
    words = "; ".join(f"{capability}: {_few(ids)}" for capability, ids in sorted(by_capability.items()))
    message = f"no installed model {does}, and no backend offers one that does"
    return BadRequestError(f"{message}; installed are {words or 'none'}", code="unsupported_endpoint")


def _named(models: Iterable[str]) -> str:
    named = _few(models)
    return f"installed ones that can: {named}" if named else "no installed model does"


def _few(models: Iterable[str]) -> str:
    names = sorted(set(models))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"
