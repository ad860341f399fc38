"""What a completion request may ask for elsewhere and cannot here, refused by name. Pure."""

from __future__ import annotations

from tasks.contract import JsonObject
from tasks.errors import BadRequestError

_RULES = {
    "tools": "tools are the chat's; send a chat completion",
    "tool_choice": "tools are the chat's; send a chat completion",
    "messages": "a completion continues a prompt; send messages to chat/completions",
    "prompt_embeds": "prompts are text or token ids",
    "lora": "adapters are a model's configuration; a request cannot choose them",
}


def refuse_unsupported(body: JsonObject) -> None:
    """Raises BadRequestError(`unsupported_parameter`) naming the first such field."""
    for field, words in _RULES.items():
        if body.get(field) not in (None, False, "", [], {}):
            raise BadRequestError(f"{field}: {words}", code="unsupported_parameter", param=field)
