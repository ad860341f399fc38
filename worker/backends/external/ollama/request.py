"""An OpenAI-shaped chat request as the body of Ollama's `POST /api/chat`. Pure."""

from __future__ import annotations

from typing import Any

from tasks.contract import JsonObject
from tasks.errors import BadRequestError
from worker.backends.external.ollama.messages import chat_messages, tools_of
from worker.backends.external.ollama.options import LEVELS, Sampling, options_of
from worker.backends.external.product import Served
from worker.embeddings.fields import read

_REFUSED = {
    "logit_bias": "Ollama cannot bias tokens; leave logit_bias out",
    "functions": "functions are the old form of tools; send tools instead",
    "function_call": "function_call is the old form of tool_choice; send tools and tool_choice",
    "audio": "audio replies are not available",
    "grammar": "Ollama takes no grammars; send a response_format with a JSON schema",
    "guided_json": "send a response_format with a JSON schema instead",
    "guided_regex": "Ollama cannot guide by an expression",
    "guided_choice": "send a response_format with a JSON schema instead",
    "guided_grammar": "Ollama takes no grammars",
}
_NOTHING: tuple[Any, ...] = (None, False, 0, "", [], {})


def chat_body(body: JsonObject, served: Served) -> JsonObject:
    """Raises BadRequestError: what is wrong, or what Ollama cannot do (`unsupported_parameter`)."""
    _refuse(body)
    fields = read(Sampling, body)
    made: JsonObject = {
        "model": served.name,
        "messages": chat_messages(body.get("messages")),
        "stream": True,  # always: silence can then be told from work, and counters come for both kinds of reply
        "options": options_of(fields, served.info.context_length),
    }
    if body.get("tools") and fields.tool_choice != "none":
        made["tools"] = tools_of(body["tools"])
    _add(made, "format", _format(body.get("response_format"), body.get("json_schema")))
    _add(made, "think", _think(body, fields, served.info.features))
    _add(made, "logprobs", fields.logprobs or None)
    _add(made, "top_logprobs", fields.top_logprobs if fields.logprobs else None)
    for name in ("keep_alive", "truncate", "shift"):  # Ollama's own
        _add(made, name, body.get(name))
    return made


def promises_json(made: JsonObject) -> bool:
    """Whether the reply to a body from `chat_body` is to be one JSON value."""
    return "format" in made


def _add(made: JsonObject, name: str, value: Any) -> None:
    if value is not None:
        made[name] = value


def _think(body: JsonObject, fields: Sampling, features: tuple[str, ...] | None) -> bool | str | None:
    """None leaves it to the model. A model that does not think refuses to be asked to, so it is not asked."""
    asked = _asked_to_think(body, fields)
    if features is not None and "thinking" not in features:
        return None
    return asked


def _asked_to_think(body: JsonObject, fields: Sampling) -> bool | str | None:
    own = body.get("think")  # Ollama's own field
    if isinstance(own, bool | str):
        return own
    enabled = fields.enable_thinking
    if enabled is None:
        kwargs = (fields.chat_template_kwargs or {}).get("enable_thinking")
        enabled = kwargs if isinstance(kwargs, bool) else None
    effort = _effort(body.get("reasoning"), fields.reasoning_effort)
    if enabled is False or effort == "none":
        return False
    return effort or enabled


def _effort(reasoning: Any, effort: str | None) -> str | None:
    """OpenAI's two places for it, as a level of Ollama's."""
    given = reasoning.get("effort") if isinstance(reasoning, dict) else effort
    if given in (None, ""):
        return None
    if given in ("none", "max"):
        return str(given)
    level = LEVELS.get(given) if isinstance(given, str) else None
    if level is None:
        raise _unsupported("reasoning_effort", f'reasoning_effort must be "none", {", ".join(LEVELS)} or "max"')
    return level


def _format(response_format: Any, json_schema: Any) -> Any:
    """Ollama's `format`: None, "json" or a schema."""
    if isinstance(json_schema, dict) and json_schema:  # llama-server's own field
        return json_schema
    if response_format is None:
        return None
    kind = response_format.get("type") if isinstance(response_format, dict) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return response_format.get("schema") or "json"
    if kind != "json_schema":
        message = 'response_format.type must be "text", "json_object" or "json_schema"'
        raise BadRequestError(message, param="response_format.type")
    described = response_format.get("json_schema", response_format)
    schema = described.get("schema") if isinstance(described, dict) else None
    if not isinstance(schema, dict):
        message = 'response_format.json_schema must be {"name": …, "schema": {…}}'
        raise BadRequestError(message, param="response_format.json_schema")
    return schema


def _refuse(body: JsonObject) -> None:
    for name, words in _REFUSED.items():
        if body.get(name) not in _NOTHING:
            raise _unsupported(name, words)
    if body.get("n") not in (None, 1):
        raise _unsupported("n", "n: only one choice a request is made; send the request again for another")
    if body.get("modalities") not in (None, [], ["text"]):
        raise _unsupported("modalities", 'modalities: only ["text"] is available')
    if body.get("tool_choice") not in (None, "auto", "none"):
        raise _unsupported("tool_choice", 'tool_choice: "auto" and "none" are available; a tool cannot be forced')


def _unsupported(name: str, words: str) -> BadRequestError:
    return BadRequestError(words, code="unsupported_parameter", param=name)
