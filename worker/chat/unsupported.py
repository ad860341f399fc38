"""What a chat request may ask for in OpenAI's API (or llama-server's, or vLLM's) and this worker cannot do yet.

Refused by name: an answer that silently ignores half of a request is worse than none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tasks.contract import JsonObject
from tasks.errors import BadRequestError

Allowed = Callable[[Any], bool]


def _off(value: Any) -> bool:
    return value in (None, False, 0, "", [], {})


def _free_choice(value: Any) -> bool:
    return value in (None, "auto", "none")


def _text_only(value: Any) -> bool:
    return value in (None, [], ["text"])


# field -> (what is fine, the words for what is not)
_RULES: dict[str, tuple[Allowed, str]] = {
    "modalities": (_text_only, 'only ["text"] is available'),
    "audio": (_off, "audio replies are not available"),
    "functions": (_off, "functions are the old form of tools; send tools instead"),
    "function_call": (_free_choice, "function_call is the old form of tool_choice; send tools and tool_choice"),
    "guided_json": (_off, "this is vLLM's old name; send response_format or json_schema"),
    "guided_regex": (_off, "this is vLLM's old name; send a grammar (GBNF), or json_schema with a pattern"),
    "guided_choice": (_off, "this is vLLM's old name; send a grammar (GBNF), or json_schema with an enum"),
    "guided_grammar": (_off, "this is vLLM's old name; send a grammar (GBNF)"),
    "structured_outputs": (_off, "this is vLLM's own; send response_format, json_schema or grammar"),
    "continue_final_message": (_off, "a reply cannot continue the last message; leave continue_final_message out"),
}


def refuse_unsupported(body: JsonObject) -> None:
    """Raises BadRequestError(`unsupported_parameter`) naming the first such field."""
    for field, (allowed, words) in _RULES.items():
        if field in body and not allowed(body[field]):
            raise BadRequestError(f"{field}: {words}", code="unsupported_parameter", param=field)
