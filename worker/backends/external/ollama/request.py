"""An OpenAI-shaped chat request as the body of Ollama's `POST /api/chat`. Pure.

`options.num_ctx`: Ollama cuts a prompt silently at its small default, so the context length that the model has is
sent along, unless the request has an `options.num_ctx` of its own. Chat only.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from tasks.contract import JsonObject
from tasks.errors import BadRequestError
from worker.backends.external.ollama.messages import chat_messages, tools_of
from worker.backends.external.product import Served
from worker.embeddings.fields import Body, of, read

_LEVELS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "max", "ultra": "max"}
"""OpenAI's efforts as Ollama's own route reads them (openai/openai.go, thinkFromReasoningEffort)."""

_OPTIONS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "repeat_penalty": "repeat_penalty",
    "repeat_last_n": "repeat_last_n",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "seed": "seed",
    "stop": "stop",
    "limit": "num_predict",
}
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


def _stops(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class _Sampling(Body):
    """Checked here: a wrong type in `options` is an HTTP 500 of Ollama's."""

    temperature: float | None = of("a number from 0 to 5", ge=0, le=5, allow_inf_nan=False)
    top_p: float | None = of("a number from 0 to 1", ge=0, le=1, allow_inf_nan=False)
    min_p: float | None = of("a number from 0 to 1", ge=0, le=1, allow_inf_nan=False)
    typical_p: float | None = of("a number from 0 to 1", ge=0, le=1, allow_inf_nan=False)
    top_k: int | None = of("a whole number; 0 or -1 = all tokens", ge=-1, lt=2**31)
    repeat_penalty: float | None = of("a number above 0, at most 10; 1 = off", gt=0, le=10, allow_inf_nan=False)
    repeat_last_n: int | None = of("a whole number from -1 to 65536", ge=-1, le=65536)
    frequency_penalty: float | None = of("a number from -2 to 2", ge=-2, le=2, allow_inf_nan=False)
    presence_penalty: float | None = of("a number from -2 to 2", ge=-2, le=2, allow_inf_nan=False)
    seed: int | None = of("a whole number of 64 bits", ge=-(2**63), lt=2**63)
    stop: Annotated[tuple[str, ...], BeforeValidator(_stops), Field(strict=False)] | None = of(
        "a text, or a list of 1 to 16 texts", min_length=1, max_length=16
    )
    max_tokens: int | None = of("a whole number from 1", ge=1, lt=2**31)
    max_completion_tokens: int | None = of("a whole number from 1", ge=1, lt=2**31)
    logprobs: bool | None = of("true or false")
    top_logprobs: int | None = of("a whole number from 0 to 20", ge=0, le=20)
    enable_thinking: bool | None = of("true or false")
    reasoning_effort: str | None = of(f'"none", {", ".join(_LEVELS)} or "max"', max_length=16)
    tool_choice: str | None = of('"auto" or "none": Ollama cannot be made to call a tool')
    parallel_tool_calls: bool | None = of("true or false")
    options: JsonObject | None = of("an object of Ollama's options")
    chat_template_kwargs: JsonObject | None = of("an object; Ollama reads enable_thinking of it")

    @property
    def limit(self) -> int | None:
        """OpenAI's newer name wins."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens


class _Own(_Sampling):
    """Ollama's own `options` of a request, those that can be told right from wrong."""

    num_ctx: int | None = of("a whole number from 1", ge=1, lt=2**31)
    num_predict: int | None = of("a whole number; -1 = no limit", ge=-2, lt=2**31)


def chat_body(body: JsonObject, served: Served) -> JsonObject:
    """Raises BadRequestError: what is wrong, or what Ollama cannot do (`unsupported_parameter`)."""
    _refuse(body)
    fields = read(_Sampling, body)
    made: JsonObject = {
        "model": served.name,
        "messages": chat_messages(body.get("messages")),
        "stream": True,  # always: silence can then be told from work, and counters come for both kinds of reply
        "options": _options(fields, served.info.context_length),
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


def _options(fields: _Sampling, context_length: int | None) -> JsonObject:
    """The client's own `options` win over what its OpenAI fields say; an own `num_ctx` over the model's."""
    values = {option: getattr(fields, name) for name, option in _OPTIONS.items()}
    own = _own(fields.options or {})
    options = {name: value for name, value in values.items() if value is not None} | own
    if context_length and "num_ctx" not in own:
        options["num_ctx"] = context_length
    return options


def _own(options: JsonObject) -> JsonObject:
    """What is given of the client's own options. Raises BadRequestError."""
    try:
        read(_Own, options)
    except BadRequestError as exc:
        raise BadRequestError(f"options.{exc.message}", param=f"options.{exc.param}") from None
    return {name: value for name, value in options.items() if value is not None}


def _think(body: JsonObject, fields: _Sampling, features: tuple[str, ...] | None) -> bool | str | None:
    """None leaves it to the model. A model that does not think refuses to be asked to, so it is not asked."""
    asked = _asked_to_think(body, fields)
    if features is not None and "thinking" not in features:
        return None
    return asked


def _asked_to_think(body: JsonObject, fields: _Sampling) -> bool | str | None:
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
    level = _LEVELS.get(given) if isinstance(given, str) else None
    if level is None:
        raise _unsupported("reasoning_effort", f'reasoning_effort must be "none", {", ".join(_LEVELS)} or "max"')
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
