"""Turns messages into the prompt a model was trained on, with the Jinja chat template inside its GGUF.

A template is somebody else's program, so it runs in Jinja's immutable sandbox (`worker.chat.sandbox`) in a process of
its own, where time and memory are bounded (`worker.chat.renderer`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from tasks.errors import BadRequestError, WorkerError
from worker.chat import renderer
from worker.chat.renderer import Outcome, Rendered

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""For models whose file has no template."""

MAX_CHARS = 16 * 1024 * 1024
MAX_SOURCE_CHARS = 1024 * 1024
RESERVED = frozenset({"messages", "tools", "documents", "bos_token", "eos_token", "raise_exception", "strftime_now"})
"""Names a request may not give a template."""

_PROBE = "pendra probe"

Message = Mapping[str, Any]


class ChatTemplate:
    """One model's template. `render` may be called from many threads at once; they take turns.

    `source` None: ChatML. Raises WorkerError(`model_load_failed`) when the template is not valid Jinja, or takes too
    long before it has said anything.
    """

    def __init__(self, source: str | None, *, bos_text: str = "", eos_text: str = "") -> None:
        self.source = CHATML if source is None else source
        self._tokens = {"bos_token": bos_text, "eos_token": eos_text}
        if len(self.source) > MAX_SOURCE_CHARS:
            raise _unusable(f"its chat template is longer than {MAX_SOURCE_CHARS} characters")
        seen = renderer.prepare(self.source)
        if seen.outcome is not Outcome.DONE:
            raise _unusable(_why_unusable(seen))
        self.reads_tools = seen.reads_tools
        """It shows the tools of a request. One that does not knows nothing of calls either."""
        self._wants_parts = not self._shows(_PROBE) and self._shows([{"type": "text", "text": _PROBE}])

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Message] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt, up to where the assistant's reply begins. `extra`: variables for the template.

        Raises BadRequestError when the template refuses the messages, in the template's own words, or is too much.
        """
        told = [self._told(message) for message in messages]
        variables = {"add_generation_prompt": True, **(extra or {}), **self._tokens}
        done = self._run(messages=told, tools=list(tools) if tools else None, documents=None, **variables)
        if done.outcome is not Outcome.DONE:
            _raise(done)
        return done.text

    def _run(self, **variables: Any) -> Rendered:
        return renderer.render(self.source, variables, MAX_CHARS)

    def _told(self, message: Message) -> Message:
        """A message in the form this template reads."""
        if message.get("role") == "developer" and "developer" not in self.source:
            message = {**message, "role": "system"}  # OpenAI's newer name for the same thing
        content = message.get("content")
        if self._wants_parts and isinstance(content, str):
            return {**message, "content": [{"type": "text", "text": content}]}
        return message

    def _shows(self, content: Any) -> bool:
        """Whether a user's message reaches the prompt when its content has this form."""
        message = {"role": "user", "content": content}
        done = self._run(messages=[message], add_generation_prompt=True, tools=None, **self._tokens)
        if done.outcome is Outcome.OVERTIME:
            raise _unusable(_why_unusable(done))
        return done.outcome is Outcome.DONE and _PROBE in done.text


def _raise(done: Rendered) -> NoReturn:
    """What stopped a template, in words that hold nothing of the messages."""
    match done.outcome:
        case Outcome.REFUSED:
            raise _refused(done.text)
        case Outcome.TOO_LONG:
            raise BadRequestError(f"the chat template made a prompt of more than {MAX_CHARS} characters")
        case Outcome.OVERTIME:
            raise _refused(f"it took longer than {renderer.RENDER_S:g} s, or more memory than it may")
        case _:
            raise _refused(f"it failed with {done.text}; check the messages' roles and contents")


def _why_unusable(seen: Rendered) -> str:
    if seen.outcome is Outcome.OVERTIME:
        return f"its chat template takes longer than {renderer.RENDER_S:g} s, or more memory than it may"
    return f"its chat template is not valid Jinja: {seen.text}"


def _unusable(why: str) -> WorkerError:
    return WorkerError(f"the model cannot chat: {why}", code="model_load_failed")


def _refused(words: str) -> BadRequestError:
    return BadRequestError(f"the model's chat template refused the messages: {words}", param="messages")
